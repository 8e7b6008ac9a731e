// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages are gifted and moved while other threads change the memory on both sides:
 * stores, madvise(2), fork(2) and kill -9.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "cgroup.h"
#include "storm.h"

#include <pthread.h>
#include <sched.h>

#define WORDS		(HUGE_SIZE / 8)

/*
 * A thread stores to all words of a page, in order, and each round stores the next
 * number.
 *
 * A gift must show the page as it was at one moment. The words up to the cut have the
 * number of the current round. The words behind the cut have the number of the round
 * before, or zeros if the page was replaced since.
 */

static volatile bool stop;

static void *store(void *arg)
{
	volatile unsigned long *words = arg;
	unsigned long round;
	size_t i;

	for (round = 1; !stop; round++)
		for (i = 0; i < WORDS; i++)
			words[i] = round;
	return NULL;
}

#define CUTS	12

static long gift_under_stores(struct child *c)
{
	struct ends e = { .kind = ZPAIR, .fd = { -1, c->fd } };
	unsigned char *at = hole(1);
	struct iovec iov = { at, HUGE_SIZE };
	long n, moved = 0;
	pthread_t thread;

	memset(at, 0, HUGE_SIZE);
	if (pthread_create(&thread, NULL, store, at))
		return -1;
	for (n = 0; n < CUTS; n++) {
		struct gifted g;

		usleep(3000);
		g = gift_flags(&e, &iov, 1, ZPIPE_CLEAR | ZPIPE_ALWAYS);
		if (g.ret != HUGE_SIZE)
			return -2;
		moved += g.moved == HUGE_SIZE;
	}
	stop = true;
	pthread_join(thread, NULL);
	return moved;
}

static bool one_cut(const unsigned long *words)
{
	unsigned long first = words[0], last = 0;
	size_t i, steps = 0;

	for (i = 1; i < WORDS; i++) {
		if (words[i] == words[i - 1])
			continue;
		steps++;
		/*
		 * The number may step to that of the round before. It may also step to
		 * or from zero.
		 */
		last = words[i];
		if (last && first && last != first && last + 1 != first)
			return false;
	}
	return steps <= 3;
}

static unsigned long sum_of(const unsigned long *words)
{
	unsigned long sum = 0;
	size_t i;

	for (i = 0; i < WORDS; i++)
		sum = sum * 31 + words[i];
	return sum;
}

TEST_F_TIMEOUT(zpipe, gift_shows_stores_at_one_moment, 4 * TIMEOUT)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = gift_under_stores, .fd = self->e.fd[1],
		.drop = self->e.fd[0],
	};
	unsigned long sums[CUTS];
	unsigned char *to;
	long n, got;

	if (!moves(&self->e))
		SKIP(return, "what is copied is cut at many places");
	child_start(&c, 0);
	close_end(&self->e, 1);
	to = hole(CUTS);
	for (n = 0; n < CUTS; n++) {
		struct gifted g = fetch(&self->e, to + n * HUGE_SIZE, HUGE_SIZE, 0);

		ASSERT_EQ(HUGE_SIZE, g.ret);
		/* A copy is made over some time, so only moved pages are checked. */
		if (g.moved)
			EXPECT_TRUE(one_cut((void *)(to + n * HUGE_SIZE)));
		sums[n] = g.moved ? sum_of((void *)(to + n * HUGE_SIZE)) : 0;
	}
	got = child_join(&c);
	EXPECT_LT(CUTS / 2, got);
	for (n = 0; n < CUTS; n++)
		if (sums[n])
			EXPECT_EQ(sums[n], sum_of((void *)(to + n * HUGE_SIZE)));
}

/* A thread changes a range of memory in all possible ways, over and over. */

struct storm_memory {
	unsigned char *at;
	size_t pages;
	unsigned int seed;
};

