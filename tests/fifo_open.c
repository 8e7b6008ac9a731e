// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening a named pipe, as fifo(7) and fifo_open() in fs/pipe.c do it. The tests check
 * which open blocks until which other open, and what an interrupted open leaves behind.
 */
#include "oracle.h"
#include "child.h"

#include <sys/epoll.h>
#include <sys/mount.h>

/* Opens @path in a place where open(2) must not block. Returns a descriptor or -errno. */
static long open_now(const char *path, int flags)
{
	return sys(open(path, flags));
}

TEST_F_TIMEOUT(named, reader_waits_for_writer, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, writer_waits_for_reader, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_RDONLY));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, rdwr_never_waits, TIMEOUT)
{
	EXPECT_LE(0, open_now(self->e.path, O_RDWR));
}

TEST_F_TIMEOUT(named, rdwr_reads_its_own_writes, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(100, stream_write(fd, 0, 100));
	EXPECT_EQ(100, stream_read(fd, 0, 200));
}

TEST_F_TIMEOUT(named, rdwr_frees_waiting_reader, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_RDWR));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, rdwr_frees_waiting_writer, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_RDWR));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, nonblock_reader_opens_alone, TIMEOUT)
{
	int fd = open(self->e.path, O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, stream_read(fd, 0, 1));
}

TEST_F_TIMEOUT(named, nonblock_writer_alone_enxio, TIMEOUT)
{
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, nonblock_writer_with_reader, TIMEOUT)
{
	ASSERT_LE(0, open_now(self->e.path, O_RDONLY | O_NONBLOCK));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, nonblock_writer_after_reader_left_enxio, TIMEOUT)
{
	int fd = open(self->e.path, O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, nonblock_writer_with_only_writers_enxio, TIMEOUT)
{
	int rd = open(self->e.path, O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, rd);
	ASSERT_LE(0, open_now(self->e.path, O_WRONLY));
	close(rd);
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, nonblock_writer_frees_waiting_reader, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, nonblock_reader_frees_waiting_writer, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_RDONLY | O_NONBLOCK));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, nonblock_reader_sees_waiting_writer_as_writer, TIMEOUT)
{
	struct child c;
	int fd;

	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	fd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	/* No end of file: a writer counts from the start of its open(2). */
	EXPECT_EQ(-EAGAIN, stream_read(fd, 0, 1));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, one_writer_frees_all_readers, TIMEOUT)
{
	struct child c[3];
	int i;

	for (i = 0; i < 3; i++) {
		child_open(&c[i], self->e.path, O_RDONLY);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY));
	for (i = 0; i < 3; i++)
		EXPECT_LE(0, child_join(&c[i]));
}

TEST_F_TIMEOUT(named, one_reader_frees_all_writers, TIMEOUT)
{
	struct child c[3];
	int i;

	for (i = 0; i < 3; i++) {
		child_open(&c[i], self->e.path, O_WRONLY);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	EXPECT_LE(0, open_now(self->e.path, O_RDONLY));
	for (i = 0; i < 3; i++)
		EXPECT_LE(0, child_join(&c[i]));
}

TEST_F_TIMEOUT(named, reader_does_not_free_reader, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_LE(0, open_now(self->e.path, O_RDONLY | O_NONBLOCK));
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

/* The open of a reader returns even if the writer that it waited for has closed again. */
TEST_F_TIMEOUT(named, reader_freed_by_writer_that_left, TIMEOUT)
{
	struct child c;
	int i, wr;
	long rd;

	for (i = 0; i < 20; i++) {
		child_open(&c, self->e.path, O_RDONLY);
		ASSERT_TRUE(child_asleep(&c));
		wr = open(self->e.path, O_WRONLY | O_NONBLOCK);
		ASSERT_LE(0, wr);
		close(wr);
		rd = child_join(&c);
		ASSERT_LE(0, rd);
		ASSERT_EQ(POLLHUP, poll_mask(rd));
		ASSERT_EQ(0, stream_read(rd, 0, 1));
		close(rd);
	}
}

TEST_F_TIMEOUT(named, writer_freed_by_reader_that_left, TIMEOUT)
{
	struct child c;
	int i, rd;
	long wr;

	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 20; i++) {
		child_open(&c, self->e.path, O_WRONLY);
		ASSERT_TRUE(child_asleep(&c));
		rd = open(self->e.path, O_RDONLY | O_NONBLOCK);
		ASSERT_LE(0, rd);
		close(rd);
		wr = child_join(&c);
		ASSERT_LE(0, wr);
		ASSERT_EQ(POLLOUT | POLLERR, poll_mask(wr));
		ASSERT_EQ(-EPIPE, stream_write(wr, 0, 1));
		close(wr);
	}
}

TEST_F_TIMEOUT(named, signal_interrupts_waiting_reader, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
}

TEST_F_TIMEOUT(named, signal_interrupts_waiting_writer, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
}

TEST_F_TIMEOUT(named, waiting_reader_restarts, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, SA_RESTART);
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_TRUE(eventually(c.report->signals == 1));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, waiting_writer_restarts, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, SA_RESTART);
	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_TRUE(eventually(c.report->signals == 1));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_RDONLY));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, interrupted_reader_leaves_no_trace, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_EQ(-EINTR, child_join(&c));
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, interrupted_writer_leaves_no_trace, TIMEOUT)
{
	struct child c;
	int fd;

	catch_signal(SIGUSR1, 0);
	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	ASSERT_EQ(-EINTR, child_join(&c));
	fd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, stream_read(fd, 0, 1));
}

