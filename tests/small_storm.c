// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two writers and a reader exchange many small pages, some moved and some copied.
 *
 * ZPIPE_STRESS_MS is the duration of a test in ms.
 */
#include "gift.h"
#include "storm.h"

/*
 * Two writers and a reader mark all their pages. Each page must arrive once, whole and
 * in order, with the marks of one writer. A writer finds zeros in the place of a gifted
 * page. Nobody may see pages that another process kept.
 */

#define KEPT	0x4bUL
#define STEP	256	/* distance of the marks in bytes */

static void mark(unsigned char *at, size_t pages, unsigned long tag, unsigned long number)
{
	size_t i;

	for (i = 0; i < pages * PAGE; i += STEP)
		*(unsigned long *)(at + i) = tag << 48 | (number + i / PAGE);
}

/* Returns the mark of a page if all its marks are the same, or -1. */
static unsigned long mark_of(const unsigned char *at)
{
	unsigned long first = *(const unsigned long *)at;
	size_t i;

	for (i = 0; i < PAGE; i += STEP)
		if (*(const unsigned long *)(at + i) != first)
			return -1;
	return first;
}

/* Returns the number of pages that it wrote plus one, or a negative number for an error. */
static long mark_and_gift(struct child *c)
{
	struct ends e = { .kind = ZPAIR, .fd = { -1, c->fd } };
	unsigned long tag = c->flags, n = 1, mine, i;
	long until = now_ms() + stress_ms();
	unsigned char *at = small_hole(FEW);
	unsigned int seed = tag;
	int fd = -1;

	while (now_ms() < until) {
		size_t pages = 1 + rand_r(&seed) % FEW;
		struct gifted g;

		mark(at, pages, tag, n);
		if (fd >= 0)
			close(fd);
		fd = rand_r(&seed) % 8 ? -1 : refer_to(at + rand_r(&seed) % pages * PAGE);
		if (rand_r(&seed) % 4)
			g = gift_small(&e, at, pages * PAGE);
		else
			g = (struct gifted) { .ret = sys(write(c->fd, at, pages * PAGE)) };
		if (g.ret != (long)(pages * PAGE))
			return -1;
		for (i = 0; i < pages; i++) {
			mine = mark_of(at + i * PAGE);
			if (mine == (tag << 48 | (n + i)))
				g.moved += PAGE;
			else if (mine)
				return -2;
		}
		/* Each page either was moved or still has its mark. */
		if (g.moved != pages * PAGE)
			return -3;
		n += pages;
	}
	return n;
}

TEST_F_TIMEOUT(zpipe, marks_of_two_writers_and_a_reader, 6 * TIMEOUT)
{
	unsigned long last[2] = {}, n = 0, sent = 0, moved = 0;
	unsigned char *at = small_hole(FEW + 1);
	struct child writer[2];
	unsigned int seed = 3;
	int i;

	for (i = 0; i < 2; i++) {
		writer[i] = (struct child) {
			.nr = SYS_ioctl, .fn = mark_and_gift, .fd = self->e.fd[1],
			.drop = self->e.fd[0], .flags = 0xa1 + i,
		};
		child_start(&writer[i], 0);
	}
	close_end(&self->e, 1);
	for (;;) {
		size_t pages = 1 + rand_r(&seed) % FEW;
		unsigned char *to = at + (rand_r(&seed) % 4 ? 0 : 64);
		struct gifted g;
		long done;

		if (rand_r(&seed) % 8 == 0)
			madvise(at, (FEW + 1) * PAGE, MADV_DONTNEED);
		mark(at, FEW, KEPT, 0);
		g = fetch(&self->e, to, pages * PAGE, rand_r(&seed) % 8 ? ZPIPE_SMALL : 0);
		if (!g.ret)
			break;
		/* Only the last read may be shorter. */
		ASSERT_EQ(0, g.ret % PAGE);
		moved += g.moved / PAGE;
		for (done = 0; done < g.ret; done += PAGE) {
			unsigned long m = mark_of(to + done), tag = m >> 48;

			ASSERT_TRUE(tag == 0xa1 || tag == 0xa2);
			ASSERT_EQ(last[tag - 0xa1] + 1, m & 0xffffffffffffUL);
			last[tag - 0xa1]++;
			n++;
		}
	}
	for (i = 0; i < 2; i++) {
		long ret = child_join(&writer[i]);

		EXPECT_LT(0, ret);
		sent += ret - 1;
	}
	EXPECT_EQ(sent, n);
	if (!getenv("ZPIPE_NO_MOVES"))
		EXPECT_LT(n / 8, moved + !moves(&self->e) * n);
	TH_LOG("%lu pages, %lu moved", n, moved);
}

/* Both sides are killed at any moment. No memory may be lost. */

TEST_F_TIMEOUT(zpipe, killed_at_any_time, 6 * TIMEOUT)
{
	struct shuttle shuttle = {
		.memory = small_hole, .units = 300, .bytes = 300 * PAGE,
		.flags = { ZPIPE_SMALL, ZPIPE_SMALL },
	};

	/* Each pair of processes has more than 2400 KiB. */
	kill_pairs(_metadata, &shuttle, 40, 40000, 16384);
}

TEST_HARNESS_MAIN
