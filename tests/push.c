// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes to a blocked reader, which zpipe may push into the reader's
 * memory. Poll, FIONREAD and counts have to be those of a reader that reads on
 * while the write is still going on.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"

/* The bytes arrive. */

/*
 * DEVIATION: of a non-blocking write of a mebibyte, pipe(2) accepts as much as
 * it holds. zpipe pushes all of it.
 */
TEST_F_TIMEOUT(all, nonblocking_write_of_a_mebibyte, TIMEOUT)
{
	bool whole = is_zpipe(variant->kind);
	long w, want = whole ? MIB : FULL;
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	w = stream_write(self->e.fd[1], 0, MIB);
	if (!copies_are_cut(variant->kind)) {
		EXPECT_EQ(want, w);
		EXPECT_EQ(whole ? MIB : 0, pushed(&self->e));
	}
	expect_fed(_metadata, &self->e, &c, MIB, MIB, w);
	/* No reader is blocked any more. */
	feed_nobody(_metadata, &self->e);
}

TEST_F_TIMEOUT(all, spaces_and_lengths, 2 * TIMEOUT)
{
	static const long spaces[] = {
		100, DIRECT_MIN - 1, DIRECT_MIN, DIRECT_MIN + 50, 200000, MIB,
		2 * MIB,
	};
	static const long lens[] = {
		100, PAGE, PAGE + 1, DIRECT_MIN - 1, DIRECT_MIN,
		DIRECT_MIN + 1, 3 * DIRECT_MIN + 77, 3 * MIB,
	};
	struct child c;
	size_t i, j;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < ARRAY_SIZE(spaces); i++)
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			child_read_private(&c, &self->e, spaces[i]);
			feed(_metadata, &self->e, &c, spaces[i], lens[j]);
		}
}

TEST_F_TIMEOUT(all, unaligned_buffers, TIMEOUT)
{
	static const size_t skews[] = { 0, 1, 100, 4095 };
	unsigned char *from = own_memory(MIB + 2 * PAGE);
	struct child c;
	size_t i, j;
	long w;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < ARRAY_SIZE(skews); i++)
		for (j = 0; j < ARRAY_SIZE(skews); j++) {
			child_read_private_to(&c, &self->e, 300000,
					      (struct want) { .skew = skews[i] });
			stream_fill(from + skews[j], 0, 250003);
			ASSERT_TRUE(child_asleep(&c));
			w = sys(write(self->e.fd[1], from + skews[j], 250003));
			expect_fed(_metadata, &self->e, &c, 300000, 250003, w);
		}
}

TEST_F_TIMEOUT(all, segments, TIMEOUT)
{
	long len = 300000;
	unsigned char *from = own_memory(len);
	struct iovec iov[60];
	struct child c;
	long w;
	int i;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	stream_fill(from, 0, len);
	for (i = 1; i < 4; i++) {
		child_read_private_to(&c, &self->e, 250001, (struct want) {
			.skew = i, .segments = i & 1,
		});
		ASSERT_TRUE(child_asleep(&c));
		w = sys(i & 2 ? writev(self->e.fd[1], iov,
				       cut_up(iov, 60, from, len)) :
				write(self->e.fd[1], from, len));
		expect_fed(_metadata, &self->e, &c, 250001, len, w);
	}
}

static long child_do_drain(struct child *c)
{
	return drain(c->fd, 0, c->len, c->flags);
}

/* Starts a child that reads @total bytes, at most @space in a call. */
static void child_drain(struct child *c, struct ends *e, long total, long space)
{
	*c = (struct child) {
		.nr = SYS_read, .fn = child_do_drain, .fd = e->fd[0],
		.drop = e->fd[1], .len = total, .flags = space,
	};
	child_start(c, 0);
}

TEST_F_TIMEOUT(all, far_more_than_the_space, TIMEOUT)
{
	static const long spaces[] = { 150000, MIB, MIB + 1 };
	struct child c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(spaces); i++) {
		child_drain(&c, &self->e, 5 * MIB + 77, spaces[i]);
		ASSERT_TRUE(child_asleep(&c));
		EXPECT_EQ(5 * MIB + 77,
			  stream_write(self->e.fd[1], 0, 5 * MIB + 77));
		EXPECT_EQ(5 * MIB + 77, child_join(&c));
		EXPECT_EQ(0, fionread(self->e.fd[0]));
	}
	EXPECT_TRUE(was_pushed(&self->e));
}

/* A non-blocking writer: it writes, polls after EAGAIN, and goes on. */
TEST_F_TIMEOUT(all, far_more_without_blocking, TIMEOUT)
{
	struct pollfd p = { .fd = self->e.fd[1], .events = POLLOUT };
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);
	unsigned char *from = own_memory(5 * MIB);
	struct epoll_event ev;
	bool edges;
	struct child c;
	long off, n;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	stream_fill(from, 0, 5 * MIB);
	for (edges = false; ; edges = true) {
		child_drain(&c, &self->e, 5 * MIB, 200000);
		ASSERT_TRUE(child_asleep(&c));
		for (off = 0; off < 5 * MIB; off += n) {
			n = sys(write(self->e.fd[1], from + off,
				      5 * MIB - off));
			if (n > 0)
				continue;
			ASSERT_EQ(-EAGAIN, n);
			n = 0;
			ASSERT_EQ(1, edges ? epoll_wait(ep, &ev, 1, EVENT_MS) :
					     poll(&p, 1, EVENT_MS));
		}
		EXPECT_EQ(5 * MIB, child_join(&c));
		if (edges)
			break;
	}
	EXPECT_TRUE(was_pushed(&self->e));
}

