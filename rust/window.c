// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames: huge pages of the module's own that are mapped into processes, as those of
 * a DAX device are.
 *
 * A mapping must not have VM_MIXEDMAP: when a huge page is split in such a mapping, its
 * reference and its counts are lost, see __split_huge_pmd_locked(). vmf_insert_folio_pmd()
 * does not ask for it; vm_insert_page() and its like would set it.
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

/* A file of its own, with an address space of its own, of @bytes bytes. */
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

bool zpipe_has_frames(void)
{
	return true;
}

unsigned long zpipe_window_area(struct file *file, unsigned long at, unsigned long bytes,
				unsigned long pgoff, unsigned long flags)
{
	return thp_get_unmapped_area(file, at, bytes, pgoff, flags);
}

/* A frame of zeros, charged to the current task. NULL if there is none. Sleeps. */
struct folio *zpipe_frame_alloc(bool clear)
{
	/* What keeps a process from running is worth compaction, but nobody's death. */
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_COMP | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;

	return folio_alloc(clear ? gfp | __GFP_ZERO : gfp, HPAGE_PMD_ORDER);
}

/* Whether the whole of its frame around an address can be mapped by one entry. */
static bool fits(struct vm_fault *vmf)
{
	unsigned long at = vmf->address & HPAGE_PMD_MASK;

	return at >= vmf->vma->vm_start && at + HPAGE_PMD_SIZE <= vmf->vma->vm_end &&
	       IS_ALIGNED(linear_page_index(vmf->vma, at), HPAGE_PMD_NR);
}

bool zpipe_fault_is_huge(struct vm_fault *vmf, unsigned int order)
{
	return order == HPAGE_PMD_ORDER && fits(vmf);
}

/*
 * Maps @folio, or the page of it that was asked for, where a fault was. What is mapped
 * there already is the same, or nothing.
 */
vm_fault_t zpipe_frame_place(struct vm_fault *vmf, struct folio *folio, bool write)
{
	unsigned long index = vmf->pgoff % HPAGE_PMD_NR;
	pmd_t pmd = pmdp_get_lockless(vmf->pmd);

	/*
	 * Also from .fault, as with transparent huge pages off. Where there are tables of
	 * small pages there is no place for a huge one.
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

/* What mmap(2) makes of a window. */
int zpipe_window_map(struct vm_area_struct *vma, const struct vm_operations_struct *ops)
{
	/* A private one could be written to, and would have copies made of a frame. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	/* What is not asked for is a protection key, nor page tables of small pages. */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP | VM_HUGEPAGE, VM_MAYEXEC);
	vma->vm_ops = ops;
	return 0;
}

/*
 * Takes a range of a window out of all page tables that it is in. When it returns, who
 * had it there does not see it any more, whatever its processor remembers; but not if
 * somebody is about to unmap it, too: then the frame is not alone yet.
 */
void zpipe_window_unmap(struct file *file, loff_t offset, loff_t bytes)
{
	unmap_mapping_range(file->f_mapping, offset, bytes, 0);
}

void zpipe_frame_get(struct folio *folio)
{
	folio_get(folio);
}

/* Which page of the file a fault is about, whether it stores there, and the file. */
size_t zpipe_fault_pgoff(struct vm_fault *vmf)
{
	return vmf->pgoff;
}

bool zpipe_fault_writes(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_WRITE;
}

bool zpipe_fault_is_mkwrite(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_MKWRITE;
}

struct file *zpipe_fault_file(struct vm_fault *vmf)
{
	return vmf->vma->vm_file;
}

/*
 * Whether one reference is all there is: the last one of a mapping goes after its flush,
 * so nobody else reads or writes it.
 */
bool zpipe_frame_alone(struct folio *folio)
{
	return folio_ref_count(folio) == 1 && !folio_mapcount(folio);
}

/* Whether nobody refers to it but page tables and its owner; may be stale. */
bool zpipe_frame_mapped_only(struct folio *folio)
{
	return folio_ref_count(folio) == 1 + folio_mapcount(folio);
}

void zpipe_frame_clear(struct folio *folio, size_t from, size_t to)
{
	if (from < to)
		folio_zero_range(folio, from, to - from);
}

/* A copy of @from in @to. A bad page there is the end of it: false. */
bool zpipe_frame_copy(struct folio *to, struct folio *from)
{
	return !folio_mc_copy(to, from);
}

/* The @bytes bytes of @from at @offset become the first of @to. False as above. */
bool zpipe_frame_copy_part(struct folio *to, struct folio *from, size_t offset,
			   size_t bytes)
{
	return !copy_mc_to_kernel(folio_address(to), folio_address(from) + offset, bytes);
}

/* A part of a folio, for an iterator. */
struct bio_vec zpipe_folio_part(struct folio *folio, size_t offset, size_t bytes)
{
	struct bio_vec vec;

	bvec_set_folio(&vec, folio, bytes, offset);
	return vec;
}

/* Some of them as what is read from, or written to: @bytes bytes in all. */
void zpipe_import_parts(struct iov_iter *iter, const struct bio_vec *parts, size_t n,
			size_t bytes, bool dest)
{
	iov_iter_bvec(iter, dest ? ITER_DEST : ITER_SOURCE, parts, n, bytes);
}
