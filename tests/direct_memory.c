// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes from, and large reads to, every kind of memory there is: what is
 * carried, what is counted, what is left. Each goes both ways: to a reader
 * that waits already, and from a writer that does.
 */
#include "memory.h"

#include <sys/uio.h>

FIXTURE(memory) {
	int unused;
};

FIXTURE_VARIANT(memory) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(memory, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(memory, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(memory, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(memory, znode) { .kind = ZNODE };

FIXTURE_SETUP(memory)
{
}

FIXTURE_TEARDOWN(memory)
{
}

/* What came of one side's calls. */
struct outcome {
	int made;		/* the memory is there, or there is none such */
	long done;		/* bytes */
	long err;		/* of the call after those, if it was made */
	struct copy_sync sync;
};

#define NO_SUCH_MEMORY	12345
#define WRONG_BYTES	12346
#define WRONG_AFTER	12347

/* One side, as a process of its own. */
struct party {
	struct child c;
	struct ends *e;
	enum memory_kind from;
	enum memory_kind to;
	bool writes;
	struct fuse_mount *mount;
	struct outcome *o;
};

static enum memory_kind own_kind(const struct party *p)
{
	return p->writes ? p->from : p->to;
}

static long call(struct party *p, struct memory *m, size_t off)
{
	int fd = p->e->fd[p->writes];
	struct iovec iov[2] = {
		{ m->p + off, m->head - off }, { m->tail, LEN - m->head },
	};

	if (off >= m->head)
		iov[0] = (struct iovec) { memory_at(m, off), LEN - off };
	if (m->tail && off < m->head)
		return sys(p->writes ? writev(fd, iov, 2) : readv(fd, iov, 2));
	return sys(p->writes ? write(fd, iov[0].iov_base, iov[0].iov_len) :
			       read(fd, iov[0].iov_base, iov[0].iov_len));
}

/* Whether the reader's memory is as it must be. */
static bool has_arrived(struct party *p, struct memory *m)
{
	size_t done = p->o->done, head = done < m->head ? done : m->head;

	if (m->kind == DEVICE && done == LEN)
		/* There nothing can be written. */
		return comes_from(p->from, m->p, 0, BAD_AT) &&
		       comes_from(p->from, m->p + BAD_AT + ROM_LEN,
				  BAD_AT + ROM_LEN, LEN - BAD_AT - ROM_LEN);
	return comes_from(p->from, m->p, 0, head) &&
	       comes_from(p->from, m->tail, head, done - head);
}

static long party_run(struct child *c)
{
	struct party *p = c->arg;
	struct outcome *o = p->o;
	struct memory m;
	long n = 1;
	bool made;

	close(p->e->fd[!p->writes]);
	made = memory_make(&m, own_kind(p), p->writes, p->mount,
			   &o->sync);
	/* So that it may do what a key forbids the other. */
	if (own_kind(p) == PLAIN)
		pkey_alloc(0, 0);
	__atomic_store_n(&o->made, 1, __ATOMIC_SEQ_CST);
	if (!made)
		return NO_SUCH_MEMORY;
	while (n > 0 && o->done < LEN) {
		n = call(p, &m, o->done);
		if (n > 0)
			o->done += n;
		else
			o->err = n;
	}
	if (!p->writes && !has_arrived(p, &m))
		return WRONG_BYTES;
	if (o->done == LEN && !memory_after(&m, p->from))
		return WRONG_AFTER;
	return 0;
}

static void party_start(struct party *p, const struct party *like, bool writes)
{
	*p = *like;
	p->writes = writes;
	p->o = shared_alloc(sizeof(*p->o));
	p->c = (struct child) {
		.fn = party_run, .arg = p, .drop = -1,
		.nr = writes ? SYS_write : SYS_read,
	};
	if (grows(own_kind(p)))
		p->c.nr = writes ? SYS_writev : SYS_readv;
	child_start(&p->c, 0);
}

/* What is left when the reader could not go on, and the end. */
static long drain(int fd, enum memory_kind from, size_t off)
{
	unsigned char *buf = map_anonymous(LEN, MAP_POPULATE);
	long n;

	while ((n = sys(read(fd, buf, LEN))) > 0) {
		if (!comes_from(from, buf, off, n))
			return -EILSEQ;
		off += n;
	}
	munmap(buf, LEN);
	return n ?: (long)off;
}

static void carry_once(struct __test_metadata *_metadata, struct party *like,
		       bool reader_first)
{
	bool bad_from = is_bad(like->from, true), bad_to = is_bad(like->to, false);
	struct party w, r, *first = reader_first ? &r : &w;
	struct party *second = reader_first ? &w : &r;
	long w_ret, r_ret;

	party_start(first, like, !reader_first);
	ASSERT_TRUE(eventually(first->o->made));
	/* It may sleep in faults before. It is over if there is no such memory. */
	EXPECT_TRUE(eventually(child_asleep(&first->c) ||
			       first->c.report->ret == NO_SUCH_MEMORY));
	if (own_kind(first) == COPIED_WAITING)
		EXPECT_TRUE(eventually(__atomic_load_n(&first->o->sync.ready,
						       __ATOMIC_SEQ_CST)));
	party_start(second, like, reader_first);
	close_end(like->e, 1);
	r_ret = child_join(&r.c);
	if (bad_to && r_ret == 0)
		EXPECT_EQ(bad_from ? BAD_AT : LEN,
			  drain(like->e->fd[0], like->from, r.o->done));
	close_end(like->e, 0);
	w_ret = child_join(&w.c);
	if (w_ret == NO_SUCH_MEMORY || r_ret == NO_SUCH_MEMORY)
		SKIP(return, "no such memory here");
	EXPECT_EQ(0, r_ret);
	EXPECT_EQ(0, w_ret);
	EXPECT_EQ(bad_from ? BAD_AT : LEN, w.o->done);
	EXPECT_EQ(bad_from ? -EFAULT : 0, w.o->err);
	EXPECT_EQ(bad_from || bad_to ? BAD_AT : LEN, r.o->done);
	/* Where both end it is the end of the file that comes first. */
	EXPECT_EQ(bad_to && !bad_from ? -EFAULT : 0, r.o->err);
}

static void carry(struct __test_metadata *_metadata, enum kind kind,
		  enum memory_kind from, enum memory_kind to)
{
	static struct fuse_mount mount;
	int reader_first;

	for (reader_first = 0; reader_first < 2; reader_first++) {
		struct ends e;
		struct party like = {
			.e = &e, .from = from, .to = to, .mount = &mount,
		};

		/* Afterwards its owner waits no more. */
		if ((from == COPIED_WAITING && reader_first) ||
		    (to == COPIED_WAITING && !reader_first))
			continue;
		ASSERT_EQ(0, ends_make(&e, kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		if (from == FUSE_PRIVATE || to == FUSE_PRIVATE) {
			ASSERT_EQ(0, fuse_start(&mount));
			fuse_resolve(&mount);
		}
		carry_once(_metadata, &like, reader_first);
		if (_metadata->exit_code == KSFT_FAIL)
			printf("# with the %s first\n",
			       reader_first ? "reader" : "writer");
		fuse_stop(&mount);
		mount.thread = 0;
		ends_free(&e);
		if (from == HUGETLB || from == HUGETLB_SHARED ||
		    to == HUGETLB || to == HUGETLB_SHARED)
			set_hugepages("0");
	}
}

static int watch_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	lseek(fd, 0, SEEK_END);
	return fd;
}

/* Whether a line of the kernel log since then has @text in it. */
static bool kernel_said(int fd, const char *text)
{
	char buf[9000];
	bool said = false;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf) - 1)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		buf[n < 0 ? 0 : n] = 0;
		said = said || strstr(buf, text);
	}
	close(fd);
	return said;
}

TEST_F_TIMEOUT(memory, from_plain, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, PLAIN);
}

