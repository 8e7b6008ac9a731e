// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows at their limits: bytes in view that fill the pipe, a full area, and frames
 * that end at any offset.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

/*
 * A frame may end at any offset. It is read to its end, even if the reader's memory is
 * not resident.
 */
TEST_F(window, odd_end_of_a_frame)
{
	struct window w = write_window(&self->e, 1);
	unsigned char *to = small_hole(2);
	long len = FRAME / 2 + 10;

	ASSERT_LE(0, w.fd);
	EXPECT_MOVED(commit_stream(&w, 0, len, 0), len);
	EXPECT_EQ(FRAME / 2, read_stream(self->e.fd[0], 0, FRAME / 2));
	EXPECT_EQ(10, sys(read(self->e.fd[0], to, PAGE)));
	EXPECT_EQ(-1, stream_diff(to, FRAME / 2, 10));
}

/*
 * A reader never sees the bytes of a frame that were not committed, before or behind
 * the committed part.
 */
TEST_F(window, rest_of_a_frame)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 2);
	const long part = FRAME / 4 + 8;
	struct peeked p;
	unsigned char *at;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	EXPECT_MOVED(commit_stream(&w, 0, FRAME - part, 0), FRAME - part);
	p = peek(&r, 0);
	ASSERT_EQ(FRAME - part, (long)p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_TRUE(all_zero(r.at + p.views[0].offset + FRAME - part, part));
	EXPECT_EQ(0, consume(&r, FRAME - part));

	stream_fill(w.at, 0, FRAME);
	EXPECT_MOVED(commit(&w, part, FRAME - part, 0), FRAME - part);
	p = peek(&r, 0);
	ASSERT_EQ(FRAME - part, (long)p.bytes);
	EXPECT_TRUE(views_show(&r, &p, part));
	at = r.at + p.views[0].offset - part;
	EXPECT_EQ(0, (at - r.at) % FRAME);
	EXPECT_TRUE(all_zero(at, part));
}

/* Makes a window, fills it with the stream, and commits @c->len bytes. */
static long commits(struct child *c)
{
	struct zpipe_window arg = {
		.size = sizeof(arg), .flags = ZPIPE_WINDOW_WRITE, .bytes = c->len,
	};
	struct window w = {};
	struct gifted g;

	if (ioctl(c->fd, ZPIPE_IOC_WINDOW, &arg))
		return -errno;
	w.fd = arg.fd;
	w.bytes = arg.bytes;
	w.at = map_window(&w, PROT_READ | PROT_WRITE);
	g = commit_stream(&w, c->flags, c->len, 0);
	return g.ret;
}

static struct child child_commits(struct ends *e, unsigned long off, size_t len)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = commits, .fd = e->fd[1], .drop = e->fd[0],
		.len = len, .flags = off,
	};

	child_start(&c, 0);
	return c;
}

/* A blocked commit sleeps, on a buffer-only pipe, too. */
TEST_F_TIMEOUT(window, blocked_commit_sleeps, 2 * TIMEOUT)
{
	int only;

	for (only = 0; only < 2; only++) {
		struct child c;

		ASSERT_EQ(0, set_flags(self->e.fd[0], only ? ZPIPE_BUFFER_ONLY : 0));
		c = child_commits(&self->e, 0, 10 * FRAME);
		EXPECT_TRUE(child_asleep(&c));
		EXPECT_EQ(8 * FRAME, fionread(self->e.fd[0]));
		EXPECT_EQ(10 * FRAME, read_stream(self->e.fd[0], 0, 10 * FRAME));
		EXPECT_EQ(10 * FRAME, child_join(&c));
	}
}

/* The pipe transfers any number of bytes while some bytes are in view all the time. */
TEST_F_TIMEOUT(window, some_always_in_view, 4 * TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	const long piece = 10 * PAGE - 7;
	unsigned long off = 0, len = 0;
	unsigned int flags = 0;

	ASSERT_LE(0, r.fd);
	while (off < 3 * FRAME) {
		struct peeked p;

		ASSERT_EQ(piece, stream_write(self->e.fd[1], off + len, piece));
		len += piece;
		p = peek_with(&r, 0, 0, flags, VIEWS);
		ASSERT_EQ(0, p.ret);
		ASSERT_EQ(len, p.bytes);
		ASSERT_TRUE(views_show(&r, &p, off));
		ASSERT_EQ(0, consume(&r, len - 50));
		off += len - 50;
		len = 50;
		flags = ZPIPE_MORE;
	}
}

