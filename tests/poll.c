// SPDX-License-Identifier: GPL-2.0-only
/*
 * The events that poll and select report, and when pollers, blocked readers and
 * blocked writers are woken.
 */
#include "oracle.h"
#include "child.h"

#include <sys/select.h>

#define FULL		(SLOTS * PAGE)

TEST_F_TIMEOUT(all, empty_pipe, TIMEOUT)
{
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, pipe_with_data, TIMEOUT)
{
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, full_pipe, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, pipe_with_one_free_slot, TIMEOUT)
{
	ASSERT_EQ(FULL - PAGE + 1, stream_write(self->e.fd[1], 0,
						FULL - PAGE + 1));
	/*
	 * All sixteen slots are used. Space in the last slot does not make the
	 * pipe writable.
	 */
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	ASSERT_EQ(PAGE - 1, stream_read(self->e.fd[0], 0, PAGE - 1));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	ASSERT_EQ(1, stream_read(self->e.fd[0], PAGE - 1, 1));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, not_writable_while_a_writer_waits, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, norm_bits, TIMEOUT)
{
	struct pollfd p[2] = {
		{ .fd = self->e.fd[0], .events = POLLRDNORM | POLLRDBAND },
		{ .fd = self->e.fd[1], .events = POLLWRNORM | POLLWRBAND },
	};

	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	ASSERT_EQ(2, poll(p, 2, 0));
	EXPECT_EQ(POLLRDNORM, p[0].revents);
	EXPECT_EQ(POLLWRNORM, p[1].revents);
}

