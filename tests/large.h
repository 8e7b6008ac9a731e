/* SPDX-License-Identifier: GPL-2.0-only */
/* Helpers of tests that transfer much: memory, reads, segments, epoll. */
#ifndef ZPIPE_TESTS_LARGE_H
#define ZPIPE_TESTS_LARGE_H

#include "oracle.h"
#include "model.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define FULL		(SLOTS * PAGE)
#define MIB		(1L << 20)
#define DIRECT_MIN	131072L		/* default of the parameter direct_min */
#define DIRECT_MAX	(2 * MIB)	/* default of the parameter direct_max */

/* Private memory, all of it resident. */
static inline unsigned char *own_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/*
 * Reads @total bytes of the stream, at most @size in a call. Returns the number of bytes,
 * -EILSEQ or -errno.
 */
static inline long drain(int fd, unsigned long off, size_t total, size_t size)
{
	unsigned char *buf = own_memory(size);
	size_t done = 0;
	long n = 0;

	while (done < total) {
		n = sys(read(fd, buf, size < total - done ? size :
						total - done));
		if (n > 0 && stream_diff(buf, off + done, n) >= 0)
			n = -EILSEQ;
		if (n <= 0)
			break;
		done += n;
	}
	munmap(buf, size);
	return n < 0 ? n : (long)done;
}

/* Cuts @len bytes into at most @max segments, some of them empty; the number of segments. */
static inline int cut_up(struct iovec *iov, int max, unsigned char *buf,
			 size_t len)
{
	unsigned long dice = 42;
	int i;

	for (i = 0; i < max - 1 && len; i++) {
		size_t n = i % 7 == 3 ? 0 : rnd_len(&dice, 4 * PAGE);

		n = n < len ? n : len;
		iov[i] = (struct iovec) { buf, n };
		buf += n;
		len -= n;
	}
	/* The last segment has the rest, which may be empty. */
	iov[i] = (struct iovec) { buf, len };
	return i + 1;
}

/* The events that epoll reports now, or 0. */
static inline long events(int ep)
{
	struct epoll_event ev;
	int ret = epoll_wait(ep, &ev, 1, 0);

	return ret < 0 ? -errno : ret ? (long)ev.events : 0;
}

static inline int watch(int fd, uint32_t mask)
{
	struct epoll_event ev = { .events = mask };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ? -errno : ep;
}

#endif /* ZPIPE_TESTS_LARGE_H */
