// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages that are moved to a reader's memory: what the reader finds there,
 * depending on what was there before, and which pages are copied for which reason.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"

#include <sys/prctl.h>

/*
 * Expects that @moved_pages of @pages huge pages were moved and the others copied, and that
 * all of them hold the stream.
 */
#define EXPECT_MOVED(e, g, at, moved_pages, pages)				\
({									\
	unsigned long __moved = moves(e) ? (moved_pages) * HUGE_SIZE : 0;	\
	size_t __bytes = (pages) * HUGE_SIZE;				\
	struct gifted __g = g;						\
									\
	EXPECT_EQ((long)__bytes, __g.ret);				\
	EXPECT_EQ(__moved, __g.moved) {					\
		tell_reasons(&__g);					\
	}								\
	EXPECT_EQ(__bytes - __moved, __g.copied);			\
	EXPECT_EQ(-1, stream_diff(at, 0, __bytes));			\
})

TEST_F_TIMEOUT(all, into_a_hole, TIMEOUT)
{
	unsigned char *at;
	struct gifted g;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	g = fetch(&self->e, at, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	EXPECT_MOVED(&self->e, g, at, 1, 1);
	if (moves(&self->e))
		EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-moves"));
	memset(at, 1, HUGE_SIZE);
	munmap(at, HUGE_SIZE);
}

/* Memory that maps the zero page, or was freed, counts as empty. */
TEST_F_TIMEOUT(all, into_the_zero_page_and_freed_memory, TIMEOUT)
{
	unsigned char *at;
	struct gifted g;
	struct child c;

	child_gift(&c, &self->e, 2);
	at = hole(2);
	EXPECT_EQ(0, *(volatile unsigned char *)at);
	memset(at + HUGE_SIZE, 1, HUGE_SIZE);
	ASSERT_EQ(0, madvise(at + HUGE_SIZE, HUGE_SIZE, MADV_DONTNEED));
	g = fetch(&self->e, at, HUGE_SIZE, 0);
	EXPECT_MOVED(&self->e, g, at, 1, 1);
	g = fetch(&self->e, at + HUGE_SIZE, HUGE_SIZE, 0);
	EXPECT_EQ(moves(&self->e) ? HUGE_SIZE : 0, g.moved);
	EXPECT_EQ(2 * HUGE_SIZE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(at, 0, 2 * HUGE_SIZE));
}

TEST_F_TIMEOUT(all, in_exchange, TIMEOUT)
{
	unsigned char *at;
	struct gifted g;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	memset(at, 0xee, HUGE_SIZE);
	g = fetch(&self->e, at, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	EXPECT_MOVED(&self->e, g, at, 1, 1);
	memset(at, 1, HUGE_SIZE);
}

/* DEVIATION: read(2) moves huge pages, too. */
TEST_F_TIMEOUT(all, by_read, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	long n;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	for (n = 0; n < HUGE_SIZE;) {
		long r = read(self->e.fd[0], at + n, HUGE_SIZE - n);

		ASSERT_LT(0, r);
		n += r;
	}
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
	if (moves(&self->e))
		EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-moves"));
}

/* Two huge pages in one call, with copied bytes between them. */
TEST_F_TIMEOUT(all, two_with_a_write_between, TIMEOUT)
{
	unsigned char *at, *from, small[100];
	struct gifted g;
	struct iovec iov[3];
	struct iovec to[3];

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	from = huge_memory(2, 0);
	at = hole(2);
	iov[0] = (struct iovec) { from, HUGE_SIZE };
	iov[1] = (struct iovec) { small, 100 };
	iov[2] = (struct iovec) { from + HUGE_SIZE, HUGE_SIZE };
	stream_fill(small, 0, 100);
	g = gift_flags(&self->e, iov, 3, ZPIPE_ALWAYS);
	ASSERT_EQ(2 * HUGE_SIZE + 100, g.ret);
	ASSERT_EQ(2 * HUGE_SIZE, g.moved);
	memset(small, 0, 100);
	to[0] = (struct iovec) { at, HUGE_SIZE };
	to[1] = (struct iovec) { small, 100 };
	to[2] = (struct iovec) { at + HUGE_SIZE, HUGE_SIZE };
	g = transfer(&self->e, ZPIPE_IOC_MOVE, to, 3, 0);
	EXPECT_EQ(2 * HUGE_SIZE + 100, g.ret);
	EXPECT_EQ(2 * HUGE_SIZE, g.moved);
	EXPECT_EQ(100, g.copied);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_SMALL]);
	EXPECT_EQ(-1, stream_diff(at, 0, 2 * HUGE_SIZE));
	EXPECT_EQ(-1, stream_diff(small, 0, 100));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

/* The reader gets the very same physical page. */
TEST_F(all, the_same_page)
{
	unsigned char *from, *at;
	unsigned long was, is;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	from = huge_memory(1, 0);
	at = hole(1);
	was = frame(from);
	ASSERT_NE(0, was);
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, from, HUGE_SIZE).moved);
	EXPECT_NE(was, frame(from));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, at, HUGE_SIZE, 0).moved);
	is = frame(at);
	EXPECT_EQ(was, is);
	/* Writer and reader have different pages afterwards. */
	memset(from, 1, HUGE_SIZE);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

