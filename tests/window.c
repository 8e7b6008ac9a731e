// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write windows: refused arguments, the bytes that readers get, frames that are moved
 * and bytes that are copied. Also the state of the window after a commit, and commits
 * that block or fail.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

#include <stddef.h>

/*
 * Expects that the child read all @bytes bytes, moved or copied: the stream from @off
 * on.
 */
#define EXPECT_ARRIVES(c, off, bytes)					\
({									\
	struct child *__c = c;						\
	long __all = bytes;						\
									\
	EXPECT_EQ(__all, child_join(__c));				\
	EXPECT_EQ(-1, stream_diff(__c->buf, off, __all));		\
})

/* Makes a window with @arg and closes it. Returns 0 or -errno. */
static long window_of(int fd, struct zpipe_window arg)
{
	long ret = sys(ioctl(fd, ZPIPE_IOC_WINDOW, &arg));

	if (!ret)
		close(arg.fd);
	return ret;
}

static long window_with(int fd, unsigned int flags, unsigned long bytes)
{
	return window_of(fd, (struct zpipe_window) {
		.size = sizeof(struct zpipe_window), .flags = flags, .bytes = bytes,
	});
}

TEST_F(window, bad_windows)
{
	static const unsigned int bad[] = {
		0, ZPIPE_WINDOW_LEND, ZPIPE_WINDOW_WRITE | ZPIPE_WINDOW_READ,
		ZPIPE_WINDOW_READ | ZPIPE_WINDOW_LEND, ZPIPE_WINDOW_WRITE | 0x8,
		ZPIPE_WINDOW_READ | 0x80000000,
	};
	struct zpipe_window arg = {
		.size = sizeof(arg), .flags = ZPIPE_WINDOW_WRITE, .bytes = FRAME,
	};
	int in = self->e.fd[0], out = self->e.fd[1], fd[2];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, window_with(out, bad[i], FRAME)) {
			TH_LOG("flags %x", bad[i]);
		}
	}
	EXPECT_EQ(-EBADF, window_with(in, ZPIPE_WINDOW_WRITE, FRAME));
	EXPECT_EQ(-EBADF, window_with(out, ZPIPE_WINDOW_READ, FRAME));
	EXPECT_EQ(-EINVAL, window_with(out, ZPIPE_WINDOW_WRITE, 0));
	EXPECT_EQ(-EINVAL, window_with(in, ZPIPE_WINDOW_READ, 0));
	EXPECT_EQ(-EINVAL, window_with(out, ZPIPE_WINDOW_WRITE, ZPIPE_WINDOW_MAX + 1));
	EXPECT_EQ(-EINVAL, window_with(in, ZPIPE_WINDOW_READ, ZPIPE_WINDOW_MAX + 1));
	EXPECT_EQ(-EINVAL, window_with(out, ZPIPE_WINDOW_WRITE, -1UL));

	EXPECT_EQ(0, window_of(out, arg));
	arg.reserved = 1;
	EXPECT_EQ(-EINVAL, window_of(out, arg));
	arg.reserved = 0;
	for (arg.size = 0; arg.size < sizeof(arg); arg.size++)
		EXPECT_EQ(-EINVAL, window_of(out, arg));
	EXPECT_EQ(-EFAULT, sys(ioctl(out, ZPIPE_IOC_WINDOW, NULL)));

	ASSERT_EQ(0, pipe(fd));
	EXPECT_GT(0, window_with(fd[1], ZPIPE_WINDOW_WRITE, FRAME));
}

/* Structs may be longer than the module knows, if their unknown part is zero. */
TEST_F(window, sizes_of_structs)
{
	struct {
		struct zpipe_window window;
		unsigned char more[PAGE];
	} arg = {
		.window = { .flags = ZPIPE_WINDOW_WRITE, .bytes = FRAME },
	};
	int fd = self->e.fd[1];

	arg.window.size = sizeof(arg.window) + 100;
	EXPECT_EQ(0, ioctl(fd, ZPIPE_IOC_WINDOW, &arg));
	EXPECT_EQ(FD_CLOEXEC, fcntl(arg.window.fd, F_GETFD));
	EXPECT_EQ(0, close(arg.window.fd));
	arg.more[99] = 1;
	EXPECT_EQ(-E2BIG, sys(ioctl(fd, ZPIPE_IOC_WINDOW, &arg)));
	arg.more[99] = 0;
	arg.window.size = PAGE + 1;
	EXPECT_EQ(-E2BIG, sys(ioctl(fd, ZPIPE_IOC_WINDOW, &arg)));
}

