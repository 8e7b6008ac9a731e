// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writers that wait for free slots share the pipe. A writer with much to write,
 * in one call or in endless calls, keeps out neither small nor large writes of
 * others.
 */
#include "direct.h"
#include "words.h"

#define CHUNK		FULL		/* bytes of a read */
/*
 * Limit on the bytes that readers get of the first writer while another one
 * waits. It is the share of a posted write, and the bytes of slots a few times
 * over.
 */
#define SHARE		(DIRECT_MAX + 3 * CHUNK)

#define FIRST		0
#define SECOND		1

/*
 * The limit of @bytes for this run. With cut copies a woken writer may have to
 * fault. Others then pass it, and it waits again.
 */
static long limit(struct ends *e, long bytes)
{
	return copies_are_cut(e->kind) ? 4 * bytes : bytes;
}

/* A writer of words, @len bytes in a call, in one call or for ever. */
struct writing {
	struct child c;
	struct ends *e;
	int writer;
	size_t len;
	unsigned long word;	/* number of the first word */
	bool for_ever;
};

static long writing_run(struct child *c)
{
	struct writing *w = c->arg;
	unsigned char *buf = own_memory(w->len);
	unsigned long word = w->word;
	long ret;

	do {
		words_fill(buf, w->writer, word, w->len);
		word += w->len / WORD;
		ret = write(c->fd, buf, w->len);
	} while (w->for_ever && ret == w->len);
	return ret;
}

static void start_writing(struct writing *w)
{
	w->c = (struct child) {
		.nr = SYS_write, .fn = writing_run, .arg = w,
		.fd = w->e->fd[1], .drop = w->e->fd[0],
	};
	child_start(&w->c, 0);
}

/* Starts a large writer, and waits until it blocks. */
static void start_large(struct __test_metadata *_metadata, struct writing *w)
{
	start_writing(w);
	ASSERT_TRUE(child_asleep(&w->c));
}

/*
 * Starts a small writer, and waits until it blocks or has ended. It may find a
 * free slot at once.
 */
static void start_small(struct __test_metadata *_metadata, struct writing *w)
{
	start_writing(w);
	if (!child_asleep(&w->c))
		ASSERT_TRUE(child_done(&w->c));
}

/* Waits until the writer blocks in a write or has ended. */
static void settle(struct writing *w)
{
	eventually(child_done(&w->c) || task_syscall(w->c.pid) == SYS_write);
}

/*
 * Reads until a word of @writer has come, or @max bytes or more are read.
 * Between reads it waits until the @nr writers of @pace block or have ended.
 * Otherwise the reader could read much before a woken writer runs.
 */
static long read_until(struct __test_metadata *_metadata, struct ends *e,
		       struct words *w, int writer, long max,
		       struct writing *pace, int nr)
{
	static unsigned char buf[CHUNK];
	long done = 0, n;
	int i;

	while (done < max && !w->got[writer]) {
		n = words_read(w, e->fd[0], buf, CHUNK);
		ASSERT_LT(0, n);
		done += n;
		for (i = 0; i < nr; i++)
			settle(&pace[i]);
	}
	return done;
}

/*
 * A small write waits behind a large one, or behind endless ones, of which
 * @before bytes were read before.
 */
static void small_behind(struct __test_metadata *_metadata, struct ends *e,
			 size_t len, bool for_ever, long before)
{
	struct writing both[] = {
		{ .e = e, .writer = FIRST, .len = len, .for_ever = for_ever },
		{ .e = e, .writer = SECOND, .len = PAGE },
	};
	long max = limit(e, SHARE), n;
	struct words w = {};

	start_large(_metadata, &both[0]);
	read_until(_metadata, e, &w, SECOND, before, NULL, 0);
	ASSERT_TRUE(child_asleep(&both[0].c));
	start_small(_metadata, &both[1]);
	n = read_until(_metadata, e, &w, SECOND, 2 * max, both, 2);
	ASSERT_GE(max, n);
	ASSERT_LT(0, words_bytes(&w, SECOND));
	EXPECT_EQ(PAGE, child_join(&both[1].c));
	EXPECT_TRUE(was_direct(e));
	child_kill(&both[0].c);
}

TEST_F_TIMEOUT(all, small_write_behind_a_large_one, TIMEOUT)
{
	small_behind(_metadata, &self->e, 32 * MIB, false, 0);
}

TEST_F_TIMEOUT(all, small_write_behind_one_that_used_its_share, TIMEOUT)
{
	small_behind(_metadata, &self->e, 32 * MIB, false, 3 * MIB);
}

