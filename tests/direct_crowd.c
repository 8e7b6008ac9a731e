// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thousand blocked large writes, or reads, of threads of one process or of
 * several. None of them pins, locks or references a page. Their memory can be
 * paged out, and the bytes still arrive.
 */
#include "memory.h"

#include <sys/resource.h>

#define CROWD		1000
#define PROCESSES	10		/* with CROWD / PROCESSES threads each */
#define EACH		(160 * 1024L)	/* bytes of each write or read */
#define WORD		8

FIXTURE(crowd) {
	struct ends *e;
};

FIXTURE_VARIANT(crowd) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(crowd, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(crowd, zpair) { .kind = ZPAIR };

FIXTURE_SETUP(crowd)
{
	struct rlimit many = { 4 * CROWD, 4 * CROWD };
	int i;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &many));
	self->e = calloc(CROWD, sizeof(*self->e));
	for (i = 0; i < CROWD; i++) {
		ASSERT_EQ(0, ends_make(&self->e[i], variant->kind));
		ASSERT_EQ(0, open_ends(&self->e[i], O_CLOEXEC));
	}
}

FIXTURE_TEARDOWN(crowd)
{
	int i;

	for (i = 0; i < CROWD; i++)
		ends_free(&self->e[i]);
}

/* Memory that cannot be reclaimed: @pinned in pages, the others in KiB. */
struct held {
	long unevictable;
	long mlocked;
	long pinned;
};

static struct held held_now(void)
{
	return (struct held) {
		number_in("/proc/meminfo", "Unevictable"),
		number_in("/proc/meminfo", "Mlocked"),
		pinned_pages(),
	};
}

/*
 * Checks that no more memory is held than @before. Meminfo sums counters that
 * each processor updates with a delay, so it may be off by some pages.
 */
static void expect_held(struct __test_metadata *_metadata,
			const struct held *before)
{
	struct held now = held_now();

	EXPECT_LE(0, before->unevictable);
	EXPECT_LE(0, before->mlocked);
	EXPECT_GE(before->unevictable + 1024, now.unevictable);
	EXPECT_GE(before->mlocked + 1024, now.mlocked);
	EXPECT_EQ(before->pinned, now.pinned);
}

/* One process whose threads each read or write a pipe of their own. */
struct group {
	struct child c;
	struct ends *e;
	int first;
	int nr;
	bool write;
	bool shares;		/* all threads use the same memory */
	struct {
		int waiting;
		int page_out;	/* set by the tester: page the memory out */
		int paged_out;	/* set by the process: 1 done, -1 failed */
	} *shared;
};

struct member {
	struct group *g;
	int id;
	pid_t tid;
	unsigned char *buf;
	pthread_t thread;
};

static void *member_run(void *arg)
{
	struct member *m = arg;
	struct group *g = m->g;
	size_t done = 0;
	long n;

	__atomic_store_n(&m->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	if (g->write)
		return (void *)(write(g->e[m->id].fd[1], m->buf, EACH) - EACH);
	while (done < EACH) {
		n = read(g->e[m->id].fd[0], m->buf + done, EACH - done);
		if (n <= 0)
			return (void *)-1;
		done += n;
	}
	return (void *)(long)!pages_right(m->buf, m->id, 0, EACH);
}

static long group_run(struct child *c)
{
	struct group *g = c->arg;
	struct member *m = calloc(g->nr, sizeof(*m));
	unsigned char *buf = map_anonymous((g->shares ? 1 : g->nr) * EACH, 0);
	size_t len = (g->shares ? 1 : g->nr) * EACH;
	pthread_attr_t attr;
	void *ret;
	int i, bad = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	for (i = 0; i < g->nr; i++) {
		m[i] = (struct member) {
			.g = g, .id = g->first + i,
			.buf = buf + (g->shares ? 0 : i * EACH),
		};
		if (g->write)
			pages_fill(m[i].buf, g->shares ? 0 : m[i].id, 0, EACH);
		else
			memset(m[i].buf, OLD, EACH);
	}
	for (i = 0; i < g->nr; i++)
		if (pthread_create(&m[i].thread, &attr, member_run, &m[i]))
			return -1;
	for (i = 0; i < g->nr; i++)
		if (!eventually(__atomic_load_n(&m[i].tid, __ATOMIC_SEQ_CST) &&
				task_syscall(m[i].tid) ==
				(g->write ? SYS_write : SYS_read)))
			return -2;
	__atomic_store_n(&g->shared->waiting, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&g->shared->page_out, __ATOMIC_SEQ_CST))
		usleep(1000);
	i = page_out(buf, len) || !has_swap() ? 1 : -1;
	__atomic_store_n(&g->shared->paged_out, i, __ATOMIC_SEQ_CST);
	for (i = 0; i < g->nr; i++) {
		pthread_join(m[i].thread, &ret);
		bad += !!ret;
	}
	return bad;
}

