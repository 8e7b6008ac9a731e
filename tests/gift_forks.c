// SPDX-License-Identifier: GPL-2.0-only
/*
 * One thread forks all the time while another gifts huge pages or reads into them. Each
 * page has its number stored all over it. A child may see the number of one page only,
 * and what it sees must not change. It must never see the bytes that the process at the
 * other end stores.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"

#include <pthread.h>

#define FOREIGN	0x66		/* stored by the process at the other end */
#define PAGES	12
#define STEP	512		/* distance of the numbers in bytes */
#define BEFORE	(1UL << 32)	/* set in the numbers of a page that is read into */

struct forks {
	unsigned char *at;
	pthread_mutex_t filling;
	bool stop;
	int children, wrong;
};

static void number_page(unsigned char *at, unsigned long number)
{
	size_t i;

	for (i = 0; i < HUGE_SIZE; i += STEP)
		*(unsigned long *)(at + i) = number;
}

/*
 * Returns a hash of all numbers with their BEFORE bits, or -1 if the numbers differ
 * otherwise.
 */
static long sum_numbers(const unsigned char *at)
{
	unsigned long first = *(const unsigned long *)at & ~BEFORE, sum = 0;
	size_t i;

	for (i = 0; i < HUGE_SIZE; i += STEP) {
		unsigned long number = *(const unsigned long *)(at + i);

		if ((number & ~BEFORE) != first || first > PAGES)
			return -1;
		sum = sum * 3 + number;
	}
	return sum >> 1;
}

static void *fork_on(void *arg)
{
	struct forks *f = arg;
	unsigned int seed = 9;

	while (!__atomic_load_n(&f->stop, __ATOMIC_SEQ_CST)) {
		int status = -1;
		long sum;
		pid_t pid;

		pthread_mutex_lock(&f->filling);
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!pid) {
			sum = sum_numbers(f->at);
			usleep(2000);
			_exit(sum == -1 || sum_numbers(f->at) != sum);
		}
		pthread_mutex_unlock(&f->filling);
		waitpid(pid, &status, 0);
		f->children++;
		f->wrong += !!status;
		usleep(rand_r(&seed) % 2000);
	}
	return NULL;
}

static long read_numbers(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { c->fd, -1 } };
	unsigned char *at = hole(1);
	long n;

	for (n = 1; n <= PAGES; n++) {
		struct gifted g = fetch(&e, at, HUGE_SIZE, 0);

		if (g.ret != HUGE_SIZE || *(long *)at != n || sum_numbers(at) == -1)
			return -n;
		memset(at, FOREIGN, HUGE_SIZE);
	}
	return n;
}

static long gift_numbers(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	unsigned char *at = hole(1);
	long n;

	for (n = 1; n <= PAGES; n++) {
		struct gifted g;

		number_page(at, n);
		g = gift(&e, at, HUGE_SIZE);
		if (g.ret != HUGE_SIZE)
			return -n;
		memset(at, FOREIGN, HUGE_SIZE);
	}
	return n;
}

static void try_forks(struct __test_metadata *_metadata, struct ends *e, bool gifts)
{
	struct forks f = { .filling = PTHREAD_MUTEX_INITIALIZER };
	struct child partner = {
		.nr = -2, .fn = gifts ? read_numbers : gift_numbers, .flags = e->kind,
		.fd = e->fd[!gifts], .drop = e->fd[gifts],
	};
	pthread_t thread;
	long n, moved = 0;

	/* Makes the test faster. */
	if (!is_zpipe(e->kind))
		set_capacity(e->kind, e->fd[0], HUGE_SIZE / 2);
	child_start(&partner, 0);
	f.at = hole(1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, fork_on, &f));
	for (n = 1; n <= PAGES; n++) {
		struct gifted g;

		pthread_mutex_lock(&f.filling);
		madvise(f.at, HUGE_SIZE, MADV_DONTNEED);
		number_page(f.at, gifts ? n : n | BEFORE);
		pthread_mutex_unlock(&f.filling);
		g = gifts ? gift(e, f.at, HUGE_SIZE) : fetch(e, f.at, HUGE_SIZE, 0);
		EXPECT_EQ(HUGE_SIZE, g.ret);
		EXPECT_NE(-1, sum_numbers(f.at));
		if (!gifts)
			EXPECT_EQ(n, *(long *)f.at);
		moved += !!g.moved;
	}
	__atomic_store_n(&f.stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	EXPECT_EQ(PAGES + 1, child_join(&partner));
	EXPECT_EQ(0, f.wrong);
	TH_LOG("%d children, %ld of %d pages moved", f.children, moved, PAGES);
}

TEST_F_TIMEOUT(unnamed, forks_during_gifts, TIMEOUT)
{
	try_forks(_metadata, &self->e, true);
}

TEST_F_TIMEOUT(unnamed, forks_during_reads, TIMEOUT)
{
	try_forks(_metadata, &self->e, false);
}

TEST_HARNESS_MAIN
