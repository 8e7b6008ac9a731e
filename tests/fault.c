// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers that cannot be read or written, wholly or in part. fs/pipe.c decides for each slot: it
 * transfers the bytes of a slot all or not at all. No byte is lost or repeated, and no reader
 * sees bytes that were not written.
 */
#include "oracle.h"
#include "child.h"

#include <sys/uio.h>

#define FULL		(SLOTS * PAGE)

/* An unmapped address, whose value the compiler does not know. */
static void *nowhere(void)
{
	void *p = (void *)16;

	asm("" : "+r" (p));
	return p;
}

static void *bad_page(int prot)
{
	void *p = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

TEST_F_TIMEOUT(all, write_from_nowhere_efault, TIMEOUT)
{
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], nowhere(), 10)));
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], bad_page(PROT_NONE), 10)));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, write_from_beyond_end_of_file_efault, TIMEOUT)
{
	char name[] = "/tmp/zpipe-test.XXXXXX";
	int fd = mkstemp(name);
	void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

	unlink(name);
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], p, 10)));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, read_to_nowhere_efault, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], nowhere(), 10)));
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], bad_page(PROT_NONE), 10)));
	/* Each read makes at most one attempt to fault the buffer in. */
	EXPECT_GE(2, fdinfo_number(self->e.fd[0], "zpipe-read-faults"));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

TEST_F_TIMEOUT(all, read_to_read_only_memory_efault, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], bad_page(PROT_READ), 10)));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

TEST_F_TIMEOUT(all, read_of_empty_pipe_never_touches_the_buffer, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, sys(read(self->e.fd[0], nowhere(), 10)));
	close_end(&self->e, 1);
	EXPECT_EQ(0, sys(read(self->e.fd[0], nowhere(), 10)));
}

TEST_F_TIMEOUT(all, write_to_full_pipe_never_touches_the_buffer, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(-EAGAIN, sys(write(self->e.fd[1], nowhere(), 10)));
}

TEST_F_TIMEOUT(all, write_without_reader_never_touches_the_buffer, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, sys(write(self->e.fd[1], nowhere(), 10)));
}

/* The slots that a write fills before the hole stay written. */
TEST_F_TIMEOUT(all, write_ends_before_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(2);

	EXPECT_EQ(2 * PAGE, sys(write(self->e.fd[1], p, 3 * PAGE)));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, write_of_a_broken_page_efault, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], p + PAGE - 100, 101)));
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], p + 100, PAGE)));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(100, sys(write(self->e.fd[1], p + PAGE - 100, 100)));
	EXPECT_EQ(100, stream_read(self->e.fd[0], PAGE - 100, 200));
}

/*
 * A slot holds bytes from where the write starts, not from a page boundary: so the last slot
 * would be half bad, and is not written.
 */
TEST_F_TIMEOUT(all, write_across_pages_ends_with_a_whole_slot, TIMEOUT)
{
	unsigned char *p = pages_before_hole(3);

	EXPECT_EQ(2 * PAGE, sys(write(self->e.fd[1], p + 1000, 4 * PAGE)));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 1000, FULL));
}

TEST_F_TIMEOUT(all, write_with_broken_merge_efault, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(-EFAULT, sys(write(self->e.fd[1], p + PAGE - 100, 101)));
	EXPECT_EQ(100, fionread(self->e.fd[0]));
	/* Readers must not see the bytes that the failed merge left behind the data. */
	EXPECT_EQ(50, stream_write(self->e.fd[1], 100, 50));
	EXPECT_EQ(150, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, write_with_whole_merge_counts_it, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	/* 200 bytes merge with the slot, and the page behind them is bad. */
	stream_fill(p + PAGE - 200, 100, 200);
	EXPECT_EQ(200, sys(write(self->e.fd[1], p + PAGE - 200, PAGE + 200)));
	EXPECT_EQ(300, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, writev_ends_before_the_bad_segment, TIMEOUT)
{
	unsigned char *p = pages_before_hole(2);
	struct iovec iov[3] = {
		{ p, PAGE }, { nowhere(), PAGE }, { p + PAGE, PAGE },
	};

	EXPECT_EQ(PAGE, sys(writev(self->e.fd[1], iov, 3)));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, writev_with_bad_segment_in_a_slot_efault, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);
	struct iovec iov[3] = { { p, 100 }, { nowhere(), 100 }, { p, 100 } };

	EXPECT_EQ(-EFAULT, sys(writev(self->e.fd[1], iov, 3)));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, read_ends_before_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(2);

	ASSERT_EQ(4 * PAGE, stream_write(self->e.fd[1], 5, 4 * PAGE));
	EXPECT_EQ(2 * PAGE, sys(read(self->e.fd[0], p, 4 * PAGE)));
	EXPECT_EQ(-1, stream_diff(p, 5, 2 * PAGE));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 5 + 2 * PAGE, FULL));
}

