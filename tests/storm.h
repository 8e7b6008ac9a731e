/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for the stress tests of gifts, with huge pages and with small pages.
 */
#ifndef ZPIPE_TESTS_STORM_H
#define ZPIPE_TESTS_STORM_H

#include "gift.h"

FIXTURE(zpipe) {
	struct ends e;
};

FIXTURE_SETUP(zpipe)
{
	ASSERT_EQ(0, ends_make(&self->e, ZPAIR));
	ASSERT_EQ(0, open_ends(&self->e, 0));
}

FIXTURE_TEARDOWN(zpipe)
{
	ends_free(&self->e);
}

/* The duration of a test in ms. */
static inline long stress_ms(void)
{
	const char *ms = getenv("ZPIPE_STRESS_MS");

	return ms ? atol(ms) : 3000 * SLOWER;
}

/* Memory that is transferred again and again, with the flags of reader and writer. */
struct shuttle {
	unsigned char *(*memory)(size_t units);
	size_t units, bytes;
	unsigned int flags[2];
};

/* Gifts memory, or moves pages to it, until the child is killed. */
static long transfer_for_ever(struct child *c)
{
	struct ends e = { .kind = ZPAIR, .fd = { c->fd, c->fd } };
	unsigned int cmd = c->flags ? ZPIPE_IOC_GIFT : ZPIPE_IOC_MOVE;
	const struct shuttle *s = c->arg;
	unsigned char *at = s->memory(s->units);
	struct iovec iov = { at, s->bytes };

	do {
		if (c->flags)
			memset(at, 1, s->bytes);
	} while (transfer(&e, cmd, &iov, 1, s->flags[c->flags]).ret > 0);
	/* The process at the other end was killed first. */
	pause();
	return 0;
}

/*
 * Kills the reader and the writer of a pipe, each round in the other order. The first
 * one is killed after 5 ms and a random time of up to @us microseconds, times SLOWER.
 * At the end at most @lost KiB of memory may be missing.
 */
static inline void kill_pairs(struct __test_metadata *_metadata, struct shuttle *shuttle,
			      int rounds, unsigned int us, long lost)
{
	unsigned int seed = 5;
	long before, after;
	int round, i;

	before = available();
	for (round = 0; round < rounds; round++) {
		struct child c[2];
		struct ends e;

		ASSERT_EQ(0, ends_make(&e, ZPAIR));
		ASSERT_EQ(0, open_ends(&e, 0));
		for (i = 0; i < 2; i++) {
			c[i] = (struct child) {
				.nr = SYS_ioctl, .fn = transfer_for_ever, .fd = e.fd[i],
				.drop = e.fd[!i], .flags = i, .arg = shuttle,
			};
			child_start(&c[i], 0);
		}
		usleep(rand_r(&seed) % us * SLOWER + 5000);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[round % 2]));
		usleep(rand_r(&seed) % 3000);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[!(round % 2)]));
		ends_free(&e);
	}
	/* The memory of killed processes is freed, and counted, with a delay. */
	for (i = 0; i < 50; i++) {
		after = available();
		if (before - lost < after)
			break;
		usleep(100000);
	}
	EXPECT_LT(before - lost, after);
}

#endif
