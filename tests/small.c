// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gifts and moves of pages of 4 KiB, which both ends request by ZPIPE_SMALL.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"

#include <sys/prctl.h>

/* The case in progress, to help with a failed test. */
static const char *about = "";

/*
 * Expects that @pages small pages were moved, and the rest of @bytes bytes was copied.
 * If the module is loaded with refuse_moves, it may still move some of the pages.
 */
#define EXPECT_SMALL(e, g, pages, bytes)				\
({									\
	struct gifted __g = g;						\
	unsigned long __moved = getenv("ZPIPE_NO_MOVES") ? __g.moved :	\
				moves(e) ? (pages) * PAGE : 0;		\
	unsigned long __bytes = bytes;					\
									\
	EXPECT_EQ((long)__bytes, __g.ret);				\
	EXPECT_EQ(__moved, __g.moved) {					\
		TH_LOG("%s", about);					\
		tell_reasons(&__g);					\
	}								\
	EXPECT_EQ(__bytes - __moved, __g.copied);			\
})

TEST_F_TIMEOUT(all, pages_are_gifted, TIMEOUT)
{
	size_t pages = 1200;
	unsigned char *at;
	struct gifted g;
	struct child c;

	child_read_all(&c, &self->e, pages * PAGE, 100000);
	at = small_memory(pages);
	g = gift_small(&self->e, at, pages * PAGE);
	EXPECT_SMALL(&self->e, g, pages, pages * PAGE);
	EXPECT_EQ(pages * PAGE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, pages * PAGE));
	if (moves(&self->e)) {
		EXPECT_TRUE(all_zero(at, pages * PAGE));
		EXPECT_EQ(pages, fdinfo_number(self->e.fd[1], "zpipe-small-gifts"));
		EXPECT_EQ(0, fdinfo_number(self->e.fd[1], "zpipe-bytes-buffered"));
		EXPECT_EQ(0, fdinfo_number(self->e.fd[1], "zpipe-gifts"));
	} else {
		size_t i;

		/* Each page was either moved or copied. */
		for (i = 0; i < pages * PAGE; i += PAGE)
			EXPECT_TRUE(stream_diff(at + i, i, PAGE) == -1 ||
				    (g.moved && all_zero(at + i, PAGE)));
	}
	memset(at, 1, pages * PAGE);
	munmap(at, pages * PAGE);
}

/* The reader gets the very same pages, and shares none of them with the writer. */
TEST_F(all, the_same_pages)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	unsigned long was[FEW];
	struct gifted g;
	int i;

	for (i = 0; i < FEW; i++) {
		was[i] = frame(from + i * PAGE);
		ASSERT_NE(0, was[i]);
	}
	g = gift_small(&self->e, from, FEW * PAGE);
	EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
	EXPECT_EQ(FEW * PAGE, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	if (moves(&self->e)) {
		for (i = 0; i < FEW; i++)
			EXPECT_EQ(was[i], frame(at + i * PAGE));
		EXPECT_EQ(FEW, fdinfo_number(self->e.fd[0], "zpipe-small-moves"));
	}
	memset(from, 1, FEW * PAGE);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));
	memset(at, 2, FEW * PAGE);
	EXPECT_EQ(1, *from);
}

/* Pages are moved only if both ends pass ZPIPE_SMALL. */
TEST_F(all, flag_at_one_end_only)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	struct iovec iov = { from, FEW * PAGE };
	struct gifted g;

	g = gift_flags(&self->e, &iov, 1, ZPIPE_ALWAYS);
	EXPECT_SMALL(&self->e, g, 0, FEW * PAGE);
	g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 0, FEW * PAGE);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));

	g = gift_small(&self->e, from, FEW * PAGE);
	EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
	memset(at, 0, FEW * PAGE);
	g = fetch(&self->e, at, FEW * PAGE, 0);
	EXPECT_SMALL(&self->e, g, 0, FEW * PAGE);
	if (moves(&self->e))
		EXPECT_EQ(1, g.why[ZPIPE_REASON_SMALL]);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));

	stream_fill(from, 0, FEW * PAGE);
	g = gift_small(&self->e, from, FEW * PAGE);
	EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
	memset(at, 0, FEW * PAGE);
	EXPECT_EQ(FEW * PAGE, read(self->e.fd[0], at, FEW * PAGE));
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));
	if (moves(&self->e))
		EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-small-moves"));
}

/*
 * All alignments at both ends. Only whole pages that are aligned alike at both ends are
 * moved.
 */
