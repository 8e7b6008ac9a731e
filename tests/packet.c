// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packet mode, set by the flag of pipe2(2) or by fcntl(F_SETFL, O_DIRECT). Each write
 * is one packet, and each read returns one packet.
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#include <sys/uio.h>

#define FULL		(SLOTS * PAGE)

static int set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL) & ~O_DIRECT;

	return sys(fcntl(fd, F_SETFL, flags | (on ? O_DIRECT : 0)));
}

/* All kinds of pipes, opened in packet mode, with both ends non-blocking. */
FIXTURE(packets) {
	struct ends e;
};

FIXTURE_VARIANT(packets) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(packets, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(packets, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(packets, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(packets, znode) { .kind = ZNODE };

FIXTURE_SETUP(packets)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, O_DIRECT | O_NONBLOCK));
}

FIXTURE_TEARDOWN(packets)
{
	ends_free(&self->e);
}

TEST_F_TIMEOUT(packets, flag_shows_at_the_write_end, TIMEOUT)
{
	EXPECT_EQ(O_DIRECT, fcntl(self->e.fd[1], F_GETFL) & O_DIRECT);
	EXPECT_EQ(0, fcntl(self->e.fd[0], F_GETFL) & O_DIRECT);
}

TEST_F_TIMEOUT(packets, each_read_returns_one_packet, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(20, stream_write(self->e.fd[1], 10, 20));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 30, PAGE));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(20, stream_read(self->e.fd[0], 10, FULL));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 30, FULL));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(packets, short_read_drops_the_rest, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 100, 10));
	EXPECT_EQ(30, stream_read(self->e.fd[0], 0, 30));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 100, 30));
}

TEST_F_TIMEOUT(packets, large_write_is_several_packets, TIMEOUT)
{
	ASSERT_EQ(2 * PAGE + 100, stream_write(self->e.fd[1], 0,
					       2 * PAGE + 100));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], PAGE, FULL));
	EXPECT_EQ(100, stream_read(self->e.fd[0], 2 * PAGE, FULL));
}

TEST_F_TIMEOUT(packets, zero_write_is_no_packet, TIMEOUT)
{
	struct iovec iov[2] = { { NULL, 0 }, { NULL, 0 } };

	EXPECT_EQ(0, stream_write(self->e.fd[1], 0, 0));
	EXPECT_EQ(0, sys(writev(self->e.fd[1], iov, 2)));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(packets, zero_read_consumes_no_packet, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 0));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 100));
}

TEST_F_TIMEOUT(packets, full_by_packets, TIMEOUT)
{
	int i;

	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(1, stream_write(self->e.fd[1], i, 1));
	EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], i, 1));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(SLOTS, fionread(self->e.fd[0]));
	EXPECT_EQ(1, stream_read(self->e.fd[0], 0, 100));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(packets, partial_write_is_whole_packets, TIMEOUT)
{
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(FULL - PAGE, stream_write(self->e.fd[1], 1, 2 * FULL));
	EXPECT_EQ(1, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 1, FULL));
}

TEST_F_TIMEOUT(packets, writev_is_one_packet, TIMEOUT)
{
	char buf[30];
	struct iovec iov[4] = {
		{ buf, 10 }, { NULL, 0 }, { buf + 10, 10 }, { buf + 20, 10 },
	};

	stream_fill(buf, 0, 30);
	EXPECT_EQ(30, sys(writev(self->e.fd[1], iov, 4)));
	EXPECT_EQ(30, stream_read(self->e.fd[0], 0, 100));
}

TEST_F_TIMEOUT(packets, readv_returns_one_packet, TIMEOUT)
{
	char buf[30];
	struct iovec iov[3] = {
		{ buf, 10 }, { NULL, 0 }, { buf + 10, 20 },
	};

	ASSERT_EQ(15, stream_write(self->e.fd[1], 0, 15));
	ASSERT_EQ(15, stream_write(self->e.fd[1], 15, 15));
	EXPECT_EQ(15, sys(readv(self->e.fd[0], iov, 3)));
	EXPECT_EQ(-1, stream_diff(buf, 0, 15));
}

TEST_F_TIMEOUT(packets, bad_buffer_keeps_the_packet, TIMEOUT)
{
	void *bad = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], bad, 10)));
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], bad, 10)));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 100));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 100));
}

TEST_F_TIMEOUT(packets, flag_of_the_read_end_has_no_effect, TIMEOUT)
{
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(0, set_direct(self->e.fd[0], true));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 10, 10));
	EXPECT_EQ(5, stream_read(self->e.fd[0], 0, 5));
	EXPECT_EQ(15, stream_read(self->e.fd[0], 5, 100));
}

TEST_F_TIMEOUT(packets, stream_does_not_merge_into_a_packet, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 10, 10));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 20, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 100));
	EXPECT_EQ(20, stream_read(self->e.fd[0], 10, 100));
}

/*
 * As in fs/pipe.c, the last slot decides whether to merge, and not the writer. So the
 * ten bytes are not a packet.
 */
TEST_F_TIMEOUT(packets, packet_merges_into_a_stream, TIMEOUT)
{
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 10, 10));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 20, PAGE));
	EXPECT_EQ(15, stream_read(self->e.fd[0], 0, 15));
	EXPECT_EQ(5 + PAGE, stream_read(self->e.fd[0], 15, FULL));
}

