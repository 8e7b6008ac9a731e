// SPDX-License-Identifier: GPL-2.0-only
/*
 * A gifted huge page is in the pipe, and its former owner changes the memory that the page left,
 * executes another program, or exits. Other tests have writers and readers in memory cgroups
 * with limits.
 */
#include "cgroup.h"
#include "memory.h"
#include "pages.h"

#define NUMBER		7UL
/* Bytes that a pipe of any kind holds without a reader, if the page is copied. */
#define HOLDS		((SLOTS - 1) * PAGE)
/*
 * Bytes that a cgroup may be charged for other things: the process, and batches of each
 * processor.
 */
#define NOISE		(MIB * 3 / 2)

/* The next action of a writer that has gifted a page. */
enum next {
	STORE, UNMAP, GIVE_UP, PROTECT, PAGE_OUT, MOVE_AWAY, FORK, EXIT, EXEC,
};

struct giver {
	struct child c;
	struct ends *e;
	const char *group;
	enum next next;
	struct {
		long ret, moved;
		int done;
	} *shared;
};

/* The number of bytes of a page that fit into the pipe without a reader. */
static long in_the_pipe(struct ends *e)
{
	return moves(e) ? HUGE_SIZE : HOLDS;
}

static void do_next(enum next next, unsigned char *at)
{
	unsigned char *elsewhere = huge_addresses(1);

	switch (next) {
	case STORE:
		page_fill(at, NUMBER + 1);
		break;
	case UNMAP:
		munmap(at, HUGE_SIZE);
		break;
	case GIVE_UP:
		madvise(at, HUGE_SIZE, MADV_DONTNEED);
		break;
	case PROTECT:
		mprotect(at, HUGE_SIZE / 2, PROT_NONE);
		break;
	case PAGE_OUT:
		page_out(at, HUGE_SIZE);
		page_fill(at, NUMBER + 1);
		page_out(at, HUGE_SIZE);
		break;
	case MOVE_AWAY:
		mremap(at, HUGE_SIZE, HUGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
		page_fill(elsewhere, NUMBER + 1);
		break;
	case FORK:
		if (!fork()) {
			page_fill(at, NUMBER + 2);
			_exit(0);
		}
		page_fill(at, NUMBER + 1);
		break;
	default:
		break;
	}
}

static long give_and_do(struct child *c)
{
	struct giver *g = c->arg;
	unsigned char *at = hole(1);
	struct iovec iov = { at, in_the_pipe(g->e) };
	struct gifted gifted;

	page_fill(at, NUMBER);
	collapse(at, HUGE_SIZE);
	gifted = gift_flags(g->e, &iov, 1, ZPIPE_ALWAYS | ZPIPE_NONBLOCK);
	g->shared->ret = gifted.ret;
	g->shared->moved = gifted.moved;
	do_next(g->next, at);
	__atomic_store_n(&g->shared->done, 1, __ATOMIC_SEQ_CST);
	if (g->next == EXIT)
		return 0;
	if (g->next == EXEC)
		execl("/bin/sleep", "sleep", "1000", NULL);
	for (;;)
		pause();
}

static bool is_sleep(pid_t pid)
{
	char path[40], name[20] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, name, sizeof(name) - 1) < 0)
		name[0] = 0;
	close(fd);
	return !strcmp(name, "sleep\n");
}

/* Reads and checks the page. If @moves_in, the destination is one that the page can be moved to. */
static void read_it(struct __test_metadata *_metadata, struct ends *e, bool moves_in)
{
	long bytes = in_the_pipe(e);
	unsigned char *to = hole(2);
	struct gifted g;

	g = fetch(e, moves_in ? to : to + PAGE, bytes, 0);
	EXPECT_EQ(bytes, g.ret);
	EXPECT_EQ(moves_in && moves(e) ? bytes : 0, g.moved);
	EXPECT_TRUE(part_is(moves_in ? to : to + PAGE, NUMBER, 0, bytes));
	EXPECT_EQ(0, fionread(e->fd[0]));
	munmap(to, 2 * HUGE_SIZE);
}

/* The reader must get the bytes of the gift, whatever the writer does. */
static void nothing_happens_to_it(struct __test_metadata *_metadata, struct ends *e,
				  enum next next)
{
	int moves_in;

