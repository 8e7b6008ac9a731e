// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several processes that splice, read and write at the same time, and some that are killed. No
 * byte is lost, none comes twice, and nobody waits for ever.
 */
#include "splice.h"
#include "large.h"

#include <sys/time.h>

#define RECORDS		300000L		/* each has 8 bytes */
#define TOKENS		500L		/* as many as there are slots */

/* How often each record was read. Memory that all processes share. */
static unsigned char *seen;

/* A call may transfer a part of a record. */
static bool torn;

/* A length of up to @max bytes in whole records. */
static size_t whole(unsigned int *seedp, size_t max)
{
	return (rand_r(seedp) % (max / 8) + 1) * 8;
}

/* Starts a child, which closes all ends but @keep. */
static void child_at(struct child *c, struct way *w, long (*fn)(struct child *c), int number)
{
	*c = (struct child) { .fn = fn, .arg = w, .drop = -1, .nr = -2, .flags = number };
	child_start(c, 0);
}

static void close_except(struct way *w, int keep1, int keep2)
{
	int fds[4] = { w->in->fd[0], w->in->fd[1], w->out->fd[0], w->out->fd[1] }, i;

	for (i = 0; i < 4; i++)
		if (fds[i] != keep1 && fds[i] != keep2)
			close(fds[i]);
}

/* Writes all records, in pieces of up to 24 KiB and sometimes 400 KiB. */
static long write_records(struct child *c)
{
	struct way *w = c->arg;
	unsigned long *buf = (void *)own_memory(400 * 1024), next = 0;
	unsigned int dice = 1;
	size_t n, i;

	close_except(w, w->in->fd[1], -1);
	while (next < RECORDS) {
		n = whole(&dice, rand_r(&dice) % 16 ? 24 * 1024 : 400 * 1024) / 8;
		n = n < RECORDS - next ? n : RECORDS - next;
		for (i = 0; i < n; i++)
			buf[i] = next + i;
		if (write(w->in->fd[1], buf, n * 8) != (ssize_t)n * 8)
			return -1;
		next += n;
	}
	return 0;
}

static long splice_records(struct child *c)
{
	struct way *w = c->arg;
	unsigned int dice = c->flags;
	long n;

	close_except(w, w->in->fd[0], w->out->fd[1]);
	while ((n = move(w, whole(&dice, 20000), 0)) > 0)
		if (n % 8 && !torn)
			return 1000;
	errno = -n;
	return n ? -1 : 0;
}

static long read_records(struct child *c)
{
	struct way *w = c->arg;
	int fd = c->flags & 1 ? w->in->fd[0] : w->out->fd[0];
	unsigned long *buf = (void *)own_memory(200 * 1024);
	unsigned int dice = c->flags;
	long n, i, have = 0;

	close_except(w, fd, -1);
	while ((n = read(fd, (char *)buf + have, whole(&dice, 200 * 1024) - have)) > 0) {
		if (n % 8 && !torn)
			return 1000;
		have += n;
		for (i = 0; i < have / 8; i++) {
			if (buf[i] >= RECORDS)
				return 1000;
			__atomic_add_fetch(&seen[buf[i]], 1, __ATOMIC_SEQ_CST);
		}
		if (have % 8)
			buf[0] = buf[i];
		have %= 8;
		/* Let the splices get most of the bytes. */
		if (c->flags & 1)
			usleep(2000);
	}
	return n ?: have;
}

/*
 * A writer, two splices and a reader at the source, two readers at the destination. Parts of
 * records can be put together only by a single splice and a single reader.
 */
