// SPDX-License-Identifier: GPL-2.0-only
/*
 * Life of huge pages that were moved to a reader or replaced a gift: swap, madvise(2),
 * mlock(2), mremap(2), KSM and fork(2). Each test also runs on a page that was never in
 * a pipe: that page is the oracle. Most tests gift the page at the end.
 */
#include "oracle.h"
#include "memory.h"
#include "pages.h"

#define THP		"/sys/kernel/mm/transparent_hugepage"
#define KHUGEPAGED	THP "/khugepaged"
#define KSM		"/sys/kernel/mm/ksm"
#define NUMBER		7UL
/* KiB by which a counter may differ because of the test process itself. */
#define SLACK		512

enum origin {
	ORDINARY,	/* written to, like any memory */
	MOVED,		/* a gifted page, moved to where no page was */
	EXCHANGED,	/* a gifted page, moved to the place of another page */
	CLEARED,	/* a replacement that was cleared */
	OWN,		/* a replacement from home, with the writer's own bytes */
	RETURNED,	/* a replacement that a reader returned */
};

struct counts {
	long huge, mlocked, unevictable, isolated, partial, rss;
};

FIXTURE(page) {
	struct ends e;
	unsigned char *at;
	unsigned long number;
	struct counts before;
};

FIXTURE_VARIANT(page) {
	enum origin origin;
};

FIXTURE_VARIANT_ADD(page, ordinary) { .origin = ORDINARY };
FIXTURE_VARIANT_ADD(page, moved) { .origin = MOVED };
FIXTURE_VARIANT_ADD(page, exchanged) { .origin = EXCHANGED };
FIXTURE_VARIANT_ADD(page, cleared) { .origin = CLEARED };
FIXTURE_VARIANT_ADD(page, own) { .origin = OWN };
FIXTURE_VARIANT_ADD(page, returned) { .origin = RETURNED };

static struct counts count(void)
{
	struct counts c = {
		.huge = meminfo("AnonHugePages"),
		.mlocked = meminfo("Mlocked"),
		.unevictable = meminfo("Unevictable"),
		.isolated = number_in("/proc/vmstat", "nr_isolated_anon"),
		.partial = number_in(THP "/hugepages-2048kB/stats/nr_anon_partially_mapped", ""),
		.rss = number_in("/proc/self/status", "RssAnon") +
		       number_in("/proc/self/status", "VmSwap"),
	};

	return c;
}

static bool about(long a, long b, long slack)
{
	return a - b < slack && b - a < slack;
}

/* True if the counters have the values of @a, apart from SLACK. */
static bool counts_are(const struct counts *a)
{
	struct counts b = count();

	return about(a->huge, b.huge, HUGE_KIB) && about(a->mlocked, b.mlocked, SLACK) &&
	       about(a->unevictable, b.unevictable, SLACK) &&
	       about(a->isolated, b.isolated, 64) && a->partial == b.partial &&
	       about(a->rss, b.rss, SLACK);
}

static void tell_counts(struct __test_metadata *_metadata, const char *when, struct counts c)
{
	TH_LOG("%s: huge %ld, mlocked %ld, unevictable %ld, isolated %ld, partial %ld, rss %ld",
	       when, c.huge, c.mlocked, c.unevictable, c.isolated, c.partial, c.rss);
}

/* Fills the page at @at with @number and gifts it. Returns true if it was moved. */
static bool gift_number(struct ends *e, void *at, unsigned long number, unsigned int flags)
{
	struct iovec iov = { at, HUGE_SIZE };

	page_fill(at, number);
	return gift_flags(e, &iov, 1, flags | ZPIPE_ALWAYS | ZPIPE_NONBLOCK).moved == HUGE_SIZE;
}

