// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NUMA node and the zone of huge pages that are moved. The tests need a guest with two nodes
 * and a zone of movable memory: tests/long boots one, with options on its command line.
 */
#include "oracle.h"
#include "pages.h"

#include <linux/mempolicy.h>

#define NUMBER		7UL
#define NODES		2
#define TRIES		8

static long bind_to(void *at, int node, int flags)
{
	unsigned long mask = 1UL << node;

	return sys(syscall(SYS_mbind, at, HUGE_SIZE, MPOL_BIND, &mask, 8, flags));
}

/* The node of the page at @at, or -errno. */
static int node_of(void *at)
{
	int status = -1;
	long ret = sys(syscall(SYS_move_pages, 0, 1UL, &at, NULL, &status, 0));

	return ret < 0 ? ret : status;
}

/* A hole whose memory policy binds it to a node. */
static unsigned char *hole_on(int node)
{
	unsigned char *at = hole(1);

	if (bind_to(at, node, 0))
		abort();
	return at;
}

FIXTURE(nodes) {
	struct ends e;
};

FIXTURE_SETUP(nodes)
{
	ASSERT_EQ(0, ends_make(&self->e, ZPAIR));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "there is one node");
	if (!moves(&self->e))
		SKIP(return, "nothing is moved");
}

FIXTURE_TEARDOWN(nodes)
{
	write_line("/proc/sys/vm", "nr_hugepages", "0");
	ends_free(&self->e);
}

static long give(struct ends *e, unsigned char *at, unsigned long number, unsigned int flags)
{
	struct iovec iov = { at, HUGE_SIZE };

	page_fill(at, number);
	return gift_flags(e, &iov, 1, flags | ZPIPE_ALWAYS | ZPIPE_NONBLOCK).moved;
}

/*
 * A moved page stays on its node, whatever the reader's policy is. A cleared replacement comes
 * from the node that the writer's policy asks for.
 */
TEST_F_TIMEOUT(nodes, a_page_stays_where_it_is, TIMEOUT)
{
	int from, to;

	for (from = 0; from < NODES; from++)
		for (to = 0; to < NODES; to++) {
			unsigned char *at = hole_on(from), *there = hole_on(to);

			page_fill(at, NUMBER);
			ASSERT_EQ(from, node_of(at));
			ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER, ZPIPE_CLEAR));
			EXPECT_EQ(from, node_of(at));
			EXPECT_TRUE(page_is(at, 0));
			if (from == to)
				page_fill(there, 1);
			ASSERT_EQ(HUGE_SIZE, fetch(&self->e, there, HUGE_SIZE, 0).moved);
			EXPECT_EQ(from, node_of(there));
			EXPECT_TRUE(page_is(there, NUMBER));
			munmap(at, HUGE_SIZE);
			munmap(there, HUGE_SIZE);
		}
}

/*
 * A policy that is set after the move takes effect, and the page can be gifted from its new
 * node.
 */
TEST_F_TIMEOUT(nodes, it_can_be_migrated, TIMEOUT)
{
	unsigned char *at = hole_on(0), *to = hole_on(1);
	struct gifted g;

	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER, 0));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).moved);
	ASSERT_EQ(0, node_of(to));
	/* The page is not on the node that the policy asks for. */
	EXPECT_EQ(-EIO, bind_to(to, 1, MPOL_MF_STRICT));
	EXPECT_EQ(0, bind_to(to, 1, MPOL_MF_STRICT | MPOL_MF_MOVE));
	EXPECT_EQ(1, node_of(to));
	EXPECT_TRUE(page_is(to, NUMBER));
	EXPECT_TRUE(goes(&self->e, to, NUMBER, &g));
	EXPECT_EQ(HUGE_SIZE, g.moved);
	/* A replacement can be migrated, too. */
	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER, ZPIPE_CLEAR));
	EXPECT_EQ(0, bind_to(at, 1, MPOL_MF_STRICT | MPOL_MF_MOVE));
	EXPECT_EQ(1, node_of(at));
	EXPECT_TRUE(page_is(at, 0));
}

/* DEVIATION: a page that a reader returned stays on the reader's node. */
TEST_F_TIMEOUT(nodes, what_is_returned_stays, TIMEOUT)
{
	unsigned char *at = hole_on(0), *to = hole_on(1);

	page_fill(to, NUMBER + 1);
	ASSERT_EQ(1, node_of(to));
	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER, 0));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, ZPIPE_RETURN).moved);
	ASSERT_EQ(0, node_of(to));
	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER + 2, ZPIPE_ANY));
	EXPECT_TRUE(page_is(at, NUMBER + 1));
	EXPECT_EQ(1, node_of(at));
}

