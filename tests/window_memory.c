// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows as memory: operations on their mappings, several mappings and processes, and frames
 * that something else refers to.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

#include <linux/io_uring.h>

/* Operations on the mapping of a window of two or more frames. */
enum odd {
	NOTHING,
	UNMAP,
	PROTECT,
	PROTECT_ALL,
	READ_ONLY,
	GIVE_UP,
	GIVE_UP_ALL,
	COOL,
	PAGE_OUT,
	FREE,
	REMOVE,
	NO_HUGE,
	COLLAPSE,
	POPULATE,
	POPULATE_READ,
	LOCK,
	MOVE_AWAY,
	MOVE_PART,
	SHRINK,
	GROW,
	ODDS,
};

/*
 * The operation may fail, and its result is not checked. The bytes must stay right in any case.
 */
static void do_odd(enum odd odd, const struct window *w)
{
	unsigned char *at = w->at + 5 * PAGE;
	size_t part = FRAME + 3 * PAGE;
	unsigned char *to;

	switch (odd) {
	case UNMAP:
		munmap(at, PAGE);
		munmap(at + FRAME, PAGE);
		break;
	case PROTECT:
		mprotect(at, PAGE, PROT_NONE);
		break;
	case PROTECT_ALL:
		mprotect(w->at, w->bytes, PROT_NONE);
		break;
	case READ_ONLY:
		mprotect(at, part, PROT_READ);
		break;
	case GIVE_UP:
		madvise(at, part, MADV_DONTNEED);
		break;
	case GIVE_UP_ALL:
		madvise(w->at, w->bytes, MADV_DONTNEED);
		break;
	case COOL:
		madvise(at, part, MADV_COLD);
		break;
	case PAGE_OUT:
		madvise(at, part, MADV_PAGEOUT);
		madvise(w->at, w->bytes, MADV_PAGEOUT);
		break;
	case FREE:
		madvise(at, part, MADV_FREE);
		break;
	case REMOVE:
		madvise(w->at, FRAME, MADV_REMOVE);
		break;
	case NO_HUGE:
		madvise(w->at, w->bytes, MADV_NOHUGEPAGE);
		madvise(at, part, MADV_DONTNEED);
		break;
	case COLLAPSE:
		madvise(at, PAGE, MADV_DONTNEED);
		madvise(w->at, w->bytes, MADV_COLLAPSE);
		break;
	case POPULATE:
		madvise(at, part, MADV_POPULATE_WRITE);
		break;
	case POPULATE_READ:
		madvise(at, part, MADV_POPULATE_READ);
		break;
	case LOCK:
		mlock(at, part);
		break;
	case MOVE_AWAY:
		to = huge_addresses(2);
		mremap(w->at, 2 * FRAME, 2 * FRAME, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		break;
	case MOVE_PART:
		to = huge_addresses(1);
		mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		break;
	case SHRINK:
		mremap(w->at, 2 * FRAME, PAGE, 0);
		break;
	case GROW:
		mremap(w->at, w->bytes, w->bytes + FRAME, MREMAP_MAYMOVE);
		break;
	default:
		break;
	}
}

/* A second mapping of the window, which an operation on the first one did not change. */
static struct window mapped_again(const struct window *w, int prot)
{
	struct window again = *w;

	again.at = map_window(w, prot);
	if (!again.at)
		abort();
	return again;
}

/* A commit must send the bytes that were stored before the operation. */
TEST_F_TIMEOUT(window, odd_before_commit, 4 * TIMEOUT)
{
	long before = available();
	enum odd odd;

	for (odd = NOTHING; odd < ODDS; odd++) {
		struct window w, again;
		struct child c;
		int i;

		child_read_all(&c, &self->e, 4 * FRAME, 300000);
		w = write_window(&self->e, 2);
		ASSERT_LE(0, w.fd);
		stream_fill(w.at, 0, 2 * FRAME);
		do_odd(odd, &w);
		EXPECT_EQ(2 * FRAME, commit(&w, 0, 2 * FRAME, 0).ret);
		/* The window must work as before. */
		again = mapped_again(&w, PROT_READ | PROT_WRITE);
		stream_fill(again.at, 2 * FRAME, 2 * FRAME);
		for (i = 0; i < 2; i++)
			EXPECT_EQ(FRAME, commit(&again, i * FRAME, FRAME, 0).ret);
		EXPECT_EQ(4 * FRAME, child_join(&c));
		EXPECT_EQ(-1, stream_diff(c.buf, 0, 4 * FRAME)) {
			TH_LOG("odd operation %d", odd);
		}
		munmap(c.buf, 4 * FRAME);
		munmap(again.at, again.bytes);
		free_window(&w);
	}
	EXPECT_TRUE(comes_back(before, LOST));
}

/* A read window must show the bytes in view after the operation. */
TEST_F_TIMEOUT(window, odd_in_view, 4 * TIMEOUT)
{
	struct window w = write_window(&self->e, 2);
	long before = available();
	enum odd odd;

	ASSERT_LE(0, w.fd);
	for (odd = NOTHING; odd < ODDS; odd++) {
		struct window r = read_window(&self->e, 2), again;
		struct peeked p;

		ASSERT_LE(0, r.fd);
		ASSERT_EQ(2 * FRAME, commit_stream(&w, 0, 2 * FRAME, 0).moved);
		p = peek(&r, 0);
		EXPECT_TRUE(views_show(&r, &p, 0));
		do_odd(odd, &r);
		again = mapped_again(&r, PROT_READ);
		p = peek(&again, 0);
		EXPECT_TRUE(views_show(&again, &p, 0)) {
			TH_LOG("odd operation %d", odd);
		}
		EXPECT_EQ(0, consume(&again, FRAME / 3));
		do_odd(odd, &again);
		munmap(again.at, again.bytes);
		again = mapped_again(&r, PROT_READ);
		EXPECT_EQ(2 * FRAME - FRAME / 3,
			  take(&again, FRAME / 3, 2 * FRAME - FRAME / 3, FRAME));
		munmap(again.at, again.bytes);
		free_window(&r);
	}
	EXPECT_TRUE(comes_back(before, LOST));
}

/* No task can store to the memory of a read window, nor can the kernel on its behalf. */
TEST_F(window, not_written_to)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	int fd = open("/proc/self/mem", O_RDWR), zero = open("/dev/zero", O_RDONLY);
	struct peeked p;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(FRAME, commit_stream(&w, 0, FRAME, 0).moved);
	p = peek(&r, 0);
	EXPECT_GT(0, pwrite(fd, "x", 1, (unsigned long)r.at + p.views[0].offset));
	EXPECT_EQ(-EFAULT, sys(read(zero, r.at + p.views[0].offset, 1)));
	EXPECT_GT(0, madvise(r.at, FRAME, MADV_POPULATE_WRITE));
	EXPECT_GT(0, madvise(r.at, FRAME, MADV_REMOVE));
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(FRAME, take(&r, 0, FRAME, FRAME));
}

