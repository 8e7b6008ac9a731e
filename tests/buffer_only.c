// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffer-only pipes (ZPIPE_BUFFER_ONLY). All bytes go through slots, so
 * announced bytes can be read whatever the writer does.
 */
#include "direct.h"
#include "push.h"

/* The kernel's pipes, and zpipes that are buffer-only from the start. */
FIXTURE(only) {
	struct ends e;
};

FIXTURE_VARIANT(only) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(only, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(only, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(only, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(only, znode) { .kind = ZNODE };

static int open_only(struct ends *e)
{
	if (e->kind == ZPAIR)
		return sys(zpipe_pipe2(e->fd, ZPIPE_BUFFER_ONLY));
	return open_ends(e, 0) ?:
	       is_zpipe(e->kind) ? set_flags(e->fd[0], ZPIPE_BUFFER_ONLY) : 0;
}

/* Sets or clears the flag of a zpipe. Succeeds on the kernel's pipes, too. */
static long set_only(struct ends *e, bool on)
{
	return is_zpipe(e->kind) ?
	       set_flags(e->fd[0], on ? ZPIPE_BUFFER_ONLY : 0) : 0;
}

FIXTURE_SETUP(only)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_only(&self->e));
}

/* Checks that all bytes went through slots, and that nothing was posted. */
FIXTURE_TEARDOWN(only)
{
	static const char * const names[] = {
		"zpipe-posted-writes", "zpipe-posted-reads", "zpipe-pulls", "zpipe-pushes",
		"zpipe-bytes-pulled", "zpipe-bytes-pushed",
	};
	int fd = self->e.fd[0];
	size_t i;

	if (is_zpipe(variant->kind)) {
		for (i = 0; i < ARRAY_SIZE(names); i++)
			EXPECT_EQ(0, fdinfo_number(fd, names[i]));
		EXPECT_LT(0, fdinfo_number(fd, "zpipe-bytes-buffered"));
		EXPECT_EQ(fdinfo_number(fd, "zpipe-bytes-written"),
			  fdinfo_number(fd, "zpipe-bytes-buffered"));
	}
	ends_free(&self->e);
}

/*
 * A buffer-only pipe behaves like pipe(2) where other zpipes deviate for large
 * transfers.
 */

TEST_F_TIMEOUT(only, nonblocking_write_to_a_reader_that_waits, TIMEOUT)
{
	bool cut = copies_are_cut(variant->kind);
	struct child c;
	long w, r;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	w = stream_write(self->e.fd[1], 0, MIB);
	EXPECT_LE(cut ? PAGE : FULL, w);
	EXPECT_GE(cut ? MIB : FULL, w);
	r = child_join(&c);
	if (!cut)
		EXPECT_EQ(FULL, r);
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
	read_rest(_metadata, &self->e, r, w - r);
}

TEST_F_TIMEOUT(only, one_read_returns_what_the_pipe_holds, TIMEOUT)
{
	unsigned char *buf = own_memory(3 * MIB);
	struct child c;
	long n;

	child_write_private(&c, &self->e, 0, 3 * MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	n = sys(read(self->e.fd[0], buf, 3 * MIB));
	ASSERT_LT(0, n);
	if (!copies_are_cut(variant->kind))
		EXPECT_EQ(FULL, n);
	EXPECT_EQ(-1, stream_diff(buf, 0, n));
	EXPECT_EQ(3 * MIB - n, drain(self->e.fd[0], n, 3 * MIB - n, MIB));
	EXPECT_EQ(3 * MIB, child_join(&c));
}

static long child_do_drain(struct child *c)
{
	return drain(c->fd, 0, c->len, c->flags);
}

/* Starts a child that reads @total bytes, at most @size in a call. */
static void child_drain(struct child *c, struct ends *e, long total, long size)
{
	*c = (struct child) {
		.nr = SYS_read, .fn = child_do_drain, .fd = e->fd[0],
		.drop = e->fd[1], .len = total, .flags = size,
	};
	child_start(c, 0);
}

TEST_F_TIMEOUT(only, much_to_a_reader_that_waits, TIMEOUT)
{
	static const long sizes[] = { 5000, 200000, MIB };
	struct child c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		child_drain(&c, &self->e, 5 * MIB + 77, sizes[i]);
		ASSERT_TRUE(child_asleep(&c));
		EXPECT_EQ(5 * MIB + 77,
			  stream_write(self->e.fd[1], 0, 5 * MIB + 77));
		EXPECT_EQ(5 * MIB + 77, child_join(&c));
	}
}

TEST_F_TIMEOUT(only, signal_while_a_write_waits, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE + 1, stream_read(self->e.fd[0], 0, PAGE + 1));
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(FULL + PAGE, child_join(&c));
	read_rest(_metadata, &self->e, PAGE + 1, FULL - 1);
}

