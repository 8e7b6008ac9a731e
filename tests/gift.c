// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages that a writer gifts: what the reader gets, what the writer finds in their
 * place, and which pages are copied for which reason.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"


/*
 * Expects that the child read all @bytes bytes, moved or copied, and that they are the
 * stream.
 */
#define EXPECT_ARRIVES(c, bytes)					\
({									\
	struct child *__c = c;						\
	long __all = bytes;						\
									\
	EXPECT_EQ(__all, child_join(__c));				\
	EXPECT_EQ(-1, stream_diff(__c->buf, 0, __all));			\
})

/*
 * Expects that a gift wrote @bytes bytes: @pages huge pages were moved, and the rest
 * was copied.
 */
#define EXPECT_MOVED(e, g, pages, bytes)				\
({									\
	unsigned long __moved = moves(e) ? (pages) * HUGE_SIZE : 0;	\
	unsigned long __bytes = bytes;					\
	struct gifted __g = g;						\
									\
	EXPECT_EQ((long)__bytes, __g.ret);				\
	EXPECT_EQ(__moved, __g.moved);					\
	EXPECT_EQ(__bytes - __moved, __g.copied);			\
})

TEST_F_TIMEOUT(all, huge_page_is_gifted, TIMEOUT)
{
	unsigned char *at;
	struct gifted g;
	struct child c;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	g = gift(&self->e, at, HUGE_SIZE);
	EXPECT_MOVED(&self->e, g, 1, HUGE_SIZE);
	EXPECT_ARRIVES(&c, HUGE_SIZE);
	if (moves(&self->e)) {
		EXPECT_TRUE(all_zero(at, HUGE_SIZE));
		EXPECT_EQ(1, fdinfo_number(self->e.fd[1], "zpipe-gifts"));
	} else {
		EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
	}
	/* The memory works like any other. */
	memset(at, 1, HUGE_SIZE);
	munmap(at, HUGE_SIZE);
}

TEST_F_TIMEOUT(all, reads_of_any_size, TIMEOUT)
{
	static const size_t sizes[] = {
		1000, PAGE, PAGE + 1, 100000, HUGE_SIZE - 1, 3 * HUGE_SIZE,
	};
	unsigned int i;

	for (i = 0; i < 6; i++) {
		unsigned char *at;
		struct gifted g;
		struct child c;

		child_read_all(&c, &self->e, 2 * HUGE_SIZE, sizes[i]);
		at = huge_memory(2, 0);
		g = gift(&self->e, at, 2 * HUGE_SIZE);
		EXPECT_MOVED(&self->e, g, 2, 2 * HUGE_SIZE);
		EXPECT_ARRIVES(&c, 2 * HUGE_SIZE);
		munmap(at, 2 * HUGE_SIZE);
	}
}

/* Bytes arrive in order, whether they are moved or copied. */
TEST_F_TIMEOUT(all, ranges_of_any_shape, TIMEOUT)
{
	size_t len = 5 * HUGE_SIZE;
	unsigned char *at;
	struct iovec iov[6];
	struct gifted g;
	struct child c;

	child_read_all(&c, &self->e, len, 300000);
	at = huge_memory(5, 0);
	iov[0] = (struct iovec) { at, 10 };
	iov[1] = (struct iovec) { at + 10, HUGE_SIZE + 90 };		/* no whole page */
	iov[2] = (struct iovec) { at + HUGE_SIZE + 100, 0 };
	iov[3] = (struct iovec) { at + HUGE_SIZE + 100, HUGE_SIZE - 100 };
	iov[4] = (struct iovec) { at + 2 * HUGE_SIZE, 2 * HUGE_SIZE + 5 };	/* 2 whole pages */
	iov[5] = (struct iovec) { at + 4 * HUGE_SIZE + 5, HUGE_SIZE - 5 };
	g = gift_flags(&self->e, iov, 6, ZPIPE_ALWAYS);
	EXPECT_MOVED(&self->e, g, 2, len);
	if (moves(&self->e)) {
		EXPECT_EQ(6, g.why[ZPIPE_REASON_PART]);
		EXPECT_EQ(-1, stream_diff(at, 0, 2 * HUGE_SIZE));
		EXPECT_TRUE(all_zero(at + 2 * HUGE_SIZE, 2 * HUGE_SIZE));
	}
	EXPECT_ARRIVES(&c, len);
}

