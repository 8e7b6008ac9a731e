// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes while the processes are killed or get signals, fork, execute
 * another program, map and unmap. Each word arrives once, and after the words
 * that its writer wrote before it. If a writer ends early, no word before its
 * last is missing.
 *
 * ZPIPE_STRESS_MS is how long each test runs; ZPIPE_SEED is the random seed.
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#include <pthread.h>
#include <sys/time.h>

#define MIB		(1L << 20)
#define MAX_LEN		(600 * 1024L)
#define MAX_WRITERS	256		/* in the whole run, a few at a time */
#define MAX_WORDS	(1L << 23)	/* of each writer */
#define AT_ONCE		4

/* How a writer ends. */
enum way {
	LIVES,
	KILLED_BY_TESTER,
	EXITS,			/* another thread exits during a write */
	EXECS,			/* another thread calls execl() during a write */
};

struct run {
	int fd[2];
	int stop;
	bool torn;		/* a read may return a part of a word */
	bool loses;		/* readers are killed, so words get lost */
	long written[MAX_WRITERS];
	unsigned long seen[MAX_WRITERS][MAX_WORDS / 64];
};

struct worker {
	struct run *run;
	struct child c;
	int id;
	enum way way;
	bool signals;
	bool forks;
	size_t max;		/* largest message, in bytes */
	bool pauses;		/* so that readers block */
};

static long duration_ms(void)
{
	const char *env = getenv("ZPIPE_STRESS_MS");

	return env ? atol(env) : 400;
}

static bool over(struct run *run)
{
	return __atomic_load_n(&run->stop, __ATOMIC_SEQ_CST);
}

static void *own_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void hail(void)
{
	struct itimerval timer = { { 0, 1500 }, { 0, 1500 } };

	catch_signal(SIGALRM, 0);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/*
 * Ends the process, or executes another program, during a write of another
 * thread.
 */
static void *end_process(void *arg)
{
	struct worker *w = arg;

	usleep(3000 + w->id * 1237 % 20000);
	if (w->way == EXITS)
		_exit(0);
	/* The new program prints the list of its tests. */
	dup2(open("/dev/null", O_WRONLY), 1);
	dup2(1, 2);
	execl("/proc/self/exe", "direct_stress", "-l", NULL);
	return NULL;
}

static void *fork_along(void *arg)
{
	struct worker *w = arg;
	pid_t pid;

	while (!over(w->run)) {
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
		usleep(2000);
	}
	return NULL;
}

static long write_all(int fd, const char *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write(fd, buf + done, len - done);
		if (n < 0 && errno == EAGAIN)
			poll(&p, 1, -1);
		else if (n < 0 && errno != EINTR)
			return -1;
		done += n < 0 ? 0 : n;
	}
	return 0;
}

static long any_len(unsigned long *dice, size_t max)
{
	long len = rnd(dice) % 4 ? 131072 + rnd(dice) % (max - 131072) :
				   rnd_len(dice, 5 * PAGE);

	return (len + 7) & -8;
}

static long writer(struct child *c)
{
	struct worker *w = c->arg;
	unsigned long dice = w->id + 77, *buf = own_memory(w->max + PAGE);
	long seq = 0, words, i;
	pthread_t thread;

	if (w->way == EXITS || w->way == EXECS)
		pthread_create(&thread, NULL, end_process, w);
	if (w->forks)
		pthread_create(&thread, NULL, fork_along, w);
	if (w->signals)
		hail();
	while (!over(w->run)) {
		if (w->pauses)
			usleep(rnd(&dice) % 10000);
		words = any_len(&dice, w->max) / 8;
		if (seq + words > MAX_WORDS)
			break;
		for (i = 0; i < words; i++)
			buf[i] = (unsigned long)w->id << 40 | (seq + i);
		if (write_all(c->fd, (void *)buf, words * 8))
			return -1;
		seq += words;
		w->run->written[w->id] = seq;
		if (rnd(&dice) % 8 == 0)
			madvise(buf, w->max, MADV_DONTNEED);
	}
	return 0;
}

/*
 * Checks @nr words and marks them as seen; -2 if one is wrong. @last has the
 * number of the next word of each writer.
 */
static long check_words(struct run *run, const unsigned long *buf, long nr,
			long *last)
{
	unsigned long id, seq, bit;
	long i;

	for (i = 0; i < nr; i++) {
		id = buf[i] >> 40;
		seq = buf[i] & ((1UL << 40) - 1);
		if (id >= MAX_WRITERS || seq >= MAX_WORDS) {
			printf("# no word: %lx\n", buf[i]);
			return -2;
		}
		bit = 1UL << seq % 64;
		if ((long)seq < last[id] ||
		    __atomic_fetch_or(&run->seen[id][seq / 64], bit,
				      __ATOMIC_SEQ_CST) & bit) {
			printf("# word %lu of writer %lu after %ld\n", seq, id,
			       last[id]);
			return -2;
		}
		last[id] = seq + 1;
	}
	return 0;
}

