// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory errors in huge pages, and allocations that fail: the reason for which a page is copied,
 * and what happens to the bytes.
 *
 * madvise(2) MADV_HWPOISON does what the kernel does when the hardware has reported an error. It
 * splits the huge page. If something else refers to the page, the page stays whole and in use.
 */
#include "oracle.h"
#include "fail.h"
#include "memory.h"
#include "pages.h"

#define NUMBER		7UL
#define BAD		40		/* index of the bad small page */
#define OFFLINE		"/sys/devices/system/memory"

/*
 * Reads into memory that no page can be moved to. Returns the number of bytes, -EILSEQ or
 * -errno.
 */
static long read_good(struct ends *e, unsigned long number, long bytes)
{
	unsigned char *to = hole(2) + PAGE;
	struct gifted g = fetch(e, to, bytes, 0);
	bool right = g.ret < 0 || part_is(to, number, 0, g.ret);

	munmap(to - PAGE, 2 * HUGE_SIZE);
	return right ? g.ret : -EILSEQ;
}

/* Marks the page as bad; 0 or -errno. */
static long go_bad(unsigned char *at)
{
	/* madvise(2) sends SIGBUS to the caller, as to a thread that meets the error. */
	catch_signal(SIGBUS, 0);
	return sys(madvise(at, PAGE, MADV_HWPOISON));
}

#define GO_BAD(at, expected)						\
({									\
	long __ret = go_bad(at);					\
									\
	if (__ret == -EPERM || __ret == -EINVAL)			\
		SKIP(return, "MADV_HWPOISON: %s", strerror(-__ret));	\
	ASSERT_EQ(expected, __ret);					\
})

/* The message ends before the bad page, as with write(2). */
TEST_F_TIMEOUT(all, page_of_the_writer, TIMEOUT)
{
	unsigned char *at = hole(1);
	struct iovec iov = { at, HUGE_SIZE };
	struct gifted g;
	long want = BAD * PAGE;

	page_fill(at, NUMBER);
	collapse(at, HUGE_SIZE);
	GO_BAD(at + BAD * PAGE, 0);
	if (set_capacity(self->e.kind, self->e.fd[0], MIB) < 0)
		SKIP(return, "the capacity cannot be set");
	g = gift_flags(&self->e, &iov, 1, ZPIPE_ALWAYS);
	EXPECT_EQ(want, g.ret);
	EXPECT_EQ(0, g.moved);
	if (moves(&self->e))
		EXPECT_EQ(1, g.why[ZPIPE_REASON_SMALL]);
	EXPECT_EQ(want, fionread(self->e.fd[0]));
	EXPECT_EQ(want, read_good(&self->e, NUMBER, want));
	/* A gift that begins at the bad page fails. */
	iov = (struct iovec) { at + BAD * PAGE, PAGE };
	EXPECT_EQ(-EFAULT, gift_flags(&self->e, &iov, 1, ZPIPE_ALWAYS).ret);
}

/* The read ends before the bad page, and the pipe keeps the other bytes. */
TEST_F_TIMEOUT(all, page_of_the_reader, TIMEOUT)
{
	unsigned char *at = hole(1);
	struct iovec iov = { at, HUGE_SIZE };
	struct gifted g;
	struct child c;
	long n = 0;

	memset(at, 1, HUGE_SIZE);
	collapse(at, HUGE_SIZE);
	GO_BAD(at + BAD * PAGE, 0);
	child_give(&c, &self->e, 1, NUMBER);
	do {
		iov = (struct iovec) { at + n, HUGE_SIZE - n };
		g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
		n += g.ret > 0 ? g.ret : 0;
	} while (g.ret > 0);
	EXPECT_EQ(-EFAULT, g.ret);
	EXPECT_EQ(BAD * PAGE, n);
	EXPECT_TRUE(part_is(at, NUMBER, 0, n));
	while (n < HUGE_SIZE) {
		iov = (struct iovec) { at + n, HUGE_SIZE - n };
		if (n == BAD * PAGE)
			iov.iov_base = hole(2) + n;
		g = transfer(&self->e, ZPIPE_IOC_MOVE, &iov, 1, 0);
		ASSERT_LT(0, g.ret);
		ASSERT_TRUE(part_is(iov.iov_base, NUMBER, n, g.ret));
		n += g.ret;
	}
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
}

