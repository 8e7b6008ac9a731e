// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large blocked writes, continued from direct.c: how they end, other writers of
 * the same pipe, and memory that writers and readers share.
 */
#include "oracle.h"
#include "direct.h"

/* A blocked write ends early. */

/*
 * Starts a writer of a mebibyte and reads @consumed bytes of it. The writer
 * stays blocked.
 */
static void write_partly_read(struct __test_metadata *_metadata,
			      struct child *c, struct ends *e, long consumed)
{
	child_write_private(c, e, 0, MIB);
	ASSERT_TRUE(child_asleep(c));
	if (consumed)
		ASSERT_EQ(consumed, stream_read(e->fd[0], 0, consumed));
	ASSERT_TRUE(child_asleep(c));
}

/*
 * A signal interrupts the write after @consumed bytes were read. The write has
 * to return @want.
 */
static void interrupt_after(struct __test_metadata *_metadata, struct ends *e,
			    long consumed, long want)
{
	struct child c;

	catch_signal(SIGUSR1, 0);
	write_partly_read(_metadata, &c, e, consumed);
	EXPECT_EQ(want - consumed, fionread(e->fd[0]));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(want, child_join(&c));
	EXPECT_EQ(want - consumed, fionread(e->fd[0]));
	EXPECT_EQ(want - consumed, drain(e->fd[0], consumed, want - consumed, MIB));
	EXPECT_EQ(0, poll_mask(e->fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(e->fd[1]));
	if (consumed)
		EXPECT_TRUE(was_direct(e));
}

TEST_F_TIMEOUT(all, signal_before_anything_is_read, TIMEOUT)
{
	interrupt_after(_metadata, &self->e, 0, FULL);
}

TEST_F_TIMEOUT(all, signal_in_the_first_slot, TIMEOUT)
{
	interrupt_after(_metadata, &self->e, 100, FULL);
}

TEST_F_TIMEOUT(all, signal_after_a_slot, TIMEOUT)
{
	interrupt_after(_metadata, &self->e, PAGE, FULL + PAGE);
}

TEST_F_TIMEOUT(all, signal_in_the_second_slot, TIMEOUT)
{
	interrupt_after(_metadata, &self->e, PAGE + 1, FULL + PAGE);
}

TEST_F_TIMEOUT(all, signal_after_a_pipeful, TIMEOUT)
{
	interrupt_after(_metadata, &self->e, FULL, 2 * FULL);
}

/* A signal with SA_RESTART does not restart a write that has written bytes. */
TEST_F_TIMEOUT(all, signal_does_not_restart_a_begun_write, TIMEOUT)
{
	struct child c;

	catch_signal(SIGUSR1, SA_RESTART);
	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(5000, stream_read(self->e.fd[0], 0, 5000));
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(FULL + PAGE, child_join(&c));
}

/*
 * DEVIATION: a read may return more than the pipe holds, as if the writer had
 * refilled the pipe during the read.
 */
TEST_F_TIMEOUT(all, one_read_returns_more_than_the_pipe_holds, TIMEOUT)
{
	unsigned char *buf = own_memory(3 * MIB);
	struct child c;
	long n;

	child_write_private(&c, &self->e, 0, 3 * MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	n = read(self->e.fd[0], buf, 3 * MIB);
	EXPECT_LT(0, n);
	if (!copies_are_cut(variant->kind))
		EXPECT_EQ(is_zpipe(variant->kind) ? DIRECT_MAX : FULL, n);
	EXPECT_EQ(-1, stream_diff(buf, 0, n));
	EXPECT_EQ(3 * MIB - n, drain(self->e.fd[0], n, 3 * MIB - n, MIB));
	EXPECT_EQ(3 * MIB, child_join(&c));
}

/*
 * Each read pulls all that is posted before the writer can run and post more.
 */
TEST_F_TIMEOUT(all, reader_pulls_before_the_writer_runs, TIMEOUT)
{
	const size_t len = 20 * MIB;
	struct child c;

	run_first();
	child_write_private(&c, &self->e, 0, len);
	EXPECT_EQ(len, drain(self->e.fd[0], 0, len, MIB));
	EXPECT_EQ(len, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
}

/*
 * DEVIATION: of two large blocked writes zpipe posts one. Readers get all of
 * it, or its share, before bytes of the other one.
 */
TEST_F_TIMEOUT(all, large_writers_wait_for_each_other, TIMEOUT)
{
	struct child a, b;

	child_write_private(&a, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&a));
	child_write_private(&b, &self->e, 5 * MIB, MIB);
	ASSERT_TRUE(child_asleep(&b));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	if (is_zpipe(variant->kind)) {
		EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, 50000));
		EXPECT_EQ(MIB, drain(self->e.fd[0], 5 * MIB, MIB, 50000));
	} else {
		unsigned char *buf = own_memory(FULL);
		long left = 2 * MIB;

		while (left > 0) {
			long n = read(self->e.fd[0], buf, FULL);

			ASSERT_LT(0, n);
			left -= n;
		}
	}
	EXPECT_EQ(MIB, child_join(&a));
	EXPECT_EQ(MIB, child_join(&b));
}