/*
 * Writes EACH bytes to pipe @id, or reads those that are left. Returns EACH if
 * all bytes were right.
 */
static long serve(struct group *g, int id)
{
	static unsigned char buf[EACH];
	size_t done = WORD;
	long n;

	if (!g->write) {
		pages_fill(buf, id, 0, EACH);
		return sys(write(g->e[id].fd[1], buf, EACH));
	}
	while (done < EACH) {
		n = sys(read(g->e[id].fd[0], buf, EACH));
		if (n <= 0)
			return n;
		if (!pages_right(buf, g->shares ? 0 : id, done, n))
			return -EILSEQ;
		done += n;
	}
	return done;
}

static void crowd(struct __test_metadata *_metadata, struct ends *e,
		  int processes, bool write, bool shares)
{
	struct held before = held_now();
	struct group g[PROCESSES];
	int nr = CROWD / processes, i;

	for (i = 0; i < processes; i++) {
		g[i] = (struct group) {
			.e = e, .first = i * nr, .nr = nr, .write = write,
			.shares = shares, .shared = shared_alloc(PAGE),
		};
		child_run(&g[i].c, group_run, &g[i]);
	}
	for (i = 0; i < processes; i++)
		ASSERT_TRUE(eventually(__atomic_load_n(&g[i].shared->waiting,
						       __ATOMIC_SEQ_CST) ||
				       child_done(&g[i].c)));
	for (i = 0; i < processes; i++)
		ASSERT_FALSE(child_done(&g[i].c))
			TH_LOG("%ld", child_join(&g[i].c));
	expect_held(_metadata, &before);
	/* A posted write that was pulled in part holds no page either. */
	for (i = 0; write && i < CROWD; i++) {
		unsigned char word[WORD];

		ASSERT_EQ(WORD, read(e[i].fd[0], word, WORD));
		ASSERT_TRUE(pages_right(word, shares ? 0 : i, 0, WORD));
	}
	expect_held(_metadata, &before);
	/*
	 * Serve half of the pipes while the memory is resident, and half after
	 * it was paged out.
	 */
	for (i = 0; i < CROWD; i += 2)
		ASSERT_EQ(EACH, serve(&g[i / nr], i)) TH_LOG("pipe %d", i);
	expect_held(_metadata, &before);
	for (i = 0; i < processes; i++)
		__atomic_store_n(&g[i].shared->page_out, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < processes; i++) {
		ASSERT_TRUE(eventually(__atomic_load_n(&g[i].shared->paged_out,
						       __ATOMIC_SEQ_CST)));
		EXPECT_EQ(1, g[i].shared->paged_out);
	}
	for (i = 1; i < CROWD; i += 2)
		ASSERT_EQ(EACH, serve(&g[i / nr], i)) TH_LOG("pipe %d", i);
	for (i = 0; i < processes; i++)
		EXPECT_EQ(0, child_join(&g[i].c));
	expect_held(_metadata, &before);
}

TEST_F_TIMEOUT(crowd, writers_of_one_process, 3 * TIMEOUT)
{
	crowd(_metadata, self->e, 1, true, true);
}

TEST_F_TIMEOUT(crowd, writers_of_one_process_with_much_memory, 3 * TIMEOUT)
{
	crowd(_metadata, self->e, 1, true, false);
}

TEST_F_TIMEOUT(crowd, writers_of_several_processes, 3 * TIMEOUT)
{
	crowd(_metadata, self->e, PROCESSES, true, false);
}

TEST_F_TIMEOUT(crowd, readers_of_several_processes, 3 * TIMEOUT)
{
	crowd(_metadata, self->e, PROCESSES, false, false);
}

TEST_HARNESS_MAIN
