// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many events there are for those who watch a large write that waits: one
 * for each time that the writer would have refilled the pipe, and none for a
 * read that could take nothing of the writer's memory.
 */
#include "direct.h"

#define STEPS		40

/* Each signal is queued, and counted when it is taken from the queue. */
static int async_on(int fd)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (fcntl(fd, F_SETOWN, getpid()) || fcntl(fd, F_SETSIG, SIGRTMIN) ||
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC))
		return -errno;
	return 0;
}

static int async_count(void)
{
	struct timespec now = {};
	sigset_t set;
	int n = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (sigtimedwait(&set, NULL, &now) > 0)
		n++;
	return n;
}

/* What another thread of the writer does to the memory that it waits with. */
enum trouble {
	NO_TROUBLE,
	AWAY,			/* the next page is unmapped before each read */
	BUSY,			/* its address space is always being changed */
};

struct troubled {
	struct ends *e;
	enum trouble trouble;
	struct {
		int at;		/* the page to be unmapped, counted from 1 */
		int done;
	} *shared;
	unsigned char *p;
};

static void *make_trouble(void *arg)
{
	struct troubled *t = arg;
	size_t len = 64 * MIB;
	unsigned char *other = NULL;
	int at, done = 0;

	/* To map this beside the write would be trouble, too. */
	if (t->trouble == BUSY)
		other = own_memory(len);
	for (;;) {
		if (t->trouble == BUSY) {
			mprotect(other, len, done++ & 1 ? PROT_READ :
				 PROT_READ | PROT_WRITE);
			__atomic_store_n(&t->shared->done, done,
					 __ATOMIC_SEQ_CST);
			continue;
		}
		at = __atomic_load_n(&t->shared->at, __ATOMIC_SEQ_CST);
		if (at == done) {
			usleep(100);
			continue;
		}
		/* What it is a mapping of stays. */
		madvise(t->p + (at - 1) * PAGE, PAGE, MADV_DONTNEED);
		done = at;
		__atomic_store_n(&t->shared->done, done, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* How often it has. */
static int done_by(struct troubled *t)
{
	return __atomic_load_n(&t->shared->done, __ATOMIC_SEQ_CST);
}

static long troubled_run(struct child *c)
{
	struct troubled *t = c->arg;
	int fd = memfd_create("zpipe-test", MFD_CLOEXEC);
	pthread_t thread;

	close(t->e->fd[0]);
	if (fd < 0 || ftruncate(fd, c->len))
		return -1;
	t->p = mmap(NULL, c->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t->p == MAP_FAILED)
		return -1;
	stream_fill(t->p, 0, c->len);
	if (t->trouble != NO_TROUBLE &&
	    pthread_create(&thread, NULL, make_trouble, t))
		return -1;
	return write(t->e->fd[1], t->p, c->len);
}

/*
 * Reads a page at a time while the writer waits, and counts: each is a refill.
 *
 * Where a read met trouble zpipe has called the writer back, which buffers what
 * nobody could take: that there is something to read again is an event, and the
 * wait that follows is one. How often the reader has tried is not.
 */
static void count_signals(struct __test_metadata *_metadata, struct ends *e,
			  enum trouble trouble, const char *miss)
{
	struct troubled t = {
		.e = e, .trouble = trouble,
		.shared = shared_alloc(sizeof(*t.shared)),
	};
	struct child c = {
		.nr = SYS_write, .fn = troubled_run, .arg = &t, .drop = -1,
		.len = MIB,
	};
	bool cut = copies_are_cut(e->kind);
	long before, misses, offers;
	int i, n, extra = 0;

	ASSERT_EQ(0, async_on(e->fd[0]));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	if (trouble == BUSY)
		ASSERT_TRUE(eventually(done_by(&t) > 1));
	n = async_count();
	EXPECT_LE(1, n);
	/* A write is an event for each part of it that can be read. */
	if (!cut)
		EXPECT_EQ(1, n);
	before = fdinfo_number(e->fd[0], miss);
	for (i = 0; i < STEPS; i++) {
		if (trouble == AWAY) {
			__atomic_store_n(&t.shared->at, i + 1,
					 __ATOMIC_SEQ_CST);
			ASSERT_TRUE(eventually(done_by(&t) == i + 1));
		}
		ASSERT_EQ(PAGE, stream_read(e->fd[0], i * PAGE, PAGE));
		ASSERT_TRUE(child_asleep(&c));
		n = async_count();
		EXPECT_LE(1, n);
		extra += n - 1;
	}
	misses = fdinfo_number(e->fd[0], miss) - before;
	if (is_zpipe(e->kind) && trouble != NO_TROUBLE) {
		EXPECT_LT(0, misses);
		offers = fdinfo_number(e->fd[0], "zpipe-offers");
		if (!cut)
			EXPECT_GE(2 * offers, extra)
				TH_LOG("%ld misses, %ld offers", misses, offers);
	} else if (!cut) {
		EXPECT_EQ(0, extra);
	}
	child_kill(&c);
}

TEST_F_TIMEOUT(all, signals_of_refills, TIMEOUT)
{
	count_signals(_metadata, &self->e, NO_TROUBLE, "zpipe-pull-misses-page");
}

TEST_F_TIMEOUT(all, signals_of_refills_from_memory_that_has_gone, TIMEOUT)
{
	count_signals(_metadata, &self->e, AWAY, "zpipe-pull-misses-page");
}

TEST_F_TIMEOUT(all, signals_of_refills_from_memory_that_is_busy, TIMEOUT)
{
	count_signals(_metadata, &self->e, BUSY, "zpipe-pull-misses-busy");
}

/*
 * A read that gets nothing, since the memory has gone, is not an event itself.
 * But when there is something to read again, that is one. False if the writer
 * had a processor all the same.
 */
static bool read_in_vain(struct __test_metadata *_metadata, struct ends *e)
{
	int ep = watch(e->fd[0], EPOLLIN | EPOLLET);
	struct troubled t = {
		.e = e, .trouble = AWAY,
		.shared = shared_alloc(sizeof(*t.shared)),
	};
	struct child c = {
		.nr = SYS_write, .fn = troubled_run, .arg = &t, .drop = -1,
		.len = MIB,
	};
	long n, runs, event;
	int signals;
	bool ran;

	ASSERT_EQ(0, set_nonblock(e->fd[0], true));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(EPOLLIN, events(ep));
	__atomic_store_n(&t.shared->at, 1, __ATOMIC_SEQ_CST);
	ASSERT_TRUE(eventually(done_by(&t) == 1));
	async_count();
	hold_up(&c);
	runs = task_runs(c.pid);
	n = stream_read(e->fd[0], 0, PAGE);
	event = events(ep);
	signals = async_count();
	ran = child_done(&c) || task_runs(c.pid) != runs;
	let_go();
	ASSERT_EQ(0, set_nonblock(e->fd[0], false));
	if (ran) {
		child_kill(&c);
		drain(e->fd[0], n < 0 ? 0 : n, fionread(e->fd[0]), MIB);
		close(ep);
		return false;
	}
	EXPECT_EQ(is_zpipe(e->kind) ? -EAGAIN : PAGE, n);
	EXPECT_EQ(0, event);
	EXPECT_EQ(0, signals);
	ASSERT_TRUE(eventually(poll_mask(e->fd[0]) == POLLIN));
	if (is_zpipe(e->kind)) {
		EXPECT_TRUE(eventually(events(ep) == EPOLLIN));
		EXPECT_TRUE(eventually(async_count() > 0));
		EXPECT_LT(0, fdinfo_number(e->fd[0], "zpipe-pull-misses-page"));
		n = 0;
	}
	EXPECT_EQ(MIB / 2, drain(e->fd[0], n, MIB / 2, PAGE));
	child_kill(&c);
	return true;
}

TEST_F_TIMEOUT(all, read_in_vain_is_no_event, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[0]));
	EXPECT_TRUE(held_up(read_in_vain(_metadata, &self->e)));
}

/*
 * Who has read all there was is told of what follows, and so is who watches it
 * from further away: here by an epoll that reports edges of another one.
 */
TEST_F_TIMEOUT(all, refill_of_a_drained_pipe_is_an_event, TIMEOUT)
{
	int inner = watch(self->e.fd[0], EPOLLIN);
	int outer = watch(inner, EPOLLIN | EPOLLET);
	struct child c;
	int i;

	child_offer(&c, &self->e, 0, MIB);
	for (i = 0; i < 8; i++) {
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_TRUE(eventually(events(outer) == EPOLLIN))
			TH_LOG("read %d", i);
		EXPECT_EQ(0, events(outer));
		ASSERT_EQ(FULL, fionread(self->e.fd[0]));
		ASSERT_EQ(FULL, stream_read(self->e.fd[0], i * FULL, FULL));
	}
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&c);
	close(outer);
	close(inner);
}

