// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gifts and moves of small pages, which are pages of 4 KiB.
 *
 * gift.c exchanges one huge page, and this file exchanges many small pages at once. It is
 * for callers that ask for it with ZPIPE_SMALL. To exchange a small page costs several
 * times as much as to copy it. Each one has its own page table entry, TLB flush,
 * references, locks and charge.
 */
#include <linux/highmem.h>
#include <linux/sched.h>

#include "gift.h"

#ifdef ZPIPE_MOVES

/* The flags of a source entry that stands for a page that may be exchanged. */
#define MOVABLE	(MIGRATE_PFN_MIGRATE | MIGRATE_PFN_WRITE)

static unsigned long pages_between(unsigned long from, unsigned long to)
{
	return (to - from) >> PAGE_SHIFT;
}

/*
 * Returns 0 if it seems that the small page at @at can be exchanged, or a reason. Takes a
 * reference to the page and drops it. Does not fault.
 */
static int probe(unsigned long at)
{
	struct folio *folio;
	struct page *page;
	int why;

	if (get_user_pages_fast_only(at, 1, FOLL_WRITE, &page) != 1) {
		/* The page is shared since fork(2), was never written to, or is not resident. */
		if (get_user_pages_fast_only(at, 1, 0, &page) != 1)
			return ZPIPE_REASON_SMALL;
		put_page(page);
		return ZPIPE_REASON_SHARED;
	}
	folio = page_folio(page);
	/* migrate_vma_setup() would split a large folio. */
	why = folio_test_large(folio) ? ZPIPE_REASON_SMALL : zpipe_check_folio(folio);
	/*
	 * The mapping has one reference, and this function another. A page that is not on
	 * an LRU list yet may have a third one, from the batch that will add it.
	 */
	if (!why && folio_ref_count(folio) > (folio_test_lru(folio) ? 2 : 3))
		why = ZPIPE_REASON_PINNED;
	put_page(page);
	return why;
}

/*
 * Sets @why to the result of probe() for the page at @at. Returns how many of the @n pages
 * at @at, from the first on, have the same result.
 */
static unsigned int probe_run(unsigned long at, unsigned int n, int *why)
{
	unsigned int i;

	*why = probe(at);
	for (i = 1; i < n; i++)
		if (probe(at + i * PAGE_SIZE) != *why)
			break;
	return i;
}

/*
 * Returns 0 if it seems that small pages at @at in the memory of the current task can be
 * exchanged, or a reason. The exchange is a move if @moves_in, and else a gift.
 *
 * It tests at most @n pages. The result is valid for the first @run of them. For a move it
 * faults in a page that is missing or shared. @pages has space for @n pointers. Sleeps, and
 * takes the mmap_lock.
 */
int zpipe_small_probe(unsigned long at, unsigned int n, bool moves_in, struct page **pages,
		      unsigned int *run)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool faulted = !moves_in;
	int why;

	*run = n;
	if (!PAGE_ALIGNED(at))
		return ZPIPE_REASON_SMALL;
again:
	if (!mm || READ_ONCE(zpipe_refuses) == 1 || mmap_read_lock_killable(mm))
		return ZPIPE_REASON_KERNEL;
	vma = vma_lookup(mm, at);
	if (vma)
		*run = n = min(n, pages_between(at, vma->vm_end));
	why = zpipe_check_vma(vma, at, at + n * PAGE_SIZE);
	if (!why)
		*run = probe_run(at, n, &why);
	mmap_read_unlock(mm);
	/*
	 * A move can exchange only a page that the reader has for itself. If the page is not
	 * resident, or shared, a write fault provides one.
	 */
	if (!faulted && (why == ZPIPE_REASON_SMALL || why == ZPIPE_REASON_SHARED)) {
		size_t bytes = *run * PAGE_SIZE;

		faulted = true;
		if (fault_in_safe_writeable((const char __user *)at, bytes) != bytes)
			goto again;
	}
	return why && why != ZPIPE_REASON_ZONE ? why : zpipe_leave_movable(at, *run, pages);
}

