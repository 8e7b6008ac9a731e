// SPDX-License-Identifier: GPL-2.0-only
/*
 * Read windows: the bytes they show, consuming some of them, and showing the rest
 * again. Also bytes that return to the pipe, peeks that block, and the end of the data.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

#include <sys/epoll.h>

#define ALL	VIEWS	/* the size of the views array */

/* Expects that the peek @p showed @len bytes: the stream from @off on. */
#define EXPECT_SHOWN(w, p, off, len)					\
({									\
	const struct window *__w = w;					\
	struct peeked __p = p;						\
	unsigned long __len = len;					\
									\
	EXPECT_EQ(0, __p.ret);						\
	EXPECT_EQ(__len, __p.bytes);					\
	EXPECT_TRUE(views_show(__w, &__p, off));			\
})

TEST_F(window, bad_arguments)
{
	struct window r = read_window(&self->e, 1);
	struct zpipe_view views[2];
	struct zpipe_peek arg = { .size = sizeof(arg), .views = (unsigned long)views };
	struct zpipe_consume done = { .size = sizeof(done) };

	ASSERT_LE(0, r.fd);
	EXPECT_LE(FRAME, r.bytes);
	EXPECT_EQ(0, r.bytes % FRAME);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(-EINVAL, peek_with(&r, 0, 0, 0, 0).ret);
	EXPECT_EQ(-EINVAL, peek_with(&r, 0, 0, ZPIPE_LEND, ALL).ret);
	EXPECT_EQ(-EINVAL, peek_with(&r, 0, 0, 0x80000000, ALL).ret);
	EXPECT_EQ(-EINVAL, peek_with(&r, 1, 0, 0, ALL).ret);
	EXPECT_EQ(-EINVAL, consume(&r, 1));
	EXPECT_EQ(0, consume(&r, 0));
	arg.nr_views = 2;
	arg.reserved = 1;
	EXPECT_EQ(-EINVAL, sys(ioctl(r.fd, ZPIPE_IOC_PEEK, &arg)));
	arg.reserved = 0;
	EXPECT_EQ(100, fionread(self->e.fd[0]));

	EXPECT_SHOWN(&r, peek(&r, 0), 0, 100);
	EXPECT_EQ(-EINVAL, consume(&r, 101));
	EXPECT_EQ(-EINVAL, consume(&r, -1UL));
	EXPECT_EQ(-EINVAL, peek_with(&r, 101, 0, 0, ALL).ret);
	done.flags = 1;
	done.bytes = 10;
	EXPECT_EQ(-EINVAL, sys(ioctl(r.fd, ZPIPE_IOC_CONSUME, &done)));
	/* The refused calls have changed nothing. */
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 100);
	EXPECT_EQ(0, consume(&r, 100));
	EXPECT_EQ(-EINVAL, consume(&r, 1));
}

/* If the views cannot be written to user memory, the next peek reports them again. */
TEST_F(window, bad_memory_for_views)
{
	struct zpipe_peek arg = {
		.size = sizeof(arg), .nr_views = ALL, .views = -(unsigned long)PAGE,
	};
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 2);

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(FRAME, commit_stream(&w, 100, FRAME, 0).moved);
	EXPECT_EQ(-EFAULT, sys(ioctl(r.fd, ZPIPE_IOC_PEEK, &arg)));
	EXPECT_EQ(-EFAULT, sys(ioctl(r.fd, ZPIPE_IOC_PEEK, &arg)));
	EXPECT_SHOWN(&r, peek(&r, 0), 0, FRAME + 100);
	EXPECT_EQ(0, consume(&r, 50));
	EXPECT_EQ(-EFAULT, sys(ioctl(r.fd, ZPIPE_IOC_PEEK, &arg)));
	EXPECT_EQ(-EFAULT, sys(ioctl(r.fd, ZPIPE_IOC_PEEK, NULL)));
	EXPECT_SHOWN(&r, peek(&r, 0), 50, FRAME + 50);
}