/* A huge page that could not be split is copied, as long as it exists. */
TEST_F_TIMEOUT(all, whole_page_of_the_writer, TIMEOUT)
{
	unsigned char *at = hole(1);
	struct gifted g;
	int fd, i;

	if (!moves(&self->e))
		SKIP(return, "nothing is moved");
	page_fill(at, NUMBER);
	fd = refer_to(at);
	GO_BAD(at + BAD * PAGE, -EHWPOISON);
	for (i = 0; i < 2; i++) {
		EXPECT_TRUE(goes(&self->e, at, NUMBER, &g));
		EXPECT_EQ(0, g.moved);
		EXPECT_EQ(1, g.why[ZPIPE_REASON_POISON]);
		/* The second round is without the reference. */
		close(fd);
	}
	EXPECT_TRUE(page_is(at, NUMBER));
}

TEST_F_TIMEOUT(all, whole_page_of_the_reader, TIMEOUT)
{
	unsigned char *at = hole(1), *from = hole(1);
	struct gifted g;
	int fd, i;

	if (!moves(&self->e))
		SKIP(return, "nothing is moved");
	page_fill(at, 1);
	fd = refer_to(at);
	GO_BAD(at + BAD * PAGE, -EHWPOISON);
	for (i = 0; i < 2; i++) {
		page_fill(from, NUMBER + i);
		ASSERT_EQ(HUGE_SIZE, gift(&self->e, from, HUGE_SIZE).moved);
		g = fetch(&self->e, at, HUGE_SIZE, 0);
		EXPECT_EQ(HUGE_SIZE, g.copied);
		EXPECT_EQ(1, g.why[ZPIPE_REASON_POISON]);
		EXPECT_TRUE(page_is(at, NUMBER + i));
		close(fd);
	}
}

/* The page goes bad while it is in the pipe and mapped nowhere. */
static void goes_bad_in_the_pipe(struct __test_metadata *_metadata, struct ends *e,
				 int which)
{
	unsigned char *at = hole(1), *to = hole(1);
	struct gifted g;
	char text[30];

	if (!moves(e))
		SKIP(return, "nothing is moved");
	page_fill(at, NUMBER);
	snprintf(text, sizeof(text), "%#lx", (frame(at) + which) * PAGE);
	ASSERT_EQ(HUGE_SIZE, gift(e, at, HUGE_SIZE).moved);
	/* The kernel finds the page on no list: it only marks it, and returns EBUSY. */
	if (write_line(OFFLINE, "hard_offline_page", text) != -EBUSY)
		SKIP(return, "it is not there any more, or cannot go bad");
	g = fetch(e, to, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, g.ret);
	EXPECT_TRUE(page_is(to, NUMBER));
	/* Only the mark of the first small page is one of the folio, too. */
	if (!which) {
		EXPECT_EQ(0, g.moved);
		EXPECT_EQ(1, g.why[ZPIPE_REASON_POISON]);
	}
	/* The next gift is moved, and its replacement is not the bad page. */
	page_fill(at, NUMBER + 1);
	EXPECT_TRUE(goes(e, at, NUMBER + 1, &g));
	EXPECT_EQ(HUGE_SIZE, g.moved);
}

