// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies between pages and an iov_iter with page faults disabled, and the release of
 * pages that were looked up for such a copy.
 */
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "helpers.h"

static u8 cut_copies;

/*
 * Makes copies stop short, for tests.
 *
 * 0: no copy is cut. 1: about every second copy stops in the middle, as if a page there
 * were not resident. 2: every copy stops before its first byte, even after the memory
 * was faulted in.
 */
void zpipe_cut_copies(u8 how)
{
	WRITE_ONCE(cut_copies, how);
}

/* Returns how many of @bytes bytes the next copy may attempt, see zpipe_cut_copies(). */
static size_t cut(size_t bytes)
{
	static atomic_t copies;
	u8 how = READ_ONCE(cut_copies);

	if (likely(!how))
		return bytes;
	if (how == 2)
		return 0;
	/* A hash has no period. With a period, a call could find the same copy cut each time. */
	return hash_32(atomic_inc_return(&copies), 1) ? bytes / 2 : bytes;
}

/* copy_page_from_iter() that stops short where it would need a page fault. */
size_t zpipe_page_from_iter_atomic(struct page *page, size_t offset,
				   size_t bytes, struct iov_iter *from)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_from_iter(page, offset, cut(bytes), from);
	pagefault_enable();
	return copied;
}

/* copy_page_to_iter() that stops short where it would need a page fault. */
size_t zpipe_page_to_iter_atomic(struct page *page, size_t offset,
				 size_t bytes, struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_to_iter(page, offset, cut(bytes), to);
	pagefault_enable();
	return copied;
}

/* Returns how many of @count pages, from the first on, are consecutive pages of one folio. */
static size_t run_of(struct page **pages, size_t count)
{
	struct folio *folio = page_folio(pages[0]);
	size_t n = 1;

	count = min(count, folio_nr_pages(folio) - folio_page_idx(folio, pages[0]));
	while (n < count && pages[n] == pages[0] + n)
		n++;
	return n;
}

/*
 * Copies at most @bytes bytes from an iterator to @pages, beginning at @offset in the
 * first page. @pages are as many as these bytes need. Returns the number of bytes
 * copied. The copy stops short where it would need a page fault.
 */
size_t zpipe_pages_from_iter_atomic(struct page **pages, size_t offset,
				    size_t bytes, struct iov_iter *from)
{
	size_t done = 0;

	bytes = cut(bytes);
	pagefault_disable();
	while (done < bytes) {
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		size_t run = run_of(pages, left);
		size_t want = min(bytes - done, run * PAGE_SIZE - offset);
		size_t n = copy_page_from_iter(*pages, offset, want, from);

		done += n;
		if (n < want)
			break;
		pages += run;
		offset = 0;
	}
	pagefault_enable();
	return done;
}

/*
 * Tests whether the next byte of an iterator can be written without a page fault, by
 * writing a zero there. The caller has disabled page faults.
 *
 * The caller may hold a lock, so fault_in_iov_iter_writeable() cannot be used:
 * it handles faults explicitly, even with page faults disabled.
 */
static bool is_writable(const struct iov_iter *to)
{
	struct iov_iter i = *to;
	char zero = 0;

	return copy_to_iter(&zero, 1, &i) == 1;
}

/*
 * Copies at most @bytes bytes from @pages, beginning at @offset in the first page, to an
 * iterator. @pages belong to the owner of a posted write. Returns the number of bytes
 * copied. The copy stops short where it would need a page fault, and at bad memory.
 * Sets @bad to whether bad memory stopped it.
 *
 * An ordinary copy from bad memory would bring the machine down. Here the bad page
 * counts as not resident, which is a miss, so the owner must withdraw. The owner then
 * copies from its own memory, and the kernel reports the error to the owner.
 *
 * A copy also stops if a byte of @to is not resident. That byte may become resident
 * right afterwards. So the source byte counts as bad only if one more copy of it fails.
 */
size_t zpipe_pages_to_iter_atomic(struct page **pages, size_t offset,
				  size_t bytes, struct iov_iter *to, bool *bad)
{
	size_t done = 0;

	/* The pages of a run are one range of kernel addresses only without highmem. */
	BUILD_BUG_ON(IS_ENABLED(CONFIG_HIGHMEM));
	*bad = false;
	bytes = cut(bytes);
	pagefault_disable();
	while (done < bytes) {
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		size_t run = run_of(pages, left);
		size_t want = min(bytes - done, run * PAGE_SIZE - offset);
		size_t n = _copy_mc_to_iter(page_address(*pages) + offset, want,
					    to);

		done += n;
		if (n < want) {
			if (!is_writable(to))
				break;
			n = _copy_mc_to_iter(page_address(*pages) + offset + n,
					     1, to);
			done += n;
			*bad = !n;
			break;
		}
		pages += run;
		offset = 0;
	}
	pagefault_enable();
	return done;
}

/*
 * Copies at most @bytes bytes from @offset in a folio that belongs to the pipe to an
 * iterator. Returns the number of bytes copied. The copy stops short where it would need
 * a page fault, and at bad memory, which does not bring the machine down.
 */
size_t zpipe_folio_to_iter_atomic(struct folio *folio, size_t offset, size_t bytes,
				  struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = _copy_mc_to_iter(folio_address(folio) + offset, cut(bytes), to);
	pagefault_enable();
	return copied;
}

/* Drops one reference to each of @count pages. */
void zpipe_put_pages(struct page **pages, size_t count)
{
	while (count) {
		size_t run = run_of(pages, count);

		folio_put_refs(page_folio(*pages), run);
		pages += run;
		count -= run;
	}
}

/*
 * Marks @count pinned pages of anonymous memory dirty, and unpins them.
 *
 * Follows unpin_user_pages_dirty_lock(), but does not take the folio lock, which sleeps.
 * Only folios of files need that lock: it keeps truncation from removing them.
 */
void zpipe_unpin_anonymous_dirty(struct page **pages, size_t count)
{
	size_t i;

	for (i = 0; i < count; i += run_of(pages + i, count - i))
		if (!folio_test_dirty(page_folio(pages[i])))
			folio_mark_dirty(page_folio(pages[i]));
	unpin_user_pages(pages, count);
}