static long reader(struct child *c)
{
	struct worker *w = c->arg;
	unsigned long dice = w->id + 99, *buf = own_memory(4 * MIB);
	long *last = own_memory(MAX_WRITERS * sizeof(*last));
	char *p = (void *)buf;
	size_t have = 0;
	ssize_t n;

	if (w->signals)
		hail();
	for (;;) {
		n = read(c->fd, p + have, any_len(&dice, w->max));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (n % 8 && !w->run->torn) {
			printf("# a read of %zd bytes\n", n);
			return -3;
		}
		have += n;
		if (check_words(w->run, buf, have / 8, last))
			return -2;
		memmove(p, p + have / 8 * 8, have % 8);
		have %= 8;
		if (rnd(&dice) % 16 == 0 && !have)
			madvise(buf, 4 * MIB, MADV_DONTNEED);
	}
	return n ?: (long)have;
}

static void start(struct worker *w, bool writes)
{
	struct run *run = w->run;

	w->c = (struct child) {
		.fn = writes ? writer : reader, .arg = w,
		.fd = run->fd[writes], .drop = run->fd[!writes],
	};
	child_start(&w->c, 0);
}

/*
 * The number of words that arrived of a writer; -1 if one before the last is
 * missing.
 */
static long whole_words(struct run *run, int id)
{
	long i, n = 0, max = -1;

	for (i = 0; i < MAX_WORDS; i++)
		if (run->seen[id][i / 64] >> i % 64 & 1) {
			n++;
			max = i;
		} else if (!(i % 64) && !run->seen[id][i / 64]) {
			i += 63;
		}
	return max + 1 == n ? n : -1;
}

struct plan {
	int writers;
	int readers;
	bool signals;
	bool forks;
	bool writers_die;
	bool readers_die;
	bool readers_wait;	/* readers block often, in reads of large messages */
	bool nonblock;		/* writes do not block */
};

static void stress(struct __test_metadata *_metadata, struct ends *e,
		   const struct plan *plan)
{
	struct run *run = shared_alloc(sizeof(*run));
	struct worker w[AT_ONCE] = {}, r[AT_ONCE] = {};
	bool torn = copies_are_cut(e->kind);
	/* Parts of words can be put together only by a single reader. */
	int readers = torn ? 1 : plan->readers;
	unsigned long dice = seed(2001);
	static enum way ways[MAX_WRITERS];
	int ids = 0, i, deaths = 0;
	long end = now_ms() + duration_ms() * (plan->readers_wait ? 4 : 1);
	size_t max = plan->readers_wait ? 2 * MIB : MIB;
	long ret;

	memcpy(run->fd, e->fd, sizeof(run->fd));
	ASSERT_EQ(0, set_nonblock(e->fd[1], plan->nonblock));
	run->torn = torn;
	run->loses = plan->readers_die && !torn;
	for (i = 0; i < readers; i++) {
		r[i] = (struct worker) {
			.run = run, .id = i, .signals = plan->signals,
			.max = max,
		};
		start(&r[i], false);
	}
	for (i = 0; i < plan->writers; i++) {
		w[i] = (struct worker) {
			.run = run, .id = ids, .signals = plan->signals,
			.forks = plan->forks, .pauses = plan->readers_wait,
			.max = plan->readers_wait ? max : MAX_LEN,
			.way = plan->writers_die ? i % 4 : LIVES,
		};
		ways[ids++] = w[i].way;
		start(&w[i], true);
	}
	while (now_ms() < end) {
		usleep(2000 + rnd(&dice) % 20000);
		i = rnd(&dice) % plan->writers;
		if (w[i].way != LIVES && ids < MAX_WRITERS) {
			ret = w[i].way == KILLED_BY_TESTER ?
			      child_kill(&w[i].c) : child_join(&w[i].c);
			ASSERT_NE(STUCK, ret);
			w[i].id = ids;
			ways[ids++] = w[i].way;
			start(&w[i], true);
			deaths++;
		}
		i = rnd(&dice) % readers;
		if (run->loses) {
			ASSERT_NE(STUCK, child_kill(&r[i].c));
			r[i].id += AT_ONCE;
			start(&r[i], false);
			deaths++;
		}
	}
	__atomic_store_n(&run->stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < plan->writers; i++) {
		ret = child_join(&w[i].c);
		EXPECT_NE(STUCK, ret);
		if (w[i].way == LIVES)
			EXPECT_EQ(0, ret);
	}
	EXPECT_TRUE(!is_zpipe(e->kind) || plan->nonblock ||
		    fdinfo_number(e->fd[0], "zpipe-bytes-pulled") > 0);
	/* With cut copies a push may stop at its first byte. */
	EXPECT_TRUE(!is_zpipe(e->kind) || !plan->readers_wait || torn ||
		    fdinfo_number(e->fd[0], "zpipe-bytes-pushed") > 0);
	close_end(e, 1);
	for (i = 0; i < readers; i++)
		EXPECT_EQ(0, child_join(&r[i].c));
	for (i = 0; i < ids && !run->loses; i++) {
		ret = whole_words(run, i);
		EXPECT_LE(run->written[i], ret) TH_LOG("writer %d", i);
		if (ways[i] == LIVES)
			EXPECT_EQ(run->written[i], ret);
	}
	printf("# %d deaths, %ld MiB of writer 0\n", deaths,
	       run->written[0] * 8 / MIB);
}

