// SPDX-License-Identifier: GPL-2.0-only
/*
 * Good buffers of which a page is not resident: the transfer must succeed. zpipe first copies
 * without page faults, and meets the missing page in the middle of a slot. It then undoes the
 * partial copy of that slot.
 */
#include "oracle.h"
#include "child.h"

#define FULL		(SLOTS * PAGE)

/* Allocates @pages pages that hold the stream, and unmaps page @missing from the page table. */
static unsigned char *pages_without(int pages, int missing)
{
	unsigned char *p = shared_alloc(pages * PAGE);

	stream_fill(p, 0, pages * PAGE);
	if (madvise(p + missing * PAGE, PAGE, MADV_DONTNEED))
		abort();
	return p;
}

TEST_F_TIMEOUT(all, write_of_a_slot, TIMEOUT)
{
	unsigned char *p = pages_without(2, 1);

	EXPECT_EQ(200, sys(write(self->e.fd[1], p + PAGE - 100, 200)));
	EXPECT_EQ(200, stream_read(self->e.fd[0], PAGE - 100, FULL));
}

/* The write finds a spare page that an earlier write used. */
TEST_F_TIMEOUT(all, write_of_another_slot, TIMEOUT)
{
	unsigned char *p = pages_without(2, 1);

	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 7, PAGE));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 7, FULL));
	EXPECT_EQ(PAGE, sys(write(self->e.fd[1], p + 100, PAGE)));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 100, FULL));
}

TEST_F_TIMEOUT(all, write_that_merges, TIMEOUT)
{
	unsigned char *p = pages_without(2, 1);

	ASSERT_EQ(100, stream_write(self->e.fd[1], PAGE - 200, 100));
	EXPECT_EQ(200, sys(write(self->e.fd[1], p + PAGE - 100, 200)));
	EXPECT_EQ(300, stream_read(self->e.fd[0], PAGE - 200, FULL));
}

/* The odd bytes, which merge, are not resident, nor are the bytes behind them. */
TEST_F_TIMEOUT(all, large_write_that_merges, TIMEOUT)
{
	unsigned char *p = pages_without(3, 0);

	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(PAGE + 200, sys(write(self->e.fd[1], p + 100, PAGE + 200)));
	EXPECT_EQ(PAGE + 300, stream_read(self->e.fd[0], 0, FULL));
}

/* The odd bytes are resident and merge at once. A page of the next slot is missing. */
TEST_F_TIMEOUT(all, large_write_behind_what_merges, TIMEOUT)
{
	unsigned char *p = pages_without(3, 1);

	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(PAGE + 200, sys(write(self->e.fd[1], p + 100, PAGE + 200)));
	EXPECT_EQ(PAGE + 300, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, write_of_many_slots, TIMEOUT)
{
	unsigned char *p = pages_without(SLOTS + 1, SLOTS / 2);

	EXPECT_EQ(FULL, sys(write(self->e.fd[1], p + 100, FULL)));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 100, FULL + 1));
}

/* True if a read of @bytes bytes to @p gets the stream at @off, and stores nothing beside it. */
static bool reads(int fd, unsigned char *p, unsigned long off, long bytes)
{
	return read(fd, p, bytes) == bytes && stream_diff(p, off, bytes) < 0 &&
	       p[-1] == stream_byte(99) && p[bytes] == stream_byte(100 + bytes);
}

TEST_F_TIMEOUT(all, read_of_a_slot, TIMEOUT)
{
	unsigned char *p = pages_without(2, 1);

	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 7, PAGE));
	EXPECT_TRUE(reads(self->e.fd[0], p + 100, 7, PAGE));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, read_of_a_part_of_a_slot, TIMEOUT)
{
	unsigned char *p = pages_without(2, 1);

	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 7, PAGE));
	EXPECT_TRUE(reads(self->e.fd[0], p + 100, 7, PAGE - 50));
	EXPECT_EQ(50, stream_read(self->e.fd[0], 7 + PAGE - 50, FULL));
}

TEST_F_TIMEOUT(all, read_of_many_slots, TIMEOUT)
{
	unsigned char *p = pages_without(SLOTS + 1, SLOTS / 2);

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 7, FULL));
	EXPECT_TRUE(reads(self->e.fd[0], p + 100, 7, FULL));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_HARNESS_MAIN