TEST_F_TIMEOUT(all, first_page_in_the_pipe, TIMEOUT)
{
	goes_bad_in_the_pipe(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, other_page_in_the_pipe, TIMEOUT)
{
	goes_bad_in_the_pipe(_metadata, &self->e, BAD);
}

/*
 * No memory: in each run another allocation of a call fails, until a run has no failure. These
 * tests are skipped on a kernel without fault injection.
 */

#define MOST		2000

FIXTURE(inject) {
	struct ends e;
	int nth;
};

FIXTURE_SETUP(inject)
{
	ASSERT_EQ(0, ends_make(&self->e, ZPAIR));
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (self->nth < 0)
		SKIP(return, "no fault injection here");
	if (!moves(&self->e))
		SKIP(return, "nothing is moved");
	ASSERT_TRUE(put_all(false));
}

FIXTURE_TEARDOWN(inject)
{
	if (self->nth >= 0)
		put_all(true);
	ends_free(&self->e);
}

/* EFAULT: the call transferred all bytes, but could not write its report. */
static bool is_failure(long ret)
{
	return ret == -ENOMEM || ret == -EFAULT;
}

/*
 * The bytes that a gift reports are in the pipe. A page that was not moved stays with its owner.
 */
TEST_F_TIMEOUT(inject, gifts, 4 * TIMEOUT)
{
	unsigned char *at = hole(1), *odd = hole(2) + PAGE;
	struct iovec iov = { at, HUGE_SIZE };
	long memory = 0, went;
	struct gifted g;
	bool came = true;
	int n;

	memset(odd, 1, HUGE_SIZE);
	page_fill(at, NUMBER);
	for (n = 1; came && n < MOST; n++) {
		ASSERT_EQ(0, open_ends(&self->e, 0));
		arm(self->nth, n);
		g = gift_flags(&self->e, &iov, 1, ZPIPE_ALWAYS | ZPIPE_NONBLOCK);
		came = disarm(self->nth);
		went = fionread(self->e.fd[0]);
		ASSERT_TRUE(g.ret == went || is_failure(g.ret)) {
			TH_LOG("failure %d: %ld", n, g.ret);
		}
		memory += g.why[ZPIPE_REASON_MEMORY];
		/* Only a move sends the whole page: a copy stops when the pipe is full. */
		EXPECT_TRUE(page_is(at, went == HUGE_SIZE ? 0 : NUMBER));
		if (went) {
			ASSERT_EQ(went, fetch(&self->e, odd, went, 0).ret);
			EXPECT_TRUE(part_is(odd, NUMBER, 0, went));
		}
		page_fill(at, NUMBER);
		close_end(&self->e, 0);
		close_end(&self->e, 1);
	}
	EXPECT_FALSE(came);
	EXPECT_EQ(HUGE_SIZE, g.moved);
	EXPECT_LT(0, memory);
}

/* A read that fails loses no byte: the bytes are in the pipe or in the reader's memory. */
static void fail_to_land(struct __test_metadata *_metadata, struct ends *e, int nth,
			 bool in_exchange)
{
	unsigned char *at = hole(1), *to = hole(1);
	struct iovec iov = { to, HUGE_SIZE };
	bool came = true;
	struct gifted g;
	int n;

	for (n = 1; came && n < MOST; n++) {
		long left;

		ASSERT_EQ(0, open_ends(e, 0));
		page_fill(at, NUMBER + n);
		collapse(at, HUGE_SIZE);
		ASSERT_EQ(HUGE_SIZE, gift(e, at, HUGE_SIZE).moved);
		madvise(to, HUGE_SIZE, in_exchange ? MADV_COLLAPSE : MADV_DONTNEED);
		arm(nth, n);
		g = transfer(e, ZPIPE_IOC_MOVE, &iov, 1, 0);
		came = disarm(nth);
		left = fionread(e->fd[0]);
		ASSERT_TRUE(g.ret == HUGE_SIZE - left || is_failure(g.ret)) {
			TH_LOG("failure %d: %ld, %ld are left", n, g.ret, left);
		}
		if (left)
			ASSERT_EQ(left, fetch(e, to + HUGE_SIZE - left, left, 0).ret);
		EXPECT_TRUE(page_is(to, NUMBER + n));
		close_end(e, 0);
		close_end(e, 1);
	}
	EXPECT_FALSE(came);
	EXPECT_EQ(HUGE_SIZE, g.moved);
	munmap(at, HUGE_SIZE);
	munmap(to, HUGE_SIZE);
}

TEST_F_TIMEOUT(inject, moves_in_exchange, 4 * TIMEOUT)
{
	fail_to_land(_metadata, &self->e, self->nth, true);
}

TEST_F_TIMEOUT(inject, moves_into_a_hole, 4 * TIMEOUT)
{
	fail_to_land(_metadata, &self->e, self->nth, false);
}

TEST_HARNESS_MAIN
