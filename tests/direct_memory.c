// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large writes from, and large reads to, every kind of memory: the bytes that arrive, the
 * results of the calls, and the bytes left in the pipe. Each transfer runs twice: once the
 * reader waits first, and once the writer does.
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

/* The results of one side's calls, shared with the tester. */
struct outcome {
	int made;		/* memory_make() has returned */
	long done;		/* bytes transferred */
	long err;		/* result of the call after those, if there was one */
	struct copy_sync sync;
};

/* What a side returns, beside 0. */
#define NO_SUCH_MEMORY	12345
#define WRONG_BYTES	12346
#define WRONG_AFTER	12347

/* The writer or the reader: a process of its own. */
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

/* Makes one call for the rest of the memory; two segments if the memory has a tail. */
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

/* True if the reader's memory holds the transferred bytes. */
static bool has_arrived(struct party *p, struct memory *m)
{
	size_t done = p->o->done, head = done < m->head ? done : m->head;

	if (m->type->bytes == FIRMWARE && done == LEN)
		/* Stores to the firmware have no effect. */
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
	struct memory m = {
		.kind = own_kind(p), .source = p->writes, .len = LEN, .part = BAD_AT,
		.mount = p->mount, .sync = &o->sync,
	};
	long n = 1;
	bool made;

	close(p->e->fd[!p->writes]);
	made = memory_make(&m);
	/*
	 * The other side may have memory with a key. This side's own key of the same number
	 * allows access, so that only a check of the owner's rights can deny it.
	 */
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
	if (memory_types[own_kind(p)].grows)
		p->c.nr = writes ? SYS_writev : SYS_readv;
	child_start(&p->c, 0);
}

/*
 * Reads the rest of the bytes, up to the end of file, after the reader failed. Returns the offset
 * of the end, -EILSEQ or -errno.
 */
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

/* One transfer; see is_bad() for the errors that it must return. */
static void carry_once(struct __test_metadata *_metadata, struct party *like,
		       bool reader_first)
{
	bool bad_from = is_bad(like->from, true), bad_to = is_bad(like->to, false);
	struct party w, r, *first = reader_first ? &r : &w;
	struct party *second = reader_first ? &w : &r;
	long w_ret, r_ret;

	party_start(first, like, !reader_first);
	ASSERT_TRUE(eventually(first->o->made));
	/* It may sleep in page faults first, and it exits if there is no such memory. */
	EXPECT_TRUE(eventually(child_asleep(&first->c) ||
			       first->c.report->ret == NO_SUCH_MEMORY));
	if (memory_types[own_kind(first)].waits)
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
	/* If both sides are bad, the writer has failed by then: the reader gets end of file. */
	EXPECT_EQ(bad_to && !bad_from ? -EFAULT : 0, r.o->err);
}

/* Transfers LEN bytes in both orders. */
static void carry(struct __test_metadata *_metadata, enum kind kind,
		  enum memory_kind from, enum memory_kind to)
{
	const struct memory_type *source = &memory_types[from];
	const struct memory_type *destination = &memory_types[to];
	static struct fuse_mount mount;
	int reader_first;

	for (reader_first = 0; reader_first < 2; reader_first++) {
		struct ends e;
		struct party like = {
			.e = &e, .from = from, .to = to, .mount = &mount,
		};

		/* The owner of memory that changes while it waits has to come first. */
		if ((source->waits && reader_first) || (destination->waits && !reader_first))
			continue;
		ASSERT_EQ(0, ends_make(&e, kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		if (source->fuse || destination->fuse) {
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
		if (source->hugetlb || destination->hugetlb)
			set_hugepages("0");
	}
}

/* Opens the kernel log at its end. */
static int watch_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	lseek(fd, 0, SEEK_END);
	return fd;
}

/* True if a line that was logged since watch_log() contains @text. Closes the log. */
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

/*
 * Transfers between plain memory and memory of one kind. Only the owner's own page fault may grow
 * a mapping: the kernel logs a warning if another task's access would need that.
 */
static void carry_kind(struct __test_metadata *_metadata, enum kind kind,
		       enum memory_kind from, enum memory_kind to)
{
	bool logs = memory_types[from].logs || memory_types[to].logs;
	int log = logs ? watch_log() : -1;

	carry(_metadata, kind, from, to);
	if (logs)
		EXPECT_FALSE(kernel_said(log, "GUP no longer grows"));
}

/* A test for each kind of memory in kinds.h that is a source. */
#define FROM_NO_TEST(...)
#define FROM_DESTINATION(...)
#define FROM_BOTH FROM_SOURCE
#define FROM_SOURCE(constant, name)						\
static const enum memory_kind from_##name = constant;				\
										\
TEST_F_TIMEOUT(memory, from_##name, TIMEOUT)					\
{										\
	carry_kind(_metadata, variant->kind, from_##name, PLAIN);		\
}

#define MEMKIND(constant, name, carry, ...) FROM_##carry(constant, name)
#include "kinds.h"

/* The same for each kind that is a destination. */
#define TO_NO_TEST(...)
#define TO_SOURCE(...)
#define TO_BOTH TO_DESTINATION
#define TO_DESTINATION(constant, name)						\
static const enum memory_kind to_##name = constant;				\
										\
TEST_F_TIMEOUT(memory, to_##name, TIMEOUT)					\
{										\
	carry_kind(_metadata, variant->kind, PLAIN, to_##name);			\
}

#define MEMKIND(constant, name, carry, ...) TO_##carry(constant, name)
#include "kinds.h"

/* Pairs of kinds where both sides matter. */

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
	struct memory m = { .kind = DEVICE, .source = true, .len = LEN, .part = BAD_AT };

	if (!memory_make(&m))
		return NO_SUCH_MEMORY;
	return write(c->fd, m.p, LEN);
}

static long misses(int fd)
{
	return fdinfo_number(fd, "zpipe-pull-misses-mapping") +
	       fdinfo_number(fd, "zpipe-pull-misses-page");
}

/*
 * Only the owner may access a device's memory. A writer posts the bytes before that memory and the
 * bytes behind it, so readers pull both and never miss.
 */
TEST_F_TIMEOUT(memory, device_is_not_posted, TIMEOUT)
{
	unsigned char *buf = map_anonymous(PAGE, MAP_POPULATE);
	long posts, before = 0, behind = 0, n;
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
		posts = fdinfo_number(e.fd[0], "zpipe-posted-writes");
		/* The slots hold the next bytes, up to here. */
		if (off + SLOTS * PAGE < BAD_AT + ROM_LEN)
			before = posts;
		behind = posts;
		ASSERT_EQ(PAGE, sys(read(e.fd[0], buf, PAGE)));
		ASSERT_TRUE(comes_from(DEVICE, buf, off, PAGE));
		/* With the last free slot that it needed, the writer has written all. */
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