/*
 * The large writer has used its share, and another writer waits. Then even one
 * long read gets no more of the large write than a pipe holds.
 */
TEST_F_TIMEOUT(all, long_read_of_one_that_used_its_share, TIMEOUT)
{
	struct writing large = {
		.e = &self->e, .writer = FIRST, .len = 32 * MIB,
	};
	struct writing small = {
		.e = &self->e, .writer = SECOND, .len = PAGE,
	};
	unsigned char *buf = own_memory(MIB);
	struct words w = {};
	int i;
	long n;

	start_large(_metadata, &large);
	read_until(_metadata, &self->e, &w, SECOND, 3 * MIB, NULL, 0);
	ASSERT_TRUE(child_asleep(&large.c));
	/* The first small writers may find free slots; a pipe has 16 slots. */
	start_small(_metadata, &small);
	for (i = 0; i < 16 && child_done(&small.c); i++) {
		EXPECT_EQ(PAGE, child_join(&small.c));
		small.word += PAGE / WORD;
		start_small(_metadata, &small);
	}
	ASSERT_TRUE(child_asleep(&small.c));
	ASSERT_TRUE(child_asleep(&large.c));
	n = words_read(&w, self->e.fd[0], buf, MIB);
	EXPECT_LT(0, n);
	EXPECT_GE(limit(&self->e, FULL), n);
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&large.c);
	child_kill(&small.c);
	munmap(buf, MIB);
}

TEST_F_TIMEOUT(all, small_write_behind_one_that_used_many_shares, TIMEOUT)
{
	small_behind(_metadata, &self->e, 32 * MIB, false, 21 * MIB);
}

TEST_F_TIMEOUT(all, small_write_behind_endless_ones, TIMEOUT)
{
	small_behind(_metadata, &self->e, 4 * MIB, true, 0);
}

TEST_F_TIMEOUT(all, small_write_behind_endless_ones_for_a_while, TIMEOUT)
{
	small_behind(_metadata, &self->e, 4 * MIB, true, 5 * MIB);
}

/*
 * The reader does not wait for the writers. So it may get more of the large
 * write before the small one, but not all of it.
 */
TEST_F_TIMEOUT(all, small_write_behind_a_large_one_and_a_fast_reader, TIMEOUT)
{
	struct writing large = {
		.e = &self->e, .writer = FIRST, .len = 64 * MIB,
	};
	struct writing small = {
		.e = &self->e, .writer = SECOND, .len = PAGE,
	};
	struct words w = {};

	start_large(_metadata, &large);
	start_small(_metadata, &small);
	read_until(_metadata, &self->e, &w, SECOND, 32 * MIB, NULL, 0);
	ASSERT_LT(0, words_bytes(&w, SECOND));
	EXPECT_EQ(PAGE, child_join(&small.c));
	child_kill(&large.c);
}

/*
 * Several small writers write before the large writer has used its next share.
 * The large writer may fill slots between them.
 */
TEST_F_TIMEOUT(all, small_writes_behind_a_large_one, TIMEOUT)
{
	struct writing all[WRITERS] = {
		{ .e = &self->e, .writer = FIRST, .len = 32 * MIB },
	};
	long max = limit(&self->e, SHARE + 2 * (WRITERS - 2) * CHUNK);
	struct words w = {};
	int i;

	start_large(_metadata, &all[0]);
	for (i = 1; i < WRITERS; i++) {
		all[i] = (struct writing) {
			.e = &self->e, .writer = i, .len = PAGE,
		};
		start_small(_metadata, &all[i]);
	}
	for (i = 1; i < WRITERS; i++)
		read_until(_metadata, &self->e, &w, i, max, all, WRITERS);
	ASSERT_GE(max, words_bytes(&w, FIRST));
	for (i = 1; i < WRITERS; i++) {
		ASSERT_LT(0, words_bytes(&w, i));
		EXPECT_EQ(PAGE, child_join(&all[i].c));
	}
	child_kill(&all[0].c);
}

/*
 * Two large writes of the same length: readers never get more than two shares
 * of one in a row.
 */
