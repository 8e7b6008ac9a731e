// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes that stop in the writer's own memory while a reader waits, and
 * the write after them. The reader gets what the calls reported as written, and
 * nothing else: not a byte of a call that failed, and none is lost.
 *
 * In zpipe such a write has already begun to copy to the reader's memory.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"
#include "trap.h"

#define POISON_BYTE	0xee		/* must not arrive */

/* What makes the bad page bad. */
enum hole {
	PROTECTED,		/* it was written to, then mprotect(2) */
	NEVER_READABLE,		/* mprotect(2) before anything was there */
	UNMAPPED,
	NR_HOLES,
};

/* A write of a mebibyte of which the first @good bytes are readable. */
struct bad_write {
	int fd;
	unsigned long off;	/* of the stream, for what will be written */
	size_t good;
	enum hole hole;
	bool segments;
};

/* What such a write returns: pages that are whole, or EFAULT. */
static long whole_pages(size_t good)
{
	return good < PAGE ? -EFAULT : (long)(good - good % PAGE);
}

static long write_badly(const struct bad_write *w)
{
	size_t whole = w->good - w->good % PAGE;
	unsigned char *map = no_memory(MIB + 2 * PAGE), *p, *bad;
	struct iovec iov[60];
	long ret;

	bad = map + (w->good + PAGE - 1) / PAGE * PAGE;
	p = bad - w->good;
	if (w->hole == NEVER_READABLE)
		mprotect(bad, PAGE, PROT_NONE);
	stream_fill(p, w->off, whole);
	memset(p + whole, POISON_BYTE, w->good - whole);
	if (w->hole != NEVER_READABLE)
		memset(bad, POISON_BYTE, PAGE);
	memset(bad + PAGE, POISON_BYTE, MIB - w->good - PAGE);
	if (w->hole == PROTECTED)
		mprotect(bad, PAGE, PROT_NONE);
	if (w->hole == UNMAPPED)
		munmap(bad, PAGE);
	ret = sys(w->segments ? writev(w->fd, iov, cut_up(iov, 60, p, MIB)) :
				write(w->fd, p, MIB));
	munmap(map, MIB + 2 * PAGE);
	return ret;
}

/*
 * The good write, after calls that wrote @off bytes to a reader @c that waited
 * with room for a mebibyte.
 */
static void good_write(struct __test_metadata *_metadata, struct ends *e,
		       struct child *c, long off)
{
	long w = stream_write(e->fd[1], off, MIB), r;

	ASSERT_LT(0, w);
	r = child_join(c);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	take_rest(_metadata, e, r, off + w - r);
	munmap(c->buf, MIB);
}

/*
 * A reader waits and these writes fail, each with its first @goods bytes
 * readable; then a good one is pushed to the same read.
 */
static void fail_then_push(struct __test_metadata *_metadata, struct ends *e,
			   struct want want, struct bad_write w,
			   const size_t *goods, int nr)
{
	long demands = fdinfo_number(e->fd[0], "zpipe-demands");
	long before = pushed(e);
	struct child c;
	int i;

	w.fd = e->fd[1];
	child_take_to(&c, e, MIB, want);
	ASSERT_TRUE(child_asleep(&c));
	for (i = 0; i < nr; i++) {
		w.good = goods[i];
		EXPECT_EQ(-EFAULT, write_badly(&w))
			TH_LOG("%zd good bytes", goods[i]);
	}
	EXPECT_EQ(0, fionread(e->fd[0]));
	EXPECT_TRUE(child_stays_asleep(&c));
	good_write(_metadata, e, &c, 0);
	if (is_zpipe(e->kind) && !copies_are_cut(e->kind)) {
		EXPECT_EQ(demands + 1, fdinfo_number(e->fd[0],
						     "zpipe-demands"));
		EXPECT_EQ(before + MIB, pushed(e));
	}
}

TEST_F_TIMEOUT(all, failed_write_before_a_good_one, TIMEOUT)
{
	static const size_t goods[] = { 0, 1, 100, 2048, PAGE - 1 };
	struct bad_write w = {};
	size_t i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (w.hole = 0; w.hole < NR_HOLES; w.hole++)
		for (i = 0; i < ARRAY_SIZE(goods); i++)
			fail_then_push(_metadata, &self->e, (struct want) {},
				       w, &goods[i], 1);
}

#define TOUCHED			777

static long is_touched(unsigned char *p, size_t len)
{
	return p[0] == 0xcc ? 0 : TOUCHED;
}

/*
 * DEVIATION: bytes of a slot that a failed write could not complete may stand in
 * the memory of a read that waited, behind what the read returns.
 */
TEST_F_TIMEOUT(all, memory_behind_what_a_read_returns, TIMEOUT)
{
	struct bad_write w = { .fd = self->e.fd[1], .good = 100 };
	struct child c;
	long ret;

	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	child_take_to(&c, &self->e, MIB, (struct want) { .after = is_touched });
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(-EFAULT, write_badly(&w));
	child_signal(&c, SIGUSR1);
	ret = child_join(&c);
	if (!copies_are_cut(variant->kind))
		EXPECT_EQ(is_zpipe(variant->kind) ? TOUCHED : -EINTR, ret);
	munmap(c.buf, MIB);
}

