// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reader that waits, and a large write: what the reader's memory is, what the
 * writer's is, and what becomes of either meanwhile. In zpipe the bytes may go
 * straight from the one to the other; where they cannot, nothing is different
 * from pipe(2).
 */
#include "oracle.h"
#include "child.h"
#include "large.h"
#include "push.h"

#include <linux/userfaultfd.h>

#define PAGES		(MIB / PAGE)

/* The pipe holds a mebibyte, so that all kinds write as much at once. */
static void prepare(struct __test_metadata *_metadata, struct ends *e)
{
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	ASSERT_EQ(MIB, set_capacity(e->kind, e->fd[0], MIB));
}

/*
 * A mebibyte for @c, of which @fits are written and which should get @want of
 * that; if it is an error, nothing.
 */
static void serve(struct __test_metadata *_metadata, struct ends *e,
		  struct child *c, long fits, long want)
{
	long w = stream_write(e->fd[1], 0, MIB);
	long r = child_join(c);

	if (copies_are_cut(e->kind)) {
		/* Whatever was pushed, and whenever the reader looked. */
		EXPECT_LE(fits, w);
		EXPECT_GE(w, r);
		EXPECT_EQ(want < 0, r < 0);
	} else {
		EXPECT_EQ(fits, w);
		EXPECT_EQ(want, r);
	}
	r = r < 0 ? 0 : r;
	EXPECT_EQ(-1, stream_diff(c->buf, 0, r));
	take_rest(_metadata, e, r, w - r);
	munmap(c->buf, c->len + 1);
}

/*
 * What the reader's memory is.
 */

/* Half of it is there: zpipe pushes so much, pipe(2) copies all. */
#define HALF		(PAGES / 2)

/*
 * A child reads to such memory. In pipe(2) it gets it all, and in zpipe as much
 * as is pushed: @pages. If that is 0, all goes by way of the slots, which are as
 * many as ever: where there are more, a write may show in parts.
 */
static void read_to(struct __test_metadata *_metadata, struct ends *e,
		    struct want want, int pages)
{
	bool pushes = is_zpipe(e->kind) && pages;
	struct child c;

	if (pages)
		prepare(_metadata, e);
	ASSERT_EQ(0, set_nonblock(e->fd[1], true));
	child_take_to(&c, e, MIB, want);
	if (!child_asleep(&c)) {
		ASSERT_EQ(NO_SUCH_MEMORY, child_join(&c));
		SKIP(return, "no such memory");
	}
	if (want.meanwhile)
		ASSERT_TRUE(meanwhile_has(&c, ENDED));
	serve(_metadata, e, &c, pages ? MIB : FULL,
	      pushes ? (long)pages * PAGE : pages ? MIB : FULL);
	if (!pushes || !copies_are_cut(e->kind))
		EXPECT_EQ(pushes ? (long)pages * PAGE : 0, pushed(e));
}

static void read_to_memory(struct __test_metadata *_metadata, struct ends *e,
			   int (*memory)(unsigned char *p, size_t len),
			   int pages)
{
	read_to(_metadata, e, (struct want) { .memory = memory }, pages);
}

static int memory_of_its_own(unsigned char *p, size_t len)
{
	memset(p, 0xcc, len);
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_of_its_own, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_of_its_own, PAGES);
}

static int memory_locked(unsigned char *p, size_t len)
{
	return mlock(p, len);
}

TEST_F_TIMEOUT(all, read_to_memory_locked, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_locked, PAGES);
}

static int memory_huge(unsigned char *p, size_t len)
{
	madvise(p, 2 * MIB, MADV_HUGEPAGE);
	memset(p, 0xcc, 2 * MIB);
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_huge, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_huge, PAGES);
}

static int memory_fresh(unsigned char *p, size_t len)
{
	madvise(p, len, MADV_NOHUGEPAGE);
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_fresh, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_fresh, 0);
}

static int memory_half_there(unsigned char *p, size_t len)
{
	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 0xcc, HALF * PAGE);
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_half_there, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_half_there, HALF);
}