/* Makes a page of that origin at @at, where no page is yet. Leaves the pipe empty. */
static bool make_page(struct ends *e, enum origin from, unsigned char *at)
{
	unsigned char *to = hole(2), *odd = to + PAGE;
	struct child c;
	bool made;

	switch (from) {
	case MOVED:
	case EXCHANGED:
		child_give(&c, e, 1, NUMBER);
		if (from == EXCHANGED)
			memset(at, 1, HUGE_SIZE);
		made = fetch(e, at, HUGE_SIZE, 0).moved == (moves(e) ? HUGE_SIZE : 0) &&
		       child_join(&c) == HUGE_SIZE;
		break;
	case CLEARED:
		made = gift_number(e, at, NUMBER, ZPIPE_CLEAR) &&
		       fetch(e, odd, HUGE_SIZE, 0).copied == HUGE_SIZE;
		break;
	case OWN:
		made = gift_number(e, at, NUMBER, 0) && fetch(e, odd, HUGE_SIZE, 0).copied &&
		       gift_number(e, at, NUMBER + 1, 0) && fetch(e, odd, HUGE_SIZE, 0).copied;
		break;
	case RETURNED:
		page_fill(to, NUMBER);
		made = gift_number(e, at, NUMBER + 1, 0) &&
		       fetch(e, to, HUGE_SIZE, ZPIPE_RETURN).moved &&
		       gift_number(e, at, NUMBER + 2, ZPIPE_ANY) &&
		       fetch(e, odd, HUGE_SIZE, 0).copied;
		break;
	default:
		page_fill(at, NUMBER);
		collapse(at, HUGE_SIZE);
		made = true;
	}
	munmap(to, 2 * HUGE_SIZE);
	return made;
}

FIXTURE_SETUP(page)
{
	ASSERT_EQ(0, ends_make(&self->e, ZPAIR));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	if (variant->origin > EXCHANGED && !moves(&self->e))
		SKIP(return, "nothing takes the place of anything");
	/* Allocate the page tables and everything else that is counted only once. */
	munmap(huge_memory(1, 0), HUGE_SIZE);
	self->before = count();
	self->at = hole(1);
	self->number = variant->origin == CLEARED ? 0 : NUMBER;
	ASSERT_TRUE(make_page(&self->e, variant->origin, self->at));
	ASSERT_TRUE(page_is(self->at, self->number));
}

FIXTURE_TEARDOWN(page)
{
	ends_free(&self->e);
	if (!self->at)
		return;
	munmap(self->at, HUGE_SIZE);
	EXPECT_TRUE(eventually(counts_are(&self->before))) {
		tell_counts(_metadata, "before", self->before);
		tell_counts(_metadata, "after", count());
	}
}

/* Gifts the page and reads it. Expects that it was moved. */
#define EXPECT_GOES()							\
({									\
	struct gifted __g;						\
									\
	EXPECT_TRUE(goes(&self->e, self->at, self->number, &__g));	\
	EXPECT_EQ(moves(&self->e) ? HUGE_SIZE : 0, __g.moved);		\
})

/* Gifts the page and expects a copy for @reason. The page keeps its bytes. */
#define EXPECT_IS_COPIED(reason)					\
({									\
	struct gifted __g;						\
									\
	EXPECT_TRUE(goes(&self->e, self->at, self->number, &__g));	\
	EXPECT_EQ(0, __g.moved);					\
	if (moves(&self->e))						\
		EXPECT_EQ(1, __g.why[reason]);				\
	EXPECT_TRUE(page_is(self->at, self->number));			\
})

TEST_F_TIMEOUT(page, gifted, TIMEOUT)
{
	EXPECT_TRUE(!moves(&self->e) || is_whole(self->at));
	EXPECT_EQ(HUGE_KIB, smaps_kib(self->at, "Rss"));
	EXPECT_EQ(HUGE_KIB, smaps_kib(self->at, "Anonymous"));
	EXPECT_EQ(0, smaps_kib(self->at, "LazyFree"));
	EXPECT_GOES();
}

/* The page is paged out twice. The second time must not write an old copy. */
TEST_F_TIMEOUT(page, paged_out, TIMEOUT)
{
	if (!has_swap())
		SKIP(return, "no swap here");
	ASSERT_TRUE(page_out(self->at, HUGE_SIZE));
	EXPECT_LT(HUGE_KIB - 128, smaps_kib(self->at, "Swap"));
	EXPECT_TRUE(page_is(self->at, self->number));
	page_fill(self->at, ++self->number);
	ASSERT_TRUE(page_out(self->at, HUGE_SIZE));
	EXPECT_TRUE(page_is(self->at, self->number));
}

/* A page in swap is read back and copied. */
TEST_F_TIMEOUT(page, gifted_from_swap, TIMEOUT)
{
	if (!has_swap())
		SKIP(return, "no swap here");
	ASSERT_TRUE(page_out(self->at, HUGE_SIZE));
	EXPECT_IS_COPIED(ZPIPE_REASON_SMALL);
	ASSERT_EQ(0, collapse(self->at, HUGE_SIZE));
	EXPECT_GOES();
}

