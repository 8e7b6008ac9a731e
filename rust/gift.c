// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gifts and moves of huge pages: the exchange of a huge page in the memory of the current
 * task for another one.
 *
 * A gift is a migration whose source page is kept:
 *
 * - migrate_vma_setup() takes the page out of the page table, flushes the TLB, and
 *   makes sure that there are no other references.
 * - migrate_vma_pages() transfers the charge and the flags to the replacement.
 * - migrate_vma_finalize() maps the replacement.
 *
 * The gifted page is left with one reference, which belongs to the pipe.
 *
 * A move is the same with other roles. The gifted page is the one that is mapped, and the
 * module gets the huge page that was in the reader's memory. If nothing is mapped
 * there, the kernel is asked to fault in a huge page first.
 *
 * migrate_vma_pages() could insert the gifted page where nothing is mapped, as it does for
 * device memory. But it does not call folio_memcg_alloc_deferred(), as other charges of
 * huge pages do. That allocates the list of the memory cgroup for huge pages to be split.
 * Without it the page would be added to one list and removed from another.
 *
 * The sequence follows Documentation/mm/hmm.rst, "Migration to and from device memory".
 * A page is refused for all reasons in mm/migrate_device.c, and for some more.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pkeys.h>
#include <linux/sched.h>
#include <linux/userfaultfd_k.h>

#include "gift.h"

#ifdef ZPIPE_MOVES

/* The flags of a source entry that stands for a whole huge page that may be exchanged. */
#define WHOLE	(MIGRATE_PFN_MIGRATE | MIGRATE_PFN_COMPOUND | MIGRATE_PFN_WRITE)

u8 zpipe_refuses;

/*
 * Sets the step at which exchanges of pages are refused, for tests.
 *
 * 0: none is refused. 1: each is refused before migrate_vma_setup(). 2: each is refused
 * after it. 3: migrate_vma_pages() refuses each huge page, and one of three small pages.
 */
void zpipe_refuse_moves(u8 when)
{
	WRITE_ONCE(zpipe_refuses, when);
}

/* Drops one reference to a huge page or a frame. */
void zpipe_huge_put(struct folio *folio)
{
	folio_put(folio);
}

/* Returns true if the huge page can be a replacement, see zpipe_check_with(). */
bool zpipe_huge_fits(struct folio *folio)
{
	return !zpipe_check_with(folio);
}

/*
 * Returns 0 if pages from @at to @end may leave or enter the memory of @vma, or a reason.
 * @vma may be NULL. The caller holds the mmap_lock.
 */
int zpipe_check_vma(struct vm_area_struct *vma, unsigned long at, unsigned long end)
{
	if (!vma || at < vma->vm_start || end > vma->vm_end)
		return ZPIPE_REASON_MAPPING;
	/* migrate_vma_setup() refuses hugetlbfs and DAX, too, but these are not anonymous. */
	if (!vma_is_anonymous(vma) || !(vma->vm_flags & VM_WRITE) ||
	    vma->vm_flags & (VM_SHADOW_STACK | VM_DROPPABLE | VM_SPECIAL) ||
	    vma_pkey(vma))
		return ZPIPE_REASON_MAPPING;
	/* No child and no core dump may see this memory, so no other process gets its pages. */
	if (vma->vm_flags & (VM_WIPEONFORK | VM_DONTCOPY | VM_DONTDUMP))
		return ZPIPE_REASON_MAPPING;
	/* Writes are tracked, and the replacement would look as if it was never written to. */
	if (pgtable_supports_soft_dirty() && !(vma->vm_flags & VM_SOFTDIRTY))
		return ZPIPE_REASON_TRACKED;
	if (userfaultfd_armed(vma))
		return ZPIPE_REASON_TRACKED;
	return 0;
}

/*
 * Returns 0 if only one process has the folio and may give it away, or a reason. The
 * caller makes sure that the folio is not freed meanwhile.
 */