TEST_F(all, alignments_and_lengths)
{
	static const size_t offsets[] = { 0, 1, 100, PAGE - 1 };
	static const size_t lengths[] = {
		1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1, 5 * PAGE + 7,
	};
	unsigned char *from = small_hole(FEW), *at = small_hole(FEW);
	unsigned int i, j, k;

	for (i = 0; i < 4; i++)
		for (j = 0; j < 7; j++)
			for (k = 0; k < 4; k++) {
				size_t bytes = lengths[j];
				size_t before = -offsets[i] % PAGE;
				size_t whole = bytes < before ? 0 : (bytes - before) / PAGE;
				struct gifted g;

				stream_fill(from + offsets[i], 0, bytes);
				g = gift_small(&self->e, from + offsets[i], bytes);
				EXPECT_SMALL(&self->e, g, whole, bytes);
				memset(at, 0, FEW * PAGE);
				g = fetch(&self->e, at + offsets[k], bytes, ZPIPE_SMALL);
				/* Both ends are aligned alike. */
				EXPECT_SMALL(&self->e, g, i == k ? whole : 0, bytes);
				if (moves(&self->e) && !i && k && bytes % PAGE == 0)
					EXPECT_EQ(1, g.why[ZPIPE_REASON_PART]);
				EXPECT_EQ(-1, stream_diff(at + offsets[k], 0, bytes)) {
					TH_LOG("%zu bytes from %zu to %zu", bytes,
					       offsets[i], offsets[k]);
				}
			}
}

/* A part of the pages is read by copying, and the rest is moved. */
TEST_F(all, part_by_part)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	struct gifted g;

	g = gift_small(&self->e, from, FEW * PAGE);
	EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
	EXPECT_EQ(100, read(self->e.fd[0], at, 100));
	g = fetch(&self->e, at + 100, 3 * PAGE - 100, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 2, 3 * PAGE - 100);
	g = fetch(&self->e, at + 3 * PAGE, 2 * PAGE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 2, 2 * PAGE);
	EXPECT_EQ((FEW - 5) * PAGE, fionread(self->e.fd[0]));
	g = fetch(&self->e, at + 5 * PAGE, PAGE + 9, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 1, PAGE + 9);
	g = fetch(&self->e, at + 6 * PAGE + 9, (FEW - 6) * PAGE - 9, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, FEW - 7, (FEW - 6) * PAGE - 9);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/*
 * Each of these functions makes one page unfit for a gift or a move. It is the fourth
 * page of the memory, and the others are fit.
 */
static void free_now(unsigned char *at)
{
	madvise(at, PAGE, MADV_DONTNEED);
}

static void free_lazily(unsigned char *at)
{
	madvise(at, PAGE, MADV_FREE);
}

static void refer(unsigned char *at)
{
	refer_to(at);
}

static void write_protect(unsigned char *at)
{
	mprotect(at, PAGE, PROT_READ);
}

static void share(unsigned char *at)
{
	pid_t pid;

	/*
	 * Let the child share only this page, so that the parent has the others to
	 * itself.
	 */
	madvise(at - 3 * PAGE, 3 * PAGE, MADV_DONTFORK);
	madvise(at + PAGE, (FEW - 4) * PAGE, MADV_DONTFORK);
	pid = fork();
	if (!pid) {
		/* The child ends with the test. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	madvise(at - 3 * PAGE, 3 * PAGE, MADV_DOFORK);
	madvise(at + PAGE, (FEW - 4) * PAGE, MADV_DOFORK);
}

static const struct {
	const char *name;
	void (*spoil)(unsigned char *at);
	unsigned int reason;	/* why the page is copied */
	int moved;		/* pages moved to the reader; -1: the page is not writable */
} unfit[] = {
	{ "not there", free_now, ZPIPE_REASON_SMALL, FEW },
	{ "lazily freed", free_lazily, ZPIPE_REASON_SWAP, FEW - 1 },
	{ "referred to", refer, ZPIPE_REASON_PINNED, FEW - 1 },
	{ "read-only", write_protect, ZPIPE_REASON_MAPPING, -1 },
	/* A write fault gives the reader a page of its own, which is then moved. */
	{ "shared", share, ZPIPE_REASON_SHARED, FEW },
};

TEST_F(all, unfit_page_at_the_writer)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
		struct gifted g;

		about = unfit[i].name;
		unfit[i].spoil(from + 3 * PAGE);
		/* The page may read as zeros now. */
		g = gift_small(&self->e, from, FEW * PAGE);
		EXPECT_SMALL(&self->e, g, FEW - 1, FEW * PAGE);
		if (moves(&self->e))
			EXPECT_EQ(1, g.why[unfit[i].reason]) {
				TH_LOG("%s", unfit[i].name);
				tell_reasons(&g);
			}
		g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
		EXPECT_SMALL(&self->e, g, FEW - 1, FEW * PAGE);
		EXPECT_EQ(-1, stream_diff(at, 0, 3 * PAGE));
		EXPECT_TRUE(unfit[i].spoil == free_now ?
			    all_zero(at + 3 * PAGE, PAGE) :
			    stream_diff(at + 3 * PAGE, 3 * PAGE, PAGE) == -1);
		EXPECT_EQ(-1, stream_diff(at + 4 * PAGE, 4 * PAGE, (FEW - 4) * PAGE));
		munmap(from, FEW * PAGE);
		munmap(at, FEW * PAGE);
	}
}