TEST_F_TIMEOUT(named, killed_reader_leaves_no_trace, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, killed_writer_leaves_no_trace, TIMEOUT)
{
	struct child c;
	int fd;

	child_open(&c, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&c));
	fd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, stream_read(fd, 0, 1));
}

/* One of two blocked readers is killed. The other one still waits and still counts. */
TEST_F_TIMEOUT(named, killed_reader_leaves_the_other_waiting, TIMEOUT)
{
	struct child a, b;

	child_open(&a, self->e.path, O_RDONLY);
	child_open(&b, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&a));
	ASSERT_TRUE(child_stays_asleep(&b));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
	EXPECT_LE(0, child_join(&b));
}

/* The killed reader does not count after the other reader has opened and closed. */
TEST_F_TIMEOUT(named, killed_reader_is_not_counted, TIMEOUT)
{
	struct child a, b;
	int fd, other;

	child_open(&a, self->e.path, O_RDONLY);
	child_open(&b, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&a));
	fd = open(self->e.path, O_WRONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	other = child_join(&b);
	ASSERT_LE(0, other);
	close(other);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_EQ(-EPIPE, stream_write(fd, 0, 1));
}

TEST_F_TIMEOUT(named, killed_writer_is_not_counted, TIMEOUT)
{
	struct child a, b;
	int fd, other;

	child_open(&a, self->e.path, O_WRONLY);
	child_open(&b, self->e.path, O_WRONLY);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&a));
	fd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	other = child_join(&b);
	ASSERT_LE(0, other);
	close(other);
	EXPECT_EQ(0, stream_read(fd, 0, 1));
}

/* A stopped task leaves its open(2). It enters it again when it is continued. */
TEST_F_TIMEOUT(named, stopped_reader_waits_again, TIMEOUT)
{
	struct child c;

	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
	child_signal(&c, SIGCONT);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, hup_held_back_until_first_writer, TIMEOUT)
{
	int rd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	int wr;

	ASSERT_LE(0, rd);
	EXPECT_EQ(0, poll_mask(rd));
	wr = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, wr);
	EXPECT_EQ(0, poll_mask(rd));
	close(wr);
	EXPECT_EQ(POLLHUP, poll_mask(rd));
}

TEST_F_TIMEOUT(named, epoll_hup_held_back_until_first_writer, TIMEOUT)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int rd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	int ep = epoll_create1(0);
	int wr;

	ASSERT_LE(0, rd);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, rd, &ev));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	wr = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, wr);
	close(wr);
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, EVENT_MS));
	EXPECT_EQ((uint32_t)EPOLLHUP, ev.events);
}

/*
 * A reader that opens after all writers have gone gets no POLLHUP until the next writer
 * goes.
 */
