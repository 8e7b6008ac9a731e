// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that run freely: many writers and readers, blocking or not, with signals,
 * resizes and reopened ends. Each record must arrive once, whole, and in the order in
 * which its writer wrote it.
 *
 * ZPIPE_STRESS_MS is the duration of each test in ms. ZPIPE_SEED seeds the random
 * numbers.
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#include <pthread.h>
#include <stdarg.h>

#define MAX_THREADS	4
#define MAX_RECORDS	(1 << 20)
#define FIXED_LEN	256

/* Flags of a run. */
enum {
	PACKETS = 1,		/* packet mode: one read returns one record */
	FIXED = 2,		/* all records have FIXED_LEN bytes */
	NONBLOCK = 4,		/* reads and writes never block, polls do */
	SIGNALS = 8,		/* all threads get signals all the time */
	RESIZE = 16,		/* the capacity changes all the time */
	REOPEN = 32,		/* all threads open new descriptions now and then */
	ATOMIC = PACKETS | FIXED,	/* a read returns whole records, to any reader */
};

struct record {
	__u16 len;		/* of the whole record */
	__u16 writer;
	__u32 seq;
	__u32 sum;		/* of the other fields and the data */
	unsigned char data[];
};

struct run {
	struct ends *e;
	int mode;
	int writers;
	int readers;
	unsigned long seed;
	int stop;
	int running;		/* unused */
	char path[64];		/* path to open the pipe again */
	long written[MAX_THREADS];
	unsigned char *seen[MAX_THREADS];
	char failure[200];
	int failed;
};

struct worker {
	struct run *run;
	int id;
	unsigned long dice;
	int fd;
	pthread_t thread;
	int ended;
};

static void fail(struct run *run, const char *fmt, ...)
{
	va_list args;

	if (__atomic_exchange_n(&run->failed, 1, __ATOMIC_SEQ_CST))
		return;
	va_start(args, fmt);
	vsnprintf(run->failure, sizeof(run->failure), fmt, args);
	va_end(args);
}

static bool over(struct run *run)
{
	return __atomic_load_n(&run->stop, __ATOMIC_SEQ_CST) ||
	       __atomic_load_n(&run->failed, __ATOMIC_SEQ_CST);
}

static __u32 checksum(const struct record *r)
{
	__u32 sum = r->seq * 31 + r->writer * 7 + r->len;
	size_t i;

	for (i = 0; i < r->len - sizeof(*r); i++)
		sum = sum * 33 + r->data[i];
	return sum;
}

static void make_record(struct worker *w, struct record *r, __u32 seq)
{
	size_t i, max = PIPE_BUF - sizeof(*r);

	r->writer = w->id;
	r->seq = seq;
	r->len = sizeof(*r) + rnd(&w->dice) %
		 (rnd(&w->dice) % 8 ? 300 : max + 1);
	if (w->run->mode & FIXED)
		r->len = FIXED_LEN;
	for (i = 0; i < r->len - sizeof(*r); i++)
		r->data[i] = w->id + seq + i;
	r->sum = checksum(r);
}

/* Checks that a record is whole, in order, and arrives for the first time. */
static bool check_record(struct run *run, const struct record *r,
			 long *last)
{
	if (r->writer >= run->writers || r->len < sizeof(*r) ||
	    r->len > PIPE_BUF || r->sum != checksum(r)) {
		fail(run, "torn record: writer %u, number %u, %u bytes",
		     r->writer, r->seq, r->len);
		return false;
	}
	if ((long)r->seq <= last[r->writer]) {
		fail(run, "record %u of writer %u after %ld", r->seq,
		     r->writer, last[r->writer]);
		return false;
	}
	last[r->writer] = r->seq;
	if (__atomic_exchange_n(&run->seen[r->writer][r->seq], 1,
				__ATOMIC_SEQ_CST)) {
		fail(run, "record %u of writer %u came twice", r->seq,
		     r->writer);
		return false;
	}
	return true;
}

/*
 * Replaces the thread's descriptor by a new open of the pipe, now and then. The other
 * ends keep the data in the pipe.
 */
static void maybe_reopen(struct worker *w, int flags)
{
	int fd;

	if (!(w->run->mode & REOPEN) || rnd(&w->dice) % 16)
		return;
	/* Without O_NONBLOCK a reader could block in open(2). */
	fd = open(w->run->path, flags | O_NONBLOCK);
	if (fd < 0) {
		fail(w->run, "reopen: %s", strerror(errno));
		return;
	}
	set_nonblock(fd, w->run->mode & NONBLOCK);
	if (flags == O_WRONLY && (w->run->mode & PACKETS))
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT);
	close(w->fd);
	w->fd = fd;
}

/* Polls for at most 100 ms. A signal ends the wait, too. */
static void wait_for(int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = events };

	poll(&p, 1, 100);
}

