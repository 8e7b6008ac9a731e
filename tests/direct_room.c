// SPDX-License-Identifier: GPL-2.0-only
/*
 * Free slots for other writers beside a large blocked write. Once readers have
 * pulled everything that is posted, the pipe is empty and others can write. The
 * owner need not run for that. When the owner withdraws, it may leave slots
 * free. Then every writer that waits for free slots is notified, however it
 * waits.
 */
#include "direct.h"
#include "words.h"

#define LARGE		0		/* the large writer, which is held up */
#define OTHER		1		/* the writer that waits for a free slot */
#define TESTER		2

/* How the other writer waits for a free slot. */
enum way {
	BLOCKING,
	POLLING,
	EDGES,			/* EPOLLET */
	SIGNALS,		/* SIGIO */
};

struct other {
	struct ends *e;
	enum way how;
	int *tries;		/* the number of writes that got EAGAIN; shared */
};

static bool refused(struct other *o, int fd, const void *buf, long *ret)
{
	*ret = sys(write(fd, buf, PAGE));
	if (*ret != -EAGAIN)
		return false;
	__atomic_add_fetch(o->tries, 1, __ATOMIC_SEQ_CST);
	return true;
}

/* Writes a page once the pipe has a free slot. */
static long other_run(struct child *c)
{
	struct other *o = c->arg;
	int fd = open_nonblocking_writer(o->e);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int ep = watch(fd, EPOLLOUT | EPOLLET);
	unsigned char buf[PAGE];
	struct epoll_event ev;
	sigset_t set;
	long ret = 0;
	int sig;

	close(o->e->fd[0]);
	words_fill(buf, OTHER, 0, PAGE);
	if (o->how == BLOCKING)
		return write(c->fd, buf, PAGE);
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (o->how == SIGNALS && (fcntl(fd, F_SETOWN, getpid()) ||
				  fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC)))
		return -1;
	while (refused(o, fd, buf, &ret)) {
		if (o->how == POLLING)
			poll(&p, 1, -1);
		else if (o->how == EDGES)
			epoll_wait(ep, &ev, 1, -1);
		else
			sigwait(&set, &sig);
	}
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static const long call_of[] = {
	[BLOCKING] = SYS_write, [POLLING] = SYS_poll, [EDGES] = SYS_epoll_wait,
	[SIGNALS] = SYS_rt_sigtimedwait,
};

/*
 * A large writer that is held up, and the other writer; both wait for free
 * slots.
 */
struct scene {
	struct ends *e;
	struct child large;
	struct child c;
	struct other o;
	struct words w;
	unsigned char *buf;
	long runs;
};

static void scene_start(struct __test_metadata *_metadata, struct scene *s,
			struct ends *e, enum way how, long len)
{
	*s = (struct scene) {
		.e = e, .buf = own_memory(len),
		.o = { .e = e, .how = how, .tries = shared_alloc(sizeof(int)) },
		.large = {
			.nr = SYS_write, .fn = child_do_write, .fd = e->fd[1],
			.drop = e->fd[0], .len = len, .buf = own_memory(len),
		},
		.c = {
			.nr = call_of[how], .fn = other_run, .arg = &s->o,
			.fd = e->fd[1], .drop = -1,
		},
	};
	words_fill(s->large.buf, LARGE, 0, len);
	child_start(&s->large, 0);
	ASSERT_TRUE(child_asleep(&s->large));
	child_start(&s->c, 0);
	ASSERT_TRUE(child_asleep(&s->c));
}

static void scene_hold(struct scene *s)
{
	run_beside(&s->c);
	hold_up(&s->large);
	s->runs = task_runs(s->large.pid);
}

/* True if the large writer has run since scene_hold(). */
static bool scene_ran(struct scene *s)
{
	return child_done(&s->large) || task_runs(s->large.pid) != s->runs;
}

