// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers for the memory of the current task: iterators over it, its address ranges, how
 * much of it is resident, and faulting it in.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pkeys.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "helpers.h"

/* Returns true if all of the range can be user addresses. Touches no memory. */
bool zpipe_access_ok(unsigned long at, size_t bytes)
{
	return access_ok((void __user *)at, bytes);
}

/*
 * Initialises an iterator that reads from the current task's memory, as writev(2) does. The
 * caller has checked the @count ranges with zpipe_access_ok(). They have @bytes bytes.
 */
void zpipe_import_source(struct iov_iter *iter, const struct iovec *iov,
			 size_t count, size_t bytes)
{
	iov_iter_init(iter, ITER_SOURCE, iov, count, bytes);
}

/* Initialises an iterator that writes to the current task's memory, as readv(2) does. */
void zpipe_import_dest(struct iov_iter *iter, const struct iovec *iov, size_t count,
		       size_t bytes)
{
	iov_iter_init(iter, ITER_DEST, iov, count, bytes);
}

/*
 * Returns true if the address space still has users. Without users only its struct exists,
 * because of references to that.
 */
bool zpipe_mm_is_used(struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users) != 0;
}

/*
 * Stores the address ranges of what is left of an iterator in @spans, at most @max.
 *
 * Returns how many ranges there are, which may be more than @max. It leaves out empty
 * ranges. Returns 0 if the iterator is not over user memory.
 */
size_t zpipe_user_spans(const struct iov_iter *from, struct zpipe_span *spans,
			size_t max)
{
	struct iov_iter i = *from;
	size_t n = 0;

	if (!user_backed_iter(&i))
		return 0;
	while (iov_iter_count(&i)) {
		size_t len = min(iter_iov_len(&i), iov_iter_count(&i));

		if (len) {
			if (n < max) {
				spans[n].start = (size_t)iter_iov_addr(&i);
				spans[n].bytes = len;
			}
			n++;
		}
		/* This skips empty ranges, too. */
		iov_iter_advance(&i, len);
	}
	return n;
}

/* Returns true if nothing is mapped at @at. Sleeps, and takes the mmap_lock. */
static bool is_unmapped(const char __user *at)
{
	struct mm_struct *mm = current->mm;
	bool unmapped;

	if (mmap_read_lock_killable(mm))
		return false;
	unmapped = !vma_lookup(mm, (unsigned long)at);
	mmap_read_unlock(mm);
	return unmapped;
}

/*
 * fault_in_iov_iter_writeable() that also grows stacks. Returns how many of @bytes bytes
 * could not be faulted in. Sleeps.
 *
 * Only a real access makes a stack grow, so this loads from each range whose start is not
 * mapped. It does not load from mapped memory: a load from a device may have side effects.
 */
size_t zpipe_fault_in_writeable(const struct iov_iter *to, size_t bytes)
{
	struct iov_iter i = *to;
	size_t left = user_backed_iter(to) ? min(bytes, iov_iter_count(to)) : 0;

	while (left) {
		size_t len = min(iter_iov_len(&i), left);

		if (len && is_unmapped(iter_iov_addr(&i)) &&
		    fault_in_readable(iter_iov_addr(&i), 1))
			break;
		/* This skips empty ranges, too. */
		iov_iter_advance(&i, len);
		left -= len;
	}
	return fault_in_iov_iter_writeable(to, bytes);
}

/* Number of pages that are looked up in the page tables at a time. */
#define BATCH	64

/*
 * Returns how many of @bytes bytes, from the first on, can be read without a page fault.
 * Reads a byte of each page to find out.
 */
static size_t touch(const char __user *from, size_t bytes)
{
	size_t missing;

	pagefault_disable();
	missing = fault_in_readable(from, bytes);
	pagefault_enable();
	return bytes - missing;
}

/*
 * Returns how many of @bytes bytes, from the first on, are resident according to the page
 * tables. It may be fewer than can be read. Takes a reference to 64 pages at a time, and
 * drops it.
 */