/* Several blocked readers. */

#define CROWD	4

/* The words that several readers got in total. */
struct tally {
	unsigned char *seen;		/* the count of each word */
	bool torn;			/* a read may return bytes that do not follow each other */
};

static void count_words(struct __test_metadata *_metadata, struct tally *t,
			const void *buf, long len)
{
	const unsigned long *word = buf;
	long i;

	ASSERT_EQ(0, len % 8);
	for (i = 0; i < len / 8; i++) {
		ASSERT_GT(2 * MIB / 8, word[i]);
		t->seen[word[i]]++;
		if (!t->torn)
			ASSERT_EQ(word[0] + i, word[i]);
	}
}

static int waiting(struct child *c, long nr)
{
	int n = 0;

	while (nr--)
		n += !child_done(&c[nr]);
	return n;
}

/*
 * Readers with buffers of these sizes block in this order. They get two writes,
 * and then the end of the file.
 */
static void crowd(struct __test_metadata *_metadata, struct ends *e,
		  const long *spaces)
{
	struct tally t = {
		.seen = calloc(2 * MIB / 8, 1), .torn = copies_are_cut(e->kind),
	};
	long written = 0, got = 0, before, n, nr, i;
	unsigned long *from = malloc(2 * MIB);
	struct child c[CROWD];

	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	for (i = 0; i < 2 * MIB / 8; i++)
		from[i] = i;
	for (nr = 0; nr < CROWD && spaces[nr]; nr++) {
		child_read_private(&c[nr], e, spaces[nr]);
		ASSERT_TRUE(child_asleep(&c[nr]));
	}
	for (i = 0; i < 2; i++) {
		before = waiting(c, nr);
		n = sys(write(e->fd[1], from + written / 8, MIB));
		/*
		 * The reader got a part of the first write only, and the rest
		 * fills the pipe.
		 */
		if (t.torn && n == -EAGAIN)
			break;
		ASSERT_LT(0, n);
		written += n;
		/* A reader that got bytes returns without a further wakeup. */
		EXPECT_TRUE(!before || eventually(waiting(c, nr) < before));
		/* No reader stays blocked while the pipe has data. */
		EXPECT_TRUE(eventually(!fionread(e->fd[0]) ||
				       !waiting(c, nr)));
	}
	while (fionread(e->fd[0])) {
		n = sys(read(e->fd[0], from, fionread(e->fd[0])));
		ASSERT_LT(0, n);
		count_words(_metadata, &t, from, n);
		got += n;
	}
	close_end(e, 1);
	for (i = 0; i < nr; i++) {
		n = child_join(&c[i]);
		ASSERT_LE(0, n);
		count_words(_metadata, &t, c[i].buf, n);
		got += n;
	}
	EXPECT_EQ(written, got);
	for (i = 0; i < written / 8; i++)
		ASSERT_EQ(1, t.seen[i]) TH_LOG("word %ld", i);
	free(t.seen);
	free(from);
}

TEST_F_TIMEOUT(all, two_large_readers_wait, TIMEOUT)
{
	crowd(_metadata, &self->e, (long[]) { MIB, MIB, 0 });
}

TEST_F_TIMEOUT(all, small_reader_waits_behind_a_large_one, TIMEOUT)
{
	crowd(_metadata, &self->e, (long[]) { MIB, 800, 0 });
}

TEST_F_TIMEOUT(all, large_reader_waits_behind_a_small_one, TIMEOUT)
{
	crowd(_metadata, &self->e, (long[]) { 800, MIB, 0 });
}

TEST_F_TIMEOUT(all, many_readers_wait, TIMEOUT)
{
	crowd(_metadata, &self->e, (long[]) { 800, 200000, 8, MIB });
}

/* Events for pollers and watchers of both ends. */

static long child_do_poll(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int ret = poll(&p, 1, -1);

	return ret < 0 ? ret : p.revents;
}

/*
 * A poller of the read end is not woken by bytes that were pushed, but by the
 * next ones.
 */
TEST_F_TIMEOUT(all, poller_beside_the_reader, TIMEOUT)
{
	struct child c, p = {
		.nr = SYS_poll, .fn = child_do_poll, .fd = self->e.fd[0],
		.drop = self->e.fd[1],
	};

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	child_start(&p, 0);
	ASSERT_TRUE(child_asleep(&p));
	feed(_metadata, &self->e, &c, MIB, MIB);
	/*
	 * In pipe(2) the poller may see the bytes before the reader has read
	 * them.
	 */
	if (is_zpipe(variant->kind) && !copies_are_cut(variant->kind))
		EXPECT_TRUE(child_stays_asleep(&p));
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(POLLIN, child_join(&p));
}

