// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes that block. In zpipe readers copy the bytes from the memory of
 * the posted write. Poll, FIONREAD and counts have to be those of a pipe whose
 * writer has filled the slots and waits for free ones.
 */
#include "oracle.h"
#include "direct.h"

/* The bytes arrive, each once and in order. */

static void transfer(struct __test_metadata *_metadata, struct ends *e,
		     size_t len, size_t size, size_t skew)
{
	struct child c;

	child_write_private_at(&c, e, 0, len, skew);
	EXPECT_EQ(len, drain(e->fd[0], 0, len, size))
		TH_LOG("%zu bytes, %zu at a time, %zu", len, size, skew);
	EXPECT_EQ(len, child_join(&c));
	EXPECT_EQ(0, fionread(e->fd[0]));
	munmap(c.buf - skew, len + skew);
}

TEST_F_TIMEOUT(all, content_byte_by_byte, TIMEOUT)
{
	transfer(_metadata, &self->e, 131072 + 4097, 1, 0);
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, content_of_a_mebibyte, TIMEOUT)
{
	static const size_t sizes[] = { 100, 4096, 4097, 65536, MIB };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		transfer(_metadata, &self->e, MIB, sizes[i], 0);
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, content_of_more_than_three_mebibytes, TIMEOUT)
{
	transfer(_metadata, &self->e, 3 * MIB + 123, 10000, 0);
	transfer(_metadata, &self->e, 3 * MIB + 123, 3 * MIB + 123, 0);
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, content_of_unaligned_buffers, TIMEOUT)
{
	static const size_t skews[] = { 1, 8, 100, 4095 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(skews); i++) {
		transfer(_metadata, &self->e, MIB / 2 + i, 65536, skews[i]);
		transfer(_metadata, &self->e, MIB / 2 + 5000, 4096, skews[i]);
	}
	EXPECT_TRUE(was_direct(&self->e));
}

static long child_do_writev(struct child *c)
{
	struct iovec iov[300];

	return writev(c->fd, iov, cut_up(iov, 300, c->buf, c->len));
}

TEST_F_TIMEOUT(all, content_in_segments, TIMEOUT)
{
	struct child c = {
		.nr = SYS_writev, .fn = child_do_writev,
		.fd = self->e.fd[1], .drop = self->e.fd[0],
		.len = MIB + 77, .buf = own_memory(MIB + 77),
	};
	unsigned char *buf = own_memory(3 * FULL);
	struct iovec iov[50];
	size_t done = 0;
	long n;
	int nr;

	stream_fill(c.buf, 0, c.len);
	child_start(&c, 0);
	while (done < c.len) {
		nr = cut_up(iov, 50, buf, 3 * FULL);
		n = sys(readv(self->e.fd[0], iov, nr));
		ASSERT_LT(0, n);
		ASSERT_EQ(-1, stream_diff(buf, done, n));
		done += n;
	}
	EXPECT_EQ(c.len, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

/* The bytes that several readers got in total. */
struct tally {
	int fd;
	size_t size;
	bool words;			/* each call transfers whole words */
	unsigned long bytes[256];
	unsigned char seen[];		/* indexed by word */
};

static long child_do_tally(struct child *c)
{
	struct tally *t = c->arg;
	size_t words = c->len / 8;
	unsigned char *buf = own_memory(t->size);
	unsigned long *word = (void *)buf;
	long n, i;

	while ((n = read(c->fd, buf, t->size)) > 0) {
		for (i = 0; i < n; i++)
			__atomic_add_fetch(&t->bytes[buf[i]], 1,
					   __ATOMIC_SEQ_CST);
		for (i = 0; t->words && i < n / 8; i++)
			if (word[i] >= words ||
			    __atomic_exchange_n(&t->seen[word[i]], 1,
						__ATOMIC_SEQ_CST))
				return -2;
		if (t->words && n % 8)
			return -3;
	}
	return n;
}

static void several_readers(struct __test_metadata *_metadata, struct ends *e,
			    size_t size)
{
	size_t len = 2 * MIB, i;
	struct tally *t = shared_alloc(sizeof(*t) + len / 8);
	struct child w = {
		.nr = SYS_write, .fn = child_do_write, .fd = e->fd[1],
		.drop = e->fd[0], .len = len, .buf = own_memory(len),
	};
	unsigned long want[256] = {};
	struct child r[3];

	t->size = size;
	/* With cut copies another reader may get the rest of a word. */
	t->words = !copies_are_cut(e->kind);
	for (i = 0; i < len / 8; i++)
		((unsigned long *)w.buf)[i] = i;
	for (i = 0; i < len; i++)
		want[w.buf[i]]++;
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct child) {
			.fn = child_do_tally, .arg = t, .fd = e->fd[0],
			.drop = e->fd[1], .nr = SYS_read, .len = len,
		};
		child_start(&r[i], 0);
	}
	child_start(&w, 0);
	EXPECT_EQ(len, child_join(&w));
	EXPECT_TRUE(was_direct(e));
	close_end(e, 1);
	for (i = 0; i < ARRAY_SIZE(r); i++)
		EXPECT_EQ(0, child_join(&r[i]));
	for (i = 0; i < 256; i++)
		EXPECT_EQ(want[i], t->bytes[i]);
}

