// SPDX-License-Identifier: GPL-2.0-only
/*
 * Readers and writers that are stuck in page faults of their own memory.
 *
 * DEVIATION: fs/pipe.c takes such faults under the pipe's mutex, so one stuck process blocks
 * every user of the pipe. With zpipe it blocks only itself.
 */
#include "oracle.h"
#include "child.h"
#include "push.h"
#include "trap.h"

/* An operation of another process while one process is stuck. */
enum op {
	READ_TEN,
	READ_ALL,
	WRITE_TEN,
	FIONREAD_NOW,
	POLL_READ_END,
	POLL_WRITE_END,
	OPEN_AND_CLOSE,
	GET_CAPACITY,
};

#define MAX_PROBES	8

FIXTURE(stuck) {
	struct ends e;
	struct fuse_mount mount;
	struct stuck s;
	struct child probe[MAX_PROBES];
	int probes;
};

FIXTURE_VARIANT(stuck) {
	enum kind kind;
	enum trap_type type;
};

FIXTURE_VARIANT_ADD(stuck, pipe) { .kind = PIPE, .type = UFFD };
FIXTURE_VARIANT_ADD(stuck, fifo) { .kind = FIFO, .type = UFFD };
FIXTURE_VARIANT_ADD(stuck, zpair) { .kind = ZPAIR, .type = UFFD };
FIXTURE_VARIANT_ADD(stuck, znode) { .kind = ZNODE, .type = UFFD };
FIXTURE_VARIANT_ADD(stuck, pipe_fuse) { .kind = PIPE, .type = FUSE };
FIXTURE_VARIANT_ADD(stuck, fifo_fuse) { .kind = FIFO, .type = FUSE };
FIXTURE_VARIANT_ADD(stuck, zpair_fuse) { .kind = ZPAIR, .type = FUSE };
FIXTURE_VARIANT_ADD(stuck, znode_fuse) { .kind = ZNODE, .type = FUSE };

FIXTURE_SETUP(stuck)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	self->s = (struct stuck) { .type = variant->type, .e = &self->e };
	if (variant->type == FUSE) {
		ASSERT_EQ(0, fuse_start(&self->mount));
		self->s.mount = &self->mount;
	}
}

FIXTURE_TEARDOWN(stuck)
{
	int i;

	/*
	 * A stuck child may hold the mutex that closing a kernel pipe needs, and so may a probe.
	 */
	if (self->s.c.pid > 0)
		child_kill(&self->s.c);
	for (i = 0; i < self->probes; i++)
		if (self->probe[i].pid > 0)
			child_kill(&self->probe[i]);
	fuse_stop(&self->mount);
	ends_free(&self->e);
}

/*
 * Starts a writer of @len bytes. The first @good bytes of its buffer are resident or can be
 * faulted in, the others are trapped.
 */
static bool stuck_writer(struct _test_data_stuck *self, unsigned long off,
			 size_t len, size_t good)
{
	struct stuck *s = &self->s;

	s->writes = true;
	s->off = off;
	s->len = len;
	s->good = (good + PAGE - 1) / PAGE;
	s->skip = s->good * PAGE - good;
	s->bad = (s->skip + len + PAGE - 1) / PAGE - s->good;
	stuck_start(s);
	return stuck_ready(s);
}

/* Starts a reader of @len bytes, with such a buffer. */
static bool stuck_reader(struct _test_data_stuck *self, size_t len, size_t good)
{
	struct stuck *s = &self->s;

	s->len = len;
	s->good = (good + PAGE - 1) / PAGE;
	s->skip = s->good * PAGE - good;
	s->bad = (s->skip + len + PAGE - 1) / PAGE - s->good;
	stuck_start(s);
	return stuck_ready(s);
}

static long do_probe(struct child *c)
{
	struct _test_data_stuck *self = c->arg;
	char path[48];
	long n;
	int fd;

	switch (c->flags) {
	case READ_TEN:
		return read(self->e.fd[0], c->buf, 10);
	case READ_ALL:
		return read(self->e.fd[0], c->buf, 2 * FULL);
	case WRITE_TEN:
		return stream_write(self->e.fd[1], 0, 10);
	case FIONREAD_NOW:
		n = fionread(self->e.fd[0]);
		errno = -n;
		return n;
	case POLL_READ_END:
		return poll_mask(self->e.fd[0]);
	case POLL_WRITE_END:
		return poll_mask(self->e.fd[1]);
	case OPEN_AND_CLOSE:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->e.fd[0]);
		fd = open(path, O_RDONLY | O_NONBLOCK);
		return fd < 0 ? -1 : close(fd);
	default:
		n = get_capacity(self->e.kind, self->e.fd[0]);
		errno = -n;
		return n;
	}
}