/* migrate_pages(2) migrates all pages of the process, but not those in a pipe. */
TEST_F_TIMEOUT(nodes, processes_are_migrated, TIMEOUT)
{
	unsigned long old = 1, new = 2;
	unsigned char *at = hole(1), *to = hole(1);

	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER, ZPIPE_CLEAR));
	EXPECT_LE(0, syscall(SYS_migrate_pages, 0, 8UL, &old, &new));
	EXPECT_EQ(1, node_of(at));
	EXPECT_TRUE(page_is(at, 0));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).moved);
	EXPECT_TRUE(page_is(to, NUMBER));
	EXPECT_LE(0, syscall(SYS_migrate_pages, 0, 8UL, &old, &new));
	EXPECT_EQ(1, node_of(to));
	EXPECT_LE(0, syscall(SYS_migrate_pages, 0, 8UL, &new, &old));
	EXPECT_EQ(0, node_of(to));
	EXPECT_TRUE(page_is(to, NUMBER));
}

/* Takes all free huge pages of the second node for a pool of hugetlbfs, which stays unused. */
static int take_all(const char *pages)
{
	return write_line("/sys/devices/system/node/node1/hugepages/hugepages-2048kB",
			  "nr_hugepages", pages);
}

/*
 * Also takes the huge pages that are on this processor's list of free pages, where hugetlbfs
 * does not find them: repeats until a page fault gets no huge page. False if it always gets one.
 */
static bool take_rest(void)
{
	cpu_set_t one;
	int i;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (take_all("2000"))
		return false;
	for (i = 0; i < 64; i++) {
		unsigned char *at = hole_on(1);

		*at = 1;
		if (!is_whole(at))
			return true;
	}
	return false;
}

/*
 * A page with that number on the second node, outside of movable memory: such a page was moved
 * once. A gift of a movable page would first migrate it, and leave a free page for the
 * replacement.
 */
static unsigned char *settled_page(struct ends *e, unsigned long number)
{
	unsigned char *from = hole_on(1), *at = hole_on(1);

	if (give(e, from, number, 0) != HUGE_SIZE ||
	    fetch(e, at, HUGE_SIZE, 0).moved != HUGE_SIZE)
		return NULL;
	munmap(from, HUGE_SIZE);
	return at;
}

/* A page is copied if the node that the writer's policy asks for has no free huge page. */
TEST_F_TIMEOUT(nodes, no_huge_page_is_free, TIMEOUT)
{
	unsigned char *at, *to = hole_on(1);
	struct gifted g;
	int i;

	/*
	 * The kernel may free a huge page in between. Then the page is moved, and the test
	 * starts again.
	 */
	for (i = 0; i < TRIES; i++) {
		ASSERT_EQ(0, take_all("0"));
		at = settled_page(&self->e, NUMBER);
		ASSERT_NE(NULL, at);
		ASSERT_EQ(1, node_of(at));
		ASSERT_EQ(0, mlock(at, HUGE_SIZE));
		ASSERT_TRUE(take_rest());
		EXPECT_TRUE(goes(&self->e, at, NUMBER, &g));
		if (!g.moved)
			break;
		munmap(at, HUGE_SIZE);
		/* This frees the home: no page from there may become the next replacement. */
		close_end(&self->e, 0);
		close_end(&self->e, 1);
		ASSERT_EQ(0, open_ends(&self->e, 0));
	}
	ASSERT_EQ(0, g.moved);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_MEMORY]);
	EXPECT_TRUE(page_is(at, NUMBER));
	/* A reader with a hole needs a free huge page, too; without one, the bytes are copied. */
	EXPECT_EQ(0, bind_to(at, 0, 0));
	for (i = 0; i < TRIES; i++) {
		page_fill(at, NUMBER + i);
		ASSERT_EQ(HUGE_SIZE, gift(&self->e, at, HUGE_SIZE).moved);
		madvise(to, HUGE_SIZE, MADV_DONTNEED);
		ASSERT_TRUE(take_rest());
		g = fetch(&self->e, to, HUGE_SIZE, 0);
		EXPECT_EQ(HUGE_SIZE, g.ret);
		EXPECT_TRUE(page_is(to, NUMBER + i));
		if (!g.moved)
			break;
	}
	EXPECT_EQ(HUGE_SIZE, g.copied);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_SMALL]);
	EXPECT_EQ(0, take_all("0"));
}