/* Two mappings show the same frames, and a commit takes the frames from both. */
TEST_F(window, two_mappings)
{
	struct window w = write_window(&self->e, 1), v;

	ASSERT_LE(0, w.fd);
	v = mapped_again(&w, PROT_READ | PROT_WRITE);
	stream_fill(w.at, 0, FRAME);
	EXPECT_EQ(-1, stream_diff(v.at, 0, FRAME));
	EXPECT_EQ(frame(w.at), frame(v.at));
	EXPECT_MOVED(commit(&w, 0, FRAME, 0), FRAME);
	memset(v.at, 7, FRAME);
	EXPECT_TRUE(full_of(w.at, 7));
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
	/* One mapping is enough to keep the window, and so the write end. */
	close(w.fd);
	munmap(w.at, w.bytes);
	EXPECT_TRUE(full_of(v.at, 7));
	close_end(&self->e, 1);
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	munmap(v.at, v.bytes);
	EXPECT_EQ(POLLHUP, poll_mask(self->e.fd[0]));
}

static long touch_it(struct child *c)
{
	return ((volatile unsigned char *)c->arg)[0];
}

/* A forked child inherits the descriptor, but not the mapping. */
TEST_F_TIMEOUT(window, not_inherited, TIMEOUT)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	const struct window *both[] = { &w, &r };
	struct child c;
	int i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(FRAME, commit_stream(&w, 0, FRAME, 0).moved);
	ASSERT_EQ(FRAME, peek(&r, 0).bytes);
	memset(w.at, 1, FRAME);
	for (i = 0; i < 4; i++) {
		/* madvise(2) must not turn inheritance on again. */
		if (i > 1)
			madvise(both[i % 2]->at, both[i % 2]->bytes, MADV_DOFORK);
		child_run(&c, touch_it, both[i % 2]->at);
		EXPECT_EQ(KILLED(SIGSEGV), child_join(&c));
	}
	EXPECT_EQ(FRAME, take(&r, 0, FRAME, FRAME));
}