/* Reclaim drops a lazily freed page, unless it was stored to after it was freed. */
TEST_F_TIMEOUT(page, lazily_freed, TIMEOUT)
{
	ASSERT_EQ(0, madvise(self->at, HUGE_SIZE, MADV_FREE));
	EXPECT_EQ(HUGE_KIB, smaps_kib(self->at, "LazyFree"));
	page_fill(self->at, ++self->number);
	madvise(self->at, HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_TRUE(page_is(self->at, self->number));
	ASSERT_EQ(0, madvise(self->at, HUGE_SIZE, MADV_FREE));
	EXPECT_TRUE(eventually(!madvise(self->at, HUGE_SIZE, MADV_PAGEOUT) &&
			       !pages_there(self->at, HUGE_SIZE)));
	EXPECT_TRUE(page_is(self->at, 0));
}

/*
 * When the kernel splits a huge page, it replaces zeroed small pages by the zero page.
 * Fills a zeroed page with NUMBER to prevent that.
 */
static void not_zeros(void *at, unsigned long *number)
{
	if (!*number)
		page_fill(at, *number = NUMBER);
}

/* One small page of it is freed. The others keep their bytes. */
TEST_F_TIMEOUT(page, freed_in_part, TIMEOUT)
{
	not_zeros(self->at, &self->number);
	ASSERT_EQ(0, madvise(self->at + 5 * PAGE, PAGE, MADV_DONTNEED));
	EXPECT_TRUE(part_is(self->at, self->number, 0, 5 * PAGE));
	EXPECT_TRUE(part_is(self->at + 5 * PAGE, 0, 0, PAGE));
	EXPECT_TRUE(part_is(self->at + 6 * PAGE, self->number, 6 * PAGE, HUGE_SIZE - 6 * PAGE));
	if (has_swap())
		EXPECT_TRUE(page_out(self->at, HUGE_SIZE));
	EXPECT_TRUE(part_is(self->at, self->number, 0, 5 * PAGE));
	EXPECT_TRUE(part_is(self->at + 6 * PAGE, self->number, 6 * PAGE, HUGE_SIZE - 6 * PAGE));
}

/* A page that is mapped by small entries is copied. After a collapse it is moved. */
TEST_F_TIMEOUT(page, collapsed, TIMEOUT)
{
	ASSERT_EQ(0, mprotect(self->at, PAGE, PROT_READ));
	EXPECT_TRUE(page_is(self->at, self->number));
	ASSERT_EQ(0, mprotect(self->at, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_FALSE(is_whole(self->at));
	EXPECT_IS_COPIED(ZPIPE_REASON_SMALL);
	ASSERT_EQ(0, collapse(self->at, HUGE_SIZE));
	EXPECT_TRUE(is_whole(self->at));
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_GOES();
}

TEST_F_TIMEOUT(page, collapsed_by_the_kernel, TIMEOUT)
{
	long alloc = number_in(KHUGEPAGED "/alloc_sleep_millisecs", "");
	long scan = number_in(KHUGEPAGED "/scan_sleep_millisecs", "");
	char text[30];

	ASSERT_EQ(0, mprotect(self->at, PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->at, PAGE, PROT_READ | PROT_WRITE));
	ASSERT_FALSE(is_whole(self->at));
	ASSERT_EQ(0, write_line(KHUGEPAGED, "alloc_sleep_millisecs", "0"));
	ASSERT_EQ(0, write_line(KHUGEPAGED, "scan_sleep_millisecs", "0"));
	EXPECT_TRUE(eventually(is_whole(self->at)));
	snprintf(text, sizeof(text), "%ld", scan);
	write_line(KHUGEPAGED, "scan_sleep_millisecs", text);
	snprintf(text, sizeof(text), "%ld", alloc);
	write_line(KHUGEPAGED, "alloc_sleep_millisecs", text);
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_GOES();
}

/* mlock(2) counts the page once, and munlock(2) uncounts it. */
TEST_F_TIMEOUT(page, locked, TIMEOUT)
{
	ASSERT_EQ(0, mlock(self->at, HUGE_SIZE));
	EXPECT_EQ(HUGE_KIB, number_in("/proc/self/status", "VmLck"));
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), self->before.mlocked + HUGE_KIB, SLACK)));
	EXPECT_TRUE(eventually(about(meminfo("Unevictable"),
				     self->before.unevictable + HUGE_KIB, SLACK)));
	madvise(self->at, HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_EQ(HUGE_SIZE / PAGE, pages_there(self->at, HUGE_SIZE));
	ASSERT_EQ(0, munlock(self->at, HUGE_SIZE));
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), self->before.mlocked, SLACK)));
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_GOES();
}