/* A slot whose bytes do not fit before the hole stays whole. */
TEST_F_TIMEOUT(all, read_leaves_the_broken_slot, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	EXPECT_EQ(-EFAULT, sys(read(self->e.fd[0], p + 100, PAGE)));
	EXPECT_EQ(PAGE, fionread(self->e.fd[0]));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, read_counts_the_slots_before_the_broken_one, TIMEOUT)
{
	unsigned char *p = pages_before_hole(3);

	ASSERT_EQ(4 * PAGE, stream_write(self->e.fd[1], 0, 4 * PAGE));
	EXPECT_EQ(2 * PAGE, sys(read(self->e.fd[0], p + 100, 4 * PAGE)));
	EXPECT_EQ(-1, stream_diff(p + 100, 0, 2 * PAGE));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 2 * PAGE, FULL));
}

TEST_F_TIMEOUT(all, read_up_to_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	EXPECT_EQ(100, sys(read(self->e.fd[0], p + PAGE - 100, 100)));
	EXPECT_EQ(PAGE - 100, stream_read(self->e.fd[0], 100, FULL));
}

/* The length of the read may reach beyond the hole if the data does not. */
TEST_F_TIMEOUT(all, read_of_less_than_asked_before_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);

	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(100, sys(read(self->e.fd[0], p + PAGE - 100, FULL)));
	EXPECT_EQ(-1, stream_diff(p + PAGE - 100, 0, 100));
}

TEST_F_TIMEOUT(all, readv_ends_before_the_bad_segment, TIMEOUT)
{
	unsigned char *p = pages_before_hole(2);
	struct iovec iov[3] = {
		{ p, PAGE }, { nowhere(), PAGE }, { p + PAGE, PAGE },
	};

	memset(p, 0, 2 * PAGE);
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	EXPECT_EQ(PAGE, sys(readv(self->e.fd[0], iov, 3)));
	EXPECT_EQ(-1, stream_diff(p, 0, PAGE));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], PAGE, FULL));
	EXPECT_EQ(0, p[PAGE]);
	EXPECT_EQ(0, p[2 * PAGE - 1]);
}

TEST_F_TIMEOUT(all, readv_with_bad_segment_in_a_slot_efault, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);
	struct iovec iov[3] = {
		{ p, 100 }, { nowhere(), 100 }, { p + 200, 100 },
	};

	memset(p, 0, PAGE);
	ASSERT_EQ(300, stream_write(self->e.fd[1], 0, 300));
	EXPECT_EQ(-EFAULT, sys(readv(self->e.fd[0], iov, 3)));
	EXPECT_EQ(300, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(0, p[200]);
}

/* A transfer stops at the hole, and does not use the good memory behind it. */
TEST_F_TIMEOUT(all, never_past_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(3);
	int i;

	ASSERT_EQ(0, mprotect(p + PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(PAGE, sys(write(self->e.fd[1], p, 3 * PAGE)));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));

	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	memset(p + 2 * PAGE, 0, PAGE);
	EXPECT_EQ(PAGE, sys(read(self->e.fd[0], p, 3 * PAGE)));
	for (i = 0; i < PAGE; i++)
		ASSERT_EQ(0, p[2 * PAGE + i]);
}

/* A failed write leaves no used slot behind. */
TEST_F_TIMEOUT(all, failed_writes_use_no_slot, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);
	int i;

	for (i = 0; i < 2 * SLOTS; i++)
		ASSERT_EQ(-EFAULT, sys(write(self->e.fd[1], p + 1, PAGE)));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL, stream_write(self->e.fd[1], 0, 2 * FULL));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
}

/* The pipe is full before the write reaches the hole. */
TEST_F_TIMEOUT(all, nonblock_write_ends_full_before_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(SLOTS);

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL, sys(write(self->e.fd[1], p, FULL + PAGE)));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
}

static long write_buf(struct child *c)
{
	close(((struct ends *)c->arg)->fd[0]);
	return write(c->fd, c->buf, c->len);
}

static long read_buf(struct child *c)
{
	close(((struct ends *)c->arg)->fd[1]);
	return read(c->fd, c->buf, c->len);
}

/* Starts a child that writes from @buf. */
static void child_write_from(struct child *c, struct ends *e, void *buf,
			     size_t len)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = write_buf, .arg = e, .fd = e->fd[1],
		.drop = -1, .buf = buf, .len = len,
	};
	child_start(c, 0);
}