static void *storm(void *arg)
{
	struct storm_memory *w = arg;

	while (!stop) {
		unsigned char *page = w->at + rand_r(&w->seed) % w->pages * HUGE_SIZE;
		size_t off = rand_r(&w->seed) % 512 * PAGE;
		size_t len = HUGE_SIZE - off;
		unsigned char *elsewhere;

		switch (rand_r(&w->seed) % 24) {
		case 0:
			madvise(page, HUGE_SIZE, MADV_DONTNEED);
			break;
		case 1:
			madvise(page + off, len, MADV_DONTNEED);
			break;
		case 2:
			madvise(page, HUGE_SIZE, MADV_FREE);
			break;
		case 3:
			madvise(page, HUGE_SIZE, MADV_PAGEOUT);
			break;
		case 4:
			madvise(page, HUGE_SIZE, MADV_COLLAPSE);
			break;
		case 5:
			mprotect(page + off, len, PROT_READ);
			mprotect(page + off, len, PROT_READ | PROT_WRITE);
			break;
		case 6:
			mlock(page, HUGE_SIZE);
			munlock(page, HUGE_SIZE);
			break;
		case 7:
			if (!fork()) {
				usleep(500);
				_exit(0);
			}
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			break;
		case 8:
			elsewhere = huge_addresses(1);
			if (mremap(page, HUGE_SIZE, HUGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
				   elsewhere) == elsewhere)
				mremap(elsewhere, HUGE_SIZE, HUGE_SIZE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, page);
			break;
		case 9:
			mmap(page, HUGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			madvise(page, HUGE_SIZE, MADV_HUGEPAGE);
			break;
		default:
			/* Make it a huge page again. */
			madvise(page, HUGE_SIZE, MADV_DONTNEED);
			memset(page, 1, HUGE_SIZE);
		}
		usleep(500);
	}
	return NULL;
}

#define STORM_MS	(4000 * SLOWER)
#define STORM_PAGES	3

/* ZPIPE_SMALL or 0, for all transfers. */
static unsigned int storm_flags;

static long transfer_in_storm(struct child *c)
{
	struct ends e = { .kind = ZPAIR, .fd = { c->fd, c->fd } };
	unsigned int cmd = c->flags ? ZPIPE_IOC_GIFT : ZPIPE_IOC_MOVE;
	struct storm_memory w = { hole(STORM_PAGES), STORM_PAGES, c->len };
	long until = now_ms() + STORM_MS, moved = 0;
	long calls = 0, why[ZPIPE_REASONS] = {};
	int zero = open("/dev/zero", O_RDONLY);
	unsigned int seed = c->len + 1;
	pthread_t thread;

	signal(SIGPIPE, SIG_IGN);
	if (storm_flags)
		madvise(w.at, STORM_PAGES * HUGE_SIZE, MADV_NOHUGEPAGE);
	memset(w.at, 1, STORM_PAGES * HUGE_SIZE);
	if (pthread_create(&thread, NULL, storm, &w))
		return -1;
	while (now_ms() < until) {
		unsigned char *page = w.at + rand_r(&seed) % STORM_PAGES * HUGE_SIZE;
		struct iovec iov = { page, HUGE_SIZE };
		unsigned int flags;
		struct gifted g;

		if (c->flags)
			flags = rand_r(&seed) % 8 * ZPIPE_CLEAR & (ZPIPE_CLEAR | ZPIPE_ANY);
		else
			flags = rand_r(&seed) % 2 * ZPIPE_RETURN;
		flags |= storm_flags | (c->flags ? ZPIPE_ALWAYS : 0);
		g = transfer(&e, cmd, &iov, 1, flags);
		if (g.ret == -EPIPE || !g.ret)
			break;
		if (g.ret < 0 && g.ret != -EFAULT && g.ret != -EINTR)
			return g.ret;
		moved += g.moved / (storm_flags ? PAGE : HUGE_SIZE);
		calls++;
		for (int i = 0; i < ZPIPE_REASONS; i++)
			why[i] += g.why[i];
		/* Touch the page again, since the storm may have removed it. */
		if (c->flags)
			(void)!read(zero, page, HUGE_SIZE);
	}
	stop = true;
	pthread_join(thread, NULL);
	fprintf(stderr, "# %ld calls:", calls);
	for (int i = 0; i < ZPIPE_REASONS; i++)
		fprintf(stderr, " %ld", why[i]);
	fprintf(stderr, "\n");
	/* This ends a wait of the process at the other end. */
	close(c->fd);
	return moved;
}

static void run_storm(struct __test_metadata *_metadata, struct ends *e)
{
	struct child c[2];
	int i;

	for (i = 0; i < 2; i++) {
		c[i] = (struct child) {
			.nr = SYS_ioctl, .fn = transfer_in_storm, .fd = e->fd[i],
			.drop = e->fd[!i], .flags = i, .len = 17 + i,
		};
		child_start(&c[i], 0);
	}
	close_end(e, 0);
	close_end(e, 1);
	for (i = 0; i < 2; i++) {
		long moved = child_join(&c[i]);

		EXPECT_LE(0, moved);
		TH_LOG("%ld pages %s", moved, i ? "left" : "came");
	}
}

TEST_F_TIMEOUT(zpipe, in_a_storm, 4 * TIMEOUT)
{
	run_storm(_metadata, &self->e);
}

TEST_F_TIMEOUT(zpipe, small_pages_in_a_storm, 4 * TIMEOUT)
{
	storm_flags = ZPIPE_SMALL;
	run_storm(_metadata, &self->e);
}

/*
 * Two writers and a reader mark all their pages with their own tags. A writer finds its
 * own tag in the place of a gift, or zeros. With ZPIPE_ANY it may also find the tag of
 * pages that the reader returned. Nobody may see the tag of pages that the reader kept.
 */

#define STEP		512	/* distance of the marks in bytes */
#define KEPT		0x4bUL
#define RETURNED	0x52UL

static void mark(unsigned char *at, unsigned long tag, unsigned long number)
{
	size_t i;

	for (i = 0; i < HUGE_SIZE; i += STEP)
		*(unsigned long *)(at + i) = tag << 48 | number;
}

/* Returns the tag of a page whose marks are all the same, or -1. Zeros are tag 0. */
static long tag_of(const unsigned char *at, unsigned long *number)
{
	unsigned long first = *(const unsigned long *)at;
	size_t i;

	for (i = 0; i < HUGE_SIZE; i += STEP)
		if (*(const unsigned long *)(at + i) != first)
			return -1;
	*number = first & 0xffffffffffffUL;
	return first >> 48;
}

static long mark_and_gift(struct child *c)
{
	static const unsigned int flags[] = {
		0, ZPIPE_ANY, ZPIPE_ALWAYS, ZPIPE_ANY | ZPIPE_ALWAYS,
		ZPIPE_CLEAR | ZPIPE_ALWAYS, ZPIPE_CLEAR | ZPIPE_ANY | ZPIPE_ALWAYS,
	};
	struct ends e = { .kind = ZPAIR, .fd = { -1, c->fd } };
	unsigned long mine = c->flags, n, number;
	long until = now_ms() + stress_ms();
	unsigned int seed = c->flags;
	unsigned char *at = hole(2);

	for (n = 1; now_ms() < until; n++) {
		unsigned char *to = at + n % 2 * HUGE_SIZE;
		struct iovec iov = { to, HUGE_SIZE };
		unsigned int with = flags[rand_r(&seed) % 6];
		struct gifted g;
		long tag;

		mark(to, mine, n);
		g = gift_flags(&e, &iov, 1, with);
		if (g.ret != HUGE_SIZE)
			return -1;
		if (!g.moved)
			continue;
		tag = tag_of(to, &number);
		if (tag && (with & ZPIPE_CLEAR || (tag != (long)mine && tag != RETURNED) ||
			    (tag == RETURNED && !(with & ZPIPE_ANY))))
			return -1000 - tag;
		if (tag == (long)mine && number >= n)
			return -2;
	}
	return n;
}

TEST_F_TIMEOUT(zpipe, marks_of_two_writers_and_a_reader, 6 * TIMEOUT)
{
	unsigned long number, last[2] = {}, n = 0, moved = 0, returned = 0;
	struct child writer[2];
	unsigned int seed = 3;
	unsigned char *at, *odd;
	int i;

	if (!moves(&self->e))
		SKIP(return, "a message would come in pieces");
	for (i = 0; i < 2; i++) {
		writer[i] = (struct child) {
			.nr = SYS_ioctl, .fn = mark_and_gift, .fd = self->e.fd[1],
			.drop = self->e.fd[0], .flags = 0xa1 + i,
		};
		child_start(&writer[i], 0);
	}
	close_end(&self->e, 1);
	at = hole(1);
	odd = hole(2) + PAGE;
	for (;; n++) {
		bool returns = rand_r(&seed) % 2;
		unsigned char *to = rand_r(&seed) % 4 ? at : odd;
		struct gifted g;
		long tag;

		if (to == at && rand_r(&seed) % 8 == 0)
			madvise(at, HUGE_SIZE, MADV_DONTNEED);
		mark(to, returns ? RETURNED : KEPT, n);
		g = fetch(&self->e, to, HUGE_SIZE, returns ? ZPIPE_RETURN : 0);
		if (!g.ret)
			break;
		ASSERT_EQ(HUGE_SIZE, g.ret);
		tag = tag_of(to, &number);
		/* Two writers that copy at the same time may mix their bytes. */
		if (tag < 0 && g.copied)
			continue;
		ASSERT_TRUE(tag == 0xa1 || tag == 0xa2);
		EXPECT_LT(last[tag - 0xa1], number);
		last[tag - 0xa1] = number;
		moved += g.moved == HUGE_SIZE;
		returned += g.moved && returns;
	}
	for (i = 0; i < 2; i++)
		EXPECT_LT(0, child_join(&writer[i]));
	EXPECT_LT(10, moved);
	EXPECT_LT(5, returned);
	TH_LOG("%lu messages, %lu moved, %lu pages returned", n, moved, returned);
}

/* Both sides are killed at any moment. No memory may be lost. */

TEST_F_TIMEOUT(zpipe, killed_at_any_time, 6 * TIMEOUT)
{
	struct shuttle shuttle = {
		.memory = hole, .units = 2, .bytes = 2 * HUGE_SIZE,
		.flags = { ZPIPE_RETURN, ZPIPE_ANY },
	};

	kill_pairs(_metadata, &shuttle, 24, 60000, 40960);
}

/*
 * A reader in a memory cgroup of its own is charged for the page that it got. The page
 * is like any huge page of that cgroup, even if it is split.
 */

struct member {
	struct ends *e;
	const char *group;
};

static long move_in_group(struct child *c)
{
	struct member *m = c->arg;
	unsigned char *at, *other;
	long before, after;
	struct gifted g;

	if (cgroup_enter(m->group))
		return -1;
	at = hole(1);
	other = hole(1);
	before = cgroup_number(m->group, "memory.current", "");
	g = fetch(m->e, at, HUGE_SIZE, 0);
	after = cgroup_number(m->group, "memory.current", "");
	if (g.ret != HUGE_SIZE || after < before + HUGE_SIZE / 2)
		return -2;
	madvise(at + 5 * PAGE, PAGE, MADV_DONTNEED);
	memset(other, 1, HUGE_SIZE);
	if (stream_diff(at, 0, 5 * PAGE) != -1 || at[5 * PAGE])
		return -3;
	munmap(at, HUGE_SIZE);
	munmap(other, HUGE_SIZE);
	return g.moved;
}

TEST_F_TIMEOUT(zpipe, reader_is_charged, 2 * TIMEOUT)
{
	struct cgroups cgroups;
	struct child writer, reader;
	struct member member = { &self->e };
	int i;

	if (!cgroups_make(&cgroups)) {
		cgroups_free(&cgroups);
		SKIP(return, "no memory controller here");
	}
	for (i = 0; i < CGROUPS; i++) {
		member.group = cgroups.group[i];
		child_gift(&writer, &self->e, 1);
		child_run(&reader, move_in_group, &member);
		EXPECT_EQ(moves(&self->e) ? HUGE_SIZE : 0, child_join(&reader));
		EXPECT_EQ(HUGE_SIZE, child_join(&writer));
	}
	cgroups_free(&cgroups);
}

TEST_HARNESS_MAIN