/* A huge page takes one slot. It is read and counted like other bytes. */
TEST_F(all, slot_poll_and_fionread_of_a_gift)
{
	static unsigned char to[HUGE_SIZE];
	unsigned char *at;
	struct gifted g;
	long n;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = huge_memory(1, 0);
	g = gift(&self->e, at, HUGE_SIZE);
	ASSERT_EQ(HUGE_SIZE, g.ret);
	EXPECT_EQ(HUGE_SIZE, fionread(self->e.fd[0]));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
	EXPECT_EQ(0, fdinfo_number(self->e.fd[0], "zpipe-bytes-buffered"));
	/* A write never appends to a huge page. */
	EXPECT_EQ(10, stream_write(self->e.fd[1], HUGE_SIZE, 10));
	EXPECT_EQ(HUGE_SIZE + 10, fionread(self->e.fd[0]));
	EXPECT_EQ(100, read(self->e.fd[0], to, 100));
	EXPECT_EQ(HUGE_SIZE - 90, fionread(self->e.fd[0]));
	/* The huge page does not change when the pipe is made smaller. */
	EXPECT_EQ(2 * PAGE, set_capacity(self->e.kind, self->e.fd[0], 2 * PAGE));
	EXPECT_EQ(-EBUSY, set_capacity(self->e.kind, self->e.fd[0], PAGE));
	EXPECT_EQ(0, poll_mask(self->e.fd[1]));
	for (n = 100; n < HUGE_SIZE;) {
		long r = read(self->e.fd[0], to + n, HUGE_SIZE - n);

		ASSERT_LT(0, r);
		n += r;
	}
	EXPECT_EQ(-1, stream_diff(to, 0, HUGE_SIZE));
	EXPECT_EQ(10, stream_read(self->e.fd[0], HUGE_SIZE, 20));
}

/*
 * As in the kernel's own pipe: a part of 4 KiB that does not fit before a hole stays. fault.c has
 * the same for small slots.
 */
TEST_F(all, read_of_a_gift_before_a_hole)
{
	static unsigned char to[HUGE_SIZE];
	unsigned char *p = pages_before_hole(3);
	struct gifted g;
	long n, r;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	g = gift(&self->e, huge_memory(1, 0), HUGE_SIZE);
	ASSERT_EQ(HUGE_SIZE, g.moved);
	EXPECT_EQ(2 * PAGE, sys(read(self->e.fd[0], p + 100, 4 * PAGE)));
	EXPECT_EQ(-1, stream_diff(p + 100, 0, 2 * PAGE));
	for (n = 2 * PAGE; n < HUGE_SIZE; n += r) {
		r = read(self->e.fd[0], to, HUGE_SIZE);
		ASSERT_LT(0, r);
		ASSERT_EQ(-1, stream_diff(to, n, r));
	}
}

