// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages that leave a process's memory, and such that come into it.
 *
 * A gift is a migration whose source nobody frees: migrate_vma_setup() takes the
 * page out of the page table, with a flush of the TLB, and makes sure that nobody
 * else has it; migrate_vma_pages() moves charge and flags to a page of ours;
 * migrate_vma_finalize() puts that one in its place. What is left is a page with
 * one reference, which is the pipe's.
 *
 * To land a page is the same with the page of the pipe as the one that is put in, in
 * place of a huge page of the reader's, which is then the module's. Where nothing is,
 * the kernel is asked for a page of its own first. migrate_vma_pages() would insert
 * one there, as a device's that comes back, but it leaves out what other huge pages
 * get when they are charged, a list of their memory cgroup for those that are to be
 * split (folio_memcg_alloc_deferred()): such a page would be put on one list, and
 * taken off another.
 *
 * The sequence follows Documentation/mm/hmm.rst, "Migration to and from device
 * memory"; what makes a page unfit is that of mm/migrate_device.c, and more.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pkeys.h>
#include <linux/sched.h>
#include <linux/userfaultfd_k.h>

#include "gift.h"

#ifdef ZPIPE_MOVES

/* What a page has to be for one migration entry to stand for all of it. */
#define WHOLE	(MIGRATE_PFN_MIGRATE | MIGRATE_PFN_COMPOUND | MIGRATE_PFN_WRITE)

u8 zpipe_refuses;

/*
 * For tests: refuse every page before (1) or after (2) migrate_vma_setup(), or as if
 * migrate_vma_pages() did (3; of small pages one of three).
 */
void zpipe_refuse_moves(u8 when)
{
	WRITE_ONCE(zpipe_refuses, when);
}

void zpipe_huge_put(struct folio *folio)
{
	folio_put(folio);
}

/* Whether it can take the place of another. */
bool zpipe_huge_fits(struct folio *folio)
{
	return !zpipe_check_with(folio);
}

/* Whether pages of @vma from @at to @end may change owner; a reason if not. */
int zpipe_check_vma(struct vm_area_struct *vma, unsigned long at, unsigned long end)
{
	if (!vma || at < vma->vm_start || end > vma->vm_end)
		return ZPIPE_REASON_MAPPING;
	/* What of the kinds of memory migrate_vma_setup() refuses is not repeated. */
	if (!vma_is_anonymous(vma) || !(vma->vm_flags & VM_WRITE) ||
	    vma->vm_flags & (VM_SHADOW_STACK | VM_DROPPABLE | VM_SPECIAL) ||
	    vma_pkey(vma))
		return ZPIPE_REASON_MAPPING;
	/* What is not to be seen elsewhere is not to come back elsewhere. */
	if (vma->vm_flags & (VM_WIPEONFORK | VM_DONTCOPY | VM_DONTDUMP))
		return ZPIPE_REASON_MAPPING;
	/* The replacement would look as if nobody had written to it. */
	if (pgtable_supports_soft_dirty() && !(vma->vm_flags & VM_SOFTDIRTY))
		return ZPIPE_REASON_TRACKED;
	if (userfaultfd_armed(vma))
		return ZPIPE_REASON_TRACKED;
	return 0;
}

/* Whether a page that nobody can change or take away now is its owner's alone. */
int zpipe_check_folio(struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_is_zone_device(folio))
		return ZPIPE_REASON_MAPPING;
	if (folio_test_ksm(folio) || folio_mapcount(folio) > 1)
		return ZPIPE_REASON_SHARED;
	/* Lazily freed: its contents may go at any moment. */
	if (folio_test_swapcache(folio) || !folio_test_swapbacked(folio))
		return ZPIPE_REASON_SWAP;
	if (folio_contain_hwpoisoned_page(folio))
		return ZPIPE_REASON_POISON;
	/* A pipe may keep it for as long as it likes. */
	if (folio_is_zone_movable(folio))
		return ZPIPE_REASON_ZONE;
	return 0;
}

/*
 * Why there is no huge page to be had at @at, which migrate_vma_setup() would split
 * to find out; 0 if there seems to be one. Takes a reference for a moment.
 */
static int probe(unsigned long at)
{
	bool whole, mapped_whole;
	struct folio *folio;
	struct page *page;
	int why;

	if (get_user_pages_fast_only(at, 1, FOLL_WRITE, &page) != 1) {
		/* Not writable: shared since a fork, or not there at all. */
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
	/* One of the mapping, one of ours. */
	if (!why && folio_ref_count(folio) > 2)
		why = ZPIPE_REASON_PINNED;
	put_page(page);
	return why;
}

/* What its last life left on a page that nothing maps. */
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
 * What migrate_vma_setup() collected is in the first entry, the others are empty: so
 * the rest of the way need not look at them, which would be most of its instructions.
 */
static void only_first(struct migrate_vma *args)
{
	args->npages = 1;
}

/*
 * Puts @with where the huge page at args->start is: 0, and that one is @out, with
 * one reference and nothing else; or a reason, and @with is as it was.
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
		/* Locked or isolated by somebody, referenced, or split meanwhile. */
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
		/* migrate_vma_finalize() lets go of it, however this ends. */
		folio_get(with);
		folio_lock(with);
		args->dst[0] = migrate_pfn(folio_pfn(with)) | MIGRATE_PFN_COMPOUND;
		/* One reference more than it expects, and it refuses. */
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
		/* Whatever its mapping says of it, there are bytes in it to keep. */
		folio_set_swapbacked(with);
		folio_set_dirty(with);
	}
	migrate_vma_finalize(args);
	if (!why) {
		/* The reference that was ours is the mapping's now. */
		folio_put(with);
		*out = folio;
	}
	return why;
}

