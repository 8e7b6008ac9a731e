// SPDX-License-Identifier: GPL-2.0-only
/* sendfile(2) from files into pipes, and what it refuses. */
#include "oracle.h"
#include "child.h"

#include <sys/sendfile.h>

#define FULL		(SLOTS * PAGE)

/* A file with @len bytes of the stream, at position 0. */
static int file_of(size_t len, bool tmpfs)
{
	int fd = tmpfs ? open("/tmp", O_TMPFILE | O_RDWR, 0600) : memfd_create("file", 0);

	if (fd < 0 || stream_write(fd, 0, len) != (long)len || lseek(fd, 0, SEEK_SET))
		abort();
	return fd;
}

TEST_F_TIMEOUT(all, from_the_position, TIMEOUT)
{
	int tmpfs;

	for (tmpfs = 0; tmpfs < 2; tmpfs++) {
		int file = file_of(10000, tmpfs);

		EXPECT_EQ(5000, sys(sendfile(self->e.fd[1], file, NULL, 5000)));
		EXPECT_EQ(5000, lseek(file, 0, SEEK_CUR));
		EXPECT_EQ(5000, fionread(self->e.fd[0]));
		/* The end of the file comes first. */
		EXPECT_EQ(5000, sys(sendfile(self->e.fd[1], file, NULL, FULL / 2)));
		EXPECT_EQ(10000, lseek(file, 0, SEEK_CUR));
		EXPECT_EQ(0, sys(sendfile(self->e.fd[1], file, NULL, FULL)));
		EXPECT_EQ(10000, stream_read(self->e.fd[0], 0, FULL));
		close(file);
	}
}

TEST_F_TIMEOUT(all, from_an_offset, TIMEOUT)
{
	int file = file_of(10000, true);
	off_t off = 4097;

	EXPECT_EQ(5000, sys(sendfile(self->e.fd[1], file, &off, 5000)));
	EXPECT_EQ(4097 + 5000, off);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(5000, stream_read(self->e.fd[0], 4097, FULL));
	off = 10000;
	EXPECT_EQ(0, sys(sendfile(self->e.fd[1], file, &off, 5000)));
	EXPECT_EQ(10000, off);
	off = -1;
	EXPECT_EQ(-EINVAL, sys(sendfile(self->e.fd[1], file, &off, 5000)));
}

TEST_F_TIMEOUT(all, nonblocking_is_partial, TIMEOUT)
{
	int file = file_of(3 * FULL, true);

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL, sys(sendfile(self->e.fd[1], file, NULL, 3 * FULL)));
	EXPECT_EQ(FULL, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(-EAGAIN, sys(sendfile(self->e.fd[1], file, NULL, 3 * FULL)));
	EXPECT_EQ(FULL, lseek(file, 0, SEEK_CUR));
	ASSERT_EQ(4 * PAGE, stream_read(self->e.fd[0], 0, 4 * PAGE));
	EXPECT_EQ(4 * PAGE, sys(sendfile(self->e.fd[1], file, NULL, 3 * FULL)));
	EXPECT_EQ(FULL + 4 * PAGE, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 4 * PAGE, 2 * FULL));
}

static long do_sendfile(struct child *c)
{
	struct ends *e = c->arg;

	close(e->fd[0]);
	return sendfile(e->fd[1], c->fd, NULL, c->len);
}

/* It returns when the pipe is full. What was transferred is the file's new position. */
TEST_F_TIMEOUT(all, blocking_is_partial, TIMEOUT)
{
	int file = file_of(3 * FULL, true);
	struct child c = {
		.nr = SYS_sendfile, .fn = do_sendfile, .arg = &self->e, .fd = file,
		.drop = -1, .len = 2 * FULL,
	};

	child_start(&c, 0);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(FULL, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
}

/* A signal ends the wait for a free slot. */
TEST_F_TIMEOUT(all, signal_eintr, TIMEOUT)
{
	int file = file_of(PAGE, true);
	struct child c = {
		.nr = SYS_sendfile, .fn = do_sendfile, .arg = &self->e, .fd = file,
		.drop = -1, .len = PAGE,
	};

	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, full_pipe_is_waited_for, TIMEOUT)
{
	int file = file_of(PAGE, true);
	struct child c = {
		.nr = SYS_sendfile, .fn = do_sendfile, .arg = &self->e, .fd = file,
		.drop = -1, .len = PAGE,
	};

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(FULL - PAGE, stream_read(self->e.fd[0], PAGE, FULL - PAGE));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, epipe, TIMEOUT)
{
	int file = file_of(100, true);

	catch_signal(SIGPIPE, 0);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, sys(sendfile(self->e.fd[1], file, NULL, 100)));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
}

TEST_F_TIMEOUT(all, wrong_ends_ebadf, TIMEOUT)
{
	int file = file_of(100, true);

	EXPECT_EQ(-EBADF, sys(sendfile(self->e.fd[0], file, NULL, 100)));
	EXPECT_EQ(-EBADF, sys(sendfile(file, self->e.fd[1], NULL, 100)));
}

/* Packet mode is for writes: bytes of a file are a stream. */
TEST_F_TIMEOUT(all, packet_mode_has_no_effect, TIMEOUT)
{
	int file = file_of(10000, true);

	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	EXPECT_EQ(10000, sys(sendfile(self->e.fd[1], file, NULL, 10000)));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 10));
	EXPECT_EQ(9990, stream_read(self->e.fd[0], 10, FULL));
}

/* No pipe can be the source for a file. */
TEST_F_TIMEOUT(all, pipe_to_file_einval, TIMEOUT)
{
	int file = file_of(100, true);

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EINVAL, sys(sendfile(file, self->e.fd[0], NULL, 10)));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, offset_in_a_pipe_espipe, TIMEOUT)
{
	int file = file_of(100, true);
	off_t off = 0;

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-ESPIPE, sys(sendfile(file, self->e.fd[0], &off, 10)));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
}

/* DEVIATION: sendfile from zpipe to a pipe of the kernel's own works, as splice does. */
TEST_F_TIMEOUT(all, pipe_to_pipe, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(zpipe ? 5000 : -EINVAL, sys(sendfile(p[1], self->e.fd[0], NULL, FULL)));
	EXPECT_EQ(zpipe ? 0 : 5000, fionread(self->e.fd[0]));
	if (zpipe)
		EXPECT_EQ(5000, stream_read(p[0], 0, FULL));
}

TEST_HARNESS_MAIN
