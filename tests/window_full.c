// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows at their limits: what is in view takes up room, the area that bytes are
 * copied to comes to its end, and frames end anywhere.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

/* A frame that ends anywhere is read to its end, into memory that is not there yet. */
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

/* What was not committed of a frame that left is not shown, wherever it is. */
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

/* A child that commits the first bytes of a window that it makes, with the stream. */
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

/* Who waits for room does not run meanwhile, on a pipe of any kind. */
TEST_F_TIMEOUT(window, waits_asleep, 2 * TIMEOUT)
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

/* As many bytes as one likes go by while some are always in view. */
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
		p = peek_room(&r, 0, 0, flags, VIEWS);
		ASSERT_EQ(0, p.ret);
		ASSERT_EQ(len, p.bytes);
		ASSERT_TRUE(views_show(&r, &p, off));
		ASSERT_EQ(0, consume(&r, len - 50));
		off += len - 50;
		len = 50;
		flags = ZPIPE_MORE;
	}
}

/* A gift that has no room behind what is in view is shown in parts. */
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

/* Small writes are as many slots in view as they would be in the pipe. */
TEST_F(window, small_writes_merge)
{
	struct window r = read_window(&self->e, 1);
	long off;

	ASSERT_LE(0, r.fd);
	for (off = 0; off < 3 * PAGE; off += 100) {
		struct peeked p;

		ASSERT_EQ(100, stream_write(self->e.fd[1], off, 100));
		p = peek_room(&r, 0, 0, off ? ZPIPE_MORE : 0, VIEWS);
		ASSERT_EQ(0, p.ret);
		ASSERT_EQ(off + 100, (long)p.bytes);
		ASSERT_TRUE(views_show(&r, &p, 0));
	}
	/* Closed, it gives all of it back. */
	free_window(&r);
	EXPECT_EQ(off, fionread(self->e.fd[0]));
	EXPECT_EQ(off, read_stream(self->e.fd[0], 0, off));
}

/* Who waits for more than there can be is told. */
TEST_F_TIMEOUT(window, no_room_for_more, 2 * TIMEOUT)
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

/* Others go on beside a window that is full of frames. */
TEST_F_TIMEOUT(window, gifts_beside_a_full_one, 2 * TIMEOUT)
{
	struct window r = read_window(&self->e, 8);
	unsigned char *at = huge_memory(1, 8 * FRAME);
	struct peeked p;
	struct child c, gives;

	ASSERT_LE(0, r.fd);
	c = child_commits(&self->e, 0, 8 * FRAME);
	EXPECT_EQ(8 * FRAME, child_join(&c));
	p = peek(&r, 0);
	EXPECT_EQ(8 * FRAME, (long)p.bytes);
	/* It is copied, and a reader beside the window gets it. */
	child_gift(&gives, &self->e, 1);
	EXPECT_EQ(HUGE_SIZE, read_stream(self->e.fd[0], 0, HUGE_SIZE));
	EXPECT_EQ(HUGE_SIZE, child_join(&gives));
	EXPECT_TRUE(views_show(&r, &p, 0));
	munmap(at, HUGE_SIZE);
}

/* The capacity does not become less than what is in view, too. */
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

/* As many slots as can be in view at once. */
TEST_F_TIMEOUT(window, many_slots, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = 1024 * PAGE };
	struct window r = read_window(&self->e, 1);
	const long len = 700 * 2049, most = 520 * 2049;
	struct peeked p;
	long off;

	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, sys(ioctl(self->e.fd[1], ZPIPE_IOC_SET_CAPACITY, &arg)));
	for (off = 0; off < len; off += 2049)
		ASSERT_EQ(2049, stream_write(self->e.fd[1], off, 2049));
	p = peek(&r, 0);
	EXPECT_EQ(0, p.ret);
	EXPECT_GE(most, (long)p.bytes);
	EXPECT_LE(FRAME / 4, (long)p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(-ENOBUFS, peek(&r, ZPIPE_MORE | ZPIPE_NONBLOCK).ret);
	EXPECT_EQ(len, take(&r, 0, len, 100000));
}

/* What a small commit has in two frames is one write, and one packet. */
TEST_F(window, across_frames)
{
	struct window w = write_window(&self->e, 2);
	unsigned char to[2 * PAGE];
	struct gifted g;
	int flags;

	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, 2 * FRAME);
	/* There is room for half of it. */
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

/* What a writer has announced of its own memory is buffered when a window is opened. */
TEST_F_TIMEOUT(window, over_a_posted_write, TIMEOUT)
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

/* A child that does not keep the window which it got with all descriptors. */
static long reads_without(struct child *c)
{
	struct window *r = c->arg;

	close(r->fd);
	return read_all_of_it(c);
}

/* A reader that waits gets what comes back, and a writer what becomes free. */
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

/* Memory that whoever touches it waits for ever. */
static void *stuck_memory(void)
{
	void *at = hole(1);

	watch(at);
	return at;
}

/* A child that peeks, but never gets to tell what it has in view. */
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

/* Who is stuck in a peek holds up nobody, and gives back what it had. */
TEST_F_TIMEOUT(window, a_stuck_peeker, TIMEOUT)
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

/* Nor does a writer whose memory is stuck hold up windows. */
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