TEST_F_TIMEOUT(all, edges_after_all_was_read, TIMEOUT)
{
	int in = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	int out = watch(self->e.fd[1], EPOLLOUT | EPOLLET);
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(0, events(in));
	EXPECT_EQ(EPOLLOUT, events(out));
	child_read_private(&c, &self->e, MIB);
	feed(_metadata, &self->e, &c, MIB, MIB);
	EXPECT_EQ(0, events(in));
	events(out);
	/* Later writes and reads are edges as usual. */
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, MIB));
	EXPECT_EQ(EPOLLIN, events(in));
	EXPECT_EQ(0, events(out));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, MIB));
	EXPECT_EQ(EPOLLOUT, events(out));
}

/*
 * After a short write the writer knows that the pipe is full. It gets an edge
 * when slots are free again.
 */
TEST_F_TIMEOUT(all, edges_after_a_part_was_read, TIMEOUT)
{
	int in = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	int out = watch(self->e.fd[1], EPOLLOUT | EPOLLET);
	struct child c;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(EPOLLOUT, events(out));
	child_read_private(&c, &self->e, 200000);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(FULL, stream_write(self->e.fd[1], 0, 2 * MIB));
	EXPECT_LT(0, child_join(&c));
	if (fionread(self->e.fd[0])) {
		EXPECT_EQ(EPOLLIN, events(in));
		EXPECT_EQ(0, events(out));
		while (fionread(self->e.fd[0]))
			ASSERT_LT(0, sys(read(self->e.fd[0], c.buf, 200000)));
	}
	EXPECT_EQ(EPOLLOUT, events(out));
}

TEST_F_TIMEOUT(all, sigio_of_both_ends, TIMEOUT)
{
	struct child c;
	int i;

	ASSERT_EQ(0, catch_signal(SIGIO, SA_RESTART));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 2; i++) {
		int flags = fcntl(self->e.fd[i], F_GETFL);

		child_read_private(&c, &self->e, MIB);
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(0, fcntl(self->e.fd[i], F_SETOWN, getpid()));
		ASSERT_EQ(0, fcntl(self->e.fd[i], F_SETFL, flags | O_ASYNC));
		signals_seen = 0;
		feed(_metadata, &self->e, &c, MIB, MIB);
		EXPECT_TRUE(eventually(signals_seen > 0));
		ASSERT_EQ(0, fcntl(self->e.fd[i], F_SETFL, flags));
	}
}

/* A posted read that was filled by one push gets no bytes of the next write. */
TEST_F_TIMEOUT(all, second_write_directly_behind, TIMEOUT)
{
	long first, n, total, r;
	struct child c;

	read_held_up(_metadata, &self->e, &c, 2 * MIB);
	first = stream_write(self->e.fd[1], 0, MIB);
	total = first;
	n = stream_write(self->e.fd[1], total, 5000);
	total += n < 0 ? 0 : n;
	n = stream_write(self->e.fd[1], total, MIB);
	total += n < 0 ? 0 : n;
	r = child_join(&c);
	ASSERT_LT(0, r);
	if (is_zpipe(variant->kind) && !copies_are_cut(variant->kind)) {
		EXPECT_EQ(MIB, r);
		EXPECT_EQ(MIB, first);
	}
	EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
	read_rest(_metadata, &self->e, r, total - r);
}

/* The offset of @buf in the first @total bytes of the stream, or -1. */
static long find(const void *buf, size_t len, long total)
{
	long off;

	for (off = 0; off <= total; off++)
		if (stream_diff(buf, off, len) < 0)
			return off;
	return -1;
}

/* The same, with another reader that reads between the writes. */
TEST_F_TIMEOUT(all, second_write_behind_another_read, TIMEOUT)
{
	long n = 0, r, total = 0, len[] = { MIB, 5000, MIB };
	unsigned char other[5000];
	struct child c;
	int i;

	read_held_up(_metadata, &self->e, &c, 2 * MIB);
	for (i = 0; i < 3; i++) {
		if (i == 2) {
			n = sys(read(self->e.fd[0], other, sizeof(other)));
			ASSERT_LT(0, n);
		}
		r = stream_write(self->e.fd[1], total, len[i]);
		total += r < 0 ? 0 : r;
	}
	r = child_join(&c);
	ASSERT_LT(0, r);
	EXPECT_LE(0, find(other, n, total));
	EXPECT_LE(0, find(c.buf, r, total));
	read_rest(_metadata, &self->e, r + n, total - r - n);
}

/* Bytes that are in the pipe are read before those of a large write. */
TEST_F_TIMEOUT(all, large_write_behind_a_small_one, TIMEOUT)
{
	struct child c;
	long w, r;

	read_held_up(_metadata, &self->e, &c, MIB);
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	w = stream_write(self->e.fd[1], 10, MIB);
	ASSERT_LT(0, w);
	r = child_join(&c);
	ASSERT_LE(10, r);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
	read_rest(_metadata, &self->e, r, 10 + w - r);
}

TEST_HARNESS_MAIN
