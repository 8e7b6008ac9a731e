/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for windows: memory of a pipe that is filled and committed, or peeked at and
 * consumed.
 */
#ifndef ZPIPE_TESTS_WINDOW_H
#define ZPIPE_TESTS_WINDOW_H

#include "gift.h"

#define FRAME		((long)ZPIPE_FRAME)
#define VIEWS		64	/* maximum number of views of a peek */
#define LOST		40960	/* KiB of memory that may be missing at the end of a test */

FIXTURE(window) {
	struct ends e;
};

FIXTURE_VARIANT(window) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(window, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(window, znode) { .kind = ZNODE };

/* A mapped window, or -errno in @fd. */
struct window {
	int fd;
	unsigned char *at;
	size_t bytes;
};

/* Maps the window once more. Returns NULL if mmap(2) fails. */
static inline unsigned char *map_window(const struct window *w, int prot)
{
	void *at = mmap(NULL, w->bytes, prot, MAP_SHARED, w->fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

static inline struct window make_window(int end, size_t bytes, unsigned int flags)
{
	struct zpipe_window arg = {
		.size = sizeof(arg), .flags = flags, .bytes = bytes,
	};
	int writes = flags & ZPIPE_WINDOW_WRITE ? PROT_WRITE : 0;
	struct window w = { .fd = -1 };

	if (ioctl(end, ZPIPE_IOC_WINDOW, &arg)) {
		w.fd = -errno;
		return w;
	}
	w.fd = arg.fd;
	w.bytes = arg.bytes;
	w.at = map_window(&w, PROT_READ | writes);
	if (!w.at)
		abort();
	return w;
}

static inline struct window write_window(struct ends *e, size_t frames)
{
	return make_window(e->fd[1], frames * FRAME, ZPIPE_WINDOW_WRITE);
}

static inline struct window lending_window(struct ends *e, size_t frames)
{
	return make_window(e->fd[1], frames * FRAME,
			   ZPIPE_WINDOW_WRITE | ZPIPE_WINDOW_LEND);
}

static inline struct window read_window(struct ends *e, size_t frames)
{
	return make_window(e->fd[0], frames * FRAME, ZPIPE_WINDOW_READ);
}

static inline void free_window(struct window *w)
{
	if (w->at)
		munmap(w->at, w->bytes);
	if (w->fd >= 0)
		close(w->fd);
	*w = (struct window) { .fd = -1 };
}

/* True if the kernel has no huge pages. Then it makes no windows. */
static inline bool no_windows(void)
{
	return access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

FIXTURE_SETUP(window)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (no_windows()) {
		EXPECT_EQ(-EOPNOTSUPP, write_window(&self->e, 1).fd);
		SKIP(return, "no huge pages");
	}
}

FIXTURE_TEARDOWN(window)
{
	ends_free(&self->e);
}

/* Returns 0 or -errno. */
static inline long reserve(const struct window *w, size_t offset, size_t bytes)
{
	struct zpipe_reserve arg = {
		.size = sizeof(arg), .offset = offset, .bytes = bytes,
	};

	return sys(ioctl(w->fd, ZPIPE_IOC_RESERVE, &arg));
}

static inline struct gifted commit(const struct window *w, size_t offset, size_t bytes,
				   unsigned int flags)
{
	struct zpipe_commit arg = {
		.size = sizeof(arg), .flags = flags, .offset = offset, .bytes = bytes,
	};
	struct gifted g = {};

	g.ret = sys(ioctl(w->fd, ZPIPE_IOC_COMMIT, &arg));
	if (g.ret)
		return g;
	g.ret = arg.done;
	g.moved = arg.moved;
	g.copied = arg.copied;
	memcpy(g.why, arg.why, sizeof(g.why));
	return g;
}

/* The number of pieces that were copied, for whatever reason. */
static inline unsigned int pieces_copied(const struct gifted *g)
{
	unsigned int i, sum = 0;

	for (i = 0; i < ZPIPE_REASONS; i++)
		sum += g->why[i];
	return sum;
}

struct peeked {
	long ret;		/* 0, or -errno */
	struct zpipe_view views[VIEWS];
	unsigned int n;
	unsigned long bytes, copied;
};

static inline struct peeked peek_with(const struct window *w, size_t done, size_t bytes,
				      unsigned int flags, unsigned int max_views)
{
	struct peeked p = {};
	struct zpipe_peek arg = {
		.size = sizeof(arg), .flags = flags, .consume = done, .bytes = bytes,
		.views = (unsigned long)p.views, .nr_views = max_views,
	};

	p.ret = sys(ioctl(w->fd, ZPIPE_IOC_PEEK, &arg));
	if (p.ret)
		return p;
	p.n = arg.nr_views;
	p.bytes = arg.bytes;
	p.copied = arg.copied;
	return p;
}

/*
 * Shows as much as possible. Blocks while no bytes are available, unless a flag says
 * otherwise.
 */
static inline struct peeked peek(const struct window *w, unsigned int flags)
{
	return peek_with(w, 0, 0, flags, VIEWS);
}

static inline long consume(const struct window *w, size_t bytes)
{
	struct zpipe_consume arg = { .size = sizeof(arg), .bytes = bytes };

	return sys(ioctl(w->fd, ZPIPE_IOC_CONSUME, &arg));
}

/* True if all views lie in the window and have as many bytes as the peek reported. */
static inline bool views_right(const struct window *w, const struct peeked *p)
{
	unsigned long sum = 0;
	unsigned int i;

	if (p->ret || p->n > VIEWS)
		return false;
	for (i = 0; i < p->n; i++) {
		const struct zpipe_view *v = &p->views[i];

		if (!v->bytes || v->offset > w->bytes || v->reserved ||
		    v->bytes > w->bytes - v->offset || v->flags & ~ZPIPE_VIEW_PACKET)
			return false;
		sum += v->bytes;
	}
	return sum == p->bytes;
}

/* True if the views show the stream from @off on. */
static inline bool views_show(const struct window *w, const struct peeked *p,
			      unsigned long off)
{
	const struct zpipe_view *v = p->views;
	unsigned int i;

	if (!views_right(w, p))
		return false;
	for (i = 0; i < p->n; i++) {
		if (stream_diff(w->at + v[i].offset, off, v[i].bytes) >= 0)
			return false;
		off += v[i].bytes;
	}
	return true;
}

/*
 * Peeks and consumes, at most @piece bytes at a time, until @len bytes of the stream at
 * @off have come. Returns their number, which is smaller at the end of the data.
 * Returns -EILSEQ if other bytes come.
 */
static inline long take(const struct window *w, unsigned long off, size_t len,
			size_t piece)
{
	size_t done = 0, n = 0;

	while (done < len) {
		struct peeked p = peek_with(w, n, 0, 0, VIEWS);

		if (p.ret)
			return p.ret;
		if (!p.bytes)
			return done;
		if (!views_show(w, &p, off + done))
			return -EILSEQ;
		n = p.bytes < piece ? p.bytes : piece;
		n = n < len - done ? n : len - done;
		done += n;
	}
	return consume(w, n) ?: (long)done;
}

/*
 * Reads @len bytes and expects the stream at @off. Returns their number, which is
 * smaller at the end of the data. Returns -EILSEQ if other bytes come.
 */
static inline long read_stream(int fd, unsigned long off, size_t len)
{
	unsigned char *buf = malloc(len);
	size_t done = 0;
	long n = 0;

	memset(buf, 0xcc, len);
	while (done < len) {
		n = sys(read(fd, buf + done, len - done));
		if (n <= 0)
			break;
		done += n;
	}
	if (stream_diff(buf, off, done) >= 0)
		n = -EILSEQ;
	free(buf);
	return n < 0 ? n : (long)done;
}

/* Fills the start of the window with @bytes bytes of the stream and commits them. */
static inline struct gifted commit_stream(const struct window *w, unsigned long off,
					  size_t bytes, unsigned int flags)
{
	stream_fill(w->at, off, bytes);
	return commit(w, 0, bytes, flags);
}

static inline bool full_of(const unsigned char *at, unsigned char byte)
{
	return *at == byte && !memcmp(at, at + 1, FRAME - 1);
}

/*
 * True if at most @lost KiB of memory are missing. Waits for up to 5 s, since the
 * kernel counts freed memory with a delay.
 */
static inline bool comes_back(long before, long lost)
{
	int i;

	for (i = 0; i < 50 && available() <= before - lost; i++)
		usleep(100000);
	return available() > before - lost;
}

/* Expects that all bytes were committed as frames, and none copied. */
#define EXPECT_MOVED(g, bytes)						\
({									\
	struct gifted __g = g;						\
	long __bytes = bytes;						\
									\
	EXPECT_EQ(__bytes, __g.ret);					\
	EXPECT_EQ(__bytes, (long)__g.moved) {				\
		tell_reasons(&__g);					\
	}								\
	EXPECT_EQ(0, __g.copied);					\
	EXPECT_EQ(0, pieces_copied(&__g));				\
})

/* Expects that all bytes were copied, in one piece, for @reason. */
#define EXPECT_COPIED(g, bytes, reason)					\
({									\
	struct gifted __g = g;						\
	long __bytes = bytes;						\
									\
	EXPECT_EQ(__bytes, __g.ret);					\
	EXPECT_EQ(0, __g.moved);					\
	EXPECT_EQ(__bytes, (long)__g.copied);				\
	EXPECT_EQ(1, __g.why[reason]) {					\
		tell_reasons(&__g);					\
	}								\
})

#endif /* ZPIPE_TESTS_WINDOW_H */
