// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocked large reads, continued from push.c: signals, ends that are closed,
 * and writes that are not pushed.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"

/* Signals. */

TEST_F_TIMEOUT(all, signal_before_the_write, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	catch_signal(SIGUSR1, 0);
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
	feed_nobody(_metadata, &self->e);
}

TEST_F_TIMEOUT(all, signal_that_restarts_the_read, TIMEOUT)
{
	struct child c;
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	catch_signal(SIGUSR1, SA_RESTART);
	child_read_private(&c, &self->e, MIB);
	for (i = 1; i < 4; i++) {
		ASSERT_TRUE(child_asleep(&c));
		child_signal(&c, SIGUSR1);
		EXPECT_TRUE(eventually(c.report->signals == i));
	}
	feed(_metadata, &self->e, &c, MIB, MIB);
}

/*
 * A signal after a push: the read returns the pushed bytes, with and without
 * SA_RESTART.
 */
TEST_F_TIMEOUT(all, signal_after_the_write, TIMEOUT)
{
	struct child c;
	long w;
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 4; i++) {
		catch_signal(SIGUSR1, i & 1 ? SA_RESTART : 0);
		child_read_private(&c, &self->e, MIB);
		ASSERT_TRUE(child_asleep(&c));
		hold_up(&c);
		w = stream_write(self->e.fd[1], 0, MIB);
		child_signal(&c, SIGUSR1);
		if (i & 2)
			child_signal(&c, SIGSTOP);
		usleep(1000);
		child_signal(&c, SIGCONT);
		expect_fed(_metadata, &self->e, &c, MIB, MIB, w);
		EXPECT_EQ(1, c.report->signals);
	}
}

TEST_F_TIMEOUT(all, stopped_reader_gets_no_push, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	feed_nobody(_metadata, &self->e);
	child_signal(&c, SIGCONT);
	feed(_metadata, &self->e, &c, MIB, MIB);
}

TEST_F_TIMEOUT(all, killed_reader_gets_nothing, TIMEOUT)
{
	struct child c, next;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_read_private(&next, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&next));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_LT(0, stream_write(self->e.fd[1], 0, MIB));
	EXPECT_LT(0, child_join(&next));
	while (fionread(self->e.fd[0]))
		ASSERT_LT(0, sys(read(self->e.fd[0], c.buf, MIB)));
	child_read_private(&next, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&next));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&next));
	feed_nobody(_metadata, &self->e);
	child_read_private(&c, &self->e, MIB);
	feed(_metadata, &self->e, &c, MIB, MIB);
}

/*
 * The reader is killed at about the time of the write, which succeeds all the
 * same.
 */
TEST_F_TIMEOUT(all, reader_killed_with_the_write, TIMEOUT)
{
	struct child c;
	long w;
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 10; i++) {
		child_read_private(&c, &self->e, MIB);
		ASSERT_TRUE(child_asleep(&c));
		if (i == 5)
			hold_up(&c);
		if (i & 1)
			child_signal(&c, SIGKILL);
		w = stream_write(self->e.fd[1], 0, MIB);
		EXPECT_LE(FULL, w);
		child_kill(&c);
		munmap(c.buf, MIB);
		while (fionread(self->e.fd[0]))
			ASSERT_LT(0, stream_read(self->e.fd[0], w -
						 fionread(self->e.fd[0]), MIB));
		EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	}
}

/* Ends are closed. */

TEST_F_TIMEOUT(all, last_writer_leaves, TIMEOUT)
{
	struct child c, d;

	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_read_private(&d, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&d));
	close_end(&self->e, 1);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_EQ(0, child_join(&d));
}

TEST_F_TIMEOUT(all, writer_leaves_directly_behind_its_write, TIMEOUT)
{
	struct child c;
	long w, r;

	read_held_up(_metadata, &self->e, &c, MIB);
	w = stream_write(self->e.fd[1], 0, MIB);
	close_end(&self->e, 1);
	r = child_join(&c);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
	EXPECT_EQ(w - r, drain(self->e.fd[0], r, MIB, MIB));
}

TEST_F_TIMEOUT(all, descriptor_is_closed_meanwhile, TIMEOUT)
{
	struct thread_read t = {
		.fd = self->e.fd[0], .buf = own_memory(MIB), .len = MIB,
	};
	long w;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	ASSERT_TRUE(thread_reads(&t));
	close_end(&self->e, 0);
	w = stream_write(self->e.fd[1], 0, MIB);
	pthread_join(t.thread, NULL);
	if (!copies_are_cut(variant->kind)) {
		EXPECT_EQ(for_reader(&self->e, MIB, MIB), t.ret);
		EXPECT_EQ(t.ret, w);
	}
	EXPECT_LT(0, t.ret);
	EXPECT_EQ(-1, stream_diff(t.buf, 0, t.ret));
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, MIB));
}

/* Writes that are not pushed, and reads that are not posted. */

TEST_F_TIMEOUT(all, packets, TIMEOUT)
{
	long w, off, flags = fcntl(self->e.fd[1], F_GETFL);
	struct child c;

	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL,
			   flags | O_NONBLOCK | O_DIRECT));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	w = stream_write(self->e.fd[1], 0, MIB);
	if (!copies_are_cut(variant->kind))
		EXPECT_EQ(FULL, w);
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, PAGE));
	for (off = PAGE; off < w; off += PAGE)
		ASSERT_EQ(PAGE, stream_read(self->e.fd[0], off, MIB));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(0, pushed(&self->e));
}

TEST_F_TIMEOUT(all, small_writes, TIMEOUT)
{
	static const long lens[] = { 1, PIPE_BUF, PIPE_BUF + 1, FULL };
	struct child c;
	size_t i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		child_read_private(&c, &self->e, MIB);
		feed(_metadata, &self->e, &c, MIB, lens[i]);
	}
	EXPECT_EQ(0, pushed(&self->e));
}

/* A read that does not block is not posted. */
TEST_F_TIMEOUT(all, reads_that_do_not_wait, TIMEOUT)
{
	unsigned char *buf = own_memory(MIB);
	struct iovec iov = { buf, MIB };
	long n;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	n = sys(preadv2(self->e.fd[0], &iov, 1, -1, RWF_NOWAIT));
	EXPECT_EQ(is_named(variant->kind) ? -EOPNOTSUPP : -EAGAIN, n);
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, sys(read(self->e.fd[0], buf, MIB)));
	feed_nobody(_metadata, &self->e);
	EXPECT_EQ(0, pushed(&self->e));
}

TEST_F_TIMEOUT(unnamed, write_with_rwf_nowait, TIMEOUT)
{
	unsigned char *from = own_memory(MIB);
	struct iovec iov = { from, MIB };
	struct child c;
	long w;

	stream_fill(from, 0, MIB);
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	w = sys(pwritev2(self->e.fd[1], &iov, 1, -1, RWF_NOWAIT));
	expect_fed(_metadata, &self->e, &c, MIB, MIB, w);
}

TEST_HARNESS_MAIN