TEST_F_TIMEOUT(all, hup_without_writer, TIMEOUT)
{
	close_end(&self->e, 1);
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, hup_with_data, TIMEOUT)
{
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	close_end(&self->e, 1);
	EXPECT_EQ(POLLIN | POLLHUP, poll_mask(self->e.fd[0]));
	ASSERT_EQ(1, stream_read(self->e.fd[0], 0, 1));
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, err_without_reader, TIMEOUT)
{
	close_end(&self->e, 0);
	EXPECT_EQ(POLLOUT | POLLERR, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, err_of_a_full_pipe, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	close_end(&self->e, 0);
	EXPECT_EQ(POLLERR, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(named, rdwr_has_both_sides, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(POLLOUT, poll_mask(fd));
	ASSERT_EQ(1, stream_write(fd, 0, 1));
	EXPECT_EQ(POLLIN | POLLOUT, poll_mask(fd));
	ASSERT_EQ(FULL - PAGE, stream_write(fd, 1, FULL - PAGE));
	EXPECT_EQ(POLLIN, poll_mask(fd));
}

TEST_F_TIMEOUT(named, rdwr_keeps_its_partners_up, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_LE(0, open(self->e.path, O_RDWR));
	close_end(&self->e, 1);
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
}

static int select_now(int rd, int wr)
{
	struct timeval tv = {};
	fd_set in, out, ex;
	int ret;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	FD_SET(rd, &in);
	FD_SET(wr, &out);
	FD_SET(rd, &ex);
	FD_SET(wr, &ex);
	ret = select((rd > wr ? rd : wr) + 1, &in, &out, &ex, &tv);
	if (ret < 0)
		return -errno;
	return (FD_ISSET(rd, &in) ? 1 : 0) + (FD_ISSET(wr, &out) ? 2 : 0) +
	       (FD_ISSET(rd, &ex) ? 4 : 0) + (FD_ISSET(wr, &ex) ? 8 : 0);
}

TEST_F_TIMEOUT(all, select_says_the_same, TIMEOUT)
{
	EXPECT_EQ(2, select_now(self->e.fd[0], self->e.fd[1]));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(3, select_now(self->e.fd[0], self->e.fd[1]));
	ASSERT_EQ(FULL - PAGE, stream_write(self->e.fd[1], 1, FULL - PAGE));
	EXPECT_EQ(1, select_now(self->e.fd[0], self->e.fd[1]));
}

TEST_F_TIMEOUT(all, select_hup_is_readable, TIMEOUT)
{
	close_end(&self->e, 1);
	EXPECT_EQ(1, select_now(self->e.fd[0], self->e.fd[0]) & 1);
}

TEST_F_TIMEOUT(all, select_err_is_readable_and_writable, TIMEOUT)
{
	close_end(&self->e, 0);
	EXPECT_EQ(3, select_now(self->e.fd[1], self->e.fd[1]));
}

static long do_poll(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = c->flags };

	if (poll(&p, 1, -1) != 1)
		return -1;
	return p.revents;
}

/* Starts a child that polls one end and closes the other. */
static void child_poll(struct child *c, struct ends *e, int end, int events)
{
	*c = (struct child) {
		.nr = SYS_poll, .fn = do_poll, .flags = events,
		.fd = e->fd[end], .drop = e->fd[!end],
	};
	child_start(c, 0);
}

TEST_F_TIMEOUT(all, write_wakes_poll, TIMEOUT)
{
	struct child c;

	child_poll(&c, &self->e, 0, POLLIN);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(POLLIN, child_join(&c));
}

TEST_F_TIMEOUT(all, write_wakes_all_pollers, TIMEOUT)
{
	struct child c[3];
	int i;

	for (i = 0; i < 3; i++) {
		child_poll(&c[i], &self->e, 0, POLLIN);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(POLLIN, child_join(&c[i]));
}

TEST_F_TIMEOUT(all, last_writer_wakes_poll, TIMEOUT)
{
	struct child c;

	child_poll(&c, &self->e, 0, POLLIN);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 1);
	EXPECT_EQ(POLLHUP, child_join(&c));
}

TEST_F_TIMEOUT(all, poll_for_nothing_wakes_on_hup, TIMEOUT)
{
	struct child c;

	child_poll(&c, &self->e, 0, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_TRUE(child_stays_asleep(&c));
	close_end(&self->e, 1);
	EXPECT_EQ(POLLHUP, child_join(&c));
}

TEST_F_TIMEOUT(all, read_wakes_poll, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_poll(&c, &self->e, 1, POLLOUT);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE - 1, stream_read(self->e.fd[0], 0, PAGE - 1));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(1, stream_read(self->e.fd[0], PAGE - 1, 1));
	EXPECT_EQ(POLLOUT, child_join(&c));
}

TEST_F_TIMEOUT(all, last_reader_wakes_poll, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_poll(&c, &self->e, 1, POLLOUT);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 0);
	EXPECT_EQ(POLLERR, child_join(&c));
}

TEST_F_TIMEOUT(named, new_writer_does_not_wake_poll, TIMEOUT)
{
	struct child c;
	int wr;

	self->e.fd[0] = open(self->e.path, O_RDONLY | O_NONBLOCK);
	child_poll(&c, &self->e, 0, POLLIN);
	ASSERT_TRUE(child_asleep(&c));
	wr = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, wr);
	EXPECT_TRUE(child_stays_asleep(&c));
	close(wr);
	EXPECT_EQ(POLLHUP, child_join(&c));
}

TEST_F_TIMEOUT(all, write_wakes_blocked_reader, TIMEOUT)
{
	struct child c;

	child_read(&c, &self->e, 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, 10));
}

TEST_F_TIMEOUT(all, large_write_wakes_blocked_reader, TIMEOUT)
{
	struct child c;
	long n;

	child_read(&c, &self->e, FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	n = child_join(&c);
	if (n > 0 && copies_are_cut(variant->kind))
		n += fionread(self->e.fd[0]);
	EXPECT_EQ(FULL, n);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, FULL - fionread(self->e.fd[0])));
}

