/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What gift.c, of huge pages, and gift_small.c, of pages of 4 KiB, have in common.
 */
#ifndef ZPIPE_GIFT_H
#define ZPIPE_GIFT_H

#include <linux/migrate.h>
#include <linux/mm.h>

#include "helpers.h"

/*
 * Before 7.3 migrate_vma_setup() takes its reference to a folio that it is about to
 * split after it has dropped the lock of the page table: by then the folio may be
 * gone. Nobody but the callers of that function can keep it from splitting, so
 * nothing is moved there.
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