TEST_F(all, unfit_page_at_the_reader)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		unsigned char *from = small_memory(FEW), *at = small_memory(FEW);
		struct gifted g;

		about = unfit[i].name;
		g = gift_small(&self->e, from, FEW * PAGE);
		EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
		unfit[i].spoil(at + 3 * PAGE);
		if (unfit[i].moved < 0) {
			/*
			 * The read stops at the read-only page. The rest stays in the
			 * pipe.
			 */
			g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
			EXPECT_SMALL(&self->e, g, 3, 3 * PAGE);
			EXPECT_EQ((FEW - 3) * PAGE, fionread(self->e.fd[0]));
			mprotect(at, FEW * PAGE, PROT_READ | PROT_WRITE);
			g = fetch(&self->e, at + 3 * PAGE, (FEW - 3) * PAGE, ZPIPE_SMALL);
			EXPECT_SMALL(&self->e, g, FEW - 3, (FEW - 3) * PAGE);
		} else {
			g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
			EXPECT_SMALL(&self->e, g, unfit[i].moved, FEW * PAGE);
			if (moves(&self->e))
				EXPECT_EQ(FEW - unfit[i].moved, g.why[unfit[i].reason]);
		}
		EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE)) {
			TH_LOG("%s", unfit[i].name);
		}
		munmap(from, FEW * PAGE);
		munmap(at, FEW * PAGE);
	}
}

/* A gift of small pages does not split a huge page. */
TEST_F(all, parts_of_huge_pages)
{
	unsigned char *from, *at = small_hole(FEW);
	struct gifted g;

	from = huge_memory(1, 0);
	ASSERT_NE(0, frame(from));
	ASSERT_EQ(frame(from) + 100, frame(from + 100 * PAGE));
	g = gift_small(&self->e, from, FEW * PAGE);
	EXPECT_SMALL(&self->e, g, 0, FEW * PAGE);
	if (moves(&self->e))
		EXPECT_EQ(1, g.why[ZPIPE_REASON_SMALL]);
	g = fetch(&self->e, at, FEW * PAGE, ZPIPE_SMALL);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));
	/* It is still one huge page. */
	EXPECT_EQ(frame(from) + 100, frame(from + 100 * PAGE));
}