TEST_F_TIMEOUT(all, one_to_one_with_signals, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 1, .readers = 1, .signals = true,
	});
}

TEST_F_TIMEOUT(all, many_to_many, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 3, .readers = 2, .forks = true,
	});
}

TEST_F_TIMEOUT(all, writers_die, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 4, .readers = 2, .signals = true,
		.writers_die = true,
	});
}

TEST_F_TIMEOUT(all, everybody_dies, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 4, .readers = 3, .writers_die = true,
		.readers_die = true,
	});
}

TEST_F_TIMEOUT(all, readers_wait, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 2, .readers = 3, .signals = true, .forks = true,
		.readers_wait = true,
	});
}

TEST_F_TIMEOUT(all, readers_wait_and_writers_do_not, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 2, .readers = 3, .signals = true,
		.readers_wait = true, .nonblock = true,
	});
}

TEST_F_TIMEOUT(all, readers_wait_and_die, TIMEOUT)
{
	stress(_metadata, &self->e, &(struct plan) {
		.writers = 3, .readers = 3, .readers_wait = true,
		.readers_die = true, .writers_die = true,
	});
}

/*
 * Two processes that send each other a stream, while a thread of each maps and
 * unmaps memory.
 */
struct peer {
	int to;
	int from;
	int other[2];		/* the ends that this peer does not use */
	int *stop;
	long sent;
	long got;
};

static void *map_and_unmap(void *arg)
{
	struct peer *p = arg;
	unsigned long dice = p->to;
	char *q;

	while (!__atomic_load_n(p->stop, __ATOMIC_SEQ_CST)) {
		size_t len = (1 + rnd(&dice) % 32) * PAGE;

		q = own_memory(len);
		q[len / 2] = 1;
		mprotect(q, len / 2, PROT_READ);
		munmap(q, len);
		if (rnd(&dice) % 8 == 0)
			usleep(500);
	}
	return NULL;
}

static void *send_stream(void *arg)
{
	struct peer *p = arg;
	unsigned long dice = p->from;
	unsigned char *buf = NULL;
	long len;

	while (!__atomic_load_n(p->stop, __ATOMIC_SEQ_CST)) {
		len = any_len(&dice, MAX_LEN) - rnd(&dice) % 8;
		/* Each message comes from fresh memory. */
		buf = own_memory(MAX_LEN + PAGE);
		stream_fill(buf, p->sent, len);
		if (write_all(p->to, (void *)buf, len))
			break;
		munmap(buf, MAX_LEN + PAGE);
		p->sent += len;
	}
	close(p->to);
	return NULL;
}

static long peer_run(struct child *c)
{
	struct peer *p = c->arg;
	unsigned long dice = p->to + 5;
	unsigned char *buf = own_memory(MIB);
	pthread_t sender, mapper;
	ssize_t n;

	close(p->other[0]);
	close(p->other[1]);
	pthread_create(&mapper, NULL, map_and_unmap, p);
	pthread_create(&sender, NULL, send_stream, p);
	while ((n = read(p->from, buf, any_len(&dice, MIB - PAGE))) > 0) {
		if (stream_diff(buf, p->got, n) >= 0)
			return -2;
		p->got += n;
		if (rnd(&dice) % 8 == 0)
			madvise(buf, MIB, MADV_DONTNEED);
	}
	pthread_join(sender, NULL);
	pthread_join(mapper, NULL);
	return n;
}

TEST_F_TIMEOUT(all, both_ways_while_memory_is_mapped, TIMEOUT)
{
	struct ends back;
	struct peer *p = shared_alloc(2 * sizeof(*p));
	int *stop = shared_alloc(sizeof(*stop)), i;
	struct child c[2];

	ASSERT_EQ(0, ends_make(&back, variant->kind));
	ASSERT_EQ(0, open_ends(&back, 0));
	p[0] = (struct peer) {
		.to = self->e.fd[1], .from = back.fd[0],
		.other = { self->e.fd[0], back.fd[1] }, .stop = stop,
	};
	p[1] = (struct peer) {
		.to = back.fd[1], .from = self->e.fd[0],
		.other = { back.fd[0], self->e.fd[1] }, .stop = stop,
	};
	for (i = 0; i < 2; i++)
		child_run(&c[i], peer_run, &p[i]);
	close_end(&self->e, 1);
	close_end(&back, 1);
	usleep(duration_ms() * 1000);
	EXPECT_TRUE(!is_zpipe(variant->kind) ||
		    fdinfo_number(back.fd[0], "zpipe-bytes-pulled") > 0);
	__atomic_store_n(stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, child_join(&c[i]));
	EXPECT_EQ(p[0].sent, p[1].got);
	EXPECT_EQ(p[1].sent, p[0].got);
	EXPECT_LT(0, p[0].sent);
	EXPECT_LT(0, p[1].sent);
	ends_free(&back);
}

TEST_HARNESS_MAIN
