/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for tests of a write to a blocked reader. zpipe may push a large
 * write into the memory of that reader. The counts are then those of a reader
 * that reads on while the write is still going on.
 */
#ifndef ZPIPE_TESTS_PUSH_H
#define ZPIPE_TESTS_PUSH_H

#include "oracle.h"
#include "child.h"
#include "large.h"

#include <pthread.h>

#define NO_SUCH_MEMORY	12345		/* returned by a child that cannot make its memory */

/*
 * How a child reads: into a buffer @skew bytes into a page, and with readv(2)
 * if @segments is set.
 */
struct want {
	size_t skew;
	bool segments;
	/* Prepares the memory; nonzero if this kernel has no such memory. */
	int (*memory)(unsigned char *p, size_t len);
	/* Called by another thread of the child once the read blocks. */
	void (*meanwhile)(unsigned char *p, size_t len);
	/* Called after the read: 0, or the error that the child returns. */
	long (*after)(unsigned char *p, size_t len);
};

/* Private memory of which no page is resident yet. */
static inline unsigned char *no_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/*
 * The state of the other thread. It is stored for the tester in the byte behind
 * the child's buffer.
 */
enum progress {
	BEGUN = 1,
	ENDED,
};

static inline void meanwhile_reports(struct child *c, enum progress progress)
{
	__atomic_store_n(&c->buf[c->len], progress, __ATOMIC_SEQ_CST);
}

static inline bool meanwhile_has(struct child *c, enum progress progress)
{
	return eventually(__atomic_load_n(&c->buf[c->len], __ATOMIC_SEQ_CST) >=
			  progress);
}

/* The thread that runs want->meanwhile() while the child's read blocks. */
struct meanwhile {
	struct child *c;
	unsigned char *p;
	size_t len;
	pthread_t thread;
};

static inline void *do_meanwhile(void *arg)
{
	struct meanwhile *m = arg;
	struct want *want = m->c->arg;

	eventually(task_syscall(getpid()) == m->c->nr);
	meanwhile_reports(m->c, BEGUN);
	want->meanwhile(m->p, m->len);
	meanwhile_reports(m->c, ENDED);
	return NULL;
}

/* Reads once into private memory, and copies the bytes to the shared buffer. */
static inline long child_do_read_private(struct child *c)
{
	struct want *want = c->arg;
	size_t len = (want->skew + c->len + PAGE) & -PAGE;
	unsigned char *p = no_memory(len + 4 * MIB);
	struct meanwhile m = { .c = c };
	struct iovec iov[60];
	long n, bad;

	/* Aligned, so that huge pages can be used. */
	p = (void *)(((unsigned long)p + 2 * MIB - 1) & -(2 * MIB));
	if (!want->memory)
		memset(p, 0xcc, len);
	else if (want->memory(p, len))
		return NO_SUCH_MEMORY;
	m.p = p;
	m.len = len;
	p += want->skew;
	if (want->meanwhile)
		pthread_create(&m.thread, NULL, do_meanwhile, &m);
	n = want->segments ? readv(c->fd, iov, cut_up(iov, 60, p, c->len)) :
			     read(c->fd, p, c->len);
	if (n > 0)
		memcpy(c->buf, p, n);
	if (want->meanwhile)
		pthread_join(m.thread, NULL);
	bad = want->after ? want->after(m.p, m.len) : 0;
	return bad ?: n;
}

/*
 * Starts a child that reads up to @len bytes in the way @want says. The child
 * closes the write end.
 */
static inline void child_read_private_to(struct child *c, struct ends *e, size_t len,
					 struct want want)
{
	*c = (struct child) {
		.nr = want.segments ? SYS_readv : SYS_read,
		.fn = child_do_read_private, .arg = &want,
		.fd = e->fd[0], .drop = e->fd[1],
		.len = len, .buf = shared_alloc(len + 1),
	};
	child_start(c, 0);
}

static inline void child_read_private(struct child *c, struct ends *e, size_t len)
{
	child_read_private_to(c, e, len, (struct want) {});
}

/* A thread of the tester that reads once. */
struct thread_read {
	int fd;
	unsigned char *buf;
	size_t len;
	pid_t tid;
	long ret;
	pthread_t thread;
};

static inline void *thread_do_read(void *arg)
{
	struct thread_read *t = arg;

	__atomic_store_n(&t->tid, gettid(), __ATOMIC_SEQ_CST);
	t->ret = sys(read(t->fd, t->buf, t->len));
	return NULL;
}