/* A gift that does not fit behind the bytes in view is shown in parts. */
TEST_F_TIMEOUT(window, gift_behind_a_byte, TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	unsigned char *at = huge_memory(1, 1);
	struct peeked p;

	ASSERT_LE(0, r.fd);
	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_EQ(1, stream_write(self->e.fd[1], 0, 1));
	ASSERT_EQ(0, consume(&r, 0));
	p = peek(&r, 0);
	EXPECT_EQ(1, p.bytes);
	ASSERT_EQ(HUGE_SIZE, gift(&self->e, at, HUGE_SIZE).ret);
	ASSERT_EQ(10, stream_write(self->e.fd[1], HUGE_SIZE + 1, 10));
	p = peek(&r, 0);
	ASSERT_EQ(0, p.ret);
	EXPECT_LT(1, p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(HUGE_SIZE + 11, take(&r, 0, HUGE_SIZE + 11, 100 * PAGE + 1));
	munmap(at, HUGE_SIZE);
}

/* Small writes merge in view as they would in the pipe. */
TEST_F(window, small_writes_merge)
{
	struct window r = read_window(&self->e, 1);
	long off;

	ASSERT_LE(0, r.fd);
	for (off = 0; off < 3 * PAGE; off += 100) {
		struct peeked p;

		ASSERT_EQ(100, stream_write(self->e.fd[1], off, 100));
		p = peek_with(&r, 0, 0, off ? ZPIPE_MORE : 0, VIEWS);
		ASSERT_EQ(0, p.ret);
		ASSERT_EQ(off + 100, (long)p.bytes);
		ASSERT_TRUE(views_show(&r, &p, 0));
	}
	/* Closing the window returns all bytes to the pipe. */
	free_window(&r);
	EXPECT_EQ(off, fionread(self->e.fd[0]));
	EXPECT_EQ(off, read_stream(self->e.fd[0], 0, off));
}

/* A peek for more fails with ENOBUFS if the pipe and the window cannot hold more. */
TEST_F_TIMEOUT(window, peek_more_enobufs, 2 * TIMEOUT)
{
	struct window r = read_window(&self->e, 16);
	struct peeked p;
	struct child c;

	ASSERT_LE(0, r.fd);
	child_write(&c, &self->e, 0, 2 * SLOTS * PAGE);
	ASSERT_TRUE(child_asleep(&c));
	p = peek(&r, 0);
	EXPECT_EQ(SLOTS * PAGE, (long)p.bytes);
	EXPECT_EQ(-ENOBUFS, peek(&r, ZPIPE_MORE).ret);
	EXPECT_EQ(-ENOBUFS, peek(&r, ZPIPE_MORE | ZPIPE_NONBLOCK).ret);
	EXPECT_TRUE(child_asleep(&c));
	EXPECT_EQ(2 * SLOTS * PAGE, take(&r, 0, 2 * SLOTS * PAGE, SLOTS * PAGE));
	EXPECT_EQ(2 * SLOTS * PAGE, child_join(&c));

	c = child_commits(&self->e, 0, 9 * FRAME);
	ASSERT_TRUE(child_asleep(&c));
	p = peek(&r, 0);
	EXPECT_EQ(8 * FRAME, (long)p.bytes);
	EXPECT_EQ(-ENOBUFS, peek(&r, ZPIPE_MORE).ret);
	EXPECT_EQ(9 * FRAME, take(&r, 0, 9 * FRAME, FRAME + 1));
	EXPECT_EQ(9 * FRAME, child_join(&c));
}

/* A window full of frames delays no other writers and readers. */
TEST_F_TIMEOUT(window, gift_beside_a_full_window, 2 * TIMEOUT)
{
	struct window r = read_window(&self->e, 8);
	unsigned char *at = huge_memory(1, 8 * FRAME);
	struct peeked p;
	struct child c, writer;

	ASSERT_LE(0, r.fd);
	c = child_commits(&self->e, 0, 8 * FRAME);
	EXPECT_EQ(8 * FRAME, child_join(&c));
	p = peek(&r, 0);
	EXPECT_EQ(8 * FRAME, (long)p.bytes);
	/*
	 * The gift is copied, since the window holds as many frames as a pipe may have.
	 * A reader beside the window gets the bytes.
	 */
	child_gift(&writer, &self->e, 1);
	EXPECT_EQ(HUGE_SIZE, read_stream(self->e.fd[0], 0, HUGE_SIZE));
	EXPECT_EQ(HUGE_SIZE, child_join(&writer));
	EXPECT_TRUE(views_show(&r, &p, 0));
	munmap(at, HUGE_SIZE);
}

/* Bytes in view count for the lower limit of the capacity, too. */
TEST_F(window, capacity)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = 2 * PAGE };
	struct window r = read_window(&self->e, 1);
	struct peeked p;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	p = peek(&r, 0);
	EXPECT_EQ(3 * PAGE, (long)p.bytes);
	EXPECT_EQ(-EBUSY, sys(ioctl(self->e.fd[1], ZPIPE_IOC_SET_CAPACITY, &arg)));
	EXPECT_EQ(0, consume(&r, PAGE));
	EXPECT_EQ(0, sys(ioctl(self->e.fd[1], ZPIPE_IOC_SET_CAPACITY, &arg)));
	EXPECT_EQ(2 * PAGE, (long)arg.bytes);
	free_window(&r);
	EXPECT_EQ(2 * PAGE, read_stream(self->e.fd[0], PAGE, 2 * PAGE));
}

