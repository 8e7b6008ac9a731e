// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows under load: threads that store, touch and fork, ends that are killed at any
 * moment, and processes that check for bytes they must not see.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

#include <pthread.h>
#include <setjmp.h>

static volatile bool stop;

/* The duration of a test in ms. */
static long storm_ms(void)
{
	const char *ms = getenv("ZPIPE_STRESS_MS");

	return ms ? atol(ms) : 3000 * SLOWER;
}

/* Stores to all words of two frames, in order, and each round stores the next number. */
static void *store(void *arg)
{
	volatile unsigned long *words = arg;
	unsigned long round;
	size_t i;

	for (round = 1; !stop; round++)
		for (i = 0; i < 2 * FRAME / 8 && !stop; i++)
			words[i] = round;
	return NULL;
}

/* Reads all over a window. Any of its places may have no frame, so a read may fault. */

static __thread sigjmp_buf back;
static __thread volatile bool touching;

static void nothing_there(int sig)
{
	if (!touching)
		_exit(99);
	siglongjmp(back, 1);
}

static void *touch(void *arg)
{
	const struct window *w = arg;
	unsigned int seed = 7;

	while (!stop) {
		size_t at = (rand_r(&seed) * 8UL) % w->bytes;

		if (!sigsetjmp(back, 1)) {
			touching = true;
			(void)((volatile unsigned char *)w->at)[at];
		}
		touching = false;
		if (!(at % 512))
			madvise(w->at, w->bytes, MADV_DONTNEED);
	}
	return NULL;
}

static void *fork_often(void *arg)
{
	while (!stop) {
		pid_t pid = fork();

		if (!pid) {
			usleep(300);
			_exit(0);
		}
		usleep(2000);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	return NULL;
}

#define THREADS	3

static bool start_threads(pthread_t *threads, void *(*const *fn)(void *arg), void *arg)
{
	int i;

	stop = false;
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, fn[i], arg))
			return false;
	return true;
}