TEST_F(all, errors)
{
	unsigned char *at = hole(1), byte = 7;
	struct iovec iov = { at, HUGE_SIZE };
	struct gifted g;

	if (is_zpipe(variant->kind)) {
		struct zpipe_transfer arg = { .size = sizeof(arg) };

		EXPECT_EQ(0, ioctl(self->e.fd[0], ZPIPE_IOC_MOVE, &arg));
		EXPECT_EQ(-EBADF, sys(ioctl(self->e.fd[1], ZPIPE_IOC_MOVE, &arg)));
		arg.flags = ZPIPE_ANY;
		EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[0], ZPIPE_IOC_MOVE, &arg)));
		arg.flags = ZPIPE_RETURN;
		EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
		arg.flags = 0x80;
		EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[0], ZPIPE_IOC_MOVE, &arg)));
		g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, ZPIPE_NONBLOCK);
		EXPECT_EQ(-EAGAIN, g.ret);
	}
	ASSERT_EQ(1, write(self->e.fd[1], &byte, 1));
	iov.iov_base = (void *)-PAGE;
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
	EXPECT_EQ(-EFAULT, g.ret);
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE, PROT_READ));
	iov.iov_base = at;
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
	EXPECT_EQ(-EFAULT, g.ret);
	EXPECT_EQ(1, fionread(self->e.fd[0]));
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE, PROT_READ | PROT_WRITE));
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
	EXPECT_EQ(1, g.ret);
	EXPECT_EQ(7, *at);
	close_end(&self->e, 1);
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
	EXPECT_EQ(0, g.ret);
}

/* The huge page fills the buffer. The read must not consume the packet behind it. */
TEST_F(all, packet_behind_a_gift)
{
	unsigned char *at, small[200];

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, huge_memory(1, 0), HUGE_SIZE).moved);
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	at = hole(1);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, at, HUGE_SIZE, 0).moved);
	EXPECT_EQ(100, fionread(self->e.fd[0]));
	EXPECT_EQ(100, read(self->e.fd[0], small, 200));
	EXPECT_EQ(-1, stream_diff(small, 0, 100));
}

/* If a huge page was read in part, the rest of it is copied. */
TEST_F(all, rest_of_a_partly_read_gift)
{
	unsigned char small[100], *at;
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, huge_memory(1, 0), HUGE_SIZE).moved);
	ASSERT_EQ(100, read(self->e.fd[0], small, 100));
	at = hole(1);
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &(struct iovec) { at, HUGE_SIZE }, 1, 0);
	EXPECT_EQ(HUGE_SIZE - 100, g.ret);
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_PART]);
	EXPECT_EQ(-1, stream_diff(at, 100, HUGE_SIZE - 100));
}

/* A buffer-only pipe moves no huge pages. */
TEST_F(all, buffer_only)
{
	unsigned char *at = hole(1), *to = hole(1);
	struct iovec iov = { at, HUGE_SIZE };
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, huge_memory(1, 0), HUGE_SIZE).moved);
	ASSERT_EQ(0, set_flags(self->e.fd[0], ZPIPE_BUFFER_ONLY));
	g = gift_flags(&self->e, &iov, 1, ZPIPE_ALWAYS | ZPIPE_NONBLOCK);
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_BUFFER_ONLY]);
	g = fetch(&self->e, to, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, g.copied);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_BUFFER_ONLY]);
	EXPECT_EQ(-1, stream_diff(to, 0, HUGE_SIZE));
}

/*
 * One call reads at most as many huge pages as a pipe can hold, frames of windows
 * included. Otherwise it could go on for as long as writers add more.
 */
#define GIFTS_AT_ONCE	12