TEST_F_TIMEOUT(all, each_byte_once_of_small_reads, TIMEOUT)
{
	several_readers(_metadata, &self->e, 1000);
}

TEST_F_TIMEOUT(all, each_byte_once_of_large_reads, TIMEOUT)
{
	several_readers(_metadata, &self->e, 3 * FULL);
}

/* The state of the pipe while a write is blocked. */

/* A write that does not fit into the ring, and a model of that ring. */
struct blocked {
	struct model m;
	struct child c;
	bool cut;		/* reads may be short: see copies_are_cut() */
	unsigned long off;	/* stream offset of the next read */
	long left;		/* bytes that are in no slot of the model yet */
};

static void blocked_start(struct blocked *b, struct ends *e, long before,
			  long len)
{
	memset(b, 0, sizeof(*b));
	b->m.max = SLOTS;
	b->cut = copies_are_cut(e->kind);
	if (before) {
		model_write(&b->m, before, false);
		stream_write(e->fd[1], 0, before);
	}
	child_write_private(&b->c, e, before, len);
	b->left = len - model_write(&b->m, len, false);
}

/*
 * Checks that the writer is blocked or has returned, as the model says.
 * FIONREAD and poll have to agree with the model, too.
 */
static void blocked_check(struct __test_metadata *_metadata, struct blocked *b,
			  struct ends *e, const char *when)
{
	EXPECT_TRUE(b->left ? child_asleep(&b->c) :
			      eventually(child_done(&b->c))) TH_LOG("%s", when);
	EXPECT_EQ(model_fionread(&b->m), fionread(e->fd[0]))
		TH_LOG("%s", when);
	EXPECT_EQ(model_poll(&b->m, 0), poll_mask(e->fd[0]))
		TH_LOG("%s", when);
	EXPECT_EQ(model_poll(&b->m, 1), poll_mask(e->fd[1]))
		TH_LOG("%s", when);
}

/* Reads @len bytes, or all bytes of the model if it holds fewer. */
static void blocked_read(struct __test_metadata *_metadata, struct blocked *b,
			 struct ends *e, long len)
{
	len = model_read(&b->m, len);
	ASSERT_EQ(len, b->cut ? drain(e->fd[0], b->off, len, len) :
				stream_read(e->fd[0], b->off, len));
	b->off += len;
	b->left -= model_fill(&b->m, b->left, false);
}

static void blocked_end(struct __test_metadata *_metadata, struct blocked *b,
			struct ends *e)
{
	long total = b->c.len;

	while (!model_empty(&b->m)) {
		/* In zpipe the last bytes may become readable in parts. */
		ASSERT_TRUE(b->left ? child_asleep(&b->c) :
				      eventually(child_done(&b->c)));
		blocked_read(_metadata, b, e, FULL);
	}
	EXPECT_EQ(total, child_join(&b->c));
	EXPECT_EQ(0, fionread(e->fd[0]));
	munmap(b->c.buf, total);
}

