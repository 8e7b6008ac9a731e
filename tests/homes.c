// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory that a writer finds in the place of a gifted huge page, and when the
 * module clears a page for that. Each page is filled with one byte, which names the
 * process that wrote it.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"

#define MINE	0x11
#define MINE_2	0x22
#define READERS	0x33

static bool full_of(const unsigned char *at, unsigned char byte)
{
	return *at == byte && !memcmp(at, at + 1, HUGE_SIZE - 1);
}

static struct gifted gift_byte(struct ends *e, unsigned char *at, unsigned char byte,
			       unsigned int flags)
{
	struct iovec iov = { at, HUGE_SIZE };

	struct gifted g;

	memset(at, byte, HUGE_SIZE);
	/* Bytes that are not moved would wait for a reader. */
	g = gift_flags(e, &iov, 1, flags | ZPIPE_NONBLOCK);
	tell_reasons(&g);
	return g;
}

/* A gifted page that readers copied from returns to its writer without being cleared. */
TEST_F(all, own_pages_return)
{
	static unsigned char to[HUGE_SIZE];
	unsigned char *at;
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = hole(1);
	g = gift_byte(&self->e, at, MINE, 0);
	ASSERT_EQ(HUGE_SIZE, g.moved);
	EXPECT_TRUE(full_of(at, 0));
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	g = gift_byte(&self->e, at, MINE_2, 0);
	ASSERT_EQ(HUGE_SIZE, g.moved);
	EXPECT_TRUE(full_of(at, MINE));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	EXPECT_TRUE(full_of(to, MINE_2));
	/* With ZPIPE_CLEAR the replacement is zeroed instead. */
	g = gift_byte(&self->e, at, MINE, ZPIPE_CLEAR | ZPIPE_ALWAYS);
	ASSERT_EQ(HUGE_SIZE, g.moved);
	EXPECT_TRUE(full_of(at, 0));
	EXPECT_EQ(2, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
}

static long gift_from_child(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	unsigned char *at = hole(1);
	struct gifted g = gift_byte(&e, at, MINE_2, c->len);

	return g.moved == HUGE_SIZE ? at[0] * (full_of(at, at[0]) ? 1 : -1) : -1;
}

/* Pages do not return to another address space, not even to that of a child. */
TEST_F_TIMEOUT(all, pages_of_another_address_space_do_not_return, TIMEOUT)
{
	static unsigned char to[HUGE_SIZE];
	struct child c = {
		.nr = SYS_ioctl, .fn = gift_from_child, .fd = self->e.fd[1], .drop = -1,
		.flags = variant->kind, .len = ZPIPE_ALWAYS | ZPIPE_ANY,
	};
	unsigned char *at;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = hole(1);
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, 0).moved);
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	child_start(&c, 0);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	EXPECT_TRUE(full_of(to, MINE_2));
	/*
	 * The child's page was freed, since its address space has ended. The own page
	 * is still there.
	 */
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE_2, 0).moved);
	EXPECT_TRUE(full_of(at, MINE));
}

/*
 * Pages of a reader return only if the reader passes ZPIPE_RETURN and the writer
 * ZPIPE_ANY.
 */
TEST_F(all, pages_that_a_reader_returns)
{
	unsigned char *at, *to;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = hole(1);
	to = hole(1);

	/* Only the writer agrees. */
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, 0).moved);
	memset(to, READERS, HUGE_SIZE);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).moved);
	EXPECT_TRUE(full_of(to, MINE));
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, ZPIPE_ANY).moved);
	EXPECT_TRUE(full_of(at, 0));

	/* Only the reader agrees, or the writer asks for zeros. */
	memset(to, READERS, HUGE_SIZE);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, ZPIPE_RETURN).moved);
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, 0).moved);
	EXPECT_TRUE(full_of(at, 0));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, hole(1), HUGE_SIZE, 0).moved);
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, ZPIPE_ANY | ZPIPE_CLEAR).moved);
	EXPECT_TRUE(full_of(at, 0));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, hole(1), HUGE_SIZE, 0).moved);

	/* Both agree. */
	EXPECT_EQ(4, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, ZPIPE_ANY).moved);
	EXPECT_TRUE(full_of(at, READERS));
	EXPECT_EQ(4, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).moved);
	EXPECT_TRUE(full_of(to, MINE));
}

/* The pages in homes are freed with the last writer. */
TEST_F(all, homes_end_with_the_last_writer)
{
	static unsigned char to[HUGE_SIZE];
	unsigned char *at;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = hole(1);
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, MINE, 0).moved);
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-homes"));
	close_end(&self->e, 1);
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-homes"));
}

/*
 * While readers copy, clearing a replacement costs more than it saves. Only one page is
 * tried.
 */
TEST_F(all, one_clear_while_readers_copy)
{
	static unsigned char to[HUGE_SIZE];
	struct iovec iov = { hole(1), HUGE_SIZE };
	struct gifted g;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, iov.iov_base, MINE, 0).moved);
	g = gift_flags(&self->e, &iov, 1, ZPIPE_NONBLOCK);
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(15 * PAGE, g.copied);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_COST]);
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	ASSERT_EQ(15 * PAGE, read(self->e.fd[0], to, 15 * PAGE));
	/* The page that was tried comes back as a replacement. */
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, iov.iov_base, MINE, 0).moved);
	g = gift_flags(&self->e, &iov, 1, ZPIPE_NONBLOCK);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_COST]);
	ASSERT_EQ(HUGE_SIZE, read(self->e.fd[0], to, HUGE_SIZE));
	ASSERT_EQ(15 * PAGE, read(self->e.fd[0], to, 15 * PAGE));
	EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
	/* After a reader has moved a page, the module clears replacements again. */
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, iov.iov_base, MINE, 0).moved);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, hole(1), HUGE_SIZE, 0).moved);
	ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, iov.iov_base, MINE, 0).moved);
	g = gift_flags(&self->e, &iov, 1, 0);
	EXPECT_EQ(HUGE_SIZE, g.moved);
	EXPECT_EQ(3, fdinfo_number(self->e.fd[0], "zpipe-gift-clears"));
}

/* Reusing pages loses no memory, and no page stays counted for the user. */
TEST_F_TIMEOUT(all, no_memory_is_lost, 4 * TIMEOUT)
{
	long before, after;
	unsigned char *at, *to;
	struct gifted g;
	int i;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = hole(1);
	to = hole(1);
	memset(to, 1, HUGE_SIZE);
	before = available();
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(HUGE_SIZE, gift_byte(&self->e, at, i, ZPIPE_ANY).moved);
		if (i % 10 == 9)
			madvise(to, HUGE_SIZE, MADV_DONTNEED);
		g = fetch(&self->e, to, HUGE_SIZE, i % 3 ? ZPIPE_RETURN : 0);
		ASSERT_EQ(HUGE_SIZE, g.moved) {
			tell_reasons(&g);
		}
		ASSERT_TRUE(full_of(to, i));
	}
	after = available();
	/* In KiB. All gifts of this test together have 200 MiB. */
	EXPECT_LT(before - 40960, after);
}

TEST_HARNESS_MAIN
