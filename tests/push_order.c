// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several readers that wait: which of them gets a large write, and who is woken
 * for it. It is the reader that has waited longest, as in fs/pipe.c, whose wait
 * queue is exclusive; in zpipe also where the write goes straight to a reader.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"

/* A reader with room for @room bytes waits behind those that do already. */
static void queue_reader(struct __test_metadata *_metadata, struct ends *e,
			 struct child *c, long room)
{
	child_take(c, e, room);
	ASSERT_TRUE(child_asleep(c));
}

/* What a reader got, which should be @want bytes of the stream at @off. */
static void expect_got(struct __test_metadata *_metadata, struct child *c,
		       long off, long want)
{
	long r = child_join(c);

	EXPECT_EQ(want, r);
	EXPECT_EQ(-1, stream_diff(c->buf, off, r < 0 ? 0 : r));
}

/* The first reader has no room for a push. */
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
	take_rest(_metadata, &self->e, 100 + r, w - 100 - r);
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
	take_rest(_metadata, &self->e, 15000 + r, w - 15000 - r);
}

/* The first one is interrupted, and the second is first then. */
static void first_leaves(struct __test_metadata *_metadata, struct ends *e,
			 long room)
{
	struct child first, second;
	long w, r;

	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	queue_reader(_metadata, e, &first, room);
	queue_reader(_metadata, e, &second, MIB);
	child_signal(&first, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&first));
	EXPECT_TRUE(child_stays_asleep(&second));
	w = stream_write(e->fd[1], 0, MIB);
	ASSERT_LT(0, w);
	r = child_join(&second);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(second.buf, 0, r));
	take_rest(_metadata, e, r, w - r);
}

TEST_F_TIMEOUT(all, small_reader_in_front_leaves, TIMEOUT)
{
	first_leaves(_metadata, &self->e, 100);
}

/* Likewise one that could have been pushed to. */
TEST_F_TIMEOUT(all, large_reader_in_front_leaves, TIMEOUT)
{
	first_leaves(_metadata, &self->e, MIB);
}

/*
 * One write for the first of three: the others do not even wake up. All of it is
 * taken, so that nothing is left for the next one.
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

/* Each of three writes is for the next one, all of it. */
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

/* What the first leaves is for the second, who is told. */
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
	/* Of pipe(2) the first took all. */
	if (w == first)
		w += stream_write(self->e.fd[1], w, 1000);
	expect_got(_metadata, &c[1], first, 100);
	take_rest(_metadata, &self->e, first + 100, w - first - 100);
}

static long child_do_poll(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int ret = poll(&p, 1, -1);

	return ret < 0 ? ret : p.revents;
}

/* Pollers are not in the queue: all of them hear of what is left. */
TEST_F_TIMEOUT(all, pollers_hear_of_the_rest_of_a_push, TIMEOUT)
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
		/* One before the reader and one behind it. */
		if (!i)
			queue_reader(_metadata, &self->e, &c, 200000);
	}
	ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	EXPECT_EQ(0, events(ep));
	EXPECT_LE(FULL, stream_write(self->e.fd[1], 0, MIB));
	EXPECT_LT(0, child_join(&c));
	/* Of pipe(2), and with cut copies, the reader may have taken all. */
	if (!fionread(self->e.fd[0]))
		EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
	EXPECT_EQ(POLLIN, child_join(&p[0]));
	EXPECT_EQ(POLLIN, child_join(&p[1]));
	EXPECT_TRUE(was_pushed(&self->e));
}

TEST_HARNESS_MAIN
