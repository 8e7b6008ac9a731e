// SPDX-License-Identifier: GPL-2.0-only
/*
 * The number of events that watchers of a large blocked write get. Each refill
 * of the pipe by the writer of a pipe(2) is one event. A read that misses, and
 * so pulls nothing, is none.
 */
#include "direct.h"

#define STEPS		40

/*
 * Requests a real-time signal for each event. These signals are queued, so the
 * test can count them.
 */
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

/* How another thread of the writer disturbs the memory of the blocked write. */
enum trouble {
	NO_TROUBLE,
	AWAY,			/* unmap the next page before each read */
	BUSY,			/* change the address space all the time */
};

struct troubled {
	struct ends *e;
	enum trouble trouble;
	struct {
		int at;		/* number of the page to unmap, from 1 */
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

	/*
	 * Not in the other cases: to map this memory changes the address space.
	 */
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
		/*
		 * Only the page table entry goes. The page stays in the file.
		 */
		madvise(t->p + (at - 1) * PAGE, PAGE, MADV_DONTNEED);
		done = at;
		__atomic_store_n(&t->shared->done, done, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/*
 * The number of pages that were unmapped, or of changes to the address space.
 */
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
 * Reads the posted write page by page and counts the signals. Each read frees a
 * slot, which is one refill and so one signal.
 *
 * A miss adds signals in zpipe. The owner withdraws its posted write and fills
 * slots. The pipe is readable again, which is one signal. The write that is
 * posted next sends another one. Retries of the reader send none.
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
	long before, misses, posts;
	int i, n, extra = 0;

	ASSERT_EQ(0, async_on(e->fd[0]));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	if (trouble == BUSY)
		ASSERT_TRUE(eventually(done_by(&t) > 1));
	n = async_count();
	EXPECT_LE(1, n);
	/* With cut copies each part that becomes readable sends a signal. */
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
		posts = fdinfo_number(e->fd[0], "zpipe-posted-writes");
		if (!cut)
			EXPECT_GE(2 * posts, extra)
				TH_LOG("%ld misses, %ld posts", misses, posts);
	} else if (!cut) {
		EXPECT_EQ(0, extra);
	}
	child_kill(&c);
}

TEST_F_TIMEOUT(all, signals_of_refills, TIMEOUT)
{
	count_signals(_metadata, &self->e, NO_TROUBLE, "zpipe-pull-misses-page");
}

TEST_F_TIMEOUT(all, signals_of_refills_after_page_misses, TIMEOUT)
{
	count_signals(_metadata, &self->e, AWAY, "zpipe-pull-misses-page");
}

TEST_F_TIMEOUT(all, signals_of_refills_after_busy_misses, TIMEOUT)
{
	count_signals(_metadata, &self->e, BUSY, "zpipe-pull-misses-busy");
}

/*
 * A read that misses returns EAGAIN and is no event. It is an event when the
 * owner has filled slots afterwards. Returns false if the writer ran although
 * it was held up.
 */
static bool missed_read(struct __test_metadata *_metadata, struct ends *e)
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

TEST_F_TIMEOUT(all, missed_read_is_no_event, TIMEOUT)
{
	ASSERT_EQ(0, async_on(self->e.fd[0]));
	EXPECT_TRUE(held_up(missed_read(_metadata, &self->e)));
}

/*
 * After a reader has read everything, the refill is an event. A nested epoll
 * instance reports this edge, too.
 */
TEST_F_TIMEOUT(all, refill_of_a_drained_pipe_is_an_event, TIMEOUT)
{
	int inner = watch(self->e.fd[0], EPOLLIN);
	int outer = watch(inner, EPOLLIN | EPOLLET);
	struct child c;
	int i;

	child_write_private(&c, &self->e, 0, MIB);
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

/*
 * Two exclusive waiters: the first data wakes one of them, and the refill wakes
 * the other one.
 */
TEST_F_TIMEOUT(all, refill_of_a_drained_pipe_wakes_the_next_waiter, TIMEOUT)
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
	child_write_private(&c, &self->e, 0, MIB);
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
 * A read that frees no slot sends no signal. A read that frees one sends a
 * signal, but is no edge for epoll, since the pipe has not been empty.
 */
TEST_F_TIMEOUT(all, partial_reads_of_a_large_write, TIMEOUT)
{
	int ep = watch(self->e.fd[0], EPOLLIN | EPOLLET);
	bool cut = copies_are_cut(self->e.kind);
	struct child c;
	long off;

	ASSERT_EQ(0, async_on(self->e.fd[0]));
	child_write_private(&c, &self->e, 0, MIB);
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