TEST_F(window, short_structs)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	const struct {
		int fd;
		unsigned int cmd, size;
	} commands[] = {
		{ w.fd, ZPIPE_IOC_RESERVE, sizeof(struct zpipe_reserve) },
		{ w.fd, ZPIPE_IOC_COMMIT, sizeof(struct zpipe_commit) },
		{ r.fd, ZPIPE_IOC_PEEK, sizeof(struct zpipe_peek) },
		{ r.fd, ZPIPE_IOC_CONSUME, sizeof(struct zpipe_consume) },
	};
	unsigned int arg[PAGE / 4 + 1] = {}, i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		int fd = commands[i].fd;
		unsigned int cmd = commands[i].cmd;

		for (arg[0] = 0; arg[0] < commands[i].size; arg[0]++) {
			EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmd, arg))) {
				TH_LOG("command %x of %u bytes", cmd, arg[0]);
			}
		}
		arg[0] = PAGE + 1;
		EXPECT_EQ(-E2BIG, sys(ioctl(fd, cmd, arg)));
		EXPECT_EQ(-EFAULT, sys(ioctl(fd, cmd, NULL)));
	}
}

/* Each command works on one kind of window only. */
TEST_F(window, commands_of_the_other_kind)
{
	struct zpipe_capacity capacity = { .size = sizeof(capacity) };
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	EXPECT_EQ(-ENOTTY, reserve(&r, 0, FRAME));
	EXPECT_EQ(-ENOTTY, commit(&r, 0, FRAME, 0).ret);
	EXPECT_EQ(-ENOTTY, peek(&w, ZPIPE_NONBLOCK).ret);
	EXPECT_EQ(-ENOTTY, consume(&w, 0));
	EXPECT_EQ(-ENOTTY, sys(ioctl(w.fd, ZPIPE_IOC_GET_CAPACITY, &capacity)));
	EXPECT_EQ(-ENOTTY, window_with(w.fd, ZPIPE_WINDOW_WRITE, FRAME));
	r.fd = self->e.fd[0];
	EXPECT_EQ(-ENOTTY, peek(&r, ZPIPE_NONBLOCK).ret);
}

TEST_F(window, bad_ranges)
{
	struct window w = write_window(&self->e, 2);
	struct zpipe_reserve arg = { .size = sizeof(arg), .bytes = PAGE, .flags = 1 };
	const unsigned long ranges[][2] = {
		{ 0, w.bytes + 1 }, { 1, w.bytes }, { w.bytes, 1 },
		{ -1UL, 1 }, { -1UL, 2 }, { PAGE, -1UL }, { 1UL << 63, 1UL << 63 },
	};
	unsigned int i;

	ASSERT_LE(0, w.fd);
	EXPECT_EQ(2 * FRAME, w.bytes);
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		EXPECT_EQ(-EINVAL, reserve(&w, ranges[i][0], ranges[i][1])) {
			TH_LOG("range %u", i);
		}
		EXPECT_EQ(-EINVAL, commit(&w, ranges[i][0], ranges[i][1], 0).ret) {
			TH_LOG("range %u", i);
		}
	}
	EXPECT_EQ(-EINVAL, sys(ioctl(w.fd, ZPIPE_IOC_RESERVE, &arg)));
	EXPECT_EQ(-EINVAL, commit(&w, 0, PAGE, ZPIPE_LEND).ret);
	EXPECT_EQ(-EINVAL, commit(&w, 0, PAGE, ZPIPE_ALWAYS).ret);
	EXPECT_EQ(-EINVAL, commit(&w, 0, PAGE, 0x80000000).ret);
	EXPECT_EQ(0, commit(&w, 0, 0, 0).ret);
	EXPECT_EQ(0, fionread(self->e.fd[0]));
}

