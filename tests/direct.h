/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of large writes that wait have in common. */
#ifndef ZPIPE_TESTS_DIRECT_H
#define ZPIPE_TESTS_DIRECT_H

#include "oracle.h"
#include "child.h"
#include "large.h"
#include "model.h"
#include "trap.h"

/*
 * A child that writes @len bytes of the stream at @off from such memory, @skew
 * bytes behind the start of a page.
 */
static inline void child_offer_at(struct child *c, struct ends *e, unsigned long off,
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

static inline void child_offer(struct child *c, struct ends *e, unsigned long off,
			       size_t len)
{
	child_offer_at(c, e, off, len, 0);
}

/* Whether it was used, what all this is about; the kernel's pipes have none. */
static inline bool was_direct(struct ends *e)
{
	return !is_zpipe(e->kind) ||
	       fdinfo_number(e->fd[0], "zpipe-bytes-pulled") +
	       fdinfo_number(e->fd[0], "zpipe-bytes-pushed") > 0;
}

/* Another description of the write end that does not block. */
static inline int open_nonblocking_writer(struct ends *e)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->fd[1]);
	return open(path, O_WRONLY | O_NONBLOCK);
}

/*
 * Whether a scenario came to its end in which somebody has no processor. It says
 * that it did not if that one had a processor all the same, or another one had
 * none in time; then it is played again.
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
