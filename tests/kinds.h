/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of all kinds of memory. Each row is
 *
 *	MEMKIND(constant, name, carry, push, gift, fields of struct memory_type)
 *
 * @name names the kind in test cases. Three columns say which test cases a kind has:
 *
 * @carry: direct_memory.c transfers from this kind (SOURCE), to it (DESTINATION), or both
 *	ways (BOTH).
 * @push: how much of it a writer can push to, in push_memory.c: ALL, HALF or NOTHING.
 * @gift: the reason for which a huge page of it is copied, in gift_holders.c: MAPPING or SMALL,
 *	which stand for ZPIPE_REASON_*.
 *
 * NO_TEST in a column means that the program has no test case for the kind. A program that
 * includes this file defines MEMKIND, and pastes the word of its column to the name of a macro.
 *
 * Some kinds differ from plain memory only in a part, see struct memory.
 */

/* Anonymous private memory. */
MEMKIND(PLAIN, plain, SOURCE, ALL, NO_TEST, .map = map_plain)
/* Small pages; the owner has touched none. */
MEMKIND(FRESH, fresh, BOTH, NOTHING, NO_TEST,
	.map = map_fresh, .untouched = true, .bytes = ZEROS)
/* Small pages; the owner has stored to the first half. */
MEMKIND(HALF_RESIDENT, half_resident, NO_TEST, HALF, NO_TEST,
	.map = map_half, .untouched = true)
/* Small pages; the owner has only read them. */
MEMKIND(ZERO_PAGE, zero_page, BOTH, NOTHING, NO_TEST,
	.map = map_zero_page, .untouched = true, .bytes = ZEROS,
	.intact = zero_page_is_zero)
/* Locked by mlock(2). */
MEMKIND(LOCKED, locked, BOTH, ALL, NO_TEST, .map = map_locked)
/* Transparent huge pages. */
MEMKIND(HUGE, huge, BOTH, ALL, NO_TEST, .map = map_huge)
/* Anonymous, MAP_SHARED. */
MEMKIND(SHARED, shared, NO_TEST, NOTHING, NO_TEST, .map = map_shared)
/* MAP_DROPPABLE. */
MEMKIND(DROPPABLE, droppable, NO_TEST, NO_TEST, MAPPING, .map = map_droppable)
/* Pages of hugetlbfs. */
MEMKIND(HUGETLB, hugetlb, BOTH, NO_TEST, MAPPING,
	.map = map_hugetlb, .hugetlb = true)
/* A file on hugetlbfs, MAP_SHARED; no page is in the page table. */
MEMKIND(HUGETLB_SHARED, hugetlb_shared, BOTH, NO_TEST, NO_TEST,
	.map = map_hugetlb_file, .untouched = true, .hugetlb = true,
	.check = file_has_arrived)
/* A memfd, MAP_SHARED; no page is in the page table. */
MEMKIND(FILE_SHARED, file_shared, BOTH, NO_TEST, NO_TEST,
	.map = map_file_shared, .untouched = true, .check = file_has_arrived)
/* The same; the owner has stored to all pages. */
MEMKIND(FILE_SHARED_STORED, file_shared_stored, NO_TEST, NOTHING, NO_TEST,
	.map = map_file_shared)
/* A memfd, MAP_PRIVATE; no page is copied or in the page table. */
MEMKIND(FILE_PRIVATE, file_private, BOTH, NO_TEST, MAPPING,
	.map = map_file_private, .untouched = true, .intact = file_is_intact)
/* The same; all pages are copied, since the owner has stored to them. */
MEMKIND(FILE_PRIVATE_COPIED, file_private_copied, NO_TEST, NOTHING, MAPPING,
	.map = map_file_private, .intact = file_is_intact)
/* A FUSE file, MAP_PRIVATE; nothing of it has been read yet. */
MEMKIND(FUSE_PRIVATE, fuse_private, BOTH, NO_TEST, NO_TEST,
	.map = map_fuse, .untouched = true, .fuse = true)
/* memfd_secret(2); no page is in the page table. */
MEMKIND(SECRET, secret, BOTH, NO_TEST, NO_TEST,
	.map = map_secret, .untouched = true)
/* The same; the owner has stored to all pages. */
MEMKIND(SECRET_STORED, secret_stored, NO_TEST, NO_TEST, MAPPING, .map = map_secret)
/* The part is memory of a device: VM_PFNMAP, no struct page. */
MEMKIND(DEVICE, device, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = map_part_to_device,
	.undo = map_part_to_memory, .bytes = FIRMWARE)