TEST_F(window, bad_mappings)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	const struct window *both[] = { &w, &r };
	void *at;
	int i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	for (i = 0; i < 2; i++) {
		at = both[i]->at;
		EXPECT_EQ(MAP_FAILED, mmap(NULL, FRAME, PROT_READ, MAP_PRIVATE,
					   both[i]->fd, 0));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(NULL, map_window(both[i], PROT_READ | PROT_EXEC));
		EXPECT_EQ(-EACCES, sys(mprotect(at, FRAME, PROT_READ | PROT_EXEC)));
		EXPECT_EQ(-EACCES, sys(mprotect(at, PAGE, PROT_EXEC)));
	}
	EXPECT_EQ(NULL, map_window(&r, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-EACCES, sys(mprotect(r.at, FRAME, PROT_READ | PROT_WRITE)));
	EXPECT_EQ(-EACCES, sys(mprotect(r.at, PAGE, PROT_READ | PROT_WRITE)));
	/* Both windows still work. */
	EXPECT_MOVED(commit_stream(&w, 0, FRAME, 0), FRAME);
	EXPECT_EQ(FRAME, take(&r, 0, FRAME, FRAME));
}

TEST_F(window, whole_frames)
{
	struct window w = write_window(&self->e, 2);

	ASSERT_LE(0, w.fd);
	EXPECT_MOVED(commit_stream(&w, 0, FRAME, 0), FRAME);
	EXPECT_EQ(FRAME, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
	EXPECT_EQ(0, fionread(self->e.fd[0]));
	EXPECT_MOVED(commit_stream(&w, FRAME, 2 * FRAME, 0), 2 * FRAME);
	EXPECT_EQ(2 * FRAME, fionread(self->e.fd[0]));
	EXPECT_EQ(100, read_stream(self->e.fd[0], FRAME, 100));
	EXPECT_EQ(2 * FRAME - 100,
		  read_stream(self->e.fd[0], FRAME + 100, 2 * FRAME - 100));
}

/*
 * If at least half of a frame is committed, the frame is moved. Otherwise the committed
 * bytes are copied.
 */
TEST_F_TIMEOUT(window, parts_of_frames, 2 * TIMEOUT)
{
	static const unsigned long parts[][2] = {
		{ 0, 1 }, { 0, 100 }, { 5000, 60000 }, { 100, FRAME / 2 - 1 },
		{ 0, FRAME / 2 }, { 12345, FRAME / 2 }, { 0, FRAME * 3 / 4 },
		{ FRAME / 4 + 1, FRAME * 3 / 4 - 1 }, { FRAME, FRAME },
		{ FRAME / 2, FRAME }, { FRAME - 100, 200 }, { FRAME - 1, FRAME + 2 },
		{ 1000, 3 * FRAME - 1000 }, { 3 * FRAME - 7, 7 },
		{ FRAME / 3, 2 * FRAME },
	};
	struct window w = write_window(&self->e, 3);
	unsigned int i, pieces;
	unsigned long off = 0;

	ASSERT_LE(0, w.fd);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		unsigned long from = parts[i][0], left = parts[i][1], moved = 0, n;
		struct gifted g;
		struct child c;

		child_read_all(&c, &self->e, left, 300000);
		stream_fill(w.at + from, off, left);
		g = commit(&w, from, left, 0);
		EXPECT_EQ(left, g.ret);
		EXPECT_ARRIVES(&c, off, left);
		for (pieces = 0; left; from += n, left -= n, off += n) {
			n = FRAME - from % FRAME < left ? FRAME - from % FRAME : left;
			if (n >= FRAME / 2) {
				moved += n;
				continue;
			}
			pieces++;
			/* Bytes that were copied are still in the window. */
			EXPECT_EQ(-1, stream_diff(w.at + from, off, n));
		}
		EXPECT_EQ(moved, g.moved) {
			TH_LOG("part %u", i);
			tell_reasons(&g);
		}
		EXPECT_EQ(parts[i][1] - moved, g.copied);
		EXPECT_EQ(pieces, g.why[ZPIPE_REASON_PART] + g.why[ZPIPE_REASON_COST]);
		EXPECT_EQ(pieces, pieces_copied(&g));
	}
}

