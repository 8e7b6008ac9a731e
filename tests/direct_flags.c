// SPDX-License-Identifier: GPL-2.0-only
/*
 * F_SETFL changes O_DIRECT and O_NONBLOCK of a file while a large write to it
 * is blocked. Bytes that were announced before stay a stream. The writer acts
 * on the change when it would go on writing.
 */
#include "direct.h"
#include "push.h"

static int set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL) & ~O_DIRECT;

	return sys(fcntl(fd, F_SETFL, flags | (on ? O_DIRECT : 0)));
}

/*
 * Starts a writer of a mebibyte, reads @consumed bytes of it, and checks that
 * the writer blocks.
 */
static void start_writer(struct __test_metadata *_metadata, struct child *c,
			 struct ends *e, long consumed)
{
	child_write_private(c, e, 0, MIB);
	ASSERT_TRUE(child_asleep(c));
	if (consumed)
		ASSERT_EQ(consumed, drain(e->fd[0], 0, consumed, consumed));
	ASSERT_TRUE(child_asleep(c));
	EXPECT_EQ(FULL - consumed % PAGE, fionread(e->fd[0]));
}

/*
 * The stream offset at which the @len bytes of @buf begin, or -1. A read begins
 * at @off. If that is inside a packet, whose rest is discarded, it begins at
 * the next page.
 */
static long find_read(const void *buf, long len, long off)
{
	long next = (off + PAGE - 1) / PAGE * PAGE;

	if (stream_diff(buf, off, len) < 0)
		return off;
	return stream_diff(buf, next, len) < 0 ? next : -1;
}

/*
 * The file gets O_DIRECT. Short reads still return everything that was
 * announced before. From then on the writer writes packets of a page, and a
 * short read returns the start of one.
 */
static void turn_to_packets(struct __test_metadata *_metadata, struct ends *e,
			    long consumed, long len)
{
	long announced = consumed + FULL - consumed % PAGE, off = consumed, n;
	unsigned char *buf = own_memory(len);
	struct child c;

	start_writer(_metadata, &c, e, consumed);
	ASSERT_EQ(0, set_direct(e->fd[1], true));
	EXPECT_EQ(announced - consumed, fionread(e->fd[0]));
	EXPECT_TRUE(child_stays_asleep(&c));
	while (off < announced) {
		n = min_long(len, announced - off);
		ASSERT_EQ(n, stream_read(e->fd[0], off, n))
			TH_LOG("byte %ld", off);
		off += n;
		/* By now the writer has seen the new flag if it was woken. */
		ASSERT_TRUE(child_asleep(&c));
	}
	close_end(e, 1);
	while (off < MIB) {
		n = sys(read(e->fd[0], buf, len));
		if (!n)
			break;
		ASSERT_LT(0, n);
		off = find_read(buf, n, off);
		ASSERT_LE(0, off);
		/* Each packet is a page, so it has more than @len bytes. */
		ASSERT_EQ(len, n);
		ASSERT_EQ(0, off % PAGE) TH_LOG("byte %ld", off);
		off += n;
	}
	/* The last read returned the start of the last page. */
	EXPECT_EQ(MIB - PAGE + len, off);
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(e));
}

TEST_F_TIMEOUT(all, turns_to_packets_before_anything_is_read, TIMEOUT)
{
	turn_to_packets(_metadata, &self->e, 0, 100);
}

TEST_F_TIMEOUT(all, turns_to_packets_in_the_first_slot, TIMEOUT)
{
	turn_to_packets(_metadata, &self->e, 100, 100);
}

TEST_F_TIMEOUT(all, turns_to_packets_after_some_slots, TIMEOUT)
{
	turn_to_packets(_metadata, &self->e, 3 * PAGE, 1000);
}

TEST_F_TIMEOUT(all, turns_to_packets_after_a_pipeful, TIMEOUT)
{
	turn_to_packets(_metadata, &self->e, FULL + PAGE + 1, 100);
}

/*
 * A long read returns all announced bytes, and each following read returns one
 * packet.
 */