/* Written bytes: each write is contiguous in view and is copied once. */
TEST_F(window, written_bytes)
{
	struct window r = read_window(&self->e, 1);
	unsigned long end = 0;
	struct peeked p;
	unsigned int i;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(50000, stream_write(self->e.fd[1], 0, 50000));
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, 50000);
	EXPECT_EQ(50000, p.copied);
	for (i = 0; i < p.n; i++) {
		EXPECT_EQ(0, p.views[i].flags);
		if (i)
			EXPECT_EQ(end, p.views[i].offset);
		end = p.views[i].offset + p.views[i].bytes;
	}
	/* A second peek copies nothing. */
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, 50000);
	EXPECT_EQ(0, p.copied);
	EXPECT_EQ(0, consume(&r, 50000));
	EXPECT_EQ(0, fionread(self->e.fd[0]));

	/* Several writes of different sizes. */
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 10, 5000));
	ASSERT_EQ(1, stream_write(self->e.fd[1], 5010, 1));
	ASSERT_EQ(20000, stream_write(self->e.fd[1], 5011, 20000));
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 25011);
	ASSERT_EQ(300, stream_write(self->e.fd[1], 25011, 300));
	EXPECT_SHOWN(&r, peek_with(&r, 25011, 0, 0, ALL), 25011, 300);
}

/* The rest is shown again together with new bytes, in windows of several sizes. */
TEST_F_TIMEOUT(window, odd_parts, 2 * TIMEOUT)
{
	static const unsigned long pieces[] = { 3, 4095, 4097, 77777, FRAME - 1, FRAME };
	struct child c;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct window r = read_window(&self->e, 1 + i % 3);
		/* Each peek compares everything in view, so small pieces get less data. */
		size_t len = pieces[i] < 77777 ? 5 * PAGE : 2 * FRAME + 54321;

		ASSERT_LE(0, r.fd);
		child_write(&c, &self->e, 7 * i, len);
		EXPECT_EQ(len, take(&r, 7 * i, len, pieces[i]));
		EXPECT_EQ(len, child_join(&c));
		free_window(&r);
		EXPECT_EQ(0, fionread(self->e.fd[0]));
	}
}

/* A peek waits for more than is in view only if ZPIPE_MORE asks for that. */
TEST_F_TIMEOUT(window, peek_more, TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	struct child c;

	ASSERT_LE(0, r.fd);
	EXPECT_EQ(-EAGAIN, peek(&r, ZPIPE_NONBLOCK | ZPIPE_MORE).ret);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_SHOWN(&r, peek(&r, ZPIPE_MORE), 0, 100);
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 100);
	EXPECT_SHOWN(&r, peek(&r, ZPIPE_NONBLOCK), 0, 100);
	EXPECT_EQ(-EAGAIN, peek(&r, ZPIPE_NONBLOCK | ZPIPE_MORE).ret);
	child_write(&c, &self->e, 100, 50);
	EXPECT_SHOWN(&r, peek(&r, ZPIPE_MORE), 0, 150);
	EXPECT_EQ(50, child_join(&c));
	/* At the end of the data a peek for more does not block. */
	close_end(&self->e, 1);
	EXPECT_SHOWN(&r, peek(&r, ZPIPE_MORE), 0, 150);
	EXPECT_SHOWN(&r, peek_with(&r, 150, 0, ZPIPE_MORE, ALL), 150, 0);
	EXPECT_SHOWN(&r, peek(&r, 0), 150, 0);
}

static void few_views(struct __test_metadata *_metadata, struct ends *e, struct window *r)
{
	struct peeked p = peek_with(r, 0, 0, 0, 1);

	EXPECT_TRUE(views_show(r, &p, 0));
	EXPECT_EQ(1, p.n);
	EXPECT_EQ(0, p.views[0].flags & ~ZPIPE_VIEW_PACKET);
	/* The same view again, then all of them. */
	p = peek_with(r, 0, 0, 0, 1);
	EXPECT_TRUE(views_show(r, &p, 0));
	EXPECT_EQ(1, p.n);
	p = peek(r, 0);
	EXPECT_TRUE(views_show(r, &p, 0));
	EXPECT_LE(FRAME + 500, p.bytes);
}