BOTH_WAYS(every_byte_once)
{
	struct child c[6];
	long bad = 0, n = 0, i;

	torn = copies_are_cut(w->e.kind);
	seen = shared_alloc(RECORDS);
	child_at(&c[n++], w, write_records, 0);
	child_at(&c[n++], w, splice_records, 10);
	child_at(&c[n++], w, read_records, 22);
	if (!torn) {
		child_at(&c[n++], w, splice_records, 11);
		child_at(&c[n++], w, read_records, 21);
		child_at(&c[n++], w, read_records, 24);
	}
	for (i = 0; i < 2; i++) {
		close_end(w->in, i);
		close_end(w->out, i);
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(0, child_join(&c[i])) TH_LOG("process %ld", i);
	for (i = 0; i < RECORDS; i++)
		bad += seen[i] != 1;
	EXPECT_EQ(0, bad);
}

/* Splices forth if the number is even, and back otherwise, until it is killed. */
static long splice_around(struct child *c)
{
	struct way *w = c->arg, back = { .in = w->out, .out = w->in };
	unsigned int dice = c->flags;

	while (move(c->flags & 1 ? &back : w, whole(&dice, 512), 0) > 0)
		;
	return 0;
}

/* Counts the tokens in a pipe, and empties it. */
static long count_tokens(int fd)
{
	unsigned long buf[PAGE];
	long n, i, bad = 0;

	set_nonblock(fd, true);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (i = 0; i < n / 8; i++)
			bad += n % 8 || buf[i] >= TOKENS || seen[buf[i]]++;
	return bad;
}

/*
 * Four processes splice in a circle between two pipes. They are killed at random moments. All
 * tokens are still there.
 */
BOTH_WAYS(circle)
{
	unsigned int dice = 7;
	struct child c[4];
	unsigned long token;
	long i, round, bad = 0;

	seen = shared_alloc(TOKENS);
	ASSERT_EQ(2 * MIB, set_capacity(w->in->kind, w->in->fd[0], 2 * MIB));
	ASSERT_EQ(2 * MIB, set_capacity(w->out->kind, w->out->fd[0], 2 * MIB));
	for (token = 0; token < TOKENS; token++)
		ASSERT_EQ(8, sys(write(w->in->fd[1], &token, 8)));
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 4; i++)
			child_at(&c[i], w, splice_around, i);
		usleep(20000 + rand_r(&dice) % 20000);
		for (i = 0; i < 4; i++)
			EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[i]));
		ASSERT_EQ(TOKENS * 8, fionread(w->in->fd[0]) + fionread(w->out->fd[0]));
	}
	bad = count_tokens(w->in->fd[0]);
	bad += count_tokens(w->out->fd[0]);
	EXPECT_EQ(0, bad);
	for (i = 0; i < TOKENS; i++)
		bad += seen[i] != 1;
	EXPECT_EQ(0, bad);
}

static long splice_until_killed(struct child *c)
{
	struct way *w = c->arg;
	unsigned int dice = c->flags;

	close_except(w, w->in->fd[0], w->out->fd[1]);
	while (move(w, rand_r(&dice) % 40000 + 1, 0) > 0)
		;
	return 0;
}

/* Reads what is there, in order; the number of bytes, or -errno. */
static long read_on(int fd, unsigned long off)
{
	long n = stream_read(fd, off, 20000);

	return n == -EAGAIN ? 0 : n;
}

/* A splicing process is killed a hundred times. The stream has no gap and nothing twice. */
BOTH_WAYS(kill_a_hundred_times)
{
	unsigned long in = 0, out = 0;
	unsigned int dice = 3;
	struct child c;
	int round;
	long n;

	ASSERT_EQ(0, set_nonblock(w->in->fd[1], true));
	ASSERT_EQ(0, set_nonblock(w->out->fd[0], true));
	for (round = 0; round < 100; round++) {
		long end;

		child_at(&c, w, splice_until_killed, round);
		end = now_ms() + rand_r(&dice) % 15;
		do {
			n = stream_write(w->in->fd[1], in, rand_r(&dice) % 30000 + 1);
			ASSERT_TRUE(n > 0 || n == -EAGAIN);
			in += n > 0 ? n : 0;
			n = read_on(w->out->fd[0], out);
			ASSERT_LE(0, n) TH_LOG("round %d", round);
			out += n;
		} while (now_ms() < end);
		/* The moment is random: some wait, some do not. */
		usleep(rand_r(&dice) % 300);
		ASSERT_EQ(KILLED(SIGKILL), child_kill(&c));
		ASSERT_EQ(in - out, fionread(w->in->fd[0]) + fionread(w->out->fd[0]))
			TH_LOG("round %d", round);
	}
	while ((n = read_on(w->out->fd[0], out)) > 0)
		out += n;
	ASSERT_EQ(0, n);
	set_nonblock(w->in->fd[0], true);
	while ((n = read_on(w->in->fd[0], out)) > 0)
		out += n;
	ASSERT_EQ(0, n);
	EXPECT_EQ(in, out);
	EXPECT_LT(100000, out);
}

