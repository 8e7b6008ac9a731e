/* SPDX-License-Identifier: GPL-2.0-only */
/* Helpers for tests of large blocked writes, which zpipe posts. */
#ifndef ZPIPE_TESTS_DIRECT_H
#define ZPIPE_TESTS_DIRECT_H

#include "oracle.h"
#include "child.h"
#include "large.h"
#include "model.h"
#include "trap.h"

/*
 * Starts a child that writes @len bytes of the stream from @off on. Its buffer
 * is private, resident memory that begins @skew bytes into a page.
 */
static inline void child_write_private_at(struct child *c, struct ends *e, unsigned long off,
					  size_t len, size_t skew)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = child_do_write,
		.fd = e->fd[1], .drop = e->fd[0],
		.len = len, .buf = own_memory(len + skew) + skew,
	};
	stream_fill(c->buf, off, len);
	child_start(c, 0);
}

static inline void child_write_private(struct child *c, struct ends *e, unsigned long off,
				       size_t len)
{
	child_write_private_at(c, e, off, len, 0);
}

/*
 * True if bytes were pulled or pushed. Always true of the kernel's pipes, which
 * have no direct transfers.
 */
static inline bool was_direct(struct ends *e)
{
	return !is_zpipe(e->kind) ||
	       fdinfo_number(e->fd[0], "zpipe-bytes-pulled") +
	       fdinfo_number(e->fd[0], "zpipe-bytes-pushed") > 0;
}

/* Opens the write end once more, as a non-blocking file description. */
static inline int open_nonblocking_writer(struct ends *e)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->fd[1]);
	return open(path, O_WRONLY | O_NONBLOCK);
}

/*
 * Runs a scenario up to ten times until it succeeds; true if it did. A scenario
 * needs a task that does not run. It returns false if that task ran all the
 * same, or if another task did not run in time.
 */
#define held_up(scenario)						\
({									\
	bool __ok = false;						\
	int __i;							\
									\
	for (__i = 0; __i < 10 && !__ok; __i++)				\
		__ok = (scenario);					\
	__ok;								\
})

#endif /* ZPIPE_TESTS_DIRECT_H */