	for (moves_in = 0; moves_in < 2; moves_in++) {
		struct giver g = {
			.e = e, .next = next, .shared = shared_alloc(PAGE),
		};

		child_run(&g.c, give_and_do, &g);
		ASSERT_TRUE(eventually(__atomic_load_n(&g.shared->done, __ATOMIC_SEQ_CST)));
		if (next == EXIT)
			ASSERT_EQ(0, child_join(&g.c));
		if (next == EXEC)
			ASSERT_TRUE(eventually(is_sleep(g.c.pid)));
		EXPECT_EQ(in_the_pipe(e), g.shared->ret);
		EXPECT_EQ(moves(e) ? HUGE_SIZE : 0, g.shared->moved);
		read_it(_metadata, e, moves_in);
		/* The writer's address space is gone, so its home must not keep the page. */
		if (moves(e) && next >= EXIT)
			EXPECT_EQ(0, fdinfo_number(e->fd[0], "zpipe-homes"));
		if (next != EXIT)
			EXPECT_EQ(KILLED(SIGKILL), child_kill(&g.c));
	}
}

TEST_F_TIMEOUT(all, memory_is_stored_to, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, STORE);
}

TEST_F_TIMEOUT(all, memory_is_unmapped, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, UNMAP);
}

TEST_F_TIMEOUT(all, memory_is_given_up, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, GIVE_UP);
}

TEST_F_TIMEOUT(all, memory_is_protected, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, PROTECT);
}

TEST_F_TIMEOUT(all, memory_is_paged_out, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, PAGE_OUT);
}

TEST_F_TIMEOUT(all, memory_is_moved_away, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, MOVE_AWAY);
}

TEST_F_TIMEOUT(all, writer_forks, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, FORK);
}

TEST_F_TIMEOUT(all, writer_exits, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, EXIT);
}

TEST_F_TIMEOUT(all, writer_executes, TIMEOUT)
{
	nothing_happens_to_it(_metadata, &self->e, EXEC);
}

static long move_and_execute(struct child *c)
{
	struct ends *e = c->arg;
	unsigned char *at = hole(1);

	if (fetch(e, at, in_the_pipe(e), 0).ret != in_the_pipe(e) ||
	    !part_is(at, NUMBER, 0, in_the_pipe(e)))
		return -1;
	execl("/bin/true", "true", NULL);
	return -2;
}

TEST_F_TIMEOUT(all, reader_executes, TIMEOUT)
{
	struct giver g = { .e = &self->e, .shared = shared_alloc(PAGE) };
	struct child c;
	int i;

	for (i = 0; i < 4; i++) {
		g.next = EXIT;
		child_run(&g.c, give_and_do, &g);
		ASSERT_EQ(0, child_join(&g.c));
		child_run(&c, move_and_execute, &self->e);
		/* true(1) has no report. */
		EXPECT_EQ(NO_REPORT, child_join(&c));
	}
}

/*
 * Memory cgroups.
 */

FIXTURE(group) {
	struct ends e;
	struct cgroups cgroups;
	const char *group;
	long dying;
};

FIXTURE_VARIANT(group) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(group, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(group, zpair) { .kind = ZPAIR };

static long charged(const char *group)
{
	return cgroup_number(group, "memory.current", "");
}

static long kills(const char *group)
{
	return cgroup_number(group, "memory.events", "oom_kill");
}

/* The number of dying cgroups. Drops caches first, whose pages may hold a cgroup. */
static long dying_groups(struct cgroups *c)
{
	write_line("/proc/sys/vm", "drop_caches", "3");
	return cgroup_number(c->root, "cgroup.stat", "nr_dying_descendants");
}

FIXTURE_SETUP(group)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (!cgroups_make(&self->cgroups) || !has_swap())
		SKIP(return, "no swap or no memory controller here");
	self->group = self->cgroups.group[0];
	/* With copies, a cgroup stays on 7.2 after an OOM kill; so it does with pipe(2). */
	self->dying = moves(&self->e) ? dying_groups(&self->cgroups) : LONG_MAX;
}