TEST_F_TIMEOUT(named, hup_belongs_to_the_open, TIMEOUT)
{
	int first = open(self->e.path, O_RDONLY | O_NONBLOCK);
	int wr = open(self->e.path, O_WRONLY);
	int second;

	ASSERT_LE(0, first);
	ASSERT_LE(0, wr);
	close(wr);
	second = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, second);
	EXPECT_EQ(POLLHUP, poll_mask(first));
	EXPECT_EQ(0, poll_mask(second));
	wr = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, wr);
	close(wr);
	EXPECT_EQ(POLLHUP, poll_mask(second));
}

TEST_F_TIMEOUT(named, hup_ends_with_the_next_writer, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->e, 0));
	close_end(&self->e, 1);
	ASSERT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
	ASSERT_LE(0, open_now(self->e.path, O_WRONLY));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(named, err_ends_with_the_next_reader, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->e, 0));
	close_end(&self->e, 0);
	ASSERT_EQ(POLLOUT | POLLERR, poll_mask(self->e.fd[1]));
	ASSERT_LE(0, open_now(self->e.path, O_RDONLY));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(named, eof_ends_with_the_next_writer, TIMEOUT)
{
	int wr;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	close_end(&self->e, 1);
	ASSERT_EQ(0, stream_read(self->e.fd[0], 0, 10));
	wr = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, wr);
	ASSERT_EQ(10, stream_write(wr, 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 10));
}

TEST_F_TIMEOUT(named, epipe_ends_with_the_next_reader, TIMEOUT)
{
	int rd;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, open_ends(&self->e, 0));
	close_end(&self->e, 0);
	ASSERT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
	rd = open(self->e.path, O_RDONLY);
	ASSERT_LE(0, rd);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(rd, 0, 10));
}

TEST_F_TIMEOUT(named, data_dropped_at_last_close, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR | O_NONBLOCK);

	ASSERT_LE(0, fd);
	ASSERT_EQ(5000, stream_write(fd, 0, 5000));
	close(fd);
	fd = open(self->e.path, O_RDWR | O_NONBLOCK);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, fionread(fd));
	EXPECT_EQ(-EAGAIN, stream_read(fd, 0, 10));
}

TEST_F_TIMEOUT(named, data_outlives_the_writer, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	close_end(&self->e, 1);
	EXPECT_EQ(5000, stream_read(self->e.fd[0], 0, 8000));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 8000));
}

/* The data stays for the next reader as long as any end is open. */
TEST_F_TIMEOUT(named, data_outlives_the_reader, TIMEOUT)
{
	int rd;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	close_end(&self->e, 0);
	rd = open(self->e.path, O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_EQ(5000, stream_read(rd, 0, 8000));
}

/* Opens and closes the write end 100 times. Each open(2) must meet the reader's. */
static long meet_as_writer(struct child *c)
{
	int i, fd;

	for (i = 0; i < 100; i++) {
		fd = open(c->arg, O_WRONLY);
		if (fd < 0 || stream_write(fd, i, 1) != 1)
			return -1;
		close(fd);
		/*
		 * Wait until the reader has closed. Otherwise the next open(2) would
		 * meet the same reader.
		 */
		if (!eventually(__atomic_load_n((int *)c->buf,
						__ATOMIC_SEQ_CST) > i))
			return -1;
	}
	return 0;
}

TEST_F_TIMEOUT(named, reader_and_writer_always_open_together, TIMEOUT)
{
	int *reads_done = shared_alloc(sizeof(*reads_done));
	struct child c = {
		.fn = meet_as_writer, .arg = self->e.path,
		.drop = -1, .buf = (void *)reads_done,
	};
	int i, fd;

	child_start(&c, 0);
	for (i = 0; i < 100; i++) {
		fd = open(self->e.path, O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_EQ(1, stream_read(fd, i, 2));
		ASSERT_EQ(0, stream_read(fd, 0, 2));
		close(fd);
		__atomic_store_n(reads_done, i + 1, __ATOMIC_SEQ_CST);
	}
	EXPECT_EQ(0, child_join(&c));
}

TEST_HARNESS_MAIN