TEST_F_TIMEOUT(packets, packet_ends_a_read_that_began_with_a_stream, TIMEOUT)
{
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 100, PAGE));
	ASSERT_EQ(50, stream_write(self->e.fd[1], 100 + PAGE, 50));
	EXPECT_EQ(100 + PAGE, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(50, stream_read(self->e.fd[0], 100 + PAGE, FULL));
}

TEST_F_TIMEOUT(packets, read_that_began_with_a_stream_drops_the_rest, TIMEOUT)
{
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 100, PAGE));
	EXPECT_EQ(150, stream_read(self->e.fd[0], 0, 150));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(packets, resize_keeps_packets, TIMEOUT)
{
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(10, stream_write(self->e.fd[1], i * 10, 10));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0],
				       2 * PAGE));
	EXPECT_EQ(4 * PAGE, set_capacity(variant->kind, self->e.fd[0],
					 4 * PAGE));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(10, stream_read(self->e.fd[0], i * 10, 100));
}

TEST_F_TIMEOUT(packets, blocked_packet_arrives_whole, TIMEOUT)
{
	struct child c;
	int i;

	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(1, stream_write(self->e.fd[1], i, 1));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], false));
	child_write(&c, &self->e, SLOTS, PAGE);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(SLOTS, fionread(self->e.fd[0]));
	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(1, stream_read(self->e.fd[0], i, 1));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], SLOTS, FULL));
}

TEST_F_TIMEOUT(packets, large_blocked_write_stays_packets, TIMEOUT)
{
	struct child c;
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], false));
	child_write(&c, &self->e, 0, FULL + 3 * PAGE + 7);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	for (i = 0; i < SLOTS + 3; i++) {
		ASSERT_TRUE(i < 4 ? child_asleep(&c) :
				    eventually(child_done(&c)));
		ASSERT_EQ(PAGE, stream_read(self->e.fd[0], i * PAGE, FULL));
	}
	EXPECT_EQ(7, stream_read(self->e.fd[0], i * PAGE, FULL));
	EXPECT_EQ(FULL + 3 * PAGE + 7, child_join(&c));
}

TEST_F_TIMEOUT(packets, packet_wakes_a_reader_with_a_large_buffer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
	child_read(&c, &self->e, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
}

/* A blocked reader gets the first packet of a large write in packet mode. */
TEST_F_TIMEOUT(packets, waiting_reader_gets_one_packet, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
	child_read(&c, &self->e, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(4 * PAGE, stream_write(self->e.fd[1], 0, 4 * PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(3 * PAGE, fionread(self->e.fd[0]));
}

/*
 * If a description gets O_DIRECT during a blocked write, that write goes on with
 * packets.
 */
TEST_F_TIMEOUT(packets, o_direct_set_during_a_blocked_write, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], false));
	child_write(&c, &self->e, 0, FULL + 2 * PAGE);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	ASSERT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, 2 * PAGE));
	EXPECT_EQ(FULL + 2 * PAGE, child_join(&c));
	/*
	 * The first read returns 14 slots of the stream and one packet. The second
	 * packet follows.
	 */
	EXPECT_EQ(FULL - PAGE, stream_read(self->e.fd[0], 2 * PAGE, 2 * FULL));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], FULL + PAGE, 2 * FULL));
}

TEST_F_TIMEOUT(named, mode_belongs_to_the_open, TIMEOUT)
{
	int other;

	ASSERT_EQ(0, open_ends(&self->e, O_DIRECT));
	other = open(self->e.path, O_WRONLY);
	ASSERT_LE(0, other);
	ASSERT_EQ(10, stream_write(other, 0, 10));
	ASSERT_EQ(10, stream_write(other, 10, 10));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 20, PAGE));
	ASSERT_EQ(10, stream_write(other, 20 + PAGE, 10));
	EXPECT_EQ(20, stream_read(self->e.fd[0], 0, 20));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 20, FULL));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 20 + PAGE, FULL));
}

TEST_F_TIMEOUT(packets, random_steps, TIMEOUT)
{
	unsigned long s = seed(3), state = s;
	struct model m = { .max = SLOTS };
	long in = 0, out = 0, ret, want;
	bool direct = true;
	int i;

	for (i = 0; i < 600; i++) {
		long len = rnd_len(&state, 6 * PAGE);

		if (rnd(&state) % 10 == 0) {
			direct = !direct;
			ASSERT_EQ(0, set_direct(self->e.fd[1], direct));
		}
		if (rnd(&state) % 2) {
			want = model_write(&m, len, direct);
			ret = stream_write(self->e.fd[1], in, len);
			in += want;
		} else {
			want = model_read(&m, len);
			ret = stream_read(self->e.fd[0], out, len);
			/* A read consumes the whole packet, even if it returns less. */
			out = in - model_fionread(&m);
		}
		ASSERT_EQ(want ? want : -EAGAIN, ret)
			TH_LOG("seed %lu, step %d", s, i);
		ASSERT_EQ(model_fionread(&m), fionread(self->e.fd[0]))
			TH_LOG("seed %lu, step %d", s, i);
	}
}

TEST_HARNESS_MAIN
