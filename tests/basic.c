// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading and writing, and every error of the plain calls: read, write, readv, writev,
 * preadv2, pwritev2, FIONREAD and the calls that a pipe refuses.
 */
#include "oracle.h"
#include "child.h"

#include <sys/sendfile.h>
#include <sys/uio.h>
#include <termios.h>

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL	0x100
#endif

#define FULL		(SLOTS * PAGE)

TEST_F_TIMEOUT(all, write_then_read, TIMEOUT)
{
	EXPECT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(100, stream_read(self->e.fd[0], 0, 100));
}

TEST_F_TIMEOUT(all, read_returns_buffered_bytes, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(100, stream_read(self->e.fd[0], 0, 5000));
}

TEST_F_TIMEOUT(all, read_leaves_the_rest, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(30, stream_read(self->e.fd[0], 0, 30));
	EXPECT_EQ(30, stream_read(self->e.fd[0], 30, 30));
	EXPECT_EQ(40, stream_read(self->e.fd[0], 60, 50));
}

TEST_F_TIMEOUT(all, read_joins_writes, TIMEOUT)
{
	long off;

	for (off = 0; off < 20000; off += 1000)
		ASSERT_EQ(1000, stream_write(self->e.fd[1], off, 1000));
	EXPECT_EQ(20000, stream_read(self->e.fd[0], 0, 30000));
}

TEST_F_TIMEOUT(all, full_pipe_in_one_write, TIMEOUT)
{
	EXPECT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL + 1));
}

TEST_F_TIMEOUT(all, writev_gathers, TIMEOUT)
{
	char buf[6000];
	struct iovec iov[3] = {
		{ buf, 1 }, { buf + 1, 4999 }, { buf + 5000, 1000 },
	};

	stream_fill(buf, 0, sizeof(buf));
	EXPECT_EQ(6000, sys(writev(self->e.fd[1], iov, 3)));
	EXPECT_EQ(6000, stream_read(self->e.fd[0], 0, 7000));
}

TEST_F_TIMEOUT(all, readv_scatters, TIMEOUT)
{
	char buf[6000];
	struct iovec iov[3] = {
		{ buf, 1 }, { buf + 1, 4999 }, { buf + 5000, 1000 },
	};

	ASSERT_EQ(5500, stream_write(self->e.fd[1], 0, 5500));
	EXPECT_EQ(5500, sys(readv(self->e.fd[0], iov, 3)));
	EXPECT_EQ(-1, stream_diff(buf, 0, 5500));
}

TEST_F_TIMEOUT(all, writev_skips_empty_segments, TIMEOUT)
{
	char buf[20];
	struct iovec iov[5] = {
		{ NULL, 0 }, { buf, 10 }, { buf, 0 }, { buf + 10, 10 },
		{ NULL, 0 },
	};

	stream_fill(buf, 0, sizeof(buf));
	EXPECT_EQ(20, sys(writev(self->e.fd[1], iov, 5)));
	EXPECT_EQ(20, stream_read(self->e.fd[0], 0, 30));
}

TEST_F_TIMEOUT(all, readv_skips_empty_segments, TIMEOUT)
{
	char buf[20];
	struct iovec iov[5] = {
		{ NULL, 0 }, { buf, 10 }, { buf, 0 }, { buf + 10, 10 },
		{ NULL, 0 },
	};

	ASSERT_EQ(20, stream_write(self->e.fd[1], 0, 20));
	EXPECT_EQ(20, sys(readv(self->e.fd[0], iov, 5)));
	EXPECT_EQ(-1, stream_diff(buf, 0, 20));
}

TEST_F_TIMEOUT(all, empty_segments_around_full_pages, TIMEOUT)
{
	char *buf = malloc(2 * PAGE);
	struct iovec iov[4] = {
		{ buf, PAGE }, { NULL, 0 }, { buf + PAGE, PAGE }, { NULL, 0 },
	};

	stream_fill(buf, 0, 2 * PAGE);
	EXPECT_EQ(2 * PAGE, sys(writev(self->e.fd[1], iov, 4)));
	memset(buf, 0, 2 * PAGE);
	EXPECT_EQ(2 * PAGE, sys(readv(self->e.fd[0], iov, 4)));
	EXPECT_EQ(-1, stream_diff(buf, 0, 2 * PAGE));
}