/* A whole huge page is gifted as such, and the memory around it as small pages. */
TEST_F_TIMEOUT(all, with_a_huge_page_between, TIMEOUT)
{
	size_t bytes = HUGE_SIZE + 2 * FEW * PAGE;
	unsigned char *at, *from;
	struct gifted g;
	struct child c;

	child_read_all(&c, &self->e, bytes, HUGE_SIZE);
	at = huge_addresses(3);
	from = at + HUGE_SIZE - FEW * PAGE;
	ASSERT_EQ(at, mmap(at, 3 * HUGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	madvise(at, 3 * HUGE_SIZE, MADV_NOHUGEPAGE);
	madvise(at + HUGE_SIZE, HUGE_SIZE, MADV_HUGEPAGE);
	stream_fill(from, 0, bytes);
	collapse(at + HUGE_SIZE, HUGE_SIZE);
	g = gift_small(&self->e, from, bytes);
	EXPECT_SMALL(&self->e, g, bytes / PAGE, bytes);
	EXPECT_EQ(bytes, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, bytes));
	if (moves(&self->e)) {
		EXPECT_EQ(2 * FEW, fdinfo_number(self->e.fd[1], "zpipe-small-gifts"));
		EXPECT_EQ(1, fdinfo_number(self->e.fd[1], "zpipe-gifts"));
	}
}

TEST_F(all, buffer_only_and_packets)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "nothing is refused for these");
	g = gift_small(&self->e, from, 2 * PAGE);
	EXPECT_SMALL(&self->e, g, 2, 2 * PAGE);
	ASSERT_EQ(0, set_flags(self->e.fd[0], ZPIPE_BUFFER_ONLY));
	g = gift_small(&self->e, from + 2 * PAGE, 2 * PAGE);
	EXPECT_SMALL(&self->e, g, 0, 2 * PAGE);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_BUFFER_ONLY]);
	g = fetch(&self->e, at, 2 * PAGE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 0, 2 * PAGE);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_BUFFER_ONLY]);
	ASSERT_EQ(0, set_flags(self->e.fd[0], 0));
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	g = gift_small(&self->e, from + 4 * PAGE, PAGE);
	EXPECT_SMALL(&self->e, g, 0, PAGE);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_PACKET]);
	EXPECT_EQ(2 * PAGE, read(self->e.fd[0], at + 2 * PAGE, 2 * PAGE));
	EXPECT_EQ(PAGE, read(self->e.fd[0], at + 4 * PAGE, 2 * PAGE));
	EXPECT_EQ(-1, stream_diff(at, 0, 5 * PAGE));
}

/* Packets do not end at pages that could be gifted, with any number of ranges. */
TEST_F(all, packets_of_many_ranges)
{
	enum { RANGES = 345, BYTES = PAGE + 2 };
	unsigned char *from = small_memory(2 * RANGES + 1), *at = small_hole(RANGES + 1);
	struct iovec iov[RANGES];
	struct gifted g;
	long i, n;

	ASSERT_LE(512 * PAGE, set_capacity(variant->kind, self->e.fd[1], 512 * PAGE));
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	for (i = 0; i < RANGES; i++)
		iov[i] = (struct iovec) { from + (2 * i + 1) * PAGE - 1, BYTES };
	g = gift_flags(&self->e, iov, RANGES, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 0, RANGES * BYTES);
	for (i = 0; i < RANGES * BYTES; i += n) {
		long left = RANGES * BYTES - i;

		n = read(self->e.fd[0], at + i, 2 * PAGE);
		ASSERT_EQ(left < PAGE ? left : PAGE, n);
	}
	for (i = 0; i < RANGES; i++)
		ASSERT_EQ(0, memcmp(at + i * BYTES, iov[i].iov_base, BYTES));
}

/*
 * Slots with small pages have the same limit as slots with huge pages, even if each
 * slot has one small page.
 */
TEST_F(all, limit_of_slots_in_a_pipe)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	struct iovec iov = { from, PAGE };
	struct gifted g;
	int i;

	if (!moves(&self->e))
		SKIP(return, "of copies there may be more");
	for (i = 0; i < 5; i++) {
		iov.iov_base = from + i * PAGE;
		g = gift_flags(&self->e, &iov, 1, ZPIPE_SMALL | ZPIPE_NONBLOCK);
		EXPECT_SMALL(&self->e, g, i < 4, PAGE);
	}
	EXPECT_EQ(1, g.why[ZPIPE_REASON_LIMIT]);
	g = fetch(&self->e, at, 5 * PAGE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 4, 5 * PAGE);
	EXPECT_EQ(-1, stream_diff(at, 0, 5 * PAGE));
}

/* A gift that fits into the free slots never blocks. One read returns all of the bytes. */
TEST_F(all, gift_that_fits_does_not_wait)
{
	unsigned char *from = small_memory(16), *at = small_hole(16);
	struct gifted g;
	int i;

	for (i = 0; i < 16; i++) {
		g = gift_small(&self->e, from + i * PAGE, PAGE);
		EXPECT_SMALL(&self->e, g, i < 4, PAGE);
	}
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(16 * PAGE, read(self->e.fd[0], at, 16 * PAGE));
	EXPECT_EQ(-1, stream_diff(at, 0, 16 * PAGE));
}