TEST_F_TIMEOUT(only, killed_writer_leaves_what_was_announced, TIMEOUT)
{
	static const long consumed[] = { 0, 100, PAGE, FULL + 1 };
	struct child c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(consumed); i++) {
		long rest = FULL - consumed[i] % PAGE;

		child_write_private(&c, &self->e, 0, MIB);
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(consumed[i], drain(self->e.fd[0], 0, consumed[i], PAGE));
		ASSERT_TRUE(child_asleep(&c));
		EXPECT_EQ(rest, fionread(self->e.fd[0]));
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
		read_rest(_metadata, &self->e, consumed[i], rest);
	}
}

/* The writer is killed in a fault of its fifth page. */
TEST_F_TIMEOUT(only, writer_that_is_killed_in_a_fault, TIMEOUT)
{
	struct stuck s = {
		.type = UFFD, .e = &self->e, .writes = true, .good = 4,
		.bad = 300, .len = 304 * PAGE,
	};

	stuck_start(&s);
	ASSERT_TRUE(stuck_is(&s));
	/* In pipe(2) FIONREAD waits until the fault has ended. */
	if (is_zpipe(variant->kind)) {
		EXPECT_EQ(4 * PAGE, fionread(self->e.fd[0]));
		EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	}
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&s.c));
	read_rest(_metadata, &self->e, 0, 4 * PAGE);
}

/* The flag is set while a write or read is posted. */

/* The state of the read end. */
struct seen {
	long fionread;
	long poll;
	long read;		/* result of a non-blocking read of a byte; 0 if not tried */
	bool ran;		/* the writer has run */
};

/*
 * Sets the flag while a write of a mebibyte is posted, behind @before bytes in
 * slots and after @consumed bytes were read of all. Returns the state of the
 * read end before the owner runs: only bytes in slots are announced.
 */
static struct seen set_and_look(struct __test_metadata *_metadata,
				struct ends *e, struct child *c, long before,
				long consumed)
{
	struct seen seen = {};
	long runs;

	ASSERT_EQ(0, set_only(e, false));
	if (before)
		ASSERT_EQ(before, stream_write(e->fd[1], 0, before));
	child_write_private(c, e, before, MIB);
	ASSERT_TRUE(child_asleep(c));
	if (consumed)
		ASSERT_EQ(consumed, drain(e->fd[0], 0, consumed, consumed));
	ASSERT_TRUE(child_asleep(c));
	ASSERT_EQ(0, set_nonblock(e->fd[0], true));
	hold_up(c);
	runs = task_runs(c->pid);
	ASSERT_EQ(0, set_only(e, true));
	seen.fionread = fionread(e->fd[0]);
	seen.poll = poll_mask(e->fd[0]);
	if (!seen.fionread)
		seen.read = stream_read(e->fd[0], consumed, 1);
	seen.ran = child_done(c) || task_runs(c->pid) != runs;
	let_go();
	ASSERT_EQ(0, set_nonblock(e->fd[0], false));
	return seen;
}

static void set_while_writing(struct __test_metadata *_metadata,
			      struct ends *e, long before, long consumed)
{
	long left = before > consumed ? before - consumed : 0, all = before + MIB;
	/* A slot that was read in part is not free. */
	long want = FULL - consumed % PAGE, posts, pulled;
	struct seen seen;
	struct child c;
	int i;