/* A window shows only a limited number of slots at once. */
TEST_F_TIMEOUT(window, many_slots, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = 1024 * PAGE };
	struct window r = read_window(&self->e, 1);
	const long len = 700 * 2049, max = 520 * 2049;
	struct peeked p;
	long off;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, sys(ioctl(self->e.fd[1], ZPIPE_IOC_SET_CAPACITY, &arg)));
	for (off = 0; off < len; off += 2049)
		ASSERT_EQ(2049, stream_write(self->e.fd[1], off, 2049));
	p = peek(&r, 0);
	EXPECT_EQ(0, p.ret);
	EXPECT_GE(max, (long)p.bytes);
	EXPECT_LE(FRAME / 4, (long)p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(-ENOBUFS, peek(&r, ZPIPE_MORE | ZPIPE_NONBLOCK).ret);
	EXPECT_EQ(len, take(&r, 0, len, 100000));
}

/* A small commit across two frames is one write, and one packet. */
TEST_F(window, across_frames)
{
	struct window w = write_window(&self->e, 2);
	unsigned char to[2 * PAGE];
	struct gifted g;
	int flags;

	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, 2 * FRAME);
	/* The last slot has space for half of it. */
	ASSERT_EQ((SLOTS - 1) * PAGE, stream_write(self->e.fd[1], 0, (SLOTS - 1) * PAGE));
	ASSERT_EQ(PAGE - 100, stream_write(self->e.fd[1], 0, PAGE - 100));
	g = commit(&w, FRAME - 100, 200, ZPIPE_NONBLOCK);
	EXPECT_EQ(-EAGAIN, g.ret);
	EXPECT_EQ((SLOTS - 1) * PAGE, read_stream(self->e.fd[0], 0, (SLOTS - 1) * PAGE));
	EXPECT_EQ(PAGE - 100, read_stream(self->e.fd[0], 0, PAGE - 100));
	g = commit(&w, FRAME - 100, 200, ZPIPE_NONBLOCK);
	EXPECT_EQ(200, g.ret);
	EXPECT_EQ(200, (long)g.copied);
	EXPECT_EQ(2, g.why[ZPIPE_REASON_PART]);
	EXPECT_EQ(200, read_stream(self->e.fd[0], FRAME - 100, 200));

	flags = fcntl(self->e.fd[1], F_GETFL);
	if (self->e.kind == ZNODE)
		return;
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, flags | O_DIRECT));
	EXPECT_EQ(100 + PAGE, commit(&w, FRAME - 100, 100 + PAGE, 0).ret);
	EXPECT_EQ(PAGE, read(self->e.fd[0], to, sizeof(to)));
	EXPECT_EQ(-1, stream_diff(to, FRAME - 100, PAGE));
	EXPECT_EQ(100, read(self->e.fd[0], to, sizeof(to)));
	EXPECT_EQ(-1, stream_diff(to, FRAME - 100 + PAGE, 100));
}