/*
 * Memory that has to stay movable. A pipe may keep a page for any time, so a page in such memory
 * is migrated out of it first, or copied.
 */

struct range {
	unsigned long start, frames;
};

static struct range movable[NODES];

/* Reads the ranges from /proc/zoneinfo; false if there is none. */
static bool find_movable(void)
{
	char line[200], zone[20] = "";
	unsigned long n;
	int node = -1;
	bool any = false;
	FILE *f = fopen("/proc/zoneinfo", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Node %d, zone %19s", &node, zone) == 2)
			continue;
		if (strcmp(zone, "Movable") || node < 0 || node >= NODES)
			continue;
		if (sscanf(line, " spanned %lu", &n) == 1)
			movable[node].frames = n;
		if (sscanf(line, " start_pfn: %lu", &n) == 1)
			movable[node].start = n;
		any |= movable[node].frames > HUGE_SIZE / PAGE;
	}
	if (f)
		fclose(f);
	return any;
}

static bool is_movable(const void *at)
{
	unsigned long n = frame(at);
	int i;

	for (i = 0; i < NODES; i++)
		if (n - movable[i].start < movable[i].frames)
			return true;
	return false;
}

FIXTURE(zone) {
	struct ends e;
	unsigned char *at;
};

FIXTURE_SETUP(zone)
{
	int i;

	ASSERT_EQ(0, ends_make(&self->e, ZPAIR));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (!find_movable())
		SKIP(return, "no memory has to stay movable");
	if (!moves(&self->e))
		SKIP(return, "nothing is moved");
	/* The kernel allocates movable memory first. */
	for (i = 0; i < 64; i++) {
		self->at = hole(1);
		page_fill(self->at, NUMBER);
		if (is_movable(self->at))
			break;
	}
	ASSERT_TRUE(is_movable(self->at));
}

FIXTURE_TEARDOWN(zone)
{
	ends_free(&self->e);
}

TEST_F_TIMEOUT(zone, a_page_leaves_it_first, TIMEOUT)
{
	unsigned char *to = hole(1);

	ASSERT_EQ(HUGE_SIZE, gift(&self->e, self->at, HUGE_SIZE).moved);
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, 0).moved);
	EXPECT_TRUE(page_is(to, NUMBER));
	EXPECT_FALSE(is_movable(to));
}

/* A reader's page that is returned leaves movable memory, since it becomes the pipe's. */
TEST_F_TIMEOUT(zone, a_readers_page_leaves_it, TIMEOUT)
{
	unsigned char *at = hole(1), *to = self->at;

	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER + 1, 0));
	ASSERT_EQ(HUGE_SIZE, fetch(&self->e, to, HUGE_SIZE, ZPIPE_RETURN).moved);
	EXPECT_TRUE(page_is(to, NUMBER + 1));
	EXPECT_FALSE(is_movable(to));
	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER + 2, ZPIPE_ANY));
	EXPECT_TRUE(page_is(at, NUMBER));
	EXPECT_FALSE(is_movable(at));
}

/* A page that something refers to cannot be migrated. */
TEST_F_TIMEOUT(zone, page_that_cannot_leave_is_copied, TIMEOUT)
{
	int fd = refer_to(self->at + 5 * PAGE);
	struct gifted g;

	EXPECT_TRUE(goes(&self->e, self->at, NUMBER, &g));
	EXPECT_EQ(0, g.moved);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_ZONE]);
	EXPECT_TRUE(page_is(self->at, NUMBER));
	EXPECT_TRUE(is_movable(self->at));
	close(fd);
	EXPECT_TRUE(goes(&self->e, self->at, NUMBER, &g));
	EXPECT_EQ(HUGE_SIZE, g.moved);
}

TEST_F_TIMEOUT(zone, page_that_cannot_leave_is_written_to, TIMEOUT)
{
	int fd = refer_to(self->at + 5 * PAGE);
	unsigned char *at = hole(1);
	struct gifted g;

	ASSERT_EQ(HUGE_SIZE, give(&self->e, at, NUMBER + 1, 0));
	g = fetch(&self->e, self->at, HUGE_SIZE, 0);
	EXPECT_EQ(HUGE_SIZE, g.copied);
	EXPECT_EQ(1, g.why[ZPIPE_REASON_ZONE]);
	EXPECT_TRUE(page_is(self->at, NUMBER + 1));
	EXPECT_TRUE(is_movable(self->at));
	close(fd);
}

TEST_HARNESS_MAIN
