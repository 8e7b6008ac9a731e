// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals for blocked readers and writers: which calls are interrupted, which restart,
 * and which count they return. No byte and no wakeup may be lost.
 */
#include "oracle.h"
#include "child.h"

#include <sys/time.h>

#define FULL		(SLOTS * PAGE)

TEST_F_TIMEOUT(all, blocked_read_eintr, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
}

TEST_F_TIMEOUT(all, blocked_read_restarts, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, SA_RESTART);
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_TRUE(eventually(c.report->signals == 1));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, 10));
}

TEST_F_TIMEOUT(all, ignored_signal_disturbs_nobody, TIMEOUT)
{
	struct child c;

	signal(SIGUSR1, SIG_IGN);
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

/* Bytes that arrive after an interrupted read are left for the next reader. */
TEST_F_TIMEOUT(all, interrupted_read_consumes_nothing, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_EQ(-EINTR, child_join(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 10));
}

TEST_F_TIMEOUT(all, blocked_write_eintr, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&c, &self->e, FULL, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, blocked_write_restarts, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, SA_RESTART);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&c, &self->e, FULL, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_TRUE(eventually(c.report->signals == 1));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(10, stream_read(self->e.fd[0], FULL, 20));
}

/* A write that has written something returns its count, with or without SA_RESTART. */
static void interrupt_begun_write(struct __test_metadata *_metadata,
				  struct ends *e, int sa_flags)
{
	struct child c;

	catch_signal(SIGUSR1, sa_flags);
	child_write(&c, e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(FULL, fionread(e->fd[0]));
	EXPECT_EQ(FULL, stream_read(e->fd[0], 0, 3 * FULL));
}

TEST_F_TIMEOUT(all, begun_write_is_partial, TIMEOUT)
{
	interrupt_begun_write(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, begun_write_never_restarts, TIMEOUT)
{
	interrupt_begun_write(_metadata, &self->e, SA_RESTART);
}

TEST_F_TIMEOUT(all, partial_count_is_exact, TIMEOUT)
{
	struct child c;
	long before;

	catch_signal(SIGUSR1, 0);
	child_write(&c, &self->e, 0, 5 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE + 100, stream_read(self->e.fd[0], FULL, PAGE + 100));
	ASSERT_TRUE(child_asleep(&c));
	before = fionread(self->e.fd[0]);
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(2 * FULL + PAGE, child_join(&c));
	/* All announced bytes are still in the pipe. */
	EXPECT_EQ(before, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL - 100, stream_read(self->e.fd[0], FULL + PAGE + 100,
					  2 * FULL));
}

TEST_F_TIMEOUT(all, killed_writer_leaves_what_it_announced, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], FULL, 2 * FULL));
	close_end(&self->e, 1);
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(all, next_writer_after_a_killed_one, TIMEOUT)
{
	struct child a, b;

	child_write(&a, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&a));
	child_write(&b, &self->e, FULL, FULL);
	ASSERT_TRUE(child_asleep(&b));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&a));
	EXPECT_TRUE(child_stays_asleep(&b));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(FULL, child_join(&b));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], FULL, 2 * FULL));
}

TEST_F_TIMEOUT(all, killed_reader_consumes_nothing, TIMEOUT)
{
	struct child c;

	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

/* The last reader is killed while a writer is blocked. */
TEST_F_TIMEOUT(all, killed_last_reader_ends_the_write, TIMEOUT)
{
	struct ends other;
	struct child r, w;

	ASSERT_EQ(0, ends_make(&other, variant->kind));
	ASSERT_EQ(0, open_ends(&other, 0));
	signal(SIGPIPE, SIG_IGN);
	child_write(&w, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&w));
	/* The child reads from another pipe, and holds the read end of this one, too. */
	child_read(&r, &other, 10);
	ASSERT_TRUE(child_asleep(&r));
	close_end(&self->e, 0);
	EXPECT_TRUE(child_stays_asleep(&w));
	child_kill(&r);
	EXPECT_EQ(FULL, child_join(&w));
	ends_free(&other);
}

TEST_F_TIMEOUT(all, stopped_reader_reads_on, TIMEOUT)
{
	struct child c;

	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
	child_signal(&c, SIGCONT);
	EXPECT_EQ(10, child_join(&c));
}

TEST_F_TIMEOUT(all, stopped_reader_consumes_nothing, TIMEOUT)
{
	struct child c;

	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 10));
	child_signal(&c, SIGCONT);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, stopped_write_that_has_not_begun, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&c, &self->e, FULL, 10);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	child_signal(&c, SIGCONT);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(10, child_join(&c));
}