/* Opening a read window on a pipe with a posted write makes its owner buffer the bytes. */
TEST_F_TIMEOUT(window, opened_during_a_posted_write, TIMEOUT)
{
	const long len = 40 * SLOTS * PAGE;
	struct window r;
	struct child c;

	child_write(&c, &self->e, 0, len);
	ASSERT_TRUE(child_asleep(&c));
	r = read_window(&self->e, 1);
	ASSERT_LE(0, r.fd);
	EXPECT_EQ(len, take(&r, 0, len, SLOTS * PAGE - 1));
	EXPECT_EQ(len, child_join(&c));
}

/* Closes the window that the child inherited, so that only the parent holds it. */
static long reads_without(struct child *c)
{
	struct window *r = c->arg;

	close(r->fd);
	return read_all_of_it(c);
}

/*
 * Consuming wakes a blocked writer. Closing a window returns bytes and wakes a blocked
 * reader.
 */
TEST_F_TIMEOUT(window, others_are_woken, TIMEOUT)
{
	struct window r = read_window(&self->e, 1);
	struct child c;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(SLOTS * PAGE, stream_write(self->e.fd[1], 0, SLOTS * PAGE));
	EXPECT_EQ(SLOTS * PAGE, (long)peek(&r, 0).bytes);
	child_write(&c, &self->e, SLOTS * PAGE, PAGE);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(0, consume(&r, PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(PAGE, read_stream(self->e.fd[0], SLOTS * PAGE, PAGE));

	c = (struct child) {
		.nr = SYS_read, .fn = reads_without, .arg = &r,
		.fd = self->e.fd[0], .drop = self->e.fd[1],
		.len = (SLOTS - 1) * PAGE, .buf = shared_alloc(SLOTS * PAGE), .flags = PAGE,
	};
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	free_window(&r);
	EXPECT_EQ((SLOTS - 1) * PAGE, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, PAGE, (SLOTS - 1) * PAGE));
}

/* Memory whose page faults are never answered. */
static void *stuck_memory(void)
{
	void *at = hole(1);

	watch(at);
	return at;
}

/* Peeks with a views array whose page faults are never answered. */
static long peeks_stuck(struct child *c)
{
	struct zpipe_window win = {
		.size = sizeof(win), .flags = ZPIPE_WINDOW_READ, .bytes = FRAME,
	};
	struct zpipe_peek arg = {
		.size = sizeof(arg), .views = (unsigned long)stuck_memory(), .nr_views = 1,
	};

	if (ioctl(c->fd, ZPIPE_IOC_WINDOW, &win))
		return -1;
	return ioctl(win.fd, ZPIPE_IOC_PEEK, &arg);
}

/*
 * A reader that is stuck in a peek delays nobody. When it is killed, the bytes return
 * to the pipe.
 */
TEST_F_TIMEOUT(window, stuck_reader, TIMEOUT)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = peeks_stuck, .fd = self->e.fd[0],
		.drop = self->e.fd[1],
	};
	struct window w = write_window(&self->e, 1);

	ASSERT_LE(0, w.fd);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	child_start(&c, 0);
	ASSERT_TRUE(eventually(!fionread(self->e.fd[0])));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 100, 10));
	EXPECT_MOVED(commit_stream(&w, 110, FRAME, 0), FRAME);
	EXPECT_EQ(10 + FRAME, read_stream(self->e.fd[0], 100, 10 + FRAME));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_TRUE(eventually(fionread(self->e.fd[0]) == 100));
	EXPECT_EQ(100, read_stream(self->e.fd[0], 0, 100));
}

static long writes_stuck(struct child *c)
{
	c->report->done = 2;
	return write(c->fd, stuck_memory(), 3 * PAGE);
}

/* A writer whose memory is stuck does not delay windows. */
TEST_F_TIMEOUT(window, beside_a_stuck_writer, TIMEOUT)
{
	struct child c = {
		.nr = SYS_write, .fn = writes_stuck, .fd = self->e.fd[1],
		.drop = self->e.fd[0],
	};
	struct window w, r;
	int i;

	child_start(&c, 0);
	ASSERT_TRUE(eventually(c.report->done == 2));
	usleep(20000 * SLOWER);
	w = write_window(&self->e, 1);
	r = read_window(&self->e, 1);
	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	for (i = 0; i < 3; i++) {
		EXPECT_MOVED(commit_stream(&w, i * FRAME, FRAME, 0), FRAME);
		EXPECT_EQ(FRAME, take(&r, i * FRAME, FRAME, FRAME / 3));
	}
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
}

TEST_HARNESS_MAIN
