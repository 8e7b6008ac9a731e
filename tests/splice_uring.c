// SPDX-License-Identifier: GPL-2.0-only
/* Splices by io_uring(7), which a worker thread of the kernel carries out, in both directions. */
#include "splice.h"
#include "ring.h"

static int submit_splice(struct ring *r, struct way *w, unsigned int len, unsigned int flags)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_SPLICE, .splice_fd_in = w->in->fd[0], .splice_off_in = -1ULL,
		.fd = w->out->fd[1], .off = -1ULL, .len = len, .splice_flags = flags,
		.user_data = 1,
	};

	return submit_sqe(r, &sqe);
}

static bool no_uring(void)
{
	return access("/proc/sys/kernel/io_uring_disabled", F_OK);
}

BOTH_WAYS(bytes_of_one_splice)
{
	struct ring r;

	if (no_uring())
		SKIP(return, "this kernel has no io_uring");
	ASSERT_EQ(0, ring_make(&r));
	ASSERT_EQ(3 * PAGE + 7, stream_write(w->in->fd[1], 0, 3 * PAGE + 7));
	ASSERT_EQ(1, submit_splice(&r, w, 2 * PAGE + 5, 0));
	EXPECT_EQ(2 * PAGE + 5, complete(&r, NULL));
	EXPECT_EQ(PAGE + 2, fionread(w->in->fd[0]));
	ASSERT_EQ(1, submit_splice(&r, w, FULL, 0));
	EXPECT_EQ(PAGE + 2, complete(&r, NULL));
	EXPECT_EQ(3 * PAGE + 7, stream_read(w->out->fd[0], 0, FULL));
	if (is_zpipe(w->e.kind) && w->in == &w->e)
		EXPECT_LE(2, passed_on(w));
}

BOTH_WAYS(waits)
{
	struct ring r;

	if (no_uring())
		SKIP(return, "this kernel has no io_uring");
	ASSERT_EQ(0, ring_make(&r));
	ASSERT_EQ(1, submit_splice(&r, w, FULL, 0));
	EXPECT_TRUE(waits(&r));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(10, complete(&r, NULL));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	ASSERT_EQ(1, submit_splice(&r, w, FULL, 0));
	EXPECT_TRUE(waits(&r));
	ASSERT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(10, complete(&r, NULL));
	EXPECT_EQ(10, stream_read(w->out->fd[0], FULL, FULL));
}

BOTH_WAYS(does_not_wait)
{
	struct ring r;

	if (no_uring())
		SKIP(return, "this kernel has no io_uring");
	ASSERT_EQ(0, ring_make(&r));
	ASSERT_EQ(1, submit_splice(&r, w, FULL, SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, complete(&r, NULL));
	close_end(w->in, 1);
	ASSERT_EQ(1, submit_splice(&r, w, FULL, 0));
	EXPECT_EQ(0, complete(&r, NULL));
}

/* A cancelled splice has transferred nothing. */
BOTH_WAYS(cancelled)
{
	struct io_uring_sqe cancel = {
		.opcode = IORING_OP_ASYNC_CANCEL, .fd = -1, .addr = 1, .user_data = 2,
	};
	long ret[3] = {};
	struct ring r;
	__u64 data = 0;
	int i;

	if (no_uring())
		SKIP(return, "this kernel has no io_uring");
	ASSERT_EQ(0, ring_make(&r));
	ASSERT_EQ(1, submit_splice(&r, w, FULL, 0));
	EXPECT_TRUE(waits(&r));
	ASSERT_EQ(1, submit_sqe(&r, &cancel));
	for (i = 0; i < 2; i++) {
		long n = complete(&r, &data);

		ASSERT_TRUE(data == 1 || data == 2);
		ret[data] = n;
	}
	EXPECT_TRUE(ret[1] == -ECANCELED || ret[1] == -EINTR);
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(w->in->fd[0], 0, FULL));
	EXPECT_EQ(0, fionread(w->out->fd[0]));
}

TEST_HARNESS_MAIN