#define LARGE		(16 * MIB)

static long write_large(struct child *c)
{
	struct way *w = c->arg;
	unsigned char *buf = own_memory(MIB);
	long off;

	close_except(w, w->in->fd[1], -1);
	for (off = 0; off < LARGE; off += MIB) {
		stream_fill(buf, off, MIB);
		if (write(w->in->fd[1], buf, MIB) != MIB)
			return -1;
	}
	return 0;
}

/* The same while a process makes large writes, which may be posted. */
BOTH_WAYS(kill_beside_large_writes)
{
	struct child writer, c;
	unsigned int dice = 3;
	long out = 0, n, end;
	int round;

	child_at(&writer, w, write_large, 0);
	ASSERT_EQ(0, set_nonblock(w->out->fd[0], true));
	close_end(w->in, 1);
	for (round = 0; out < LARGE / 2; round++) {
		child_at(&c, w, splice_until_killed, round);
		end = now_ms() + rand_r(&dice) % 15;
		do {
			n = read_on(w->out->fd[0], out);
			ASSERT_LE(0, n) TH_LOG("round %d", round);
			out += n;
		} while (now_ms() < end);
		ASSERT_EQ(KILLED(SIGKILL), child_kill(&c));
	}
	for (;;) {
		while ((n = read_on(w->out->fd[0], out)) > 0)
			out += n;
		ASSERT_EQ(0, n);
		if (out == LARGE)
			break;
		ASSERT_LT(0, move(w, FULL, 0));
	}
	EXPECT_EQ(0, child_join(&writer));
	EXPECT_EQ(0, move(w, FULL, 0));
}

/* Two processes splice. Each splice is one step, so the stream keeps its order. */
BOTH_WAYS(order_with_two_splices)
{
	struct child writer, c[2];
	long out = 0, n;
	int i;

	child_at(&writer, w, write_large, 0);
	for (i = 0; i < 2; i++)
		child_at(&c[i], w, splice_until_killed, i);
	close_end(w->in, 0);
	close_end(w->in, 1);
	close_end(w->out, 1);
	while ((n = stream_read(w->out->fd[0], out, 30000)) > 0)
		out += n;
	EXPECT_EQ(0, n) TH_LOG("after %ld bytes", out);
	EXPECT_EQ(LARGE, out);
	close_end(w->out, 0);
	for (i = 0; i < 2; i++)
		child_join(&c[i]);
	child_join(&writer);
}

static long splice_in_hail(struct child *c)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
	struct way *w = c->arg;
	long done = 0, n;

	close_except(w, w->in->fd[0], w->out->fd[1]);
	setitimer(ITIMER_REAL, &often, NULL);
	while ((n = move(w, 30000, 0)))
		if (n > 0)
			done += n;
		else if (n != -EINTR)
			return 1;
	return done;
}

/* Signals interrupt a splice all the time. The sum of its results is what has gone through. */
BOTH_WAYS(hail_of_signals)
{
	long in = 0, out = 0, n;
	struct child c;

	catch_signal(SIGALRM, 0);
	child_at(&c, w, splice_in_hail, 0);
	ASSERT_EQ(0, set_nonblock(w->out->fd[0], true));
	close_end(w->out, 1);
	while (in < 4 * MIB) {
		n = stream_write(w->in->fd[1], in, FULL / 2);
		ASSERT_EQ(FULL / 2, n);
		in += n;
		while (fionread(w->in->fd[0]) || in - out >= FULL) {
			n = read_on(w->out->fd[0], out);
			ASSERT_LE(0, n);
			out += n;
		}
		usleep(2000);
	}
	close_end(w->in, 1);
	/* The end of the data comes when a slot is free. */
	eventually((n = read_on(w->out->fd[0], out)) < 0 || (out += n, child_done(&c)));
	EXPECT_EQ(in, child_join(&c));
	EXPECT_LT(0, c.report->signals);
	while ((n = read_on(w->out->fd[0], out)) > 0)
		out += n;
	EXPECT_EQ(in, out);
}

TEST_HARNESS_MAIN
