// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large blocked writes: the counters of the pipe, writers that pin no memory,
 * and writers whose memory is changed meanwhile.
 */
#include "direct.h"

TEST_F_TIMEOUT(all, counts, TIMEOUT)
{
	int fd = self->e.fd[0];
	struct child c;

	child_write_private(&c, &self->e, 0, MIB);
	ASSERT_EQ(MIB, drain(fd, 0, MIB, 50000));
	EXPECT_EQ(MIB, child_join(&c));
	if (is_zpipe(variant->kind)) {
		EXPECT_LE(1, fdinfo_number(fd, "zpipe-posted-writes"));
		/* The last pipeful may go through slots. */
		EXPECT_LE(1, fdinfo_number(fd, "zpipe-bytes-pulled"));
		EXPECT_GE(MIB, fdinfo_number(fd, "zpipe-bytes-pulled"));
		EXPECT_EQ(MIB, fdinfo_number(fd, "zpipe-bytes-written"));
		EXPECT_EQ(MIB, fdinfo_number(fd, "zpipe-bytes-read"));
		EXPECT_EQ(1, fdinfo_number(fd, "zpipe-writes"));
		EXPECT_EQ(0, fdinfo_number(fd, "zpipe-pull-misses-mapping"));
		EXPECT_EQ(0, fdinfo_number(fd, "zpipe-pull-misses-page"));
	} else {
		EXPECT_EQ(-1, fdinfo_number(fd, "zpipe-posted-writes"));
	}
}

#define CROWD	200

TEST_F_TIMEOUT(unnamed, blocked_writers_pin_nothing, 3 * TIMEOUT)
{
	static struct ends e[CROWD];
	static struct child c[CROWD];
	long locked = number_in("/proc/vmstat", "nr_mlock");
	long unevictable = number_in("/proc/vmstat", "nr_unevictable");
	long pinned = pinned_pages();
	unsigned char *buf = own_memory(4 * FULL);
	char path[40];
	int i;

	stream_fill(buf, 0, 4 * FULL);
	for (i = 0; i < CROWD; i++) {
		ASSERT_EQ(0, ends_make(&e[i], variant->kind));
		ASSERT_EQ(0, open_ends(&e[i], O_CLOEXEC));
		c[i] = (struct child) {
			.nr = SYS_write, .fn = child_do_write,
			.fd = e[i].fd[1], .drop = e[i].fd[0],
			.len = 4 * FULL, .buf = buf,
		};
		child_start(&c[i], 0);
	}
	for (i = 0; i < CROWD; i++) {
		ASSERT_TRUE(child_asleep(&c[i]));
		ASSERT_EQ(100, stream_read(e[i].fd[0], 0, 100));
		snprintf(path, sizeof(path), "/proc/%d/status", c[i].pid);
		EXPECT_EQ(0, number_in(path, "VmPin"));
		EXPECT_EQ(0, number_in(path, "VmLck"));
		EXPECT_TRUE(was_direct(&e[i]));
	}
	EXPECT_EQ(pinned, pinned_pages());
	EXPECT_EQ(locked, number_in("/proc/vmstat", "nr_mlock"));
	EXPECT_GE(unevictable + 16, number_in("/proc/vmstat",
					      "nr_unevictable"));
	for (i = 0; i < CROWD; i++) {
		child_kill(&c[i]);
		EXPECT_EQ(FULL - 100, fionread(e[i].fd[0]));
		ends_free(&e[i]);
	}
}

/*
 * A writer whose memory is changed all the time by two threads. Each byte that
 * arrives was at its offset at some time.
 */
#define ROUNDS		8

struct changer {
	unsigned char *buf;
	size_t from;		/* offset of the part that this thread changes */
	size_t len;
	int how;
	int stop;
	pthread_t thread;
};

