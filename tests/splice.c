// SPDX-License-Identifier: GPL-2.0-only
/*
 * splice(2) and sendfile(2): which bytes one call transfers, and every error. The tests of
 * splice(2) run in both directions, from the variant's pipe and into it. Here no call blocks.
 */
#include "splice.h"
#include "model.h"

#include <sys/sendfile.h>

/* Two copies of the same steps see the same bytes, so reads can be compared. */
static unsigned char bytes[8 * PAGE], got[8 * PAGE], wanted[8 * PAGE];

BOTH_WAYS(bytes_are_exact)
{
	static const size_t lens[] = {
		1, 7, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 5 * PAGE + 123, FULL, 2 * FULL,
	};
	unsigned long off = 0;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(lens) - 1; i++) {
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			size_t left = lens[i];

			if (lens[i] / lens[j] > 200)
				continue;
			ASSERT_EQ(left, stream_write(w->in->fd[1], off, left));
			while (left) {
				size_t want = lens[j] < left ? lens[j] : left;
				long n = move(w, lens[j], 0);

				ASSERT_EQ(want, n) TH_LOG("%zu by %zu", lens[i], lens[j]);
				ASSERT_EQ(left - n, fionread(w->in->fd[0]));
				ASSERT_EQ(n, fionread(w->out->fd[0]));
				ASSERT_EQ(n, stream_read(w->out->fd[0], off, 2 * FULL));
				left -= n;
				off += n;
			}
		}
	}
}

BOTH_WAYS(more_than_there_is)
{
	ASSERT_EQ(5000, stream_write(w->in->fd[1], 0, 5000));
	EXPECT_EQ(5000, move(w, 1 << 30, 0));
	EXPECT_EQ(0, fionread(w->in->fd[0]));
	EXPECT_EQ(0, poll_mask(w->in->fd[0]));
	EXPECT_EQ(POLLIN, poll_mask(w->out->fd[0]));
	EXPECT_EQ(5000, stream_read(w->out->fd[0], 0, FULL));
}

/* A slot is spliced in three parts, and the reader joins them. */
BOTH_WAYS(parts_of_a_slot)
{
	ASSERT_EQ(PAGE, stream_write(w->in->fd[1], 0, PAGE));
	EXPECT_EQ(100, move(w, 100, 0));
	EXPECT_EQ(1, move(w, 1, 0));
	EXPECT_EQ(PAGE - 101, fionread(w->in->fd[0]));
	EXPECT_EQ(101, fionread(w->out->fd[0]));
	EXPECT_EQ(PAGE - 101, move(w, PAGE, 0));
	EXPECT_EQ(PAGE, stream_read(w->out->fd[0], 0, FULL));
}

/* Slots that a reader has begun to read. */
BOTH_WAYS(rest_of_a_slot)
{
	ASSERT_EQ(3 * PAGE, stream_write(w->in->fd[1], 0, 3 * PAGE));
	ASSERT_EQ(100, stream_read(w->in->fd[0], 0, 100));
	EXPECT_EQ(PAGE, move(w, PAGE, 0));
	EXPECT_EQ(2 * PAGE - 100, fionread(w->in->fd[0]));
	EXPECT_EQ(2 * PAGE - 100, move(w, FULL, 0));
	EXPECT_EQ(3 * PAGE - 100, stream_read(w->out->fd[0], 100, FULL));
}

BOTH_WAYS(as_far_as_slots_are_free)
{
	ASSERT_EQ(FULL - 2 * PAGE, stream_write(w->out->fd[1], 0, FULL - 2 * PAGE));
	ASSERT_EQ(3 * PAGE + 7, stream_write(w->in->fd[1], FULL - 2 * PAGE, 3 * PAGE + 7));
	EXPECT_EQ(2 * PAGE, move(w, FULL, 0));
	EXPECT_EQ(PAGE + 7, fionread(w->in->fd[0]));
	EXPECT_EQ(0, poll_mask(w->out->fd[1]));
	EXPECT_EQ(FULL, stream_read(w->out->fd[0], 0, 2 * FULL));
	EXPECT_EQ(PAGE + 7, move(w, FULL, 0));
	EXPECT_EQ(PAGE + 7, stream_read(w->out->fd[0], FULL, 2 * FULL));
}

/*
 * DEVIATION: bytes that are spliced into a zpipe are appended to its last slot, as those of a
 * write. Into a pipe of the kernel's own each splice fills a slot.
 */