TEST_F_TIMEOUT(all, only_empty_segments, TIMEOUT)
{
	struct iovec iov[3] = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };

	EXPECT_EQ(0, sys(writev(self->e.fd[1], iov, 3)));
	EXPECT_EQ(0, sys(readv(self->e.fd[0], iov, 3)));
	EXPECT_EQ(0, sys(writev(self->e.fd[1], iov, 0)));
	EXPECT_EQ(0, sys(readv(self->e.fd[0], iov, 0)));
}

TEST_F_TIMEOUT(all, zero_write_writes_nothing, TIMEOUT)
{
	EXPECT_EQ(0, sys(write(self->e.fd[1], "", 0)));
	EXPECT_EQ(0, sys(write(self->e.fd[1], NULL, 0)));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, zero_write_without_reader, TIMEOUT)
{
	close_end(&self->e, 0);
	/* Neither EPIPE nor SIGPIPE. The signal would end the test. */
	EXPECT_EQ(0, sys(write(self->e.fd[1], "", 0)));
}

TEST_F_TIMEOUT(all, zero_write_to_full_pipe, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(0, sys(write(self->e.fd[1], "", 0)));
}

TEST_F_TIMEOUT(all, zero_read_of_empty_pipe, TIMEOUT)
{
	EXPECT_EQ(0, sys(read(self->e.fd[0], NULL, 0)));
}

TEST_F_TIMEOUT(all, zero_read_consumes_nothing, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(0, sys(read(self->e.fd[0], NULL, 0)));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 10));
}

TEST_F_TIMEOUT(all, eof_without_writer, TIMEOUT)
{
	close_end(&self->e, 1);
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 10));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 10));
}

TEST_F_TIMEOUT(all, eof_after_the_data, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	close_end(&self->e, 1);
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 10, 20));
}

TEST_F_TIMEOUT(all, no_eof_while_a_copy_of_the_writer_is_open, TIMEOUT)
{
	set_nonblock(self->e.fd[0], true);
	ASSERT_LE(0, dup(self->e.fd[1]));
	close_end(&self->e, 1);
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 10));
}

TEST_F_TIMEOUT(all, epipe_without_reader, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 2 * FULL));
}

/* Space in the last slot and a spare page make no difference. */
TEST_F_TIMEOUT(all, epipe_with_data_in_the_pipe, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 10, 10));
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 10, PAGE));
	EXPECT_EQ(2, signals_seen);
}

TEST_F_TIMEOUT(all, epipe_after_all_was_read, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 20));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 10, 10));
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 10, PAGE));
	EXPECT_EQ(2, signals_seen);
}

TEST_F_TIMEOUT(all, epipe_before_eagain, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	set_nonblock(self->e.fd[1], true);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
}

TEST_F_TIMEOUT(all, sigpipe_once_per_write, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(2, signals_seen);
}

TEST_F_TIMEOUT(all, sigpipe_kills, TIMEOUT)
{
	struct child c;

	close_end(&self->e, 0);
	child_write(&c, &self->e, 0, 10);
	EXPECT_EQ(KILLED(SIGPIPE), child_join(&c));
}

/* A writer that loses its reader half-way gets both the byte count and SIGPIPE. */
TEST_F_TIMEOUT(all, sigpipe_after_partial_write, TIMEOUT)
{
	struct child c;

	catch_signal(SIGPIPE, 0);
	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 0);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
}

/* The same, after a reader has read a part of the write. */
TEST_F_TIMEOUT(all, sigpipe_after_partial_write_and_read, TIMEOUT)
{
	struct child c;

	catch_signal(SIGPIPE, 0);
	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 0);
	EXPECT_EQ(2 * FULL, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
}

static long rwf(bool write, int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = { buf, len };

	if (write)
		return sys(pwritev2(fd, &iov, 1, -1, flags));
	return sys(preadv2(fd, &iov, 1, -1, flags));
}

TEST_F_TIMEOUT(all, nosignal_epipe_without_sigpipe, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, rwf(true, self->e.fd[1], "x", 1, RWF_NOSIGNAL));
	EXPECT_EQ(0, signals_seen);
}

static long write_nosignal(struct child *c)
{
	close(((struct ends *)c->arg)->fd[0]);
	return rwf(true, c->fd, c->buf, c->len, RWF_NOSIGNAL);
}