TEST_F_TIMEOUT(all, stop_and_continue, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(100, stream_read(self->e.fd[0], 0, 100));
	child_signal(&c, SIGSTOP);
	ASSERT_TRUE(eventually(task_state(c.pid) == 'T'));
	EXPECT_EQ(FULL - 100, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL - 100, stream_read(self->e.fd[0], 100, FULL - 100));
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	child_signal(&c, SIGCONT);
	EXPECT_EQ(FULL, child_join(&c));
}

TEST_F_TIMEOUT(all, killed_writer_leaves_what_it_announced, TIMEOUT)
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
		EXPECT_EQ(rest, fionread(self->e.fd[0]));
		EXPECT_EQ(rest, drain(self->e.fd[0], consumed[i], rest, MIB));
	}
	close_end(&self->e, 1);
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
	EXPECT_TRUE(was_direct(&self->e));
}

/*
 * The last reader closes its end after @consumed bytes were read. The write has
 * to return @want.
 */
static void leave_after(struct __test_metadata *_metadata, struct ends *e,
			long consumed, long want)
{
	struct child c;

	catch_signal(SIGPIPE, 0);
	write_partly_read(_metadata, &c, e, consumed);
	close_end(e, 0);
	EXPECT_EQ(want, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
}

TEST_F_TIMEOUT(all, last_reader_leaves_at_once, TIMEOUT)
{
	leave_after(_metadata, &self->e, 0, FULL);
}

TEST_F_TIMEOUT(all, last_reader_leaves_half_way, TIMEOUT)
{
	leave_after(_metadata, &self->e, PAGE + 100, FULL + PAGE);
}

TEST_F_TIMEOUT(named, next_reader_reads_the_rest, TIMEOUT)
{
	struct ends *e = &self->e;

	ASSERT_EQ(0, open_ends(e, 0));
	leave_after(_metadata, e, PAGE + 100, FULL + PAGE);
	EXPECT_EQ(POLLERR, poll_mask(e->fd[1]));
	e->fd[0] = open(e->path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, e->fd[0]);
	EXPECT_EQ(0, poll_mask(e->fd[1]));
	EXPECT_EQ(FULL - 100, fionread(e->fd[0]));
	EXPECT_EQ(FULL - 100, stream_read(e->fd[0], PAGE + 100, MIB));
	EXPECT_EQ(-EAGAIN, stream_read(e->fd[0], 0, 1));
}

/*
 * The file description becomes non-blocking during the write. The write returns
 * when a slot is free.
 */
TEST_F_TIMEOUT(all, turns_nonblocking_half_way, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(FULL + PAGE, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], PAGE, MIB));
}

/* When a write returns. */

TEST_F_TIMEOUT(all, returns_when_the_rest_fits, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(FULL - 1, stream_read(self->e.fd[0], FULL, FULL - 1));
	EXPECT_TRUE(child_stays_asleep(&c));
	ASSERT_EQ(1, stream_read(self->e.fd[0], 2 * FULL - 1, 1));
	EXPECT_EQ(3 * FULL, child_join(&c));
	EXPECT_EQ(FULL, fionread(self->e.fd[0]));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 2 * FULL, FULL));
	EXPECT_TRUE(was_direct(&self->e));
}