TEST_F_TIMEOUT(into, single_bytes, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	struct way *w = &self->w;
	int i;

	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(1, move(w, 1, 0));
	EXPECT_EQ(zpipe ? POLLOUT : 0, poll_mask(w->out->fd[1]));
	EXPECT_EQ(zpipe ? 1 : -EAGAIN, move(w, 1, SPLICE_F_NONBLOCK));
	EXPECT_EQ(SLOTS + zpipe, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(100 - SLOTS - zpipe, move(w, FULL, 0));
	EXPECT_EQ(100 - SLOTS - zpipe, stream_read(w->out->fd[0], SLOTS + zpipe, FULL));
}

TEST_F_TIMEOUT(from, single_bytes, TIMEOUT)
{
	struct way *w = &self->w;
	int i;

	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	for (i = 0; i < SLOTS; i++)
		ASSERT_EQ(1, move(w, 1, 0));
	EXPECT_EQ(-EAGAIN, move(w, 1, SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, poll_mask(w->out->fd[1]));
	EXPECT_EQ(100 - SLOTS, fionread(w->in->fd[0]));
	EXPECT_EQ(SLOTS, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(100 - SLOTS, move(w, FULL, 0));
	EXPECT_EQ(100 - SLOTS, stream_read(w->out->fd[0], SLOTS, FULL));
}

/* Writes to the source after a splice of a part do not change what was spliced. */
BOTH_WAYS(writes_behind_a_splice)
{
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	ASSERT_EQ(50, move(w, 50, 0));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 100, 100));
	ASSERT_EQ(150, move(w, FULL, 0));
	ASSERT_EQ(100, stream_write(w->out->fd[1], 200, 100));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 300, 100));
	ASSERT_EQ(100, move(w, FULL, 0));
	EXPECT_EQ(400, stream_read(w->out->fd[0], 0, FULL));
}

BOTH_WAYS(empty_source_eagain)
{
	EXPECT_EQ(-EAGAIN, move(w, 10, SPLICE_F_NONBLOCK));
	ASSERT_EQ(0, set_nonblock(w->in->fd[0], true));
	EXPECT_EQ(-EAGAIN, move(w, 10, 0));
	ASSERT_EQ(0, set_nonblock(w->in->fd[0], false));
	ASSERT_EQ(0, set_nonblock(w->out->fd[1], true));
	EXPECT_EQ(-EAGAIN, move(w, 10, 0));
	EXPECT_EQ(0, fionread(w->out->fd[0]));
}

BOTH_WAYS(full_destination_eagain)
{
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], FULL, 10));
	EXPECT_EQ(-EAGAIN, move(w, 10, SPLICE_F_NONBLOCK));
	ASSERT_EQ(0, set_nonblock(w->out->fd[1], true));
	EXPECT_EQ(-EAGAIN, move(w, 10, 0));
	EXPECT_EQ(10, fionread(w->in->fd[0]));
	EXPECT_EQ(FULL, stream_read(w->out->fd[0], 0, 2 * FULL));
	EXPECT_EQ(10, move(w, 10, 0));
	EXPECT_EQ(10, stream_read(w->out->fd[0], FULL, 2 * FULL));
}

BOTH_WAYS(nonblocking_splice_is_partial)
{
	ASSERT_EQ(FULL - PAGE, stream_write(w->out->fd[1], 0, FULL - PAGE));
	ASSERT_EQ(2 * PAGE, stream_write(w->in->fd[1], 0, 2 * PAGE));
	EXPECT_EQ(PAGE, move(w, FULL, SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, move(w, FULL, SPLICE_F_NONBLOCK));
	EXPECT_EQ(PAGE, fionread(w->in->fd[0]));
}

TEST_F_TIMEOUT(into, nonblocking_source_full_destination, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->w.out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(self->w.in->fd[1], FULL, 10));
	ASSERT_EQ(0, set_nonblock(self->w.in->fd[0], true));
	EXPECT_EQ(-EAGAIN, move(&self->w, 10, 0));
}

/*
 * DEVIATION: O_NONBLOCK of the read end does not count while the kernel waits for space in its
 * own pipe: splice_file_to_pipe() looks only at the other file.
 */
