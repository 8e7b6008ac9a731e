// SPDX-License-Identifier: GPL-2.0-only
/*
 * O_ASYNC of a file that is open for reading and writing. Such a file has an
 * entry in the readers' list and one in the writers' list, but only one flag
 * for both. An entry that stays without the flag is not removed at the last
 * close. A later signal would then use freed memory.
 */
#include "oracle.h"
#include "child.h"

#include <pthread.h>

/* With lock debugging these tests slow down by more than SLOWER. */
#define ROUNDS		(SLOWER > 1 ? 6 : 60)
#define TOGGLES		(SLOWER > 1 ? 200 : 1000)
#define PREEMPTIONS	(SLOWER > 1 ? 200 : 1000)

/* Opens the pipe once more, for reading and writing. */
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

/* True if SIGIO was sent since the last call. The signal is blocked. */
static bool signalled(void)
{
	struct timespec now = {};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	return sigtimedwait(&set, NULL, &now) == SIGIO;
}

/*
 * Fills the pipe, which holds one page, or empties it. Filling it signals the
 * readers' list, and emptying it the writers' list.
 */
static long fill(int fd)
{
	return stream_write(fd, 0, PAGE);
}

static long empty(int fd)
{
	return stream_read(fd, 0, PAGE);
}

/* A thread that sets and clears the flag of a file all the time. */
struct toggler {
	pthread_t thread;
	pthread_barrier_t *start;
	int fd;
	int toggles;		/* how often at most */
	int stop;		/* ends it earlier */
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

/*
 * Waits until the thread has cleared the flag for the last time. With @at_once
 * it stops the thread first.
 */
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

/* Both ends open, a capacity of one page, SIGIO blocked. */
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

/* Checks that neither filling nor emptying the pipe sends a signal. */
static void expect_no_signal(struct __test_metadata *_metadata,
			     const struct ends *e)
{
	ASSERT_FALSE(signalled());
	ASSERT_EQ(PAGE, fill(e->fd[1]));
	ASSERT_FALSE(signalled());
	ASSERT_EQ(PAGE, empty(e->fd[0]));
	ASSERT_FALSE(signalled());
}

/* Checks that filling and emptying the pipe each send a signal. */
static void expect_both_signals(struct __test_metadata *_metadata,
				const struct ends *e)
{
	ASSERT_EQ(PAGE, fill(e->fd[1]));
	ASSERT_TRUE(signalled());
	ASSERT_EQ(PAGE, empty(e->fd[0]));
	ASSERT_TRUE(signalled());
}

/* Checks that a file is in both lists with the flag, and in none without it. */
static void check_lists(struct __test_metadata *_metadata, const struct ends *e,
			int fd)
{
	ASSERT_EQ(0, set_async(fd, false));
	ASSERT_EQ(0, fcntl(fd, F_GETFL) & O_ASYNC);
	expect_no_signal(_metadata, e);
	ASSERT_EQ(0, set_async(fd, true));
	ASSERT_EQ(O_ASYNC, fcntl(fd, F_GETFL) & O_ASYNC);
	expect_both_signals(_metadata, e);
}

/*
 * Opens the pipe for reading and writing, with the tester as owner of the
 * signals.
 */
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
		expect_no_signal(_metadata, &self->e);
	}
}

/*
 * One thread sets the flag at any moment while another clears it. They share a
 * processor, and the first preempts the second wherever that is preemptible.
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
		expect_no_signal(_metadata, &self->e);
	}
}

/* A descriptor is closed while a thread changes the flag through it. */
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
		expect_no_signal(_metadata, &self->e);
	}
}

/* A file that is open for one direction is signalled only for its own. */
TEST_F_TIMEOUT(async, each_end_is_signalled_for_its_own_events, TIMEOUT)
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
	expect_no_signal(_metadata, &self->e);
}

TEST_HARNESS_MAIN