/* A stop interrupts like any signal: a write that has written something returns. */
TEST_F_TIMEOUT(all, stopped_write_that_has_begun, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 3 * FULL));
	child_signal(&c, SIGCONT);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/*
 * If a description gets O_NONBLOCK during a blocked write, the write returns at its
 * next wakeup.
 */
TEST_F_TIMEOUT(all, o_nonblock_set_during_a_blocked_write, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(FULL + PAGE, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], PAGE, 2 * FULL));
}

/*
 * A reader gets a signal just as it is woken. It may read the byte or return EINTR. In
 * the latter case the other reader must be woken for the byte.
 */
TEST_F_TIMEOUT(all, signal_loses_no_readers_wakeup, TIMEOUT)
{
	struct child a, b;
	long first, second;
	int i;

	catch_signal(SIGUSR1, 0);
	for (i = 0; i < 20; i++) {
		child_read(&a, &self->e, 1);
		ASSERT_TRUE(child_asleep(&a));
		child_read(&b, &self->e, 1);
		ASSERT_TRUE(child_asleep(&b));
		ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
		child_signal(&a, SIGUSR1);
		first = child_join(&a);
		ASSERT_TRUE(first == 1 || first == -EINTR);
		if (first == 1)
			ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
		second = child_join(&b);
		ASSERT_EQ(1, second);
		ASSERT_EQ(0, fionread(self->e.fd[0]));
	}
}

TEST_F_TIMEOUT(all, signal_loses_no_writers_wakeup, TIMEOUT)
{
	struct child a, b;
	long first, second;
	int i;

	catch_signal(SIGUSR1, 0);
	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	for (i = 0; i < 20; i++) {
		child_write(&a, &self->e, 0, PAGE);
		ASSERT_TRUE(child_asleep(&a));
		child_write(&b, &self->e, 0, PAGE);
		ASSERT_TRUE(child_asleep(&b));
		ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
		child_signal(&a, SIGUSR1);
		first = child_join(&a);
		ASSERT_TRUE(first == PAGE || first == -EINTR);
		if (first == PAGE)
			ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
		second = child_join(&b);
		ASSERT_EQ(PAGE, second);
		ASSERT_EQ(FULL, fionread(self->e.fd[0]));
	}
}

/* Many signals during a transfer. Every partial count must be right. */
#define HAIL		(12 * FULL)

static long write_in_hail(struct child *c)
{
	struct itimerval timer = { { 0, 700 }, { 0, 700 } };
	long done = 0, ret;

	setitimer(ITIMER_REAL, &timer, NULL);
	while (done < HAIL) {
		ret = write(c->fd, c->buf + done, HAIL - done);
		if (ret < 0 && errno != EINTR)
			return -1;
		done += ret < 0 ? 0 : ret;
	}
	return done;
}

TEST_F_TIMEOUT(all, writer_in_a_hail_of_signals, TIMEOUT)
{
	struct child c = {
		.fn = write_in_hail, .fd = self->e.fd[1],
		.drop = self->e.fd[0], .buf = shared_alloc(HAIL),
	};
	long off = 0, ret;

	catch_signal(SIGALRM, 0);
	stream_fill(c.buf, 0, HAIL);
	child_start(&c, 0);
	close_end(&self->e, 1);
	while ((ret = stream_read(self->e.fd[0], off, 10000)) > 0) {
		off += ret;
		/* Slow enough that the writer blocks and is interrupted. */
		if (off % 7 == 0)
			usleep(1000);
	}
	EXPECT_EQ(0, ret);
	EXPECT_EQ(HAIL, off);
	EXPECT_EQ(HAIL, child_join(&c));
	EXPECT_LT(0, c.report->signals);
}

static long read_in_hail(struct child *c)
{
	struct itimerval timer = { { 0, 700 }, { 0, 700 } };
	long done = 0, ret;

	setitimer(ITIMER_REAL, &timer, NULL);
	for (;;) {
		ret = stream_read(c->fd, done, 10000);
		if (!ret)
			return done;
		if (ret < 0 && ret != -EINTR)
			return ret;
		done += ret < 0 ? 0 : ret;
	}
}

TEST_F_TIMEOUT(all, reader_in_a_hail_of_signals, TIMEOUT)
{
	struct child c = {
		.fn = read_in_hail, .fd = self->e.fd[0],
		.drop = self->e.fd[1],
	};
	long off = 0;

	catch_signal(SIGALRM, 0);
	child_start(&c, 0);
	close_end(&self->e, 0);
	for (; off < HAIL; off += FULL / 2) {
		ASSERT_EQ(FULL / 2, stream_write(self->e.fd[1], off, FULL / 2));
		usleep(1000);
	}
	close_end(&self->e, 1);
	EXPECT_EQ(HAIL, child_join(&c));
	EXPECT_LT(0, c.report->signals);
}

TEST_HARNESS_MAIN
