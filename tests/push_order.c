// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several blocked readers: which one gets a large write, and which ones are
 * woken. The reader that has waited longest gets it. fs/pipe.c does the same
 * with an exclusive wait queue; zpipe has to do it for pushes, too.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"

/*
 * Starts a reader of @space bytes; it blocks behind those that block already.
 */
static void queue_reader(struct __test_metadata *_metadata, struct ends *e,
			 struct child *c, long space)
{
	child_read_private(c, e, space);
	ASSERT_TRUE(child_asleep(c));
}

/* The reader has to return @want bytes of the stream from @off on. */
static void expect_got(struct __test_metadata *_metadata, struct child *c,
		       long off, long want)
{
	long r = child_join(c);

	EXPECT_EQ(want, r);
	EXPECT_EQ(-1, stream_diff(c->buf, off, r < 0 ? 0 : r));
}

/* The first reader is too small for a push. */
TEST_F_TIMEOUT(all, small_reader_waits_in_front_of_a_large_one, TIMEOUT)
{
	struct child small, large;
	long w, r;

	if (copies_are_cut(variant->kind))
		SKIP(return, "a reader that faults lets another one pass");
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	queue_reader(_metadata, &self->e, &small, 100);
	queue_reader(_metadata, &self->e, &large, MIB);
	w = stream_write(self->e.fd[1], 0, MIB);
	ASSERT_EQ(FULL, w);
	expect_got(_metadata, &small, 0, 100);
	r = child_join(&large);
	EXPECT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(large.buf, 100, r < 0 ? 0 : r));
	read_rest(_metadata, &self->e, 100 + r, w - 100 - r);
}

TEST_F_TIMEOUT(all, small_readers_wait_in_front_of_a_large_one, TIMEOUT)
{
	struct child small[3], large;
	long w, r;
	int i;

	if (copies_are_cut(variant->kind))
		SKIP(return, "a reader that faults lets another one pass");
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 3; i++)
		queue_reader(_metadata, &self->e, &small[i], 5000);
	queue_reader(_metadata, &self->e, &large, MIB);
	w = stream_write(self->e.fd[1], 0, MIB);
	ASSERT_EQ(FULL, w);
	for (i = 0; i < 3; i++)
		expect_got(_metadata, &small[i], i * 5000, 5000);
	r = child_join(&large);
	EXPECT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(large.buf, 15000, r < 0 ? 0 : r));
	read_rest(_metadata, &self->e, 15000 + r, w - 15000 - r);
}

/*
 * A signal interrupts the first of two readers. The second one gets the write.
 */
static void first_leaves(struct __test_metadata *_metadata, struct ends *e,
			 long space)
{
	struct child first, second;
	long w, r;

	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	queue_reader(_metadata, e, &first, space);
	queue_reader(_metadata, e, &second, MIB);
	child_signal(&first, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&first));
	EXPECT_TRUE(child_stays_asleep(&second));
	w = stream_write(e->fd[1], 0, MIB);
	ASSERT_LT(0, w);
	r = child_join(&second);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(second.buf, 0, r));
	read_rest(_metadata, e, r, w - r);
}

TEST_F_TIMEOUT(all, small_reader_in_front_leaves, TIMEOUT)
{
	first_leaves(_metadata, &self->e, 100);
}

/* The first reader posted its read. */
TEST_F_TIMEOUT(all, large_reader_in_front_leaves, TIMEOUT)
{
	first_leaves(_metadata, &self->e, MIB);
}

/*
 * A write that only fills the read of the first of three readers does not wake
 * the others, not even to look.
 */
