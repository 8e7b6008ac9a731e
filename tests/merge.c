// SPDX-License-Identifier: GPL-2.0-only
/*
 * Slot for slot: how much each write accepts, what FIONREAD and poll report after it,
 * and when a blocked write returns. The tests compare with a model of fs/pipe.c. The
 * kernel's own pipes show that the model is right.
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#define FULL		(SLOTS * PAGE)

/* A pipe and its model. Both ends are non-blocking unless a test changes that. */
struct twin {
	struct ends *e;
	struct model m;
	long in;		/* stream offsets */
	long out;
};

static void twin_init(struct twin *t, struct ends *e)
{
	memset(t, 0, sizeof(*t));
	t->e = e;
	t->m.max = SLOTS;
	set_nonblock(e->fd[0], true);
	set_nonblock(e->fd[1], true);
}

/*
 * Does one step in both: a write of @len bytes, or a read of -@len bytes. Returns the
 * result of the pipe, and stores the result of the model in @want.
 */
static long twin_step(struct twin *t, long len, long *want)
{
	long ret;

	if (len > 0) {
		*want = model_write(&t->m, len, false);
		ret = stream_write(t->e->fd[1], t->in, len);
		t->in += ret > 0 ? ret : 0;
	} else {
		*want = model_read(&t->m, -len);
		ret = stream_read(t->e->fd[0], t->out, -len);
		t->out += ret > 0 ? ret : 0;
	}
	if (!*want)
		*want = -EAGAIN;
	return ret;
}

/* True if FIONREAD and poll on both ends report what the model predicts. */
static bool twin_agrees(struct twin *t)
{
	return fionread(t->e->fd[0]) == model_fionread(&t->m) &&
	       poll_mask(t->e->fd[0]) == model_poll(&t->m, 0) &&
	       poll_mask(t->e->fd[1]) == model_poll(&t->m, 1);
}

#define STEPS	12

static const struct {
	const char *what;
	long step[STEPS];
} table[] = {
	{ "small writes share a slot", { 1, 1, 1, PAGE - 3, 1, -1, -PAGE } },
	{ "a merge fills the slot to the last byte",
		{ PAGE - 100, 100, 15 * PAGE, 1, -PAGE, PAGE } },
	{ "a write that does not fit the slot opens another",
		{ PAGE - 100, 101, 14 * PAGE, 100, PAGE, 3995, 1 } },
	{ "whole pages never merge", { 1, PAGE, PAGE, 13 * PAGE, PAGE, 4095 } },
	{ "only what is beyond whole pages merges",
		{ 100, PAGE + 200, PAGE + 3797, 12 * PAGE, 5000, 296, 1 } },
	{ "what does not merge is laid out from the start of the write",
		{ 4000, PAGE + 97, 12 * PAGE, 1, 2 * PAGE } },
	{ "full by slots, not by bytes",
		{ 4000, 200, 4000, 200, 4000, 200, 10 * PAGE, 3896, 1 } },
	{ "a merge into a full pipe",
		{ 15 * PAGE, 100, 200, PAGE, 5000, 2893, 1 } },
	{ "a full pipe takes the beginning of a write and no more",
		{ 15 * PAGE, 100, 2 * PAGE + 50, 2 * PAGE, -200, 3946, 1 } },
	{ "a slot that was begun has less space",
		{ 100, -50, 3996, -3000, 1, 15 * PAGE, -1046, -1, PAGE } },
	{ "an empty slot is gone, and its space with it",
		{ 100, -100, 3997, 200, -3997, 3896, 1 } },
	{ "one byte frees a slot only when it is the last one",
		{ 16 * PAGE, -1, 1, -4094, 1, -1, 1, 1, -PAGE, PAGE } },
	{ "a large write in one go", { 20 * PAGE, -PAGE, 20 * PAGE, -3 * PAGE } },
	{ "uneven large writes", { 10001, 20002, 30003, -9000, 40004, -1, 1 } },
};

TEST_F_TIMEOUT(all, table_of_merges, TIMEOUT)
{
	struct twin t;
	long want, ret;
	size_t i;
	int j;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		twin_init(&t, &self->e);
		for (j = 0; j < STEPS && table[i].step[j]; j++) {
			ret = twin_step(&t, table[i].step[j], &want);
			EXPECT_EQ(want, ret)
				TH_LOG("%s, step %d", table[i].what, j);
			EXPECT_TRUE(twin_agrees(&t))
				TH_LOG("%s, step %d", table[i].what, j);
		}
		stream_read(self->e.fd[0], t.out, 2 * FULL);
	}
}