/*
 * Allocates at most @n replacements for the small pages at @at. They are pages of zeros,
 * obey the memory policy of these addresses, and are charged to no memory cgroup.
 *
 * Stores them in @pages and returns how many there are. It stops where an allocation
 * would need direct reclaim, and allocates none if the mmap_lock is not free.
 */
unsigned int zpipe_small_replacements(unsigned long at, unsigned int n, struct page **pages)
{
	/* The caller has a seat, for which other tasks wait, so it must not wait for reclaim. */
	const gfp_t gfp = (GFP_HIGHUSER_MOVABLE | __GFP_ZERO | __GFP_NOWARN) &
			  ~(__GFP_ACCOUNT | __GFP_DIRECT_RECLAIM);
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned int i = 0;

	if (!mm || !mmap_read_trylock(mm))
		return 0;
	vma = vma_lookup(mm, at);
	if (!zpipe_check_vma(vma, at, at + n * PAGE_SIZE))
		for (; i < n; i++) {
			struct folio *folio = vma_alloc_folio(gfp, 0, vma, at + i * PAGE_SIZE);

			if (!folio)
				break;
			pages[i] = &folio->page;
		}
	mmap_read_unlock(mm);
	return i;
}

/*
 * Prepares the replacement of at most @n pages that migrate_vma_setup() collected by those
 * in @with, and makes these the destinations of the migration.
 *
 * Returns how many pages, from the first on, can be replaced. Sets @why to the reason of
 * the next one, or to 0 if none was refused.
 */
static unsigned int prepare(struct migrate_vma *args, unsigned int n, struct page **with,
			    int *why)
{
	unsigned int i;

	n = min(n, args->npages);
	*why = READ_ONCE(zpipe_refuses) == 2 && n ? ZPIPE_REASON_KERNEL : 0;
	for (i = 0; !*why && i < n; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);
		struct folio *folio = page_folio(with[i]);

		/* Since probe() the page was locked, isolated or referenced by another task. */
		if (!page || (args->src[i] & MOVABLE) != MOVABLE ||
		    args->src[i] & MIGRATE_PFN_COMPOUND)
			*why = ZPIPE_REASON_KERNEL;
		else
			*why = zpipe_check_folio(page_folio(page)) ?: zpipe_check_with(folio);
		if (*why)
			break;
		zpipe_strip(folio);
		/* migrate_vma_finalize() unlocks and puts it, whether it was mapped or not. */
		folio_get(folio);
		folio_lock(folio);
		args->dst[i] = migrate_pfn(page_to_pfn(with[i]));
	}
	return i;
}

/*
 * Makes migrate_vma_pages() refuse one of three pages, for tests. It refuses a page with an
 * unexpected reference: @change is get_page() before that call and put_page() after it.
 */
static void refuse_some(struct migrate_vma *args, unsigned int n, void (*change)(struct page *))
{
	unsigned long first = args->start >> PAGE_SHIFT;
	unsigned int i;

	if (READ_ONCE(zpipe_refuses) == 3)
		for (i = 0; i < n; i++)
			if ((first + i) % 3 == 1)
				change(migrate_pfn_to_page(args->src[i]));
}

/* Returns true if migrate_vma_pages() has replaced the page of entry @i. */
static bool has_moved(struct migrate_vma *args, unsigned int i)
{
	return args->src[i] & MIGRATE_PFN_MIGRATE;
}

/*
 * Swaps the bytes of @page and of @with, which has replaced it. So the process finds the
 * same bytes as before, in another page. @buffer has space for one page.
 */
static void change_back(struct page *page, struct page *with, void *buffer)
{
	memcpy_from_page(buffer, page, 0, PAGE_SIZE);
	memcpy_page(page, 0, with, 0, PAGE_SIZE);
	memcpy_to_page(with, 0, buffer, PAGE_SIZE);
}