int zpipe_check_folio(struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_is_zone_device(folio))
		return ZPIPE_REASON_MAPPING;
	if (folio_test_ksm(folio) || folio_mapcount(folio) > 1)
		return ZPIPE_REASON_SHARED;
	/* A page that is not swap-backed was freed lazily: the kernel may discard its bytes. */
	if (folio_test_swapcache(folio) || !folio_test_swapbacked(folio))
		return ZPIPE_REASON_SWAP;
	if (folio_contain_hwpoisoned_page(folio))
		return ZPIPE_REASON_POISON;
	/* The pipe may keep the page for long, but ZONE_MOVABLE has to stay movable. */
	if (folio_is_zone_movable(folio))
		return ZPIPE_REASON_ZONE;
	return 0;
}

/*
 * Returns 0 if there seems to be a huge page at @at that can be exchanged, or a reason.
 *
 * migrate_vma_setup() would split an unfit huge page only to find that it is unfit, so
 * this tests it before. Takes a reference to the page and drops it. Does not fault.
 */
static int probe(unsigned long at)
{
	bool whole, mapped_whole;
	struct folio *folio;
	struct page *page;
	int why;

	if (get_user_pages_fast_only(at, 1, FOLL_WRITE, &page) != 1) {
		/* The page is not writable, for example shared since fork(2), or not resident. */
		if (get_user_pages_fast_only(at, 1, 0, &page) != 1)
			return ZPIPE_REASON_SMALL;
		whole = folio_order(page_folio(page)) == HPAGE_PMD_ORDER;
		put_page(page);
		return whole ? ZPIPE_REASON_SHARED : ZPIPE_REASON_SMALL;
	}
	folio = page_folio(page);
	whole = folio_order(folio) == HPAGE_PMD_ORDER && page == &folio->page;
	mapped_whole = whole && folio_entire_mapcount(folio) == folio_mapcount(folio);
	why = mapped_whole ? zpipe_check_folio(folio) : ZPIPE_REASON_SMALL;
	/* The mapping has one reference, and this function another. */
	if (!why && folio_ref_count(folio) > 2)
		why = ZPIPE_REASON_PINNED;
	put_page(page);
	return why;
}

/*
 * Clears the state that the previous use left in a folio that nothing maps, so that it can
 * be the destination of a migration.
 */
void zpipe_strip(struct folio *folio)
{
	folio->mapping = NULL;
	folio->index = 0;
	folio->private = NULL;
	folio_clear_active(folio);
	folio_clear_referenced(folio);
	folio_clear_dirty(folio);
	folio_clear_workingset(folio);
	folio_clear_swapbacked(folio);
	folio_clear_unevictable(folio);
	folio_clear_uptodate(folio);
}

/*
 * Limits the rest of a migration to the first entry.
 *
 * The first entry stands for the whole huge page, and the other 511 are empty. To walk over
 * these would take most of the migration's instructions.
 */
static void only_first(struct migrate_vma *args)
{
	args->npages = 1;
}

/*
 * Replaces the huge page at args->start with @with.
 *
 * Returns 0, and the page that was there in @out: it has one reference, which is the
 * caller's, no mapping and no charge. The reference of the caller to @with is gone then.
 * Or returns a reason, and @with still has that one reference.
 */
static int exchange(struct migrate_vma *args, struct folio *with, struct folio **out)
{
	struct folio *folio;
	struct page *page;
	int why;

	if (migrate_vma_setup(args))
		return ZPIPE_REASON_MAPPING;
	page = migrate_pfn_to_page(args->src[0]);
	folio = page ? page_folio(page) : NULL;
	if (!folio)
		/* The page was locked, isolated, referenced by others, or split meanwhile. */
		why = ZPIPE_REASON_KERNEL;
	else if ((args->src[0] & WHOLE) != WHOLE)
		why = args->src[0] & MIGRATE_PFN_COMPOUND ? ZPIPE_REASON_SHARED :
							    ZPIPE_REASON_SMALL;
	else
		why = READ_ONCE(zpipe_refuses) == 2 ? ZPIPE_REASON_KERNEL :
						      zpipe_check_folio(folio);
	if (!why) {
		only_first(args);
		zpipe_strip(with);
		/* migrate_vma_finalize() unlocks and puts it, whether it was mapped or not. */
		folio_get(with);
		folio_lock(with);
		args->dst[0] = migrate_pfn(folio_pfn(with)) | MIGRATE_PFN_COMPOUND;
		/* For tests: migrate_vma_pages() refuses a page with an unexpected reference. */
		if (READ_ONCE(zpipe_refuses) == 3)
			folio_get(folio);
	}
	migrate_vma_pages(args);
	if (!why && READ_ONCE(zpipe_refuses) == 3)
		folio_put(folio);
	if (!why && !(args->src[0] & MIGRATE_PFN_MIGRATE))
		why = ZPIPE_REASON_KERNEL;
	if (!why) {
		folio_get(folio);
		/* Its bytes must be kept, even if the old page was clean: it has other bytes. */
		folio_set_swapbacked(with);
		folio_set_dirty(with);
	}
	migrate_vma_finalize(args);
	if (!why) {
		/* The mapping has its own reference to @with. The caller's is not needed. */
		folio_put(with);
		*out = folio;
	}
	return why;
}