/* Only read so far: the same zeroes as for everybody. */
static int memory_of_zeroes(unsigned char *p, size_t len)
{
	size_t i;

	madvise(p, len, MADV_NOHUGEPAGE);
	for (i = 0; i < len; i += PAGE)
		if (((volatile unsigned char *)p)[i])
			return -1;
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_of_zeroes, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_of_zeroes, 0);
}

static int map_over(unsigned char *p, size_t len, int flags, int fd)
{
	if (fd >= 0 && ftruncate(fd, len))
		return -1;
	if (mmap(p, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) != p)
		return -1;
	memset(p, 0xcc, len);
	return 0;
}

static int memory_shared(unsigned char *p, size_t len)
{
	return map_over(p, len, MAP_SHARED | MAP_ANONYMOUS, -1);
}

TEST_F_TIMEOUT(all, read_to_memory_shared, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_shared, 0);
}

static int memory_of_a_file(unsigned char *p, size_t len)
{
	return map_over(p, len, MAP_SHARED, memfd_create("zpipe-test", 0));
}

TEST_F_TIMEOUT(all, read_to_memory_of_a_file, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_of_a_file, 0);
}

static int memory_private_of_a_file(unsigned char *p, size_t len)
{
	return map_over(p, len, MAP_PRIVATE, memfd_create("zpipe-test", 0));
}

TEST_F_TIMEOUT(all, read_to_memory_private_of_a_file, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_private_of_a_file, 0);
}

static int memory_with_a_key(unsigned char *p, size_t len)
{
	int key = pkey_alloc(0, 0);

	memset(p, 0xcc, len);
	return key < 0 ? -1 : pkey_mprotect(p, len, PROT_READ | PROT_WRITE,
					    key);
}

TEST_F_TIMEOUT(all, read_to_memory_with_a_key, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_with_a_key, 0);
}

/* Write-protected by a userfaultfd, until somebody writes. */
static void *unprotect(void *arg)
{
	struct uffdio_writeprotect *wp = arg;
	struct pollfd p = { .fd = wp->mode, .events = POLLIN };

	poll(&p, 1, -1);
	wp->mode = 0;
	ioctl(p.fd, UFFDIO_WRITEPROTECT, wp);
	return NULL;
}

static int memory_write_protected(unsigned char *p, size_t len)
{
	static struct uffdio_writeprotect wp;
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (unsigned long)p, len },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pthread_t thread;

	memset(p, 0xcc, len);
	wp.range = reg.range;
	wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return -1;
	wp.mode = fd;
	return pthread_create(&thread, NULL, unprotect, &wp);
}

TEST_F_TIMEOUT(all, read_to_memory_write_protected, TIMEOUT)
{
	read_to_memory(_metadata, &self->e, memory_write_protected, 0);
}

/*
 * Memory that another process has too, from a fork: that must not change.
 */

static struct copy {
	pid_t pid;
	int *go;		/* shared */
} copies[20];
static int nr_copies;

/* It compares what it has with what it had when it was forked. */
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

/* All of the copies have been made: none differs for it was made late. */
static void copies_made(void)
{
	int i;

	for (i = 0; i < nr_copies; i++)
		eventually(__atomic_load_n(copies[i].go, __ATOMIC_SEQ_CST));
}

static int memory_forked(unsigned char *p, size_t len)
{
	memset(p, 0xcc, len);
	if (fork_copy(p, len))
		return -1;
	copies_made();
	return 0;
}

TEST_F_TIMEOUT(all, read_to_memory_that_a_child_has, TIMEOUT)
{
	read_to(_metadata, &self->e, (struct want) {
		.memory = memory_forked, .after = copies_changed,
	}, 0);
}

static void fork_once(unsigned char *p, size_t len)
{
	fork_copy(p, len);
	copies_made();
}

TEST_F_TIMEOUT(all, forks_while_it_waits, TIMEOUT)
{
	read_to(_metadata, &self->e, (struct want) {
		.meanwhile = fork_once, .after = copies_changed,
	}, 0);
}

