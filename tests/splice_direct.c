// SPDX-License-Identifier: GPL-2.0-only
/*
 * splice(2) beside direct transfers: a blocked large write is spliced out, and a splice feeds a
 * blocked large read. Then beside readers and writers that are stuck in page faults.
 */
#include "splice.h"
#include "push.h"
#include "trap.h"

/* Splices until @total bytes have gone through, and reads them at the destination. */
static long through(struct way *w, unsigned long off, size_t total, size_t len)
{
	size_t done = 0;

	while (done < total) {
		long n = move(w, len, 0), m;

		if (n <= 0)
			return n ?: (long)done;
		for (; n; n -= m, done += m) {
			m = stream_read(w->out->fd[0], off + done, n);
			if (m <= 0)
				return m ?: -EIO;
		}
	}
	return done;
}

/* A child's function: writes private memory, which can be posted. */
static long write_private(struct child *c)
{
	unsigned char *p = own_memory(c->len);

	stream_fill(p, 0, c->len);
	return write(c->fd, p, c->len);
}

static void child_write_private(struct child *c, struct ends *e, size_t len)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = write_private, .fd = e->fd[1], .drop = e->fd[0],
		.len = len,
	};
	child_start(c, 0);
}

static long posted(struct way *w)
{
	return fdinfo_number(w->e.fd[0], "zpipe-posted-writes");
}

/* Sizes around the threshold for posting, and lengths of splices around slots. */
BOTH_WAYS(blocked_write_is_spliced)
{
	static const size_t sizes[] = { DIRECT_MIN - 1, DIRECT_MIN, 200001, MIB };
	static const size_t lens[] = { 5000, FULL, MIB };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			struct child c;

			child_write_private(&c, w->in, sizes[i]);
			ASSERT_TRUE(child_asleep(&c));
			ASSERT_EQ(sizes[i], through(w, 0, sizes[i], lens[j]));
			ASSERT_EQ(sizes[i], child_join(&c));
			ASSERT_EQ(0, fionread(w->in->fd[0]));
			ASSERT_EQ(0, fionread(w->out->fd[0]));
		}
	}
}

/* The same, and the path is the one that is meant: a posted write. */
TEST_F_TIMEOUT(from, posted_write_is_spliced, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c;
	long n;

	child_write_private(&c, w->in, MIB);
	ASSERT_TRUE(child_asleep(&c));
	if (is_zpipe(variant->kind))
		ASSERT_LT(0, posted(w));
	n = move(w, 100, SPLICE_F_NONBLOCK);
	EXPECT_EQ(100, n);
	EXPECT_EQ(100, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(MIB - 100, through(w, 100, MIB - 100, FULL));
	EXPECT_EQ(MIB, child_join(&c));
}

/* A reader and a splice take turns at a posted write. */
TEST_F_TIMEOUT(from, posted_write_is_read_and_spliced, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c;
	long off = 0, n;
	int turn;

	child_write_private(&c, w->in, 4 * MIB);
	ASSERT_TRUE(child_asleep(&c));
	for (turn = 0; off < 4 * MIB; turn++) {
		n = turn % 3 ? stream_read(w->in->fd[0], off, 70001) : through(w, off, 9001, 9001);
		ASSERT_LT(0, n);
		off += n;
	}
	EXPECT_EQ(4 * MIB, child_join(&c));
	EXPECT_EQ(0, fionread(w->in->fd[0]));
}

/* The writer is killed or interrupted: what has been announced stays, what was spliced counts. */
TEST_F_TIMEOUT(from, posted_write_is_interrupted, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c;
	long n, left;

	catch_signal(SIGUSR1, 0);
	child_write_private(&c, w->in, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(3 * PAGE, through(w, 0, 3 * PAGE, 3 * PAGE));
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	n = child_join(&c);
	ASSERT_LE(3 * PAGE, n);
	left = fionread(w->in->fd[0]);
	EXPECT_EQ(n, 3 * PAGE + left);
	EXPECT_EQ(left, through(w, 3 * PAGE, left, FULL));
}

/* A blocked large read gets what a splice brings, in whatever way. */
BOTH_WAYS(blocked_read_is_fed)
{
	static const size_t lens[] = { 1, 5000, FULL };
	unsigned int i;
	long n;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		struct child c;

		child_read_private(&c, w->out, 2 * DIRECT_MIN);
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(lens[i], stream_write(w->in->fd[1], 0, lens[i]));
		ASSERT_EQ(lens[i], move(w, lens[i], 0));
		n = child_join(&c);
		ASSERT_LT(0, n);
		EXPECT_EQ(-1, stream_diff(c.buf, 0, n));
		while (n < (long)lens[i]) {
			long m = stream_read(w->out->fd[0], n, FULL);

			ASSERT_LT(0, m);
			n += m;
		}
		EXPECT_EQ(0, fionread(w->out->fd[0]));
	}
}

/* A splice, and behind it a write that would be pushed: the reader gets them in order. */
BOTH_WAYS(splice_before_a_push)
{
	struct child c;
	long written, n, m;

	ASSERT_EQ(0, set_nonblock(w->out->fd[1], true));
	child_read_private(&c, w->out, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	hold_up(&c);
	ASSERT_EQ(10, move(w, 10, 0));
	written = stream_write(w->out->fd[1], 10, MIB);
	let_go();
	ASSERT_LT(0, written);
	n = child_join(&c);
	ASSERT_LE(10, n);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, n));
	for (; n < 10 + written; n += m) {
		m = stream_read(w->out->fd[0], n, MIB);
		ASSERT_LT(0, m);
	}
	EXPECT_EQ(0, fionread(w->out->fd[0]));
}

