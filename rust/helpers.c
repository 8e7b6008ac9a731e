// SPDX-License-Identifier: GPL-2.0-only

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "helpers.h"

/* As copy_page_from_iter(), but stops short where it would have to fault. */
size_t zpipe_page_from_iter_atomic(struct page *page, size_t offset,
				   size_t bytes, struct iov_iter *from)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_from_iter(page, offset, bytes, from);
	pagefault_enable();
	return copied;
}

/* As copy_page_to_iter(), but stops short where it would have to fault. */
size_t zpipe_page_to_iter_atomic(struct page *page, size_t offset,
				 size_t bytes, struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_to_iter(page, offset, bytes, to);
	pagefault_enable();
	return copied;
}

bool zpipe_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

struct user_struct *zpipe_get_user(void)
{
	return get_uid(current_user());
}

/* As account_pipe_buffers(). */
long zpipe_account(struct user_struct *user, long pages)
{
	return atomic_long_add_return(pages, &user->pipe_bufs);
}

/* As get_pipe_inode(): a FIFO of the current task's, owner and times set. */
void zpipe_init_fifo_inode(struct inode *inode,
			   const struct file_operations *fops)
{
	inode->i_ino = get_next_ino();
	inode->i_fop = fops;
	inode->i_mode = S_IFIFO | 0600;
	inode->i_uid = current_fsuid();
	inode->i_gid = current_fsgid();
	simple_inode_init_ts(inode);
}

/*
 * As fifo_open(): no position, hence no pread() and pwrite(). fcntl() takes
 * O_DIRECT for FIFOs, and for a device only with this mode; open() takes it
 * for neither.
 */
void zpipe_open_stream(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	if (!(file->f_flags & O_DIRECT))
		file->f_mode |= FMODE_CAN_ODIRECT;
}

/* As create_pipe_files(): what pipe(2) sets on a file that nobody opened. */
void zpipe_open_pair(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	file->f_mode |= FMODE_NOWAIT;
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
}

void zpipe_file_accessed(struct file *file)
{
	file_accessed(file);
}

/* As fifo_pipe_write(): not where the file system is being frozen. */
int zpipe_file_modified(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;
	int ret;

	if (!sb_start_write_trylock(sb))
		return 0;
	ret = file_update_time(file);
	sb_end_write(sb);
	return ret;
}

/* As pipefs_dname(): the name that /proc/PID/fd shows, at the buffer's end. */
char *zpipe_dname(struct dentry *dentry, char *buffer, int buflen)
{
	char name[32];
	int size = scnprintf(name, sizeof(name), "zpipe:[%llu]",
			     (u64)d_inode(dentry)->i_ino) + 1;

	if (size > buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + buflen - size, name, size);
}
