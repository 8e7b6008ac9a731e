// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring(7): reads and writes that would block complete later, and can be cancelled
 * without side effects. For private pairs io_uring polls, since they allow IOCB_NOWAIT.
 * For named pipes it blocks in a worker thread.
 */
#include "oracle.h"
#include "child.h"
#include "ring.h"

#include <sys/uio.h>

#define FULL		(SLOTS * PAGE)

/* Submits a read or write with the user data @data. */
static int submit(struct ring *r, int op, int fd, void *buf, unsigned int len,
		  __u64 data)
{
	struct io_uring_sqe sqe = {
		.opcode = op, .fd = fd, .addr = (unsigned long)buf, .len = len,
		.off = -1ULL, .user_data = data,
	};

	return submit_sqe(r, &sqe);
}

/* Submits a read or write with registered buffer number @index. */
static int submit_fixed(struct ring *r, int op, int fd, void *buf,
			unsigned int len, int index)
{
	struct io_uring_sqe sqe = {
		.opcode = op, .fd = fd, .addr = (unsigned long)buf, .len = len,
		.off = -1ULL, .buf_index = index,
	};

	return submit_sqe(r, &sqe);
}

static int submit_poll(struct ring *r, int fd, unsigned int events)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = events,
	};

	return submit_sqe(r, &sqe);
}

static int submit_cancel(struct ring *r, __u64 whom, __u64 data)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_ASYNC_CANCEL, .fd = -1, .addr = whom,
		.user_data = data,
	};

	return submit_sqe(r, &sqe);
}

FIXTURE(uring) {
	struct ends e;
	struct ring r;
	unsigned char *buf;
};

FIXTURE_VARIANT(uring) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(uring, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(uring, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(uring, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(uring, znode) { .kind = ZNODE };

FIXTURE_SETUP(uring)
{
	if (access("/proc/sys/kernel/io_uring_disabled", F_OK))
		SKIP(return, "this kernel has no io_uring");
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	self->buf = malloc(4 * FULL);
	ASSERT_EQ(0, ring_make(&self->r));
}

FIXTURE_TEARDOWN(uring)
{
	ends_free(&self->e);
}

TEST_F_TIMEOUT(uring, read_of_buffered_bytes, TIMEOUT)
{
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    FULL, 1));
	EXPECT_EQ(5000, complete(&self->r, NULL));
	EXPECT_EQ(-1, stream_diff(self->buf, 0, 5000));
}

TEST_F_TIMEOUT(uring, write_that_fits, TIMEOUT)
{
	stream_fill(self->buf, 0, 5000);
	ASSERT_EQ(1, submit(&self->r, IORING_OP_WRITE, self->e.fd[1], self->buf,
			    5000, 1));
	EXPECT_EQ(5000, complete(&self->r, NULL));
	EXPECT_EQ(5000, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(uring, read_waits_for_data, TIMEOUT)
{
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    FULL, 1));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, complete(&self->r, NULL));
	EXPECT_EQ(-1, stream_diff(self->buf, 0, 10));
}

TEST_F_TIMEOUT(uring, read_waits_for_end_of_file, TIMEOUT)
{
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    FULL, 1));
	EXPECT_TRUE(waits(&self->r));
	close_end(&self->e, 1);
	EXPECT_EQ(0, complete(&self->r, NULL));
}

TEST_F_TIMEOUT(uring, write_waits_for_a_free_slot, TIMEOUT)
{
	stream_fill(self->buf, FULL, 100);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(1, submit(&self->r, IORING_OP_WRITE, self->e.fd[1], self->buf,
			    100, 1));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(100, complete(&self->r, NULL));
	EXPECT_EQ(FULL - PAGE + 100, stream_read(self->e.fd[0], PAGE,
						 2 * FULL));
}

TEST_F_TIMEOUT(uring, write_waits_for_a_reader_that_leaves, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(1, submit(&self->r, IORING_OP_WRITE, self->e.fd[1], self->buf,
			    100, 1));
	EXPECT_TRUE(waits(&self->r));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, complete(&self->r, NULL));
}

TEST_F_TIMEOUT(uring, large_write_is_read_in_pieces, TIMEOUT)
{
	long off = 0, n, ret;

	stream_fill(self->buf, 0, 3 * FULL);
	ASSERT_EQ(1, submit(&self->r, IORING_OP_WRITE, self->e.fd[1], self->buf,
			    3 * FULL, 1));
	/* A write to a pair may return when the pipe is full. A write to a node goes on. */
	set_nonblock(self->e.fd[0], true);
	eventually((ret = completed(&self->r, NULL)) != NOTHING ||
		   (n = stream_read(self->e.fd[0], off, 20000)) <= 0 ||
		   (off += n) == 3 * FULL);
	if (ret == NOTHING)
		ret = complete(&self->r, NULL);
	while ((n = stream_read(self->e.fd[0], off, FULL)) > 0)
		off += n;
	EXPECT_EQ(-EAGAIN, n);
	EXPECT_LE(FULL, ret);
	EXPECT_EQ(off, ret);
}

/* For a file that it can poll, io_uring waits in spite of O_NONBLOCK. */
TEST_F_TIMEOUT(uring, nonblock_read_waits_too, TIMEOUT)
{
	set_nonblock(self->e.fd[0], true);
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    FULL, 1));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, complete(&self->r, NULL));
}

TEST_F_TIMEOUT(uring, bad_buffer_efault, TIMEOUT)
{
	void *bad = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], bad, 10,
			    1));
	EXPECT_EQ(-EFAULT, complete(&self->r, NULL));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