TEST_F_TIMEOUT(memory, from_fresh, TIMEOUT)
{
	carry(_metadata, variant->kind, FRESH, PLAIN);
}

TEST_F_TIMEOUT(memory, from_zero_page, TIMEOUT)
{
	carry(_metadata, variant->kind, ZERO_PAGE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_locked, TIMEOUT)
{
	carry(_metadata, variant->kind, LOCKED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_huge, TIMEOUT)
{
	carry(_metadata, variant->kind, HUGE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_hugetlb, TIMEOUT)
{
	carry(_metadata, variant->kind, HUGETLB, PLAIN);
}

TEST_F_TIMEOUT(memory, from_hugetlb_shared, TIMEOUT)
{
	carry(_metadata, variant->kind, HUGETLB_SHARED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_file_shared, TIMEOUT)
{
	carry(_metadata, variant->kind, FILE_SHARED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_file_private, TIMEOUT)
{
	carry(_metadata, variant->kind, FILE_PRIVATE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_fuse_private, TIMEOUT)
{
	carry(_metadata, variant->kind, FUSE_PRIVATE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_secret, TIMEOUT)
{
	carry(_metadata, variant->kind, SECRET, PLAIN);
}

TEST_F_TIMEOUT(memory, from_device, TIMEOUT)
{
	carry(_metadata, variant->kind, DEVICE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_stack, TIMEOUT)
{
	carry(_metadata, variant->kind, STACK, PLAIN);
}

/* Only its owner makes it grow: the kernel complains of all who expect it to. */
TEST_F_TIMEOUT(memory, from_near_stack, TIMEOUT)
{
	int log = watch_log();

	carry(_metadata, variant->kind, NEAR_STACK, PLAIN);
	EXPECT_FALSE(kernel_said(log, "GUP no longer grows"));
}

TEST_F_TIMEOUT(memory, from_pkey_allowed, TIMEOUT)
{
	carry(_metadata, variant->kind, PKEY_ALLOWED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_copied, TIMEOUT)
{
	carry(_metadata, variant->kind, COPIED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_copied_waiting, TIMEOUT)
{
	carry(_metadata, variant->kind, COPIED_WAITING, PLAIN);
}

TEST_F_TIMEOUT(memory, from_paged_out, TIMEOUT)
{
	carry(_metadata, variant->kind, PAGED_OUT, PLAIN);
}

TEST_F_TIMEOUT(memory, from_swapped_in, TIMEOUT)
{
	carry(_metadata, variant->kind, SWAPPED_IN, PLAIN);
}

TEST_F_TIMEOUT(memory, from_uffd_missing, TIMEOUT)
{
	carry(_metadata, variant->kind, UFFD_MISSING, PLAIN);
}

TEST_F_TIMEOUT(memory, from_uffd_wp, TIMEOUT)
{
	carry(_metadata, variant->kind, UFFD_WP, PLAIN);
}

TEST_F_TIMEOUT(memory, from_read_only, TIMEOUT)
{
	carry(_metadata, variant->kind, READ_ONLY, PLAIN);
}

TEST_F_TIMEOUT(memory, from_hole, TIMEOUT)
{
	carry(_metadata, variant->kind, HOLE, PLAIN);
}

TEST_F_TIMEOUT(memory, from_unmapped, TIMEOUT)
{
	carry(_metadata, variant->kind, UNMAPPED, PLAIN);
}

TEST_F_TIMEOUT(memory, from_guard, TIMEOUT)
{
	carry(_metadata, variant->kind, GUARD, PLAIN);
}

TEST_F_TIMEOUT(memory, from_poison, TIMEOUT)
{
	carry(_metadata, variant->kind, POISON, PLAIN);
}

TEST_F_TIMEOUT(memory, from_file_ends, TIMEOUT)
{
	carry(_metadata, variant->kind, FILE_ENDS, PLAIN);
}

TEST_F_TIMEOUT(memory, from_exec_only, TIMEOUT)
{
	carry(_metadata, variant->kind, EXEC_ONLY, PLAIN);
}

TEST_F_TIMEOUT(memory, from_pkey_denied, TIMEOUT)
{
	carry(_metadata, variant->kind, PKEY_DENIED, PLAIN);
}

TEST_F_TIMEOUT(memory, to_fresh, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FRESH);
}

TEST_F_TIMEOUT(memory, to_zero_page, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, ZERO_PAGE);
}

TEST_F_TIMEOUT(memory, to_locked, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, LOCKED);
}

TEST_F_TIMEOUT(memory, to_huge, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, HUGE);
}

TEST_F_TIMEOUT(memory, to_hugetlb, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, HUGETLB);
}

TEST_F_TIMEOUT(memory, to_hugetlb_shared, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, HUGETLB_SHARED);
}

TEST_F_TIMEOUT(memory, to_file_shared, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FILE_SHARED);
}

TEST_F_TIMEOUT(memory, to_file_private, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FILE_PRIVATE);
}

TEST_F_TIMEOUT(memory, to_fuse_private, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FUSE_PRIVATE);
}

TEST_F_TIMEOUT(memory, to_secret, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, SECRET);
}

