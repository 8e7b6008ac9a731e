/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that a writer gifts, and who reads it. Of pipe(2) writev(2) is asked,
 * which copies.
 */
#ifndef ZPIPE_TESTS_GIFT_H
#define ZPIPE_TESTS_GIFT_H

#include "oracle.h"
#include "child.h"

#include <linux/userfaultfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define HUGE_SIZE	(2L << 20)
#define GIFTS		400	/* ranges at most */

/* Addresses for so many huge pages, aligned to one. */
static inline unsigned char *huge_addresses(size_t pages)
{
	size_t len = (pages + 1) * HUGE_SIZE;
	unsigned char *at = mmap(NULL, len, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (at == MAP_FAILED)
		abort();
	before = -(unsigned long)at % HUGE_SIZE;
	if (before)
		munmap(at, before);
	at += before;
	munmap(at + pages * HUGE_SIZE, len - before - pages * HUGE_SIZE);
	return at;
}

/* Memory that huge pages may be in, of which there are none yet. */
static inline unsigned char *hole(size_t pages)
{
	unsigned char *at = huge_addresses(pages);

	if (mmap(at, pages * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		abort();
	madvise(at, pages * HUGE_SIZE, MADV_HUGEPAGE);
	return at;
}

/* The same, shared with children to come. */
static inline unsigned char *shared_hole(void)
{
	unsigned char *at = huge_addresses(1);

	if (mmap(at, HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		abort();
	return at;
}

/* Makes it huge pages; others may hold a small one for a moment. 0 or -1. */
static inline int collapse(void *at, size_t bytes)
{
	int tries, ret;

	for (tries = 0; tries < 50; tries++) {
		ret = madvise(at, bytes, MADV_COLLAPSE);
		if (!ret || (errno != EAGAIN && errno != EBUSY))
			break;
		usleep(10000);
	}
	return ret;
}

/* Huge pages that hold the stream from @off on, of this process alone. */
static inline unsigned char *huge_memory(size_t pages, unsigned long off)
{
	unsigned char *at = hole(pages);

	stream_fill(at, off, pages * HUGE_SIZE);
	/* Where there was none at once. */
	collapse(at, pages * HUGE_SIZE);
	return at;
}

/* The number of the physical page at @at; 0 if it is not told. */
static inline unsigned long frame(const void *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned long entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)at / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry & ((1UL << 55) - 1);
}

/* Has a pipe refer to the byte at @at; returns where to read that. */
static inline int refer_to(void *at)
{
	struct iovec iov = { at, 1 };
	int fd[2];

	if (pipe(fd) || vmsplice(fd[1], &iov, 1, 0) != 1)
		abort();
	close(fd[1]);
	return fd[0];
}

/* Has faults of a huge page told to the descriptor that it returns. */
static inline int watch(void *at)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)at, HUGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		abort();
	return uffd;
}

/* What a call said; of the kernel's pipes it all was copied. */
struct gifted {
	long ret;
	unsigned long moved, copied;
	unsigned int why[ZPIPE_REASONS];
};

/* For who looks into a failure: what was not moved, and why. */
static inline void tell_reasons(const struct gifted *g)
{
	int i;

	for (i = 0; i < ZPIPE_REASONS; i++)
		if (g->why[i])
			fprintf(stderr, "# reason %d: %u\n", i, g->why[i]);
}

static inline struct gifted transfer(struct ends *e, unsigned int cmd,
				     const struct iovec *iov, int n, unsigned int flags)
{
	bool gives = cmd == ZPIPE_IOC_GIFT;
	struct zpipe_iovec ranges[GIFTS];
	struct zpipe_transfer arg = {
		.size = sizeof(arg), .flags = flags,
		.iov = (unsigned long)ranges, .iovcnt = n,
	};
	struct gifted g = {};
	int i;

	if (!is_zpipe(e->kind)) {
		g.ret = sys(gives ? writev(e->fd[1], iov, n) : readv(e->fd[0], iov, n));
		g.copied = g.ret > 0 ? g.ret : 0;
		return g;
	}
	for (i = 0; i < n; i++) {
		ranges[i].base = (unsigned long)iov[i].iov_base;
		ranges[i].bytes = iov[i].iov_len;
	}
	g.ret = sys(ioctl(e->fd[gives], cmd, &arg));
	if (!g.ret)
		g.ret = arg.done;
	g.moved = arg.moved;
	g.copied = arg.copied;
	memcpy(g.why, arg.why, sizeof(g.why));
	return g;
}

static inline struct gifted gift_flags(struct ends *e, const struct iovec *iov, int n,
				       unsigned int flags)
{
	return transfer(e, ZPIPE_IOC_GIFT, iov, n, flags);
}

/* Reads until it has @bytes, as far as there are so many; the sums of all calls. */
static inline struct gifted fetch(struct ends *e, void *at, size_t bytes,
				  unsigned int flags)
{
	struct gifted sum = {};

	while (sum.ret < (long)bytes) {
		struct iovec iov = { at + sum.ret, bytes - sum.ret };
		struct gifted g = transfer(e, ZPIPE_IOC_MOVE, &iov, 1, flags);
		int i;

		if (g.ret <= 0)
			return sum.ret ? sum : g;
		sum.ret += g.ret;
		sum.moved += g.moved;
		sum.copied += g.copied;
		for (i = 0; i < ZPIPE_REASONS; i++)
			sum.why[i] += g.why[i];
	}
	return sum;
}

static inline struct gifted gift(struct ends *e, void *at, size_t bytes)
{
	struct iovec iov = { .iov_base = at, .iov_len = bytes };

	return gift_flags(e, &iov, 1, ZPIPE_ALWAYS);
}

/*
 * Whether huge pages are moved here: not where tests/run has the module refuse it,
 * nor before 7.3, see gift.c of the module.
 */
static inline bool moves(struct ends *e)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	sscanf(name.release, "%d.%d", &major, &minor);
	return is_zpipe(e->kind) && (major > 7 || (major == 7 && minor >= 3)) &&
	       !getenv("ZPIPE_NO_MOVES");
}

/* Pages that go through a pipe without anybody who reads, copied or not. */
#define FEW	12

/* Memory of small pages only. */
static inline unsigned char *small_hole(size_t pages)
{
	unsigned char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	madvise(at, pages * PAGE, MADV_NOHUGEPAGE);
	return at;
}

/* The same, with the stream in it. */
static inline unsigned char *small_memory(size_t pages)
{
	unsigned char *at = small_hole(pages);

	stream_fill(at, 0, pages * PAGE);
	return at;
}

static inline struct gifted gift_small(struct ends *e, void *at, size_t bytes)
{
	struct iovec iov = { at, bytes };

	return gift_flags(e, &iov, 1, ZPIPE_SMALL);
}

/* A child that gifts so many huge pages of its own, which hold the stream. */
static long give_pages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	size_t bytes = c->len * HUGE_SIZE;

	struct gifted g = gift(&e, huge_memory(c->len, 0), bytes);

	if (moves(&e))
		tell_reasons(&g);
	return g.ret;
}