/* What is at an address. */
enum stands {
	STANDS_NOTHING,		/* nothing, or the huge page of zeros */
	STANDS_HUGE,		/* a huge page */
	STANDS_TABLE,		/* a table of small pages, or what is no page */
};

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
	/* is_huge_zero_folio() is not for modules; that one is special, or else not anonymous. */
	if (pmd_special(pmd))
		return STANDS_NOTHING;
	if (get_user_pages_fast_only(at, 1, 0, &page) != 1)
		return STANDS_HUGE;
	zeros = !folio_test_anon(page_folio(page));
	put_page(page);
	return zeros ? STANDS_NOTHING : STANDS_HUGE;
}

/* Times that a page is looked at again that somebody holds. */
#define AGAIN	2

/*
 * Whether a reason may be gone with the next look: somebody may hold a page for a
 * moment who has it locked, for no reason of its owner's. Waits for that.
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

/* As probe(), and again if somebody holds the page for a moment. */
static int probe_again(unsigned long at)
{
	int why, times = 0;

	do
		why = probe(at);
	while (again(why, at, &times));
	return why;
}

/*
 * A pipe may keep pages for as long as it likes: as for I/O that takes long, the @n pages
 * at @at have to leave memory that has to stay movable. A reason, or 0. @pages has room
 * for @n.
 */
int zpipe_leave_movable(unsigned long at, unsigned int n, struct page **pages)
{
	long pinned = pin_user_pages_fast(at, n, FOLL_WRITE | FOLL_LONGTERM, pages);

	if (pinned > 0)
		unpin_user_pages(pages, pinned);
	return pinned == n ? 0 : ZPIPE_REASON_ZONE;
}

/*
 * Why the huge page at @at cannot leave the current task's memory; 0 if it seems that
 * it can. Sleeps, and takes the mmap_lock.
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
 * Why a huge page cannot come to @at in the current task's memory; 0 if it seems that
 * it can. Where nothing is it has the kernel put a page. Sleeps, faults, and takes the
 * mmap_lock.
 */
int zpipe_land_probe(unsigned long at)
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
 * A huge page of zeros for @at, from where its policy has it, and charged to nobody.
 * NULL if there is none to be had at once. Sleeps, and takes the mmap_lock.
 */
struct folio *zpipe_gift_replacement(unsigned long at)
{
	/* One that takes compaction is not worth it, nor a word in the log. */
	const gfp_t gfp = (GFP_TRANSHUGE_LIGHT | __GFP_ZERO | __GFP_NOWARN) &
			  ~__GFP_ACCOUNT;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct folio *folio = NULL;

	/* As in zpipe_begin_move(). */
	if (!mm || !mmap_read_trylock(mm))
		return NULL;
	vma = vma_lookup(mm, at);
	if (!zpipe_check_vma(vma, at, at + HPAGE_PMD_SIZE))
		folio = vma_alloc_folio(gfp, HPAGE_PMD_ORDER, vma, at);
	mmap_read_unlock(mm);
	return folio;
}

/* Whether somebody has a VMA locked against writers. */
static bool is_read(struct vm_area_struct *vma)
{
#ifdef CONFIG_PER_VMA_LOCK
	/* One is for being attached. */
	return refcount_read(&vma->vm_refcnt) > 1;
#else
	return false;
#endif
}

/* As mmap_read_trylock(), for writing, which the kernel does not have. */
static bool lock_if_free(struct mm_struct *mm)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;
	mm_lock_seqcount_begin(mm);
	return true;
}

/*
 * Gets the current task's memory from @at to @end ready for other pages to be put in:
 * 0, and the mmap_lock is held for writing; or a reason.
 *
 * For writing, and with the VMA locked against faults, too: madvise(2) zaps under
 * less, and migrate_vma_collect_pmd(), whose table of small pages is taken away while
 * it splits a folio in it, begins anew behind what it has collected. What it finds is
 * then one huge page, or, split by reclaim just now, a table that stays. The arrays
 * have room for either, and for both.
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
	 * Others wait for who comes here: it has a slot of the pipe, or the page at its
	 * front. So it does not wait for whoever has the lock of its memory.
	 */
	if (!mm || !lock_if_free(mm))
		return ZPIPE_REASON_KERNEL;
	args->vma = vma_lookup(mm, at);
	why = zpipe_check_vma(args->vma, at, end);
	/* Nor for who faults there, or zaps: it may take long over that. */
	if (!why && (is_read(args->vma) || vma_start_write_killable(args->vma)))
		why = ZPIPE_REASON_KERNEL;
	if (why)
		mmap_write_unlock(mm);
	return why;
}

/* Whether @with may take the place of a page; a reason if not. */
int zpipe_check_with(struct folio *with)
{
	if (folio_contain_hwpoisoned_page(with))
		return ZPIPE_REASON_POISON;
	/* The charge of what it replaces would not move to it. */
	return folio_memcg_charged(with) ? ZPIPE_REASON_KERNEL : 0;
}

/*
 * Takes the huge page at @at out of the current task's memory; @with, nobody's, takes
 * its place: what a writer gifts, or what a reader lands. @pfns has room for
 * ZPIPE_GIFT_PFNS. Returns 0 and the page in @out, with one reference, mapped nowhere
 * and charged to nobody; or a reason, and all is as it was. Sleeps, and takes the
 * mmap_lock for writing if it is free.
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

#else /* no huge pages, or none that can be moved */

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

int zpipe_land_probe(unsigned long at)
{
	return ZPIPE_REASON_KERNEL;
}

#endif