/* A non-blocking gift writes in order what fits, and returns that count. */
TEST_F(all, nonblocking_gift_is_partial)
{
	size_t pages = 40;
	unsigned char *from = small_memory(pages), *at = small_hole(pages);
	struct iovec iov = { from, pages * PAGE };
	struct gifted g;
	int i;

	if (!moves(&self->e))
		SKIP(return, "of copies there is one number");
	for (i = 0; i < 4; i++)
		ASSERT_EQ(PAGE, gift_small(&self->e, from + i * PAGE, PAGE).moved);
	iov.iov_base += 4 * PAGE;
	iov.iov_len -= 4 * PAGE;
	g = gift_flags(&self->e, &iov, 1, ZPIPE_SMALL | ZPIPE_NONBLOCK);
	EXPECT_SMALL(&self->e, g, 0, 12 * PAGE);
	EXPECT_LT(0, g.why[ZPIPE_REASON_LIMIT]);
	g = gift_flags(&self->e, &iov, 1, ZPIPE_SMALL | ZPIPE_NONBLOCK);
	EXPECT_EQ(-EAGAIN, g.ret);
	EXPECT_EQ(16 * PAGE, read(self->e.fd[0], at, pages * PAGE));
	EXPECT_EQ(-1, stream_diff(at, 0, 16 * PAGE));
}

/* Several ranges in one call, at both ends. */
TEST_F(all, of_several_ranges)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	struct iovec out[] = {
		{ from, PAGE }, { from + PAGE, 3 * PAGE + 10 },
		{ from + 4 * PAGE + 10, 4 * PAGE - 10 }, { from + 8 * PAGE, 4 * PAGE },
	};
	struct iovec in[] = {
		{ at, 2 * PAGE }, { at + 2 * PAGE, 100 },
		{ at + 2 * PAGE + 100, 6 * PAGE - 100 }, { at + 8 * PAGE, 4 * PAGE },
	};
	struct gifted g;

	g = gift_flags(&self->e, out, 4, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, FEW - 1, FEW * PAGE);
	g = transfer(&self->e, ZPIPE_IOC_MOVE, in, 4, ZPIPE_SMALL);
	/* Two pages were copied, one at each end. */
	EXPECT_SMALL(&self->e, g, FEW - 2, FEW * PAGE);
	EXPECT_EQ(-1, stream_diff(at, 0, FEW * PAGE));
}

/*
 * The cost rule for huge pages does not apply to small pages. Nor do they have to lie
 * in one mapping.
 */
TEST_F_TIMEOUT(all, in_aligned_memory_of_a_huge_page, TIMEOUT)
{
	unsigned char *huge, *from, *at;
	struct iovec iov;
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	huge = huge_memory(1, 0);
	iov = (struct iovec) { huge, HUGE_SIZE };
	g = gift_flags(&self->e, &iov, 1, ZPIPE_NONBLOCK);
	ASSERT_EQ(HUGE_SIZE, g.moved);
	from = hole(1);
	madvise(from, HUGE_SIZE, MADV_NOHUGEPAGE);
	stream_fill(from, 0, HUGE_SIZE);
	ASSERT_EQ(0, mprotect(from + HUGE_SIZE - PAGE, PAGE, PROT_READ));
	iov.iov_base = from;
	g = gift_flags(&self->e, &iov, 1, ZPIPE_SMALL | ZPIPE_NONBLOCK);
	EXPECT_SMALL(&self->e, g, 511, HUGE_SIZE);
	at = small_hole(513);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, huge, HUGE_SIZE, 0).ret);
	g = fetch(&self->e, at, HUGE_SIZE, ZPIPE_SMALL);
	EXPECT_SMALL(&self->e, g, 511, HUGE_SIZE);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

/* Gifts lose no memory, and no page stays counted for the user. */
TEST_F_TIMEOUT(all, no_memory_is_lost, 4 * TIMEOUT)
{
	unsigned char *from = small_memory(FEW), *at = small_hole(FEW);
	long before = available(), after;
	int i;

	for (i = 0; i < 600; i++) {
		struct gifted g = gift_small(&self->e, from, FEW * PAGE);

		EXPECT_SMALL(&self->e, g, FEW, FEW * PAGE);
		/* Some pages are freed in the pipe, and some in the reader's memory. */
		if (i % 4 == 3)
			madvise(at, FEW * PAGE, MADV_DONTNEED);
		g = fetch(&self->e, at, FEW * PAGE, i % 4 ? ZPIPE_SMALL : 0);
		ASSERT_EQ(FEW * PAGE, g.ret);
		from[i % (FEW * PAGE)]++;
	}
	after = available();
	/* In KiB. All gifts of this test together have 28800 KiB. */
	EXPECT_LT(before - 5000, after);
}

TEST_HARNESS_MAIN
