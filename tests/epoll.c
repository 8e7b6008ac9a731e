// SPDX-License-Identifier: GPL-2.0-only
/*
 * epoll (level-triggered, edge-triggered and exclusive) and SIGIO: which
 * actions are events, and which watchers get them.
 */
#include "oracle.h"
#include "child.h"

#include <sys/epoll.h>

#define FULL		(SLOTS * PAGE)

/* Makes an epoll instance that watches one descriptor. */
static int watch(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		return -errno;
	return ep;
}

/* The events that are ready now, or 0. */
static long events(int ep)
{
	struct epoll_event ev;
	int ret = epoll_wait(ep, &ev, 1, 0);

	return ret < 0 ? -errno : ret ? (long)ev.events : 0;
}

TEST_F_TIMEOUT(all, level_reports_until_drained, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN);

	ASSERT_LE(0, ep);
	EXPECT_EQ(0, events(ep));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(9, stream_read(self->e.fd[0], 0, 9));
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(1, stream_read(self->e.fd[0], 9, 9));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, level_of_the_write_end, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT);

	ASSERT_LE(0, ep);
	EXPECT_EQ(EPOLLOUT, events(ep));
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(0, events(ep));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(EPOLLOUT, events(ep));
}

TEST_F_TIMEOUT(all, add_reports_current_events, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(watch(self->e.fd[0], EPOLLIN | EPOLLET)));
	EXPECT_EQ(EPOLLOUT, events(watch(self->e.fd[1], EPOLLOUT | EPOLLET)));
}

TEST_F_TIMEOUT(all, edge_reports_once, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
	EXPECT_EQ(0, events(ep));
}

/*
 * A write to a pipe that is not empty is an edge, too, once an edge-triggered
 * watcher has polled the read end (pseudo_edgetrigger in fs/pipe.c).
 */
TEST_F_TIMEOUT(all, every_write_is_an_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(10, stream_write(self->e.fd[1], i * 10, 10));
		EXPECT_EQ(EPOLLIN, events(ep));
		EXPECT_EQ(0, events(ep));
	}
}

TEST_F_TIMEOUT(all, merged_write_is_an_edge, TIMEOUT)
{
	int ep;

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 10, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
}

TEST_F_TIMEOUT(all, partial_read_is_no_edge_for_the_reader, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(5, stream_read(self->e.fd[0], 0, 5));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, end_of_a_blocked_write_is_an_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	struct child c;

	child_write(&c, &self->e, 0, FULL + PAGE);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	ASSERT_EQ(FULL + PAGE, child_join(&c));
	EXPECT_EQ(EPOLLIN, events(ep));
}

TEST_F_TIMEOUT(all, last_writer_is_an_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);

	EXPECT_EQ(0, events(ep));
	close_end(&self->e, 1);
	EXPECT_EQ(EPOLLHUP, events(ep));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, last_reader_is_an_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);

	EXPECT_EQ(EPOLLOUT, events(ep));
	close_end(&self->e, 0);
	EXPECT_EQ(EPOLLOUT | EPOLLERR, events(ep));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, freed_slot_in_a_full_pipe_is_an_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);

	EXPECT_EQ(EPOLLOUT, events(ep));
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(0, events(ep));
	ASSERT_EQ(PAGE - 1, stream_read(self->e.fd[0], 0, PAGE - 1));
	EXPECT_EQ(0, events(ep));
	ASSERT_EQ(1, stream_read(self->e.fd[0], PAGE - 1, 1));
	EXPECT_EQ(EPOLLOUT, events(ep));
}

TEST_F_TIMEOUT(all, another_freed_slot_is_no_edge, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(EPOLLOUT, events(ep));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], PAGE, PAGE));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, write_is_no_edge_for_the_writer, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);

	EXPECT_EQ(EPOLLOUT, events(ep));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(all, zero_write_is_no_edge, TIMEOUT)
{
	int ep;

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	EXPECT_EQ(EPOLLIN, events(ep));
	ASSERT_EQ(0, stream_write(self->e.fd[1], 0, 0));
	EXPECT_EQ(0, events(ep));
}

TEST_F_TIMEOUT(named, edges_of_rdwr, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);
	int ep = watch(fd, EPOLLIN | EPOLLOUT | EPOLLET);

	EXPECT_EQ(EPOLLOUT, events(ep));
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	EXPECT_EQ(EPOLLIN | EPOLLOUT, events(ep));
	EXPECT_EQ(0, events(ep));
}