/* What the page tables have at an address, for 2 MiB. */
enum stands {
	STANDS_NOTHING,		/* no entry, or the huge zero page */
	STANDS_HUGE,		/* a PMD entry that maps a huge page */
	STANDS_TABLE,		/* a table of small pages, or an entry of another kind */
};

/* Returns what the page tables of @mm have at @at. The caller holds the mmap_lock. */

static enum stands stands(struct mm_struct *mm, unsigned long at)
{
	struct page *page;
	bool zeros;
	pgd_t *pgd;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t pmd;

	pgd = pgd_offset(mm, at);
	if (pgd_none(*pgd))
		return STANDS_NOTHING;
	p4d = p4d_offset(pgd, at);
	if (p4d_none(*p4d))
		return STANDS_NOTHING;
	pud = pud_offset(p4d, at);
	if (pud_none(*pud))
		return STANDS_NOTHING;
	if (pud_leaf(*pud) || pud_bad(*pud))
		return STANDS_TABLE;
	pmd = pmdp_get_lockless(pmd_offset(pud, at));
	if (pmd_none(pmd))
		return STANDS_NOTHING;
	if (!pmd_trans_huge(pmd))
		return STANDS_TABLE;
	/*
	 * Modules cannot call is_huge_zero_folio(). The entry of the huge zero page is
	 * special on some kernels. On the others that page is recognised below: it is not
	 * anonymous.
	 */
	if (pmd_special(pmd))
		return STANDS_NOTHING;
	if (get_user_pages_fast_only(at, 1, 0, &page) != 1)
		return STANDS_HUGE;
	zeros = !folio_test_anon(page_folio(page));
	put_page(page);
	return zeros ? STANDS_NOTHING : STANDS_HUGE;
}

/* Number of times that a page is tested again that another task may hold for a moment. */
#define AGAIN	2

/*
 * Returns true if the page at @at was refused for the reason @why and should be tested
 * again. @times counts these calls.
 *
 * Another task, such as reclaim, may hold the page for a moment and have it locked. So
 * this waits until the page is unlocked. Sleeps.
 */
static bool again(int why, unsigned long at, int *times)
{
	struct folio *folio;
	struct page *page;

	if (why != ZPIPE_REASON_KERNEL && why != ZPIPE_REASON_PINNED)
		return false;
	if ((*times)++ == AGAIN || get_user_pages_fast_only(at, 1, FOLL_WRITE, &page) != 1)
		return false;
	folio = page_folio(page);
	if (folio_test_locked(folio) && !folio_lock_killable(folio))
		folio_unlock(folio);
	put_page(page);
	return true;
}

/* probe(), repeated while another task seems to hold the page for a moment. Sleeps. */
static int probe_again(unsigned long at)
{
	int why, times = 0;

	do
		why = probe(at);
	while (again(why, at, &times));
	return why;
}

/*
 * Migrates the @n pages at @at out of memory that has to stay movable (ZONE_MOVABLE and
 * CMA). Returns 0 or a reason.
 *
 * A pipe may keep pages for long, so they are treated like pages for long-term I/O: this
 * pins them with FOLL_LONGTERM, and unpins them. @pages has space for @n pointers. Sleeps,
 * faults, and takes the mmap_lock.
 */
int zpipe_leave_movable(unsigned long at, unsigned int n, struct page **pages)
{
	long pinned = pin_user_pages_fast(at, n, FOLL_WRITE | FOLL_LONGTERM, pages);

	if (pinned > 0)
		unpin_user_pages(pages, pinned);
	return pinned == n ? 0 : ZPIPE_REASON_ZONE;
}