TEST_F_TIMEOUT(all, fionread_slot_by_slot, TIMEOUT)
{
	static const long steps[] = {
		100, 3995, 1, 4096, 4196, 1, 8191, 5000, FULL - 1, FULL, 77,
	};
	struct blocked b;
	char when[80];
	size_t i;

	blocked_start(&b, &self->e, 0, 80 * PAGE + 1234);
	blocked_check(_metadata, &b, &self->e, "at first");
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		snprintf(when, sizeof(when), "step %zu: %ld", i, steps[i]);
		blocked_read(_metadata, &b, &self->e, steps[i]);
		blocked_check(_metadata, &b, &self->e, when);
	}
	blocked_end(_metadata, &b, &self->e);
	EXPECT_TRUE(was_direct(&self->e));
}

/*
 * The pipe has used slots when the write starts. The write's bytes beyond whole
 * pages fit into the last slot or not.
 */
TEST_F_TIMEOUT(all, fionread_behind_used_slots, TIMEOUT)
{
	static const long befores[] = {
		100, PAGE, PAGE + 100, 5000, 15 * PAGE, 15 * PAGE + 1, FULL,
	};
	static const long odds[] = { 0, 100, 3996, 3997 };
	static const long steps[] = { 50, 50, PAGE, 3 * PAGE + 5, FULL };
	struct blocked b;
	char when[80];
	size_t i, j, k;

	for (i = 0; i < ARRAY_SIZE(befores); i++)
		for (j = 0; j < ARRAY_SIZE(odds); j++) {
			blocked_start(&b, &self->e, befores[i],
				      40 * PAGE + odds[j]);
			for (k = 0; k <= ARRAY_SIZE(steps); k++) {
				snprintf(when, sizeof(when),
					 "%ld ahead, %ld odd, step %zu",
					 befores[i], odds[j], k);
				blocked_check(_metadata, &b, &self->e, when);
				if (k < ARRAY_SIZE(steps))
					blocked_read(_metadata, &b, &self->e,
						     steps[k]);
			}
			blocked_end(_metadata, &b, &self->e);
		}
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, random_write_and_reads, TIMEOUT)
{
	unsigned long dice = seed(20011129);
	struct blocked b;
	char when[80];
	long len, n;
	int i;

	for (i = 0; i < 20; i++) {
		len = 131072 + rnd(&dice) % (4 * FULL);
		blocked_start(&b, &self->e, rnd(&dice) % 2 ?
			      rnd_len(&dice, FULL) : 0, len);
		do {
			n = rnd_len(&dice, FULL);
			snprintf(when, sizeof(when),
				 "round %d, write of %ld, at %lu: %ld", i, len,
				 b.off, n);
			blocked_check(_metadata, &b, &self->e, when);
			blocked_read(_metadata, &b, &self->e, n);
		} while (b.left && _metadata->exit_code != KSFT_FAIL);
		blocked_check(_metadata, &b, &self->e, when);
		blocked_end(_metadata, &b, &self->e);
	}
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, no_free_slot_for_others, TIMEOUT)
{
	int fd = open_nonblocking_writer(&self->e);
	struct child c;

	ASSERT_LE(0, fd);
	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(-EAGAIN, stream_write(fd, 0, 1));
	EXPECT_EQ(-EAGAIN, stream_write(fd, 0, MIB));
	ASSERT_EQ(100, stream_read(self->e.fd[0], 0, 100));
	EXPECT_EQ(-EAGAIN, stream_write(fd, 0, 1));
	ASSERT_EQ(MIB - 100, drain(self->e.fd[0], 100, MIB - 100, FULL));
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	EXPECT_EQ(1, stream_write(fd, 0, 1));
	EXPECT_TRUE(was_direct(&self->e));
	close(fd);
}

/* A non-blocking write fills the free slots and returns. */
TEST_F_TIMEOUT(all, nonblocking_write_fills_the_slots, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL, stream_write(self->e.fd[1], 0, MIB));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, MIB));
}