static void *writer(void *arg)
{
	struct worker *w = arg;
	long buf[PIPE_BUF / sizeof(long)];
	struct record *r = (void *)buf;
	__u32 seq = 0;
	ssize_t n;

	while (!over(w->run) && seq < MAX_RECORDS) {
		make_record(w, r, seq);
		n = write(w->fd, r, r->len);
		if (n == r->len) {
			seq++;
			maybe_reopen(w, O_WRONLY);
		} else if (n < 0 && errno == EAGAIN) {
			wait_for(w->fd, POLLOUT);
		} else if (n >= 0 || errno != EINTR) {
			fail(w->run, "write of %d bytes: %zd, %s", r->len, n,
			     strerror(errno));
		}
	}
	w->run->written[w->id] = seq;
	__atomic_store_n(&w->ended, 1, __ATOMIC_SEQ_CST);
	close(w->fd);
	return NULL;
}

/*
 * Checks the whole records in @buf, and moves the rest to the start of @buf. Returns
 * the length of the rest.
 */
static size_t consume_records(struct run *run, char *buf, size_t len, long *last)
{
	struct record *r = (void *)buf;
	long copy[PIPE_BUF / sizeof(long)];
	size_t at = 0;

	while (len - at >= sizeof(*r)) {
		memcpy(copy, buf + at, sizeof(*r));
		r = (void *)copy;
		if (r->len < sizeof(*r) || r->len > PIPE_BUF) {
			fail(run, "no record after %ld", last[0]);
			return 0;
		}
		if (len - at < r->len)
			break;
		memcpy(copy, buf + at, r->len);
		if (!check_record(run, r, last))
			return 0;
		at += r->len;
	}
	memmove(buf, buf + at, len - at);
	return len - at;
}

static void *reader(void *arg)
{
	struct worker *w = arg;
	struct run *run = w->run;
	long last[MAX_THREADS] = { -1, -1, -1, -1 };
	char *buf = malloc(8 * PIPE_BUF);
	size_t have = 0, want;
	ssize_t n;

	while (!__atomic_load_n(&run->failed, __ATOMIC_SEQ_CST)) {
		if (run->mode & PACKETS)
			want = PIPE_BUF;
		else if (run->mode & FIXED)
			want = FIXED_LEN;
		else
			want = rnd_len(&w->dice, 6 * PIPE_BUF);
		n = read(w->fd, buf + have, want);
		if (!n)
			break;
		if (n < 0 && errno == EAGAIN) {
			wait_for(w->fd, POLLIN);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(run, "read: %s", strerror(errno));
			break;
		}
		have = consume_records(run, buf, have + n, last);
		if (have && (run->mode & ATOMIC))
			fail(run, "%zd bytes are no record", n);
		maybe_reopen(w, O_RDONLY);
	}
	if (have)
		fail(run, "%zu bytes at the end", have);
	__atomic_store_n(&w->ended, 1, __ATOMIC_SEQ_CST);
	close(w->fd);
	free(buf);
	return NULL;
}

static int own_fd(struct worker *w, int end)
{
	return dup(w->run->e->fd[end]);
}

/*
 * Sends signals and changes the capacity for @ms milliseconds, if the mode of the run
 * has SIGNALS or RESIZE.
 */
static void disturb(struct run *run, struct worker *w, int nr, int ms)
{
	unsigned long dice = run->seed;
	long end = now_ms() + ms;
	int i;

	while (now_ms() < end && !over(run)) {
		usleep(rnd(&dice) % 1000);
		i = rnd(&dice) % nr;
		if ((run->mode & SIGNALS) &&
		    !__atomic_load_n(&w[i].ended, __ATOMIC_SEQ_CST))
			pthread_kill(w[i].thread, SIGUSR1);
		if (run->mode & RESIZE)
			set_capacity(run->e->kind, run->e->fd[0],
				     (1L << rnd(&dice) % 7) * PAGE);
		if (fionread(run->e->fd[0]) < 0 || poll_mask(run->e->fd[1]) < 0)
			fail(run, "FIONREAD or poll failed");
	}
}

static void stress(struct __test_metadata *_metadata, struct ends *e, int mode,
		   int writers, int readers)
{
	const char *ms = getenv("ZPIPE_STRESS_MS");
	struct run run = {
		.e = e, .mode = mode, .writers = writers, .readers = readers,
		.seed = seed(time(NULL)),
	};
	struct worker w[2 * MAX_THREADS] = {};
	long i, j, total = 0;

	catch_signal(SIGUSR1, 0);
	signal(SIGPIPE, SIG_IGN);
	if (mode & NONBLOCK) {
		set_nonblock(e->fd[0], true);
		set_nonblock(e->fd[1], true);
	}
	if (mode & PACKETS)
		fcntl(e->fd[1], F_SETFL, fcntl(e->fd[1], F_GETFL) | O_DIRECT);
	snprintf(run.path, sizeof(run.path), "/proc/self/fd/%d", e->fd[0]);
	if (is_named(e->kind))
		snprintf(run.path, sizeof(run.path), "%s", e->path);
	for (i = 0; i < writers; i++)
		run.seen[i] = calloc(1, MAX_RECORDS);
	for (i = 0; i < writers + readers; i++) {
		w[i].run = &run;
		w[i].id = i < writers ? i : i - writers;
		w[i].dice = run.seed * 8 + i;
		w[i].fd = own_fd(&w[i], i < writers);
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL,
					    i < writers ? writer : reader,
					    &w[i]));
	}
	disturb(&run, w, writers + readers, ms ? atoi(ms) : 200);
	__atomic_store_n(&run.stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < writers + readers; i++) {
		/* Once all writers have closed, the readers get end of file. */
		if (i == writers)
			close_end(e, 1);
		pthread_join(w[i].thread, NULL);
	}
	EXPECT_EQ(0, run.failed) TH_LOG("%s", run.failure);
	for (i = 0; i < writers && !run.failed; i++) {
		for (j = 0; j < run.written[i]; j++)
			ASSERT_EQ(1, run.seen[i][j])
				TH_LOG("record %ld of writer %ld", j, i);
		total += run.written[i];
	}
	/* Enough records were written for the test to mean something. */
	EXPECT_LT(20, total);
}

