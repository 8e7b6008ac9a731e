// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of 4 KiB that leave a process's memory, and such that come into it.
 *
 * As gift.c does it with one huge page, this does it with many pages at once, for a
 * caller that insists. To take one costs several times what a copy of it does: each has
 * a page table entry, a flush, references, locks and a charge of its own.
 */
#include <linux/highmem.h>
#include <linux/sched.h>

#include "gift.h"

#ifdef ZPIPE_MOVES

/* What a page has to be, and must not be. */
#define MOVABLE	(MIGRATE_PFN_MIGRATE | MIGRATE_PFN_WRITE)

static unsigned long pages_between(unsigned long from, unsigned long to)
{
	return (to - from) >> PAGE_SHIFT;
}

/* Why the page at @at cannot change owner; 0 if it seems that it can. */
static int probe(unsigned long at)
{
	struct folio *folio;
	struct page *page;
	int why;

	if (get_user_pages_fast_only(at, 1, FOLL_WRITE, &page) != 1) {
		/* Not writable: shared since a fork, or never written; or not there at all. */
		if (get_user_pages_fast_only(at, 1, 0, &page) != 1)
			return ZPIPE_REASON_SMALL;
		put_page(page);
		return ZPIPE_REASON_SHARED;
	}
	folio = page_folio(page);
	/* migrate_vma_setup() would split it. */
	why = folio_test_large(folio) ? ZPIPE_REASON_SMALL : zpipe_check_folio(folio);
	/* One of the mapping, one of ours, one of who is about to put it on the LRU. */
	if (!why && folio_ref_count(folio) > (folio_test_lru(folio) ? 2 : 3))
		why = ZPIPE_REASON_PINNED;
	put_page(page);
	return why;
}

/* Of the @n pages at @at, how many from the first on share its fate, which is @why. */
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
 * Whether pages can leave the current task's memory at @at, or come there if it @lands
 * them, of which there are @n at most: 0, or the reason why not. That is so for the
 * first @run pages. @pages has room for @n. Sleeps, takes the mmap_lock, and, to land,
 * faults.
 */
int zpipe_small_probe(unsigned long at, unsigned int n, bool lands, struct page **pages,
		      unsigned int *run)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool faulted = !lands;
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
	/* What is not there, or is shared, the kernel puts a page for, to be replaced. */
	if (!faulted && (why == ZPIPE_REASON_SMALL || why == ZPIPE_REASON_SHARED)) {
		size_t bytes = *run * PAGE_SIZE;

		faulted = true;
		if (fault_in_safe_writeable((const char __user *)at, bytes) != bytes)
			goto again;
	}
	return why && why != ZPIPE_REASON_ZONE ? why : zpipe_leave_movable(at, *run, pages);
}

/*
 * Puts @n pages of zeros for @at at most in @pages, from where its policy has them, and
 * charged to nobody; returns how many were to be had at once. Takes the mmap_lock, if it
 * is free.
 */
unsigned int zpipe_small_replacements(unsigned long at, unsigned int n, struct page **pages)
{
	/* Nobody waits for reclaim who has a slot of the pipe. */
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
 * Of what migrate_vma_setup() found, how many pages from the first on can be replaced by
 * those in @with, which are made ready for that; @why is of the next one.
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

		/* Locked or isolated by somebody, or referenced, since it was looked at. */
		if (!page || (args->src[i] & MOVABLE) != MOVABLE ||
		    args->src[i] & MIGRATE_PFN_COMPOUND)
			*why = ZPIPE_REASON_KERNEL;
		else
			*why = zpipe_check_folio(page_folio(page)) ?: zpipe_check_with(folio);
		if (*why)
			break;
		zpipe_strip(folio);
		/* migrate_vma_finalize() lets go of it, however this ends. */
		folio_get(folio);
		folio_lock(folio);
		args->dst[i] = migrate_pfn(page_to_pfn(with[i]));
	}
	return i;
}

/*
 * For tests: one reference more than it expects, and migrate_vma_pages() refuses; for
 * one page of three.
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

static bool has_moved(struct migrate_vma *args, unsigned int i)
{
	return args->src[i] & MIGRATE_PFN_MIGRATE;
}

/* @with is in the place of @page, but that is not to be: they have each other's bytes. */
static void change_back(struct page *page, struct page *with, void *buffer)
{
	memcpy_from_page(buffer, page, 0, PAGE_SIZE);
	memcpy_page(page, 0, with, 0, PAGE_SIZE);
	memcpy_to_page(with, 0, buffer, PAGE_SIZE);
}

/*
 * Has @n pages replaced that migrate_vma_setup() found, by those in @with, and returns how
 * many of them, from the first on, are: at the last moment one may be refused, and those
 * behind it keep their bytes then, for order's sake.
 */
static unsigned int replace(struct migrate_vma *args, unsigned int n, struct page **with)
{
	/* Of the room for entries that no page is behind. */
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
		/* Nobody can get at them: they are locked, and not mapped. */
		if (i > end)
			change_back(page, with[i], buffer);
		/* Whatever its mapping says of it, there are bytes in it to keep. */
		folio_set_swapbacked(page_folio(with[i]));
		folio_set_dirty(page_folio(with[i]));
	}
	migrate_vma_finalize(args);
	for (i = 0; i < n; i++)
		if (has_moved(args, i)) {
			/* The reference that was ours is the mapping's now. */
			put_page(with[i]);
			with[i] = migrate_pfn_to_page(args->src[i]);
		}
	return end;
}

/*
 * Takes pages from @at on out of the current task's memory, as far as it goes, @n at
 * most, and puts those at @with in their place: what a writer gifts, or what a reader
 * lands. Those that were taken are in @with then, each with one reference, mapped
 * nowhere and charged to nobody; behind them there are pages with the bytes of those that
 * were there. @pfns has room for ZPIPE_GIFT_PFNS.
 *
 * Returns how many were taken; @why tells of the next one, if that is not all. Sleeps,
 * and takes the mmap_lock for writing if it is free.
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

#else /* nothing can be moved */

int zpipe_small_probe(unsigned long at, unsigned int n, bool lands, struct page **pages,
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