TEST_F_TIMEOUT(memory, to_device, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, DEVICE);
}

TEST_F_TIMEOUT(memory, to_stack, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, STACK);
}

/* Only its owner makes it grow: the kernel complains of all who expect it to. */
TEST_F_TIMEOUT(memory, to_near_stack, TIMEOUT)
{
	int log = watch_log();

	carry(_metadata, variant->kind, PLAIN, NEAR_STACK);
	EXPECT_FALSE(kernel_said(log, "GUP no longer grows"));
}

TEST_F_TIMEOUT(memory, to_pkey_allowed, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, PKEY_ALLOWED);
}

TEST_F_TIMEOUT(memory, to_copied, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, COPIED);
}

TEST_F_TIMEOUT(memory, to_copied_waiting, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, COPIED_WAITING);
}

TEST_F_TIMEOUT(memory, to_paged_out, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, PAGED_OUT);
}

TEST_F_TIMEOUT(memory, to_swapped_in, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, SWAPPED_IN);
}

TEST_F_TIMEOUT(memory, to_freed, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FREED);
}

TEST_F_TIMEOUT(memory, to_uffd_missing, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, UFFD_MISSING);
}

TEST_F_TIMEOUT(memory, to_uffd_wp, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, UFFD_WP);
}

TEST_F_TIMEOUT(memory, to_read_only, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, READ_ONLY);
}

