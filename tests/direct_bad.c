// SPDX-License-Identifier: GPL-2.0-only
/* Large transfers in which the memory of the writer or the reader ends half-way. */
#include "direct.h"

/* The results of two writes. The second one begins where the first one stopped. */
struct two_writes {
	long first;
	long second;
};

static long child_do_two_writes(struct child *c)
{
	struct two_writes *two = c->arg;
	long n = sys(write(c->fd, c->buf, c->len));

	two->second = n;
	if (n >= 0)
		two->second = sys(write(c->fd, c->buf + n, c->len - n));
	two->first = n;
	return 0;
}

/*
 * Starts a child that writes @len bytes, from @skew bytes behind the start of a page, and then
 * the rest. The first @good pages of its memory are good. The others are not mapped, or
 * PROT_NONE if @mapped.
 */
static void child_write_bad(struct child *c, struct ends *e, size_t len,
			    size_t skew, int good, bool mapped)
{
	size_t all = (len + skew + PAGE - 1) & -PAGE;

	*c = (struct child) {
		.fn = child_do_two_writes, .nr = SYS_write,
		.fd = e->fd[1], .drop = e->fd[0], .len = len,
		.buf = own_memory(all) + skew,
		.arg = shared_alloc(sizeof(struct two_writes)),
	};
	stream_fill(c->buf, 0, len);
	if (mapped)
		mprotect(c->buf - skew + good * PAGE, all - good * PAGE,
			 PROT_NONE);
	else
		munmap(c->buf - skew + good * PAGE, all - good * PAGE);
	child_start(c, 0);
}

static void expect_bad(struct __test_metadata *_metadata, struct child *c,
		       long want)
{
	struct two_writes *two = c->arg;

	EXPECT_EQ(0, child_join(c));
	EXPECT_EQ(want, two->first);
	EXPECT_EQ(-EFAULT, two->second);
}

static void bad_behind_a_pipeful(struct __test_metadata *_metadata,
				 struct ends *e, int good, bool mapped)
{
	struct child c;

	child_write_bad(&c, e, 64 * PAGE, 0, good, mapped);
	EXPECT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, fionread(e->fd[0]));
	EXPECT_EQ(good * PAGE, drain(e->fd[0], 0, good * PAGE, 10000));
	expect_bad(_metadata, &c, good * PAGE);
	EXPECT_EQ(0, fionread(e->fd[0]));
}

TEST_F_TIMEOUT(all, source_ends, TIMEOUT)
{
	bad_behind_a_pipeful(_metadata, &self->e, 20, false);
	bad_behind_a_pipeful(_metadata, &self->e, 40, false);
}

TEST_F_TIMEOUT(all, source_may_not_be_read, TIMEOUT)
{
	bad_behind_a_pipeful(_metadata, &self->e, 20, true);
	bad_behind_a_pipeful(_metadata, &self->e, 40, true);
}