/* Starts the thread; true if its read blocks. */
static inline bool thread_reads(struct thread_read *t)
{
	pthread_create(&t->thread, NULL, thread_do_read, t);
	return eventually(__atomic_load_n(&t->tid, __ATOMIC_SEQ_CST) &&
			  task_syscall(t->tid) == SYS_read);
}

/* The number of pushed bytes; 0 for the kernel's pipes. */
static inline long pushed(struct ends *e)
{
	return is_zpipe(e->kind) ?
	       fdinfo_number(e->fd[0], "zpipe-bytes-pushed") : 0;
}

/*
 * True if bytes were pushed. Also true where no push can be expected: on the
 * kernel's pipes, and with cut copies, which may stop a push at its first byte.
 */
static inline bool was_pushed(struct ends *e)
{
	return !is_zpipe(e->kind) || copies_are_cut(e->kind) || pushed(e) > 0;
}

static inline long min_long(long a, long b)
{
	return a < b ? a : b;
}

/*
 * True if zpipe pushes from a write of @len bytes to a blocked read of @space
 * bytes.
 */
static inline bool is_pushed(struct ends *e, long space, long len)
{
	return is_zpipe(e->kind) && min_long(space, len) >= DIRECT_MIN;
}

/* The number of bytes that this read returns. */
static inline long for_reader(struct ends *e, long space, long len)
{
	return min_long(space, min_long(len, is_pushed(e, space, len) ? DIRECT_MAX : FULL));
}

/*
 * The number of bytes that the write returns if it does not wait: those that
 * the reader gets, and those that fit into the slots.
 */
static inline long in_all(struct ends *e, long space, long len)
{
	long n = for_reader(e, space, len);

	if (!is_pushed(e, space, len))
		return min_long(len, FULL);
	/*
	 * Pushed bytes count as read from slots. A slot that was read in part
	 * stays used.
	 */
	return min_long(len, n - n % PAGE + FULL);
}

/*
 * Starts a child that blocks in a read, and then keeps it off the processor.
 * The write end becomes non-blocking.
 */
static inline void read_held_up(struct __test_metadata *_metadata,
				struct ends *e, struct child *c, long space)
{
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	child_read_private(c, e, space);
	ASSERT_TRUE(child_asleep(c));
	hold_up(c);
}

/*
 * Reads everything in the pipe: it has to be @want bytes of the stream from
 * @off on.
 */
static inline void read_rest(struct __test_metadata *_metadata, struct ends *e,
			     unsigned long off, long want)
{
	long rest = fionread(e->fd[0]);

	EXPECT_EQ(want, rest);
	EXPECT_EQ(rest > 0 ? POLLIN : 0, poll_mask(e->fd[0]));
	EXPECT_EQ(rest, drain(e->fd[0], off, rest, MIB));
	EXPECT_EQ(0, poll_mask(e->fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(e->fd[1]));
}

/*
 * Checks the results of a write of @len bytes to an empty pipe, which returned
 * @w. Child @c was blocked in a read of @space bytes. Nobody else uses the
 * pipe.
 */
static inline void expect_fed(struct __test_metadata *_metadata, struct ends *e,
			      struct child *c, long space, long len, long w)
{
	long r = child_join(c);

	if (copies_are_cut(e->kind)) {
		EXPECT_LT(0, r);
		/* The reader may get bytes that are written while it faults. */
		EXPECT_GE(min_long(space, len), r);
		EXPECT_GE(len, w);
	} else {
		EXPECT_EQ(for_reader(e, space, len), r)
			TH_LOG("%ld bytes to %ld", len, space);
		EXPECT_EQ(in_all(e, space, len), w)
			TH_LOG("%ld bytes to %ld", len, space);
	}
	r = r < 0 ? 0 : r;
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	read_rest(_metadata, e, r, w - r);
	munmap(c->buf, space);
}

/*
 * Writes @len bytes once child @c blocks. The write end must be non-blocking.
 */
static inline void feed(struct __test_metadata *_metadata, struct ends *e,
			struct child *c, long space, long len)
{
	ASSERT_TRUE(child_asleep(c));
	expect_fed(_metadata, e, c, space, len, stream_write(e->fd[1], 0, len));
}

/*
 * Checks that a write of a mebibyte only fills the slots if no reader is
 * blocked.
 */
static inline void feed_nobody(struct __test_metadata *_metadata,
			       struct ends *e)
{
	EXPECT_EQ(FULL, stream_write(e->fd[1], 0, MIB));
	read_rest(_metadata, e, 0, FULL);
}

#endif /* ZPIPE_TESTS_PUSH_H */