TEST_F_TIMEOUT(memory, to_hole, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, HOLE);
}

TEST_F_TIMEOUT(memory, to_unmapped, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, UNMAPPED);
}

TEST_F_TIMEOUT(memory, to_guard, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, GUARD);
}

TEST_F_TIMEOUT(memory, to_poison, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, POISON);
}

TEST_F_TIMEOUT(memory, to_file_ends, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, FILE_ENDS);
}

TEST_F_TIMEOUT(memory, to_exec_only, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, EXEC_ONLY);
}

TEST_F_TIMEOUT(memory, to_pkey_denied, TIMEOUT)
{
	carry(_metadata, variant->kind, PLAIN, PKEY_DENIED);
}

TEST_F_TIMEOUT(memory, from_hole_to_hole, TIMEOUT)
{
	carry(_metadata, variant->kind, HOLE, HOLE);
}

TEST_F_TIMEOUT(memory, from_uffd_missing_to_uffd_wp, TIMEOUT)
{
	carry(_metadata, variant->kind, UFFD_MISSING, UFFD_WP);
}

TEST_F_TIMEOUT(memory, from_uffd_wp_to_uffd_missing, TIMEOUT)
{
	carry(_metadata, variant->kind, UFFD_WP, UFFD_MISSING);
}

TEST_F_TIMEOUT(memory, from_paged_out_to_paged_out, TIMEOUT)
{
	carry(_metadata, variant->kind, PAGED_OUT, PAGED_OUT);
}