/* The lengths of single slots. Reads into partly bad memory show where a slot ends. */
TEST_F_TIMEOUT(all, slots_of_one_write, TIMEOUT)
{
	char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_EQ(0, mprotect(p + 3 * PAGE, PAGE, PROT_NONE));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(2 * PAGE + 300, stream_write(self->e.fd[1], 100,
					       2 * PAGE + 300));
	/*
	 * The slots have 400, 4096 and 4096 bytes. A slot that does not fit before the
	 * bad page is not read.
	 */
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], p + 3 * PAGE - 399, PAGE)));
	EXPECT_EQ(400, sys(read(self->e.fd[0], p + 3 * PAGE - 400 - 4095,
				2 * PAGE)));
	EXPECT_EQ(PAGE, sys(read(self->e.fd[0], p + 2 * PAGE - 1, 2 * PAGE)));
	EXPECT_EQ(PAGE, fionread(self->e.fd[0]));
}

static void random_steps(struct __test_metadata *_metadata, struct ends *e,
			 unsigned long s, int steps)
{
	unsigned long state = s;
	long want, ret, pages;
	struct twin t;
	int i;

	twin_init(&t, e);
	for (i = 0; i < steps; i++) {
		if (rnd(&state) % 20) {
			long len = rnd_len(&state, 20 * PAGE);

			ret = twin_step(&t, rnd(&state) % 2 ? len : -len, &want);
		} else {
			pages = 1 << rnd(&state) % 6;
			ret = set_capacity(e->kind, e->fd[0], pages * PAGE);
			want = model_resize(&t.m, pages) ? pages * PAGE :
							   -EBUSY;
		}
		ASSERT_EQ(want, ret)
			TH_LOG("seed %lu, step %d", s, i);
		ASSERT_TRUE(twin_agrees(&t))
			TH_LOG("seed %lu, step %d", s, i);
	}
}

TEST_F_TIMEOUT(all, random_steps, TIMEOUT)
{
	unsigned long s = seed(1);

	random_steps(_metadata, &self->e, s, 1000);
}

TEST_F_TIMEOUT(all, random_steps_of_another_seed, TIMEOUT)
{
	unsigned long s = seed(time(NULL));

	random_steps(_metadata, &self->e, s, 1000);
}

/*
 * A blocked write fills the slots that are free, also after each read. It returns as
 * soon as all bytes are written.
 */
static void blocked_write(struct __test_metadata *_metadata, struct twin *t,
			  long len, const long *reads)
{
	bool cut = copies_are_cut(t->e->kind);
	long left, n, got, more;
	struct child c;

	set_nonblock(t->e->fd[1], false);
	left = len - model_write(&t->m, len, false);
	child_write(&c, t->e, t->in, len);
	t->in += len;
	for (;; reads++) {
		ASSERT_TRUE(left ? child_asleep(&c) : child_join(&c) == len)
			TH_LOG("of %ld bytes %ld are left", len, left);
		ASSERT_EQ(model_fionread(&t->m), fionread(t->e->fd[0]));
		ASSERT_EQ(left ? 0 : model_poll(&t->m, 1),
			  poll_mask(t->e->fd[1]));
		if (!left)
			break;
		n = model_read(&t->m, *reads);
		/*
		 * With cut copies a larger read may also get bytes written after its
		 * page fault. It may get fewer, if the writer faults at the same time:
		 * the others are announced again soon.
		 */
		got = stream_read(t->e->fd[0], t->out, cut ? n : *reads);
		while (cut && got > 0 && got < n) {
			ASSERT_TRUE(eventually(fionread(t->e->fd[0]) >= n - got));
			more = stream_read(t->e->fd[0], t->out + got, n - got);
			ASSERT_LT(0, more);
			got += more;
		}
		ASSERT_EQ(n, got) TH_LOG("left %ld", left);
		t->out += n;
		left -= model_fill(&t->m, left, false);
	}
	set_nonblock(t->e->fd[1], true);
}

/* Reads @step bytes at a time until the write is done. */
static void blocked_write_reading(struct __test_metadata *_metadata,
				  struct ends *e, long before, long len,
				  long step)
{
	long reads[200];
	struct twin t;
	long want;
	int i;

	for (i = 0; i < 200; i++)
		reads[i] = step;
	twin_init(&t, e);
	if (before)
		ASSERT_EQ(before, twin_step(&t, before, &want));
	blocked_write(_metadata, &t, len, reads);
	/* The pipe holds all of the written bytes and nothing else. */
	while (t.out < t.in) {
		long ret = stream_read(e->fd[0], t.out, FULL);

		ASSERT_LT(0, ret);
		t.out += ret;
	}
	ASSERT_EQ(-EAGAIN, stream_read(e->fd[0], 0, 1));
}

TEST_F_TIMEOUT(all, blocked_write_read_by_pages, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, 0, FULL + 5 * PAGE, PAGE);
}

TEST_F_TIMEOUT(all, blocked_write_read_by_half_pages, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, 0, FULL + 5 * PAGE,
			      PAGE / 2);
}

TEST_F_TIMEOUT(all, blocked_write_read_unevenly, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, 0, 3 * FULL + 77, 5555);
}

TEST_F_TIMEOUT(all, blocked_write_read_at_large, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, 0, 5 * FULL + 1, FULL);
}