/* The charge must return to zero, rmdir(2) must work, and no dying cgroup may stay. */
FIXTURE_TEARDOWN(group)
{
	if (self->group) {
		EXPECT_TRUE(eventually(charged(self->group) < NOISE)) {
			TH_LOG("%ld bytes", charged(self->group));
		}
		EXPECT_EQ(0, rmdir(self->group));
		EXPECT_TRUE(eventually(dying_groups(&self->cgroups) <= self->dying)) {
			TH_LOG("%ld groups", dying_groups(&self->cgroups));
		}
		self->cgroups.group[0][0] = 0;
	}
	cgroups_free(&self->cgroups);
	ends_free(&self->e);
}

/* A process in a cgroup, and the limits of that cgroup. If @swap is NULL, it may not swap. */
struct member {
	struct child c;
	struct ends *e;
	const char *group;
	long most;		/* bytes beside the charge at the start; 0: no limit */
	const char *swap;
	long pages;		/* number of pages that a reader reads */
	struct {
		long n, moved;
	} *shared;
};

static int limit(struct member *m)
{
	char text[30];

	if (cgroup_enter(m->group) || write_line(m->group, "memory.swap.max", m->swap ?: "0"))
		return -1;
	snprintf(text, sizeof(text), "%ld", charged(m->group) + m->most);
	return m->most ? write_line(m->group, "memory.max", text) : 0;
}

static struct member *member_start(struct member *m, struct ends *e, const char *group,
				   long (*fn)(struct child *c))
{
	m->e = e;
	m->group = group;
	m->shared = shared_alloc(PAGE);
	child_run(&m->c, fn, m);
	return m;
}

#define MANY	12L

/* Gifts one page after the other, with memory for a single page. */
static long give_many(struct child *c)
{
	struct member *m = c->arg;
	unsigned char *at;
	long i;

	close(m->e->fd[0]);
	if (limit(m))
		return -1;
	at = hole(1);
	for (i = 0; i < MANY; i++) {
		struct gifted g;

		page_fill(at, NUMBER + i);
		g = gift(m->e, at, HUGE_SIZE);
		if (g.ret != HUGE_SIZE)
			return g.ret;
		m->shared->moved += g.moved / HUGE_SIZE;
	}
	return MANY;
}

/* The replacement takes over the charge: a gift needs no more charge than the page itself. */
TEST_F_TIMEOUT(group, writer_has_just_enough, TIMEOUT)
{
	struct member m = { .most = HUGE_SIZE + HUGE_SIZE / 2 };
	unsigned char *to = hole(1);
	long i;

	member_start(&m, &self->e, self->group, give_many);
	for (i = 0; i < MANY; i++) {
		if (i % 3)
			madvise(to, HUGE_SIZE, MADV_DONTNEED);
		ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).ret);
		ASSERT_TRUE(page_is(to, NUMBER + i));
	}
	EXPECT_EQ(MANY, child_join(&m.c));
	EXPECT_EQ(moves(&self->e) ? MANY : 0, m.shared->moved);
	EXPECT_EQ(0, kills(self->group));
	EXPECT_EQ(0, cgroup_number(self->group, "memory.events", "max"));
}

/* Reads each page into another hole, and keeps all pages. */
static long move_many(struct child *c)
{
	struct member *m = c->arg;
	unsigned char *at = hole(m->pages);
	long i;

	close(m->e->fd[1]);
	if (limit(m))
		return -1;
	for (i = 0; i < m->pages; i++) {
		struct gifted g = fetch(m->e, at + i * HUGE_SIZE, HUGE_SIZE, 0);

		if (g.ret != HUGE_SIZE)
			return g.ret;
		if (!page_is(at + i * HUGE_SIZE, NUMBER + i))
			return -2;
		m->shared->moved += g.moved / HUGE_SIZE;
		m->shared->n++;
	}
	/* This also reads pages that were swapped out. */
	for (i = 0; i < m->pages; i++)
		if (!page_is(at + i * HUGE_SIZE, NUMBER + i))
			return -3;
	return m->pages;
}