/* A buffer-only pipe is spliced like any other. */
TEST_F_TIMEOUT(from, buffer_only, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c;

	if (is_zpipe(variant->kind))
		ASSERT_EQ(0, set_flags(w->in->fd[0], ZPIPE_BUFFER_ONLY));
	child_write_private(&c, w->in, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(MIB, through(w, 0, MIB, FULL));
	EXPECT_EQ(MIB, child_join(&c));
}

/* A writer of the source that is stuck after @good bytes. */
static bool stuck_at(struct stuck *s, struct ends *e, bool writes, size_t len, int good)
{
	*s = (struct stuck) {
		.type = UFFD, .e = e, .writes = writes, .len = len, .good = good,
		.bad = (len + PAGE - 1) / PAGE - good,
	};
	stuck_start(s);
	return stuck_is(s);
}

/*
 * A writer is stuck in its own memory. Over pipe(2) the splice waits for the mutex then, so only
 * zpipe is spliced meanwhile.
 */
TEST_F_TIMEOUT(from, beside_a_stuck_writer, TIMEOUT)
{
	struct way *w = &self->w;
	bool zpipe = is_zpipe(variant->kind);
	struct stuck s;

	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	ASSERT_TRUE(stuck_at(&s, w->in, true, 4 * PAGE, 2));
	if (zpipe) {
		EXPECT_EQ(100, move(w, 100, 0));
		EXPECT_EQ(2 * PAGE, move(w, FULL, 0));
		EXPECT_EQ(-EAGAIN, move(w, FULL, SPLICE_F_NONBLOCK));
	}
	stuck_resolve(&s);
	EXPECT_EQ(4 * PAGE, child_join(&s.c));
	EXPECT_EQ(zpipe ? 2 * PAGE : 100 + 4 * PAGE, move(w, FULL, 0));
	EXPECT_EQ(100, stream_read(w->out->fd[0], 0, 100));
	EXPECT_EQ(4 * PAGE, stream_read(w->out->fd[0], 0, FULL));
}

TEST_F_TIMEOUT(from, beside_a_stuck_reader, TIMEOUT)
{
	struct way *w = &self->w;
	bool zpipe = is_zpipe(variant->kind);
	struct stuck s;

	ASSERT_EQ(2 * PAGE, stream_write(w->in->fd[1], 0, 2 * PAGE));
	ASSERT_TRUE(stuck_at(&s, w->in, false, PAGE, 0));
	if (zpipe) {
		EXPECT_EQ(PAGE, move(w, PAGE, 0));
		EXPECT_EQ(PAGE, fionread(w->in->fd[0]));
		EXPECT_EQ(PAGE, stream_read(w->out->fd[0], 0, FULL));
	}
	stuck_resolve(&s);
	EXPECT_EQ(PAGE, child_join(&s.c));
	EXPECT_EQ(-1, stream_diff(s.c.buf, zpipe ? PAGE : 0, PAGE));
	EXPECT_EQ(zpipe ? 0 : PAGE, fionread(w->in->fd[0]));
}

TEST_F_TIMEOUT(into, beside_a_stuck_reader, TIMEOUT)
{
	struct way *w = &self->w;
	bool zpipe = is_zpipe(variant->kind);
	struct stuck s;

	ASSERT_EQ(PAGE, stream_write(w->out->fd[1], 0, PAGE));
	ASSERT_EQ(PAGE, stream_write(w->in->fd[1], PAGE, PAGE));
	ASSERT_TRUE(stuck_at(&s, w->out, false, PAGE, 0));
	if (zpipe)
		EXPECT_EQ(PAGE, move(w, FULL, 0));
	stuck_resolve(&s);
	EXPECT_EQ(PAGE, child_join(&s.c));
	EXPECT_EQ(-1, stream_diff(s.c.buf, 0, PAGE));
	if (!zpipe)
		EXPECT_EQ(PAGE, move(w, FULL, 0));
	EXPECT_EQ(PAGE, stream_read(w->out->fd[0], PAGE, FULL));
}

TEST_F_TIMEOUT(into, beside_a_stuck_writer, TIMEOUT)
{
	struct way *w = &self->w;
	bool zpipe = is_zpipe(variant->kind);
	struct stuck s;

	ASSERT_EQ(PAGE, stream_write(w->in->fd[1], 0, PAGE));
	ASSERT_TRUE(stuck_at(&s, w->out, true, PAGE, 0));
	if (zpipe) {
		EXPECT_EQ(PAGE, move(w, FULL, 0));
		EXPECT_EQ(PAGE, stream_read(w->out->fd[0], 0, FULL));
	}
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&s.c));
	if (!zpipe)
		EXPECT_EQ(PAGE, move(w, FULL, 0));
	EXPECT_EQ(zpipe ? 0 : PAGE, fionread(w->out->fd[0]));
}