	for (i = 0; i < 10; i++) {
		seen = set_and_look(_metadata, e, &c, before, consumed);
		posts = fdinfo_number(e->fd[0], "zpipe-posted-writes");
		pulled = fdinfo_number(e->fd[0], "zpipe-bytes-pulled");
		EXPECT_TRUE(eventually(fionread(e->fd[0]) == want))
			TH_LOG("%ld bytes", fionread(e->fd[0]));
		EXPECT_EQ(POLLIN, poll_mask(e->fd[0]));
		EXPECT_EQ(0, poll_mask(e->fd[1]));
		EXPECT_EQ(all - consumed, drain(e->fd[0], consumed, all - consumed,
						100000));
		EXPECT_EQ(MIB, child_join(&c));
		EXPECT_EQ(posts, fdinfo_number(e->fd[0], "zpipe-posted-writes"));
		EXPECT_EQ(pulled, fdinfo_number(e->fd[0],
						"zpipe-bytes-pulled"));
		if (!seen.ran)
			break;
	}
	EXPECT_FALSE(seen.ran);
	if (!is_zpipe(e->kind)) {
		EXPECT_EQ(want, seen.fionread);
		return;
	}
	/* The write was posted before the flag was set. */
	EXPECT_LE(1, posts);
	EXPECT_EQ(left, seen.fionread);
	EXPECT_EQ(left ? POLLIN : 0, seen.poll);
	EXPECT_EQ(left ? 0 : -EAGAIN, seen.read);
}

TEST_F_TIMEOUT(all, set_while_a_write_waits, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 0, 0);
}

TEST_F_TIMEOUT(all, set_when_a_part_of_a_slot_was_read, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 0, 100);
}

TEST_F_TIMEOUT(all, set_when_a_slot_was_read, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 0, PAGE);
}

TEST_F_TIMEOUT(all, set_when_much_was_read, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 0, 3 * FULL + 5);
}

TEST_F_TIMEOUT(all, set_while_a_write_waits_behind_slots, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 3 * PAGE, 0);
}

TEST_F_TIMEOUT(all, set_when_a_part_of_the_slots_was_read, TIMEOUT)
{
	set_while_writing(_metadata, &self->e, 3 * PAGE, PAGE + 100);
}

TEST_F_TIMEOUT(all, set_while_a_reader_waits, TIMEOUT)
{
	bool cut = copies_are_cut(variant->kind);
	struct child c;
	long w, r;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	if (is_zpipe(variant->kind))
		EXPECT_EQ(1, fdinfo_number(self->e.fd[0], "zpipe-posted-reads"));
	ASSERT_EQ(0, set_only(&self->e, true));
	EXPECT_TRUE(child_stays_asleep(&c));
	w = stream_write(self->e.fd[1], 0, MIB);
	r = child_join(&c);
	if (!cut) {
		EXPECT_EQ(FULL, w);
		EXPECT_EQ(FULL, r);
	}
	ASSERT_LT(0, r);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
	EXPECT_EQ(0, pushed(&self->e));
	read_rest(_metadata, &self->e, r, w - r);
}

/* A pipe without the flag posts writes and reads again. */
TEST_F_TIMEOUT(all, cleared_again, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, set_only(&self->e, true));
	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_only(&self->e, false));
	/* The blocked writer goes on as before. */
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, 30000));
	EXPECT_EQ(MIB, child_join(&c));
	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, 30000));
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	child_read_private(&c, &self->e, MIB);
	feed(_metadata, &self->e, &c, MIB, MIB);
	EXPECT_TRUE(was_pushed(&self->e));
}

static long child_do_change(struct child *c)
{
	struct ends *e = c->arg;
	bool on = false;

	while (!set_only(e, on))
		on = !on;
	return -1;
}

static long child_do_much(struct child *c)
{
	return stream_write(c->fd, 0, c->len);
}

