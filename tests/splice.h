/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fixtures of the tests of splice(2). One of the two pipes is that of the variant, the other is
 * always a pipe of the kernel's own. For named variants that is a FIFO.
 */
#ifndef ZPIPE_TESTS_SPLICE_H
#define ZPIPE_TESTS_SPLICE_H

#include "oracle.h"
#include "child.h"

#include <pthread.h>
#include <sys/epoll.h>

#define FULL		(SLOTS * PAGE)

/* The two pipes, of which one is the source and the other the destination. */
struct way {
	struct ends e;		/* the pipe of the variant */
	struct ends real;	/* the pipe of the kernel's own */
	struct ends *in;	/* the source: its read end is spliced */
	struct ends *out;	/* the destination: its write end is spliced to */
};

static inline int way_make(struct way *w, bool from, enum kind kind)
{
	int ret = ends_make(&w->e, kind);

	w->in = from ? &w->e : &w->real;
	w->out = from ? &w->real : &w->e;
	if (!ret)
		ret = open_ends(&w->e, 0);
	if (!ret)
		ret = ends_make(&w->real, is_named(kind) ? FIFO : PIPE);
	return ret ?: open_ends(&w->real, 0);
}

static inline void way_free(struct way *w)
{
	ends_free(&w->e);
	ends_free(&w->real);
}

/* One splice(2) from the source to the destination: the count or -errno. */
static inline long move(struct way *w, size_t len, unsigned int flags)
{
	return sys(splice(w->in->fd[0], NULL, w->out->fd[1], NULL, len, flags));
}

/* Splices until @len bytes have gone through or an error comes: the count or -errno. */
static inline long move_all(struct way *w, size_t len)
{
	size_t done = 0;

	while (done < len) {
		long n = move(w, len - done, 0);

		if (n <= 0)
			return n ?: (long)done;
		done += n;
	}
	return done;
}

/* The number of pages that left the pipe of the variant without a copy; 0 for the oracle. */
static inline long passed_on(struct way *w)
{
	return is_zpipe(w->e.kind) ? fdinfo_number(w->e.fd[0], "zpipe-pages-passed-on") : 0;
}

static inline int set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL) & ~O_DIRECT;

	return sys(fcntl(fd, F_SETFL, flags | (on ? O_DIRECT : 0)));
}

static inline long child_do_move(struct child *c)
{
	struct way *w = c->arg;

	close(w->in->fd[1]);
	close(w->out->fd[0]);
	return splice(w->in->fd[0], NULL, w->out->fd[1], NULL, c->len, c->flags);
}

/* Starts a child that splices once. It closes the other ends. */
static inline void child_move(struct child *c, struct way *w, size_t len, unsigned int flags)
{
	*c = (struct child) {
		.nr = SYS_splice, .fn = child_do_move, .arg = w, .drop = -1,
		.len = len, .flags = flags,
	};
	child_start(c, 0);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

/* The variant's pipe is the source. */
FIXTURE(from) {
	struct way w;
};

FIXTURE_VARIANT(from) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(from, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(from, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(from, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(from, znode) { .kind = ZNODE };

FIXTURE_SETUP(from)
{
	ASSERT_EQ(0, way_make(&self->w, true, variant->kind));
}

FIXTURE_TEARDOWN(from)
{
	way_free(&self->w);
}

/* The variant's pipe is the destination. */
FIXTURE(into) {
	struct way w;
};

FIXTURE_VARIANT(into) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(into, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(into, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(into, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(into, znode) { .kind = ZNODE };

FIXTURE_SETUP(into)
{
	ASSERT_EQ(0, way_make(&self->w, false, variant->kind));
}

FIXTURE_TEARDOWN(into)
{
	way_free(&self->w);
}
#pragma GCC diagnostic pop

/*
 * A test that makes the same assertions in both directions, about its parameter w. The argument is
 * the name.
 */
#define BOTH_WAYS(...)							\
static void test_##__VA_ARGS__(struct __test_metadata *_metadata, struct way *w); \
TEST_F_TIMEOUT(from, __VA_ARGS__, TIMEOUT)				\
{									\
	test_##__VA_ARGS__(_metadata, &self->w);			\
}									\
TEST_F_TIMEOUT(into, __VA_ARGS__, TIMEOUT)				\
{									\
	test_##__VA_ARGS__(_metadata, &self->w);			\
}									\
static void test_##__VA_ARGS__(struct __test_metadata *_metadata, struct way *w)

#endif /* ZPIPE_TESTS_SPLICE_H */