TEST_F_TIMEOUT(all, failed_writev_before_a_good_write, TIMEOUT)
{
	static const size_t goods[] = { 0, 1, 100, 2048, PAGE - 1 };
	struct bad_write w = { .segments = true };
	size_t i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < ARRAY_SIZE(goods); i++)
		fail_then_push(_metadata, &self->e, (struct want) {}, w,
			       &goods[i], 1);
}

TEST_F_TIMEOUT(all, several_failed_writes_before_a_good_one, TIMEOUT)
{
	static const size_t goods[] = { 100, PAGE - 1, 1, 0, 3000, 2000 };
	struct bad_write w = {};

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	fail_then_push(_metadata, &self->e, (struct want) {}, w, goods,
		       ARRAY_SIZE(goods));
	w.segments = true;
	fail_then_push(_metadata, &self->e, (struct want) {}, w, goods,
		       ARRAY_SIZE(goods));
}

/* Some segments of the reader are shorter than what such a write copies. */
TEST_F_TIMEOUT(all, failed_writes_to_a_reader_with_segments, TIMEOUT)
{
	static const size_t goods[] = { PAGE - 1, 100, PAGE - 1, 4000 };
	struct want want = { .segments = true };
	struct bad_write w = {};

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (want.skew = 0; want.skew < 3000; want.skew += 999)
		fail_then_push(_metadata, &self->e, want, w, goods,
			       ARRAY_SIZE(goods));
}

/* A write that got some whole pages across has written these. */
TEST_F_TIMEOUT(all, partial_write_before_a_good_one, TIMEOUT)
{
	static const size_t goods[] = {
		PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 100, 15 * PAGE - 1,
	};
	struct bad_write w = { .fd = self->e.fd[1] };
	struct child c;
	size_t i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (w.hole = 0; w.hole < NR_HOLES; w.hole++)
		for (i = 0; i < ARRAY_SIZE(goods); i++) {
			w.good = goods[i];
			w.segments = i & 1;
			child_take(&c, &self->e, MIB);
			ASSERT_TRUE(child_asleep(&c));
			ASSERT_EQ(whole_pages(w.good), write_badly(&w))
				TH_LOG("%zd good bytes", w.good);
			good_write(_metadata, &self->e, &c,
				   whole_pages(w.good));
		}
	EXPECT_TRUE(was_pushed(&self->e));
}

static long child_do_badly(struct child *c)
{
	long ret = write_badly(c->arg);

	errno = -ret;
	return ret < 0 ? -1 : ret;
}

/* It makes no difference whose write failed. */
TEST_F_TIMEOUT(all, failed_write_of_another_process, TIMEOUT)
{
	struct bad_write w = { .fd = self->e.fd[1], .good = 100 };
	struct child c, other;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_take(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_run(&other, child_do_badly, &w);
	EXPECT_EQ(-EFAULT, child_join(&other));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	good_write(_metadata, &self->e, &c, 0);
	if (is_zpipe(variant->kind) && !copies_are_cut(variant->kind))
		EXPECT_EQ(MIB, pushed(&self->e));
}

/*
 * A writer gets stuck in a fault when it has begun to copy to the reader.
 * Another one writes meanwhile, which it cannot do in pipe(2): see stuck.c.
 */
TEST_F_TIMEOUT(all, write_beside_one_that_is_stuck, TIMEOUT)
{
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true, .off = 3 * MIB,
		.good = 1, .skip = PAGE - 100, .bad = 64, .len = 64 * PAGE,
	};
	struct child c;

	child_take(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	stuck_start(&s);
	ASSERT_TRUE(stuck_is(&s));
	if (is_zpipe(variant->kind)) {
		/* With cut copies it would have to wait for the rest. */
		ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
		good_write(_metadata, &self->e, &c, 0);
		if (!copies_are_cut(variant->kind))
			EXPECT_EQ(MIB, pushed(&self->e));
		ASSERT_EQ(0, set_nonblock(self->e.fd[1], false));
		stuck_resolve(&s);
		EXPECT_EQ(64 * PAGE, drain(self->e.fd[0], 3 * MIB, 64 * PAGE,
					   MIB));
	} else {
		long r;

		stuck_resolve(&s);
		r = child_join(&c);
		ASSERT_LT(0, r);
		EXPECT_EQ(-1, stream_diff(c.buf, 3 * MIB, r));
		EXPECT_EQ(64 * PAGE - r, drain(self->e.fd[0], 3 * MIB + r,
					       64 * PAGE - r, MIB));
	}
	EXPECT_EQ(64 * PAGE, child_join(&s.c));
}

TEST_HARNESS_MAIN
