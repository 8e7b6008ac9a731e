// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory errors in the memory of a blocked writer or reader. madvise(2) MADV_HWPOISON does what
 * the kernel does when the hardware has reported an error. The call must end at the bad page, as
 * at a page that is not mapped. Only the bytes before that page arrive.
 */
#include "direct.h"
#include "push.h"

/* Marks the page as bad; 0 or -errno. */
static int poison(unsigned char *page)
{
	/* madvise(2) sends SIGBUS to the caller, as to a thread that meets the error. */
	catch_signal(SIGBUS, 0);
	return sys(madvise(page, PAGE, MADV_HWPOISON));
}

/* A write of a mebibyte, and a page of its memory that goes bad while the write waits. */
struct bad_write {
	int bad;		/* index of the page */
	int done;		/* result of poison(), plus 1 */
	unsigned char *p;
};

static void *poison_later(void *arg)
{
	struct bad_write *w = arg;

	eventually(task_syscall(getpid()) == SYS_write);
	__atomic_store_n(&w->done, poison(w->p + w->bad * PAGE) + 1,
			 __ATOMIC_SEQ_CST);
	/* The signal came to this thread, so the write still waits. */
	return NULL;
}

static long write_and_poison(struct child *c)
{
	struct bad_write *w = c->arg;
	pthread_t thread;

	w->p = own_memory(MIB);
	stream_fill(w->p, 0, MIB);
	if (pthread_create(&thread, NULL, poison_later, w))
		return -1;
	return write(c->fd, w->p, MIB);
}

/* Reads @size bytes at a time, and expects the bytes before the bad page. */
static void read_what_was_good(struct __test_metadata *_metadata,
			       struct ends *e, int bad, size_t size)
{
	struct bad_write *w = shared_alloc(sizeof(*w));
	struct child c = {
		.nr = SYS_write, .fn = write_and_poison, .arg = w,
		.fd = e->fd[1], .drop = e->fd[0],
	};
	/* pipe(2) holds copies of the bytes that it announced, a posted write does not. */
	long want = is_zpipe(e->kind) || bad >= SLOTS ? bad * PAGE : MIB;

	w->bad = bad;
	child_start(&c, 0);
	close_end(e, 1);
	ASSERT_TRUE(eventually(__atomic_load_n(&w->done, __ATOMIC_SEQ_CST)));
	if (w->done == 1 - EPERM || w->done == 1 - EINVAL)
		SKIP(return, "MADV_HWPOISON: %s", strerror(1 - w->done));
	ASSERT_EQ(1, w->done);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(want, drain(e->fd[0], 0, MIB, size));
	EXPECT_EQ(want, child_join(&c));
	if (is_zpipe(e->kind)) {
		EXPECT_LT(0, fdinfo_number(e->fd[0], "zpipe-pull-misses-page"));
		EXPECT_LT(0, fdinfo_number(e->fd[0], "zpipe-bytes-pulled"));
	}
}

TEST_F_TIMEOUT(all, page_of_a_waiting_writer, TIMEOUT)
{
	read_what_was_good(_metadata, &self->e, 4 * SLOTS, PAGE);
}

TEST_F_TIMEOUT(all, page_in_the_middle_of_a_read, TIMEOUT)
{
	read_what_was_good(_metadata, &self->e, 4 * SLOTS + 5, FULL);
}

TEST_F_TIMEOUT(all, page_that_was_announced, TIMEOUT)
{
	read_what_was_good(_metadata, &self->e, 3, MIB);
}

#define BAD_OF_READER		40

static void poison_own(unsigned char *p, size_t len)
{
	if (poison(p + BAD_OF_READER * PAGE))
		abort();
}

TEST_F_TIMEOUT(all, page_of_a_waiting_reader, TIMEOUT)
{
	struct want want = { .meanwhile = poison_own };
	long n, more = BAD_OF_READER * PAGE;
	struct child c, w;

	child_read_private_to(&c, &self->e, MIB, want);
	ASSERT_TRUE(meanwhile_has(&c, ENDED));
	ASSERT_TRUE(child_asleep(&c));
	child_write_private(&w, &self->e, 0, MIB);
	n = child_join(&c);
	ASSERT_LT(0, n);
	EXPECT_GE(more, n);
	if (is_zpipe(self->e.kind) && !copies_are_cut(self->e.kind)) {
		EXPECT_EQ(more, n);
		EXPECT_LT(0, fdinfo_number(self->e.fd[0],
					   "zpipe-push-misses-page"));
	}
	EXPECT_EQ(-1, stream_diff(c.buf, 0, n));
	EXPECT_EQ(MIB - n, drain(self->e.fd[0], n, MIB - n, MIB));
	EXPECT_EQ(MIB, child_join(&w));
	EXPECT_TRUE(was_pushed(&self->e));
}

TEST_HARNESS_MAIN