/* Frames, gifts and written bytes are read in the order in which they came. */
TEST_F(window, among_other_bytes)
{
	struct window w = write_window(&self->e, 2);
	unsigned char *at = huge_memory(1, FRAME + 100);

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	ASSERT_LE(0, w.fd);
	EXPECT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_MOVED(commit_stream(&w, 100, FRAME, 0), FRAME);
	EXPECT_EQ(HUGE_SIZE, gift(&self->e, at, HUGE_SIZE).moved);
	EXPECT_EQ(50, stream_write(self->e.fd[1], 2 * FRAME + 100, 50));
	stream_fill(w.at, 2 * FRAME + 150, 5000);
	EXPECT_EQ(5000, commit(&w, 0, 5000, 0).copied);
	EXPECT_EQ(2 * FRAME + 5150, fionread(self->e.fd[0]));
	EXPECT_EQ(2 * FRAME + 5150, read_stream(self->e.fd[0], 0, 2 * FRAME + 5150));
}

/* ZPIPE_IOC_MOVE copies a frame. It never becomes a page of the reader. */
TEST_F(window, move_copies_a_frame)
{
	struct window w = write_window(&self->e, 1);
	unsigned char *to = hole(1);
	struct gifted g;

	ASSERT_LE(0, w.fd);
	EXPECT_MOVED(commit_stream(&w, 0, FRAME, 0), FRAME);
	g = fetch(&self->e, to, FRAME, 0);
	EXPECT_COPIED(g, FRAME, ZPIPE_REASON_WINDOW);
	EXPECT_EQ(-1, stream_diff(to, 0, FRAME));
	memset(to, 1, FRAME);
}

TEST_F(window, packets)
{
	unsigned char to[2 * PAGE];
	struct window w;
	struct gifted g;

	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	w = write_window(&self->e, 1);
	ASSERT_LE(0, w.fd);
	g = commit_stream(&w, 0, FRAME, ZPIPE_NONBLOCK);
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(SLOTS * PAGE, g.ret);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_PACKET]);
	EXPECT_EQ(PAGE, read(self->e.fd[0], to, sizeof(to)));
	EXPECT_EQ(-1, stream_diff(to, 0, PAGE));
	EXPECT_EQ(100, read(self->e.fd[0], to, 100));
	/* The previous read dropped the rest of its packet. */
	EXPECT_EQ(PAGE, read(self->e.fd[0], to, sizeof(to)));
	EXPECT_EQ(-1, stream_diff(to, 2 * PAGE, PAGE));
}

TEST_F(window, buffer_only)
{
	struct window w = write_window(&self->e, 1);
	struct gifted g;

	ASSERT_LE(0, w.fd);
	ASSERT_EQ(0, set_flags(self->e.fd[0], ZPIPE_BUFFER_ONLY));
	g = commit_stream(&w, 0, FRAME, ZPIPE_NONBLOCK);
	/*
	 * A buffer-only pipe accepts frames, since the writer cannot access them any
	 * more.
	 */
	EXPECT_MOVED(g, FRAME);
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
}

/*
 * A reserved frame holds zeros or what was stored to it. After a commit its place has
 * another frame.
 */
TEST_F(window, reserved_frames)
{
	struct window w = write_window(&self->e, 3);
	unsigned long was;

	ASSERT_LE(0, w.fd);
	EXPECT_EQ(0, reserve(&w, 0, w.bytes));
	EXPECT_TRUE(all_zero(w.at, w.bytes));
	EXPECT_EQ(0, reserve(&w, PAGE + 1, 1));
	stream_fill(w.at, 0, FRAME);
	EXPECT_EQ(0, reserve(&w, 0, w.bytes));
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	was = frame(w.at);
	EXPECT_NE(0, was);
	EXPECT_MOVED(commit(&w, 0, FRAME, 0), FRAME);
	EXPECT_EQ(0, frame(w.at));
	EXPECT_EQ(0, reserve(&w, 0, FRAME));
	EXPECT_TRUE(all_zero(w.at, FRAME));
	memset(w.at, 1, FRAME);
	EXPECT_NE(was, frame(w.at));
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
}

/*
 * True if all bytes of the frame are zero, or all are one byte from @first to @last:
 * one that the same window wrote.
 */
static bool own_or_zero(const unsigned char *at, unsigned char first, unsigned char last)
{
	return full_of(at, 0) || (*at >= first && *at <= last && full_of(at, *at));
}

#define ROUNDS	10
#define OTHERS	0x80	/* bytes of the second window are larger */

