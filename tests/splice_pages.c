// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that leave a zpipe without a copy, by splice(2) into a pipe of the kernel's own: they are
 * counted, they do not change any more, and they are freed.
 */
#include "splice.h"
#include "window.h"

#include <sys/socket.h>

/* Over the kernel's own pipes the test cases compare the same bytes, in fewer rounds. */
#define ROUNDS		100000

/* Writes and reads the pipe in many sizes. True if the bytes were right each time. */
static bool used_again(struct ends *e)
{
	static unsigned char in[PAGE], out[PAGE];
	long i, rounds = is_zpipe(e->kind) ? ROUNDS : ROUNDS / 100;

	for (i = 0; i < rounds; i++) {
		size_t len = i % 3 ? PAGE : 1 + i * 37 % PAGE;

		memset(in, i, i % 64 ? 16 : PAGE);
		if (write(e->fd[1], in, len) != (ssize_t)len ||
		    read(e->fd[0], out, PAGE) != (ssize_t)len || memcmp(in, out, len))
			return false;
		/* If a page was freed too early, somebody else gets it. */
		if (i % 1000 == 0) {
			void *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

			memset(p, 0xee, 64 * PAGE);
			munmap(p, 64 * PAGE);
		}
	}
	return true;
}

TEST_F_TIMEOUT(from, whole_pages_are_counted, TIMEOUT)
{
	struct way *w = &self->w;
	bool zpipe = is_zpipe(variant->kind);
	long pages;

	ASSERT_EQ(3 * PAGE + 100, stream_write(w->in->fd[1], 0, 3 * PAGE + 100));
	ASSERT_EQ(3 * PAGE + 100, move(w, FULL, 0));
	/* The page with the odd bytes may be passed on, too. */
	pages = passed_on(w);
	EXPECT_LE(zpipe ? 3 : 0, pages);
	EXPECT_GE(zpipe ? 4 : 0, pages);
	EXPECT_EQ(3 * PAGE + 100, stream_read(w->out->fd[0], 0, FULL));
	ASSERT_EQ(0, fionread(w->in->fd[0]));
	ASSERT_EQ(PAGE, stream_write(w->in->fd[1], 100, PAGE));
	ASSERT_EQ(PAGE, stream_read(w->in->fd[0], 100, FULL));
	EXPECT_EQ(passed_on(w), pages);
}

/* They count at both ends, and in a pipe that was spliced into they do not. */
TEST_F_TIMEOUT(into, nothing_is_passed_on, TIMEOUT)
{
	struct way *w = &self->w;

	ASSERT_EQ(3 * PAGE, stream_write(w->in->fd[1], 0, 3 * PAGE));
	ASSERT_EQ(3 * PAGE, move(w, FULL, 0));
	EXPECT_EQ(0, passed_on(w));
	EXPECT_EQ(3 * PAGE, stream_read(w->out->fd[0], 0, FULL));
}

TEST_F_TIMEOUT(from, pages_do_not_change, 2 * TIMEOUT)
{
	struct way *w = &self->w;

	ASSERT_EQ(FULL, stream_write(w->in->fd[1], 0, FULL));
	ASSERT_EQ(FULL, move(w, FULL, 0));
	if (is_zpipe(variant->kind))
		ASSERT_EQ(SLOTS, passed_on(w));
	ASSERT_TRUE(used_again(w->in));
	EXPECT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
}

/* Splices of all lengths, so that some slots were spliced in parts. */
TEST_F_TIMEOUT(from, parts_do_not_change, 2 * TIMEOUT)
{
	struct way *w = &self->w;
	long off = 0;
	int i;

	ASSERT_EQ(FULL, stream_write(w->in->fd[1], 0, FULL));
	for (i = 0; i < SLOTS / 2; i++) {
		long n = move(w, i % 2 ? PAGE : 5 + 511 * i, 0);

		ASSERT_LT(0, n);
		off += n;
	}
	ASSERT_EQ(FULL - off, stream_read(w->in->fd[0], off, FULL));
	ASSERT_TRUE(used_again(w->in));
	EXPECT_EQ(off, stream_read(w->out->fd[0], 0, FULL));
}