/*
 * A peek returns no more views than its array holds, and not many more bytes than
 * requested.
 */
TEST_F(window, limits)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 2);
	struct peeked p;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(500, stream_write(self->e.fd[1], 0, 500));
	ASSERT_EQ(FRAME, commit_stream(&w, 500, FRAME, 0).moved);
	ASSERT_EQ(100, stream_write(self->e.fd[1], FRAME + 500, 100));
	p = peek_with(&r, 0, 1, 0, ALL);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_LE(1, p.bytes);
	EXPECT_GE(500, p.bytes);
	few_views(_metadata, &self->e, &r);
	EXPECT_EQ(FRAME + 600, take(&r, 0, FRAME + 600, FRAME / 3));
}

/* Each packet is a view of its own. */
TEST_F(window, packets)
{
	struct window r = read_window(&self->e, 1);
	struct peeked p;
	unsigned int i;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 10, PAGE));
	ASSERT_EQ(20, stream_write(self->e.fd[1], PAGE + 10, 20));
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, PAGE + 30);
	ASSERT_EQ(3, p.n);
	EXPECT_EQ(10, p.views[0].bytes);
	EXPECT_EQ(PAGE, p.views[1].bytes);
	EXPECT_EQ(20, p.views[2].bytes);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(ZPIPE_VIEW_PACKET, p.views[i].flags);
	/* Consume a part of a packet, then the rest and a part of the next one. */
	p = peek_with(&r, 4, 0, 0, ALL);
	EXPECT_SHOWN(&r, p, 4, PAGE + 26);
	ASSERT_EQ(3, p.n);
	EXPECT_EQ(6, p.views[0].bytes);
	EXPECT_EQ(ZPIPE_VIEW_PACKET, p.views[0].flags);
	p = peek_with(&r, 100, 0, 0, ALL);
	EXPECT_SHOWN(&r, p, 104, PAGE - 74);
	ASSERT_EQ(2, p.n);
	EXPECT_EQ(PAGE - 94, p.views[0].bytes);
	EXPECT_EQ(ZPIPE_VIEW_PACKET, p.views[0].flags);
	EXPECT_EQ(20, p.views[1].bytes);
	EXPECT_EQ(0, consume(&r, PAGE - 94 + 20));
	/* Back to stream mode. */
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, 0));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, 10);
	EXPECT_EQ(0, p.views[0].flags);
}

/* A read window shows the very frame that the write window committed. */
TEST_F(window, the_same_frame)
{
	struct window w = write_window(&self->e, 2), r = read_window(&self->e, 2);
	unsigned long was[2], left;
	struct peeked p;
	unsigned int i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	stream_fill(w.at, 0, 2 * FRAME);
	for (i = 0; i < 2; i++) {
		was[i] = frame(w.at + i * FRAME);
		ASSERT_NE(0, was[i]);
	}
	ASSERT_EQ(2 * FRAME, commit(&w, 0, 2 * FRAME, 0).moved);
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, 2 * FRAME);
	EXPECT_EQ(0, p.copied);
	for (i = 0, left = 0; i < p.n; left += p.views[i++].bytes)
		EXPECT_EQ(was[left / FRAME] + left % FRAME / PAGE,
			  frame(r.at + p.views[i].offset));
	/* The frame stays in its place while odd parts of it are consumed. */
	for (left = 2 * FRAME; left > 123457; left -= 123457) {
		p = peek_with(&r, 123457, 0, 0, ALL);
		EXPECT_SHOWN(&r, p, 2 * FRAME - left + 123457, left - 123457);
		EXPECT_EQ(0, p.copied);
	}
	EXPECT_EQ(0, consume(&r, left));
	EXPECT_EQ(-EAGAIN, peek(&r, ZPIPE_NONBLOCK).ret);
	/* The writer stores to other frames now. */
	memset(w.at, 1, 2 * FRAME);
}