/* At most four huge pages wait in a pipe. A non-blocking gift above that is copied. */
TEST_F_TIMEOUT(all, limit_of_huge_pages_in_a_pipe, TIMEOUT)
{
	unsigned char *at;
	struct gifted g;
	struct child c;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	at = huge_memory(6, 0);
	g = gift(&self->e, at, 4 * HUGE_SIZE);
	EXPECT_MOVED(&self->e, g, 4, 4 * HUGE_SIZE);
	{
		struct iovec iov = { at + 4 * HUGE_SIZE, HUGE_SIZE };

		/* POLLOUT is set because a copy fits. */
		EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
		g = gift_flags(&self->e, &iov, 1, ZPIPE_NONBLOCK | ZPIPE_ALWAYS);
		EXPECT_EQ(12 * PAGE, g.ret);
		EXPECT_EQ(1, g.why[ZPIPE_REASON_LIMIT]);
		g = gift_flags(&self->e, &iov, 1, ZPIPE_NONBLOCK | ZPIPE_ALWAYS);
		EXPECT_EQ(-EAGAIN, g.ret);
	}
	child_read_all(&c, &self->e, 4 * HUGE_SIZE + 12 * PAGE, HUGE_SIZE);
	EXPECT_ARRIVES(&c, 4 * HUGE_SIZE + 12 * PAGE);
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

static long gift_five_pages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };

	return gift(&e, huge_memory(5, 0), 5 * HUGE_SIZE).ret;
}

/* A gift above the limit blocks until a reader has consumed a huge page. */
TEST_F_TIMEOUT(all, gift_waits_at_the_limit, TIMEOUT)
{
	static unsigned char to[HUGE_SIZE];
	struct child c = {
		.nr = is_zpipe(variant->kind) ? SYS_ioctl : SYS_writev, .fn = gift_five_pages,
		.fd = self->e.fd[1], .drop = self->e.fd[0], .flags = variant->kind,
	};
	long n = 0, r;

	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	while (n < 5 * HUGE_SIZE) {
		r = read(self->e.fd[0], to, HUGE_SIZE);
		ASSERT_LT(0, r);
		ASSERT_EQ(-1, stream_diff(to, n, r));
		n += r;
	}
	EXPECT_EQ(5 * HUGE_SIZE, child_join(&c));
}

/* A signal ends a blocked gift. It returns the bytes written so far. */
TEST_F_TIMEOUT(all, signal_ends_a_waiting_gift, TIMEOUT)
{
	struct child c = {
		.nr = is_zpipe(variant->kind) ? SYS_ioctl : SYS_writev, .fn = gift_five_pages,
		.fd = self->e.fd[1], .drop = self->e.fd[0], .flags = variant->kind,
	};

	ASSERT_EQ(0, catch_signal(SIGUSR1, 0));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	child_signal(&c, SIGUSR1);
	EXPECT_EQ(moves(&self->e) ? 4 * HUGE_SIZE : SLOTS * PAGE, child_join(&c));
}