TEST_F_TIMEOUT(all, nosignal_partial_write_without_sigpipe, TIMEOUT)
{
	struct child c = {
		.nr = SYS_pwritev2, .fn = write_nosignal, .arg = &self->e,
		.fd = self->e.fd[1], .drop = -1,
		.len = 3 * FULL, .buf = shared_alloc(3 * FULL),
	};

	catch_signal(SIGPIPE, 0);
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 0);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(0, c.report->signals);
}

TEST_F_TIMEOUT(unnamed, nowait_read_of_empty_pipe, TIMEOUT)
{
	char b;

	EXPECT_EQ(-EAGAIN, rwf(false, self->e.fd[0], &b, 1, RWF_NOWAIT));
}

TEST_F_TIMEOUT(unnamed, nowait_write_to_full_pipe, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(-EAGAIN, rwf(true, self->e.fd[1], "x", 1, RWF_NOWAIT));
}

TEST_F_TIMEOUT(unnamed, nowait_write_is_partial, TIMEOUT)
{
	char *buf = malloc(2 * FULL);

	stream_fill(buf, 0, 2 * FULL);
	EXPECT_EQ(FULL, rwf(true, self->e.fd[1], buf, 2 * FULL, RWF_NOWAIT));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
}

TEST_F_TIMEOUT(unnamed, nowait_transfers, TIMEOUT)
{
	char b = 0;

	EXPECT_EQ(1, rwf(true, self->e.fd[1], "x", 1, RWF_NOWAIT));
	EXPECT_EQ(1, rwf(false, self->e.fd[0], &b, 1, RWF_NOWAIT));
	EXPECT_EQ('x', b);
}

TEST_F_TIMEOUT(named, nowait_eopnotsupp, TIMEOUT)
{
	char b;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	EXPECT_EQ(-EOPNOTSUPP, rwf(true, self->e.fd[1], "x", 1, RWF_NOWAIT));
	EXPECT_EQ(-EOPNOTSUPP, rwf(false, self->e.fd[0], &b, 1, RWF_NOWAIT));
}

TEST_F_TIMEOUT(all, unknown_rwf_eopnotsupp, TIMEOUT)
{
	EXPECT_EQ(-EOPNOTSUPP, rwf(true, self->e.fd[1], "x", 1, 1 << 30));
}

TEST_F_TIMEOUT(all, nonblock_read_eagain, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(all, nonblock_write_eagain, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], 0, FULL));
}

TEST_F_TIMEOUT(all, nonblock_write_is_partial, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL, stream_write(self->e.fd[1], 0, 3 * FULL));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 3 * FULL));
}

TEST_F_TIMEOUT(all, fionbio_is_nonblock, TIMEOUT)
{
	int on = 1;

	ASSERT_EQ(0, ioctl(self->e.fd[0], FIONBIO, &on));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(all, fionread_counts, TIMEOUT)
{
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(5000, fionread(self->e.fd[0]));
	ASSERT_EQ(4999, stream_read(self->e.fd[0], 0, 4999));
	EXPECT_EQ(1, fionread(self->e.fd[0]));
	ASSERT_EQ(1, stream_read(self->e.fd[0], 4999, 2));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, fionread_of_the_write_end, TIMEOUT)
{
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(5000, fionread(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, fionread_counts_what_a_full_pipe_holds, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, fionread_efault, TIMEOUT)
{
	EXPECT_EQ(-EFAULT, sys(ioctl(self->e.fd[0], FIONREAD, NULL)));
}

TEST_F_TIMEOUT(all, lseek_espipe, TIMEOUT)
{
	EXPECT_EQ(-ESPIPE, sys(lseek(self->e.fd[0], 0, SEEK_CUR)));
	EXPECT_EQ(-ESPIPE, sys(lseek(self->e.fd[1], 0, SEEK_END)));
}

TEST_F_TIMEOUT(all, pread_and_pwrite_espipe, TIMEOUT)
{
	struct iovec iov = { "x", 1 };
	char b;

	EXPECT_EQ(-ESPIPE, sys(pread(self->e.fd[0], &b, 1, 0)));
	EXPECT_EQ(-ESPIPE, sys(pwrite(self->e.fd[1], &b, 1, 0)));
	EXPECT_EQ(-ESPIPE, sys(preadv(self->e.fd[0], &iov, 1, 0)));
	EXPECT_EQ(-ESPIPE, sys(pwritev(self->e.fd[1], &iov, 1, 0)));
}

TEST_F_TIMEOUT(all, wrong_direction_ebadf, TIMEOUT)
{
	char b;

	EXPECT_EQ(-EBADF, sys(read(self->e.fd[1], &b, 1)));
	EXPECT_EQ(-EBADF, sys(write(self->e.fd[0], &b, 1)));
	EXPECT_EQ(-EBADF, sys(read(self->e.fd[1], NULL, 0)));
	EXPECT_EQ(-EBADF, sys(write(self->e.fd[0], NULL, 0)));
}

TEST_F_TIMEOUT(all, unknown_ioctl_enotty, TIMEOUT)
{
	struct termios t;

	EXPECT_EQ(-ENOTTY, sys(ioctl(self->e.fd[0], TCGETS, &t)));
	EXPECT_EQ(-ENOTTY, sys(ioctl(self->e.fd[1], TCGETS, &t)));
	EXPECT_EQ(-ENOTTY, sys(ioctl(self->e.fd[0], 0x12345678, 0)));
}

TEST_F_TIMEOUT(all, mmap_enodev, TIMEOUT)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED,
				   self->e.fd[0], 0));
	EXPECT_EQ(ENODEV, errno);
}

