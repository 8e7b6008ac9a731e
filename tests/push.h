/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A reader that waits, and what comes of a write to it. A large one may go
 * straight to its memory in zpipe; then it is as if it had read on while it was
 * still written.
 */
#ifndef ZPIPE_TESTS_PUSH_H
#define ZPIPE_TESTS_PUSH_H

#include "oracle.h"
#include "child.h"
#include "large.h"

#include <pthread.h>

#define NO_SUCH_MEMORY	12345		/* what a child may return */

/* How a child reads: @skew bytes behind the start of a page, maybe in segments. */
struct want {
	size_t skew;
	bool segments;
	/* What its memory is made of; -1 if there is no such. */
	int (*memory)(unsigned char *p, size_t len);
	/* What another of its threads does to it as soon as it waits. */
	void (*meanwhile)(unsigned char *p, size_t len);
	/* What is wrong when it has read, or 0. */
	long (*after)(unsigned char *p, size_t len);
};

/* Memory of one's own, none of it there. */
static inline unsigned char *no_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* How far the other thread is: it tells the tester behind the child's buffer. */
enum progress {
	BEGUN = 1,
	ENDED,
};

static inline void meanwhile_tells(struct child *c, enum progress progress)
{
	__atomic_store_n(&c->buf[c->len], progress, __ATOMIC_SEQ_CST);
}

static inline bool meanwhile_has(struct child *c, enum progress progress)
{
	return eventually(__atomic_load_n(&c->buf[c->len], __ATOMIC_SEQ_CST) >=
			  progress);
}

/* The other thread. */
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
	meanwhile_tells(m->c, BEGUN);
	want->meanwhile(m->p, m->len);
	meanwhile_tells(m->c, ENDED);
	return NULL;
}

/* Reads once, to memory that no other process has. */
static inline long child_do_take(struct child *c)
{
	struct want *want = c->arg;
	size_t len = (want->skew + c->len + PAGE) & -PAGE;
	unsigned char *p = no_memory(len + 4 * MIB);
	struct meanwhile m = { .c = c };
	struct iovec iov[60];
	long n, bad;

	/* Where huge pages begin. */
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

/* A child that reads so, with room for @len bytes, and holds no writer. */
static inline void child_take_to(struct child *c, struct ends *e, size_t len,
				 struct want want)
{
	*c = (struct child) {
		.nr = want.segments ? SYS_readv : SYS_read,
		.fn = child_do_take, .arg = &want,
		.fd = e->fd[0], .drop = e->fd[1],
		.len = len, .buf = shared_alloc(len + 1),
	};
	child_start(c, 0);
}

static inline void child_take(struct child *c, struct ends *e, size_t len)
{
	child_take_to(c, e, len, (struct want) {});
}

/* A thread that reads. */
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

/* Starts it; whether it waits. */
static inline bool thread_reads(struct thread_read *t)
{
	pthread_create(&t->thread, NULL, thread_do_read, t);
	return eventually(__atomic_load_n(&t->tid, __ATOMIC_SEQ_CST) &&
			  task_syscall(t->tid) == SYS_read);
}

/* What went straight to a reader; of the kernel's pipes, nothing. */
static inline long pushed(struct ends *e)
{
	return is_zpipe(e->kind) ?
	       fdinfo_number(e->fd[0], "zpipe-bytes-pushed") : 0;
}

/* Whether anything did, where it could: a push may be cut at its first byte. */
static inline bool was_pushed(struct ends *e)
{
	return !is_zpipe(e->kind) || copies_are_cut(e->kind) || pushed(e) > 0;
}

static inline long least(long a, long b)
{
	return a < b ? a : b;
}

/* Of a write of @len bytes to a reader with room for @room: what is for it. */
static inline bool is_pushed(struct ends *e, long room, long len)
{
	return is_zpipe(e->kind) && least(room, len) >= DIRECT_MIN;
}

static inline long for_reader(struct ends *e, long room, long len)
{
	return least(room, least(len, is_pushed(e, room, len) ? DIRECT_MOST : FULL));
}

/* And how much of it is written without waiting. */
static inline long in_all(struct ends *e, long room, long len)
{
	long n = for_reader(e, room, len);

	if (!is_pushed(e, room, len))
		return least(len, FULL);
	/* What was read of a slot is still taken up by it. */
	return least(len, n - n % PAGE + FULL);
}

/* A reader that waits, and is slow to come back; the write end does not block. */
static inline void take_held_up(struct __test_metadata *_metadata,
				struct ends *e, struct child *c, long room)
{
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	child_take(c, e, room);
	ASSERT_TRUE(child_asleep(c));
	hold_up(c);
}

/* Takes what is in the pipe, which should be @want bytes of the stream at @off. */
static inline void take_rest(struct __test_metadata *_metadata, struct ends *e,
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
 * What came of a write that returned @w, of @len bytes to an empty pipe with a
 * reader @c that waited with room for @room; nobody else was there.
 */
static inline void expect_fed(struct __test_metadata *_metadata, struct ends *e,
			      struct child *c, long room, long len, long w)
{
	long r = child_join(c);

	if (copies_are_cut(e->kind)) {
		EXPECT_LT(0, r);
		/* What it did not get at first may have come while it faulted. */
		EXPECT_GE(least(room, len), r);
		EXPECT_GE(len, w);
	} else {
		EXPECT_EQ(for_reader(e, room, len), r)
			TH_LOG("%ld bytes to %ld", len, room);
		EXPECT_EQ(in_all(e, room, len), w)
			TH_LOG("%ld bytes to %ld", len, room);
	}
	r = r < 0 ? 0 : r;
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	take_rest(_metadata, e, r, w - r);
	munmap(c->buf, room);
}

/* Waits for the reader, then writes: the write end must not block. */
static inline void feed(struct __test_metadata *_metadata, struct ends *e,
			struct child *c, long room, long len)
{
	ASSERT_TRUE(child_asleep(c));
	expect_fed(_metadata, e, c, room, len, stream_write(e->fd[1], 0, len));
}

/* A write that found nobody who waits. */
static inline void feed_nobody(struct __test_metadata *_metadata,
			       struct ends *e)
{
	EXPECT_EQ(FULL, stream_write(e->fd[1], 0, MIB));
	take_rest(_metadata, e, 0, FULL);
}

#endif /* ZPIPE_TESTS_PUSH_H */