static long do_epoll_wait(struct child *c)
{
	struct epoll_event ev;

	if (epoll_wait(c->fd, &ev, 1, -1) != 1)
		return -1;
	return ev.events;
}

/* Starts a child that waits on an epoll instance. The child closes @drop. */
static void child_epoll(struct child *c, int ep, int drop)
{
	*c = (struct child) {
		.nr = SYS_epoll_wait, .fn = do_epoll_wait, .fd = ep,
		.drop = drop,
	};
	child_start(c, 0);
}

TEST_F_TIMEOUT(all, write_wakes_epoll, TIMEOUT)
{
	struct child c;

	child_epoll(&c, watch(self->e.fd[0], EPOLLIN), self->e.fd[1]);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, child_join(&c));
}

TEST_F_TIMEOUT(all, read_wakes_epoll, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_epoll(&c, watch(self->e.fd[1], EPOLLOUT), self->e.fd[0]);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(EPOLLOUT, child_join(&c));
}

TEST_F_TIMEOUT(all, write_wakes_every_epoll, TIMEOUT)
{
	struct child a, b;

	child_epoll(&a, watch(self->e.fd[0], EPOLLIN), self->e.fd[1]);
	child_epoll(&b, watch(self->e.fd[0], EPOLLIN), self->e.fd[1]);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(EPOLLIN, child_join(&a));
	EXPECT_EQ(EPOLLIN, child_join(&b));
}

TEST_F_TIMEOUT(all, exclusive_write_wakes_one, TIMEOUT)
{
	struct child a, b;

	child_epoll(&a, watch(self->e.fd[0], EPOLLIN | EPOLLEXCLUSIVE),
		    self->e.fd[1]);
	child_epoll(&b, watch(self->e.fd[0], EPOLLIN | EPOLLEXCLUSIVE),
		    self->e.fd[1]);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_TRUE(eventually(child_done(&a) || child_done(&b)));
	EXPECT_TRUE(child_stays_asleep(child_done(&a) ? &b : &a));
	EXPECT_EQ(EPOLLIN, child_join(child_done(&a) ? &a : &b));
	child_kill(child_done(&a) ? &b : &a);
}

TEST_F_TIMEOUT(all, exclusive_read_wakes_one, TIMEOUT)
{
	struct child a, b;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_epoll(&a, watch(self->e.fd[1], EPOLLOUT | EPOLLEXCLUSIVE),
		    self->e.fd[0]);
	child_epoll(&b, watch(self->e.fd[1], EPOLLOUT | EPOLLEXCLUSIVE),
		    self->e.fd[0]);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	ASSERT_TRUE(eventually(child_done(&a) || child_done(&b)));
	EXPECT_TRUE(child_stays_asleep(child_done(&a) ? &b : &a));
	EXPECT_EQ(EPOLLOUT, child_join(child_done(&a) ? &a : &b));
	child_kill(child_done(&a) ? &b : &a);
}

TEST_F_TIMEOUT(all, exclusive_hup_wakes_all, TIMEOUT)
{
	struct child a, b;

	child_epoll(&a, watch(self->e.fd[0], EPOLLIN | EPOLLEXCLUSIVE),
		    self->e.fd[1]);
	child_epoll(&b, watch(self->e.fd[0], EPOLLIN | EPOLLEXCLUSIVE),
		    self->e.fd[1]);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	close_end(&self->e, 1);
	EXPECT_EQ(EPOLLHUP, child_join(&a));
	EXPECT_EQ(EPOLLHUP, child_join(&b));
}

/*
 * A poller that waits in front of a blocked reader does not consume the
 * reader's wakeup.
 */
TEST_F_TIMEOUT(all, write_wakes_epoll_and_reader, TIMEOUT)
{
	struct child a, b;
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);

	child_epoll(&a, ep, self->e.fd[1]);
	ASSERT_TRUE(child_asleep(&a));
	child_read(&b, &self->e, 10);
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(20, stream_write(self->e.fd[1], 0, 20));
	EXPECT_EQ(EPOLLIN, child_join(&a));
	EXPECT_EQ(10, child_join(&b));
}

/*
 * Turns on signal-driven I/O. The signal is blocked and fetched from its queue,
 * so that each one is counted and its siginfo is seen.
 */