TEST_F(all, errors)
{
	struct iovec iov[2];
	unsigned char *at = huge_memory(1, 0);
	struct gifted g;

	iov[0] = (struct iovec) { at, 0 };
	g = gift_flags(&self->e, iov, 1, 0);
	EXPECT_EQ(0, g.ret);
	g = gift_flags(&self->e, iov, 0, 0);
	EXPECT_EQ(0, g.ret);
	munmap(at, HUGE_SIZE);
	g = gift(&self->e, at, HUGE_SIZE);
	EXPECT_EQ(-EFAULT, g.ret);
	/* The bytes before the missing memory are written. */
	at = huge_addresses(1);
	ASSERT_EQ(at, mmap(at, PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	stream_fill(at, 0, PAGE);
	g = gift(&self->e, at, HUGE_SIZE);
	EXPECT_EQ(PAGE, g.ret);
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, 2 * PAGE));
	iov[0] = (struct iovec) { at, 10 };
	iov[1] = (struct iovec) { at + PAGE, 10 };
	g = gift_flags(&self->e, iov, 2, 0);
	EXPECT_EQ(-EFAULT, g.ret);
	iov[1] = (struct iovec) { (void *)-PAGE, 10 };
	g = gift_flags(&self->e, iov, 2, 0);
	EXPECT_EQ(-EFAULT, g.ret);
	EXPECT_EQ(0, fionread(self->e.fd[0]));

	signal(SIGPIPE, SIG_IGN);
	close_end(&self->e, 0);
	at = huge_memory(1, 0);
	g = gift(&self->e, at, HUGE_SIZE);
	EXPECT_EQ(-EPIPE, g.ret);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

TEST_F(all, bad_arguments)
{
	struct zpipe_transfer arg = { .size = sizeof(arg) };
	int fd[2];

	if (!is_zpipe(variant->kind))
		SKIP(return, "no such command");
	EXPECT_EQ(0, ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg));
	EXPECT_EQ(-EBADF, sys(ioctl(self->e.fd[0], ZPIPE_IOC_GIFT, &arg)));
	arg.flags = 0x80;
	EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
	arg.flags = 0;
	arg.reserved = 1;
	EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
	arg.reserved = 0;
	arg.iovcnt = 1025;
	EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
	arg.iovcnt = 1;
	EXPECT_EQ(-EFAULT, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
	arg.size = 8;
	EXPECT_EQ(-EINVAL, sys(ioctl(self->e.fd[1], ZPIPE_IOC_GIFT, &arg)));
	ASSERT_EQ(0, pipe(fd));
	arg = (struct zpipe_transfer) { .size = sizeof(arg) };
	EXPECT_NE(0, ioctl(fd[1], ZPIPE_IOC_GIFT, &arg));
}

/*
 * Each of the following tests makes one huge page unfit for a gift. It must be copied,
 * and the report must name the reason.
 */

static long gifted_page(struct __test_metadata *_metadata, struct ends *e,
			struct child *c, unsigned char *at, unsigned int reason)
{
	struct gifted g = gift(e, at, HUGE_SIZE);

	EXPECT_EQ(HUGE_SIZE, g.ret);
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(HUGE_SIZE, g.copied);
	if (moves(e)) {
		EXPECT_EQ(1, g.why[reason]) {
			tell_reasons(&g);
		}
	}
	EXPECT_ARRIVES(c, HUGE_SIZE);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
	return 0;
}

TEST_F_TIMEOUT(all, small_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_addresses(1);
	ASSERT_EQ(at, mmap(at, HUGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	madvise(at, HUGE_SIZE, MADV_NOHUGEPAGE);
	stream_fill(at, 0, HUGE_SIZE);
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_SMALL);
}

/* A child shares the page. It must still see the old bytes after the gift. */
TEST_F_TIMEOUT(all, shared_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	int status;
	pid_t pid;
	int go[2];
	char ok;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		/* Returns when the parent has closed the other end, after the gift. */
		read(go[0], &ok, 1);
		_exit(stream_diff(at, 0, HUGE_SIZE) == -1 ? 0 : 1);
	}
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_SHARED);
	memset(at, 1, HUGE_SIZE);
	close(go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * A pipe of the kernel holds a reference to the page. The gift copies the bytes, and
 * the page stays in the writer's memory.
 */
TEST_F_TIMEOUT(all, pinned_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	char byte;
	int fd;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	fd = refer_to(at + 5 * PAGE);
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_PINNED);
	ASSERT_EQ(1, read(fd, &byte, 1));
	EXPECT_EQ(at[5 * PAGE], (unsigned char)byte);
}

TEST_F_TIMEOUT(all, lazily_freed_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	ASSERT_EQ(0, madvise(at, HUGE_SIZE, MADV_FREE));
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_SWAP);
}

TEST_F_TIMEOUT(all, read_only_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	ASSERT_EQ(0, mprotect(at, HUGE_SIZE, PROT_READ));
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_MAPPING);
}

/* Memory that is marked so must not reach a mapping that lacks the mark. */
TEST_F_TIMEOUT(all, marked_pages_are_copied, TIMEOUT)
{
	static const int marks[] = { MADV_WIPEONFORK, MADV_DONTFORK, MADV_DONTDUMP };
	unsigned char *at;
	struct child c;
	int i;

	for (i = 0; i < 3; i++) {
		child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
		at = huge_memory(1, 0);
		ASSERT_EQ(0, madvise(at, HUGE_SIZE, marks[i]));
		gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_MAPPING);
	}
}

