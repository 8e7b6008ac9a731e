// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writers that wait for room share the pipe. One with much to write does not
 * keep another one out: neither a small write nor a large one, and neither from
 * one endless write nor from endless writes.
 */
#include "direct.h"
#include "words.h"

#define CHUNK		FULL		/* of a read */
/* What may be read of the first writer while another one waits. */
#define SHARE		(DIRECT_MOST + 3 * CHUNK)

#define FIRST		0
#define SECOND		1

/*
 * With cut copies a writer whose turn it is may have to fault, which lets others
 * pass; then it waits for another turn.
 */
static long at_most(struct ends *e, long bytes)
{
	return copies_are_cut(e->kind) ? 4 * bytes : bytes;
}

/* A writer of words, @len bytes in a call, once or for ever. */
struct writing {
	struct child c;
	struct ends *e;
	int writer;
	size_t len;
	unsigned long word;	/* the first */
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

/* A large writer: it waits for room when this returns. */
static void start_large(struct __test_metadata *_metadata, struct writing *w)
{
	start_writing(w);
	ASSERT_TRUE(child_asleep(&w->c));
}

/* A small one, of which that is not sure: it may find room at once. */
static void start_small(struct __test_metadata *_metadata, struct writing *w)
{
	start_writing(w);
	if (!child_asleep(&w->c))
		ASSERT_TRUE(child_done(&w->c));
}

/* Waits until it sleeps in a write, or has ended. */
static void settle(struct writing *w)
{
	eventually(child_done(&w->c) || task_syscall(w->c.pid) == SYS_write);
}

/*
 * Reads on for at most @most bytes, until one of @writer's has come. Of @nr
 * writers those that were woken do what they have to before the next read;
 * otherwise the reader may be far ahead.
 */
static long read_until(struct __test_metadata *_metadata, struct ends *e,
		       struct words *w, int writer, long most,
		       struct writing *pace, int nr)
{
	static unsigned char buf[CHUNK];
	long done = 0, n;
	int i;

	while (done < most && !w->got[writer]) {
		n = words_read(w, e->fd[0], buf, CHUNK);
		ASSERT_LT(0, n);
		done += n;
		for (i = 0; i < nr; i++)
			settle(&pace[i]);
	}
	return done;
}

/*
 * A small write waits behind a large one, or behind large ones, of which @before
 * bytes have been read already.
 */
static void small_behind(struct __test_metadata *_metadata, struct ends *e,
			 size_t len, bool for_ever, long before)
{
	struct writing both[] = {
		{ .e = e, .writer = FIRST, .len = len, .for_ever = for_ever },
		{ .e = e, .writer = SECOND, .len = PAGE },
	};
	long most = at_most(e, SHARE), n;
	struct words w = {};

	start_large(_metadata, &both[0]);
	read_until(_metadata, e, &w, SECOND, before, NULL, 0);
	ASSERT_TRUE(child_asleep(&both[0].c));
	start_small(_metadata, &both[1]);
	n = read_until(_metadata, e, &w, SECOND, 2 * most, both, 2);
	ASSERT_GE(most, n);
	ASSERT_LT(0, words_bytes(&w, SECOND));
	EXPECT_EQ(PAGE, child_join(&both[1].c));
	EXPECT_TRUE(was_direct(e));
	child_kill(&both[0].c);
}

TEST_F_TIMEOUT(all, small_write_behind_a_large_one, TIMEOUT)
{
	small_behind(_metadata, &self->e, 32 * MIB, false, 0);
}

TEST_F_TIMEOUT(all, small_write_behind_one_that_had_its_share, TIMEOUT)
{
	small_behind(_metadata, &self->e, 32 * MIB, false, 3 * MIB);
}

/*
 * Then even one long read gets no more of the large one's than a pipe would hold.
 */
TEST_F_TIMEOUT(all, long_read_of_one_that_had_its_share, TIMEOUT)
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
	/* The first ones may find room; there are not more slots than 16. */
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
	EXPECT_GE(at_most(&self->e, FULL), n);
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&large.c);
	child_kill(&small.c);
	munmap(buf, MIB);
}

TEST_F_TIMEOUT(all, small_write_behind_one_that_had_many_shares, TIMEOUT)
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

/* A reader that waits for nobody may get more, but not all of it. */
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
 * Several small ones are in before the large one has its next share. They may
 * take turns with it.
 */
TEST_F_TIMEOUT(all, small_writes_behind_a_large_one, TIMEOUT)
{
	struct writing all[WRITERS] = {
		{ .e = &self->e, .writer = FIRST, .len = 32 * MIB },
	};
	long most = at_most(&self->e, SHARE + 2 * (WRITERS - 2) * CHUNK);
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
		read_until(_metadata, &self->e, &w, i, most, all, WRITERS);
	ASSERT_GE(most, words_bytes(&w, FIRST));
	for (i = 1; i < WRITERS; i++) {
		ASSERT_LT(0, words_bytes(&w, i));
		EXPECT_EQ(PAGE, child_join(&all[i].c));
	}
	child_kill(&all[0].c);
}

/* Both have as much to write, and the same right to it. */
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
	EXPECT_GE(at_most(e, 2 * DIRECT_MOST), longest * WORD);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(len, child_join(&large[i].c));
	/* Both had more than one share. */
	if (is_zpipe(e->kind) && !copies_are_cut(e->kind))
		EXPECT_LT(len, fdinfo_number(e->fd[0], "zpipe-bytes-pulled"));
}

TEST_F_TIMEOUT(all, two_large_writes, TIMEOUT)
{
	two_large(_metadata, &self->e, 16 * MIB);
}

/* Who polls does not wait in the queue, and yet has its turn. */
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
 * Who was refused neither waits in the queue nor polls, and yet may be the next:
 * a large write that begins after that waits in its turn, and has no claim to
 * what is read before. False if it had a processor all the same.
 */
static bool refused(struct __test_metadata *_metadata, struct ends *e)
{
	struct writing large = { .e = e, .writer = FIRST, .len = 4 * MIB };
	int fd = open_nonblocking_writer(e);
	unsigned char *buf = own_memory(FULL);
	struct words w = {};
	long offers = 0, n, runs;
	bool ran;

	if (is_zpipe(e->kind))
		offers = fdinfo_number(e->fd[0], "zpipe-offers");
	words_fill(buf, SECOND, 0, FULL);
	ASSERT_EQ(FULL, sys(write(fd, buf, FULL)));
	ASSERT_EQ(-EAGAIN, sys(write(fd, buf, PAGE)));
	start_large(_metadata, &large);
	if (is_zpipe(e->kind))
		EXPECT_EQ(offers, fdinfo_number(e->fd[0], "zpipe-offers"));
	hold_up(&large.c);
	runs = task_runs(large.c.pid);
	ASSERT_EQ(PAGE, words_read(&w, e->fd[0], buf, PAGE));
	words_fill(buf, SECOND, FULL / WORD, PAGE);
	n = sys(write(fd, buf, PAGE));
	ran = task_runs(large.c.pid) != runs;
	let_go();
	if (!ran) {
		EXPECT_EQ(PAGE, n);
		/* When its turn has come it is as others. */
		read_until(_metadata, e, &w, FIRST, 2 * FULL, NULL, 0);
		ASSERT_LT(0, words_bytes(&w, FIRST));
		ASSERT_TRUE(child_asleep(&large.c));
		if (is_zpipe(e->kind))
			EXPECT_LT(offers, fdinfo_number(e->fd[0],
							"zpipe-offers"));
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