struct shared {
	struct window w;
	volatile int step;
};

static void step(struct shared *s, int to)
{
	__atomic_store_n(&s->step, to, __ATOMIC_SEQ_CST);
}

static long other_process(struct child *c)
{
	struct shared *s = c->arg;
	struct window w = mapped_again(&s->w, PROT_READ | PROT_WRITE);

	if (stream_diff(w.at, 0, FRAME) != -1)
		return -1;
	w.at[FRAME / 2] ^= 0xff;
	step(s, 1);
	if (!eventually(s->step == 2))
		return -2;
	/* The commit has taken the frame from this mapping, too. */
	memset(w.at, 0x77, FRAME);
	step(s, 3);
	return 0;
}

TEST_F_TIMEOUT(window, two_processes, TIMEOUT)
{
	struct shared *s = shared_alloc(sizeof(*s));
	unsigned char *to = small_hole(FRAME / PAGE);
	struct child c;

	s->w = write_window(&self->e, 1);
	ASSERT_LE(0, s->w.fd);
	stream_fill(s->w.at, 0, FRAME);
	child_run(&c, other_process, s);
	ASSERT_TRUE(eventually(s->step == 1));
	EXPECT_MOVED(commit(&s->w, 0, FRAME, 0), FRAME);
	step(s, 2);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_TRUE(full_of(s->w.at, 0x77));
	ASSERT_EQ(FRAME, fetch(&self->e, to, FRAME, 0).ret);
	to[FRAME / 2] ^= 0xff;
	EXPECT_EQ(-1, stream_diff(to, 0, FRAME));
}

#define THP	"/sys/kernel/mm/transparent_hugepage"

/* Sets who gets transparent huge pages. Without a @mode it restores the first setting. */
static int huge_pages_for(const char *mode)
{
	static char was[60];
	char *from, *to;
	FILE *f;

	if (!was[0]) {
		f = fopen(THP "/enabled", "r");
		if (!f || !fgets(was, sizeof(was), f))
			return -1;
		fclose(f);
	}
	from = strchr(was, '[');
	to = strchr(was, ']');
	if (mode)
		return write_line(THP, "enabled", mode);
	if (!from || !to)
		return -1;
	*to = 0;
	return write_line(THP, "enabled", from + 1);
}

/* Uses both ends with messages of some sizes. The frames may be moved or copied. */
static void goes_through(struct __test_metadata *_metadata, struct ends *e)
{
	struct window w, r;
	struct child c;

	child_read_all(&c, e, FRAME + 1000, 300000);
	w = write_window(e, 2);
	ASSERT_LE(0, w.fd);
	EXPECT_EQ(FRAME + 1000, commit_stream(&w, 0, FRAME + 1000, 0).ret);
	EXPECT_EQ(FRAME + 1000, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, FRAME + 1000));
	r = read_window(e, 2);
	ASSERT_LE(0, r.fd);
	EXPECT_LT(0, commit_stream(&w, 0, FRAME, ZPIPE_NONBLOCK).ret);
	EXPECT_LT(0, take(&r, 0, fionread(e->fd[0]), FRAME));
	EXPECT_EQ(0, fionread(e->fd[0]));
	free_window(&w);
	free_window(&r);
}

TEST_F_TIMEOUT(window, without_huge_pages, 2 * TIMEOUT)
{
	EXPECT_EQ(0, huge_pages_for("never"));
	goes_through(_metadata, &self->e);
	EXPECT_EQ(0, huge_pages_for("always"));
	goes_through(_metadata, &self->e);
	EXPECT_EQ(0, huge_pages_for(NULL));
	EXPECT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	goes_through(_metadata, &self->e);
}

/*
 * References that something else holds to frames.
 */

