/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Functions of gift.c, which deals with huge pages, that gift_small.c uses for pages of
 * 4 KiB, too.
 *
 * In these files a *reason* is one of ZPIPE_REASON_SMALL to ZPIPE_REASON_KERNEL of the ABI. It
 * says why a page cannot be exchanged. 0 means that it can: ZPIPE_REASON_PART is not used.
 */
#ifndef ZPIPE_GIFT_H
#define ZPIPE_GIFT_H

#include <linux/migrate.h>
#include <linux/mm.h>

#include "helpers.h"

/*
 * Defined if this kernel can gift and move pages.
 *
 * Before 7.3 migrate_vma_setup() drops the page table lock before it takes its reference
 * to a folio that it is about to split. The folio may be freed in between. Callers
 * cannot rule out such a split, so on these kernels all gifts and moves are copies.
 */
#if IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && IS_ENABLED(CONFIG_DEVICE_MIGRATION) && \
	defined(ZPIPE_SINCE_7_3)
#define ZPIPE_MOVES
#endif

/* See zpipe_refuse_moves(). */
extern u8 zpipe_refuses;

int zpipe_check_vma(struct vm_area_struct *vma, unsigned long at, unsigned long end);
int zpipe_check_folio(struct folio *folio);
int zpipe_check_with(struct folio *with);
int zpipe_leave_movable(unsigned long at, unsigned int n, struct page **pages);
void zpipe_strip(struct folio *folio);
int zpipe_begin_move(struct migrate_vma *args, unsigned long at, unsigned long end,
		     unsigned long *pfns);

#endif