/* Reads until @len bytes are read or the pipe is empty. */
static void scene_drain(struct __test_metadata *_metadata, struct scene *s,
			long len)
{
	long n;

	while (len && fionread(s->e->fd[0]) > 0) {
		n = words_read(&s->w, s->e->fd[0], s->buf, len);
		ASSERT_LT(0, n);
		len -= n;
	}
}

/*
 * Lets the large writer run. Checks that all bytes of both writers and of the
 * tester arrive.
 */
static void scene_end(struct __test_metadata *_metadata, struct scene *s,
		      long tester)
{
	long len = s->large.len, all = len + PAGE + tester, n;

	let_go();
	while (s->w.got[LARGE] + s->w.got[OTHER] + s->w.got[TESTER] <
	       all / WORD) {
		n = words_read(&s->w, s->e->fd[0], s->buf, len);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(len, words_bytes(&s->w, LARGE));
	EXPECT_EQ(PAGE, words_bytes(&s->w, OTHER));
	EXPECT_EQ(tester, words_bytes(&s->w, TESTER));
	EXPECT_EQ(len, child_join(&s->large));
	EXPECT_EQ(PAGE, child_join(&s->c));
	EXPECT_EQ(0, fionread(s->e->fd[0]));
	EXPECT_TRUE(was_direct(s->e));
	munmap(s->buf, len);
	munmap(s->large.buf, len);
}

/*
 * The pipe is drained and has free slots at once. Only in pipe(2) does a
 * blocked writer in the queue behind the large one have to wait for that one.
 */
static bool drained(struct __test_metadata *_metadata, struct ends *e,
		    enum way how)
{
	bool alone = how != BLOCKING || is_zpipe(e->kind), in_time;
	int fd = open_nonblocking_writer(e);
	unsigned char buf[PAGE];
	struct scene s;

	words_fill(buf, TESTER, 0, PAGE);
	scene_start(_metadata, &s, e, how, MIB);
	scene_hold(&s);
	scene_drain(_metadata, &s, MIB);
	ASSERT_EQ(POLLOUT, poll_mask(fd));
	ASSERT_EQ(PAGE, sys(write(fd, buf, PAGE)));
	in_time = (!alone || soon(child_done(&s.c))) && !scene_ran(&s);
	scene_end(_metadata, &s, PAGE);
	close(fd);
	return in_time;
}

/*
 * The rest of the large write fits into the slots. So its owner withdraws it,
 * and leaves slots free. In pipe(2) the other writer may have written before.
 */
static bool rest_fits(struct __test_metadata *_metadata, struct ends *e,
		      enum way how)
{
	struct scene s;
	bool ran;

	scene_start(_metadata, &s, e, how, 3 * FULL);
	scene_drain(_metadata, &s, FULL);
	ASSERT_TRUE(child_asleep(&s.large));
	if (!child_asleep(&s.c))
		ASSERT_TRUE(child_done(&s.c));
	scene_hold(&s);
	/* In pipe(2) only FULL bytes of these are there. */
	scene_drain(_metadata, &s, FULL + 12 * PAGE);
	/* A writer that was woken too early has got EAGAIN again by now. */
	soon(child_done(&s.c) || task_syscall(s.c.pid) == call_of[how]);
	ran = scene_ran(&s);
	let_go();
	ASSERT_TRUE(eventually(child_done(&s.c)))
		TH_LOG("refused %d times", *s.o.tries);
	scene_end(_metadata, &s, 0);
	return !ran;
}

/*
 * A small write is merged into the last slot, though no slot is free and a
 * large write is posted. The bytes of the posted write follow behind it.
 */
TEST_F_TIMEOUT(all, merge_into_the_last_slot, TIMEOUT)
{
	long first = FULL - PAGE, odd = first + 100, all = odd + 50 + MIB;
	int fd = open_nonblocking_writer(&self->e);
	struct child c;

	ASSERT_EQ(first, stream_write(self->e.fd[1], 0, first));
	ASSERT_EQ(100, stream_write(self->e.fd[1], first, 100));
	child_write_private(&c, &self->e, odd + 50, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(0, poll_mask(fd));
	EXPECT_EQ(50, stream_write(fd, odd, 50));
	EXPECT_EQ(-EAGAIN, stream_write(fd, 0, PAGE));
	EXPECT_EQ(odd + 50, fionread(self->e.fd[0]));
	EXPECT_EQ(all, drain(self->e.fd[0], 0, all, FULL));
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(was_direct(&self->e));
	close(fd);
}

static long write_until_signalled(struct child *c)
{
	catch_signal(SIGUSR1, 0);
	return write(c->fd, c->buf, c->len);
}

/*
 * A signal interrupts the owner of a posted write. At no moment may FIONREAD
 * count less than was announced.
 */
TEST_F_TIMEOUT(all, signal_keeps_all_that_was_announced, TIMEOUT)
{
	struct child c = {
		.nr = SYS_write, .fn = write_until_signalled,
		.fd = self->e.fd[1], .drop = self->e.fd[0],
		.len = 8 * MIB, .buf = own_memory(8 * MIB),
	};
	long lowest, n;
	int i;

	stream_fill(c.buf, 0, c.len);
	ASSERT_EQ(MIB, set_capacity(self->e.kind, self->e.fd[0], MIB));
	for (i = 0; i < 10; i++) {
		lowest = MIB;
		child_start(&c, 0);
		ASSERT_TRUE(child_asleep(&c));
		run_beside(&c);
		ASSERT_EQ(MIB, fionread(self->e.fd[0]));
		child_signal(&c, SIGUSR1);
		do {
			n = fionread(self->e.fd[0]);
			lowest = n < lowest ? n : lowest;
		} while (!child_done(&c));
		/*
		 * Not with cut copies: then the owner has to fault its memory
		 * in first.
		 */
		if (!copies_are_cut(self->e.kind))
			EXPECT_EQ(MIB, lowest);
		EXPECT_EQ(MIB, child_join(&c));
		ASSERT_EQ(MIB, drain(self->e.fd[0], 0, MIB, MIB));
	}
	munmap(c.buf, c.len);
	if (is_zpipe(self->e.kind))
		EXPECT_LT(0, fdinfo_number(self->e.fd[0], "zpipe-posted-writes"));
}

TEST_F_TIMEOUT(all, drained_pipe_wakes_a_blocked_writer, TIMEOUT)
{
	EXPECT_TRUE(held_up(drained(_metadata, &self->e, BLOCKING)));
}

TEST_F_TIMEOUT(all, drained_pipe_wakes_a_poller, TIMEOUT)
{
	EXPECT_TRUE(held_up(drained(_metadata, &self->e, POLLING)));
}

TEST_F_TIMEOUT(all, drained_pipe_is_an_edge, TIMEOUT)
{
	EXPECT_TRUE(held_up(drained(_metadata, &self->e, EDGES)));
}

TEST_F_TIMEOUT(all, drained_pipe_sends_sigio, TIMEOUT)
{
	EXPECT_TRUE(held_up(drained(_metadata, &self->e, SIGNALS)));
}

TEST_F_TIMEOUT(all, free_slots_beside_the_rest_wake_a_blocked_writer, TIMEOUT)
{
	EXPECT_TRUE(held_up(rest_fits(_metadata, &self->e, BLOCKING)));
}

TEST_F_TIMEOUT(all, free_slots_beside_the_rest_wake_a_poller, TIMEOUT)
{
	EXPECT_TRUE(held_up(rest_fits(_metadata, &self->e, POLLING)));
}

TEST_F_TIMEOUT(all, free_slots_beside_the_rest_are_an_edge, TIMEOUT)
{
	EXPECT_TRUE(held_up(rest_fits(_metadata, &self->e, EDGES)));
}

TEST_F_TIMEOUT(all, free_slots_beside_the_rest_send_sigio, TIMEOUT)
{
	EXPECT_TRUE(held_up(rest_fits(_metadata, &self->e, SIGNALS)));
}

TEST_HARNESS_MAIN