static inline void child_gift(struct child *c, struct ends *e, size_t pages)
{
	*c = (struct child) {
		.nr = is_zpipe(e->kind) ? SYS_ioctl : SYS_writev, .fn = give_pages,
		.fd = e->fd[1], .drop = e->fd[0], .len = pages, .flags = e->kind,
	};
	child_start(c, 0);
}

static inline bool all_zero(const unsigned char *at, size_t bytes)
{
	return !bytes || (!*at && !memcmp(at, at + 1, bytes - 1));
}

/* Reads until it has all, in pieces of @c->flags bytes. */
static long read_all_of_it(struct child *c)
{
	size_t done = 0, piece = c->flags;

	while (done < c->len) {
		size_t left = c->len - done;
		long n = read(c->fd, c->buf + done, left < piece ? left : piece);

		if (n < 0)
			return n;
		if (!n)
			break;
		done += n;
	}
	return done;
}

/*
 * A child that reads so much of it, started before there is memory to gift: what
 * is there when a process forks is no longer of one process alone.
 */
static inline void child_read_all(struct child *c, struct ends *e, size_t len,
				  size_t piece)
{
	*c = (struct child) {
		.nr = SYS_read, .fn = read_all_of_it,
		.fd = e->fd[0], .drop = e->fd[1],
		.len = len, .buf = shared_alloc(len), .flags = piece,
	};
	child_start(c, 0);
}

#endif