TEST_F_TIMEOUT(all, shared_memory_is_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = shared_hole();
	stream_fill(at, 0, HUGE_SIZE);
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_MAPPING);
}

TEST_F_TIMEOUT(all, watched_pages_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;
	int uffd, fd;

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	uffd = watch(at);
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_TRACKED);
	close(uffd);

	child_read_all(&c, &self->e, HUGE_SIZE, HUGE_SIZE);
	at = huge_memory(1, 0);
	fd = open("/proc/self/clear_refs", O_WRONLY);
	ASSERT_LE(0, fd);
	if (write(fd, "4", 1) == 1)
		gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_TRACKED);
	else
		child_kill(&c);
	close(fd);
}

TEST_F_TIMEOUT(all, packets_are_copied, TIMEOUT)
{
	unsigned char *at;
	struct child c;

	if (variant->kind == FIFO)
		SKIP(return, "no packets in a FIFO");
	child_read_all(&c, &self->e, HUGE_SIZE, PAGE);
	at = huge_memory(1, 0);
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	gifted_page(_metadata, &self->e, &c, at, ZPIPE_REASON_PACKET);
}

/* Bytes that are not moved are one write, so in packet mode they are one packet. */
TEST_F(all, ranges_of_a_packet)
{
	unsigned char buf[40];
	struct iovec iov[2];
	struct gifted g;

	if (variant->kind == FIFO)
		SKIP(return, "no packets in a FIFO");
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	stream_fill(buf, 0, 20);
	iov[0] = (struct iovec) { buf, 10 };
	iov[1] = (struct iovec) { buf + 10, 10 };
	g = gift_flags(&self->e, iov, 2, 0);
	EXPECT_EQ(20, g.ret);
	EXPECT_EQ(20, read(self->e.fd[0], buf, 40));
	EXPECT_EQ(-1, stream_diff(buf, 0, 20));
}

/*
 * A gift that waits for the limit of huge pages does not delay a writer that waits for
 * a free slot.
 */
TEST_F_TIMEOUT(all, small_write_beside_a_waiting_gift, TIMEOUT)
{
	static unsigned char to[HUGE_SIZE];
	struct child c = {
		.nr = SYS_ioctl, .fn = gift_five_pages,
		.fd = self->e.fd[1], .drop = self->e.fd[0], .flags = variant->kind,
	};
	struct child small;
	long n;

	if (!moves(&self->e))
		SKIP(return, "no huge pages there");
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 0, PAGE));
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	/*
	 * One slot holds the page written first and four hold huge pages, so eleven are
	 * free.
	 */
	ASSERT_EQ(11 * PAGE, stream_write(self->e.fd[1], 0, 11 * PAGE));
	child_write(&small, &self->e, 0, 100);
	ASSERT_TRUE(child_stays_asleep(&small));
	/* This frees a slot. The number of huge pages in the pipe stays the same. */
	ASSERT_EQ(PAGE, read(self->e.fd[0], to, PAGE));
	EXPECT_EQ(100, child_join(&small));
	EXPECT_TRUE(child_asleep(&c));
	for (n = 0; n < 5 * HUGE_SIZE + 11 * PAGE + 100;) {
		long r = read(self->e.fd[0], to, HUGE_SIZE);

		ASSERT_LT(0, r);
		n += r;
	}
	EXPECT_EQ(5 * HUGE_SIZE, child_join(&c));
}

/*
 * Gifts that are in the pipe can be read after their writer is dead. Unread ones are
 * freed.
 */
static long gift_and_die(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };

	/* The gift of the fifth huge page blocks. */
	gift(&e, huge_memory(5, 0), 5 * HUGE_SIZE);
	return 0;
}