TEST_F_TIMEOUT(all, nonblock_write_wakes_blocked_reader, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read(&c, &self->e, 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
}

TEST_F_TIMEOUT(all, zero_write_wakes_nobody, TIMEOUT)
{
	struct child c;

	child_read(&c, &self->e, 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, stream_write(self->e.fd[1], 0, 0));
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, last_writer_wakes_all_blocked_readers, TIMEOUT)
{
	struct child c[3];
	int i;

	for (i = 0; i < 3; i++) {
		child_read(&c[i], &self->e, 100);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	close_end(&self->e, 1);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, child_join(&c[i]));
}

TEST_F_TIMEOUT(all, last_but_one_writer_wakes_nobody, TIMEOUT)
{
	struct child c;
	int fd;

	child_read(&c, &self->e, 100);
	ASSERT_TRUE(child_asleep(&c));
	fd = dup(self->e.fd[1]);
	close_end(&self->e, 1);
	EXPECT_TRUE(child_stays_asleep(&c));
	close(fd);
	EXPECT_EQ(0, child_join(&c));
}

/* The first reader leaves a byte and wakes the next reader. */
TEST_F_TIMEOUT(all, one_write_serves_two_readers, TIMEOUT)
{
	struct child a, b;

	child_read(&a, &self->e, 1);
	child_read(&b, &self->e, 1);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(2, stream_write(self->e.fd[1], 0, 2));
	EXPECT_EQ(1, child_join(&a));
	EXPECT_EQ(1, child_join(&b));
	EXPECT_EQ(stream_byte(0) + stream_byte(1), a.buf[0] + b.buf[0]);
}

TEST_F_TIMEOUT(all, one_write_serves_one_of_two_readers, TIMEOUT)
{
	struct child a, b;

	child_read(&a, &self->e, 1);
	child_read(&b, &self->e, 1);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	ASSERT_TRUE(eventually(child_done(&a) || child_done(&b)));
	EXPECT_TRUE(child_stays_asleep(child_done(&a) ? &b : &a));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 1, 1));
	EXPECT_EQ(1, child_join(&a));
	EXPECT_EQ(1, child_join(&b));
}

/* The other readers are not woken at all, not even to look. */
TEST_F_TIMEOUT(all, one_write_wakes_one_of_many_readers, TIMEOUT)
{
	long max = copies_are_cut(variant->kind) ? 2 : 1;
	struct child c[8];
	long before[8], woken = 0;
	int i, done;

	for (i = 0; i < 8; i++) {
		child_read(&c[i], &self->e, 1);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	for (i = 0; i < 8; i++) {
		before[i] = task_sleeps(c[i].pid);
		ASSERT_LT(0, before[i]);
	}
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	ASSERT_TRUE(eventually(({
		for (i = 0, done = 0; i < 8; i++)
			done += child_done(&c[i]);
		done;
	})));
	for (i = 0; i < 8; i++)
		woken += child_done(&c[i]) || !child_asleep(&c[i]) ||
			 task_sleeps(c[i].pid) != before[i];
	EXPECT_EQ(1, done);
	EXPECT_LE(1, woken);
	EXPECT_GE(max, woken);
	for (i = 0; i < 8; i++)
		child_kill(&c[i]);
}

TEST_F_TIMEOUT(all, read_wakes_blocked_writer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&c, &self->e, FULL, 10);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_EQ(FULL - PAGE + 10, stream_read(self->e.fd[0], PAGE, FULL));
}

TEST_F_TIMEOUT(all, read_within_a_slot_wakes_no_writer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&c, &self->e, FULL, 10);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE - 1, stream_read(self->e.fd[0], 0, PAGE - 1));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(1, stream_read(self->e.fd[0], PAGE - 1, 1));
	EXPECT_EQ(10, child_join(&c));
}

TEST_F_TIMEOUT(all, one_read_serves_two_writers, TIMEOUT)
{
	struct child a, b;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&a, &self->e, 0, 10);
	child_write(&b, &self->e, 0, 10);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(10, child_join(&a));
	EXPECT_EQ(10, child_join(&b));
	EXPECT_EQ(20, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, one_slot_serves_one_of_two_writers, TIMEOUT)
{
	struct child a, b;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&a, &self->e, 0, PAGE);
	child_write(&b, &self->e, 0, PAGE);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	ASSERT_TRUE(eventually(child_done(&a) || child_done(&b)));
	EXPECT_TRUE(child_stays_asleep(child_done(&a) ? &b : &a));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], PAGE, PAGE));
	EXPECT_EQ(PAGE, child_join(&a));
	EXPECT_EQ(PAGE, child_join(&b));
}