/*
 * Reads everything that is announced, again and again: each refill is an edge.
 * The pipe holds @before bytes when the large write starts.
 */
static void edges_behind(struct __test_metadata *_metadata, struct ends *e,
			 long before)
{
	int ep = watch(e->fd[0], EPOLLIN | EPOLLET);
	struct child c;
	long off;

	if (before)
		ASSERT_EQ(before, stream_write(e->fd[1], 0, before));
	child_write_private(&c, e, before, 5 * FULL - before);
	ASSERT_TRUE(child_asleep(&c));
	for (off = 0; off < 5 * FULL; off += FULL) {
		EXPECT_TRUE(eventually(events(ep) == EPOLLIN));
		/* The last refill goes through slots, in steps if the writer faults. */
		EXPECT_TRUE(eventually(fionread(e->fd[0]) == FULL));
		ASSERT_EQ(FULL, stream_read(e->fd[0], off, FULL));
	}
	EXPECT_EQ(5 * FULL - before, child_join(&c));
	EXPECT_EQ(0, fionread(e->fd[0]));
	EXPECT_TRUE(was_direct(e));
}

TEST_F_TIMEOUT(all, edge_after_all_was_read, TIMEOUT)
{
	edges_behind(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, edge_after_used_slots_were_read, TIMEOUT)
{
	edges_behind(_metadata, &self->e, FULL);
}

/* An edge-triggered reader: after each event it reads until EAGAIN. */
TEST_F_TIMEOUT(all, edge_triggered_reader, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	struct epoll_event ev;
	struct child c;
	long off = 0, n;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	child_write_private(&c, &self->e, 0, MIB);
	while (off < MIB) {
		ASSERT_EQ(1, epoll_wait(ep, &ev, 1, EVENT_MS));
		while ((n = stream_read(self->e.fd[0], off, 5000)) > 0)
			off += n;
		ASSERT_EQ(-EAGAIN, n);
	}
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, edge_of_a_freed_slot, TIMEOUT)
{
	int ep = watch(self->e.fd[1], EPOLLOUT | EPOLLET);
	struct child c;

	EXPECT_EQ(EPOLLOUT, events(ep));
	child_write_private(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(0, events(ep));
	ASSERT_EQ(3 * FULL, drain(self->e.fd[0], 0, 3 * FULL, FULL));
	EXPECT_EQ(3 * FULL, child_join(&c));
	EXPECT_TRUE(eventually(events(ep) == EPOLLOUT));
	EXPECT_TRUE(was_direct(&self->e));
}

/*
 * Each refill sends SIGIO. The pipe holds @before bytes when the large write
 * starts.
 */
static void sigio_behind(struct __test_metadata *_metadata, struct ends *e,
			 long before)
{
	static const long steps[] = { PAGE, FULL, 3 * PAGE, FULL };
	struct child c;
	long off = 0;
	size_t i;

	if (before)
		ASSERT_EQ(before, stream_write(e->fd[1], 0, before));
	ASSERT_EQ(0, catch_signal(SIGIO, SA_RESTART));
	ASSERT_EQ(0, fcntl(e->fd[0], F_SETOWN, getpid()));
	ASSERT_EQ(0, fcntl(e->fd[0], F_SETFL, O_ASYNC));
	child_write_private(&c, e, before, MIB);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		ASSERT_TRUE(child_asleep(&c));
		EXPECT_TRUE(eventually(signals_seen > 0));
		signals_seen = 0;
		ASSERT_EQ(steps[i], stream_read(e->fd[0], off, steps[i]));
		off += steps[i];
	}
	EXPECT_TRUE(eventually(signals_seen > 0));
	EXPECT_TRUE(was_direct(e));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, sigio_after_each_refill, TIMEOUT)
{
	sigio_behind(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(all, sigio_behind_used_slots, TIMEOUT)
{
	sigio_behind(_metadata, &self->e, FULL);
}

TEST_HARNESS_MAIN