TEST_F_TIMEOUT(all, one_large_write_wakes_the_first_reader_only, TIMEOUT)
{
	bool cut = copies_are_cut(variant->kind);
	long before[3], want, w;
	struct child c[3];
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 3; i++)
		queue_reader(_metadata, &self->e, &c[i], MIB);
	for (i = 0; i < 3; i++) {
		before[i] = task_sleeps(c[i].pid);
		ASSERT_LT(0, before[i]);
	}
	w = stream_write(self->e.fd[1], 0, MIB);
	want = is_zpipe(variant->kind) ? MIB : FULL;
	if (!cut) {
		EXPECT_EQ(want, w);
		EXPECT_EQ(is_zpipe(variant->kind) ? MIB : 0, pushed(&self->e));
		expect_got(_metadata, &c[0], 0, want);
	} else {
		EXPECT_TRUE(eventually(child_done(&c[0]) || child_done(&c[1]) ||
				       child_done(&c[2])));
	}
	for (i = 1; !cut && i < 3; i++) {
		EXPECT_TRUE(child_stays_asleep(&c[i]));
		EXPECT_EQ(before[i], task_sleeps(c[i].pid))
			TH_LOG("reader %d", i);
	}
	for (i = 0; i < 3; i++)
		child_kill(&c[i]);
}

/* Each of three writes goes to the next reader, and is read whole. */
TEST_F_TIMEOUT(all, large_writes_go_to_readers_in_order, TIMEOUT)
{
	long off = 0, w;
	struct child c[3];
	int i;

	if (copies_are_cut(variant->kind))
		SKIP(return, "a reader that faults lets another one pass");
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 3; i++)
		queue_reader(_metadata, &self->e, &c[i], 300000);
	for (i = 0; i < 3; i++) {
		w = stream_write(self->e.fd[1], off, 200000);
		EXPECT_LE(FULL, w);
		expect_got(_metadata, &c[i], off, w);
		off += w;
	}
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_TRUE(was_pushed(&self->e));
}

/*
 * The first reader's posted read is too small for the write. The second reader
 * is woken for the rest.
 */
TEST_F_TIMEOUT(all, rest_of_a_push_goes_to_the_next_reader, TIMEOUT)
{
	long first = is_zpipe(variant->kind) ? 200000 : FULL, w;
	struct child c[2];

	if (copies_are_cut(variant->kind))
		SKIP(return, "a reader that faults lets another one pass");
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	queue_reader(_metadata, &self->e, &c[0], 200000);
	queue_reader(_metadata, &self->e, &c[1], 100);
	w = stream_write(self->e.fd[1], 0, MIB);
	EXPECT_EQ(in_all(&self->e, 200000, MIB), w);
	expect_got(_metadata, &c[0], 0, first);
	/* In pipe(2) the first reader has read everything. */
	if (w == first)
		w += stream_write(self->e.fd[1], w, 1000);
	expect_got(_metadata, &c[1], first, 100);
	read_rest(_metadata, &self->e, first + 100, w - first - 100);
}

static long child_do_poll(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int ret = poll(&p, 1, -1);

	return ret < 0 ? ret : p.revents;
}

/* All pollers are woken by the rest of a push: they do not wait exclusively. */
TEST_F_TIMEOUT(all, pollers_are_woken_by_the_rest_of_a_push, TIMEOUT)
{
	struct child c, p[2];
	int ep, i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 2; i++) {
		p[i] = (struct child) {
			.nr = SYS_poll, .fn = child_do_poll,
			.fd = self->e.fd[0], .drop = self->e.fd[1],
		};
		child_start(&p[i], 0);
		ASSERT_TRUE(child_asleep(&p[i]));
		/* One poller waits before the reader and one after it. */
		if (!i)
			queue_reader(_metadata, &self->e, &c, 200000);
	}
	ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	EXPECT_EQ(0, events(ep));
	EXPECT_LE(FULL, stream_write(self->e.fd[1], 0, MIB));
	EXPECT_LT(0, child_join(&c));
	/*
	 * In pipe(2), and with cut copies, the reader may have read everything.
	 */
	if (!fionread(self->e.fd[0]))
		EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
	EXPECT_EQ(POLLIN, child_join(&p[0]));
	EXPECT_EQ(POLLIN, child_join(&p[1]));
	EXPECT_TRUE(was_pushed(&self->e));
}

TEST_HARNESS_MAIN