static void two_large(struct __test_metadata *_metadata, struct ends *e,
		      size_t len)
{
	struct writing large[2];
	unsigned long longest = 0;
	unsigned char *buf = own_memory(CHUNK);
	struct words w = {};
	long n, i;

	for (i = 0; i < 2; i++) {
		large[i] = (struct writing) {
			.e = e, .writer = i, .len = len,
		};
		start_large(_metadata, &large[i]);
	}
	while (words_bytes(&w, 0) + words_bytes(&w, 1) < 2 * len) {
		n = words_read(&w, e->fd[0], buf, CHUNK);
		ASSERT_LT(0, n);
		settle(&large[0]);
		settle(&large[1]);
		if (words_bytes(&w, 0) < len && words_bytes(&w, 1) < len &&
		    w.run > longest)
			longest = w.run;
	}
	EXPECT_GE(limit(e, 2 * DIRECT_MAX), longest * WORD);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(len, child_join(&large[i].c));
	/*
	 * More was pulled than one of them wrote, so readers pulled from both.
	 */
	if (is_zpipe(e->kind) && !copies_are_cut(e->kind))
		EXPECT_LT(len, fdinfo_number(e->fd[0], "zpipe-bytes-pulled"));
}

TEST_F_TIMEOUT(all, two_large_writes, TIMEOUT)
{
	two_large(_metadata, &self->e, 16 * MIB);
}

/* A polling writer is not in the wait queue, but still gets to write. */
static long poll_and_write(struct child *c)
{
	struct ends *e = c->arg;
	struct pollfd p = { .fd = open_nonblocking_writer(e), .events = POLLOUT };
	unsigned char buf[PAGE];
	long ret;

	close(e->fd[0]);
	words_fill(buf, SECOND, 0, PAGE);
	do {
		if (poll(&p, 1, -1) != 1)
			return -1;
		ret = write(p.fd, buf, PAGE);
	} while (ret < 0 && errno == EAGAIN);
	return ret;
}

TEST_F_TIMEOUT(all, polling_writer_beside_endless_writes, TIMEOUT)
{
	struct writing large = {
		.e = &self->e, .writer = FIRST, .len = 32 * MIB,
		.for_ever = true,
	};
	struct child c = {
		.nr = SYS_poll, .fn = poll_and_write, .arg = &self->e,
		.drop = -1,
	};
	struct words w = {};

	start_large(_metadata, &large);
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	read_until(_metadata, &self->e, &w, SECOND, 16 * MIB, NULL, 0);
	ASSERT_LT(0, words_bytes(&w, SECOND));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&large.c);
}

/*
 * A writer that got EAGAIN is not in the wait queue and does not poll. A large
 * write that begins later still may not post: it waits, and the slot that is
 * freed is for the refused writer. Returns false if the large writer ran
 * although it was held up.
 */
static bool refused(struct __test_metadata *_metadata, struct ends *e)
{
	struct writing large = { .e = e, .writer = FIRST, .len = 4 * MIB };
	int fd = open_nonblocking_writer(e);
	unsigned char *buf = own_memory(FULL);
	struct words w = {};
	long posts = 0, n, runs;
	bool ran;

	if (is_zpipe(e->kind))
		posts = fdinfo_number(e->fd[0], "zpipe-posted-writes");
	words_fill(buf, SECOND, 0, FULL);
	ASSERT_EQ(FULL, sys(write(fd, buf, FULL)));
	ASSERT_EQ(-EAGAIN, sys(write(fd, buf, PAGE)));
	start_large(_metadata, &large);
	if (is_zpipe(e->kind))
		EXPECT_EQ(posts, fdinfo_number(e->fd[0], "zpipe-posted-writes"));
	hold_up(&large.c);
	runs = task_runs(large.c.pid);
	ASSERT_EQ(PAGE, words_read(&w, e->fd[0], buf, PAGE));
	words_fill(buf, SECOND, FULL / WORD, PAGE);
	n = sys(write(fd, buf, PAGE));
	ran = task_runs(large.c.pid) != runs;
	let_go();
	if (!ran) {
		EXPECT_EQ(PAGE, n);
		/*
		 * Once the large writer has waited for its free slot, it may
		 * post.
		 */
		read_until(_metadata, e, &w, FIRST, 2 * FULL, NULL, 0);
		ASSERT_LT(0, words_bytes(&w, FIRST));
		ASSERT_TRUE(child_asleep(&large.c));
		if (is_zpipe(e->kind))
			EXPECT_LT(posts, fdinfo_number(e->fd[0],
						       "zpipe-posted-writes"));
	}
	child_kill(&large.c);
	while (fionread(e->fd[0]) > 0)
		ASSERT_LT(0, sys(read(e->fd[0], buf, FULL)));
	munmap(buf, FULL);
	close(fd);
	return !ran;
}

TEST_F_TIMEOUT(all, refused_writer_before_a_large_write, TIMEOUT)
{
	EXPECT_TRUE(held_up(refused(_metadata, &self->e)));
}

TEST_HARNESS_MAIN