/*
 * Starts another process for an operation. With zpipe it must return at once, with the result
 * @want. With a kernel pipe it must wait until the fault is resolved.
 */
static struct child *probe(struct __test_metadata *_metadata,
			   struct _test_data_stuck *self, enum op op, long want)
{
	struct child *c = &self->probe[self->probes++];
	bool lockless = op == POLL_READ_END || op == POLL_WRITE_END;
	long ret = want;

	*c = (struct child) {
		.fn = do_probe, .arg = self, .flags = op, .drop = -1,
		.buf = shared_alloc(2 * FULL),
	};
	child_start(c, 0);
	if (is_zpipe(self->e.kind) || lockless)
		ret = child_join(c);
	else if (!eventually(task_state(c->pid) == 'D'))
		ret = NO_REPORT;
	EXPECT_EQ(want, ret) TH_LOG("operation %d", op);
	return c;
}

/* Resolves the fault, and waits for the processes that it blocked. */
static void release(struct __test_metadata *_metadata,
		    struct _test_data_stuck *self)
{
	int i;

	stuck_resolve(&self->s);
	for (i = 0; i < self->probes; i++)
		if (self->probe[i].pid > 0)
			EXPECT_NE(STUCK, child_join(&self->probe[i]));
}

TEST_F_TIMEOUT(stuck, writer_goes_on_when_it_can, TIMEOUT)
{
	ASSERT_TRUE(stuck_writer(self, 0, 2 * PAGE, 100));
	ASSERT_TRUE(stuck_is(&self->s));
	stuck_resolve(&self->s);
	EXPECT_EQ(2 * PAGE, child_join(&self->s.c));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(stuck, reader_goes_on_when_it_can, TIMEOUT)
{
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	ASSERT_TRUE(stuck_reader(self, 2 * PAGE, 100));
	ASSERT_TRUE(stuck_is(&self->s));
	stuck_resolve(&self->s);
	EXPECT_EQ(2 * PAGE, child_join(&self->s.c));
	EXPECT_EQ(-1, stream_diff(self->s.c.buf, 0, 2 * PAGE));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 2 * PAGE, FULL));
}