/* Registers memory as a fixed buffer of io_uring. Returns the ring's descriptor, or -1. */
static int hold_fixed(void *at, size_t bytes)
{
	struct iovec iov = { at, bytes };
	struct io_uring_params p = {};
	int fd = syscall(SYS_io_uring_setup, 1, &p);

	if (fd >= 0 &&
	    !syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1))
		return fd;
	close(fd);
	return -1;
}

/* True if a commit moves the frame after the reference is gone. The kernel may drop it late. */
static bool moves_again(struct ends *e, const struct window *w)
{
	unsigned char *to = small_hole(FRAME / PAGE);
	struct gifted g;
	int i;

	for (i = 0; i < 100; i++) {
		g = commit(w, 0, FRAME, ZPIPE_NONBLOCK);
		if (g.ret <= 0 || fetch(e, to, g.ret, 0).ret != g.ret)
			break;
		if (g.moved == FRAME)
			return true;
		usleep(50000);
	}
	tell_reasons(&g);
	return false;
}

/*
 * A frame that something refers to is copied. The holder does not see the bytes that were sent,
 * and readers do not see later stores.
 */
static void held_is_copied(struct __test_metadata *_metadata, struct ends *e, bool fixed)
{
	struct window w;
	struct child c;
	struct gifted g;
	int fd;

	child_read_all(&c, e, FRAME, 300000);
	w = write_window(e, 1);
	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, FRAME);
	fd = fixed ? hold_fixed(w.at + 3 * PAGE, 5 * PAGE) : refer_to(w.at + 5 * PAGE);
	if (fd < 0) {
		child_kill(&c);
		SKIP(return, "no registered buffers here");
	}
	g = commit(&w, 0, FRAME, 0);
	EXPECT_COPIED(g, FRAME, ZPIPE_REASON_PINNED);
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	memset(w.at, 0x99, FRAME);
	EXPECT_EQ(FRAME, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, FRAME));
	if (!fixed) {
		unsigned char byte = 0;

		/* The pipe refers to the frame that stays in the window. */
		EXPECT_EQ(1, read(fd, &byte, 1));
		EXPECT_EQ(0x99, byte);
	}
	close(fd);
	EXPECT_TRUE(moves_again(e, &w));
}

TEST_F_TIMEOUT(window, vmspliced_frames, 2 * TIMEOUT)
{
	held_is_copied(_metadata, &self->e, false);
}

TEST_F_TIMEOUT(window, registered_frames, 2 * TIMEOUT)
{
	held_is_copied(_metadata, &self->e, true);
}

#define HELD	(8 * PAGE)

/*
 * Bytes that a pipe refers to in a read window must not change, whatever the frame is used for
 * later.
 */
TEST_F_TIMEOUT(window, vmspliced_views, 2 * TIMEOUT)
{
	struct window w = write_window(&self->e, 1), r = read_window(&self->e, 1);
	static unsigned char to[HELD];
	struct iovec iov;
	struct peeked p;
	int fd[2], i;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(FRAME, commit_stream(&w, 0, FRAME, 0).moved);
	p = peek(&r, 0);
	ASSERT_TRUE(views_show(&r, &p, 0));
	iov = (struct iovec) { r.at + p.views[0].offset + 7 * PAGE, HELD };
	ASSERT_EQ(HELD, vmsplice(fd[1], &iov, 1, 0));
	EXPECT_EQ(0, consume(&r, FRAME));
	for (i = 1; i <= 20; i++) {
		memset(w.at, i, FRAME);
		ASSERT_EQ(FRAME, commit(&w, 0, FRAME, 0).moved);
		p = peek(&r, 0);
		ASSERT_EQ(0, p.ret);
		EXPECT_TRUE(full_of(r.at + p.views[0].offset, i));
		EXPECT_EQ(0, consume(&r, p.bytes));
		/* The bytes of a write(2) are copied to a frame of the window. */
		ASSERT_EQ(10000, stream_write(self->e.fd[1], 0, 10000));
		EXPECT_EQ(10000, take(&r, 0, 10000, 10000));
	}
	free_window(&w);
	free_window(&r);
	memset(hole(4), 0x55, 4 * FRAME);
	EXPECT_EQ(HELD, read(fd[0], to, HELD));
	EXPECT_EQ(-1, stream_diff(to, 7 * PAGE, HELD));
}

TEST_HARNESS_MAIN