/* The memory ends before the pipe is full: the write must return without a reader. */
TEST_F_TIMEOUT(all, source_ends_within_a_pipeful, TIMEOUT)
{
	struct child c;

	child_write_bad(&c, &self->e, 64 * PAGE, 0, 10, false);
	expect_bad(_metadata, &c, 10 * PAGE);
	EXPECT_EQ(10 * PAGE, fionread(self->e.fd[0]));
	EXPECT_EQ(10 * PAGE, stream_read(self->e.fd[0], 0, FULL));
	child_write_bad(&c, &self->e, 64 * PAGE, 0, SLOTS - 1, true);
	expect_bad(_metadata, &c, (SLOTS - 1) * PAGE);
	EXPECT_EQ((SLOTS - 1) * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, source_ends_at_once, TIMEOUT)
{
	struct child c;

	child_write_bad(&c, &self->e, 64 * PAGE, 0, 0, false);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_EQ(-EFAULT, ((struct two_writes *)c.arg)->first);
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/* The write must return as soon as the slots hold all bytes before the bad page. */
TEST_F_TIMEOUT(all, source_ends_a_little_behind, TIMEOUT)
{
	struct child c;

	child_write_bad(&c, &self->e, 64 * PAGE, 0, 20, false);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(8 * PAGE, stream_read(self->e.fd[0], 0, 8 * PAGE));
	expect_bad(_metadata, &c, 20 * PAGE);
	EXPECT_EQ(12 * PAGE, fionread(self->e.fd[0]));
	EXPECT_EQ(12 * PAGE, stream_read(self->e.fd[0], 8 * PAGE, FULL));
}

/* A slot that cannot be filled whole is not written, and this holds for posted bytes, too. */
TEST_F_TIMEOUT(all, source_ends_within_a_slot, TIMEOUT)
{
	struct child c;

	child_write_bad(&c, &self->e, 64 * PAGE, 100, 41, false);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(40 * PAGE, drain(self->e.fd[0], 0, 40 * PAGE, 10000));
	expect_bad(_metadata, &c, 40 * PAGE);
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/* The same for reads with space for more bytes. */
TEST_F_TIMEOUT(all, source_ends_within_a_slot_of_a_large_read, TIMEOUT)
{
	unsigned char *buf = own_memory(64 * PAGE);
	struct child c;
	long off, n;

	child_write_bad(&c, &self->e, 64 * PAGE, 100, 41, false);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	for (off = 0; off < 40 * PAGE; off += n) {
		ASSERT_TRUE(eventually((n = sys(read(self->e.fd[0], buf,
						     64 * PAGE))) > 0));
		EXPECT_EQ(-1, stream_diff(buf, off, n));
	}
	EXPECT_EQ(40 * PAGE, off);
	expect_bad(_metadata, &c, 40 * PAGE);
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

/* A buffer of which the first @good bytes are good, and the bytes behind them are not. */
static unsigned char *bad_dest(size_t good, size_t len)
{
	size_t head = (good + PAGE - 1) & -PAGE;
	unsigned char *p = own_memory(head + len + PAGE);

	mprotect(p + head, len + PAGE, PROT_NONE);
	return p + head - good;
}

static void read_to_bad(struct __test_metadata *_metadata, struct ends *e,
			size_t len, size_t good, long want)
{
	unsigned char *buf = bad_dest(good, len);
	struct child c;
	long n;

	child_write_private(&c, e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	n = sys(read(e->fd[0], buf, len));
	EXPECT_EQ(want, n);
	n = n < 0 ? 0 : n;
	EXPECT_EQ(-1, stream_diff(buf, 0, n));
	EXPECT_EQ(MIB - n, drain(e->fd[0], n, MIB - n, FULL));
	EXPECT_EQ(MIB, child_join(&c));
}

TEST_F_TIMEOUT(all, destination_ends_between_slots, TIMEOUT)
{
	read_to_bad(_metadata, &self->e, 8 * PAGE, 4 * PAGE, 4 * PAGE);
}

TEST_F_TIMEOUT(all, destination_ends_within_a_slot, TIMEOUT)
{
	read_to_bad(_metadata, &self->e, 8 * PAGE, 4 * PAGE + 100, 4 * PAGE);
}

TEST_F_TIMEOUT(all, destination_ends_within_the_first_slot, TIMEOUT)
{
	read_to_bad(_metadata, &self->e, 200, 100, -EFAULT);
}

TEST_F_TIMEOUT(all, destination_is_bad, TIMEOUT)
{
	read_to_bad(_metadata, &self->e, MIB, 0, -EFAULT);
}

/* A destination that is not resident must not stop a read. */
TEST_F_TIMEOUT(all, destination_is_fresh, TIMEOUT)
{
	unsigned char *buf = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct child c;
	long off, n;

	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	for (off = 0; off < MIB; off += n) {
		n = sys(read(self->e.fd[0], buf + off, MIB - off));
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(-1, stream_diff(buf, 0, MIB));
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_HARNESS_MAIN
