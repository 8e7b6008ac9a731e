// SPDX-License-Identifier: GPL-2.0-only
/* Large blocked writes from memory of every kind. */
#include "direct.h"
#include "memory.h"

#define NO_SUCH_MEMORY	12345
#define WHOLE		(2 * MIB + 5000)	/* bytes of a write */

/* A child that writes once. */
struct source_write {
	struct ends *e;
	struct memory memory;
};

static long child_do_source(struct child *c)
{
	struct source_write *s = c->arg;

	close(s->e->fd[0]);
	if (!memory_make(&s->memory))
		return NO_SUCH_MEMORY;
	return write(s->e->fd[1], s->memory.p, s->memory.len);
}

/*
 * Reads everything that such a child writes, and expects its write to return
 * @want. Returns false if this kernel has no such memory.
 */
static bool source_arrives(struct __test_metadata *_metadata, struct ends *e,
			   enum memory_kind kind, long want)
{
	struct source_write s = {
		.e = e,
		/* The part that differs is all of it. */
		.memory = { .kind = kind, .source = true, .len = WHOLE },
	};
	struct child c = {
		.fn = child_do_source, .arg = &s, .drop = -1, .nr = SYS_write,
	};
	unsigned char *buf = own_memory(3 * FULL);
	long off, n;

	child_start(&c, 0);
	close_end(e, 1);
	for (off = 0; ; off += n) {
		n = sys(read(e->fd[0], buf, 3 * FULL));
		if (n <= 0)
			break;
		EXPECT_TRUE(comes_from(kind, buf, off, n));
	}
	EXPECT_EQ(0, n);
	n = child_join(&c);
	if (n == NO_SUCH_MEMORY)
		return false;
	EXPECT_EQ(want, n);
	EXPECT_EQ(want < 0 ? 0 : want, off);
	return true;
}

TEST_F_TIMEOUT(all, source_is_fresh, TIMEOUT)
{
	EXPECT_TRUE(source_arrives(_metadata, &self->e, FRESH, WHOLE));
}

TEST_F_TIMEOUT(all, source_is_the_zero_page, TIMEOUT)
{
	EXPECT_TRUE(source_arrives(_metadata, &self->e, ZERO_PAGE, WHOLE));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, source_is_shared_and_not_mapped_yet, TIMEOUT)
{
	EXPECT_TRUE(source_arrives(_metadata, &self->e, FILE_SHARED, WHOLE));
}

TEST_F_TIMEOUT(all, source_is_read_only, TIMEOUT)
{
	EXPECT_TRUE(source_arrives(_metadata, &self->e, READ_ONLY, WHOLE));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, source_is_huge, TIMEOUT)
{
	EXPECT_TRUE(source_arrives(_metadata, &self->e, HUGE, WHOLE));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, source_has_a_protection_key, TIMEOUT)
{
	if (!source_arrives(_metadata, &self->e, PKEY_ALLOWED, WHOLE))
		SKIP(return, "no protection keys");
	if (is_zpipe(variant->kind))
		EXPECT_EQ(0, fdinfo_number(self->e.fd[0],
					   "zpipe-bytes-pulled"));
}

TEST_F_TIMEOUT(all, source_has_a_protection_key_that_denies, TIMEOUT)
{
	if (!source_arrives(_metadata, &self->e, PKEY_DENIED, -EFAULT))
		SKIP(return, "no protection keys");
}

TEST_F_TIMEOUT(all, source_is_secret, TIMEOUT)
{
	if (!source_arrives(_metadata, &self->e, SECRET_STORED, WHOLE))
		SKIP(return, "no memfd_secret");
	if (is_zpipe(variant->kind))
		EXPECT_EQ(0, fdinfo_number(self->e.fd[0],
					   "zpipe-bytes-pulled"));
}

TEST_F_TIMEOUT(all, source_is_paged_out, TIMEOUT)
{
	if (!has_swap())
		SKIP(return, "no swap");
	if (!source_arrives(_metadata, &self->e, PAGED_OUT, WHOLE))
		SKIP(return, "not paged out");
}

/*
 * A write of a mebibyte of private memory, and a mebibyte of a file on a FUSE
 * mount.
 */
struct file_write {
	struct ends *e;
	struct fuse_mount *mount;
	int flags;
};

static long child_do_file(struct child *c)
{
	struct file_write *f = c->arg;
	int fd = open(f->mount->file, O_RDWR);
	struct iovec iov[2] = {
		{ c->buf, MIB },
		{ mmap(NULL, MIB, PROT_READ, f->flags, fd, 0), MIB },
	};

	close(f->e->fd[0]);
	if (iov[1].iov_base == MAP_FAILED)
		return NO_SUCH_MEMORY;
	return writev(c->fd, iov, 2);
}