TEST_F_TIMEOUT(memory, from_file_ends_to_read_only, TIMEOUT)
{
	carry(_metadata, variant->kind, FILE_ENDS, READ_ONLY);
}

TEST_F_TIMEOUT(memory, from_pkey_allowed_to_pkey_allowed, TIMEOUT)
{
	carry(_metadata, variant->kind, PKEY_ALLOWED, PKEY_ALLOWED);
}

TEST_F_TIMEOUT(memory, from_pkey_denied_to_pkey_allowed, TIMEOUT)
{
	carry(_metadata, variant->kind, PKEY_DENIED, PKEY_ALLOWED);
}

TEST_F_TIMEOUT(memory, from_pkey_allowed_to_pkey_denied, TIMEOUT)
{
	carry(_metadata, variant->kind, PKEY_ALLOWED, PKEY_DENIED);
}

TEST_F_TIMEOUT(memory, from_secret_to_secret, TIMEOUT)
{
	carry(_metadata, variant->kind, SECRET, SECRET);
}

TEST_F_TIMEOUT(memory, from_hugetlb_to_hugetlb, TIMEOUT)
{
	carry(_metadata, variant->kind, HUGETLB, HUGETLB);
}

static long write_from_device(struct child *c)
{
	struct memory m;

	if (!memory_make(&m, DEVICE, true, NULL, NULL))
		return NO_SUCH_MEMORY;
	return write(c->fd, m.p, LEN);
}

static long misses(int fd)
{
	return fdinfo_number(fd, "zpipe-pull-misses-mapping") +
	       fdinfo_number(fd, "zpipe-pull-misses-page");
}

/*
 * A device's memory is left to its owner: a writer offers what comes before it
 * and what comes behind it, and readers never look for it.
 */
TEST_F_TIMEOUT(memory, device_is_not_offered, TIMEOUT)
{
	unsigned char *buf = map_anonymous(PAGE, MAP_POPULATE);
	long offers, before = 0, behind = 0, n;
	struct ends e;
	struct child c;
	size_t off;

	ASSERT_EQ(0, ends_make(&e, variant->kind));
	ASSERT_EQ(0, open_ends(&e, 0));
	c = (struct child) {
		.fn = write_from_device, .nr = SYS_write, .fd = e.fd[1],
		.drop = e.fd[0],
	};
	child_start(&c, 0);
	close_end(&e, 1);
	for (off = 0; off < LEN; off += PAGE) {
		EXPECT_EQ(off + SLOTS * PAGE < LEN, child_asleep(&c)) {
			TH_LOG("at %zu", off);
			break;
		}
		offers = fdinfo_number(e.fd[0], "zpipe-offers");
		/* The next slots are in the pipe. */
		if (off + SLOTS * PAGE < BAD_AT + ROM_LEN)
			before = offers;
		behind = offers;
		ASSERT_EQ(PAGE, sys(read(e.fd[0], buf, PAGE)));
		ASSERT_TRUE(comes_from(DEVICE, buf, off, PAGE));
		/* With the last slot that it needed the writer is done. */
		if (off + PAGE + SLOTS * PAGE >= LEN)
			ASSERT_TRUE(eventually(child_done(&c)));
	}
	EXPECT_EQ(LEN, child_join(&c));
	if (is_zpipe(variant->kind)) {
		EXPECT_LT(before, behind);
		n = fdinfo_number(e.fd[0], "zpipe-bytes-pulled");
		EXPECT_LT(0, n);
		EXPECT_GE(LEN - ROM_LEN, n);
		EXPECT_EQ(0, misses(e.fd[0]));
	}
	ends_free(&e);
}

TEST_HARNESS_MAIN