/* A read window shows gifts, too. */
TEST_F(window, gifts)
{
	struct window r = read_window(&self->e, 2);
	unsigned char *at = huge_memory(1, 0);

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, at, HUGE_SIZE).moved);
	ASSERT_EQ(10, stream_write(self->e.fd[1], HUGE_SIZE, 10));
	EXPECT_EQ(HUGE_SIZE + 10, take(&r, 0, HUGE_SIZE + 10, FRAME / 3));
}

/* Bytes in view do not change, whatever is written behind them. */
TEST_F(window, bytes_in_view_do_not_change)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	struct peeked p;
	int i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(FRAME, commit_stream(&w, 0, FRAME, 0).moved);
	p = peek(&r, 0);
	EXPECT_SHOWN(&r, p, 0, FRAME);
	for (i = 0; i < 10; i++) {
		memset(w.at, i, FRAME);
		ASSERT_EQ(FRAME, commit(&w, 0, FRAME, 0).moved);
		ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
		EXPECT_TRUE(views_show(&r, &p, 0));
		/* Another reader consumes the bytes behind them. */
		ASSERT_EQ(FRAME, fetch(&self->e, hole(1), FRAME, 0).ret);
		ASSERT_EQ(100, read_stream(self->e.fd[0], 0, 100));
		EXPECT_TRUE(views_show(&r, &p, 0));
	}
	EXPECT_SHOWN(&r, peek(&r, 0), 0, FRAME);
}

/* Two windows share the bytes of a pipe as two readers do. */
TEST_F(window, two_windows)
{
	struct window r[2] = { read_window(&self->e, 1), read_window(&self->e, 1) };

	ASSERT_LE(0, r[0].fd);
	ASSERT_LE(0, r[1].fd);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_SHOWN(&r[0], peek(&r[0], 0), 0, 100);
	EXPECT_EQ(-EAGAIN, peek(&r[1], ZPIPE_NONBLOCK).ret);
	ASSERT_EQ(50, stream_write(self->e.fd[1], 100, 50));
	EXPECT_SHOWN(&r[1], peek(&r[1], 0), 100, 50);
	EXPECT_EQ(-EAGAIN, peek(&r[0], ZPIPE_NONBLOCK | ZPIPE_MORE).ret);
	EXPECT_EQ(0, consume(&r[1], 20));
	EXPECT_SHOWN(&r[0], peek(&r[0], 0), 0, 100);
	free_window(&r[0]);
	EXPECT_EQ(100, read_stream(self->e.fd[0], 0, 100));
	EXPECT_EQ(0, consume(&r[1], 30));
}

static long edges(int ep)
{
	struct epoll_event ev;
	int n = epoll_wait(ep, &ev, 1, 0);

	return n > 0 ? (long)ev.events : n;
}

/* Returns an epoll instance that watches the read end. */
static int watch_end(struct ends *e, unsigned int mask)
{
	struct epoll_event ev = { .events = EPOLLIN | mask };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd[0], &ev))
		abort();
	return ep;
}

/*
 * Writes bytes and a frame, shows them in @r and consumes ten bytes. FIONREAD and poll
 * do not count the bytes in view.
 */
static void put_in_view(struct __test_metadata *_metadata, struct ends *e,
			struct window *w, struct window *r)
{
	ASSERT_EQ(1000, stream_write(e->fd[1], 0, 1000));
	ASSERT_EQ(FRAME, commit_stream(w, 1000, FRAME, 0).moved);
	EXPECT_SHOWN(r, peek(r, 0), 0, FRAME + 1000);
	EXPECT_EQ(0, fionread(e->fd[0]));
	EXPECT_EQ(0, poll_mask(e->fd[0]) & POLLIN);
	EXPECT_EQ(0, consume(r, 10));
}