/* The module sees registered buffers as kernel pages, not as user memory. */
TEST_F_TIMEOUT(uring, registered_buffers, TIMEOUT)
{
	unsigned char *in = malloc(FULL);
	struct iovec iov[2] = { { self->buf, FULL }, { in, FULL } };

	ASSERT_EQ(0, sys(syscall(SYS_io_uring_register, self->r.fd,
				 IORING_REGISTER_BUFFERS, iov, 2)));
	stream_fill(self->buf, 0, FULL);
	ASSERT_EQ(1, submit_fixed(&self->r, IORING_OP_WRITE_FIXED,
				  self->e.fd[1], self->buf + 100, FULL - 5000,
				  0));
	EXPECT_EQ(FULL - 5000, complete(&self->r, NULL));
	ASSERT_EQ(1, submit_fixed(&self->r, IORING_OP_READ_FIXED,
				  self->e.fd[0], in + 7, FULL - 7, 1));
	EXPECT_EQ(FULL - 5000, complete(&self->r, NULL));
	EXPECT_EQ(-1, stream_diff(in + 7, 100, FULL - 5000));
}

TEST_F_TIMEOUT(uring, registered_buffer_waits_for_data, TIMEOUT)
{
	struct iovec iov = { self->buf, FULL };

	ASSERT_EQ(0, sys(syscall(SYS_io_uring_register, self->r.fd,
				 IORING_REGISTER_BUFFERS, &iov, 1)));
	ASSERT_EQ(1, submit_fixed(&self->r, IORING_OP_READ_FIXED,
				  self->e.fd[0], self->buf, FULL, 0));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(5000, complete(&self->r, NULL));
	EXPECT_EQ(-1, stream_diff(self->buf, 0, 5000));
}

/*
 * A waiting large read and a large write. For a pair io_uring polls. For a node a
 * worker thread blocks in the read.
 */
TEST_F_TIMEOUT(uring, large_write_to_a_read_that_waits, TIMEOUT)
{
	long w, r;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	memset(self->buf, 0xcc, 4 * FULL);
	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    4 * FULL, 1));
	EXPECT_TRUE(waits(&self->r));
	w = stream_write(self->e.fd[1], 0, 5 * FULL);
	EXPECT_LE(FULL, w);
	r = complete(&self->r, NULL);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(self->buf, 0, r));
	EXPECT_EQ(w - r, fionread(self->e.fd[0]));
	while (r < w) {
		long n = stream_read(self->e.fd[0], r, 5 * FULL);

		ASSERT_LT(0, n);
		r += n;
	}
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

static long child_do_large_read(struct child *c)
{
	unsigned char *p = malloc(c->len);
	long n;

	memset(p, 0xcc, c->len);
	n = read(c->fd, p, c->len);
	return n > 0 && stream_diff(p, 0, n) >= 0 ? -EILSEQ : n;
}

TEST_F_TIMEOUT(uring, registered_buffer_to_a_reader_that_waits, TIMEOUT)
{
	struct iovec iov = { self->buf, 4 * FULL };
	struct child c = {
		.nr = SYS_read, .fn = child_do_large_read,
		.fd = self->e.fd[0], .drop = self->e.fd[1], .len = 4 * FULL,
	};
	long w = 0, r, n;

	ASSERT_EQ(0, sys(syscall(SYS_io_uring_register, self->r.fd,
				 IORING_REGISTER_BUFFERS, &iov, 1)));
	stream_fill(self->buf, 0, 4 * FULL);
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(1, submit_fixed(&self->r, IORING_OP_WRITE_FIXED,
				  self->e.fd[1], self->buf, 4 * FULL, 0));
	r = child_join(&c);
	ASSERT_LT(0, r);
	/* A write to a pair may return when the pipe is full. A write to a node goes on. */
	set_nonblock(self->e.fd[0], true);
	eventually((w = completed(&self->r, NULL)) != NOTHING ||
		   (n = stream_read(self->e.fd[0], r, FULL)) <= 0 ||
		   (r += n) == 4 * FULL);
	if (w == NOTHING)
		w = complete(&self->r, NULL);
	while ((n = stream_read(self->e.fd[0], r, FULL)) > 0)
		r += n;
	EXPECT_EQ(-EAGAIN, n);
	EXPECT_LE(FULL, w);
	EXPECT_EQ(w, r);
}

TEST_F_TIMEOUT(uring, poll, TIMEOUT)
{
	ASSERT_EQ(1, submit_poll(&self->r, self->e.fd[0], POLLIN));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(POLLIN, complete(&self->r, NULL));
}

/* A cancelled read has consumed nothing, and leaves no waiter behind. */
TEST_F_TIMEOUT(uring, cancelled_read_consumes_nothing, TIMEOUT)
{
	long ret[3] = {};
	__u64 data = 0;
	int i;

	ASSERT_EQ(1, submit(&self->r, IORING_OP_READ, self->e.fd[0], self->buf,
			    FULL, 1));
	EXPECT_TRUE(waits(&self->r));
	ASSERT_EQ(1, submit_cancel(&self->r, 1, 2));
	for (i = 0; i < 2; i++) {
		long r = complete(&self->r, &data);

		ASSERT_TRUE(data == 1 || data == 2);
		ret[data] = r;
	}
	/* A worker thread may return EINTR. A polled operation returns ECANCELED. */
	EXPECT_TRUE(ret[1] == -ECANCELED || ret[1] == -EINTR);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

TEST_HARNESS_MAIN