/* No reader sees a byte of the slot that the killed writer could not fill. */
TEST_F_TIMEOUT(stuck, writer_can_be_killed, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(100, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
}

/* The slot that the killed reader could not read stays in the pipe. */
TEST_F_TIMEOUT(stuck, reader_can_be_killed, TIMEOUT)
{
	ASSERT_EQ(2 * PAGE, stream_write(self->e.fd[1], 0, 2 * PAGE));
	ASSERT_TRUE(stuck_reader(self, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(2 * PAGE, fionread(self->e.fd[0]));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

/*
 * DEVIATION: zpipe first faults in all memory that the read needs, so a reader that is killed
 * then has consumed nothing. With fs/pipe.c it has consumed the slots before the fault.
 */
TEST_F_TIMEOUT(stuck, killed_reader_takes_nothing, TIMEOUT)
{
	long left = is_zpipe(variant->kind) ? 2 * PAGE : PAGE;

	ASSERT_EQ(2 * PAGE, stream_write(self->e.fd[1], 0, 2 * PAGE));
	self->s.fresh = true;
	ASSERT_TRUE(stuck_reader(self, 2 * PAGE, PAGE));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(left, fionread(self->e.fd[0]));
	EXPECT_EQ(left, stream_read(self->e.fd[0], 2 * PAGE - left, FULL));
}

/* The slots that a writer filled before the fault stay in the pipe if it is killed. */
TEST_F_TIMEOUT(stuck, killed_writer_leaves_whole_slots, TIMEOUT)
{
	ASSERT_TRUE(stuck_writer(self, 0, 4 * PAGE, 2 * PAGE + 100));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(stuck, others_beside_a_stuck_writer, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	probe(_metadata, self, POLL_READ_END, POLLIN);
	probe(_metadata, self, POLL_WRITE_END, POLLOUT);
	probe(_metadata, self, FIONREAD_NOW, 100);
	probe(_metadata, self, READ_TEN, 10);
	probe(_metadata, self, WRITE_TEN, 10);
	probe(_metadata, self, OPEN_AND_CLOSE, 0);
	probe(_metadata, self, GET_CAPACITY, FULL);
	release(_metadata, self);
	EXPECT_EQ(PAGE, child_join(&self->s.c));
	EXPECT_EQ(100 + PAGE, fionread(self->e.fd[0]));
}

TEST_F_TIMEOUT(stuck, others_beside_a_stuck_reader, TIMEOUT)
{
	ASSERT_EQ(2 * PAGE, stream_write(self->e.fd[1], 0, 2 * PAGE));
	ASSERT_TRUE(stuck_reader(self, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	probe(_metadata, self, POLL_READ_END, POLLIN);
	probe(_metadata, self, POLL_WRITE_END, POLLOUT);
	probe(_metadata, self, FIONREAD_NOW, 2 * PAGE);
	probe(_metadata, self, READ_TEN, 10);
	probe(_metadata, self, WRITE_TEN, 10);
	probe(_metadata, self, OPEN_AND_CLOSE, 0);
	probe(_metadata, self, GET_CAPACITY, FULL);
	release(_metadata, self);
	EXPECT_EQ(PAGE, child_join(&self->s.c));
	EXPECT_EQ(PAGE, fionread(self->e.fd[0]));
}

/* A stuck reader has consumed nothing, so the next reader gets all bytes. */
TEST_F_TIMEOUT(stuck, others_read_what_a_stuck_reader_has_not, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	struct child *c;

	ASSERT_EQ(2 * PAGE, stream_write(self->e.fd[1], 0, 2 * PAGE));
	ASSERT_TRUE(stuck_reader(self, 2 * PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	c = probe(_metadata, self, READ_ALL, 2 * PAGE);
	if (zpipe)
		EXPECT_EQ(-1, stream_diff(c->buf, 0, 2 * PAGE));
	stuck_resolve(&self->s);
	/* This write is for the reader that has no bytes yet. */
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(zpipe ? 10 : 2 * PAGE, child_join(&self->s.c));
	release(_metadata, self);
}

/*
 * A stuck reader keeps the bytes that it has consumed. Another reader consumes the bytes behind
 * them, so the stuck reader must return without later ones.
 */
TEST_F_TIMEOUT(stuck, stuck_reader_reads_no_further_than_others, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	struct child *c;
	long n;

	if (copies_are_cut(variant->kind))
		SKIP(return, "it is stuck before it has taken anything");
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	ASSERT_TRUE(stuck_reader(self, 4 * PAGE, PAGE + 200));
	ASSERT_TRUE(stuck_is(&self->s));
	c = probe(_metadata, self, READ_ALL, 2 * PAGE);
	if (zpipe) {
		EXPECT_EQ(-1, stream_diff(c->buf, PAGE, 2 * PAGE));
		ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 3 * PAGE, PAGE));
	}
	stuck_resolve(&self->s);
	n = child_join(&self->s.c);
	EXPECT_EQ(zpipe ? PAGE : 3 * PAGE, n);
	EXPECT_EQ(-1, stream_diff(self->s.c.buf, 0, n < 0 ? 0 : n));
	if (!zpipe)
		ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 3 * PAGE, PAGE));
	release(_metadata, self);
}

/* A child's function: writes from a file that other processes can truncate. */
static long write_from_file(struct child *c)
{
	unsigned char *p = mmap(NULL, c->len, PROT_READ | PROT_WRITE,
				MAP_SHARED, c->flags, 0);

	if (p == MAP_FAILED)
		return NO_SUCH_MEMORY;
	stream_fill(p, 0, c->len);
	return write(c->fd, p, c->len);
}

/*
 * A writer posts a write, loses its memory and is killed: the bytes behind those that the stuck
 * reader has pulled are gone. A push then transfers other bytes to another reader. No slot was
 * used, and yet the stuck reader must not go on with later bytes.
 */
TEST_F_TIMEOUT(stuck, stuck_reader_reads_no_further_than_a_push, TIMEOUT)
{
	int fd = memfd_create("zpipe-test", MFD_CLOEXEC);
	struct child c = {
		.nr = SYS_write, .fn = write_from_file, .flags = fd,
		.fd = self->e.fd[1], .drop = self->e.fd[0], .len = MIB,
	}, *reader = &self->probe[self->probes++];
	unsigned char *buf = own_memory(MIB);

	if (!is_zpipe(variant->kind))
		SKIP(return, "nobody gets past a reader that is stuck there");
	if (copies_are_cut(variant->kind))
		SKIP(return, "it is stuck before it has taken anything");
	ASSERT_EQ(0, ftruncate(fd, MIB));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_TRUE(stuck_reader(self, 4 * PAGE, PAGE));
	ASSERT_TRUE(stuck_is(&self->s));
	ASSERT_EQ(0, ftruncate(fd, 0));
	child_kill(&c);
	ASSERT_EQ(0, fionread(self->e.fd[0]));
	child_read_private(reader, &self->e, MIB);
	ASSERT_TRUE(child_asleep(reader));
	stream_fill(buf, 0, MIB);
	ASSERT_EQ(MIB, sys(write(self->e.fd[1], buf, MIB)));
	ASSERT_EQ(MIB, child_join(reader));
	ASSERT_EQ(MIB, pushed(&self->e));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	stuck_resolve(&self->s);
	EXPECT_EQ(PAGE, child_join(&self->s.c));
	EXPECT_EQ(PAGE, fionread(self->e.fd[0]));
	EXPECT_LT(0, fdinfo_number(self->e.fd[0], "zpipe-bytes-pulled"));
	close(fd);
	release(_metadata, self);
}

/* Other readers get the slots that a stuck writer has filled, at once. */
TEST_F_TIMEOUT(stuck, others_read_what_a_stuck_writer_has_written, TIMEOUT)
{
	struct child *c;

	ASSERT_TRUE(stuck_writer(self, 0, 4 * PAGE, 2 * PAGE + 100));
	ASSERT_TRUE(stuck_is(&self->s));
	c = probe(_metadata, self, READ_ALL, 2 * PAGE);
	if (is_zpipe(variant->kind))
		EXPECT_EQ(-1, stream_diff(c->buf, 0, 2 * PAGE));
	release(_metadata, self);
	EXPECT_EQ(4 * PAGE, child_join(&self->s.c));
}

/* The same for a reader that was blocked before. */
TEST_F_TIMEOUT(stuck, waiting_reader_has_what_a_stuck_writer_wrote, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	bool cut = copies_are_cut(variant->kind);
	struct child c;
	long n;

	child_read(&c, &self->e, FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_TRUE(stuck_writer(self, 0, 4 * PAGE, 2 * PAGE + 100));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(zpipe, zpipe ? eventually(child_done(&c)) : child_done(&c));
	release(_metadata, self);
	EXPECT_EQ(4 * PAGE, child_join(&self->s.c));
	n = child_join(&c);
	EXPECT_LE(cut ? PAGE : zpipe ? 2 * PAGE : 4 * PAGE, n);
	EXPECT_GE(zpipe ? 2 * PAGE : 4 * PAGE, n);
	EXPECT_EQ(4 * PAGE - n, fionread(self->e.fd[0]));
}

/*
 * DEVIATION: a write of more than PIPE_BUF bytes may be mixed with other writes where it was
 * stuck, although the pipe had enough free slots for all of it.
 */
TEST_F_TIMEOUT(stuck, others_write_into_a_stuck_write, TIMEOUT)
{
	unsigned char *buf = malloc(FULL);
	long at;

	ASSERT_TRUE(stuck_writer(self, 0, 4 * PAGE, 2 * PAGE));
	ASSERT_TRUE(stuck_is(&self->s));
	probe(_metadata, self, WRITE_TEN, 10);
	release(_metadata, self);
	EXPECT_EQ(4 * PAGE, child_join(&self->s.c));
	ASSERT_EQ(4 * PAGE + 10, read(self->e.fd[0], buf, FULL));
	at = is_zpipe(variant->kind) ? 2 * PAGE : 4 * PAGE;
	EXPECT_EQ(-1, stream_diff(buf, 0, at));
	EXPECT_EQ(-1, stream_diff(buf + at, 0, 10));
	EXPECT_EQ(-1, stream_diff(buf + at + 10, at, 4 * PAGE - at));
}

/* A write of at most PIPE_BUF bytes is never mixed with others. */
TEST_F_TIMEOUT(stuck, small_write_stays_whole, TIMEOUT)
{
	unsigned char *buf = malloc(FULL);
	long at;

	ASSERT_TRUE(stuck_writer(self, 0, 3000, 1000));
	ASSERT_TRUE(stuck_is(&self->s));
	probe(_metadata, self, WRITE_TEN, 10);
	release(_metadata, self);
	EXPECT_EQ(3000, child_join(&self->s.c));
	ASSERT_EQ(3010, read(self->e.fd[0], buf, FULL));
	at = is_zpipe(variant->kind) ? 10 : 0;
	EXPECT_EQ(-1, stream_diff(buf + at, 0, 3000));
	EXPECT_EQ(-1, stream_diff(buf + (at ? 0 : 3000), 0, 10));
}

/*
 * A write wakes a reader, which gets stuck. The next blocked reader must be woken, too, and gets
 * the bytes.
 */
TEST_F_TIMEOUT(stuck, reader_behind_a_stuck_reader, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	struct child c;

	ASSERT_TRUE(stuck_reader(self, PAGE, 0));
	ASSERT_TRUE(child_asleep(&self->s.c));
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(zpipe, zpipe ? eventually(child_done(&c)) : child_done(&c));
	stuck_resolve(&self->s);
	/* This write is for the reader that has no bytes yet. */
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_LE(10, child_join(&self->s.c));
	child_kill(&c);
}

TEST_F_TIMEOUT(stuck, writer_behind_a_stuck_writer, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 0));
	ASSERT_TRUE(child_asleep(&self->s.c));
	child_write(&c, &self->e, FULL, PAGE);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(zpipe, zpipe ? eventually(child_done(&c)) : child_done(&c));
	stuck_resolve(&self->s);
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], PAGE, PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(PAGE, child_join(&self->s.c));
}

/* If the stuck reader is killed, the next reader goes on with any kind of pipe. */
TEST_F_TIMEOUT(stuck, reader_behind_a_killed_reader, TIMEOUT)
{
	struct child c;

	ASSERT_TRUE(stuck_reader(self, PAGE, 0));
	ASSERT_TRUE(child_asleep(&self->s.c));
	child_read(&c, &self->e, 10);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(10, child_join(&c));
}

TEST_F_TIMEOUT(stuck, writer_behind_a_killed_writer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 0));
	ASSERT_TRUE(child_asleep(&self->s.c));
	child_write(&c, &self->e, FULL, PAGE);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	EXPECT_EQ(PAGE, child_join(&c));
}

/*
 * The last reader closes its end while a writer is stuck: with zpipe the write then fails with
 * EPIPE.
 */
TEST_F_TIMEOUT(stuck, last_reader_leaves_a_stuck_writer, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	if (is_zpipe(variant->kind)) {
		close_end(&self->e, 0);
		EXPECT_EQ(POLLOUT | POLLERR, poll_mask(self->e.fd[1]));
	}
	stuck_resolve(&self->s);
	EXPECT_EQ(is_zpipe(variant->kind) ? -EPIPE : PAGE,
		  child_join(&self->s.c));
}

/* The last writer closes its end while a reader is stuck: the reader still gets the bytes. */
TEST_F_TIMEOUT(stuck, last_writer_leaves_a_stuck_reader, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_TRUE(stuck_reader(self, PAGE, 0));
	ASSERT_TRUE(stuck_is(&self->s));
	if (is_zpipe(variant->kind)) {
		close_end(&self->e, 1);
		EXPECT_EQ(POLLIN | POLLHUP, poll_mask(self->e.fd[0]));
	}
	stuck_resolve(&self->s);
	EXPECT_EQ(100, child_join(&self->s.c));
	EXPECT_EQ(-1, stream_diff(self->s.c.buf, 0, 100));
}

/* Two other processes transfer a mebibyte while a writer is stuck. */
TEST_F_TIMEOUT(stuck, megabyte_goes_past_a_stuck_writer, TIMEOUT)
{
	struct child c;
	long off, n;

	ASSERT_TRUE(stuck_writer(self, 0, PAGE, 200));
	ASSERT_TRUE(stuck_is(&self->s));
	child_write(&c, &self->e, 0, 1 << 20);
	for (off = 0; is_zpipe(variant->kind) && off < 1 << 20; off += n) {
		n = stream_read(self->e.fd[0], off, 1 << 17);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(is_zpipe(variant->kind) ? 1 << 20 : 0, off);
	stuck_resolve(&self->s);
	EXPECT_EQ(PAGE, child_join(&self->s.c));
	child_kill(&c);
}

TEST_HARNESS_MAIN