/* Pages that were moved in are swapped out, so that later ones stay below the limit. */
TEST_F_TIMEOUT(group, reader_swaps, 2 * TIMEOUT)
{
	struct member m = { .most = 5 * MIB, .swap = "max", .pages = 5 };
	struct child giver;

	/* A cgroup that had swap stays for a while, also with pipe(2). */
	self->dying = LONG_MAX;
	member_start(&m, &self->e, self->group, move_many);
	child_give(&giver, &self->e, m.pages, NUMBER);
	EXPECT_EQ(m.pages * HUGE_SIZE, child_join(&giver));
	EXPECT_EQ(m.pages, child_join(&m.c));
	EXPECT_EQ(0, kills(self->group));
	EXPECT_LT(0, cgroup_number(self->group, "memory.events", "max"));
}

/* If the limit is below a huge page, the bytes are copied to small pages. */
TEST_F_TIMEOUT(group, reader_has_too_little_for_one, TIMEOUT)
{
	struct member m = { .most = MIB * 3 / 2, .swap = "max", .pages = 2 };
	struct child giver;

	self->dying = LONG_MAX;
	member_start(&m, &self->e, self->group, move_many);
	child_give(&giver, &self->e, m.pages, NUMBER);
	EXPECT_EQ(m.pages * HUGE_SIZE, child_join(&giver));
	EXPECT_EQ(m.pages, child_join(&m.c));
	EXPECT_EQ(0, m.shared->moved);
	EXPECT_EQ(0, kills(self->group));
}

/*
 * Reads up to end of file. The bytes must be the last ones of @pages pages; a dead reader has
 * read @whole pages.
 */
static void the_rest_is_there(struct __test_metadata *_metadata, struct ends *e, long pages,
			      long whole)
{
	unsigned char *buf = hole(1);
	unsigned long first = 0;
	size_t left = 0, off;
	long n, number = NUMBER + whole;
	unsigned char *all = map_anonymous(pages * HUGE_SIZE, 0);

	while ((n = sys(read(e->fd[0], buf, HUGE_SIZE))) > 0) {
		ASSERT_LE(left + n, pages * HUGE_SIZE);
		memcpy(all + left, buf, n);
		left += n;
	}
	ASSERT_EQ(0, n);
	/* The dead reader may have consumed a part of one more page, but nothing behind it. */
	EXPECT_GE((pages - whole) * HUGE_SIZE, left);
	EXPECT_LE((pages - whole - 1) * HUGE_SIZE, left);
	for (off = 0; off < left; off += n, first++) {
		size_t at = (pages * HUGE_SIZE - left + off) % HUGE_SIZE;

		number = NUMBER + (pages * HUGE_SIZE - left + off) / HUGE_SIZE;
		n = HUGE_SIZE - at;
		ASSERT_TRUE(part_is(all + off, number, at, n));
	}
	munmap(all, pages * HUGE_SIZE);
	munmap(buf, HUGE_SIZE);
}

/* The OOM killer ends the reader. The bytes that it had not read are still in the pipe. */
static void reader_is_killed(struct __test_metadata *_metadata, struct ends *e,
			     struct cgroups *cgroups, long most)
{
	struct member m = { .most = most, .pages = MANY };
	struct child giver;

	member_start(&m, e, cgroups->group[0], move_many);
	child_give(&giver, e, MANY, NUMBER);
	EXPECT_EQ(KILLED(SIGKILL), child_join(&m.c));
	EXPECT_EQ(1, kills(cgroups->group[0]));
	EXPECT_GT(MANY, m.shared->n);
	close_end(e, 1);
	the_rest_is_there(_metadata, e, MANY, m.shared->n);
	EXPECT_EQ(MANY * HUGE_SIZE, child_join(&giver));
}

TEST_F_TIMEOUT(group, reader_is_killed_at_once, TIMEOUT)
{
	reader_is_killed(_metadata, &self->e, &self->cgroups, HUGE_SIZE / 2);
}

TEST_F_TIMEOUT(group, reader_is_killed_later, TIMEOUT)
{
	reader_is_killed(_metadata, &self->e, &self->cgroups, 5 * HUGE_SIZE + HUGE_SIZE / 2);
}