/* A locked page is moved. Its replacement is locked, too. */
TEST_F_TIMEOUT(page, gifted_while_locked, TIMEOUT)
{
	struct gifted g;

	ASSERT_EQ(0, mlock(self->at, HUGE_SIZE));
	EXPECT_TRUE(goes(&self->e, self->at, self->number, &g));
	EXPECT_EQ(moves(&self->e) ? HUGE_SIZE : 0, g.moved);
	EXPECT_EQ(HUGE_KIB, number_in("/proc/self/status", "VmLck"));
	EXPECT_EQ(HUGE_KIB, smaps_kib(self->at, "Locked"));
	madvise(self->at, HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_EQ(HUGE_SIZE / PAGE, pages_there(self->at, HUGE_SIZE));
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), self->before.mlocked + HUGE_KIB, SLACK)));
	EXPECT_TRUE(eventually(about(meminfo("Unevictable"),
				     self->before.unevictable + HUGE_KIB, SLACK)));
	/* The teardown unmaps the locked page. */
}

static void remap_to(struct __test_metadata *_metadata, unsigned char **at, unsigned char *to)
{
	ASSERT_EQ(to, mremap(*at, HUGE_SIZE, HUGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	*at = to;
}

TEST_F_TIMEOUT(page, remapped, TIMEOUT)
{
	unsigned char *addresses = huge_addresses(4);

	remap_to(_metadata, &self->at, addresses);
	EXPECT_TRUE(!moves(&self->e) || is_whole(self->at));
	EXPECT_TRUE(page_is(self->at, self->number));
	/* No huge page fits at this alignment. */
	remap_to(_metadata, &self->at, addresses + HUGE_SIZE + PAGE);
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_IS_COPIED(ZPIPE_REASON_PART);
	remap_to(_metadata, &self->at, addresses + 3 * HUGE_SIZE);
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_IS_COPIED(ZPIPE_REASON_SMALL);
}

TEST_F_TIMEOUT(page, remapped_and_gifted, TIMEOUT)
{
	remap_to(_metadata, &self->at, huge_addresses(1));
	EXPECT_GOES();
}

/* A read(2) into a page whose second half is read-only stops in the middle. */
TEST_F_TIMEOUT(page, protected_in_part, TIMEOUT)
{
	int zero = open("/dev/zero", O_RDONLY);

	ASSERT_EQ(0, mprotect(self->at + HUGE_SIZE / 2, HUGE_SIZE / 2, PROT_READ));
	EXPECT_EQ(HUGE_SIZE / 2, read(zero, self->at, HUGE_SIZE));
	EXPECT_TRUE(all_zero(self->at, HUGE_SIZE / 2));
	EXPECT_TRUE(part_is(self->at + HUGE_SIZE / 2, self->number, HUGE_SIZE / 2,
			    HUGE_SIZE / 2));
	close(zero);
}

/* Parent and child both see the old bytes, and each sees only its own stores. */
TEST_F_TIMEOUT(page, forked, TIMEOUT)
{
	int status = -1;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		bool right = page_is(self->at, self->number);

		page_fill(self->at, NUMBER + 100);
		_exit(right && page_is(self->at, NUMBER + 100) ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(page_is(self->at, self->number));
}

/* KSM merges two pages with the same bytes. A store separates them again. */
TEST_F_TIMEOUT(page, merged, TIMEOUT)
{
	unsigned char *same = hole(1);
	long sleep = number_in(KSM "/sleep_millisecs", "");
	char text[30];

	/* Undo what KSM has merged for other tests, which takes a while. */
	if (write_line(KSM, "run", "2"))
		SKIP(return, "no merging here");
	ASSERT_TRUE(eventually(number_in(KSM "/pages_sharing", "") == 0));
	not_zeros(self->at, &self->number);
	page_fill(same, self->number);
	ASSERT_EQ(0, madvise(same, HUGE_SIZE, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(self->at, HUGE_SIZE, MADV_MERGEABLE));
	write_line(KSM, "smart_scan", "0");
	write_line(KSM, "sleep_millisecs", "0");
	write_line(KSM, "pages_to_scan", "2048");
	ASSERT_EQ(0, write_line(KSM, "run", "1"));
	EXPECT_TRUE(eventually(number_in(KSM "/pages_sharing", "") >= HUGE_SIZE / PAGE));
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_IS_COPIED(ZPIPE_REASON_SMALL);
	page_fill(same, NUMBER + 1);
	EXPECT_TRUE(page_is(self->at, self->number));
	EXPECT_EQ(0, write_line(KSM, "run", "2"));
	EXPECT_TRUE(page_is(self->at, self->number));
	snprintf(text, sizeof(text), "%ld", sleep);
	write_line(KSM, "sleep_millisecs", text);
	write_line(KSM, "pages_to_scan", "100");
	write_line(KSM, "run", "0");
	munmap(same, HUGE_SIZE);
}

/* Making and unmapping many pages of each origin loses no memory and no swap. */
TEST_F_TIMEOUT(page, no_memory_is_lost, 2 * TIMEOUT)
{
	long before, swap, i;

	before = available();
	swap = number_in("/proc/meminfo", "SwapFree");
	for (i = 0; i < 24; i++) {
		unsigned char *at = hole(1);

		ASSERT_TRUE(make_page(&self->e, variant->origin, at));
		switch (i % 4) {
		case 0:
			madvise(at, HUGE_SIZE, MADV_PAGEOUT);
			break;
		case 1:
			madvise(at + i * PAGE, 3 * PAGE, MADV_DONTNEED);
			break;
		case 2:
			madvise(at, HUGE_SIZE, MADV_FREE);
			break;
		}
		munmap(at, HUGE_SIZE);
	}
	/* In KiB. All pages of this test together have 48 MiB. */
	EXPECT_TRUE(eventually(available() > before - 20480));
	EXPECT_TRUE(eventually(number_in("/proc/meminfo", "SwapFree") > swap - 4096));
}

/*
 * A page that is moved to locked memory is locked, whether there was a page before or
 * not.
 */
TEST_F_TIMEOUT(all, moved_to_locked_memory, TIMEOUT)
{
	long locked = meminfo("Mlocked"), unevictable = meminfo("Unevictable");
	unsigned char *to;
	struct child c;
	int i;

	child_give(&c, &self->e, 2, NUMBER);
	to = hole(2);
	ASSERT_EQ(0, mlock(to, HUGE_SIZE));
	ASSERT_EQ(0, mlock2(to + HUGE_SIZE, HUGE_SIZE, MLOCK_ONFAULT));
	for (i = 0; i < 2; i++) {
		struct gifted g = fetch(&self->e, to + i * HUGE_SIZE, HUGE_SIZE, 0);

		EXPECT_EQ(HUGE_SIZE, g.ret);
		EXPECT_EQ(moves(&self->e) ? HUGE_SIZE : 0, g.moved);
		EXPECT_TRUE(page_is(to + i * HUGE_SIZE, NUMBER + i));
	}
	EXPECT_EQ(2 * HUGE_SIZE, child_join(&c));
	madvise(to, 2 * HUGE_SIZE, MADV_PAGEOUT);
	EXPECT_EQ(2 * HUGE_SIZE / PAGE, pages_there(to, 2 * HUGE_SIZE));
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), locked + 2 * HUGE_KIB, SLACK)));
	EXPECT_TRUE(eventually(about(meminfo("Unevictable"), unevictable + 2 * HUGE_KIB, SLACK)));
	munmap(to, 2 * HUGE_SIZE);
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), locked, SLACK)));
	EXPECT_TRUE(eventually(about(meminfo("Unevictable"), unevictable, SLACK)));
}

