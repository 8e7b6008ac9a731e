// SPDX-License-Identifier: GPL-2.0-only
/*
 * O_ASYNC of a file that is open for reading and writing. Such a file is on two
 * lists, that of readers and that of writers, and has one flag that says so. A
 * file that stays on a list without the flag would be signalled for after it was
 * closed, when its memory may be another's.
 */
#include "oracle.h"
#include "child.h"

#include <pthread.h>

/* A kernel that checks every lock is slower by more than SLOWER here. */
#define ROUNDS		(SLOWER > 1 ? 6 : 60)
#define TOGGLES		(SLOWER > 1 ? 200 : 1000)
#define PREEMPTIONS	(SLOWER > 1 ? 200 : 1000)

/* A file of the same pipe, open for both. */
static int open_both(const struct ends *e)
{
	char path[40];

	if (is_named(e->kind))
		return open(e->path, O_RDWR | O_NONBLOCK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->fd[0]);
	return open(path, O_RDWR | O_NONBLOCK);
}

static long set_async(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_ASYNC : flags & ~O_ASYNC;
	return sys(fcntl(fd, F_SETFL, flags));
}

static long set_fioasync(int fd, int on)
{
	return sys(ioctl(fd, FIOASYNC, &on));
}

/* Whether SIGIO came since this was last asked. It is blocked. */
static bool signalled(void)
{
	struct timespec now = {};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	return sigtimedwait(&set, NULL, &now) == SIGIO;
}

/*
 * Fills the pipe, which has room for one page, and empties it. The first is news
 * for the readers' list, the second for the writers'.
 */
static long fill(int fd)
{
	return stream_write(fd, 0, PAGE);
}

static long empty(int fd)
{
	return stream_read(fd, 0, PAGE);
}

/* A thread that changes the flag of a file all the time. */
struct toggler {
	pthread_t thread;
	pthread_barrier_t *start;
	int fd;
	int toggles;		/* how many times it sets and clears it */
	int stop;		/* or until this is set */
	bool by_ioctl;
	long error;
};

static void *toggle(void *arg)
{
	struct toggler *t = arg;
	int on, n;

	if (t->start)
		pthread_barrier_wait(t->start);
	for (n = 0; n < t->toggles && !t->error &&
	     !__atomic_load_n(&t->stop, __ATOMIC_SEQ_CST); n++)
		for (on = 1; on >= 0 && !t->error; on--)
			t->error = t->by_ioctl ? set_fioasync(t->fd, on) :
						 set_async(t->fd, on);
	return NULL;
}

static void toggler_start(struct toggler *t)
{
	if (pthread_create(&t->thread, NULL, toggle, t))
		abort();
}

/* Tells it to stop, and waits until it has cleared the flag for the last time. */
static long toggler_join(struct toggler *t, bool at_once)
{
	__atomic_store_n(&t->stop, at_once, __ATOMIC_SEQ_CST);
	pthread_join(t->thread, NULL);
	return t->error;
}

FIXTURE(async) {
	struct ends e;
};

FIXTURE_VARIANT(async) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(async, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(async, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(async, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(async, znode) { .kind = ZNODE };

/* Both ends open, room for a page, SIGIO blocked. */
FIXTURE_SETUP(async)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &set, NULL));
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(PAGE, set_capacity(variant->kind, self->e.fd[0], PAGE));
}

FIXTURE_TEARDOWN(async)
{
	ends_free(&self->e);
}

/* Asserts that what happens in the pipe is told to nobody. */
static void nobody_is_told(struct __test_metadata *_metadata,
			   const struct ends *e)
{
	ASSERT_FALSE(signalled());
	ASSERT_EQ(PAGE, fill(e->fd[1]));
	ASSERT_FALSE(signalled());
	ASSERT_EQ(PAGE, empty(e->fd[0]));
	ASSERT_FALSE(signalled());
}

/* Asserts that it is told, of both ends. */
static void both_are_told(struct __test_metadata *_metadata,
			  const struct ends *e)
{
	ASSERT_EQ(PAGE, fill(e->fd[1]));
	ASSERT_TRUE(signalled());
	ASSERT_EQ(PAGE, empty(e->fd[0]));
	ASSERT_TRUE(signalled());
}