static void child_read_to(struct child *c, struct ends *e, void *buf,
			  size_t len)
{
	*c = (struct child) {
		.nr = SYS_read, .fn = read_buf, .arg = e, .fd = e->fd[0],
		.drop = -1, .buf = buf, .len = len,
	};
	child_start(c, 0);
}

/* The blocked writer gets EFAULT when a slot becomes free. */
TEST_F_TIMEOUT(all, blocked_writer_has_the_efault, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write_from(&c, &self->e, nowhere(), 10);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(-EFAULT, child_join(&c));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(all, blocked_large_writer_has_the_efault, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write_from(&c, &self->e, bad_page(PROT_NONE), FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(-EFAULT, child_join(&c));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/* The bytes before the hole are written, and the result counts them. */
TEST_F_TIMEOUT(all, blocked_writer_counts_up_to_the_hole, TIMEOUT)
{
	unsigned char *p = pages_before_hole(SLOTS + 2);
	struct child c;

	child_write_from(&c, &self->e, p, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(FULL + 2 * PAGE, child_join(&c));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], FULL, 2 * FULL));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/* A reader with space for more bytes than the slots hold must not get a byte beyond the hole. */
TEST_F_TIMEOUT(all, reader_stops_where_the_blocked_writer_is_bad, TIMEOUT)
{
	unsigned char *p = pages_before_hole(SLOTS + 2);
	struct child c;
	long got = 0, ret;

	child_write_from(&c, &self->e, p, 4 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	while (got < FULL + 2 * PAGE) {
		ret = stream_read(self->e.fd[0], got, 4 * FULL);
		ASSERT_LT(0, ret);
		got += ret;
	}
	EXPECT_EQ(FULL + 2 * PAGE, got);
	EXPECT_EQ(FULL + 2 * PAGE, child_join(&c));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
}

/* After a writer's EFAULT, the pipe works as before. */
TEST_F_TIMEOUT(all, pipe_recovers_from_a_bad_writer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_write_from(&c, &self->e, nowhere(), FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_EQ(-EFAULT, child_join(&c));
	child_write(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], FULL, FULL));
	EXPECT_EQ(3 * FULL, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 2 * FULL, FULL));
}

TEST_F_TIMEOUT(all, blocked_reader_has_the_efault, TIMEOUT)
{
	struct child c;

	child_read_to(&c, &self->e, nowhere(), 10);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EFAULT, child_join(&c));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

TEST_F_TIMEOUT(all, blocked_reader_leaves_the_broken_slot, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);
	struct child c;

	child_read_to(&c, &self->e, p + 100, 2 * PAGE);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	EXPECT_EQ(-EFAULT, child_join(&c));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
}

/*
 * The pipe allocates a page for a write that fails half-way, and uses the page for the next
 * write. A reader must see only the bytes of that write.
 */
TEST_F_TIMEOUT(all, reused_page_shows_only_what_was_written, TIMEOUT)
{
	unsigned char *p = pages_before_hole(1);
	unsigned char *in = malloc(2 * PAGE);

	memset(p, 0xee, PAGE);
	ASSERT_EQ(-EFAULT, sys(write(self->e.fd[1], p + 1, PAGE)));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	memset(in, 0xcc, 2 * PAGE);
	EXPECT_EQ(10, sys(read(self->e.fd[0], in, 2 * PAGE)));
	EXPECT_EQ(-1, stream_diff(in, 0, 10));
	EXPECT_EQ(0xcc, in[10]);
}

/*
 * Writes of many lengths, with the hole at many places. The result must be the number of bytes
 * that arrive.
 */
TEST_F_TIMEOUT(all, every_place_of_the_hole, TIMEOUT)
{
	static const int lens[] = { 1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE };
	static const int goods[] = { 0, 1, 99, 100, PAGE - 1, PAGE, PAGE + 1 };
	unsigned char *p = pages_before_hole(2);
	unsigned char *end = p + 2 * PAGE;
	long ret, want, off = 0;
	size_t i, j;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (j = 0; j < ARRAY_SIZE(goods); j++) {
			stream_fill(end - goods[j], off, goods[j]);
			ret = sys(write(self->e.fd[1], end - goods[j],
					lens[i]));
			want = goods[j] >= lens[i] ? lens[i] :
			       goods[j] >= PAGE ? PAGE : -EFAULT;
			ASSERT_EQ(want, ret);
			want = ret < 0 ? -EAGAIN : ret;
			ASSERT_EQ(want, stream_read(self->e.fd[0], off, FULL));
			off += ret < 0 ? 0 : ret;
		}
	}
}

TEST_HARNESS_MAIN
