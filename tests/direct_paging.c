// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a large write or read that waits stays pageable. Other tasks page it out, and
 * memory cgroups enforce limits that are far smaller.
 *
 * ZPIPE_PAGING_MIB is the size of the write that waits under a limit.
 */
#include "cgroup.h"
#include "memory.h"

#define SOME		(16 * MIB)	/* size of a transfer without a limit */
#define DEFAULT_MIB	64
#define FRACTION	8		/* the limit is this fraction of the transfer */
#define LONG_TIME	(20 * TIMEOUT)
#define LONG_EVENT	(10 * EVENT_MS)

FIXTURE(paging) {
	struct ends e;
	struct cgroups cgroups;
};

FIXTURE_VARIANT(paging) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(paging, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(paging, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(paging, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(paging, znode) { .kind = ZNODE };

FIXTURE_SETUP(paging)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (!cgroups_make(&self->cgroups) || !has_swap())
		SKIP(return, "no swap or no memory controller here");
}

FIXTURE_TEARDOWN(paging)
{
	ends_free(&self->e);
	cgroups_free(&self->cgroups);
}

/* One side: a process with its own memory that writes once, or reads to end of file. */
struct side {
	struct child c;
	struct ends *e;
	const char *group;
	bool writes;
	size_t len;
	struct {
		unsigned char *buf;
		int ready;
		int page_out;	/* asks a thread of the process to page out */
		int paged_out;
	} *shared;
};

static void *page_out_when_told(void *arg)
{
	struct side *s = arg;

	while (!__atomic_load_n(&s->shared->page_out, __ATOMIC_SEQ_CST))
		usleep(1000);
	__atomic_store_n(&s->shared->paged_out,
			 page_out(s->shared->buf, s->len) ? 1 : -1,
			 __ATOMIC_SEQ_CST);
	return NULL;
}

static long side_run(struct child *c)
{
	struct side *s = c->arg;
	unsigned char *buf = map_anonymous(s->len, 0);
	pthread_t thread;
	size_t done = 0;
	long n;

	if (s->group && cgroup_enter(s->group))
		return -1;
	close(s->e->fd[!s->writes]);
	if (s->writes)
		pages_fill(buf, 0, 0, s->len);
	else
		memset(buf, OLD, s->len);
	s->shared->buf = buf;
	pthread_create(&thread, NULL, page_out_when_told, s);
	__atomic_store_n(&s->shared->ready, 1, __ATOMIC_SEQ_CST);
	if (s->writes)
		return write(s->e->fd[1], buf, s->len);
	while (done < s->len) {
		n = read(s->e->fd[0], buf + done, s->len - done);
		if (n < 0)
			return n;
		if (!n)
			break;
		done += n;
	}
	return pages_right(buf, 0, 0, done) ? done : -2;
}

/*
 * Starts a side, in @group if that is not NULL, with a limit. Returns when the side sleeps in
 * its call.
 */
static void side_start(struct __test_metadata *_metadata, struct side *s,
		       struct ends *e, bool writes, size_t len,
		       const char *group)
{
	char max[30];

	*s = (struct side) {
		.e = e, .group = group, .writes = writes, .len = len,
		.shared = shared_alloc(PAGE),
	};
	if (group) {
		snprintf(max, sizeof(max), "%zu", len / FRACTION);
		ASSERT_EQ(0, write_line(group, "memory.max", max));
	}
	s->c = (struct child) {
		.fn = side_run, .arg = s, .drop = -1,
		.nr = writes ? SYS_write : SYS_read,
	};
	child_start(&s->c, 0);
	/* To fill the memory may take long. */
	for (int i = 0; i < LONG_EVENT / EVENT_MS; i++)
		if (eventually(child_done(&s->c) ||
			       __atomic_load_n(&s->shared->ready,
					       __ATOMIC_SEQ_CST)))
			break;
	ASSERT_TRUE(child_asleep(&s->c));
}

/* The bytes of the side's buffer that are in swap. */
static long swapped(struct side *s)
{
	unsigned long start, end, from = (unsigned long)s->shared->buf;
	char path[40], line[300];
	long kib = 0, n;
	bool in = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", s->c.pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start < from + s->len && end > from;
		else if (in && sscanf(line, "Swap: %ld kB", &n) == 1)
			kib += n;
	}
	if (f)
		fclose(f);
	return kib * 1024;
}

/* Pages out the buffer from another process, by process_madvise(2). */
static bool page_out_of(struct side *s)
{
	int pidfd = syscall(SYS_pidfd_open, s->c.pid, 0), i;
	long n = 0;

	for (i = 0; i < 20 && swapped(s) < s->len / 20 * 19; i++) {
		struct iovec iov = { s->shared->buf, s->len };

		n = syscall(SYS_process_madvise, pidfd, &iov, 1, MADV_PAGEOUT,
			    0);
		if (n < 0)
			break;
	}
	close(pidfd);
	return n >= 0 && swapped(s) >= s->len / 20 * 19;
}

static bool page_out_by_itself(struct side *s)
{
	__atomic_store_n(&s->shared->page_out, 1, __ATOMIC_SEQ_CST);
	return eventually(__atomic_load_n(&s->shared->paged_out,
					  __ATOMIC_SEQ_CST)) &&
	       s->shared->paged_out > 0 && swapped(s) >= s->len / 20 * 19;
}

/* child_join() for a side that may take long. */
static long side_join(struct side *s)
{
	for (int i = 0; i < LONG_EVENT / EVENT_MS; i++)
		if (eventually(child_done(&s->c) ||
			       task_state(s->c.pid) == 'Z'))
			break;
	return child_join(&s->c);
}

/* Reads all bytes that @s writes. Returns the number of right bytes, -EILSEQ or -errno. */
static long read_all(struct side *s)
{
	unsigned char *buf = map_anonymous(MIB, MAP_POPULATE);
	size_t done = 0;
	long n = 0;

	while (done < s->len) {
		n = sys(read(s->e->fd[0], buf, MIB));
		if (n > 0 && !pages_right(buf, 0, done, n))
			n = -EILSEQ;
		if (n <= 0)
			break;
		done += n;
	}
	munmap(buf, MIB);
	return n < 0 ? n : (long)done;
}

static long write_all(struct side *s)
{
	unsigned char *buf = map_anonymous(MIB, MAP_POPULATE);
	size_t done;
	long n = 0;

	for (done = 0; done < s->len; done += n) {
		pages_fill(buf, 0, done, MIB);
		n = sys(write(s->e->fd[1], buf, MIB));
		if (n != MIB)
			break;
	}
	munmap(buf, MIB);
	return n < 0 ? n : (long)done;
}

static void paged_out(struct __test_metadata *_metadata, struct ends *e,
		      bool writes, bool (*how)(struct side *))
{
	struct side s;

	side_start(_metadata, &s, e, writes, SOME, NULL);
	EXPECT_TRUE(how(&s)) TH_LOG("%ld of %ld", swapped(&s), SOME);
	EXPECT_EQ(SOME, writes ? read_all(&s) : write_all(&s));
	EXPECT_EQ(SOME, side_join(&s));
}

TEST_F_TIMEOUT(paging, writer_is_paged_out, TIMEOUT)
{
	paged_out(_metadata, &self->e, true, page_out_of);
}

TEST_F_TIMEOUT(paging, writer_pages_out, TIMEOUT)
{
	paged_out(_metadata, &self->e, true, page_out_by_itself);
}

TEST_F_TIMEOUT(paging, reader_is_paged_out, TIMEOUT)
{
	paged_out(_metadata, &self->e, false, page_out_of);
}

TEST_F_TIMEOUT(paging, reader_pages_out, TIMEOUT)
{
	paged_out(_metadata, &self->e, false, page_out_by_itself);
}

/* Pages out several times in the course of one write. */
TEST_F_TIMEOUT(paging, writer_is_paged_out_while_it_is_read, TIMEOUT)
{
	unsigned char *buf = map_anonymous(MIB, MAP_POPULATE);
	size_t done, part = SOME / 6;
	struct side s;
	long n;

	side_start(_metadata, &s, &self->e, true, SOME, NULL);
	for (done = 0; done < SOME; done += n) {
		if (done / part != (done + MIB) / part &&
		    done + 2 * MIB < SOME) {
			ASSERT_TRUE(child_asleep(&s.c));
			EXPECT_TRUE(page_out_of(&s));
		}
		n = sys(read(self->e.fd[0], buf, MIB));
		ASSERT_LT(0, n);
		ASSERT_TRUE(pages_right(buf, 0, done, n));
	}
	EXPECT_EQ(SOME, side_join(&s));
}

static size_t much(void)
{
	const char *env = getenv("ZPIPE_PAGING_MIB");

	return (env ? atol(env) : DEFAULT_MIB) * MIB;
}

static void expect_limit(struct __test_metadata *_metadata, const char *group,
			 size_t len)
{
	EXPECT_GE(len / FRACTION, cgroup_number(group, "memory.current", ""));
	EXPECT_EQ(0, cgroup_number(group, "memory.events", "oom_kill"));
}

TEST_F_TIMEOUT(paging, writer_under_a_limit, LONG_TIME)
{
	size_t len = much();
	struct side w;

	side_start(_metadata, &w, &self->e, true, len, self->cgroups.group[0]);
	expect_limit(_metadata, self->cgroups.group[0], len);
	EXPECT_LE(len / FRACTION * (FRACTION - 2), swapped(&w));
	/* The pages that are resident within the limit can be paged out, too. */
	EXPECT_TRUE(page_out_of(&w));
	EXPECT_EQ(len, read_all(&w));
	expect_limit(_metadata, self->cgroups.group[0], len);
	EXPECT_EQ(len, side_join(&w));
}

TEST_F_TIMEOUT(paging, reader_under_a_limit, LONG_TIME)
{
	size_t len = DEFAULT_MIB / 2 * MIB;
	struct side r;

	side_start(_metadata, &r, &self->e, false, len, self->cgroups.group[0]);
	expect_limit(_metadata, self->cgroups.group[0], len);
	EXPECT_LE(len / FRACTION * (FRACTION - 2), swapped(&r));
	EXPECT_EQ(len, write_all(&r));
	EXPECT_EQ(len, side_join(&r));
	expect_limit(_metadata, self->cgroups.group[0], len);
}

TEST_F_TIMEOUT(paging, both_under_limits, LONG_TIME)
{
	size_t len = DEFAULT_MIB / 2 * MIB;
	struct side r, w;

	side_start(_metadata, &w, &self->e, true, len, self->cgroups.group[0]);
	r = (struct side) {
		.e = &self->e, .group = self->cgroups.group[1], .len = len,
		.shared = shared_alloc(PAGE),
	};
	ASSERT_EQ(0, write_line(r.group, "memory.max", "8M"));
	child_run(&r.c, side_run, &r);
	EXPECT_EQ(len, side_join(&r));
	EXPECT_EQ(len, side_join(&w));
	EXPECT_EQ(0, cgroup_number(self->cgroups.group[0], "memory.events", "oom_kill"));
	EXPECT_EQ(0, cgroup_number(self->cgroups.group[1], "memory.events", "oom_kill"));
}

TEST_HARNESS_MAIN