/*
 * Replaces the first @n pages that migrate_vma_setup() collected by those in @with.
 *
 * Returns how many pages, from the first on, left the process's memory. Pointers to these
 * pages are in @with then.
 *
 * migrate_vma_pages() may refuse a page in the middle, but replace pages after it. To keep
 * the order of the bytes, the process must keep the bytes of all these pages, so
 * change_back() undoes their replacement.
 */
static unsigned int replace(struct migrate_vma *args, unsigned int n, struct page **with)
{
	/* The array of source entries has this space after the entries for HPAGE_PMD_NR pages. */
	void *buffer = args->src + HPAGE_PMD_NR;
	unsigned int i, end;

	BUILD_BUG_ON(ZPIPE_GIFT_PFNS / 2 * sizeof(*args->src) <
		     HPAGE_PMD_NR * sizeof(*args->src) + PAGE_SIZE);
	refuse_some(args, n, get_page);
	migrate_vma_pages(args);
	refuse_some(args, n, put_page);

	for (end = 0; end < n && has_moved(args, end);)
		end++;
	for (i = 0; i < n; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);

		if (!has_moved(args, i))
			continue;
		get_page(page);
		/* Both pages are locked and not mapped, so no other task accesses them. */
		if (i > end)
			change_back(page, with[i], buffer);
		/* Its bytes must be kept, even if the old page was clean: it has other bytes. */
		folio_set_swapbacked(page_folio(with[i]));
		folio_set_dirty(page_folio(with[i]));
	}
	migrate_vma_finalize(args);
	for (i = 0; i < n; i++)
		if (has_moved(args, i)) {
			/* The mapping has its own reference. The caller's is not needed. */
			put_page(with[i]);
			with[i] = migrate_pfn_to_page(args->src[i]);
		}
	return end;
}

/*
 * Replaces at most @n small pages at @at in the memory of the current task by those in
 * @with. For a gift these are the replacements, for a move they are the gifted pages.
 *
 * The caller has the only reference to each page of @with. They are not mapped and not
 * charged. @pfns has space for ZPIPE_GIFT_PFNS numbers.
 *
 * Returns how many pages, from the first on, left the memory. Pointers to these are at the
 * start of @with: each page has one reference, and is not mapped and not charged. The rest
 * of @with has pages of the caller, too. They may be other pages than before, but have
 * the bytes that the caller put into @with. @why is the reason of the first page that
 * stayed, if not all left.
 *
 * Sleeps, and takes the mmap_lock for writing if it is free.
 */
unsigned int zpipe_small_exchange(unsigned long at, unsigned int n, struct page **with,
				  unsigned long *pfns, int *why)
{
	struct migrate_vma args;
	unsigned int all;

	*why = ZPIPE_REASON_SMALL;
	if (!n || n > HPAGE_PMD_NR || !PAGE_ALIGNED(at))
		return 0;
	*why = zpipe_begin_move(&args, at, at + n * PAGE_SIZE, pfns);
	if (*why)
		return 0;
	n = probe_run(at, n, why);
	if (!*why) {
		args.end = at + n * PAGE_SIZE;
		if (migrate_vma_setup(&args))
			*why = ZPIPE_REASON_MAPPING;
	}
	if (*why) {
		mmap_write_unlock(current->mm);
		return 0;
	}
	all = prepare(&args, n, with, why);
	n = replace(&args, all, with);
	if (n < all)
		*why = ZPIPE_REASON_KERNEL;
	mmap_write_unlock(current->mm);
	return n;
}

#else /* this kernel cannot gift or move pages: each is copied */

int zpipe_small_probe(unsigned long at, unsigned int n, bool moves_in, struct page **pages,
		      unsigned int *run)
{
	*run = n;
	return ZPIPE_REASON_KERNEL;
}

unsigned int zpipe_small_replacements(unsigned long at, unsigned int n, struct page **pages)
{
	return 0;
}

unsigned int zpipe_small_exchange(unsigned long at, unsigned int n, struct page **with,
				  unsigned long *pfns, int *why)
{
	*why = ZPIPE_REASON_KERNEL;
	return 0;
}

#endif