static void stop_threads(pthread_t *threads)
{
	int i;

	stop = true;
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/*
 * Commits parts of two frames while other threads store to them. Returns the number of
 * half frames that were moved.
 */
static long commit_under_stores(struct child *c)
{
	static void *(*const fn[THREADS])(void *arg) = { store, store, fork_often };
	struct window w = make_window(c->fd, 2 * FRAME, ZPIPE_WINDOW_WRITE | c->flags);
	long until = now_ms() + storm_ms(), moved = 0;
	unsigned int seed = 1 + c->flags;
	pthread_t threads[THREADS];

	if (w.fd < 0 || !start_threads(threads, fn, w.at))
		return -1;
	while (now_ms() < until) {
		size_t from = rand_r(&seed) % 3 * FRAME / 2, bytes = FRAME;
		unsigned int lend = c->flags && rand_r(&seed) % 3 ? ZPIPE_LEND : 0;
		struct gifted g;

		if (rand_r(&seed) % 4 == 0)
			bytes = rand_r(&seed) % FRAME / 8 * 8;
		if (rand_r(&seed) % 4 == 0)
			reserve(&w, from, bytes ?: 8);
		g = commit(&w, from, bytes, lend);
		/*
		 * Forks in the other thread may interrupt the call. With EINTR it has
		 * written nothing.
		 */
		if (g.ret < 0 && g.ret != -EINTR)
			return g.ret;
		moved += g.moved / (FRAME / 2);
	}
	stop_threads(threads);
	return moved;
}

static unsigned long sum_of(const struct window *w, const struct peeked *p)
{
	unsigned long sum = 0, word;
	unsigned int i;
	size_t at;

	for (i = 0; i < p->n; i++)
		for (at = 0; at + 8 <= p->views[i].bytes; at += 8) {
			memcpy(&word, w->at + p->views[i].offset + at, 8);
			sum = sum * 31 + word;
		}
	return sum;
}

static void look_in_storm(struct __test_metadata *_metadata, struct ends *e, int lends)
{
	static void *(*const fn[THREADS])(void *arg) = { touch, touch, fork_often };
	struct child c = {
		.nr = SYS_ioctl, .fn = commit_under_stores, .fd = e->fd[1],
		.drop = e->fd[0], .flags = lends,
	};
	unsigned long bytes = 0, seen = 0;
	pthread_t threads[THREADS];
	unsigned int seed = 5;
	struct window r;

	signal(SIGBUS, nothing_there);
	signal(SIGSEGV, nothing_there);
	child_start(&c, 0);
	close_end(e, 1);
	r = read_window(e, 2);
	ASSERT_LE(0, r.fd);
	ASSERT_TRUE(start_threads(threads, fn, &r));
	for (;; seen++) {
		struct peeked p = peek(&r, 0);
		unsigned long sum, done;

		ASSERT_EQ(0, p.ret);
		if (!p.bytes)
			break;
		ASSERT_TRUE(views_right(&r, &p));
		sum = sum_of(&r, &p);
		sched_yield();
		/* Bytes in view do not change. */
		ASSERT_EQ(sum, sum_of(&r, &p));
		done = rand_r(&seed) % 3 ? p.bytes : 1 + rand_r(&seed) % p.bytes;
		ASSERT_EQ(0, consume(&r, done));
		bytes += done;
	}
	stop_threads(threads);
	EXPECT_LT(0, child_join(&c));
	TH_LOG("%lu peeks, %lu MiB", seen, bytes >> 20);
}

TEST_F_TIMEOUT(window, stores_and_forks, 6 * TIMEOUT)
{
	look_in_storm(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(window, stores_to_what_is_lent, 6 * TIMEOUT)
{
	look_in_storm(_metadata, &self->e, ZPIPE_WINDOW_LEND);
}

/* Marks in frames. A mark has the tag of its writer and the number of the frame. */

#define STEP		512	/* distance of the marks in bytes */
#define KEPT		0x4bUL
#define RETURNED	0x52UL
#define FIRST		0xa1UL	/* the lowest tag of a writer */
#define WRITERS		3

static void mark(unsigned char *at, unsigned long tag, unsigned long number)
{
	size_t i;

	for (i = 0; i < FRAME; i += STEP)
		*(unsigned long *)(at + i) = tag << 48 | number;
}

/* Returns the tag of a frame whose marks are all the same, or -1. Zeros are tag 0. */
static long tag_of(const unsigned char *at, unsigned long *number)
{
	unsigned long first = *(const unsigned long *)at;
	size_t i;

	for (i = 0; i < FRAME; i += STEP)
		if (*(const unsigned long *)(at + i) != first)
			return -1;
	*number = first & 0xffffffffffffUL;
	return first >> 48;
}

/* Commits numbered frames, one to three at a time, until the child is killed. */
static long commit_numbers(struct child *c)
{
	struct window w = make_window(c->fd, 3 * FRAME,
				      ZPIPE_WINDOW_WRITE | ZPIPE_WINDOW_LEND);
	unsigned long number = 0;
	unsigned int seed = 1;
	struct gifted g;
	int i, n;

	do {
		n = 1 + rand_r(&seed) % 3;
		for (i = 0; i < n; i++)
			mark(w.at + i * FRAME, FIRST, ++number);
		g = commit(&w, 0, n * FRAME, rand_r(&seed) % 2 ? ZPIPE_LEND : 0);
	} while (g.ret == n * FRAME);
	pause();
	return 0;
}

/*
 * Peeks at numbered frames and consumes them one by one. @c->buf counts them. The count
 * may lack the last frame of a child that was killed before it could count it.
 */
static long consume_numbers(struct child *c)
{
	struct window r = make_window(c->fd, 2 * FRAME, ZPIPE_WINDOW_READ);
	volatile unsigned long *done = (unsigned long *)c->buf;
	unsigned long number;
	bool first = true;

	for (;;) {
		struct peeked p = peek(&r, 0);
		unsigned int i;

		if (p.ret || !views_right(&r, &p))
			return p.ret ?: -1;
		if (!p.bytes)
			return *done;
		for (i = 0; i < p.n; i++) {
			const struct zpipe_view *v = &p.views[i];
			unsigned long at;

			/* A view may consist of several frames in a row. */
			if (v->bytes % FRAME)
				return -2;
			for (at = 0; at < v->bytes; at += FRAME, first = false) {
				if (tag_of(r.at + v->offset + at, &number) != FIRST)
					return -3;
				if (first && number == *done + 2)
					++*done;
				if (number != *done + 1)
					return -4;
				if (consume(&r, FRAME))
					return -5;
				++*done;
			}
		}
	}
}

static struct child frames_child(struct ends *e, int end, long (*fn)(struct child *c),
				 void *buf)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = fn, .fd = e->fd[end], .drop = e->fd[!end],
		.buf = buf,
	};

	child_start(&c, 0);
	return c;
}

/* Kills one reader after the other, and no frame may be lost. Then kills the writer. */
TEST_F_TIMEOUT(window, readers_are_killed, 6 * TIMEOUT)
{
	unsigned long *done = shared_alloc(sizeof(*done)), before;
	struct child writer, reader;
	unsigned int seed = 3;
	int i;

	writer = frames_child(&self->e, 1, commit_numbers, NULL);
	for (i = 0; i < 12; i++) {
		before = *(volatile unsigned long *)done;
		reader = frames_child(&self->e, 0, consume_numbers, done);
		EXPECT_TRUE(eventually(*(volatile unsigned long *)done > before));
		usleep(rand_r(&seed) % 50000 * SLOWER);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&reader));
	}
	reader = frames_child(&self->e, 0, consume_numbers, done);
	close_end(&self->e, 1);
	usleep(20000 * SLOWER);
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&writer));
	/* All frames that it had committed are whole. */
	EXPECT_LT(0, child_join(&reader));
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

