// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes to a blocked reader that fail on the writer's own memory, and
 * the write after them. The reader gets the bytes that the calls returned as
 * written, and no byte of a call that failed.
 *
 * In zpipe a write that fails has already copied bytes to the reader's memory.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"
#include "trap.h"

#define POISON_BYTE	0xee		/* of bytes that must not arrive */

/* Why a page of the writer's buffer is bad. */
enum hole {
	PROTECTED,		/* resident, then PROT_NONE */
	NEVER_READABLE,		/* PROT_NONE before it was ever accessed */
	UNMAPPED,
	NR_HOLES,
};

/* A write of a mebibyte that can read only its first @good bytes. */
struct bad_write {
	int fd;
	unsigned long off;	/* stream offset of the first byte */
	size_t good;
	enum hole hole;
	bool segments;
};

/* The result of such a write: the whole pages of its good bytes, or -EFAULT. */
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
 * Writes a mebibyte without a bad page. Calls before have written @off bytes to
 * the blocked reader @c, which reads up to a mebibyte.
 */
static void good_write(struct __test_metadata *_metadata, struct ends *e,
		       struct child *c, long off)
{
	long w = stream_write(e->fd[1], off, MIB), r;

	ASSERT_LT(0, w);
	r = child_join(c);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	read_rest(_metadata, e, r, off + w - r);
	munmap(c->buf, MIB);
}

/*
 * Writes that fail, one for each of @goods, leave the reader blocked. Then a
 * good write is pushed to the same posted read.
 */
static void fail_then_push(struct __test_metadata *_metadata, struct ends *e,
			   struct want want, struct bad_write w,
			   const size_t *goods, int nr)
{
	long posts = fdinfo_number(e->fd[0], "zpipe-posted-reads");
	long before = pushed(e);
	struct child c;
	int i;

	w.fd = e->fd[1];
	child_read_private_to(&c, e, MIB, want);
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
		EXPECT_EQ(posts + 1, fdinfo_number(e->fd[0],
						   "zpipe-posted-reads"));
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
 * DEVIATION: a read that blocked may find bytes of a failed write in its
 * memory, behind those that it returns. They belong to a slot that the write
 * could not complete.
 */
TEST_F_TIMEOUT(all, memory_behind_what_a_read_returns, TIMEOUT)
{
	struct bad_write w = { .fd = self->e.fd[1], .good = 100 };
	struct child c;
	long ret;

	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	child_read_private_to(&c, &self->e, MIB, (struct want) { .after = is_touched });
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

/*
 * Some segments of the reader end in the middle of the bytes that a failed
 * write copies.
 */
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

/* A short write has written the whole pages that it returns. */
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
			child_read_private(&c, &self->e, MIB);
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

/* A failed write of another process. */
TEST_F_TIMEOUT(all, failed_write_of_another_process, TIMEOUT)
{
	struct bad_write w = { .fd = self->e.fd[1], .good = 100 };
	struct child c, other;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_run(&other, child_do_badly, &w);
	EXPECT_EQ(-EFAULT, child_join(&other));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	good_write(_metadata, &self->e, &c, 0);
	if (is_zpipe(variant->kind) && !copies_are_cut(variant->kind))
		EXPECT_EQ(MIB, pushed(&self->e));
}

/*
 * A writer gets stuck in a fault after it has begun to push. Another writer
 * writes meanwhile, which pipe(2) does not allow; see stuck.c.
 */
TEST_F_TIMEOUT(all, write_beside_one_that_is_stuck, TIMEOUT)
{
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true, .off = 3 * MIB,
		.good = 1, .skip = PAGE - 100, .bad = 64, .len = 64 * PAGE,
	};
	struct child c;

	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	stuck_start(&s);
	ASSERT_TRUE(stuck_is(&s));
	if (is_zpipe(variant->kind)) {
		/*
		 * With cut copies a blocking write would wait for another
		 * reader.
		 */
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