TEST_F_TIMEOUT(all, blocked_write_behind_other_data, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, 5 * PAGE + 100,
			      FULL + PAGE + 300, 3000);
}

TEST_F_TIMEOUT(all, blocked_write_of_one_byte, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, FULL, 1, 1000);
}

TEST_F_TIMEOUT(all, blocked_write_of_pipe_buf, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, FULL - 1, PIPE_BUF, 1000);
}

TEST_F_TIMEOUT(all, blocked_write_just_above_pipe_buf, TIMEOUT)
{
	blocked_write_reading(_metadata, &self->e, FULL, PIPE_BUF + 1, 4095);
}

TEST_F_TIMEOUT(all, random_blocked_writes, TIMEOUT)
{
	unsigned long s = seed(2), state = s;
	long reads[400], want;
	struct twin t;
	int i, j;

	twin_init(&t, &self->e);
	for (i = 0; i < 25; i++) {
		for (j = 0; j < 400; j++)
			reads[j] = rnd_len(&state, FULL) + 300;
		blocked_write(_metadata, &t, rnd_len(&state, 3 * FULL), reads);
		if (rnd(&state) % 2)
			twin_step(&t, -rnd_len(&state, FULL), &want);
		ASSERT_TRUE(twin_agrees(&t)) TH_LOG("seed %lu", s);
	}
}

/*
 * A peer reads half of a request and answers. The writer must see the answer, so its
 * write must return once the rest fits.
 */
TEST_F_TIMEOUT(all, write_returns_when_the_rest_fits, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, FULL + FULL / 2);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL / 2, stream_read(self->e.fd[0], 0, FULL / 2));
	EXPECT_EQ(FULL + FULL / 2, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], FULL / 2, 2 * FULL));
}

/* Odd bytes are appended to the last slot when the write begins, and never later. */
TEST_F_TIMEOUT(all, blocked_write_merges_no_more, TIMEOUT)
{
	struct child small, large;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write(&small, &self->e, FULL, 10);
	/* The small write is served first only if it already waits for a free slot. */
	ASSERT_TRUE(child_stays_asleep(&small));
	child_write(&large, &self->e, FULL + 10, PAGE + 100);
	ASSERT_TRUE(child_stays_asleep(&large));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(10, child_join(&small));
	ASSERT_EQ(2 * PAGE, stream_read(self->e.fd[0], PAGE, 2 * PAGE));
	EXPECT_EQ(PAGE + 100, child_join(&large));
	/*
	 * The large write used both slots, though its odd bytes would fit behind the
	 * ten.
	 */
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(FULL - 2 * PAGE + 110,
		  stream_read(self->e.fd[0], 3 * PAGE, 2 * FULL));
}

/* Writes of at most PIPE_BUF bytes are atomic with any number of writers. */
#define WRITERS		4
#define RECORDS		100

static long write_records(struct child *c)
{
	unsigned char buf[PIPE_BUF];
	unsigned long state = c->flags;
	int i, len;

	for (i = 0; i < RECORDS; i++) {
		len = 4 + rnd(&state) % (PIPE_BUF - 3);
		memset(buf, 'a' + c->flags, len);
		buf[1] = i;
		buf[2] = len & 0xff;
		buf[3] = len >> 8;
		if (write(c->fd, buf, len) != len)
			return -1;
	}
	return 0;
}

/* Reads @len bytes to @buf, or fewer at the end of the data. */
static long read_fully(int fd, unsigned char *buf, long len)
{
	long done = 0, ret;

	while (done < len) {
		ret = read(fd, buf + done, len - done);
		if (ret <= 0)
			return ret < 0 ? -errno : done;
		done += ret;
	}
	return done;
}

TEST_F_TIMEOUT(all, records_of_pipe_buf_are_atomic, TIMEOUT)
{
	unsigned char buf[PIPE_BUF];
	int next[WRITERS] = {};
	struct child c[WRITERS];
	int i, j, len, who;

	for (i = 0; i < WRITERS; i++) {
		c[i] = (struct child) {
			.fn = write_records, .fd = self->e.fd[1],
			.drop = self->e.fd[0], .flags = i,
		};
		child_start(&c[i], 0);
	}
	close_end(&self->e, 1);
	while (read_fully(self->e.fd[0], buf, 4) == 4) {
		who = buf[0] - 'a';
		len = buf[2] | buf[3] << 8;
		ASSERT_LE(0, who);
		ASSERT_GT(WRITERS, who);
		ASSERT_EQ(next[who]++, buf[1]);
		ASSERT_EQ(len - 4, read_fully(self->e.fd[0], buf + 4, len - 4));
		for (j = 4; j < len; j++)
			ASSERT_EQ('a' + who, buf[j]);
	}
	for (i = 0; i < WRITERS; i++) {
		EXPECT_EQ(RECORDS, next[i]);
		EXPECT_EQ(0, child_join(&c[i]));
	}
}

TEST_HARNESS_MAIN