static long for_ever(struct child *c)
{
	int lend = c->flags & ZPIPE_WINDOW_LEND ? ZPIPE_LEND : 0;
	struct window w = make_window(c->fd, 2 * FRAME, c->flags);
	unsigned int seed = 1, i;
	struct peeked p = {};

	if (c->flags & ZPIPE_WINDOW_WRITE)
		do {
			memset(w.at, 1, 2 * FRAME);
		} while (commit(&w, 0, 2 * FRAME, lend).ret > 0);
	else
		do {
			size_t done = p.bytes ? 1 + rand_r(&seed) % p.bytes : 0;

			p = peek_with(&w, done, 0, 0, VIEWS);
			for (i = 0; i < p.n; i++)
				c->len += w.at[p.views[i].offset];
		} while (!p.ret && p.bytes);
	/* The process at the other end was killed first. */
	pause();
	return 0;
}

/* Kills both sides, each round in the other order. No memory may be lost. */
static void kill_both(struct __test_metadata *_metadata, enum kind kind,
		      unsigned int writes)
{
	long before = available();
	unsigned int seed = 5;
	int round, i;

	for (round = 0; round < 24; round++) {
		struct child c[2];
		struct ends e;

		ASSERT_EQ(0, ends_make(&e, kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		for (i = 0; i < 2; i++) {
			c[i] = (struct child) {
				.nr = SYS_ioctl, .fn = for_ever, .fd = e.fd[i],
				.drop = e.fd[!i],
				.flags = i ? writes : ZPIPE_WINDOW_READ,
			};
			child_start(&c[i], 0);
		}
		usleep(rand_r(&seed) % 60000 * SLOWER + 5000);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[round % 2]));
		usleep(rand_r(&seed) % 3000);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[!(round % 2)]));
		ends_free(&e);
	}
	EXPECT_TRUE(comes_back(before, LOST)) {
		TH_LOG("%ld KiB are missing", before - available());
	}
}

TEST_F_TIMEOUT(window, killed_at_any_time, 6 * TIMEOUT)
{
	kill_both(_metadata, variant->kind, ZPIPE_WINDOW_WRITE);
}

TEST_F_TIMEOUT(window, killed_while_frames_are_lent, 6 * TIMEOUT)
{
	kill_both(_metadata, variant->kind, ZPIPE_WINDOW_WRITE | ZPIPE_WINDOW_LEND);
}

/*
 * Two writers have windows and one gifts. A reader peeks, and moves pages in exchange
 * for its own.
 *
 * A writer finds its own tag in the place of a frame or gift, or zeros. With ZPIPE_ANY
 * it may also find the tag of pages that the reader returned. Nobody may see the tag of
 * pages that the reader kept.
 */

/*
 * Checks the marks that the writer with the tag @mine finds at @at. Valid are zeros,
 * its own marks with numbers up to @last, and with @any those of returned pages.
 * Returns 0, or a negative number.
 */
static long bad_mark(const unsigned char *at, unsigned long mine, unsigned long last,
		     bool any)
{
	unsigned long number = 0;
	long tag = tag_of(at, &number);

	if (tag == (long)mine)
		return number <= last ? 0 : -2;
	return !tag || (any && tag == RETURNED) ? 0 : -1000 - tag;
}