TEST_F_TIMEOUT(all, limit_of_one_call, 2 * TIMEOUT)
{
	struct iovec iov;
	struct gifted g;
	struct child c;
	long n;

	child_gift(&c, &self->e, GIFTS_AT_ONCE);
	iov = (struct iovec) { hole(GIFTS_AT_ONCE), GIFTS_AT_ONCE * HUGE_SIZE };
	if (is_zpipe(variant->kind))
		ASSERT_TRUE(moves(&self->e) ? child_asleep(&c) : true);
	g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
	ASSERT_LT(0, g.ret);
	if (moves(&self->e)) {
		EXPECT_LE(4 * HUGE_SIZE, g.ret);
		EXPECT_GE(8 * HUGE_SIZE, g.ret);
	}
	for (n = g.ret; n < GIFTS_AT_ONCE * HUGE_SIZE; n += g.ret) {
		iov = (struct iovec) { iov.iov_base + g.ret, iov.iov_len - g.ret };
		g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
		ASSERT_LT(0, g.ret);
	}
	EXPECT_EQ(GIFTS_AT_ONCE * HUGE_SIZE, child_join(&c));
	n = GIFTS_AT_ONCE * HUGE_SIZE;
	EXPECT_EQ(-1, stream_diff(iov.iov_base + iov.iov_len - n, 0, n));
}

/* A read to memory that cannot be written to fails, and the huge page stays in the pipe. */
TEST_F(all, bad_memory_loses_nothing)
{
	unsigned char *at;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, huge_memory(1, 0), HUGE_SIZE).moved);
	at = hole(1);
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE, PROT_READ));
	EXPECT_EQ(-EFAULT, fetch(&self->e, at, HUGE_SIZE, 0).ret);
	EXPECT_EQ(HUGE_SIZE, fionread(self->e.fd[0]));
	/* Now half of the memory can be written to. */
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE / 2, PROT_READ | PROT_WRITE));
	EXPECT_EQ(HUGE_SIZE / 2, fetch(&self->e, at, HUGE_SIZE, 0).ret);
	EXPECT_EQ(HUGE_SIZE / 2, fionread(self->e.fd[0]));
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(HUGE_SIZE / 2, fetch(&self->e, at + HUGE_SIZE / 2, HUGE_SIZE / 2, 0).ret);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

/*
 * Each of the following tests makes the reader's memory unfit for a move. The page must
 * be copied, and the report must name the reason.
 */

