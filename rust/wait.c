// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers to wake tasks, and to spin before a sleep.
 */
#include <linux/poll.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/wait.h>

#include "helpers.h"

bool zpipe_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/*
 * wake_up_interruptible_sync_poll() that takes the queue's lock only if a task is on the
 * queue. Most of the time none is.
 *
 * The caller has already changed the state that the waiter tests. wq_has_sleeper() has
 * the memory barrier that orders this change before the look at the queue.
 */
void zpipe_wake_sync(struct wait_queue_head *head, unsigned int mask)
{
	if (wq_has_sleeper(head))
		wake_up_interruptible_sync_poll(head, mask);
}

/*
 * Returns true if the current task may spin further. @since is the zpipe_clock() time
 * when it began, @ns the limit in nanoseconds. It must stop as soon as this processor has
 * another task to run, or a signal is pending.
 */
bool zpipe_may_spin(u64 since, u64 ns)
{
	cpu_relax();
	return single_task_running() && !need_resched() &&
	       !signal_pending(current) && local_clock() - since < ns;
}

/* Returns the time of this processor's clock in nanoseconds, for zpipe_may_spin(). */
u64 zpipe_clock(void)
{
	return local_clock();
}

/* Returns true if a task seems to be on the queue. */
bool zpipe_has_waiters(struct wait_queue_head *head)
{
	/* There is no barrier: the caller only needs a guess. */
	return waitqueue_active(head);
}