/* Asserts that a file is on both lists if it has the flag, and else on none. */
static void check_lists(struct __test_metadata *_metadata, const struct ends *e,
			int fd)
{
	ASSERT_EQ(0, set_async(fd, false));
	ASSERT_EQ(0, fcntl(fd, F_GETFL) & O_ASYNC);
	nobody_is_told(_metadata, e);
	ASSERT_EQ(0, set_async(fd, true));
	ASSERT_EQ(O_ASYNC, fcntl(fd, F_GETFL) & O_ASYNC);
	both_are_told(_metadata, e);
}

/* Opens a file for both, the owner of whose signals is the tester. */
static int open_owned(struct __test_metadata *_metadata, const struct ends *e)
{
	int fd = open_both(e);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fcntl(fd, F_SETOWN, getpid()));
	return fd;
}

TEST_F_TIMEOUT(async, two_threads_toggle, TIMEOUT)
{
	pthread_barrier_t start;
	int i;

	pthread_barrier_init(&start, NULL, 2);
	for (i = 0; i < ROUNDS; i++) {
		int fd = open_owned(_metadata, &self->e);
		struct toggler a = {
			.start = &start, .fd = fd, .toggles = TOGGLES,
		};
		struct toggler b = a;

		b.by_ioctl = true;
		toggler_start(&a);
		toggler_start(&b);
		ASSERT_EQ(0, toggler_join(&a, false));
		ASSERT_EQ(0, toggler_join(&b, false));
		check_lists(_metadata, &self->e, fd);
		ASSERT_EQ(0, set_async(fd, i % 2));
		close(fd);
		nobody_is_told(_metadata, &self->e);
	}
}

/*
 * A thread sets the flag at any moment of another's clearing it: on the same
 * processor, which it takes away as soon as the other holds no spinlock.
 */
TEST_F_TIMEOUT(async, setting_preempts_clearing, TIMEOUT)
{
	int i;

	run_first();
	for (i = 0; i < PREEMPTIONS; i++) {
		int fd = open_owned(_metadata, &self->e);
		struct toggler t = {
			.fd = fd, .toggles = INT_MAX, .by_ioctl = true,
		};

		toggler_start(&t);
		usleep(300 + i * 7 % 100);
		ASSERT_EQ(0, set_fioasync(fd, true));
		ASSERT_EQ(0, toggler_join(&t, true));
		check_lists(_metadata, &self->e, fd);
		close(fd);
		nobody_is_told(_metadata, &self->e);
	}
}

/* The last of two descriptors goes while the flag is being changed. */
TEST_F_TIMEOUT(async, closed_while_a_thread_toggles, TIMEOUT)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		int fd = open_owned(_metadata, &self->e);
		struct toggler t = {
			.fd = fd, .toggles = INT_MAX, .by_ioctl = i % 2,
		};

		toggler_start(&t);
		usleep(100 * (i % 8));
		close(fd);
		ASSERT_EQ(-EBADF, toggler_join(&t, false));
		nobody_is_told(_metadata, &self->e);
	}
}

/* Open for one, a file is told of what concerns that one. */
TEST_F_TIMEOUT(async, each_end_is_told_of_its_own, TIMEOUT)
{
	int end;

	for (end = 0; end < 2; end++) {
		ASSERT_EQ(0, fcntl(self->e.fd[end], F_SETOWN, getpid()));
		ASSERT_EQ(0, set_async(self->e.fd[end], true));
		ASSERT_EQ(PAGE, fill(self->e.fd[1]));
		EXPECT_EQ(end == 0, signalled());
		ASSERT_EQ(PAGE, empty(self->e.fd[0]));
		EXPECT_EQ(end == 1, signalled());
		ASSERT_EQ(0, set_async(self->e.fd[end], false));
	}
	nobody_is_told(_metadata, &self->e);
}

TEST_HARNESS_MAIN