static void change_once(struct changer *m, unsigned long *dice)
{
	size_t pages = m->len / PAGE;
	size_t at = rnd(dice) % pages, nr = 1 + rnd(dice) % 16;
	unsigned char *p, *q;

	nr = nr < pages - at ? nr : pages - at;
	at += m->from / PAGE;
	p = m->buf + at * PAGE;
	switch (m->how ? m->how : 1 + rnd(dice) % 4) {
	case 1:
		/* Changes the address space, but not the buffer. */
		q = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*q = 1;
		munmap(q, nr * PAGE);
		break;
	case 2:
		mprotect(p, nr * PAGE, PROT_READ);
		mprotect(p, nr * PAGE, PROT_READ | PROT_WRITE);
		break;
	case 3:
		madvise(p, nr * PAGE, MADV_DONTNEED);
		stream_fill(p, at * PAGE, nr * PAGE);
		break;
	case 4:
		mmap(p, nr * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		stream_fill(p, at * PAGE, nr * PAGE);
		break;
	case 5:
		/* A write that accesses the pages now fails with EFAULT. */
		mprotect(p, nr * PAGE, PROT_NONE);
		mprotect(p, nr * PAGE, PROT_READ | PROT_WRITE);
		break;
	}
}

static void *change_memory(void *arg)
{
	struct changer *m = arg;
	unsigned long dice = (unsigned long)m + m->how;

	while (!__atomic_load_n(&m->stop, __ATOMIC_SEQ_CST))
		change_once(m, &dice);
	return NULL;
}

static long child_do_changed(struct child *c)
{
	struct changer m[2];
	size_t done, i;
	long n;
	int round;

	for (i = 0; i < 2; i++) {
		m[i] = (struct changer) {
			.buf = c->buf, .from = i * c->len / 2,
			.len = c->len / 2, .how = c->flags,
		};
		pthread_create(&m[i].thread, NULL, change_memory, &m[i]);
	}
	for (round = 0; round < ROUNDS; round++) {
		for (done = 0; done < c->len; done += n) {
			n = write(c->fd, c->buf + done, c->len - done);
			/* The page was PROT_NONE at this moment. */
			if (n < 0 && errno == EFAULT && c->flags == 5)
				n = 0;
			if (n < 0)
				return -1;
		}
	}
	for (i = 0; i < 2; i++) {
		__atomic_store_n(&m[i].stop, 1, __ATOMIC_SEQ_CST);
		pthread_join(m[i].thread, NULL);
	}
	return 0;
}

static void source_changes(struct __test_metadata *_metadata, struct ends *e, int how)
{
	size_t len = 3 * FULL + 2 * PAGE, at, i;
	unsigned char *buf = own_memory(40000);
	unsigned char *want = own_memory(len);
	struct child c = {
		.fn = child_do_changed, .fd = e->fd[1], .drop = e->fd[0],
		.len = len, .buf = own_memory(len), .flags = how,
	};
	long off = 0, n;

	stream_fill(want, 0, len);
	memcpy(c.buf, want, len);
	child_start(&c, 0);
	close_end(e, 1);
	while ((n = sys(read(e->fd[0], buf, 40000))) > 0) {
		for (i = 0; i < n; i++) {
			at = (off + i) % len;
			/*
			 * A dropped or replaced page reads as zeros until it is
			 * filled again.
			 */
			if (buf[i] != want[at] && (buf[i] || how == 1 ||
						   how == 2))
				break;
		}
		ASSERT_EQ(n, i) TH_LOG("at %zu of round %zu", (off + i) % len,
				       (off + i) / len);
		off += n;
	}
	EXPECT_EQ(0, n);
	EXPECT_EQ(ROUNDS * len, off);
	EXPECT_EQ(0, child_join(&c));
}

static long child_do_touched(struct child *c)
{
	volatile unsigned char sum = 0;
	size_t i;

	for (i = 0; i < c->len; i += PAGE)
		sum += c->buf[i];
	return write(c->fd, c->buf, c->len);
}

/*
 * A pull misses in the middle of a slot. The rest of the slot arrives later, at
 * the right offset.
 */
TEST_F_TIMEOUT(all, pull_misses_within_a_slot, TIMEOUT)
{
	int fd = memfd_create("zpipe-test", MFD_CLOEXEC);
	size_t first = 1000, len = MIB - PAGE;
	unsigned char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED,
				fd, 0);
	struct child c = {
		.fn = child_do_touched, .fd = self->e.fd[1], .nr = SYS_write,
		.drop = self->e.fd[0], .buf = p + PAGE - first, .len = len,
	};

	ASSERT_EQ(0, ftruncate(fd, MIB));
	ASSERT_NE(MAP_FAILED, p);
	stream_fill(c.buf, 0, len);
	child_start(&c, 0);
	ASSERT_TRUE(child_asleep(&c));
	/*
	 * The pages are in the file again, but not in the writer's page tables.
	 */
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       PAGE, MIB - PAGE));
	stream_fill(p + PAGE, first, len - first);
	EXPECT_EQ(len, drain(self->e.fd[0], 0, len, 100000));
	EXPECT_EQ(len, child_join(&c));
	if (is_zpipe(variant->kind))
		EXPECT_LE(1, fdinfo_number(self->e.fd[0],
					   "zpipe-pull-misses-page"));
}

TEST_F_TIMEOUT(all, other_memory_is_mapped_meanwhile, TIMEOUT)
{
	source_changes(_metadata, &self->e, 1);
}

TEST_F_TIMEOUT(all, source_is_protected_meanwhile, TIMEOUT)
{
	source_changes(_metadata, &self->e, 2);
}

TEST_F_TIMEOUT(all, source_is_dropped_meanwhile, TIMEOUT)
{
	source_changes(_metadata, &self->e, 3);
}

TEST_F_TIMEOUT(all, source_is_replaced_meanwhile, TIMEOUT)
{
	source_changes(_metadata, &self->e, 4);
}

TEST_F_TIMEOUT(all, source_is_not_readable_at_times, TIMEOUT)
{
	source_changes(_metadata, &self->e, 5);
}

TEST_F_TIMEOUT(all, all_changes_meanwhile, TIMEOUT)
{
	source_changes(_metadata, &self->e, 0);
}

TEST_HARNESS_MAIN