TEST_F_TIMEOUT(window, frames_return_home, TIMEOUT)
{
	struct window w = write_window(&self->e, 1), other = write_window(&self->e, 1);
	unsigned char *to = small_hole(FRAME / PAGE);
	int round, home = 0;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, other.fd);
	for (round = 1; round <= ROUNDS; round++) {
		memset(w.at, round, FRAME);
		memset(other.at, OTHERS + round, FRAME);
		EXPECT_MOVED(commit(&w, 0, FRAME, 0), FRAME);
		EXPECT_MOVED(commit(&other, 0, FRAME, 0), FRAME);
		/* Check while the frames are in the pipe, and after they were read. */
		if (round % 2) {
			EXPECT_TRUE(own_or_zero(w.at, 1, round));
			EXPECT_TRUE(own_or_zero(other.at, OTHERS + 1, OTHERS + round));
		}
		ASSERT_EQ(FRAME, fetch(&self->e, to, FRAME, 0).ret);
		EXPECT_TRUE(full_of(to, round));
		ASSERT_EQ(FRAME, fetch(&self->e, to, FRAME, 0).ret);
		EXPECT_TRUE(full_of(to, OTHERS + round));
		EXPECT_TRUE(own_or_zero(w.at, 1, round));
		EXPECT_TRUE(own_or_zero(other.at, OTHERS + 1, OTHERS + round));
		home += *w.at != 0;
	}
	/* Some frames came from home, without being cleared. */
	EXPECT_LT(0, home);
}

/* Commits without blocking until the pipe is full. Returns the number of bytes written. */
static long fill_up(const struct window *w)
{
	struct gifted g;
	long done = 0;

	do {
		g = commit_stream(w, done, FRAME, ZPIPE_NONBLOCK);
		if (g.ret > 0)
			done += g.ret;
	} while (g.ret > 0);
	return g.ret == -EAGAIN ? done : g.ret;
}

TEST_F_TIMEOUT(window, limit_of_frames_in_a_pipe, TIMEOUT)
{
	struct window w = write_window(&self->e, 1);
	long done;

	ASSERT_LE(0, w.fd);
	done = fill_up(&w);
	EXPECT_LE(2 * FRAME, done);
	EXPECT_EQ(done, fionread(self->e.fd[0]));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	EXPECT_MOVED(commit_stream(&w, done, FRAME, ZPIPE_NONBLOCK), FRAME);
	EXPECT_EQ(done, read_stream(self->e.fd[0], FRAME, done));
}

TEST_F(window, nonblocking_end)
{
	struct window w;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	w = write_window(&self->e, 1);
	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, FRAME);
	while (commit(&w, 0, FRAME, 0).ret > 0)
		;
	EXPECT_EQ(-EAGAIN, commit(&w, 0, FRAME, 0).ret);
}

/* Maps the window in the child and commits @c->len bytes of the stream at @c->flags. */
static long commit_in_child(struct child *c)
{
	struct window w = *(struct window *)c->arg;

	w.at = map_window(&w, PROT_READ | PROT_WRITE);
	return commit_stream(&w, c->flags, c->len, 0).ret;
}

static struct child child_commits(struct ends *e, struct window *w, long off, size_t len)
{
	struct child c = {
		.nr = SYS_ioctl, .fn = commit_in_child, .fd = e->fd[1], .drop = e->fd[0],
		.flags = off, .len = len, .arg = w,
	};

	child_start(&c, 0);
	return c;
}

TEST_F_TIMEOUT(window, waits_for_readers, 2 * TIMEOUT)
{
	struct window w = write_window(&self->e, 12);
	struct child c;

	ASSERT_LE(0, w.fd);
	c = child_commits(&self->e, &w, 0, 12 * FRAME);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(12 * FRAME, read_stream(self->e.fd[0], 0, 12 * FRAME));
	EXPECT_EQ(12 * FRAME, child_join(&c));
}