/* The real pipe's reader, tee(2) and a socket have the same pages. */
TEST_F_TIMEOUT(from, pages_with_many_references, 2 * TIMEOUT)
{
	struct way *w = &self->w;
	int second[2], sock[2], size = 1 << 20;

	ASSERT_EQ(0, pipe(second));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, setsockopt(sock[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	ASSERT_EQ(FULL, stream_write(w->in->fd[1], 0, FULL));
	ASSERT_EQ(FULL, move(w, FULL, 0));
	ASSERT_EQ(FULL, sys(tee(w->out->fd[0], second[1], FULL, 0)));
	ASSERT_EQ(FULL / 2, sys(splice(second[0], NULL, sock[1], NULL, FULL / 2, 0)));
	ASSERT_EQ(PAGE, stream_read(second[0], FULL / 2, PAGE));
	ASSERT_TRUE(used_again(w->in));
	EXPECT_EQ(FULL, stream_read(w->out->fd[0], 0, FULL));
	EXPECT_EQ(FULL / 2 - PAGE, stream_read(second[0], FULL / 2 + PAGE, FULL));
	EXPECT_EQ(FULL / 2, sys(recv(sock[0], malloc(FULL), FULL / 2, MSG_WAITALL | MSG_PEEK)));
	EXPECT_EQ(FULL / 2, stream_read(sock[0], 0, FULL / 2));
}

/* A writer to the real pipe appends to no page that came from the other pipe. */
TEST_F_TIMEOUT(from, writes_behind_pages, TIMEOUT)
{
	struct way *w = &self->w;
	int i;

	for (i = 0; i < 200; i++) {
		ASSERT_EQ(100, stream_write(w->in->fd[1], 0, 100));
		ASSERT_EQ(40, move(w, 40, 0));
		ASSERT_EQ(50, stream_write(w->out->fd[1], 40, 50));
		ASSERT_EQ(100, stream_write(w->in->fd[1], 100, 100));
		ASSERT_EQ(160, stream_read(w->in->fd[0], 40, FULL));
		ASSERT_EQ(90, stream_read(w->out->fd[0], 0, FULL));
	}
}

/* 128 MiB leave the pipe in pages. All of them are freed. */
TEST_F_TIMEOUT(from, pages_are_freed, TIMEOUT)
{
	struct way *w = &self->w;
	static unsigned char buf[FULL];
	long before = available();
	int i;

	for (i = 0; i < 2048; i++) {
		ASSERT_EQ(FULL, sys(write(w->in->fd[1], buf, FULL)));
		ASSERT_EQ(FULL, move(w, FULL, 0));
		ASSERT_EQ(FULL, sys(read(w->out->fd[0], buf, FULL)));
	}
	if (is_zpipe(variant->kind))
		ASSERT_EQ(2048 * SLOTS, passed_on(w));
	EXPECT_TRUE(comes_back(before, LOST));
}

/* The pipe ends while its pages are in the real pipe. */
TEST_F_TIMEOUT(from, pages_outlive_the_pipe, TIMEOUT)
{
	struct way *w = &self->w;

	ASSERT_EQ(FULL, stream_write(w->in->fd[1], 0, FULL));
	ASSERT_EQ(FULL - 5000, move(w, FULL - 5000, 0));
	close_end(w->in, 0);
	close_end(w->in, 1);
	EXPECT_EQ(FULL - 5000, stream_read(w->out->fd[0], 0, FULL));
}

/* A gifted huge page is spliced in pieces, and read for the rest. */
TEST_F_TIMEOUT(from, gifted_page_in_parts, TIMEOUT)
{
	struct way *w = &self->w;
	unsigned char *at = huge_memory(1, 0);
	struct child c;
	long off, n;

	child_gift(&c, w->in, 1);
	ASSERT_TRUE(is_zpipe(variant->kind) || child_asleep(&c));
	for (off = 0; off < HUGE_SIZE / 2; off += n) {
		n = move(w, off % 3 ? 5000 : FULL, 0);
		ASSERT_LT(0, n);
		ASSERT_EQ(n, stream_read(w->out->fd[0], off, n));
	}
	for (; off < HUGE_SIZE; off += n) {
		n = sys(read(w->in->fd[0], at, HUGE_SIZE));
		ASSERT_LT(0, n);
		ASSERT_EQ(-1, stream_diff(at, off, n));
	}
	EXPECT_EQ(HUGE_SIZE, child_join(&c));
}

/*
 * The rest of a huge page, and a packet behind it. The splice ends inside of the packet, or the
 * real pipe has a single free slot. No byte of the packet is lost, as one would be in a read.
 */
TEST_F_TIMEOUT(from, packet_behind_a_huge_page, TIMEOUT)
{
	struct way *w = &self->w;
	unsigned char *at = huge_memory(1, 0);
	struct iovec iov = { at, HUGE_SIZE };
	int full;
	long n;

	if (!moves(w->in))
		SKIP(return, "a write of 2 MiB blocks");
	for (full = 0; full < 2; full++) {
		long rest = HUGE_SIZE - 1000, off = 0;

		stream_fill(at, 0, HUGE_SIZE);
		collapse(at, HUGE_SIZE);
		ASSERT_EQ(0, set_direct(w->in->fd[1], false));
		ASSERT_EQ(HUGE_SIZE, gift_flags(w->in, &iov, 1, ZPIPE_ALWAYS).ret);
		ASSERT_EQ(0, set_direct(w->in->fd[1], true));
		ASSERT_EQ(PAGE, stream_write(w->in->fd[1], HUGE_SIZE, PAGE));
		for (; rest; rest -= n, off += n) {
			n = stream_read(w->in->fd[0], off, rest);
			ASSERT_LT(0, n);
		}
		if (full)
			ASSERT_EQ(FULL - PAGE, stream_write(w->out->fd[1], 0, FULL - PAGE));
		n = move(w, full ? FULL : 2000, 0);
		ASSERT_LE(1000, n);
		EXPECT_EQ(1000 + PAGE - n, fionread(w->in->fd[0]));
		if (full)
			ASSERT_EQ(FULL - PAGE, stream_read(w->out->fd[0], 0, FULL - PAGE));
		ASSERT_EQ(1000, stream_read(w->out->fd[0], off, 1000));
		/* The packet comes in one piece or in two. */
		if (n > 1000)
			EXPECT_EQ(n - 1000, stream_read(w->out->fd[0], HUGE_SIZE, FULL));
		EXPECT_EQ(PAGE + 1000 - n, move(w, FULL, SPLICE_F_NONBLOCK));
		EXPECT_EQ(PAGE + 1000 - n, stream_read(w->out->fd[0], HUGE_SIZE + n - 1000, FULL));
	}
}

/*
 * All of a gifted huge page is in the real pipe. Then the writer gifts again: the page that it
 * finds in place of the gifted one must not be that page.
 */
TEST_F_TIMEOUT(from, gifted_page_does_not_come_back, TIMEOUT)
{
	struct way *w = &self->w;
	unsigned char *at = hole(1);
	int i;

	if (!moves(w->in))
		SKIP(return, "a write of 2 MiB blocks");
	if (set_capacity(PIPE, w->out->fd[0], 4 * HUGE_SIZE) != 4 * HUGE_SIZE)
		SKIP(return, "no real pipe of that size");
	for (i = 0; i < 4; i++) {
		struct gifted g;

		stream_fill(at, i * HUGE_SIZE, HUGE_SIZE);
		collapse(at, HUGE_SIZE);
		g = gift(w->in, at, HUGE_SIZE);
		ASSERT_EQ(HUGE_SIZE, g.ret);
		ASSERT_EQ(HUGE_SIZE, move_all(w, HUGE_SIZE));
		memset(at, 0xee, HUGE_SIZE);
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(HUGE_SIZE, sys(read(w->out->fd[0], at, HUGE_SIZE)));
		EXPECT_EQ(-1, stream_diff(at, i * HUGE_SIZE, HUGE_SIZE));
	}
}

/* The same with small pages. */
TEST_F_TIMEOUT(from, gifted_small_pages, TIMEOUT)
{
	struct way *w = &self->w;
	unsigned char *at = small_memory(SLOTS);
	int i;

	for (i = 0; i < 4; i++) {
		stream_fill(at, i * FULL, FULL);
		ASSERT_EQ(FULL, gift_small(w->in, at, FULL).ret);
		ASSERT_EQ(FULL, move(w, FULL, 0));
		memset(at, 0xee, FULL);
		ASSERT_EQ(FULL, stream_read(w->out->fd[0], i * FULL, FULL));
	}
}

/* A committed or lent frame is spliced. Then its place in the window gets other bytes. */
static void frames(struct __test_metadata *_metadata, struct ends *e, unsigned int flags)
{
	struct window w = flags ? lending_window(e, 1) : write_window(e, 1);
	unsigned char *at = hole(1);
	struct way way = { .e = *e };
	int i;

	ASSERT_LE(0, w.fd);
	way.in = &way.e;
	way.out = &way.real;
	ASSERT_EQ(0, ends_make(&way.real, PIPE));
	ASSERT_EQ(0, open_ends(&way.real, 0));
	ASSERT_EQ(2 * FRAME, set_capacity(PIPE, way.real.fd[0], 2 * FRAME));
	for (i = 0; i < 4; i++) {
		stream_fill(w.at, i * FRAME, FRAME);
		ASSERT_EQ(FRAME, commit(&w, 0, FRAME, flags).ret);
		ASSERT_EQ(FRAME / 2, move_all(&way, FRAME / 2));
		memset(w.at, 0xee, FRAME / 4);
		ASSERT_EQ(FRAME / 2, move_all(&way, FRAME / 2));
		ASSERT_EQ(0, fionread(e->fd[0]));
		memset(w.at + FRAME / 4, 0xee, 3 * FRAME / 4);
		ASSERT_EQ(FRAME, sys(read(way.real.fd[0], at, FRAME)));
		EXPECT_EQ(-1, stream_diff(at, i * FRAME, FRAME)) TH_LOG("round %d", i);
	}
	free_window(&w);
}

TEST_F_TIMEOUT(window, committed_frames, TIMEOUT)
{
	frames(_metadata, &self->e, 0);
}

TEST_F_TIMEOUT(window, lent_frames, TIMEOUT)
{
	frames(_metadata, &self->e, ZPIPE_LEND);
}

TEST_HARNESS_MAIN
