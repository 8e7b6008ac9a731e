// SPDX-License-Identifier: GPL-2.0-only
/*
 * A blocked reader and a large write, with memory of several kinds on either side, and with
 * changes of that memory while the reader waits. zpipe may push the bytes. If it cannot, it
 * behaves as pipe(2) does.
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "memory.h"
#include "push.h"

#define PAGES		(MIB / PAGE)

/* The memory that the child reads to; @p and @len are set in the child. */
static struct memory read_kind;

/* See struct want. */
static int make_memory(unsigned char *p, size_t len)
{
	read_kind.p = p;
	read_kind.len = len;
	return memory_make(&read_kind) ? 0 : -1;
}

static long check_memory(unsigned char *p, size_t len)
{
	return memory_is_intact(&read_kind) ? 0 : -EUCLEAN;
}

/* Sets a capacity of a mebibyte, so that a non-blocking write is as long on any pipe. */
static void prepare(struct __test_metadata *_metadata, struct ends *e)
{
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	ASSERT_EQ(MIB, set_capacity(e->kind, e->fd[0], MIB));
}

/*
 * Writes a mebibyte, of which the pipe and the reader @c take @fits bytes. The reader shall get
 * @want of them, or the error @want.
 */
static void serve(struct __test_metadata *_metadata, struct ends *e,
		  struct child *c, long fits, long want)
{
	long w = stream_write(e->fd[1], 0, MIB);
	long r = child_join(c);

	if (copies_are_cut(e->kind)) {
		/* The counts depend on what was pushed, and on when the reader ran. */
		EXPECT_LE(fits, w);
		EXPECT_GE(w, r);
		EXPECT_EQ(want < 0, r < 0);
	} else {
		EXPECT_EQ(fits, w);
		EXPECT_EQ(want, r);
	}
	r = r < 0 ? 0 : r;
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	read_rest(_metadata, e, r, w - r);
	munmap(c->buf, c->len + 1);
}

/*
 * Kinds of memory that a reader waits with.
 */

/* The number of the reader's pages that zpipe pushes to. */
static int pages_pushed(enum memory_kind kind)
{
	switch (memory_types[kind].push) {
	case ALL:
		return PAGES;
	case HALF:
		return PAGES / 2;
	default:
		return 0;
	}
}

/*
 * A child reads to such memory. With pipe(2) it gets all bytes, and with zpipe those that are
 * pushed. If nothing is pushed, all bytes go through slots. The pipe keeps its default capacity
 * then, since a large pipe would show the write in parts.
 */
static void read_to(struct __test_metadata *_metadata, struct ends *e,
		    enum memory_kind kind)
{
	struct want want = { .memory = make_memory, .after = check_memory };
	int pages = pages_pushed(kind);
	bool pushes = is_zpipe(e->kind) && pages;
	struct child c;

	read_kind = (struct memory) {
		.kind = kind, .sync = shared_alloc(sizeof(struct copy_sync)),
	};
	if (pages)
		prepare(_metadata, e);
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	child_read_private_to(&c, e, MIB, want);
	if (!child_asleep(&c)) {
		ASSERT_EQ(NO_SUCH_MEMORY, child_join(&c));
		SKIP(return, "no such memory");
	}
	if (memory_types[kind].waits)
		ASSERT_TRUE(eventually(__atomic_load_n(&read_kind.sync->ready,
						       __ATOMIC_SEQ_CST)));
	serve(_metadata, e, &c, pages ? MIB : FULL,
	      pushes ? (long)pages * PAGE : pages ? MIB : FULL);
	if (!pushes || !copies_are_cut(e->kind))
		EXPECT_EQ(pushes ? (long)pages * PAGE : 0, pushed(e));
}

/* A test for each kind that has a word in the column push of kinds.h. */
#define PUSH_NO_TEST(...)
#define PUSH_ALL READ_TO
#define PUSH_HALF READ_TO
#define PUSH_NOTHING READ_TO
#define READ_TO(constant, name, ...)						\
static const enum memory_kind kind_##name = constant;				\
										\