static long mark_and_commit(struct child *c)
{
	bool lends = c->flags == FIRST;
	struct window w = make_window(c->fd, 2 * FRAME, ZPIPE_WINDOW_WRITE |
				      (lends ? ZPIPE_WINDOW_LEND : 0));
	long until = now_ms() + storm_ms(), bad;
	unsigned int seed = c->flags;
	unsigned long n;

	for (n = 1; now_ms() < until; n++) {
		size_t from = n % 2 * FRAME;
		unsigned int lend = lends && rand_r(&seed) % 2 ? ZPIPE_LEND : 0;
		struct gifted g;

		bad = bad_mark(w.at + from, c->flags, n - 1, false);
		if (bad)
			return bad;
		mark(w.at + from, c->flags, n);
		g = commit(&w, from, FRAME, lend);
		if (g.ret != FRAME)
			return -3;
		/* The frame may have been read and may be back already. */
		bad = bad_mark(w.at + from, c->flags, n, false);
		if (bad)
			return bad;
	}
	return n;
}

static long mark_and_gift(struct child *c)
{
	static const unsigned int flags[] = {
		ZPIPE_ALWAYS, ZPIPE_ANY | ZPIPE_ALWAYS, ZPIPE_ANY,
	};
	struct ends e = { .kind = ZPAIR, .fd = { -1, c->fd } };
	long until = now_ms() + storm_ms(), bad;
	unsigned char *at = hole(1);
	unsigned long n;

	for (n = 1; now_ms() < until; n++) {
		struct iovec iov = { at, FRAME };
		struct gifted g;

		mark(at, c->flags, n);
		g = gift_flags(&e, &iov, 1, flags[n % 3]);
		if (g.ret != FRAME)
			return -3;
		bad = bad_mark(at, c->flags, n, flags[n % 3] & ZPIPE_ANY);
		if (bad)
			return bad;
	}
	return n;
}

/*
 * True if all marks in the bytes at @at are those of writers. The bytes come from
 * @offset in the stream.
 */
static bool from_writers(const unsigned char *at, size_t offset, size_t bytes)
{
	unsigned long word;
	size_t i;

	for (i = -offset % STEP; i + 8 <= bytes; i += STEP) {
		memcpy(&word, at + i, 8);
		if (word >> 48 < FIRST || word >> 48 >= FIRST + WRITERS)
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(window, marks_of_three_writers_and_a_reader, 6 * TIMEOUT)
{
	unsigned long looked = 0, fetched = 0, n;
	struct child writer[WRITERS];
	unsigned int seed = 3, i;
	unsigned char *at;
	struct window r;

	if (!moves(&self->e))
		SKIP(return, "no gifts here");
	if (copies_are_cut(variant->kind))
		SKIP(return, "copies of several writers would meet anywhere");
	for (i = 0; i < WRITERS; i++) {
		writer[i] = (struct child) {
			.nr = SYS_ioctl, .fn = i < 2 ? mark_and_commit : mark_and_gift,
			.fd = self->e.fd[1], .drop = self->e.fd[0], .flags = FIRST + i,
		};
		child_start(&writer[i], 0);
	}
	close_end(&self->e, 1);
	r = read_window(&self->e, 2);
	ASSERT_LE(0, r.fd);
	at = hole(1);
	for (n = 0;; n++) {
		bool returns = rand_r(&seed) % 2;
		struct peeked p;
		long got;

		if (rand_r(&seed) % 2) {
			mark(at, returns ? RETURNED : KEPT, n);
			got = fetch(&self->e, at, FRAME, returns ? ZPIPE_RETURN : 0).ret;
			ASSERT_LE(0, got);
			ASSERT_TRUE(from_writers(at, looked + fetched, got));
			fetched += got;
			if (!got)
				break;
			continue;
		}
		p = peek(&r, 0);
		ASSERT_TRUE(views_right(&r, &p));
		for (i = 0; i < p.n; i++) {
			struct zpipe_view *v = &p.views[i];

			ASSERT_TRUE(from_writers(r.at + v->offset, looked + fetched,
						 v->bytes));
			looked += v->bytes;
		}
		/* Consume everything, so that the next move finds whole pages. */
		ASSERT_EQ(0, consume(&r, p.bytes));
		if (!p.bytes)
			break;
	}
	for (i = 0; i < WRITERS; i++)
		EXPECT_LT(0, child_join(&writer[i]));
	EXPECT_LT(0, looked);
	EXPECT_LT(0, fetched);
	TH_LOG("%lu MiB looked at, %lu MiB fetched", looked >> 20, fetched >> 20);
}

TEST_HARNESS_MAIN