static void file_arrives(struct __test_metadata *_metadata, struct ends *e,
			 int flags)
{
	struct fuse_mount *mount = calloc(1, sizeof(*mount));
	struct file_write f = { .e = e, .mount = mount, .flags = flags };
	struct child c = {
		.fn = child_do_file, .arg = &f, .fd = e->fd[1], .drop = -1,
		.nr = SYS_writev, .buf = own_memory(MIB),
	};

	stream_fill(c.buf, 0, MIB);
	ASSERT_EQ(0, fuse_start(mount));
	mount->base = MIB;
	fuse_resolve(mount);
	mount->pending = 0;
	child_start(&c, 0);
	EXPECT_EQ(2 * MIB, drain(e->fd[0], 0, 2 * MIB, 100000));
	EXPECT_EQ(2 * MIB, child_join(&c));
	EXPECT_TRUE(was_direct(e));
	fuse_stop(mount);
}

TEST_F_TIMEOUT(all, source_is_a_file_that_is_not_cached, TIMEOUT)
{
	file_arrives(_metadata, &self->e, MAP_PRIVATE);
}

TEST_F_TIMEOUT(all, source_is_a_shared_file_that_is_not_cached, TIMEOUT)
{
	file_arrives(_metadata, &self->e, MAP_SHARED);
}

/*
 * Faults of the memory behind the first 20 pages are not answered. The pages
 * that fit into the pipe are readable all the same.
 */
TEST_F_TIMEOUT(all, source_gets_stuck_behind_a_pipeful, TIMEOUT)
{
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true, .good = 20,
		.bad = 44, .len = 64 * PAGE,
	};

	stuck_start(&s);
	ASSERT_TRUE(stuck_ready(&s));
	ASSERT_TRUE(eventually(poll_mask(self->e.fd[0]) == POLLIN));
	if (child_asleep(&s.c))
		EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	ASSERT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, 2 * PAGE));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 2 * PAGE, PAGE));
	/* In pipe(2) the writer has not reached the bad pages yet. */
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	stuck_resolve(&s);
	EXPECT_EQ(61 * PAGE, drain(self->e.fd[0], 3 * PAGE, 61 * PAGE, FULL));
	EXPECT_EQ(64 * PAGE, child_join(&s.c));
}

/*
 * A write that fits is stuck in a fault. Then the pipe becomes smaller, and
 * others fill it. The rest of the write, from the bad pages on, blocks as a
 * large write.
 */
TEST_F_TIMEOUT(all, stuck_write_finds_the_pipe_full, TIMEOUT)
{
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true, .good = 2,
		.bad = 398, .len = 400 * PAGE,
	};

	ASSERT_EQ(2 * MIB, set_capacity(variant->kind, self->e.fd[0], 2 * MIB));
	stuck_start(&s);
	ASSERT_TRUE(stuck_is(&s));
	if (is_zpipe(variant->kind)) {
		int fd = open_nonblocking_writer(&self->e);

		ASSERT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
		ASSERT_EQ(FULL, set_capacity(variant->kind, fd, FULL));
		EXPECT_EQ(FULL, stream_write(fd, 0, 2 * FULL));
		stuck_resolve(&s);
		EXPECT_TRUE(child_asleep(&s.c));
		EXPECT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
		close(fd);
	} else {
		stuck_resolve(&s);
		EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, 2 * PAGE));
	}
	EXPECT_EQ(398 * PAGE, drain(self->e.fd[0], 2 * PAGE, 398 * PAGE, FULL));
	EXPECT_EQ(400 * PAGE, child_join(&s.c));
}

/*
 * DEVIATION: bytes that were announced of a posted write cannot be read while
 * the owner faults them in.
 *
 * The bad pages are so far into the buffer that the owner has not looked for
 * resident memory there before a reader pulls that far.
 */
TEST_F_TIMEOUT(all, reader_needs_memory_that_is_not_resident, TIMEOUT)
{
	long good = 2 * MIB, bad = 64 * PAGE;
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true,
		.good = good / PAGE, .bad = 64, .len = good + bad,
	};
	struct child c;

	stuck_start(&s);
	ASSERT_TRUE(stuck_ready(&s));
	/* In pipe(2) the writer has filled the slots behind this. */
	ASSERT_EQ(good - FULL, drain(self->e.fd[0], 0, good - FULL, 50000));
	if (is_zpipe(variant->kind)) {
		ASSERT_EQ(FULL, drain(self->e.fd[0], good - FULL, FULL, FULL));
		child_read(&c, &self->e, 10);
		EXPECT_TRUE(stuck_is(&s));
		EXPECT_TRUE(child_asleep(&c));
		EXPECT_EQ(0, poll_mask(self->e.fd[0]));
		ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
		EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
		ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
		stuck_resolve(&s);
		EXPECT_EQ(10, child_join(&c));
		EXPECT_EQ(-1, stream_diff(c.buf, good, 10));
		good += 10;
		bad -= 10;
	} else {
		stuck_resolve(&s);
		ASSERT_EQ(FULL, drain(self->e.fd[0], good - FULL, FULL, FULL));
	}
	EXPECT_EQ(bad, drain(self->e.fd[0], good, bad, FULL));
	EXPECT_EQ(s.len, child_join(&s.c));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_HARNESS_MAIN