/* Starts a child that writes @len times the same byte in one call. */
static void child_write_byte(struct child *c, struct ends *e, char byte,
			     size_t len)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = child_do_write, .fd = e->fd[1],
		.drop = e->fd[0], .len = len, .buf = shared_alloc(len),
	};
	memset(c->buf, byte, len);
	child_start(c, 0);
}

/* Two blocked writes: all bytes of both arrive. */
TEST_F_TIMEOUT(all, two_blocked_writers_share, TIMEOUT)
{
	unsigned char *buf = malloc(8 * FULL);
	struct child a, b;
	long got = 0, ret, i;
	long nr[2] = {};

	child_write_byte(&a, &self->e, 'a', 3 * FULL);
	child_write_byte(&b, &self->e, 'b', 3 * FULL);
	ASSERT_TRUE(child_asleep(&a));
	ASSERT_TRUE(child_asleep(&b));
	close_end(&self->e, 1);
	while ((ret = read(self->e.fd[0], buf + got, 5000)) > 0)
		got += ret;
	EXPECT_EQ(6 * FULL, got);
	EXPECT_EQ(3 * FULL, child_join(&a));
	EXPECT_EQ(3 * FULL, child_join(&b));
	for (i = 0; i < got; i++)
		nr[buf[i] == 'b']++;
	EXPECT_EQ(3 * FULL, nr[0]);
	EXPECT_EQ(3 * FULL, nr[1]);
}

TEST_F_TIMEOUT(all, last_reader_wakes_all_blocked_writers, TIMEOUT)
{
	struct child c[3];
	int i;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	for (i = 0; i < 3; i++) {
		child_write(&c[i], &self->e, 0, 10);
		ASSERT_TRUE(child_asleep(&c[i]));
	}
	close_end(&self->e, 0);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-EPIPE, child_join(&c[i]));
}

/* A writer stays blocked when one of two readers closes its descriptor. */
TEST_F_TIMEOUT(named, blocked_writer_outlives_a_reader, TIMEOUT)
{
	struct child c;
	int rd;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	rd = open(self->e.path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, rd);
	child_write(&c, &self->e, 0, FULL + PAGE);
	ASSERT_TRUE(child_asleep(&c));
	/* The child has inherited this descriptor, so its file stays open. */
	close(rd);
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(FULL + PAGE, child_join(&c));
}

/* A byte goes there and back many times: no wakeup may be lost. */
#define ROUNDS		300

static long echo(struct child *c)
{
	int *fd = c->arg;
	char b;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		if (c->flags && poll_mask(fd[0]) == 0) {
			struct pollfd p = { .fd = fd[0], .events = POLLIN };

			if (poll(&p, 1, -1) != 1)
				return -1;
		}
		if (read(fd[0], &b, 1) != 1 || write(fd[1], &b, 1) != 1)
			return -1;
	}
	return 0;
}

static void ping_pong(struct __test_metadata *_metadata, struct ends *e,
		      int polled)
{
	struct ends back;
	int fds[2];
	struct child c = {
		.fn = echo, .arg = fds, .drop = -1, .flags = polled,
	};
	int i;

	ASSERT_EQ(0, ends_make(&back, e->kind));
	ASSERT_EQ(0, open_ends(&back, 0));
	fds[0] = e->fd[0];
	fds[1] = back.fd[1];
	child_start(&c, 0);
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(1, stream_write(e->fd[1], i, 1));
		ASSERT_EQ(1, stream_read(back.fd[0], i, 1));
	}
	EXPECT_EQ(0, child_join(&c));
	ends_free(&back);
}

TEST_F_TIMEOUT(all, ping_pong, TIMEOUT)
{
	ping_pong(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, ping_pong_with_poll, TIMEOUT)
{
	ping_pong(_metadata, &self->e, 1);
}

TEST_HARNESS_MAIN