TEST_F_TIMEOUT(all, read_to_##name, TIMEOUT)					\
{										\
	read_to(_metadata, &self->e, kind_##name);				\
}

#define MEMKIND(constant, name, carry, push, ...) PUSH_##push(constant, name, carry)
#include "kinds.h"

/*
 * Forks while the reader waits: the children's copies must not change.
 */

static struct copy {
	pid_t pid;
	int *go;		/* shared */
} copies[20];
static int nr_copies;

/* Forks a child that keeps its copy, and compares it with those bytes in copies_changed(). */
static int fork_copy(unsigned char *p, size_t len)
{
	struct copy *copy = &copies[nr_copies++];
	unsigned char *had;
	size_t i;

	copy->go = shared_alloc(sizeof(int));
	copy->pid = fork();
	if (copy->pid)
		return copy->pid < 0;
	had = malloc(len);
	memcpy(had, p, len);
	__atomic_store_n(copy->go, 1, __ATOMIC_SEQ_CST);
	eventually(__atomic_load_n(copy->go, __ATOMIC_SEQ_CST) == 2);
	for (i = 0; i < len; i++)
		if (p[i] != had[i])
			break;
	_exit(i != len);
}

/* -EUCLEAN if the memory of a child has changed since the fork, otherwise 0. */
static long copies_changed(unsigned char *p, size_t len)
{
	long changed = 0;
	int status;

	while (nr_copies--) {
		__atomic_store_n(copies[nr_copies].go, 2, __ATOMIC_SEQ_CST);
		if (waitpid(copies[nr_copies].pid, &status, 0) < 0 || status)
			changed = -EUCLEAN;
	}
	return changed;
}

/* Waits until all children have noted their bytes: a late note would hide a change. */
static void copies_made(void)
{
	int i;

	for (i = 0; i < nr_copies; i++)
		eventually(__atomic_load_n(copies[i].go, __ATOMIC_SEQ_CST));
}

/* Forks concurrently with the write, so a child may have any part of the bytes. */
static void fork_often(unsigned char *p, size_t len)
{
	while (nr_copies < ARRAY_SIZE(copies))
		fork_copy(p, len);
	copies_made();
}

TEST_F_TIMEOUT(all, forks_all_the_time, 2 * TIMEOUT)
{
	struct child c;
	long r, i;

	prepare(_metadata, &self->e);
	for (i = 0; i < 5; i++) {
		child_read_private_to(&c, &self->e, MIB, (struct want) {
			.meanwhile = fork_often, .after = copies_changed,
		});
		ASSERT_TRUE(meanwhile_has(&c, BEGUN));
		usleep(i * 2000);
		EXPECT_EQ(MIB, stream_write(self->e.fd[1], 0, MIB));
		r = child_join(&c);
		ASSERT_LT(0, r);
		EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
		read_rest(_metadata, &self->e, r, MIB - r);
	}
}

/*
 * A reader's memory with a bad part. The bytes that would be in one slot arrive all or not at all.
 */

/* Reads with @nr bad pages at several places. */
static void read_to_bad(struct __test_metadata *_metadata, struct ends *e,
			enum memory_kind kind, int nr)
{
	static const int pages[] = { 0, 1, 5, 40, 100 };
	static const size_t skews[] = { 0, 100, 4095 };
	struct child c;
	size_t i, j, k;
	long want;

	prepare(_metadata, e);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		for (j = 0; j < ARRAY_SIZE(skews); j++)
			for (k = 0; k < 2; k++) {
				read_kind = (struct memory) {
					.kind = kind, .part = pages[i] * PAGE,
					.part_len = nr * PAGE,
				};
				child_read_private_to(&c, e, MIB, (struct want) {
					.memory = make_memory, .skew = skews[j],
					.segments = k,
				});
				ASSERT_TRUE(child_asleep(&c));
				want = pages[i] * PAGE - (long)skews[j];
				want = want < PAGE ? -EFAULT : want & -PAGE;
				serve(_metadata, e, &c, MIB, want);
			}
}

TEST_F_TIMEOUT(all, destination_is_not_accessible, 2 * TIMEOUT)
{
	read_to_bad(_metadata, &self->e, HOLE, 1);
}

TEST_F_TIMEOUT(all, destination_is_not_writable, 2 * TIMEOUT)
{
	read_to_bad(_metadata, &self->e, READ_ONLY, 100);
}

TEST_F_TIMEOUT(all, destination_is_not_mapped, 2 * TIMEOUT)
{
	read_to_bad(_metadata, &self->e, UNMAPPED, 3);
}

/*
 * Changes of the reader's memory, from page LATE on, while the reader waits.
 */

#define LATE	100

static void meanwhile_unmap(unsigned char *p, size_t len)
{
	munmap(p + LATE * PAGE, len - LATE * PAGE);
}

static void meanwhile_protect(unsigned char *p, size_t len)
{
	mprotect(p + LATE * PAGE, len - LATE * PAGE, PROT_READ);
}

static void meanwhile_move(unsigned char *p, size_t len)
{
	unsigned char *to = own_memory(len);

	mremap(p + LATE * PAGE, len - LATE * PAGE, len - LATE * PAGE,
	       MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

static void meanwhile_drop(unsigned char *p, size_t len)
{
	madvise(p + LATE * PAGE, len - LATE * PAGE, MADV_DONTNEED);
}

static void meanwhile_replace(unsigned char *p, size_t len)
{
	mmap(p + LATE * PAGE, len - LATE * PAGE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
}

static void changes(struct __test_metadata *_metadata, struct ends *e,
		    void (*meanwhile)(unsigned char *p, size_t len), long want)
{
	struct child c;

	prepare(_metadata, e);
	child_read_private_to(&c, e, MIB, (struct want) { .meanwhile = meanwhile });
	ASSERT_TRUE(meanwhile_has(&c, ENDED));
	ASSERT_TRUE(child_asleep(&c));
	serve(_metadata, e, &c, MIB, want);
	if (is_zpipe(e->kind) && !copies_are_cut(e->kind))
		EXPECT_EQ(want, pushed(e));
}

TEST_F_TIMEOUT(all, destination_is_unmapped, TIMEOUT)
{
	changes(_metadata, &self->e, meanwhile_unmap, LATE * PAGE);
}

TEST_F_TIMEOUT(all, destination_is_protected, TIMEOUT)
{
	changes(_metadata, &self->e, meanwhile_protect, LATE * PAGE);
}

TEST_F_TIMEOUT(all, destination_is_moved, TIMEOUT)
{
	changes(_metadata, &self->e, meanwhile_move, LATE * PAGE);
}

TEST_F_TIMEOUT(all, destination_is_replaced, TIMEOUT)
{
	changes(_metadata, &self->e, meanwhile_replace, MIB);
}

TEST_F_TIMEOUT(all, destination_is_dropped, TIMEOUT)
{
	changes(_metadata, &self->e, meanwhile_drop,
		is_zpipe(variant->kind) ? LATE * PAGE : MIB);
}

/* Changes pages without a pause, so that some changes come during the copy. */
static void meanwhile_toggle(unsigned char *p, size_t len)
{
	unsigned long dice = 5;
	size_t at;
	int i;

	for (i = 0; i < 3000; i++) {
		at = rnd(&dice) % (len / PAGE);
		mprotect(p + at * PAGE, PAGE, PROT_READ);
		mprotect(p + at * PAGE, PAGE, PROT_READ | PROT_WRITE);
		free(memset(malloc(40 * PAGE), 1, 40 * PAGE));
	}
}

TEST_F_TIMEOUT(all, destination_is_changed_all_the_time, 2 * TIMEOUT)
{
	struct child c;
	long r, i;

	prepare(_metadata, &self->e);
	for (i = 0; i < 10; i++) {
		child_read_private_to(&c, &self->e, MIB, (struct want) {
			.meanwhile = meanwhile_toggle,
		});
		ASSERT_TRUE(meanwhile_has(&c, BEGUN));
		usleep(i * 1000);
		EXPECT_EQ(MIB, stream_write(self->e.fd[1], 0, MIB));
		r = child_join(&c);
		/* The first page may have been read-only at that moment. */
		if (r != -EFAULT)
			ASSERT_LT(0, r);
		r = r < 0 ? 0 : r;
		EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
		read_rest(_metadata, &self->e, r, MIB - r);
	}
}

/*
 * The writer's memory.
 */

TEST_F_TIMEOUT(all, source_is_bad, TIMEOUT)
{
	static const int pages[] = { 0, 1, 5, 40, 100 };
	static const size_t skews[] = { 0, 100, 4095 };
	struct child c;
	size_t i, j;

	prepare(_metadata, &self->e);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		for (j = 0; j < ARRAY_SIZE(skews); j++) {
			unsigned char *p = own_memory(2 * MIB);
			long r, want = pages[i] * PAGE - (long)skews[j];

			want = want < PAGE ? -EFAULT : want & -PAGE;
			stream_fill(p + skews[j], 0, MIB);
			mprotect(p + pages[i] * PAGE, PAGE, PROT_NONE);
			child_read_private(&c, &self->e, MIB);
			ASSERT_TRUE(child_asleep(&c));
			EXPECT_EQ(want, sys(write(self->e.fd[1], p + skews[j],
						  MIB)));
			if (want < 0) {
				EXPECT_TRUE(child_stays_asleep(&c));
				want = 5000;
				EXPECT_EQ(want, stream_write(self->e.fd[1], 0,
							     want));
			}
			r = child_join(&c);
			ASSERT_LT(0, r);
			if (!copies_are_cut(variant->kind))
				EXPECT_EQ(want, r);
			EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
			read_rest(_metadata, &self->e, r, want - r);
			munmap(p, 2 * MIB);
			munmap(c.buf, MIB + 1);
		}
}

/* The writer has not touched its memory. */
TEST_F_TIMEOUT(all, source_is_fresh, TIMEOUT)
{
	unsigned char *from = no_memory(MIB);
	struct child c;
	long r, i;

	prepare(_metadata, &self->e);
	child_read_private(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(MIB, sys(write(self->e.fd[1], from, MIB)));
	r = child_join(&c);
	ASSERT_LT(0, r);
	for (i = 0; i < r; i++)
		ASSERT_EQ(0, c.buf[i]);
	EXPECT_EQ(MIB - r, fionread(self->e.fd[0]));
}

/*
 * A transfer within the memory of one process: the source begins at offset @from, the destination
 * at @to. If the destination is behind the source and overlaps it, an earlier byte of the same
 * transfer may have replaced the byte that is copied.
 */
static void overlap(struct __test_metadata *_metadata, struct ends *e,
		    long from, long to)
{
	unsigned char *p = own_memory(2 * MIB);
	struct thread_read t = {
		.fd = e->fd[0], .buf = p + to, .len = MIB,
	};
	long i, at;

	prepare(_metadata, e);
	stream_fill(p + from, 0, MIB);
	ASSERT_TRUE(thread_reads(&t));
	EXPECT_EQ(MIB, sys(write(e->fd[1], p + from, MIB)));
	pthread_join(t.thread, NULL);
	if (!copies_are_cut(e->kind))
		EXPECT_EQ(MIB, t.ret);
	ASSERT_LT(0, t.ret);
	for (i = 0; i < t.ret; i++) {
		for (at = i; at >= 0 && p[to + i] != stream_byte(at);)
			at -= to > from ? to - from : MIB;
		ASSERT_LE(0, at) TH_LOG("byte %ld", i);
	}
	EXPECT_EQ(MIB - t.ret, fionread(e->fd[0]));
}

TEST_F_TIMEOUT(all, destination_is_the_source, TIMEOUT)
{
	overlap(_metadata, &self->e, 0, 0);
}

TEST_F_TIMEOUT(all, destination_is_before_the_source, TIMEOUT)
{
	overlap(_metadata, &self->e, 40 * PAGE, 0);
}

TEST_F_TIMEOUT(all, destination_is_behind_the_source, TIMEOUT)
{
	overlap(_metadata, &self->e, 0, 40 * PAGE);
}

TEST_F_TIMEOUT(all, destination_is_beside_the_source, TIMEOUT)
{
	overlap(_metadata, &self->e, 0, MIB);
}

TEST_HARNESS_MAIN