/* Gifts pages, and then exceeds the limit. */
static long give_and_grow(struct child *c)
{
	struct member *m = c->arg;
	unsigned char *at;
	size_t pages = moves(m->e) ? 3 : 1;
	long i, more = 16 * MIB;
	struct iovec iov;
	struct gifted g;

	if (limit(m))
		return -1;
	at = hole(pages);
	for (i = 0; i < pages; i++)
		page_fill(at + i * HUGE_SIZE, NUMBER + i);
	iov = (struct iovec) { at, moves(m->e) ? pages * HUGE_SIZE : HOLDS };
	g = gift_flags(m->e, &iov, 1, ZPIPE_ALWAYS | ZPIPE_NONBLOCK);
	m->shared->n = g.ret;
	m->shared->moved = g.moved;
	memset(map_anonymous(more, 0), 1, more);
	return 0;
}

TEST_F_TIMEOUT(group, writer_is_killed, TIMEOUT)
{
	struct member m = { .most = 4 * HUGE_SIZE };
	long bytes = moves(&self->e) ? 3 * HUGE_SIZE : HOLDS, i;
	unsigned char *to = hole(3);

	member_start(&m, &self->e, self->group, give_and_grow);
	EXPECT_EQ(KILLED(SIGKILL), child_join(&m.c));
	EXPECT_EQ(1, kills(self->group));
	ASSERT_EQ(bytes, m.shared->n);
	EXPECT_EQ(moves(&self->e) ? bytes : 0, m.shared->moved);
	EXPECT_EQ(bytes, fionread(self->e.fd[0]));
	if (moves(&self->e)) {
		/* No cgroup is charged for gifts in the pipe, so they do not keep the cgroup. */
		EXPECT_TRUE(eventually(charged(self->group) < NOISE));
		EXPECT_EQ(0, rmdir(self->group));
		EXPECT_TRUE(eventually(dying_groups(&self->cgroups) <= self->dying));
		ASSERT_EQ(0, mkdir(self->group, 0755));
	}
	ASSERT_EQ(bytes, fetch(&self->e, to, bytes, 0).ret);
	for (i = 0; i * HUGE_SIZE < bytes; i++)
		EXPECT_TRUE(part_is(to + i * HUGE_SIZE, NUMBER + i, 0,
				    bytes < HUGE_SIZE ? bytes : HUGE_SIZE));
}

/* Moves one page in as an exchange and one into a hole; checks the cgroup's statistics. */
static long move_and_count(struct child *c)
{
	struct member *m = c->arg;
	unsigned char *at;
	long i, bytes, swap;

	if (limit(m))
		return -1;
	at = hole(2);
	page_fill(at, 1);
	if (fetch(m->e, at, 2 * HUGE_SIZE, 0).ret != 2 * HUGE_SIZE)
		return -2;
	bytes = cgroup_number(m->group, "memory.stat", "anon");
	if (bytes < 2 * HUGE_SIZE || bytes > 2 * HUGE_SIZE + NOISE)
		return -3;
	bytes = cgroup_number(m->group, "memory.stat", "anon_thp");
	if (moves(m->e) && bytes != 2 * HUGE_SIZE)
		return -4;
	/* Reclaim must find both pages, and their bytes must come back from swap. */
	for (i = 0; i < 10; i++) {
		write_line(m->group, "memory.reclaim", "4M");
		swap = cgroup_number(m->group, "memory.swap.current", "");
		if (swap >= 2 * HUGE_SIZE - NOISE / 2)
			break;
	}
	if (swap < 2 * HUGE_SIZE - NOISE / 2)
		return -5;
	for (i = 0; i < 2; i++)
		if (!page_is(at + i * HUGE_SIZE, NUMBER + i))
			return -6;
	munmap(at, 2 * HUGE_SIZE);
	bytes = cgroup_number(m->group, "memory.stat", "anon");
	return bytes < NOISE ? 0 : -7;
}

TEST_F_TIMEOUT(group, moved_pages_are_reclaimed, TIMEOUT)
{
	struct member m = { .swap = "max" };
	struct child giver;

	self->dying = LONG_MAX;
	member_start(&m, &self->e, self->group, move_and_count);
	child_give(&giver, &self->e, 2, NUMBER);
	EXPECT_EQ(2 * HUGE_SIZE, child_join(&giver));
	EXPECT_EQ(0, child_join(&m.c));
	EXPECT_EQ(0, cgroup_number(self->group, "memory.swap.current", ""));
}

TEST_HARNESS_MAIN