TEST_F(window, close_returns_what_is_in_view)
{
	int level = watch_end(&self->e, 0), edge = watch_end(&self->e, EPOLLET), i;
	struct window w = write_window(&self->e, 1), r;

	ASSERT_LE(0, w.fd);
	for (i = 0; i < 4; i++) {
		r = read_window(&self->e, 2);
		ASSERT_LE(0, r.fd);
		put_in_view(_metadata, &self->e, &w, &r);
		/* Drop the edge of the write. */
		edges(edge);
		EXPECT_EQ(0, edges(edge));
		EXPECT_EQ(0, edges(level));
		if (i % 2)
			munmap(r.at, r.bytes);
		else
			close(r.fd);
		EXPECT_EQ(0, edges(level));
		EXPECT_EQ(0, edges(edge));
		if (i % 2)
			close(r.fd);
		else
			munmap(r.at, r.bytes);
		EXPECT_EQ(EPOLLIN, edges(edge));
		EXPECT_EQ(EPOLLIN, edges(level));
		EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
		EXPECT_EQ(FRAME + 990, fionread(self->e.fd[0]));
		ASSERT_EQ(77, stream_write(self->e.fd[1], FRAME + 1000, 77));
		if (i < 2) {
			EXPECT_EQ(FRAME + 1067,
				  read_stream(self->e.fd[0], 10, FRAME + 1067));
			continue;
		}
		r = read_window(&self->e, 2);
		ASSERT_LE(0, r.fd);
		EXPECT_EQ(FRAME + 1067, take(&r, 10, FRAME + 1067, FRAME / 2));
		free_window(&r);
	}
	/* Closing a window with nothing in view reports no event. */
	r = read_window(&self->e, 2);
	ASSERT_LE(0, r.fd);
	edges(edge);
	free_window(&r);
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
}

/* Bytes that return to the pipe come before bytes that were written later. */
TEST_F(window, returned_bytes_come_first)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 2);

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	put_in_view(_metadata, &self->e, &w, &r);
	ASSERT_EQ(500, stream_write(self->e.fd[1], FRAME + 1000, 500));
	ASSERT_EQ(FRAME, commit_stream(&w, FRAME + 1500, FRAME, 0).moved);
	free_window(&r);
	EXPECT_EQ(2 * FRAME + 1490, fionread(self->e.fd[0]));
	EXPECT_EQ(2 * FRAME + 1490, read_stream(self->e.fd[0], 10, 2 * FRAME + 1490));
}

/* Peeks and consumes ten bytes. When the child is killed, the rest returns to the pipe. */
static long peek_and_wait(struct child *c)
{
	struct window r = make_window(c->fd, 2 * FRAME, ZPIPE_WINDOW_READ);

	if (peek(&r, 0).bytes != FRAME + 1000 || consume(&r, 10))
		return -1;
	*c->buf = 1;
	pause();
	return 0;
}

TEST_F_TIMEOUT(window, kill_returns_what_is_in_view, TIMEOUT)
{
	struct child c = {
		.nr = SYS_pause, .fn = peek_and_wait, .fd = self->e.fd[0],
		.drop = self->e.fd[1], .buf = shared_alloc(1),
	};
	struct window w = write_window(&self->e, 1);
	int edge = watch_end(&self->e, EPOLLET);

	ASSERT_LE(0, w.fd);
	ASSERT_EQ(1000, stream_write(self->e.fd[1], 0, 1000));
	ASSERT_EQ(FRAME, commit_stream(&w, 1000, FRAME, 0).moved);
	child_start(&c, 0);
	ASSERT_TRUE(eventually(*(volatile unsigned char *)c.buf));
	edges(edge);
	EXPECT_EQ(0, edges(edge));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	/* The kernel may unmap its memory with a delay. */
	EXPECT_TRUE(eventually(edges(edge) == EPOLLIN));
	ASSERT_EQ(500, stream_write(self->e.fd[1], FRAME + 1000, 500));
	EXPECT_EQ(FRAME + 1490, fionread(self->e.fd[0]));
	EXPECT_EQ(FRAME + 1490, read_stream(self->e.fd[0], 10, FRAME + 1490));
}

