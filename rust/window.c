// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files, the mappings and the frames of windows. Frames are huge pages that belong to
 * the kernel module and are mapped into processes, like those of a DAX device.
 *
 * A mapping must not have VM_MIXEDMAP. When a PMD entry of such a mapping is split,
 * __split_huge_pmd_locked() does not drop the folio's reference and its map counts.
 * vmf_insert_folio_pmd() does not need that flag. vm_insert_page() would set it.
 */
#include <linux/anon_inodes.h>
#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/uio.h>

#include "helpers.h"

/*
 * Creates the file of a window, with an inode and an address space that no other file has.
 * It has @bytes bytes. It can be written to if @writes. Returns an error pointer on
 * failure. Sleeps.
 */
struct file *zpipe_window_file(const struct file_operations *fops, void *private,
			       bool writes, loff_t bytes)
{
	int flags = (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	struct file *file;

	file = anon_inode_create_getfile("[zpipe-window]", fops, private, flags, NULL);
	if (!IS_ERR(file))
		i_size_write(file_inode(file), bytes);
	return file;
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE

/* Returns true if this kernel has huge pages, without which there are no frames. */
bool zpipe_has_frames(void)
{
	return true;
}

/* Finds a free address for a mapping of a window, aligned so that PMD entries can map frames. */
unsigned long zpipe_window_area(struct file *file, unsigned long at, unsigned long bytes,
				unsigned long pgoff, unsigned long flags)
{
	return thp_get_unmapped_area(file, at, bytes, pgoff, flags);
}

/*
 * Allocates a frame and charges it to the memory cgroup of the current task. Clears it if
 * @clear. Returns NULL if there is no memory. Sleeps.
 */
struct folio *zpipe_frame_alloc(bool clear)
{
	/* A process cannot go on without the frame: use compaction, but not the OOM killer. */
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_COMP | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;

	return folio_alloc(clear ? gfp | __GFP_ZERO : gfp, HPAGE_PMD_ORDER);
}

/* Returns true if one PMD entry can map the whole frame around the address of a fault. */
static bool fits(struct vm_fault *vmf)
{
	unsigned long at = vmf->address & HPAGE_PMD_MASK;

	return at >= vmf->vma->vm_start && at + HPAGE_PMD_SIZE <= vmf->vma->vm_end &&
	       IS_ALIGNED(linear_page_index(vmf->vma, at), HPAGE_PMD_NR);
}

/* Returns true if a fault for a folio of @order can be handled with a PMD entry. */
bool zpipe_fault_is_huge(struct vm_fault *vmf, unsigned int order)
{
	return order == HPAGE_PMD_ORDER && fits(vmf);
}

/*
 * Maps @folio, or the one page of it that faulted, at the address of a fault. If something
 * is mapped there already, it is the same folio. Makes the entry writable if @write.
 */
vm_fault_t zpipe_frame_place(struct vm_fault *vmf, struct folio *folio, bool write)
{
	unsigned long index = vmf->pgoff % HPAGE_PMD_NR;
	pmd_t pmd = pmdp_get_lockless(vmf->pmd);

	/*
	 * A PMD entry is possible in a call from .fault, too. The kernel calls only that if
	 * transparent huge pages are off. It is not possible where the PMD has a page table.
	 */
	if (fits(vmf) && (pmd_none(pmd) || pmd_trans_huge(pmd)))
		return vmf_insert_folio_pmd(vmf, folio, write);
	return vmf_insert_page_mkwrite(vmf, folio_page(folio, index), write);
}

#else

bool zpipe_has_frames(void)
{
	return false;
}

unsigned long zpipe_window_area(struct file *file, unsigned long at, unsigned long bytes,
				unsigned long pgoff, unsigned long flags)
{
	return -ENODEV;
}

struct folio *zpipe_frame_alloc(bool clear)
{
	return NULL;
}

bool zpipe_fault_is_huge(struct vm_fault *vmf, unsigned int order)
{
	return false;
}

vm_fault_t zpipe_frame_place(struct vm_fault *vmf, struct folio *folio, bool write)
{
	return VM_FAULT_SIGBUS;
}

#endif

/* Sets up a mapping of a window. It is called by mmap(2). Returns 0, EINVAL or EPERM. */
int zpipe_window_map(struct vm_area_struct *vma, const struct vm_operations_struct *ops)
{
	/* In a private mapping a store would make a copy of the frame's page. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	/*
	 * Without VM_MAYEXEC, mprotect(2) cannot make the mapping execute-only, which would
	 * give it a protection key. VM_HUGEPAGE avoids page tables of small pages where
	 * transparent huge pages have to be asked for.
	 */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP | VM_HUGEPAGE, VM_MAYEXEC);
	vma->vm_ops = ops;
	return 0;
}

/*
 * Removes a range of a window from all page tables. Sleeps.
 *
 * When it returns, no process can access the range through a mapping, and TLBs are flushed.
 * There is one exception: another task may be unmapping the range, and not have flushed
 * yet. Then zpipe_frame_alone() is still false for its frames.
 */
void zpipe_window_unmap(struct file *file, loff_t offset, loff_t bytes)
{
	unmap_mapping_range(file->f_mapping, offset, bytes, 0);
}

/* Takes a reference to a frame. zpipe_huge_put() drops it. */
void zpipe_frame_get(struct folio *folio)
{
	folio_get(folio);
}

/* Returns where in the window the fault occurred, in pages of 4 KiB. */
size_t zpipe_fault_pgoff(struct vm_fault *vmf)
{
	return vmf->pgoff;
}

/* Returns true if a store caused the fault. */
bool zpipe_fault_writes(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_WRITE;
}

/* Returns true if the fault is a call of ->page_mkwrite(). */
bool zpipe_fault_is_mkwrite(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_MKWRITE;
}

/* Returns the file whose mapping faulted. The mapping has the reference to it. */
struct file *zpipe_fault_file(struct vm_fault *vmf)
{
	return vmf->vma->vm_file;
}

/*
 * Returns true if the frame has no mapping and the caller has the only reference.
 *
 * Then nobody else reads or writes the frame. A mapping's reference is dropped only after
 * its TLB flush, so no processor has a translation to the frame either.
 */
bool zpipe_frame_alone(struct folio *folio)
{
	return folio_ref_count(folio) == 1 && !folio_mapcount(folio);
}

/*
 * Returns true if the frame has no references but the caller's and those of its mappings.
 * May be stale.
 */
bool zpipe_frame_mapped_only(struct folio *folio)
{
	return folio_ref_count(folio) == 1 + folio_mapcount(folio);
}

/* Clears the bytes of a frame from @from to @to, which is exclusive. */
void zpipe_frame_clear(struct folio *folio, size_t from, size_t to)
{
	if (from < to)
		folio_zero_range(folio, from, to - from);
}

/*
 * Copies @bytes bytes at @offset in @from to the start of @to. Returns false if it met bad
 * memory in @from.
 */
bool zpipe_frame_copy_part(struct folio *to, struct folio *from, size_t offset,
			   size_t bytes)
{
	return !copy_mc_to_kernel(folio_address(to), folio_address(from) + offset, bytes);
}

/* Returns a vector that stands for @bytes bytes at @offset in a folio. */
struct bio_vec zpipe_folio_part(struct folio *folio, size_t offset, size_t bytes)
{
	struct bio_vec vec;

	bvec_set_folio(&vec, folio, bytes, offset);
	return vec;
}

/*
 * Initialises an iterator over @n parts of folios, which have @bytes bytes in all. It writes
 * to them if @dest, and else reads from them.
 */
void zpipe_import_parts(struct iov_iter *iter, const struct bio_vec *parts, size_t n,
			size_t bytes, bool dest)
{
	iov_iter_bvec(iter, dest ? ITER_DEST : ITER_SOURCE, parts, n, bytes);
}