/*
 * A posted write whose memory is no longer resident: the splice returns what could be pulled, or
 * waits until the owner has faulted it in. It does not hold up the real pipe meanwhile.
 */
TEST_F_TIMEOUT(from, posted_write_is_not_resident, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c;
	struct stuck s = {
		.type = UFFD, .e = w->in, .writes = true, .later = true, .len = MIB,
		.bad = MIB / PAGE,
	};
	long n;

	stuck_start(&s);
	ASSERT_TRUE(stuck_ready(&s));
	ASSERT_TRUE(child_asleep(&s.c));
	if (is_zpipe(variant->kind))
		ASSERT_LT(0, posted(w));
	ASSERT_TRUE(stuck_take_away(&s));
	child_move(&c, w, FULL, 0);
	if (is_zpipe(variant->kind)) {
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(10, stream_write(w->out->fd[1], 0, 10));
		EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
		EXPECT_EQ(-EAGAIN, move(w, FULL, SPLICE_F_NONBLOCK));
	}
	stuck_resolve(&s);
	n = child_join(&c);
	ASSERT_LT(0, n);
	EXPECT_EQ(n, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(MIB - n, through(w, n, MIB - n, FULL));
	EXPECT_EQ(MIB, child_join(&s.c));
}

TEST_HARNESS_MAIN
