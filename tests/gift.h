/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that a writer gifts, and ways to read it. For pipe(2) the same tests use
 * writev(2) and readv(2), which copy.
 */
#ifndef ZPIPE_TESTS_GIFT_H
#define ZPIPE_TESTS_GIFT_H

#include "oracle.h"
#include "child.h"

#include <linux/userfaultfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define HUGE_SIZE	(2L << 20)
#define GIFTS		400	/* maximum number of ranges */

/* Reserves addresses for @pages huge pages, aligned to the size of a huge page. */
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

/* Maps memory that may have huge pages, but has no pages yet. */
static inline unsigned char *hole(size_t pages)
{
	unsigned char *at = huge_addresses(pages);

	if (mmap(at, pages * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		abort();
	madvise(at, pages * HUGE_SIZE, MADV_HUGEPAGE);
	return at;
}

/* Maps shared memory of the size of a huge page. Children inherit it. */
static inline unsigned char *shared_hole(void)
{
	unsigned char *at = huge_addresses(1);

	if (mmap(at, HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		abort();
	return at;
}

/*
 * Collapses memory into huge pages. Returns 0 or -1. It retries, since other tasks may
 * briefly hold references to small pages.
 */
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

/* Makes huge pages that hold the stream from @off on and belong to this process alone. */
static inline unsigned char *huge_memory(size_t pages, unsigned long off)
{
	unsigned char *at = hole(pages);

	stream_fill(at, off, pages * HUGE_SIZE);
	/* A store may have got small pages. */
	collapse(at, pages * HUGE_SIZE);
	return at;
}

/* Returns the physical page frame number at @at, or 0 if the kernel does not show it. */
static inline unsigned long frame(const void *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned long entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)at / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry & ((1UL << 55) - 1);
}

/*
 * Makes a pipe of the kernel refer to the byte at @at. Returns the read end of that
 * pipe.
 */
static inline int refer_to(void *at)
{
	struct iovec iov = { at, 1 };
	int fd[2];

	if (pipe(fd) || vmsplice(fd[1], &iov, 1, 0) != 1)
		abort();
	close(fd[1]);
	return fd[0];
}

/*
 * Registers a huge page with userfaultfd(2). Returns the descriptor that reports its
 * faults.
 */
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

/* The results of one call. Over the kernel's own pipes all bytes count as copied. */
struct gifted {
	long ret;
	unsigned long moved, copied;
	unsigned int why[ZPIPE_REASONS];
};

/* Prints the reasons why pages were not moved, to help with a failed test. */
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
	bool gifts = cmd == ZPIPE_IOC_GIFT;
	struct zpipe_iovec ranges[GIFTS];
	struct zpipe_transfer arg = {
		.size = sizeof(arg), .flags = flags,
		.iov = (unsigned long)ranges, .iovcnt = n,
	};
	struct gifted g = {};
	int i;

	if (!is_zpipe(e->kind)) {
		g.ret = sys(gifts ? writev(e->fd[1], iov, n) : readv(e->fd[0], iov, n));
		g.copied = g.ret > 0 ? g.ret : 0;
		return g;
	}
	for (i = 0; i < n; i++) {
		ranges[i].base = (unsigned long)iov[i].iov_base;
		ranges[i].bytes = iov[i].iov_len;
	}
	g.ret = sys(ioctl(e->fd[gifts], cmd, &arg));
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

/*
 * Reads until @bytes bytes have come, or to the end of the data. Returns the sums of
 * all calls.
 */
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
 * True if the module moves huge pages here. It does not before Linux 7.3 (see gift.c of
 * the module), or if tests/run has loaded it with refuse_moves.
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

/* A number of small pages that fit into a pipe without a reader, moved or copied. */
#define FEW	12

/* Maps memory that has small pages only. */
static inline unsigned char *small_hole(size_t pages)
{
	unsigned char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	madvise(at, pages * PAGE, MADV_NOHUGEPAGE);
	return at;
}

/* Maps small pages that hold the stream. */
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

/* Gifts @c->len huge pages of the child, which hold the stream. */
static long gift_huge_pages(struct child *c)
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
		.nr = is_zpipe(e->kind) ? SYS_ioctl : SYS_writev, .fn = gift_huge_pages,
		.fd = e->fd[1], .drop = e->fd[0], .len = pages, .flags = e->kind,
	};
	child_start(c, 0);
}

static inline bool all_zero(const unsigned char *at, size_t bytes)
{
	return !bytes || (!*at && !memcmp(at, at + 1, bytes - 1));
}

/* Reads until all bytes have come, at most @c->flags bytes in a call. */
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
 * Starts a child that reads @len bytes, at most @piece in a call. Call this before the
 * memory to gift exists: a child shares all pages of its parent, and shared pages
 * cannot be gifted.
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
