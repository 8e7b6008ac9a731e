// SPDX-License-Identifier: GPL-2.0-only
/* What mechanisms share: descriptors, buffers, whole reads and writes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

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
		.mechanism = m, .bytes = bytes,
		.tx = { -1, -1 }, .rx = { -1, -1 }, .fd = -1,
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
}

/*
 * Anonymous memory for so many messages, all of it populated. Large buffers are
 * in huge pages, as those of malloc(3) are on a kernel that gives them, and
 * @skew bytes behind the start of one: in an emulator's table of translations
 * the same places of two huge pages displace each other, for every word.
 */
static void map_buffers(struct channel *c, unsigned int buffers, size_t skew)
{
	size_t align = c->bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE;
	size_t len;

	c->buffers = buffers;
	c->stride = (c->bytes + PAGE - 1) / PAGE * PAGE;
	len = (c->stride * buffers + skew + align - 1) / align * align;
	c->buf = mmap(NULL, len + align, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->buf == MAP_FAILED)
		fail("no memory for %u buffers of %zu", buffers, c->bytes);
	c->buf += -(uintptr_t)c->buf % align;
	memset(c->buf, 0xff, len);
	c->buf += skew;
}

void sender_buffers(struct channel *c, unsigned int buffers)
{
	map_buffers(c, buffers, 0);
}

void receiver_buffer(struct channel *c)
{
	map_buffers(c, 1, c->bytes >= HUGE_PAGE ? SKEW : 0);
}

void *claim_buffer(struct channel *c)
{
	void *msg = c->buf + c->stride * c->next;

	if (++c->next == c->buffers)
		c->next = 0;
	return msg;
}

/* The release of a receiver that has one buffer and uses it again. */
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