static long wait_exclusively(struct child *c)
{
	struct epoll_event ev;

	return epoll_wait(c->fd, &ev, 1, -1) == 1 ? (long)ev.events : -1;
}

/* One of two is told of what is there, and of what follows on it the other one. */
TEST_F_TIMEOUT(all, refill_of_a_drained_pipe_is_the_next_waiters, TIMEOUT)
{
	struct child wait[2], c;
	int i, first;

	for (i = 0; i < 2; i++) {
		wait[i] = (struct child) {
			.nr = SYS_epoll_wait, .fn = wait_exclusively, .drop = -1,
			.fd = watch(self->e.fd[0], EPOLLIN | EPOLLEXCLUSIVE),
		};
		child_start(&wait[i], 0);
		ASSERT_TRUE(child_asleep(&wait[i]));
	}
	child_offer(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_TRUE(eventually(child_done(&wait[0]) || child_done(&wait[1])));
	first = child_done(&wait[1]);
	EXPECT_EQ(EPOLLIN, child_join(&wait[first]));
	if (!copies_are_cut(self->e.kind))
		EXPECT_TRUE(child_stays_asleep(&wait[!first]));
	ASSERT_EQ(FULL, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(EPOLLIN, child_join(&wait[!first]));
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&c);
	close(wait[0].fd);
	close(wait[1].fd);
}

/*
 * A read that frees no slot is no event, and one that does is none for who looks
 * for edges, as long as there has been something to read all the time.
 */
TEST_F_TIMEOUT(all, partial_reads_of_a_large_write, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	bool cut = copies_are_cut(self->e.kind);
	struct child c;
	long off;

	ASSERT_EQ(0, async_on(self->e.fd[0]));
	child_offer(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(EPOLLIN, events(ep));
	async_count();
	for (off = 0; off < 500; off += 100) {
		ASSERT_EQ(100, stream_read(self->e.fd[0], off, 100));
		ASSERT_TRUE(child_asleep(&c));
	}
	if (!cut) {
		EXPECT_EQ(0, async_count());
		EXPECT_EQ(0, events(ep));
	}
	ASSERT_EQ(PAGE - off, stream_read(self->e.fd[0], off, PAGE - off));
	ASSERT_TRUE(child_asleep(&c));
	if (!cut) {
		EXPECT_EQ(1, async_count());
		EXPECT_EQ(0, events(ep));
	}
	EXPECT_TRUE(was_direct(&self->e));
	child_kill(&c);
	close(ep);
}

TEST_HARNESS_MAIN