/* The part is the process stack, below its current lowest page. */
MEMKIND(STACK, stack, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = put_tail_on_stack, .grows = true,
	.bytes = PART_ZEROS)
/* The part is MAP_GROWSDOWN memory, and begins a little below it. */
MEMKIND(NEAR_STACK, near_stack, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = put_tail_below_mapping, .grows = true,
	.logs = true, .bytes = PART_ZEROS)
/* A protection key that the owner's rights allow. */
MEMKIND(PKEY_ALLOWED, pkey_allowed, BOTH, NOTHING, MAPPING,
	.map = map_plain, .change = set_pkey, .undo = unset_pkey)
/* Marks of a mapping, set and unset by madvise(2). */
MEMKIND(WIPE_ON_FORK, wipe_on_fork, NO_TEST, NO_TEST, MAPPING,
	.map = map_plain, .change = advise, .undo = advise_back,
	.advice = MADV_WIPEONFORK, .advice_back = MADV_KEEPONFORK)
MEMKIND(DONT_FORK, dont_fork, NO_TEST, NO_TEST, MAPPING,
	.map = map_plain, .change = advise, .undo = advise_back,
	.advice = MADV_DONTFORK, .advice_back = MADV_DOFORK)
MEMKIND(DONT_DUMP, dont_dump, NO_TEST, NO_TEST, MAPPING,
	.map = map_plain, .change = advise, .undo = advise_back,
	.advice = MADV_DONTDUMP, .advice_back = MADV_DODUMP)
/* A forked process maps the same pages. */
MEMKIND(COPIED, copied, BOTH, NOTHING, NO_TEST,
	.map = map_plain, .change = fork_now, .intact = copy_is_good)
/* The same, but the fork comes while the owner waits in its call. */
MEMKIND(COPIED_WAITING, copied_waiting, BOTH, NOTHING, NO_TEST,
	.map = map_plain, .change = fork_later, .intact = later_copy_is_good,
	.waits = true)
/* Pages that KSM has merged. */
MEMKIND(KSM_MERGED, ksm_merged, NO_TEST, NO_TEST, SMALL,
	.map = map_small, .change = merge, .undo = unmerge, .intact = other_is_intact)
/* Paged out to swap. */
MEMKIND(PAGED_OUT, paged_out, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = page_all_out, .check = swap_is_right)
/* Paged out, and read again. */
MEMKIND(SWAPPED_IN, swapped_in, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = swap_in, .check = swap_is_right)
/* MADV_FREE. A source may lose its bytes, so it is a destination only. */
MEMKIND(FREED, freed, DESTINATION, NO_TEST, NO_TEST,
	.map = map_plain, .change = advise, .advice = MADV_FREE,
	.check = swap_is_right)
/* Missing pages, which a thread provides one by one by userfaultfd(2). */
MEMKIND(UFFD_MISSING, uffd_missing, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = serve_missing, .check = each_page_was_missing)
/* Write-protected pages, which a thread unprotects one by one, likewise. */
MEMKIND(UFFD_WP, uffd_wp, BOTH, NOTHING, NO_TEST,
	.map = map_plain, .change = serve_protected, .check = stores_were_told)
/* The part is read-only. */
MEMKIND(READ_ONLY, read_only, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = protect_part, .prot = PROT_READ,
	.rest = true, .bad = BAD_TO_WRITE)
/* The part is PROT_NONE. */
MEMKIND(HOLE, hole, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = protect_part, .prot = PROT_NONE, .bad = BAD)
/* The part is not mapped. */
MEMKIND(UNMAPPED, unmapped, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = unmap_part, .bad = BAD)
/* The part is a guard region of MADV_GUARD_INSTALL. */
MEMKIND(GUARD, guard, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = guard_part, .bad = BAD)
/* The part is poisoned by UFFDIO_POISON. */
MEMKIND(POISON, poison, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = poison_part, .bad = BAD)
/* A file that ends where the part begins. */
MEMKIND(FILE_ENDS, file_ends, BOTH, NO_TEST, NO_TEST,
	.map = map_short_file, .untouched = true, .bad = BAD)
/* The part is PROT_EXEC, on a processor that has protection keys. */
MEMKIND(EXEC_ONLY, exec_only, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = protect_part_by_key, .rest = true, .bad = BAD)
/* The part has a protection key that the owner's rights deny. */
MEMKIND(PKEY_DENIED, pkey_denied, BOTH, NO_TEST, NO_TEST,
	.map = map_plain, .change = deny_part, .rest = true, .bad = BAD)

#undef MEMKIND