TEST_F_TIMEOUT(all, turns_to_packets_and_is_read_by_the_mebibyte, TIMEOUT)
{
	bool cut = copies_are_cut(variant->kind);
	long off = 100, want = FULL - 100, n;
	struct child c;

	start_writer(_metadata, &c, &self->e, off);
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	while (off < MIB) {
		n = stream_read(self->e.fd[0], off, MIB);
		ASSERT_LT(0, n);
		if (!cut)
			ASSERT_EQ(want, n) TH_LOG("byte %ld", off);
		off += n;
		want = PAGE;
	}
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

/* O_DIRECT is cleared again before the writer looks at the flags. */
TEST_F_TIMEOUT(all, turns_to_packets_and_back, TIMEOUT)
{
	struct child c;

	start_writer(_metadata, &c, &self->e, 100);
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	ASSERT_EQ(0, set_direct(self->e.fd[1], false));
	EXPECT_EQ(MIB - 100, drain(self->e.fd[0], 100, MIB - 100, 1000));
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

/* The announced bytes stay a stream if a signal interrupts the writer. */
TEST_F_TIMEOUT(all, turns_to_packets_and_is_interrupted, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	start_writer(_metadata, &c, &self->e, 100);
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(FULL, child_join(&c));
	EXPECT_EQ(FULL - 100, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL - 100, drain(self->e.fd[0], 100, FULL - 100, 1000));
}

TEST_F_TIMEOUT(all, turns_to_packets_and_is_killed, TIMEOUT)
{
	struct child c;

	start_writer(_metadata, &c, &self->e, PAGE + 1);
	ASSERT_EQ(0, set_direct(self->e.fd[1], true));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(FULL - 1, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL - 1, drain(self->e.fd[0], PAGE + 1, FULL - 1, 1000));
}

/*
 * The file becomes non-blocking, and then the capacity grows. The writer fills
 * the new free slots and returns.
 */
static void grow(struct __test_metadata *_metadata, struct ends *e, long consumed)
{
	long whole = consumed - consumed % PAGE, part = consumed % PAGE;
	struct child c;

	start_writer(_metadata, &c, e, consumed);
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	EXPECT_TRUE(child_stays_asleep(&c));
	/* The capacity does not change, so no slot is free. */
	ASSERT_EQ(FULL, set_capacity(e->kind, e->fd[0], FULL));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(2 * FULL, set_capacity(e->kind, e->fd[0], 2 * FULL));
	EXPECT_EQ(whole + 2 * FULL, child_join(&c));
	EXPECT_EQ(2 * FULL - part, fionread(e->fd[0]));
	EXPECT_EQ(2 * FULL - part, drain(e->fd[0], consumed, 2 * FULL - part,
					 FULL));
	if (is_zpipe(e->kind))
		EXPECT_EQ(1, fdinfo_number(e->fd[0], "zpipe-posted-writes"));
}

TEST_F_TIMEOUT(all, turns_nonblocking_and_grows, TIMEOUT)
{
	grow(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, turns_nonblocking_in_a_slot_and_grows, TIMEOUT)
{
	grow(_metadata, &self->e, 150);
}

TEST_F_TIMEOUT(all, turns_nonblocking_after_a_slot_and_grows, TIMEOUT)
{
	grow(_metadata, &self->e, PAGE);
}

TEST_F_TIMEOUT(all, turns_nonblocking_after_a_pipeful_and_grows, TIMEOUT)
{
	grow(_metadata, &self->e, FULL + PAGE + 7);
}

/* The slots that were used before the write have been read. */
TEST_F_TIMEOUT(all, turns_nonblocking_behind_slots_and_grows, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	child_write_private(&c, &self->e, 3 * PAGE, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(3 * PAGE, stream_read(self->e.fd[0], 0, 3 * PAGE));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	ASSERT_EQ(2 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 2 * FULL));
	EXPECT_EQ(2 * FULL, child_join(&c));
	EXPECT_EQ(2 * FULL, drain(self->e.fd[0], 3 * PAGE, 2 * FULL, FULL));
}

/*
 * Only the capacity changes: the write stays blocked, and more of it is
 * announced.
 */
TEST_F_TIMEOUT(all, stays_blocking_and_grows, TIMEOUT)
{
	struct child c;

	start_writer(_metadata, &c, &self->e, 0);
	ASSERT_EQ(2 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 2 * FULL));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_TRUE(child_stays_asleep(&c));
	EXPECT_EQ(2 * FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, FULL));
	EXPECT_EQ(MIB, child_join(&c));
}

#define FLICKER		((SLOWER > 1 ? 6 : 24) * MIB)

/*
 * A thread of the writer that sets and clears a flag of the file all the time.
 */
struct flicker {
	int fd;
	int flag;
	bool over;
};

static void *flicker(void *arg)
{
	struct flicker *f = arg;
	int flags = fcntl(f->fd, F_GETFL);

	while (!__atomic_load_n(&f->over, __ATOMIC_SEQ_CST)) {
		fcntl(f->fd, F_SETFL, flags | f->flag);
		fcntl(f->fd, F_SETFL, flags & ~f->flag);
	}
	return NULL;
}

/*
 * Writes FLICKER bytes. It polls after EAGAIN and goes on after a short write.
 */
static long write_in_flicker(struct child *c)
{
	struct flicker f = { .fd = c->fd, .flag = c->flags };
	struct pollfd p = { .fd = c->fd, .events = POLLOUT };
	unsigned char *buf = own_memory(FLICKER);
	pthread_t thread;
	long done = 0, n;

	stream_fill(buf, 0, FLICKER);
	if (pthread_create(&thread, NULL, flicker, &f))
		return -1;
	while (done < FLICKER) {
		n = write(c->fd, buf + done, FLICKER - done);
		if (n < 0 && (errno != EAGAIN || poll(&p, 1, -1) != 1))
			break;
		done += n < 0 ? 0 : n;
	}
	__atomic_store_n(&f.over, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	return done;
}

/* No byte is lost or repeated, whenever the flag changes. */
static void flickers(struct __test_metadata *_metadata, struct ends *e, int flag)
{
	struct child c = {
		.fn = write_in_flicker, .flags = flag,
		.fd = e->fd[1], .drop = e->fd[0],
	};

	child_start(&c, 0);
	close_end(e, 1);
	EXPECT_EQ(FLICKER, drain(e->fd[0], 0, FLICKER, 2 * MIB));
	EXPECT_EQ(FLICKER, child_join(&c));
	EXPECT_EQ(0, stream_read(e->fd[0], FLICKER, 1));
	EXPECT_TRUE(was_direct(e));
}

TEST_F_TIMEOUT(all, nonblock_flickers, 2 * TIMEOUT)
{
	flickers(_metadata, &self->e, O_NONBLOCK);
}

TEST_F_TIMEOUT(all, direct_flickers, 2 * TIMEOUT)
{
	flickers(_metadata, &self->e, O_DIRECT);
}

TEST_HARNESS_MAIN
