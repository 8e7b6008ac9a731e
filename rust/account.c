// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page count of a user's pipes, and the size of the machine's memory.
 */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/sched/user.h>

#include "helpers.h"

/* Returns the number of pages of memory that the kernel manages. */
unsigned long zpipe_ram_pages(void)
{
	return totalram_pages();
}

/* Returns the user of the current task, with a reference for the caller. */
struct user_struct *zpipe_get_user(void)
{
	return get_uid(current_user());
}

/*
 * Adds @pages, which may be negative, to the pages that @user has in pipes. Returns the
 * new sum. Follows account_pipe_buffers().
 */
long zpipe_account(struct user_struct *user, long pages)
{
	return atomic_long_add_return(pages, &user->pipe_bufs);
}