TEST_F_TIMEOUT(all, changed_all_the_time, TIMEOUT)
{
	static const long sizes[] = { 5000, 70000, MIB };
	struct child changer = {
		.fn = child_do_change, .arg = &self->e, .drop = -1, .nr = -2,
	};
	struct child c;
	size_t i;

	child_start(&changer, 0);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		c = (struct child) {
			.fn = child_do_much, .fd = self->e.fd[1],
			.drop = self->e.fd[0], .len = 8 * MIB, .nr = SYS_write,
		};
		child_start(&c, 0);
		EXPECT_EQ(8 * MIB, drain(self->e.fd[0], 0, 8 * MIB, sizes[i]));
		EXPECT_EQ(8 * MIB, child_join(&c));
	}
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&changer));
}

/*
 * The memory of a blocked writer is dropped, and its faults are not answered.
 */
FIXTURE(gone) {
	struct ends e;
	struct stuck s;
};

FIXTURE_VARIANT(gone) {
	enum kind kind;
	bool only;
};

FIXTURE_VARIANT_ADD(gone, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(gone, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(gone, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(gone, znode) { .kind = ZNODE };
FIXTURE_VARIANT_ADD(gone, zpair_only) { .kind = ZPAIR, .only = true };
FIXTURE_VARIANT_ADD(gone, znode_only) { .kind = ZNODE, .only = true };

FIXTURE_SETUP(gone)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, variant->only ? open_only(&self->e) :
				     open_ends(&self->e, 0));
	self->s = (struct stuck) {
		.type = UFFD, .e = &self->e, .writes = true, .later = true,
		.bad = MIB / PAGE, .len = MIB,
	};
	stuck_start(&self->s);
	ASSERT_TRUE(stuck_ready(&self->s));
	ASSERT_TRUE(child_asleep(&self->s.c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	ASSERT_TRUE(stuck_take_away(&self->s));
}

FIXTURE_TEARDOWN(gone)
{
	if (self->s.c.pid > 0)
		child_kill(&self->s.c);
	ends_free(&self->e);
}

/*
 * DEVIATION: unless the pipe is buffer-only, bytes that were announced may have
 * to be faulted in by the owner. A blocking read waits for that.
 */
TEST_F_TIMEOUT(gone, blocking_read_of_what_was_announced, TIMEOUT)
{
	struct child c;

	child_drain(&c, &self->e, FULL, FULL);
	if (is_zpipe(variant->kind) && !variant->only) {
		ASSERT_TRUE(stuck_is(&self->s));
		EXPECT_TRUE(child_asleep(&c));
		EXPECT_TRUE(child_stays_asleep(&c));
		stuck_resolve(&self->s);
	}
	EXPECT_EQ(FULL, child_join(&c));
	stuck_resolve(&self->s);
	EXPECT_EQ(MIB - FULL, drain(self->e.fd[0], FULL, MIB - FULL, FULL));
	EXPECT_EQ(MIB, child_join(&self->s.c));
}

/*
 * DEVIATION: unless the pipe is buffer-only, bytes that were announced are lost
 * if the owner is killed before it has put them into slots.
 */
TEST_F_TIMEOUT(gone, writer_that_is_killed, TIMEOUT)
{
	bool lost = is_zpipe(variant->kind) && !variant->only;

	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&self->s.c));
	read_rest(_metadata, &self->e, 0, lost ? 0 : FULL);
}

/*
 * The flag is set after the memory has gone: only bytes in slots stay
 * announced.
 */
TEST_F_TIMEOUT(gone, flag_is_set_after_the_memory_is_gone, TIMEOUT)
{
	if (!is_zpipe(variant->kind) || variant->only) {
		EXPECT_EQ(FULL, drain(self->e.fd[0], 0, FULL, FULL));
		return;
	}
	ASSERT_EQ(0, set_only(&self->e, true));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	ASSERT_TRUE(stuck_is(&self->s));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
	/* Other writers can write meanwhile. */
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 100));
	stuck_resolve(&self->s);
	EXPECT_TRUE(eventually(fionread(self->e.fd[0]) == FULL));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, FULL));
	EXPECT_EQ(MIB, child_join(&self->s.c));
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-bytes-pulled"));
}

TEST_HARNESS_MAIN