/*
 * Returns 0 if it seems that the huge page at @at in the memory of the current task can be
 * gifted, or a reason. Sleeps, and takes the mmap_lock.
 */
int zpipe_gift_probe(unsigned long at)
{
	struct mm_struct *mm = current->mm;
	struct page *page;
	int why;

	if (!IS_ALIGNED(at, HPAGE_PMD_SIZE))
		return ZPIPE_REASON_SMALL;
	if (!mm || READ_ONCE(zpipe_refuses) == 1 || mmap_read_lock_killable(mm))
		return ZPIPE_REASON_KERNEL;
	why = zpipe_check_vma(vma_lookup(mm, at), at, at + HPAGE_PMD_SIZE);
	if (!why)
		why = probe_again(at);
	mmap_read_unlock(mm);
	return why && why != ZPIPE_REASON_ZONE ? why : zpipe_leave_movable(at, 1, &page);
}

/*
 * Returns 0 if it seems that a huge page can be moved to @at in the memory of the current
 * task, or a reason. If nothing is mapped there, it faults in a page, which the move will
 * exchange. Sleeps, faults, and takes the mmap_lock.
 */
int zpipe_move_probe(unsigned long at)
{
	struct mm_struct *mm = current->mm;
	struct page *page;
	bool faulted = false;
	int why;

	if (!IS_ALIGNED(at, HPAGE_PMD_SIZE))
		return ZPIPE_REASON_SMALL;
again:
	if (!mm || READ_ONCE(zpipe_refuses) == 1 || mmap_read_lock_killable(mm))
		return ZPIPE_REASON_KERNEL;
	why = zpipe_check_vma(vma_lookup(mm, at), at, at + HPAGE_PMD_SIZE);
	if (!why)
		switch (stands(mm, at)) {
		case STANDS_NOTHING:
			mmap_read_unlock(mm);
			if (faulted || fault_in_safe_writeable((const char __user *)at, 1))
				return ZPIPE_REASON_SMALL;
			faulted = true;
			goto again;
		case STANDS_HUGE:
			why = probe_again(at);
			break;
		case STANDS_TABLE:
			why = ZPIPE_REASON_SMALL;
		}
	mmap_read_unlock(mm);
	return why && why != ZPIPE_REASON_ZONE ? why : zpipe_leave_movable(at, 1, &page);
}

/*
 * Allocates a replacement for the huge page at @at. It is a huge page of zeros, obeys the
 * memory policy of that address, and is charged to no memory cgroup.
 *
 * Returns NULL if that needs reclaim or compaction, if the mmap_lock is not free, or if
 * pages at @at may not be exchanged. May sleep to clear the page. The caller may have a
 * seat.
 */
struct folio *zpipe_gift_replacement(unsigned long at)
{
	/* Compaction would cost more than the copy does. A failure is normal: no warning. */
	const gfp_t gfp = (GFP_TRANSHUGE_LIGHT | __GFP_ZERO | __GFP_NOWARN) &
			  ~__GFP_ACCOUNT;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct folio *folio = NULL;

	/* It only tries the mmap_lock, for the reason in zpipe_begin_move(). */
	if (!mm || !mmap_read_trylock(mm))
		return NULL;
	vma = vma_lookup(mm, at);
	if (!zpipe_check_vma(vma, at, at + HPAGE_PMD_SIZE))
		folio = vma_alloc_folio(gfp, HPAGE_PMD_ORDER, vma, at);
	mmap_read_unlock(mm);
	return folio;
}

/* Returns true if a task holds the read lock of a VMA, which a page fault does. */
static bool is_read(struct vm_area_struct *vma)
{
#ifdef CONFIG_PER_VMA_LOCK
	/* The VMA has one reference because it is attached. */
	return refcount_read(&vma->vm_refcnt) > 1;
#else
	return false;
#endif
}

/* Tries the mmap_lock for writing. The kernel has mmap_read_trylock(), but not this. */
static bool lock_if_free(struct mm_struct *mm)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;
	mm_lock_seqcount_begin(mm);
	return true;
}