/* With the write and with the copy, so each child may have any part of it. */
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
		child_take_to(&c, &self->e, MIB, (struct want) {
			.meanwhile = fork_often, .after = copies_changed,
		});
		ASSERT_TRUE(meanwhile_has(&c, BEGUN));
		usleep(i * 2000);
		EXPECT_EQ(MIB, stream_write(self->e.fd[1], 0, MIB));
		r = child_join(&c);
		ASSERT_LT(0, r);
		EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
		take_rest(_metadata, &self->e, r, MIB - r);
	}
}

/*
 * Bad memory of the reader's. What would be in one slot arrives whole or not.
 */

static int bad_page, bad_pages;		/* from the start of its memory */

static int memory_not_accessible(unsigned char *p, size_t len)
{
	memset(p, 0xcc, len);
	return mprotect(p + bad_page * PAGE, bad_pages * PAGE, PROT_NONE);
}

static int memory_not_writable(unsigned char *p, size_t len)
{
	memset(p, 0xcc, len);
	return mprotect(p + bad_page * PAGE, bad_pages * PAGE, PROT_READ);
}

static int memory_not_mapped(unsigned char *p, size_t len)
{
	memset(p, 0xcc, len);
	return munmap(p + bad_page * PAGE, bad_pages * PAGE);
}

static void read_to_bad(struct __test_metadata *_metadata, struct ends *e,
			int (*memory)(unsigned char *p, size_t len), int nr)
{
	static const int pages[] = { 0, 1, 5, 40, 100 };
	static const size_t skews[] = { 0, 100, 4095 };
	struct child c;
	size_t i, j, k;
	long want;

	prepare(_metadata, e);
	bad_pages = nr;
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		for (j = 0; j < ARRAY_SIZE(skews); j++)
			for (k = 0; k < 2; k++) {
				bad_page = pages[i];
				child_take_to(&c, e, MIB, (struct want) {
					.memory = memory, .skew = skews[j],
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
	read_to_bad(_metadata, &self->e, memory_not_accessible, 1);
}

TEST_F_TIMEOUT(all, destination_is_not_writable, 2 * TIMEOUT)
{
	read_to_bad(_metadata, &self->e, memory_not_writable, 100);
}

TEST_F_TIMEOUT(all, destination_is_not_mapped, 2 * TIMEOUT)
{
	read_to_bad(_metadata, &self->e, memory_not_mapped, 3);
}

/*
 * What becomes of the reader's memory while it waits: all of it from page LATE.
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
	child_take_to(&c, e, MIB, (struct want) { .meanwhile = meanwhile });
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

/* Without a pause, so that it happens within the copy, too. */
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
		child_take_to(&c, &self->e, MIB, (struct want) {
			.meanwhile = meanwhile_toggle,
		});
		ASSERT_TRUE(meanwhile_has(&c, BEGUN));
		usleep(i * 1000);
		EXPECT_EQ(MIB, stream_write(self->e.fd[1], 0, MIB));
		r = child_join(&c);
		/* A page may have been read-only just then. */
		if (r != -EFAULT)
			ASSERT_LT(0, r);
		r = r < 0 ? 0 : r;
		EXPECT_EQ(-1, stream_diff(c.buf, 0, r));
		take_rest(_metadata, &self->e, r, MIB - r);
	}
}

/*
 * What the writer's memory is.
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
			child_take(&c, &self->e, MIB);
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
			take_rest(_metadata, &self->e, r, want - r);
			munmap(p, 2 * MIB);
			munmap(c.buf, MIB + 1);
		}
}

/* Nothing of it is there yet. */
TEST_F_TIMEOUT(all, source_is_fresh, TIMEOUT)
{
	unsigned char *from = no_memory(MIB);
	struct child c;
	long r, i;

	prepare(_metadata, &self->e);
	child_take(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(MIB, sys(write(self->e.fd[1], from, MIB)));
	r = child_join(&c);
	ASSERT_LT(0, r);
	for (i = 0; i < r; i++)
		ASSERT_EQ(0, c.buf[i]);
	EXPECT_EQ(MIB - r, fionread(self->e.fd[0]));
}

/*
 * From and to memory of one process: the source begins at @from of it, the
 * destination at @to. What a byte may become is what was before it somewhere.
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