/* Moves and gifts pages under mlockall(2). They behave like other pages. */
static long lock_all_and_move(struct child *c)
{
	struct ends *e = c->arg;
	unsigned char *at;
	struct gifted g;
	long i;

	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return -1;
	at = hole(1);
	for (i = 0; i < 3; i++) {
		g = fetch(e, at, HUGE_SIZE, 0);
		if (g.ret != HUGE_SIZE || !page_is(at, NUMBER + i) ||
		    g.moved != (moves(e) ? HUGE_SIZE : 0))
			return -2;
	}
	page_fill(at, NUMBER);
	if (moves(e) && (!goes(e, at, NUMBER, &g) || g.moved != HUGE_SIZE))
		return -3;
	return smaps_kib(at, "Locked") == HUGE_KIB ? 0 : -4;
}

TEST_F_TIMEOUT(all, moved_and_gifted_under_mlockall, TIMEOUT)
{
	long locked = meminfo("Mlocked");
	struct child writer, c;

	child_give(&writer, &self->e, 3, NUMBER);
	child_run(&c, lock_all_and_move, &self->e);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_EQ(3 * HUGE_SIZE, child_join(&writer));
	EXPECT_TRUE(eventually(about(meminfo("Mlocked"), locked, SLACK)));
}

TEST_HARNESS_MAIN
