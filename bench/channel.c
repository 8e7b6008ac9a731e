// SPDX-License-Identifier: GPL-2.0-only
/* Functions for all mechanisms: descriptors, buffers, whole reads and writes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring.h"

void fail(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "bench: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

void channel_init(struct channel *c, const struct mechanism *m, size_t bytes)
{
	*c = (struct channel) {
		.mechanism = m, .bytes = bytes, .receive = m->receive,
		.tx = { -1, -1 }, .rx = { -1, -1 }, .mid = { -1, -1 }, .sink = -1,
	};
}

void close_both(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

void channel_close(struct channel *c)
{
	close_both(c->tx);
	close_both(c->rx);
	close_both(c->mid);
	if (c->ring)
		munmap(c->ring, sizeof(*c->ring));
	if (c->region)
		munmap(c->region, c->region_bytes);
	c->ring = NULL;
	c->region = NULL;
}

int take_ends(struct channel *c, const int fds[2])
{
	c->rx[0] = fds[0];
	c->tx[0] = fds[1];
	return 0;
}

/* Distance between two buffers of @bytes bytes: whole pages. */
size_t stride_for(size_t bytes)
{
	return (bytes + options.align + PAGE - 1) / PAGE * PAGE;
}

/*
 * Reserves addresses for @len bytes and rounds @len up. 2 MiB or more are aligned to huge
 * pages.
 */
unsigned char *reserve(size_t *len)
{
	size_t align = *len >= HUGE_PAGE ? HUGE_PAGE : PAGE, before;
	unsigned char *at;

	*len = (*len + align - 1) / align * align;
	at = mmap(NULL, *len + align, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		fail("no addresses for %zu bytes", *len);
	before = -(uintptr_t)at % align;
	if (before)
		munmap(at, before);
	at += before;
	munmap(at + *len, align - before);
	return at;
}

/* True if a mechanism's buffers are large. It is the same for all mechanisms of a cell. */
static bool large(size_t bytes)
{
	return bytes >= HUGE_PAGE || options.working_set >= HUGE_PAGE;
}

bool wants_huge(const struct channel *c)
{
	return options.huge && large(c->bytes);
}

/* A kernel without such pages returns an error, which is ignored. */
static void advise(const struct channel *c, void *at, size_t len)
{
	madvise(at, len, wants_huge(c) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/*
 * Maps and populates anonymous memory for at least @least messages. Large buffers are in
 * huge pages, if these are wanted, and begin @skew bytes behind the start of one. In an
 * emulator's translation table, equal offsets in two huge pages evict each other at every
 * word.
 */
static void map_buffers(struct channel *c, size_t bytes, unsigned int least, size_t skew)
{
	unsigned char *at;
	size_t len;

	c->stride = stride_for(bytes);
	c->buffers = options.working_set / c->stride;
	if (c->buffers < least)
		c->buffers = least;
	c->next = 0;
	len = c->stride * c->buffers + skew;
	at = reserve(&len);
	if (mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("no memory for %u buffers of %zu", c->buffers, bytes);
	advise(c, at, len);
	memset(at, 0xff, len);
	c->region = at;
	c->region_bytes = len;
	c->buf = at + skew + options.align;
}

void sender_buffers(struct channel *c, unsigned int least)
{
	map_buffers(c, c->bytes, least, 0);
}

/* Buffers for messages, or for the bytes of one read. */
void receiver_buffers(struct channel *c)
{
	size_t bytes = c->bytes;

	if (c->mechanism->stream && options.read_bytes)
		bytes = options.read_bytes;
	map_buffers(c, bytes, 1, large(bytes) ? SKEW : 0);
}

/* Buffers for whole messages, aligned to huge pages. */
void aligned_buffers(struct channel *c, unsigned int least)
{
	map_buffers(c, c->bytes, least, 0);
}

/*
 * Maps shared memory at @at without populating it: anonymous memory, or the file @fd, which
 * has the size @len already. Returns 0, or -1 with errno.
 */
int map_shared(const struct channel *c, void *at, int fd, size_t len)
{
	int flags = MAP_SHARED | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);

	if (fd < 0 && wants_huge(c) && len % HUGE_PAGE == 0 &&
	    mmap(at, len, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0) != MAP_FAILED)
		return 0;
	if (mmap(at, len, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED)
		return -1;
	advise(c, at, len);
	return 0;
}

/* Populates memory without changing bytes that another process may have written. */
void populate(void *at, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		__atomic_fetch_or((unsigned char *)at + i, 0, __ATOMIC_RELAXED);
}

/*
 * Populates shared memory. Some kernels do not use huge pages for it by themselves, so it
 * asks for them with MADV_COLLAPSE. An error of that is ignored.
 */
void populate_shared(const struct channel *c, void *at, size_t len)
{
	populate(at, len);
	if (wants_huge(c)) {
		madvise(at, len, MADV_COLLAPSE);
		populate(at, len);
	}
}

void *claim_buffer(struct channel *c)
{
	void *msg = c->buf + c->stride * c->next;

	if (++c->next == c->buffers)
		c->next = 0;
	return msg;
}

/* The release() of a receiver that reuses its buffers. */
void keep_buffer(struct channel *c, void *msg)
{
	(void)c;
	(void)msg;
}

void write_all(int fd, const void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = write(fd, buf, len);
		if (n <= 0)
			fail("write of %zu: %s", len, n ? strerror(errno) : "0");
		buf = (const char *)buf + n;
		len -= n;
	}
}

void read_all(int fd, void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = read(fd, buf, len);
		if (n <= 0)
			fail("read of %zu: %s", len, n ? strerror(errno) : "end of file");
		buf = (char *)buf + n;
		len -= n;
	}
}