/* A window counts as a read end until its descriptor and its mapping are gone. */
TEST_F(window, counts_as_a_read_end)
{
	struct window r = read_window(&self->e, 1);

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, catch_signal(SIGPIPE, 0));
	close_end(&self->e, 0);
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, take(&r, 0, 10, 10));
	close(r.fd);
	EXPECT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	munmap(r.at, r.bytes);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(POLLOUT | POLLERR, poll_mask(self->e.fd[1]));
}

/* The data ends when the last write end is gone, even if that is a window. */
TEST_F(window, end_of_data)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 2);

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	close_end(&self->e, 1);
	EXPECT_EQ(-EAGAIN, peek(&r, ZPIPE_NONBLOCK).ret);
	ASSERT_EQ(FRAME, commit_stream(&w, 0, FRAME, 0).moved);
	free_window(&w);
	EXPECT_SHOWN(&r, peek(&r, 0), 0, FRAME);
	EXPECT_EQ(0, consume(&r, FRAME - 1));
	EXPECT_SHOWN(&r, peek(&r, 0), FRAME - 1, 1);
	EXPECT_SHOWN(&r, peek_with(&r, 1, 0, 0, ALL), FRAME, 0);
	EXPECT_SHOWN(&r, peek(&r, ZPIPE_NONBLOCK), FRAME, 0);
}

TEST_F(window, nonblocking_end)
{
	struct window r;

	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	r = read_window(&self->e, 1);
	ASSERT_LE(0, r.fd);
	EXPECT_EQ(-EAGAIN, peek(&r, 0).ret);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 10);
	EXPECT_EQ(-EAGAIN, peek(&r, ZPIPE_MORE).ret);
}

/* Returns the number of bytes that a peek shows. */
static long peek_once(struct child *c)
{
	struct peeked p = peek(c->arg, c->flags);

	return p.ret ?: (long)p.bytes;
}

static struct child child_peeks(struct ends *e, struct window *r, unsigned int flags)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = peek_once, .fd = e->fd[0], .drop = e->fd[1],
		.flags = flags, .arg = r,
	};

	child_start(&c, 0);
	return c;
}

TEST_F_TIMEOUT(window, waits, TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	struct child c;

	ASSERT_LE(0, r.fd);
	c = child_peeks(&self->e, &r, 0);
	ASSERT_TRUE(child_asleep(&c));
	/* A window serves one call at a time. */
	EXPECT_EQ(-EBUSY, peek(&r, 0).ret);
	EXPECT_EQ(-EBUSY, peek(&r, ZPIPE_NONBLOCK).ret);
	EXPECT_EQ(-EBUSY, consume(&r, 0));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
	c = child_peeks(&self->e, &r, ZPIPE_MORE);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 1);
	EXPECT_EQ(10, child_join(&c));
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 10);
	EXPECT_EQ(0, consume(&r, 10));
	c = child_peeks(&self->e, &r, 0);
	EXPECT_EQ(0, child_join(&c));
}

TEST_F_TIMEOUT(window, signals, TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	struct child c;
	int peek_more;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	ASSERT_EQ(0, catch_signal(SIGUSR2, SA_RESTART));
	for (peek_more = 0; peek_more < 2; peek_more++) {
		c = child_peeks(&self->e, &r, peek_more ? ZPIPE_MORE : 0);
		ASSERT_TRUE(child_asleep(&c));
		child_signal(&c, SIGUSR1);
		EXPECT_EQ(-EINTR, child_join(&c));
		EXPECT_EQ(1, c.report->signals);

		c = child_peeks(&self->e, &r, peek_more ? ZPIPE_MORE : 0);
		ASSERT_TRUE(child_asleep(&c));
		child_signal(&c, SIGUSR2);
		ASSERT_TRUE(eventually(c.report->signals));
		EXPECT_TRUE(child_asleep(&c));
		ASSERT_EQ(10, stream_write(self->e.fd[1], 10 * peek_more, 10));
		EXPECT_EQ(10 + 10 * peek_more, child_join(&c));
	}
	EXPECT_SHOWN(&r, peek(&r, 0), 0, 20);
}

TEST_HARNESS_MAIN