static size_t resident_by_lookup(const char __user *from, size_t bytes)
{
	struct page *pages[BATCH];
	size_t done = 0;

	while (done < bytes) {
		size_t offset = offset_in_page(from + done);
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		int nr = get_user_pages_fast_only((unsigned long)from + done,
						  min(left, BATCH), 0, pages);

		if (nr <= 0)
			break;
		zpipe_put_pages(pages, nr);
		done = min(done + nr * PAGE_SIZE - offset, bytes);
	}
	return done;
}

/* Returns true if the byte at @from is resident, in a folio that a PMD entry can map. */
static bool in_huge_page(const char __user *from)
{
	struct page *page;
	bool huge;

	if (get_user_pages_fast_only((unsigned long)from, 1, 0, &page) != 1)
		return false;
	huge = folio_test_pmd_mappable(page_folio(page));
	put_page(page);
	return huge;
}

/*
 * As touch(), but faster for huge pages. A huge page has one entry in the page table. To
 * look up that entry takes less time than to touch 512 pages, each of which needs its own
 * address translation.
 */
static size_t resident_in_range(const char __user *from, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		const char __user *at = from + done;
		size_t len = min(bytes - done,
				 PMD_SIZE - ((unsigned long)at & ~PMD_MASK));
		size_t n = 0;

		if (len >= BATCH * PAGE_SIZE && in_huge_page(at))
			n = resident_by_lookup(at, len);
		n += touch(at + n, len - n);
		done += n;
		if (n < len)
			break;
	}
	return done;
}

/*
 * Returns how many of @bytes bytes, from the first on, are in mappings that other tasks may
 * read. It returns 0 while another thread changes the address space: it only tries the
 * mmap_lock.
 *
 * Other mappings, such as the registers of a device, must not be touched before the write
 * gets to their bytes.
 */
static size_t accessible_mappings(const char __user *from, size_t bytes)
{
	struct mm_struct *mm = current->mm;
	unsigned long start = (unsigned long)from, end = start + bytes;
	unsigned long at = start;

	if (!mm || !mmap_read_trylock(mm))
		return 0;
	while (at < end) {
		struct vm_area_struct *vma = vma_lookup(mm, at);

		if (!vma || zpipe_vma_is_owner_only(vma))
			break;
		at = min(end, vma->vm_end);
	}
	mmap_read_unlock(mm);
	return at - start;
}

/*
 * Skips @skip bytes of an iterator. Returns how many of the next @bytes bytes, from the
 * first on, are resident and may be read by other tasks.
 */
size_t zpipe_resident(const struct iov_iter *from, size_t skip, size_t bytes)
{
	struct iov_iter i = *from;
	size_t left = bytes;

	if (!user_backed_iter(&i))
		return bytes;
	iov_iter_advance(&i, skip);
	while (left) {
		size_t len = min(iter_iov_len(&i), left);
		size_t n = accessible_mappings(iter_iov_addr(&i), len);

		n = resident_in_range(iter_iov_addr(&i), n);

		left -= n;
		if (n < len)
			break;
		/* This skips empty ranges, too. */
		iov_iter_advance(&i, len);
	}
	return bytes - left;
}

/*
 * Returns true if only the owner may access the mapping. There are three such kinds:
 *
 * - It has a protection key. Only the owner's threads know their rights to it.
 * - It belongs to hugetlbfs, where a lookup of pages may sleep.
 * - It belongs to a device, and has no pages that could be looked up.
 */
bool zpipe_vma_is_owner_only(struct vm_area_struct *vma)
{
	return vma_pkey(vma) != 0 || is_vm_hugetlb_page(vma) ||
	       vma->vm_flags & (VM_IO | VM_PFNMAP);
}

/* Returns true if the mapping is of anonymous memory. */
bool zpipe_vma_is_anonymous(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma);
}