TEST_F_TIMEOUT(from, nonblocking_source_waits_for_space, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->w.out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(self->w.in->fd[1], FULL, 10));
	ASSERT_EQ(0, set_nonblock(self->w.in->fd[0], true));
	child_move(&c, &self->w, 10, 0);
	if (is_zpipe(variant->kind)) {
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(PAGE, stream_read(self->w.out->fd[0], 0, PAGE));
		EXPECT_EQ(10, child_join(&c));
	} else {
		EXPECT_EQ(-EAGAIN, child_join(&c));
	}
}

BOTH_WAYS(end_of_file)
{
	close_end(w->in, 1);
	EXPECT_EQ(0, move(w, 10, 0));
	EXPECT_EQ(0, move(w, 10, SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, poll_mask(w->out->fd[0]));
}

BOTH_WAYS(end_of_file_behind_the_data)
{
	ASSERT_EQ(5000, stream_write(w->in->fd[1], 0, 5000));
	close_end(w->in, 1);
	EXPECT_EQ(4999, move(w, 4999, 0));
	EXPECT_EQ(1, move(w, 4999, 0));
	EXPECT_EQ(0, move(w, 4999, 0));
	EXPECT_EQ(5000, stream_read(w->out->fd[0], 0, FULL));
}

/* A full destination counts before the end of the source's data. */
BOTH_WAYS(end_of_file_and_full_destination)
{
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	close_end(w->in, 1);
	EXPECT_EQ(-EAGAIN, move(w, 10, SPLICE_F_NONBLOCK));
	ASSERT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(0, move(w, 10, SPLICE_F_NONBLOCK));
}

BOTH_WAYS(epipe_keeps_the_bytes)
{
	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(5000, stream_write(w->in->fd[1], 0, 5000));
	close_end(w->out, 0);
	EXPECT_EQ(-EPIPE, move(w, 5000, 0));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(-EPIPE, move(w, 5000, SPLICE_F_NONBLOCK));
	EXPECT_EQ(2, signals_seen);
	EXPECT_EQ(5000, stream_read(w->in->fd[0], 0, FULL));
}

BOTH_WAYS(epipe_at_the_end_of_file)
{
	catch_signal(SIGPIPE, 0);
	close_end(w->in, 1);
	close_end(w->out, 0);
	EXPECT_EQ(-EPIPE, move(w, 10, 0));
	EXPECT_EQ(1, signals_seen);
}

BOTH_WAYS(epipe_of_a_full_destination)
{
	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(FULL, stream_write(w->out->fd[1], 0, FULL));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	close_end(w->out, 0);
	EXPECT_EQ(-EPIPE, move(w, 10, SPLICE_F_NONBLOCK));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(10, fionread(w->in->fd[0]));
}

BOTH_WAYS(sigpipe_kills)
{
	struct child c;

	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	close_end(w->out, 0);
	child_move(&c, w, 10, 0);
	EXPECT_EQ(KILLED(SIGPIPE), child_join(&c));
	EXPECT_EQ(10, stream_read(w->in->fd[0], 0, 20));
}

/* An empty source counts before a destination without readers. */
TEST_F_TIMEOUT(into, empty_source_and_no_reader, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	close_end(self->w.out, 0);
	EXPECT_EQ(-EAGAIN, move(&self->w, 10, SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, signals_seen);
}

/* DEVIATION: the kernel looks at its own pipe before it asks zpipe for bytes. */
TEST_F_TIMEOUT(from, empty_source_and_no_reader, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);

	catch_signal(SIGPIPE, 0);
	close_end(self->w.out, 0);
	EXPECT_EQ(zpipe ? -EPIPE : -EAGAIN, move(&self->w, 10, SPLICE_F_NONBLOCK));
	EXPECT_EQ(zpipe, signals_seen);
}

BOTH_WAYS(nothing_to_splice)
{
	EXPECT_EQ(0, move(w, 0, 0));
	close_end(w->out, 0);
	EXPECT_EQ(0, move(w, 0, 0));
}

BOTH_WAYS(wrong_ends_ebadf)
{
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	EXPECT_EQ(-EBADF, sys(splice(w->in->fd[1], NULL, w->out->fd[1], NULL, 10, 0)));
	EXPECT_EQ(-EBADF, sys(splice(w->in->fd[0], NULL, w->out->fd[0], NULL, 10, 0)));
	EXPECT_EQ(-EINVAL, move(w, 10, 0x1000));
	EXPECT_EQ(10, fionread(w->in->fd[0]));
}

/* Splices with an offset in each of the files: the two results. */
static void offsets(struct way *w, long ret[2])
{
	loff_t off = 0;

	ret[0] = sys(splice(w->in->fd[0], &off, w->out->fd[1], NULL, 10, 0));
	ret[1] = sys(splice(w->in->fd[0], NULL, w->out->fd[1], &off, 10, 0));
}

/* DEVIATION: an offset for zpipe is EINVAL, since the kernel takes zpipe for a file. */
TEST_F_TIMEOUT(from, offsets_espipe, TIMEOUT)
{
	long ret[2];

	ASSERT_EQ(10, stream_write(self->w.in->fd[1], 0, 10));
	offsets(&self->w, ret);
	EXPECT_EQ(is_zpipe(variant->kind) ? -EINVAL : -ESPIPE, ret[0]);
	EXPECT_EQ(-ESPIPE, ret[1]);
	EXPECT_EQ(10, fionread(self->w.in->fd[0]));
}

TEST_F_TIMEOUT(into, offsets_espipe, TIMEOUT)
{
	long ret[2];

	ASSERT_EQ(10, stream_write(self->w.in->fd[1], 0, 10));
	offsets(&self->w, ret);
	EXPECT_EQ(-ESPIPE, ret[0]);
	EXPECT_EQ(is_zpipe(variant->kind) ? -EINVAL : -ESPIPE, ret[1]);
	EXPECT_EQ(10, fionread(self->w.in->fd[0]));
}

/* DEVIATION: a write end with O_APPEND is EINVAL, since the kernel takes it for a file. */
TEST_F_TIMEOUT(into, append, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->w.in->fd[1], 0, 10));
	ASSERT_EQ(0, fcntl(self->w.out->fd[1], F_SETFL, O_APPEND));
	EXPECT_EQ(is_zpipe(variant->kind) ? -EINVAL : 10, move(&self->w, 10, 0));
}