TEST_F_TIMEOUT(window, signals, 2 * TIMEOUT)
{
	struct window w = write_window(&self->e, 2);
	struct child c;
	long done;

	ASSERT_LE(0, w.fd);
	done = fill_up(&w);
	ASSERT_LT(0, done);
	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	ASSERT_EQ(0, catch_signal(SIGUSR2, SA_RESTART));
	c = child_commits(&self->e, &w, done, FRAME);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(-EINTR, child_join(&c));
	EXPECT_EQ(1, c.report->signals);

	c = child_commits(&self->e, &w, done, FRAME);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR2);
	ASSERT_TRUE(eventually(c.report->signals));
	EXPECT_TRUE(child_asleep(&c));
	EXPECT_EQ(done + FRAME, read_stream(self->e.fd[0], 0, done + FRAME));
	EXPECT_EQ(FRAME, child_join(&c));
}

/* No reader is left: first for a blocked commit, then for new ones. */
TEST_F_TIMEOUT(window, no_reader_epipe, TIMEOUT)
{
	struct window w = write_window(&self->e, 1);
	struct child c;
	long done;

	ASSERT_LE(0, w.fd);
	done = fill_up(&w);
	ASSERT_LT(0, done);
	ASSERT_EQ(0, catch_signal(SIGPIPE, 0));
	c = child_commits(&self->e, &w, done, FRAME);
	ASSERT_TRUE(child_asleep(&c));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, child_join(&c));
	EXPECT_EQ(1, c.report->signals);
	stream_fill(w.at, 0, FRAME);
	EXPECT_EQ(-EPIPE, commit(&w, 0, FRAME, 0).ret);
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	EXPECT_EQ(-EPIPE, commit(&w, 5, 7, ZPIPE_NONBLOCK).ret);
	EXPECT_EQ(2, signals_seen);
}

/* fdinfo of a window is that of its pipe, with the pipe's name. */
TEST_F_TIMEOUT(window, fdinfo_names_the_pipe, TIMEOUT)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	struct stat st;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	ASSERT_EQ(1000, commit_stream(&w, 0, 1000, 0).ret);
	EXPECT_EQ((long)st.st_ino, fdinfo_number(w.fd, "zpipe-inode"));
	EXPECT_EQ((long)st.st_ino, fdinfo_number(r.fd, "zpipe-inode"));
	EXPECT_EQ(1000, fdinfo_number(w.fd, "zpipe-buffered"));
	EXPECT_EQ(1000, fdinfo_number(r.fd, "zpipe-bytes-written"));
	free_window(&w);
	free_window(&r);
}

/* A window counts as a write end until its descriptor and its mapping are gone. */
TEST_F(window, counts_as_a_write_end)
{
	struct window w;
	int i;

	for (i = 0; i < 2; i++) {
		w = write_window(&self->e, 1);
		ASSERT_LE(0, w.fd);
		if (i)
			close_end(&self->e, 1);
		EXPECT_MOVED(commit_stream(&w, 0, FRAME, 0), FRAME);
		EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
		ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
		EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
		EXPECT_EQ(0, poll_mask(self->e.fd[0]));
		close(w.fd);
		EXPECT_EQ(-EAGAIN, stream_read(self->e.fd[0], 0, 1));
		EXPECT_EQ(0, poll_mask(self->e.fd[0]));
		w.at[5] = 1;
		munmap(w.at, w.bytes);
		EXPECT_EQ(i ? 0 : -EAGAIN, stream_read(self->e.fd[0], 0, 1));
		EXPECT_EQ(i ? POLLHUP : 0, poll_mask(self->e.fd[0]));
	}
}

/* Readers get the frames in the pipe even after the writer and its window are gone. */
static long commit_and_die(struct child *c)
{
	struct window w = make_window(c->fd, 2 * FRAME, ZPIPE_WINDOW_WRITE);

	if (commit_stream(&w, 0, 2 * FRAME, 0).moved != 2 * FRAME)
		return -1;
	*c->buf = 1;
	pause();
	return 0;
}

TEST_F_TIMEOUT(window, writer_is_killed, TIMEOUT)
{
	struct child c = {
		.nr = SYS_pause, .fn = commit_and_die, .fd = self->e.fd[1],
		.drop = self->e.fd[0], .buf = shared_alloc(1),
	};

	child_start(&c, 0);
	ASSERT_TRUE(eventually(*(volatile unsigned char *)c.buf));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	close_end(&self->e, 1);
	EXPECT_EQ(2 * FRAME, fionread(self->e.fd[0]));
	EXPECT_EQ(2 * FRAME, read_stream(self->e.fd[0], 0, 2 * FRAME + 1));
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

TEST_HARNESS_MAIN