/*
 * The peer reads a part of a request and answers. The writer sends more only
 * after it has got the answer.
 */
struct talk {
	struct ends to;
	struct ends from;
};

static long child_do_talk(struct child *c)
{
	struct talk *t = c->arg;
	char answer[10];
	int i;

	for (i = 0; i < 3; i++) {
		if (write(t->to.fd[1], c->buf, 3 * FULL) != 3 * FULL)
			return -2;
		if (read(t->from.fd[0], answer, 10) != 10)
			return -3;
		if (write(t->to.fd[1], c->buf + 3 * FULL, 10) != 10)
			return -4;
	}
	return 0;
}

TEST_F_TIMEOUT(all, half_a_request_is_answered, TIMEOUT)
{
	struct talk t = { .to = self->e };
	struct child c = {
		.fn = child_do_talk, .arg = &t, .drop = -1,
		.buf = own_memory(3 * FULL + 10),
	};
	int i;

	ASSERT_EQ(0, ends_make(&t.from, variant->kind));
	ASSERT_EQ(0, open_ends(&t.from, 0));
	stream_fill(c.buf, 0, 3 * FULL + 10);
	child_start(&c, 0);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(2 * FULL, drain(t.to.fd[0], 0, 2 * FULL, FULL));
		EXPECT_EQ(10, stream_write(t.from.fd[1], 0, 10));
		EXPECT_EQ(FULL + 10, drain(t.to.fd[0], 2 * FULL, FULL + 10,
					   FULL));
	}
	EXPECT_EQ(0, child_join(&c));
	EXPECT_TRUE(was_direct(&t.to));
	ends_free(&t.from);
}

/* The capacity changes while a write is blocked. */

TEST_F_TIMEOUT(all, shrink_is_refused, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0], FULL / 2));
	ASSERT_EQ(PAGE + 1, stream_read(self->e.fd[0], 0, PAGE + 1));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0], FULL / 2));
	EXPECT_EQ(FULL, set_capacity(variant->kind, self->e.fd[0], FULL));
	EXPECT_EQ(FULL - 1, fionread(self->e.fd[0]));
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