BOTH_WAYS(packets_stay_packets)
{
	ASSERT_EQ(0, set_direct(w->in->fd[1], true));
	ASSERT_EQ(10, stream_write(w->in->fd[1], 0, 10));
	ASSERT_EQ(20, stream_write(w->in->fd[1], 10, 20));
	ASSERT_EQ(PAGE, stream_write(w->in->fd[1], 30, PAGE));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 30 + PAGE, 100));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	EXPECT_EQ(30 + PAGE + 200, move(w, FULL, 0));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(20, stream_read(w->out->fd[0], 10, FULL));
	EXPECT_EQ(PAGE, stream_read(w->out->fd[0], 30, FULL));
	EXPECT_EQ(1, stream_read(w->out->fd[0], 30 + PAGE, 1));
	EXPECT_EQ(100, fionread(w->out->fd[0]));
	EXPECT_EQ(99, stream_read(w->out->fd[0], 0, 99));
	EXPECT_EQ(0, fionread(w->out->fd[0]));
}

/* A packet is not appended to bytes that are no packet, and bytes are not appended to it. */
BOTH_WAYS(packet_behind_bytes)
{
	ASSERT_EQ(10, stream_write(w->out->fd[1], 0, 10));
	ASSERT_EQ(0, set_direct(w->in->fd[1], true));
	ASSERT_EQ(20, stream_write(w->in->fd[1], 10, 20));
	EXPECT_EQ(20, move(w, FULL, 0));
	ASSERT_EQ(30, stream_write(w->out->fd[1], 30, 30));
	EXPECT_EQ(30, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(30, stream_read(w->out->fd[0], 30, FULL));
}

/* Both parts of a packet are packets. */
BOTH_WAYS(parts_of_a_packet)
{
	ASSERT_EQ(0, set_direct(w->in->fd[1], true));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	EXPECT_EQ(30, move(w, 30, 0));
	EXPECT_EQ(40, move(w, 40, 0));
	EXPECT_EQ(10, stream_read(w->in->fd[0], 70, 10));
	EXPECT_EQ(0, fionread(w->in->fd[0]));
	EXPECT_EQ(30, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(40, stream_read(w->out->fd[0], 30, FULL));
}

/* Packet mode of the destination's write end is for writes. */
BOTH_WAYS(mode_of_the_destination_has_no_effect)
{
	ASSERT_EQ(0, set_direct(w->out->fd[1], true));
	ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
	EXPECT_EQ(50, move(w, 50, 0));
	EXPECT_EQ(50, move(w, 50, 0));
	EXPECT_EQ(10, stream_read(w->out->fd[0], 0, 10));
	EXPECT_EQ(90, stream_read(w->out->fd[0], 10, FULL));
}

/* What holds for any two pipes: no byte is lost, and EAGAIN contradicts no poll. */
BOTH_WAYS(random_streams)
{
	unsigned long s = seed(6), state = s, in = 0, out = 0;
	int i, k;

	for (k = 0; k < 2; k++) {
		ASSERT_EQ(0, set_nonblock(w->in->fd[k], true));
		ASSERT_EQ(0, set_nonblock(w->out->fd[k], true));
	}
	for (i = 0; i < 3000; i++) {
		long n, len = rnd_len(&state, 6 * PAGE), left = fionread(w->in->fd[0]);
		bool can = poll_mask(w->in->fd[0]) & POLLIN && poll_mask(w->out->fd[1]) & POLLOUT;

		switch (rnd(&state) % 4) {
		case 0:
			n = stream_write(w->in->fd[1], in, len);
			in += n > 0 ? n : 0;
			break;
		case 1:
			n = stream_read(w->out->fd[0], out, len);
			out += n > 0 ? n : 0;
			break;
		default:
			n = move(w, len, 0);
			ASSERT_TRUE(n > 0 || !can) TH_LOG("seed %lu, step %d: %ld", s, i, n);
			ASSERT_LE(n, len < left ? len : left);
		}
		ASSERT_TRUE(n > 0 || n == -EAGAIN) TH_LOG("seed %lu, step %d: %ld", s, i, n);
		ASSERT_EQ(in - out, fionread(w->in->fd[0]) + fionread(w->out->fd[0]));
	}
}

/* The same steps over two pipes of the kernel's own have the same results. */
TEST_F_TIMEOUT(from, random_steps, TIMEOUT)
{
	struct way *w = &self->w;
	unsigned long s = seed(5), state = s;
	struct way o, *both[2] = { &o, w };
	bool direct = false;
	int i, j, k;

	ASSERT_EQ(0, way_make(&o, true, PIPE));
	for (j = 0; j < 2; j++)
		for (k = 0; k < 2; k++) {
			ASSERT_EQ(0, set_nonblock(both[j]->in->fd[k], true));
			ASSERT_EQ(0, set_nonblock(both[j]->out->fd[k], true));
		}
	for (i = 0; i < 1500; i++) {
		unsigned int op = rnd(&state) % 8;
		long ret[2], len = rnd_len(&state, 6 * PAGE);

		if (rnd(&state) % 20 == 0) {
			direct = !direct;
			ASSERT_EQ(0, set_direct(o.in->fd[1], direct));
			ASSERT_EQ(0, set_direct(w->in->fd[1], direct));
		}
		stream_fill(bytes, rnd(&state) % 10000, len);
		for (j = 0; j < 2; j++) {
			unsigned char *buf = j ? got : wanted;
			struct way *p = both[j];

			memset(buf, 0, sizeof(got));
			if (op < 3)
				ret[j] = sys(write(p->in->fd[1], bytes, len));
			else if (op < 6)
				ret[j] = move(p, len, 0);
			else
				ret[j] = sys(read(p->out->fd[0], buf, len));
		}
		ASSERT_EQ(ret[0], ret[1])
			TH_LOG("seed %lu, step %d: operation %u of %ld", s, i, op, len);
		ASSERT_EQ(0, memcmp(wanted, got, sizeof(got)))
			TH_LOG("seed %lu, step %d: operation %u of %ld", s, i, op, len);
		ASSERT_EQ(fionread(o.in->fd[0]), fionread(w->in->fd[0]));
		ASSERT_EQ(fionread(o.out->fd[0]), fionread(w->out->fd[0]));
		for (k = 0; k < 2; k++) {
			ASSERT_EQ(poll_mask(o.in->fd[k]), poll_mask(w->in->fd[k]))
				TH_LOG("seed %lu, step %d, source %d", s, i, k);
			ASSERT_EQ(poll_mask(o.out->fd[k]), poll_mask(w->out->fd[k]))
				TH_LOG("seed %lu, step %d, destination %d", s, i, k);
		}
	}
	way_free(&o);
}

TEST_HARNESS_MAIN