TEST_F_TIMEOUT(all, fsync_and_ftruncate_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, sys(fsync(self->e.fd[1])));
	EXPECT_EQ(-EINVAL, sys(ftruncate(self->e.fd[1], 0)));
}

/* DEVIATION: fallocate and fadvise treat a node as the device that it is. */
TEST_F_TIMEOUT(all, fallocate_and_fadvise, TIMEOUT)
{
	bool device = variant->kind == ZNODE;

	EXPECT_EQ(device ? -ENODEV : -ESPIPE,
		  sys(fallocate(self->e.fd[1], 0, 0, 1)));
	EXPECT_EQ(device ? 0 : ESPIPE,
		  posix_fadvise(self->e.fd[0], 0, 0, POSIX_FADV_NORMAL));
}

/*
 * DEVIATION: calls that only support the kernel's own pipes refuse zpipe with the
 * errors that they return for any other file. Zpipe has ioctls for the capacity.
 */
TEST_F_TIMEOUT(all, pipe_only_calls, TIMEOUT)
{
	struct iovec iov = { "x", 1 };
	bool zpipe = is_zpipe(variant->kind);
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(zpipe ? -EBADF : FULL,
		  sys(fcntl(self->e.fd[0], F_GETPIPE_SZ)));
	EXPECT_EQ(zpipe ? -EBADF : FULL,
		  sys(fcntl(self->e.fd[0], F_SETPIPE_SZ, FULL)));
	EXPECT_EQ(zpipe ? -EBADF : 1, sys(vmsplice(self->e.fd[1], &iov, 1, 0)));
	EXPECT_EQ(zpipe ? -EINVAL : 1, sys(tee(self->e.fd[0], p[1], 1, 0)));
}

/*
 * DEVIATION: splice between zpipe and a file that is no pipe of the kernel's own is EINVAL, since
 * the kernel finds no pipe. Zpipe has ioctls for it.
 */
TEST_F_TIMEOUT(all, splice_and_sendfile, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	int file = memfd_create("file", 0);
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, stream_write(p[1], 0, 1));
	ASSERT_EQ(1, pwrite(file, "x", 1, 0));
	EXPECT_EQ(1, sys(splice(p[0], NULL, self->e.fd[1], NULL, 1, 0)));
	EXPECT_EQ(1, sys(sendfile(self->e.fd[1], file, NULL, 1)));
	EXPECT_EQ(1, sys(splice(self->e.fd[0], NULL, p[1], NULL, 1, 0)));
	EXPECT_EQ(1, fionread(self->e.fd[0]));
	EXPECT_EQ(1, fionread(p[0]));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(zpipe ? -EINVAL : 1, sys(splice(file, NULL, self->e.fd[1], NULL, 1, 0)));
	EXPECT_EQ(zpipe ? -EINVAL : 1, sys(splice(self->e.fd[0], NULL, file, NULL, 1, 0)));
}

TEST_HARNESS_MAIN
