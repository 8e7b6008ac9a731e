// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames that are lent: the writer can still read them. Bytes that it stores afterwards
 * are visible to the writer only.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "window.h"

/* The offset of the byte that the tests change. */
#define AT		(FRAME / 2 + 5)

/* True if the frame holds the stream from @off on, but with the byte at AT inverted. */
static bool changed_right(unsigned char *at, unsigned long off)
{
	bool right;

	at[AT] ^= 0xff;
	right = stream_diff(at, off, FRAME) == -1;
	at[AT] ^= 0xff;
	return right;
}

TEST_F(window, lent_frames_stay)
{
	struct window w = lending_window(&self->e, 2), r = read_window(&self->e, 2);
	unsigned long was;
	struct peeked p;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	stream_fill(w.at, 0, 2 * FRAME);
	was = frame(w.at);
	EXPECT_MOVED(commit(&w, 0, 2 * FRAME, ZPIPE_LEND), 2 * FRAME);
	EXPECT_EQ(-1, stream_diff(w.at, 0, 2 * FRAME));
	p = peek(&r, 0);
	EXPECT_EQ(2 * FRAME, p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(0, p.copied);
	EXPECT_EQ(was, frame(r.at + p.views[0].offset));
	EXPECT_EQ(was, frame(w.at));
	/* Only the writer sees its store. The rest of the frame is the same. */
	w.at[AT] ^= 0xff;
	EXPECT_NE(was, frame(w.at));
	EXPECT_TRUE(changed_right(w.at, 0));
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(was, frame(r.at + p.views[0].offset));
	EXPECT_EQ(0, consume(&r, 2 * FRAME));
	EXPECT_TRUE(changed_right(w.at, 0));
	EXPECT_EQ(-1, stream_diff(w.at + FRAME, FRAME, FRAME));
	/* The second frame was read before the store. */
	w.at[FRAME + AT] ^= 0xff;
	EXPECT_TRUE(changed_right(w.at + FRAME, FRAME));
}

/*
 * The same frame is lent repeatedly. A byte is changed in each round, and a reader
 * copies the frame.
 */
TEST_F_TIMEOUT(window, lent_again, TIMEOUT)
{
	struct window w = lending_window(&self->e, 1);
	unsigned char *to = small_hole(FRAME / PAGE);
	int i;

	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, FRAME);
	for (i = 0; i < 10; i++) {
		EXPECT_MOVED(commit(&w, 0, FRAME, ZPIPE_LEND), FRAME);
		if (i % 2)
			w.at[AT] ^= 0xff;
		ASSERT_EQ(FRAME, fetch(&self->e, to, FRAME, 0).ret);
		if (!(i % 2))
			w.at[AT] ^= 0xff;
		/* The byte was changed an odd number of times before this commit. */
		if (i % 2)
			to[AT] ^= 0xff;
		EXPECT_EQ(-1, stream_diff(to, 0, FRAME));
	}
}

/* The same frame is in the pipe several times. */
TEST_F_TIMEOUT(window, lent_twice, TIMEOUT)
{
	struct window w;
	struct child c;

	child_read_all(&c, &self->e, 3 * FRAME, 300000);
	w = lending_window(&self->e, 1);
	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, FRAME);
	EXPECT_EQ(FRAME, commit(&w, 0, FRAME, ZPIPE_LEND).ret);
	EXPECT_EQ(FRAME, commit(&w, 0, FRAME, ZPIPE_LEND).ret);
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	EXPECT_EQ(FRAME, commit(&w, 0, FRAME, 0).ret);
	memset(w.at, 1, FRAME);
	EXPECT_EQ(3 * FRAME, child_join(&c));
	EXPECT_EQ(-1, stream_diff(c.buf, 0, FRAME));
	EXPECT_EQ(-1, stream_diff(c.buf + FRAME, 0, FRAME));
	EXPECT_EQ(-1, stream_diff(c.buf + 2 * FRAME, 0, FRAME));
}

/*
 * Only whole frames are lent, since a reader of a part would see the rest, too. A part
 * is copied, as far as slots are free.
 */
TEST_F(window, lent_parts)
{
	struct window w = lending_window(&self->e, 1);
	struct gifted g;

	ASSERT_LE(0, w.fd);
	stream_fill(w.at, 0, FRAME);
	g = commit(&w, 1000, FRAME * 3 / 4, ZPIPE_LEND | ZPIPE_NONBLOCK);
	EXPECT_COPIED(g, SLOTS * PAGE, ZPIPE_REASON_PART);
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	w.at[0] ^= 0xff;
	w.at[2000] ^= 0xff;
	EXPECT_EQ(SLOTS * PAGE, read_stream(self->e.fd[0], 1000, SLOTS * PAGE));
	w.at[0] ^= 0xff;
	w.at[2000] ^= 0xff;
	EXPECT_EQ(-1, stream_diff(w.at, 0, FRAME));
	g = commit(&w, 5, 10000, ZPIPE_LEND);
	EXPECT_EQ(10000, g.copied);
	EXPECT_EQ(10000, read_stream(self->e.fd[0], 5, 10000));
	/* Without ZPIPE_LEND the frame leaves even a lending window. */
	EXPECT_MOVED(commit(&w, 0, FRAME, 0), FRAME);
	memset(w.at, 1, FRAME);
	EXPECT_EQ(FRAME, read_stream(self->e.fd[0], 0, FRAME));
}