TEST_F_TIMEOUT(all, four_writers_one_reader, TIMEOUT)
{
	stress(_metadata, &self->e, 0, 4, 1);
}

TEST_F_TIMEOUT(all, four_writers_four_readers, TIMEOUT)
{
	stress(_metadata, &self->e, FIXED, 4, 4);
}

TEST_F_TIMEOUT(all, one_writer_four_readers, TIMEOUT)
{
	stress(_metadata, &self->e, FIXED | SIGNALS, 1, 4);
}

TEST_F_TIMEOUT(all, packets, TIMEOUT)
{
	stress(_metadata, &self->e, PACKETS | SIGNALS, 3, 3);
}

TEST_F_TIMEOUT(all, nonblock, TIMEOUT)
{
	stress(_metadata, &self->e, NONBLOCK | SIGNALS, 4, 1);
}

TEST_F_TIMEOUT(all, nonblock_packets, TIMEOUT)
{
	stress(_metadata, &self->e, NONBLOCK | PACKETS, 3, 3);
}

TEST_F_TIMEOUT(all, resize, TIMEOUT)
{
	stress(_metadata, &self->e, RESIZE | SIGNALS, 4, 1);
}

TEST_F_TIMEOUT(all, reopen, TIMEOUT)
{
	stress(_metadata, &self->e, REOPEN | FIXED, 3, 3);
}

TEST_F_TIMEOUT(all, everything, TIMEOUT)
{
	stress(_metadata, &self->e,
	       REOPEN | PACKETS | SIGNALS | RESIZE | NONBLOCK, 3, 3);
}

/*
 * Large transfers of two writers at the same time. The bytes of each must arrive in
 * order. The highest bit of a byte names the writer, and the other bits count.
 */
#define LARGE		(1 << 20)

struct large {
	struct run *run;
	int fd;
	int id;
	unsigned long dice;
	long done;
};

static void *large_writer(void *arg)
{
	struct large *l = arg;
	unsigned char *buf = malloc(LARGE);
	long len, at, i;
	ssize_t n;

	while (!over(l->run)) {
		len = 1 + rnd(&l->dice) % LARGE;
		for (i = 0; i < len; i++)
			buf[i] = l->id << 7 | (l->done + i) % 127;
		for (at = 0; at < len && !over(l->run);) {
			n = write(l->fd, buf + at, len - at);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				fail(l->run, "write: %s", strerror(errno));
				break;
			}
			at += n;
			l->done += n;
		}
	}
	close(l->fd);
	free(buf);
	return NULL;
}

static void *large_reader(void *arg)
{
	struct large *l = arg;
	unsigned char *buf = malloc(LARGE);
	long at[2] = {};
	ssize_t n, i;

	while ((n = read(l->fd, buf, 1 + rnd(&l->dice) % LARGE)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(l->run, "read: %s", strerror(errno));
			break;
		}
		for (i = 0; i < n; i++)
			if ((buf[i] & 127) != at[buf[i] >> 7]++ % 127)
				fail(l->run, "byte %ld of writer %d",
				     at[buf[i] >> 7], buf[i] >> 7);
		l->done += n;
	}
	close(l->fd);
	free(buf);
	return NULL;
}

TEST_F_TIMEOUT(all, large_transfers, TIMEOUT)
{
	const char *ms = getenv("ZPIPE_STRESS_MS");
	struct run run = { .e = &self->e, .seed = seed(time(NULL)) };
	struct large l[3];
	pthread_t thread[3];
	int i;

	for (i = 0; i < 3; i++) {
		l[i] = (struct large) {
			.run = &run, .id = i, .dice = run.seed * 8 + i,
			.fd = dup(self->e.fd[i < 2]),
		};
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, i < 2 ?
					    large_writer : large_reader,
					    &l[i]));
	}
	disturb(&run, NULL, 3, ms ? atoi(ms) : 500);
	__atomic_store_n(&run.stop, 1, __ATOMIC_SEQ_CST);
	close_end(&self->e, 1);
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(0, run.failed) TH_LOG("%s", run.failure);
	EXPECT_EQ(l[0].done + l[1].done, l[2].done);
	EXPECT_LT(0, l[2].done);
}

TEST_HARNESS_MAIN
