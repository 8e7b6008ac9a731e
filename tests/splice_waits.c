// SPDX-License-Identifier: GPL-2.0-only
/*
 * splice(2) that blocks, in both directions: what it waits for, what ends the wait, whom it wakes,
 * and who can use the two pipes meanwhile.
 */
#include "splice.h"
#include "large.h"

BOTH_WAYS(waits_for_bytes)
{
	struct child c;

	child_move(&c, w, FULL, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(0, fionread(w->in->fd[0]));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
}

BOTH_WAYS(waits_for_end_of_file)
{
	struct child c;

	child_move(&c, w, FULL, 0);
	ASSERT_TRUE(child_asleep(&c));
	close_end(w->in, 1);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_EQ(0, poll_mask(w->out->fd[0]));
}

BOTH_WAYS(waits_for_a_free_slot)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(5000, stream_write(w->in->fd[1], FULL, 5000));
	child_move(&c, w, FULL, 0);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(5000, fionread(w->in->fd[0]));
	ASSERT_EQ(PAGE, stream_read(w->out->fd[0], 0, PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(5000 - PAGE, fionread(w->in->fd[0]));
	EXPECT_EQ(FULL, stream_read(w->out->fd[0], PAGE, 2 * FULL));
}

/* A read that frees no slot wakes nobody. */
BOTH_WAYS(part_of_a_slot_is_no_free_slot)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	child_move(&c, w, 10, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(100, stream_read(w->out->fd[0], 0, 100));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(PAGE - 100, stream_read(w->out->fd[0], 100, PAGE - 100));
	EXPECT_EQ(10, child_join(&c));
}

BOTH_WAYS(larger_capacity_ends_the_wait)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	child_move(&c, w, 10, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(2 * FULL, set_capacity(w->out->kind, w->out->fd[0], 2 * FULL));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(FULL + 10, stream_read(w->out->fd[0], 0, 2 * FULL));
}

BOTH_WAYS(last_reader_leaves_a_full_destination)
{
	struct child c;

	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	child_move(&c, w, 10, 0);
	ASSERT_TRUE(child_asleep(&c));
	close_end(w->out, 0);
	EXPECT_EQ(-EPIPE, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
	EXPECT_EQ(10, stream_read(w->in->fd[0], 0, 20));
}

/* While it waits for bytes it does not look at readers. The bytes stay in the source. */
BOTH_WAYS(last_reader_leaves_an_empty_source)
{
	struct child c;

	catch_signal(SIGPIPE, 0);
	child_move(&c, w, 10, 0);
	ASSERT_TRUE(child_asleep(&c));
	close_end(w->out, 0);
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(-EPIPE, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
	EXPECT_EQ(10, stream_read(w->in->fd[0], 0, 20));
}

/* Makes a splice block: @full says that it waits for space, otherwise for bytes. */
static void blocked(struct __test_metadata *_metadata, struct way *w, struct child *c, bool full)
{
	if (full) {
		ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
		ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	}
	child_move(c, w, 10, 0);
	ASSERT_TRUE(child_asleep(c));
}

/* Ends that wait, and checks that all bytes are there. */
static void released(struct __test_metadata *_metadata, struct way *w, struct child *c, bool full)
{
	long before;

	if (full)
		before = stream_read(w->out->fd[0], 0, FULL);
	else
		before = stream_write(w->in->fd[1], 0, 10) - 10;
	ASSERT_EQ(full ? FULL : 0, before);
	EXPECT_EQ(10, c ? child_join(c) : move(w, 10, 0));
	EXPECT_EQ(0, fionread(w->in->fd[0]));
	EXPECT_EQ(10, stream_read(w->out->fd[0], before, FULL));
}

BOTH_WAYS(signal_eintr)
{
	struct child c;
	int full;

	catch_signal(SIGUSR1, 0);
	for (full = 0; full < 2; full++) {
		blocked(_metadata, w, &c, full);
		child_signal(&c, SIGUSR1);
		EXPECT_EQ(-EINTR, child_join(&c));
		EXPECT_EQ(full ? 10 : 0, fionread(w->in->fd[0]));
		released(_metadata, w, NULL, full);
	}
}

BOTH_WAYS(signal_restarts)
{
	struct child c;
	int full;

	catch_signal(SIGUSR1, SA_RESTART);
	for (full = 0; full < 2; full++) {
		blocked(_metadata, w, &c, full);
		child_signal(&c, SIGUSR1);
		ASSERT_TRUE(eventually(c.report->signals == 1));
		ASSERT_TRUE(child_asleep(&c));
		released(_metadata, w, &c, full);
	}
}

BOTH_WAYS(kill_ends_it)
{
	struct child c;
	int full;

	for (full = 0; full < 2; full++) {
		blocked(_metadata, w, &c, full);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
		EXPECT_EQ(full ? 10 : 0, fionread(w->in->fd[0]));
		released(_metadata, w, NULL, full);
	}
}

static long poll_once(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = c->flags };

	return poll(&p, 1, -1) < 0 ? -1 : p.revents;
}

/* A reader, a poll and an epoll instance wait at the destination. */
BOTH_WAYS(wakes_readers)
{
	struct child c[2] = {
		{ 0 }, { .nr = SYS_poll, .fn = poll_once, .fd = w->out->fd[0], .drop = -1,
			 .flags = POLLIN },
	};
	int edge = watch(w->out->fd[0], EPOLLIN | EPOLLET);

	child_read(&c[0], w->out, 10);
	child_start(&c[1], 0);
	ASSERT_TRUE(child_asleep(&c[0]));
	ASSERT_TRUE(child_asleep(&c[1]));
	EXPECT_EQ(0, events(edge));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	ASSERT_EQ(50, move(w, 50, 0));
	EXPECT_EQ(10, child_join(&c[0]));
	EXPECT_EQ(-1, stream_diff(c[0].buf, 0, 10));
	EXPECT_EQ(POLLIN, child_join(&c[1]));
	EXPECT_EQ(EPOLLIN, events(edge));
	EXPECT_EQ(0, events(edge));
	ASSERT_EQ(50, move(w, 50, 0));
	EXPECT_EQ(EPOLLIN, events(edge));
	EXPECT_EQ(90, stream_read(w->out->fd[0], 10, FULL));
}

/* A writer, a poll and an epoll instance wait at the source. */
BOTH_WAYS(wakes_writers)
{
	struct child c[2] = {
		{ 0 }, { .nr = SYS_poll, .fn = poll_once, .fd = w->in->fd[1], .drop = -1,
			 .flags = POLLOUT },
	};
	int edge = watch(w->in->fd[1], EPOLLOUT | EPOLLET);

	events(edge);
	ASSERT_EQ(FULL, stream_write(w->in->fd[1], 0, FULL));
	child_write(&c[0], w->in, FULL, PAGE);
	child_start(&c[1], 0);
	ASSERT_TRUE(child_asleep(&c[0]));
	ASSERT_TRUE(child_asleep(&c[1]));
	events(edge);
	/* A part of a slot frees none. */
	ASSERT_EQ(100, move(w, 100, 0));
	EXPECT_TRUE(child_stays_asleep(&c[0]));
	ASSERT_EQ(3 * PAGE, move(w, 3 * PAGE, 0));
	EXPECT_EQ(PAGE, child_join(&c[0]));
	EXPECT_EQ(POLLOUT, child_join(&c[1]));
	EXPECT_EQ(EPOLLOUT, events(edge));
	EXPECT_EQ(FULL + PAGE - 100 - 3 * PAGE, fionread(w->in->fd[0]));
	EXPECT_EQ(3 * PAGE + 100, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(FULL - 2 * PAGE - 100, move(w, FULL, 0));
	EXPECT_EQ(FULL - 2 * PAGE - 100, stream_read(w->out->fd[0], 3 * PAGE + 100, FULL));
}

/* What others do with a pipe of a blocked splice. They must not wait for it. */
static long use_pipe(struct child *c)
{
	struct ends *e = c->arg;
	long before = fionread(e->fd[0]);
	char buf[10];
	int fd;

	if (stream_write(e->fd[1], 0, 10) != 10)
		return 1;
	if (!(poll_mask(e->fd[0]) & POLLIN) || !(poll_mask(e->fd[1]) & POLLOUT))
		return 2;
	if (fionread(e->fd[0]) != before + 10)
		return 3;
	if (read(e->fd[0], buf, 10) != 10)
		return 4;
	if (get_capacity(e->kind, e->fd[0]) != FULL)
		return 5;
	if (!is_named(e->kind))
		return 0;
	fd = open(e->path, O_RDWR | O_NONBLOCK);
	return fd < 0 || close(fd) ? 6 : 0;
}

/*
 * A splice that waits for bytes. Then both pipes can be used: the destination, and the source as
 * far as nothing is written to it.
 */
BOTH_WAYS(others_use_the_destination)
{
	struct child c, other;

	blocked(_metadata, w, &c, false);
	child_run(&other, use_pipe, w->out);
	EXPECT_EQ(0, child_join(&other));
	EXPECT_EQ(0, poll_mask(w->in->fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(w->in->fd[1]));
	EXPECT_EQ(0, fionread(w->in->fd[1]));
	EXPECT_TRUE(child_asleep(&c));
	released(_metadata, w, &c, false);
}

/* A splice that waits for space. Then the source can be used. */
BOTH_WAYS(others_use_the_source)
{
	struct child c, other;

	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	child_move(&c, w, FULL, 0);
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	ASSERT_TRUE(child_asleep(&c));
	/* It finds the same ten bytes in the pipe, and leaves ten. */
	child_run(&other, use_pipe, w->in);
	EXPECT_EQ(0, child_join(&other));
	EXPECT_TRUE(child_asleep(&c));
	EXPECT_EQ(10, fionread(w->in->fd[0]));
	ASSERT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
}

/* Somebody else reads the source while the splice waits for space. */
BOTH_WAYS(others_empty_the_source)
{
	struct child c;

	blocked(_metadata, w, &c, true);
	ASSERT_EQ(10, stream_read(w->in->fd[0], FULL, FULL));
	ASSERT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(7, stream_write(w->in->fd[1], 0, 7));
	EXPECT_EQ(7, child_join(&c));
	EXPECT_EQ(7, stream_read(w->out->fd[0], 0, FULL));
}

/* Somebody else fills the destination while the splice waits for bytes. */
BOTH_WAYS(others_fill_the_destination)
{
	struct child c;

	blocked(_metadata, w, &c, false);
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	EXPECT_TRUE(child_stays_asleep(&c));
	EXPECT_EQ(10, fionread(w->in->fd[0]));
	ASSERT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(10, stream_read(w->out->fd[0], FULL, FULL));
}

/*
 * DEVIATION: if the read end has O_DIRECT, the kernel reads it with the mutex of its own pipe held.
 * So zpipe does not wait for bytes then. O_DIRECT has no meaning for read ends of pipe(2).
 */
TEST_F_TIMEOUT(from, read_end_with_o_direct, TIMEOUT)
{
	struct way *w = &self->w;
	struct child c, other;

	ASSERT_EQ(0, set_direct(w->in->fd[0], true));
	if (!is_zpipe(variant->kind))
		blocked(_metadata, w, &c, false);
	else
		EXPECT_EQ(-EAGAIN, move(w, 10, 0));
	child_run(&other, use_pipe, w->out);
	EXPECT_EQ(0, child_join(&other));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(10, is_zpipe(variant->kind) ? move(w, 10, 0) : child_join(&c));
}

/* DEVIATION: the kernel then reads one packet, and does not mark it. */
TEST_F_TIMEOUT(from, packets_for_a_read_end_with_o_direct, TIMEOUT)
{
	struct way *w = &self->w;

	ASSERT_EQ(0, set_direct(w->in->fd[0], true));
	ASSERT_EQ(0, set_direct(w->in->fd[1], true));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 10, 10));
	EXPECT_EQ(is_zpipe(variant->kind) ? 10 : 20, move(w, FULL, 0));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
}

/* Each write ends the wait of one splice, and no bytes are spliced twice. */
BOTH_WAYS(splices_wait_for_each_other)
{
	struct child c[3];
	int i, done, left;

	for (i = 0; i < 3; i++) {
		child_move(&c[i], w, 10, 0);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(10, stream_write(w->in->fd[1], i * 10, 10));
		ASSERT_TRUE(eventually(fionread(w->out->fd[0]) == 10));
		ASSERT_EQ(10, stream_read(w->out->fd[0], i * 10, FULL));
		for (done = left = 0; left < 3; left++)
			done += child_done(&c[left]);
		EXPECT_GE(i + 1, done);
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(10, child_join(&c[i]));
}

/* Two splices and three pipes, all empty: one write goes through all of them. */
BOTH_WAYS(chain)
{
	struct way next;
	struct child c[2], reader;
	struct ends spare;

	ASSERT_EQ(0, way_make(&next, w->e.kind, w->out == &w->e));
	/* The destination of the first splice is the source of the second. */
	spare = *next.in;
	*next.in = *w->out;
	child_move(&c[0], w, 5000, 0);
	child_move(&c[1], &next, 5000, 0);
	child_read(&reader, next.out, 5000);
	ASSERT_TRUE(child_asleep(&c[0]));
	ASSERT_TRUE(child_asleep(&c[1]));
	ASSERT_TRUE(child_asleep(&reader));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	EXPECT_EQ(100, child_join(&c[0]));
	EXPECT_EQ(100, child_join(&c[1]));
	EXPECT_EQ(100, child_join(&reader));
	EXPECT_EQ(-1, stream_diff(reader.buf, 0, 100));
	*next.in = spare;
	way_free(&next);
}

TEST_HARNESS_MAIN