TEST_F_TIMEOUT(all, writer_is_killed, TIMEOUT)
{
	static unsigned char to[HUGE_SIZE];
	struct child c = {
		.nr = SYS_ioctl, .fn = gift_and_die,
		.fd = self->e.fd[1], .drop = -1, .flags = variant->kind,
	};
	long n = 0, r;

	if (!moves(&self->e))
		SKIP(return, "a write of that size would wait");
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	close_end(&self->e, 1);
	EXPECT_EQ(4 * HUGE_SIZE, fionread(self->e.fd[0]));
	while (n < HUGE_SIZE) {
		r = read(self->e.fd[0], to, 77777);
		ASSERT_LT(0, r);
		ASSERT_EQ(-1, stream_diff(to, n, r));
		n += r;
	}
	/* Closing the pipe frees the rest. */
}

/* A gift to a pipe without readers fails with EPIPE and SIGPIPE. */
TEST_F(all, no_reader_epipe)
{
	unsigned char *at = huge_memory(1, 0);

	ASSERT_EQ(0, catch_signal(SIGPIPE, 0));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, gift(&self->e, at, HUGE_SIZE).ret);
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(-1, stream_diff(at, 0, HUGE_SIZE));
}

/*
 * The number of gifted pages is limited for each user and for the system. Closing a
 * pipe frees its huge pages.
 */

#define LONER		4715		/* a user who has no privileges and no pipes */
#define PIPES		12

/* True if a pipe has all its slots after many gifts that a limit has refused. */
static bool has_all_slots(struct ends *e)
{
	struct iovec iov = { huge_memory(1, 0), HUGE_SIZE };
	static unsigned char buf[SLOTS * PAGE];
	struct gifted g;
	int i;

	set_nonblock(e->fd[0], true);
	set_nonblock(e->fd[1], true);
	for (i = 0; i < 2 * SLOTS; i++) {
		g = gift_flags(e, &iov, 1, ZPIPE_ALWAYS);
		if (g.moved || g.why[ZPIPE_REASON_LIMIT] != 1)
			return false;
		while (read(e->fd[0], buf, sizeof(buf)) > 0)
			;
	}
	return write(e->fd[1], buf, sizeof(buf)) == sizeof(buf);
}

static long gift_to_many(struct child *c __maybe_unused)
{
	struct ends e[PIPES + 1] = {};
	long moved = 0;
	int round, i, n;

	if (setgid(LONER) || setuid(LONER))
		return -1;
	for (round = 0; round < 2; round++) {
		unsigned int refused = 0;

		moved = 0;
		for (i = 0; i < PIPES; i++) {
			e[i].kind = ZPAIR;
			if (zpipe_pipe2(e[i].fd, 0))
				return -2;
			for (n = 0; n < 4; n++) {
				struct iovec iov = { huge_memory(1, 0), HUGE_SIZE };
				struct gifted g = gift_flags(&e[i], &iov, 1, ZPIPE_ALWAYS |
							     ZPIPE_NONBLOCK);

				moved += g.moved / HUGE_SIZE;
				refused += g.why[ZPIPE_REASON_LIMIT];
				munmap(iov.iov_base, HUGE_SIZE);
			}
		}
		/*
		 * The limits are a 64th of all memory, and 16384 small pages for each
		 * user.
		 */
		if (moved < 8 || moved > 32 || !refused)
			return -100 * (round + 1) - moved;
		e[i].kind = ZPAIR;
		if (zpipe_pipe2(e[i].fd, 0) || !has_all_slots(&e[i]))
			return -3;
		ends_free(&e[i]);
		for (i = 0; i < PIPES; i++)
			ends_free(&e[i]);
	}
	return 0;
}

TEST(limit_for_each_user)
{
	struct ends e = { .kind = ZPAIR };
	struct child c;

	if (!moves(&e))
		SKIP(return, "nothing is moved");
	child_run(&c, gift_to_many, NULL);
	EXPECT_EQ(0, child_join(&c));
}

TEST_HARNESS_MAIN
