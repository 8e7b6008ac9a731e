// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptors passed on by dup, fork, exec and SCM_RIGHTS. An end stays open as long as a
 * process has a descriptor of it, or a message with one is in flight.
 */
#include "oracle.h"
#include "child.h"

#include <sys/socket.h>

#define FULL		(SLOTS * PAGE)

/* True if bytes written to @wr can be read from @rd. */
static bool joined(int wr, int rd)
{
	return stream_write(wr, 0, 10) == 10 && stream_read(rd, 0, 10) == 10;
}

TEST_F_TIMEOUT(all, dup_shares_the_description, TIMEOUT)
{
	int fd = dup(self->e.fd[0]);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(O_NONBLOCK, fcntl(fd, F_GETFL) & O_NONBLOCK);
	EXPECT_TRUE(joined(self->e.fd[1], fd));
}

TEST_F_TIMEOUT(all, dup_keeps_the_end_open, TIMEOUT)
{
	int fd = dup(self->e.fd[1]);

	ASSERT_LE(0, fd);
	close_end(&self->e, 1);
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	close(fd);
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, over_fork, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	close_end(&self->e, 1);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], FULL, FULL));
	EXPECT_EQ(3 * FULL, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 2 * FULL, 2 * FULL));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(all, process_exit_closes, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	close_end(&self->e, 1);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
}

/* Executes the test's own program, which writes to an inherited descriptor. */
static long exec_writer(struct child *c)
{
	char arg[16];

	snprintf(arg, sizeof(arg), "%d", c->fd);
	execl("/proc/self/exe", "passing", "--write-to", arg, NULL);
	return -1;
}

static void child_exec(struct child *c, int fd)
{
	*c = (struct child) { .fn = exec_writer, .fd = fd, .drop = -1 };
	child_start(c, 0);
}

TEST_F_TIMEOUT(all, over_exec, TIMEOUT)
{
	struct child c;

	child_exec(&c, self->e.fd[1]);
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
	EXPECT_EQ(NO_REPORT, child_join(&c));
}

TEST_F_TIMEOUT(all, cloexec_closes_on_exec, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFD, FD_CLOEXEC));
	child_exec(&c, self->e.fd[1]);
	close_end(&self->e, 1);
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 20));
	child_join(&c);
}

static int send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	char b;
	struct iovec iov = { &b, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	int fd = -1;

	if (recvmsg(sock, &msg, 0) != 1)
		return -errno;
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

TEST_F_TIMEOUT(all, over_scm_rights, TIMEOUT)
{
	int sock[2], rd, wr;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, send_fd(sock[0], self->e.fd[0]));
	ASSERT_EQ(0, send_fd(sock[0], self->e.fd[1]));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	rd = receive_fd(sock[1]);
	wr = receive_fd(sock[1]);
	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	EXPECT_TRUE(joined(wr, rd));
}

TEST_F_TIMEOUT(all, data_waits_while_in_flight, TIMEOUT)
{
	int sock[2], rd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(0, send_fd(sock[0], self->e.fd[0]));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	rd = receive_fd(sock[1]);
	ASSERT_LE(0, rd);
	EXPECT_EQ(FULL, stream_read(rd, 0, 2 * FULL));
	EXPECT_EQ(0, stream_read(rd, 0, 1));
}

TEST_F_TIMEOUT(all, in_flight_counts_as_open, TIMEOUT)
{
	int sock[2];

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, send_fd(sock[0], self->e.fd[1]));
	close_end(&self->e, 1);
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
	close(sock[0]);
	close(sock[1]);
	EXPECT_TRUE(eventually(poll_mask(self->e.fd[0]) == POLLHUP));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--write-to"))
		return stream_write(atoi(argv[2]), 0, 10) == 10 ? 0 : 1;
	return test_harness_run(argc, argv);
}