/* Changes the byte at AT in one of seven ways. */
static void store(int how, struct window *w)
{
	unsigned char *v, byte = ~w->at[AT];
	int fd[2];

	switch (how) {
	case 0:
		/* Through another mapping. */
		v = map_window(w, PROT_READ | PROT_WRITE);
		v[AT] = byte;
		munmap(v, w->bytes);
		break;
	case 1:
		/* The kernel stores for a system call. */
		if (pipe(fd) || write(fd[1], &byte, 1) != 1 ||
		    read(fd[0], w->at + AT, 1) != 1)
			abort();
		break;
	case 2:
		/* Through /proc/self/mem, as a debugger does. */
		fd[0] = open("/proc/self/mem", O_RDWR);
		if (pwrite(fd[0], &byte, 1, (unsigned long)w->at + AT) != 1)
			abort();
		break;
	case 3:
		/* Through a new mapping that has not faulted yet. */
		munmap(w->at, w->bytes);
		w->at = map_window(w, PROT_READ | PROT_WRITE);
		w->at[AT] = byte;
		break;
	case 4:
		/* After the mapping was read-only and became writable again. */
		mprotect(w->at, w->bytes, PROT_READ);
		mprotect(w->at, w->bytes, PROT_READ | PROT_WRITE);
		w->at[AT] = byte;
		break;
	case 5:
		if (madvise(w->at, FRAME, MADV_POPULATE_WRITE))
			abort();
		w->at[AT] = byte;
		break;
	default:
		/* After the single entry for the frame was split into a page table. */
		madvise(w->at + 3 * PAGE, PAGE, MADV_DONTNEED);
		w->at[AT] = byte;
	}
}

TEST_F_TIMEOUT(window, stores_of_all_kinds, 2 * TIMEOUT)
{
	struct window w = lending_window(&self->e, 1), r = read_window(&self->e, 1);
	struct peeked p;
	int how;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	for (how = 0; how < 7; how++) {
		stream_fill(w.at, 0, FRAME);
		EXPECT_MOVED(commit(&w, 0, FRAME, ZPIPE_LEND), FRAME);
		if (how % 2) {
			store(how, &w);
			p = peek(&r, 0);
		} else {
			p = peek(&r, 0);
			store(how, &w);
		}
		EXPECT_EQ(FRAME, p.bytes);
		EXPECT_TRUE(views_show(&r, &p, 0)) {
			TH_LOG("stored in way %d", how);
		}
		EXPECT_TRUE(changed_right(w.at, 0));
		EXPECT_EQ(0, consume(&r, FRAME));
		EXPECT_TRUE(changed_right(w.at, 0));
	}
}

/*
 * A pipe of the kernel holds a reference to a lent frame. Even so, a store of the
 * writer does not change what readers see.
 */
TEST_F_TIMEOUT(window, held_while_lent, TIMEOUT)
{
	struct window w = lending_window(&self->e, 1), r = read_window(&self->e, 1);
	unsigned char byte;
	struct peeked p;
	int fd;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	EXPECT_MOVED(commit_stream(&w, 0, FRAME, ZPIPE_LEND), FRAME);
	fd = refer_to(w.at + AT);
	p = peek(&r, 0);
	w.at[AT] ^= 0xff;
	EXPECT_EQ(FRAME, p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(0, consume(&r, FRAME));
	EXPECT_TRUE(changed_right(w.at, 0));
	EXPECT_EQ(1, read(fd, &byte, 1));
	/*
	 * The pipe shows the byte before or after the store, but no byte of another
	 * window.
	 */
	EXPECT_TRUE(byte == stream_byte(AT) || byte == w.at[AT]);
}

/*
 * The reader can go on after the lending window is gone, and the writer after the
 * reading one.
 */
TEST_F(window, either_window_is_closed)
{
	struct window w = lending_window(&self->e, 1), r = read_window(&self->e, 1);
	struct peeked p;

	ASSERT_LE(0, w.fd);
	ASSERT_LE(0, r.fd);
	EXPECT_MOVED(commit_stream(&w, 0, FRAME, ZPIPE_LEND), FRAME);
	p = peek(&r, 0);
	free_window(&w);
	EXPECT_EQ(FRAME, p.bytes);
	EXPECT_TRUE(views_show(&r, &p, 0));
	EXPECT_EQ(0, consume(&r, FRAME));

	w = lending_window(&self->e, 1);
	ASSERT_LE(0, w.fd);
	EXPECT_MOVED(commit_stream(&w, 7, FRAME, ZPIPE_LEND), FRAME);
	p = peek(&r, 0);
	EXPECT_TRUE(views_show(&r, &p, 7));
	free_window(&r);
	close_end(&self->e, 0);
	EXPECT_EQ(-1, stream_diff(w.at, 7, FRAME));
	w.at[AT] ^= 0xff;
	EXPECT_TRUE(changed_right(w.at, 7));
}

TEST_HARNESS_MAIN