static int async_on(int fd, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (fcntl(fd, F_SETOWN, getpid()) || fcntl(fd, F_SETSIG, sig) ||
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC))
		return -errno;
	return 0;
}

/* The si_code of the next such signal, or -EAGAIN if none is pending. */
static long async_next(int sig, int fd, long *band)
{
	struct timespec now = {};
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	if (sigtimedwait(&set, &info, &now) < 0)
		return -errno;
	if (info.si_fd != fd)
		return -EBADF;
	if (band)
		*band = info.si_band;
	return info.si_code;
}

TEST_F_TIMEOUT(all, sigio_by_default, TIMEOUT)
{
	catch_signal(SIGIO, 0);
	ASSERT_EQ(0, fcntl(self->e.fd[0], F_SETOWN, getpid()));
	ASSERT_EQ(0, fcntl(self->e.fd[0], F_SETFL, O_ASYNC));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(1, signals_seen);
}

TEST_F_TIMEOUT(all, async_flag_shows, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	EXPECT_EQ(O_ASYNC, fcntl(self->e.fd[0], F_GETFL) & O_ASYNC);
}

TEST_F_TIMEOUT(all, async_write_signals_the_reader, TIMEOUT)
{
	long band = 0;

	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(POLL_IN, async_next(SIGRTMIN, self->e.fd[0], &band));
	EXPECT_EQ(POLLIN | POLLRDNORM, band);
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, self->e.fd[0], NULL));
}

TEST_F_TIMEOUT(all, async_every_write_signals, TIMEOUT)
{
	int i;

	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(POLL_IN, async_next(SIGRTMIN, self->e.fd[0], NULL));
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, self->e.fd[0], NULL));
}

TEST_F_TIMEOUT(all, async_read_signals_the_writer, TIMEOUT)
{
	long band = 0;

	ASSERT_EQ(0, async_on(self->e.fd[1], SIGRTMIN));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(-EAGAIN, async_next(SIGRTMIN, self->e.fd[1], NULL));
	ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 10));
	EXPECT_EQ(POLL_OUT, async_next(SIGRTMIN, self->e.fd[1], &band));
	EXPECT_EQ(POLLOUT | POLLWRNORM | POLLWRBAND, band);
}

TEST_F_TIMEOUT(all, async_read_of_several_writes_signals_once, TIMEOUT)
{
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], PAGE, PAGE));
	ASSERT_EQ(0, async_on(self->e.fd[1], SIGRTMIN));
	ASSERT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, 3 * PAGE));
	EXPECT_EQ(POLL_OUT, async_next(SIGRTMIN, self->e.fd[1], NULL));
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, self->e.fd[1], NULL));
}

TEST_F_TIMEOUT(all, async_last_writer_signals_the_reader, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	close_end(&self->e, 1);
	EXPECT_EQ(POLL_IN, async_next(SIGRTMIN, self->e.fd[0], NULL));
}

TEST_F_TIMEOUT(all, async_last_reader_signals_the_writer, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[1], SIGRTMIN));
	close_end(&self->e, 0);
	EXPECT_EQ(POLL_OUT, async_next(SIGRTMIN, self->e.fd[1], NULL));
}

TEST_F_TIMEOUT(all, async_blocked_write_signals_before_it_waits, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	child_write(&c, &self->e, 0, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(POLL_IN, async_next(SIGRTMIN, self->e.fd[0], NULL));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, async_off, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[0], SIGRTMIN));
	ASSERT_EQ(0, fcntl(self->e.fd[0], F_SETFL, 0));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, self->e.fd[0], NULL));
}

TEST_F_TIMEOUT(named, async_ends_with_the_descriptor, TIMEOUT)
{
	int other;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	other = open(self->e.path, O_RDONLY);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, async_on(other, SIGRTMIN));
	close(other);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, other, NULL));
}

TEST_F_TIMEOUT(named, async_rdwr_has_both, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);

	ASSERT_EQ(0, async_on(fd, SIGRTMIN));
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	EXPECT_EQ(POLL_IN, async_next(SIGRTMIN, fd, NULL));
	EXPECT_EQ(-EAGAIN, async_next(SIGRTMIN, fd, NULL));
	ASSERT_EQ(10, stream_read(fd, 0, 10));
	EXPECT_EQ(POLL_OUT, async_next(SIGRTMIN, fd, NULL));
}

TEST_HARNESS_MAIN