TEST_F_TIMEOUT(all, growth_that_suffices, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, 3 * FULL + 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(150, stream_read(self->e.fd[0], 0, 150));
	ASSERT_EQ(4 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 4 * FULL));
	EXPECT_EQ(3 * FULL + 100, child_join(&c));
	EXPECT_EQ(3 * FULL - 50, fionread(self->e.fd[0]));
	EXPECT_EQ(3 * FULL - 50, stream_read(self->e.fd[0], 150, MIB));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, growth_that_does_not_suffice, TIMEOUT)
{
	struct child c;

	child_write_private(&c, &self->e, 0, 3 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(150, stream_read(self->e.fd[0], 0, 150));
	ASSERT_EQ(2 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 2 * FULL));
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_TRUE(child_stays_asleep(&c));
	EXPECT_EQ(2 * FULL - 150, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(2 * FULL - 150, drain(self->e.fd[0], 150, 2 * FULL - 150,
					2 * FULL));
	EXPECT_EQ(3 * FULL, child_join(&c));
	EXPECT_EQ(FULL, stream_read(self->e.fd[0], 2 * FULL, FULL));
}

/* Writers and readers that share memory. */

struct thread_write {
	int fd;
	unsigned char *buf;
	size_t len;
	long ret;
	pthread_t thread;
};

static void *thread_do_write(void *arg)
{
	struct thread_write *w = arg;

	w->ret = sys(write(w->fd, w->buf, w->len));
	return NULL;
}

static void thread_write(struct thread_write *w, struct ends *e, size_t len)
{
	*w = (struct thread_write) {
		.fd = e->fd[1], .buf = own_memory(len), .len = len,
	};
	stream_fill(w->buf, 0, len);
	pthread_create(&w->thread, NULL, thread_do_write, w);
}

TEST_F_TIMEOUT(all, threads_of_one_process, TIMEOUT)
{
	struct thread_write w;

	thread_write(&w, &self->e, 2 * MIB);
	EXPECT_EQ(2 * MIB, drain(self->e.fd[0], 0, 2 * MIB, 100000));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(2 * MIB, w.ret);
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_F_TIMEOUT(all, threads_with_nonblocking_reads, TIMEOUT)
{
	struct pollfd p = { .fd = self->e.fd[0], .events = POLLIN };
	struct thread_write w;
	long off = 0, n;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	thread_write(&w, &self->e, 2 * MIB);
	while (off < 2 * MIB) {
		n = stream_read(self->e.fd[0], off, 20000);
		if (n == -EAGAIN) {
			ASSERT_EQ(1, poll(&p, 1, EVENT_MS));
			continue;
		}
		ASSERT_LT(0, n);
		off += n;
	}
	pthread_join(w.thread, NULL);
	EXPECT_EQ(2 * MIB, w.ret);
	EXPECT_TRUE(was_direct(&self->e));
}

/* The reader's buffer is the writer's buffer. */
TEST_F_TIMEOUT(all, reader_overwrites_the_source, TIMEOUT)
{
	struct thread_write w;
	long off = 0, n;

	thread_write(&w, &self->e, MIB);
	for (; off < MIB; off += n) {
		n = sys(read(self->e.fd[0], w.buf + off, 30000));
		ASSERT_LT(0, n);
	}
	pthread_join(w.thread, NULL);
	EXPECT_EQ(MIB, w.ret);
	EXPECT_EQ(-1, stream_diff(w.buf, 0, MIB));
	EXPECT_TRUE(was_direct(&self->e));
}

static long child_do_drain(struct child *c)
{
	return drain(c->fd, 0, c->len, 50000);
}

TEST_F_TIMEOUT(all, vfork_child_writes, TIMEOUT)
{
	struct child r = {
		.fn = child_do_drain, .fd = self->e.fd[0], .len = MIB,
		.drop = self->e.fd[1],
	};
	unsigned char *buf = own_memory(MIB);
	int status;
	pid_t pid;

	stream_fill(buf, 0, MIB);
	child_start(&r, 0);
	pid = vfork();
	if (!pid)
		_exit(write(self->e.fd[1], buf, MIB) != MIB);
	ASSERT_LT(0, pid);
	EXPECT_EQ(MIB, child_join(&r));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(was_direct(&self->e));
}

static void child_fill(struct child *c, struct ends *e, int byte, size_t len)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = child_do_write,
		.fd = e->fd[1], .drop = e->fd[0],
		.len = len, .buf = own_memory(len),
	};
	memset(c->buf, byte, len);
	child_start(c, 0);
}

TEST_F_TIMEOUT(all, small_write_beside_large_ones, TIMEOUT)
{
	unsigned char *buf = own_memory(2 * MIB + 10);
	long counts[256] = {};
	struct child a, b, s;
	long done, n, i;
	void *at;

	child_fill(&a, &self->e, 'a', MIB);
	ASSERT_TRUE(child_asleep(&a));
	child_fill(&b, &self->e, 'b', MIB);
	ASSERT_TRUE(child_asleep(&b));
	child_fill(&s, &self->e, 's', 10);
	ASSERT_TRUE(child_asleep(&s));
	for (done = 0; done < 2 * MIB + 10; done += n) {
		n = sys(read(self->e.fd[0], buf + done, 10000));
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(10, child_join(&s));
	EXPECT_EQ(MIB, child_join(&a));
	EXPECT_EQ(MIB, child_join(&b));
	for (i = 0; i < done; i++)
		counts[buf[i]]++;
	EXPECT_EQ(MIB, counts['a']);
	EXPECT_EQ(MIB, counts['b']);
	EXPECT_EQ(10, counts['s']);
	at = memchr(buf, 's', done);
	ASSERT_NE(NULL, at);
	EXPECT_EQ(0, memcmp(at, "ssssssssss", 10));
	EXPECT_TRUE(was_direct(&self->e));
}

TEST_HARNESS_MAIN