/*
 * Prepares an exchange of pages from @at to @end in the memory of the current task. Fills
 * in @args. Returns 0 with the mmap_lock held for writing, or a reason without it.
 *
 * It takes the mmap_lock for writing, and write-locks the VMA against page faults. Less is
 * not enough, because of migrate_vma_collect_pmd(). That function drops the page table
 * lock to split a folio. madvise(2), which needs only the VMA's read lock, may free the
 * table meanwhile. Then the function starts again, but appends to the entries that it
 * has filled, and could fill more of them than the range has pages.
 *
 * With both locks held, it finds one entry for a huge page. If reclaim has just split the
 * huge page, it finds a table of small pages, which stays. @pfns has space for
 * ZPIPE_GIFT_PFNS numbers, which is enough for both one after the other.
 */
int zpipe_begin_move(struct migrate_vma *args, unsigned long at, unsigned long end,
		     unsigned long *pfns)
{
	struct mm_struct *mm = current->mm;
	int why;

	BUILD_BUG_ON(ZPIPE_GIFT_PFNS < 4 * HPAGE_PMD_NR);
	*args = (struct migrate_vma) {
		.src = pfns, .dst = pfns + ZPIPE_GIFT_PFNS / 2,
		.start = at, .end = end,
		.flags = MIGRATE_VMA_SELECT_SYSTEM | MIGRATE_VMA_SELECT_COMPOUND,
	};
	/*
	 * The caller has a seat or a claim, for which other tasks wait. So it must not wait
	 * for the tasks that hold the mmap_lock.
	 */
	if (!mm || !lock_if_free(mm))
		return ZPIPE_REASON_KERNEL;
	args->vma = vma_lookup(mm, at);
	why = zpipe_check_vma(args->vma, at, end);
	/* Nor must it wait for a task that faults or zaps there, which may take long. */
	if (!why && (is_read(args->vma) || vma_start_write_killable(args->vma)))
		why = ZPIPE_REASON_KERNEL;
	if (why)
		mmap_write_unlock(mm);
	return why;
}

/* Returns 0 if @with may replace a page in a process's memory, or a reason. */
int zpipe_check_with(struct folio *with)
{
	if (folio_contain_hwpoisoned_page(with))
		return ZPIPE_REASON_POISON;
	/* The charge of the page that it replaces could not be transferred to it. */
	return folio_memcg_charged(with) ? ZPIPE_REASON_KERNEL : 0;
}

/*
 * Replaces the huge page at @at in the memory of the current task with @with. For a gift
 * @with is the replacement, for a move it is the gifted page.
 *
 * The caller has the only reference to @with, which is not mapped and not charged. @pfns
 * has space for ZPIPE_GIFT_PFNS numbers.
 *
 * Returns 0, and in @out the page that was there, with one reference, not mapped and not
 * charged. Or returns a reason, and nothing has changed. Sleeps, and takes the mmap_lock
 * for writing if it is free.
 */
int zpipe_gift_page(unsigned long at, struct folio *with, unsigned long *pfns,
		    struct folio **out)
{
	struct migrate_vma args;
	int why = IS_ALIGNED(at, HPAGE_PMD_SIZE) ? zpipe_check_with(with) :
						   ZPIPE_REASON_SMALL;

	if (!why)
		why = zpipe_begin_move(&args, at, at + HPAGE_PMD_SIZE, pfns);
	if (!why) {
		why = probe(at);
		if (!why)
			why = exchange(&args, with, out);
		mmap_write_unlock(current->mm);
	}
	return why;
}

#else /* this kernel cannot gift or move pages: each is copied */

void zpipe_refuse_moves(u8 when)
{
}

int zpipe_gift_probe(unsigned long at)
{
	return ZPIPE_REASON_KERNEL;
}

struct folio *zpipe_gift_replacement(unsigned long at)
{
	return NULL;
}

void zpipe_huge_put(struct folio *folio)
{
	folio_put(folio);
}

int zpipe_gift_page(unsigned long at, struct folio *with, unsigned long *pfns,
		    struct folio **out)
{
	return ZPIPE_REASON_KERNEL;
}

bool zpipe_huge_fits(struct folio *folio)
{
	return false;
}

int zpipe_move_probe(unsigned long at)
{
	return ZPIPE_REASON_KERNEL;
}

#endif