#define EXPECT_COPIED(at, reason)					\
({									\
	unsigned char *__to = at;					\
	struct gifted __got = fetch(&self->e, __to, HUGE_SIZE, 0);	\
									\
	EXPECT_EQ(HUGE_SIZE, child_join(&c));				\
	EXPECT_MOVED(&self->e, __got, __to, 0, 1);			\
	if (moves(&self->e)) {						\
		EXPECT_EQ(1, __got.why[reason]) {			\
			tell_reasons(&__got);				\
		}							\
		EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-moves")); \
		EXPECT_EQ(1, fdinfo_number(self->e.fd[1], "zpipe-gifts")); \
	}								\
})

TEST_F_TIMEOUT(all, into_small_pages, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	madvise(at, HUGE_SIZE, MADV_NOHUGEPAGE);
	memset(at, 1, HUGE_SIZE);
	EXPECT_COPIED(at, ZPIPE_REASON_SMALL);
}

TEST_F_TIMEOUT(all, into_memory_without_huge_pages, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	madvise(at, HUGE_SIZE, MADV_NOHUGEPAGE);
	EXPECT_COPIED(at, ZPIPE_REASON_SMALL);

	child_gift(&c, &self->e, 1);
	at = hole(1);
	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	fetch(&self->e, at, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
	if (moves(&self->e))
		EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-moves"));
}

TEST_F_TIMEOUT(all, into_unaligned_memory, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(2) + PAGE;
	EXPECT_COPIED(at, ZPIPE_REASON_PART);
}

TEST_F_TIMEOUT(all, into_shared_memory, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = shared_hole();
	EXPECT_COPIED(at, ZPIPE_REASON_MAPPING);
}

/* A child shares the memory. It must see the old bytes, and none that were read. */
TEST_F_TIMEOUT(all, into_memory_shared_with_a_child, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	int status;
	pid_t pid;
	int go[2];
	char ok;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	memset(at, 0x77, HUGE_SIZE);
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		read(go[0], &ok, 1);
		_exit(at[0] == 0x77 && !memcmp(at, at + 1, HUGE_SIZE - 1) ? 0 : 1);
	}
	EXPECT_COPIED(at, ZPIPE_REASON_SHARED);
	close(go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * A pipe of the kernel refers to the reader's page. It must see the bytes that were
 * read.
 */
TEST_F_TIMEOUT(all, into_pinned_pages, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	char byte;
	int fd;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	memset(at, 1, HUGE_SIZE);
	fd = refer_to(at + 5 * PAGE);
	EXPECT_COPIED(at, ZPIPE_REASON_PINNED);
	ASSERT_EQ(1, read(fd, &byte, 1));
	EXPECT_EQ(stream_byte(5 * PAGE), (unsigned char)byte);
}

TEST_F_TIMEOUT(all, into_watched_pages, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	int uffd;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	memset(at, 1, HUGE_SIZE);
	uffd = watch(at);
	EXPECT_COPIED(at, ZPIPE_REASON_TRACKED);
	close(uffd);
}

/*
 * A moved page belongs to the reader like any other page. It is not lazily free, even
 * if the page that it replaced was. So MADV_PAGEOUT loses no bytes.
 */
TEST_F_TIMEOUT(all, moved_page_is_not_lazily_freed, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_gift(&c, &self->e, 1);
	at = hole(1);
	memset(at, 1, HUGE_SIZE);
	ASSERT_EQ(0, madvise(at, HUGE_SIZE, MADV_FREE));
	EXPECT_EQ(HUGE_SIZE, fetch(&self->e, at, HUGE_SIZE, 0).ret);
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	madvise(at, HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));

	child_gift(&c, &self->e, 1);
	at = hole(1);
	EXPECT_EQ(HUGE_SIZE, fetch(&self->e, at, HUGE_SIZE, 0).ret);
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
	madvise(at, HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

/*
 * Two readers get numbered messages, each as large as a huge page, some moved and some
 * copied. Each message must arrive once and whole, and each reader must see increasing
 * numbers.
 */

#define MESSAGES	(60L)

static long number_messages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	unsigned char *at = hole(2);
	long n;

	for (n = 0; n < MESSAGES; n++) {
		unsigned char *to = at + n % 2 * HUGE_SIZE;
		struct iovec iov = { to, HUGE_SIZE };
		struct gifted g;
		size_t i;

		for (i = 0; i < HUGE_SIZE; i += PAGE)
			*(unsigned long *)(to + i) = n + 1;
		g = gift_flags(&e, &iov, 1, n % 3 ? ZPIPE_ALWAYS | ZPIPE_ANY : ZPIPE_ANY);
		if (g.ret != HUGE_SIZE)
			return g.ret < 0 ? g.ret : -1000 - n;
	}
	return MESSAGES;
}

static long read_messages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { c->fd, -1 } };
	unsigned char *small = hole(1), *huge = hole(1), *odd = hole(2) + PAGE;
	long n = 0, last = 0;

	madvise(small, HUGE_SIZE, MADV_NOHUGEPAGE);
	memset(small, 1, HUGE_SIZE);
	for (;; n++) {
		unsigned char *to;
		struct gifted g;
		unsigned long number;
		struct iovec iov;
		size_t i;

		switch (n % 5) {
		case 0:
			to = small;
			break;
		case 1:
			to = odd;
			break;
		case 2:
			madvise(huge, HUGE_SIZE, MADV_DONTNEED);
			to = huge;
			break;
		default:
			to = huge;
		}
		iov = (struct iovec) { to, HUGE_SIZE };
		g = transfer(&e, ZPIPE_IOC_MOVE, &iov, 1, n % 2 ? ZPIPE_RETURN : 0);
		if (!g.ret)
			return n;
		if (g.ret != HUGE_SIZE)
			return g.ret < 0 ? g.ret : -2000;
		number = *(unsigned long *)to;
		if ((long)number <= last)
			return -3000;
		last = number;
		for (i = 0; i < HUGE_SIZE; i += PAGE)
			if (*(unsigned long *)(to + i) != number)
				return -4000;
		__atomic_add_fetch((long *)c->buf, number, __ATOMIC_RELAXED);
	}
}

TEST_F_TIMEOUT(all, two_readers, 4 * TIMEOUT)
{
	struct child writer = {
		.nr = SYS_ioctl, .fn = number_messages, .fd = self->e.fd[1],
		.drop = self->e.fd[0], .flags = variant->kind,
	};
	struct child reader[2];
	void *sum = shared_alloc(PAGE);
	long n = 0, got;
	int i;

	if (!moves(&self->e))
		SKIP(return, "a message would come in pieces");
	if (copies_are_cut(variant->kind))
		SKIP(return, "who faults in the middle of one shares it");
	for (i = 0; i < 2; i++) {
		reader[i] = (struct child) {
			.nr = SYS_ioctl, .fn = read_messages, .fd = self->e.fd[0],
			.drop = self->e.fd[1], .flags = variant->kind, .buf = sum,
		};
		child_start(&reader[i], 0);
	}
	child_start(&writer, 0);
	EXPECT_EQ(MESSAGES, child_join(&writer));
	close_end(&self->e, 1);
	for (i = 0; i < 2; i++) {
		got = child_join(&reader[i]);
		EXPECT_LE(0, got);
		n += got;
	}
	EXPECT_EQ(MESSAGES, n);
	EXPECT_EQ(MESSAGES * (MESSAGES + 1) / 2, *(long *)sum);
	EXPECT_LT(0, fdinfo_number(self->e.fd[0], "zpipe-moves"));
}

TEST_HARNESS_MAIN
