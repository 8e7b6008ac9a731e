// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that the kernel module owns and no process maps: gifts and replacements.

use super::{Dest, UserPages};
use crate::{sync::Word, sys, zcore::gift::HUGE_SIZE};
use core::{mem, ptr::NonNull};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    sync::atomic::{Atomic, Relaxed},
};

/// The number of huge pages in all pipes.
static TOTAL: Atomic<u64> = Atomic::new(0);

/// The limit on [`TOTAL`].
static TOTAL_MAX: Word = Word::new(0);

/// Sets how many huge pages all pipes together may have. 0 means as many as make up 1/64 of the
/// memory.
///
/// Called once, before the first pipe exists.
pub(crate) fn set_gifts_max(max: u32) {
    // SAFETY: The function has no requirements.
    let memory = unsafe { sys::zpipe_ram_pages() } as u64;
    let max = u64::from(max);

    TOTAL_MAX.write(if max != 0 {
        max
    } else {
        memory / 64 / u64::from(HugeCredit::PAGES)
    });
}

/// The right to keep one huge page in a pipe.
///
/// A gifted huge page is charged to no memory cgroup. So all of them are counted in [`TOTAL`], and
/// those of each user also count as pages that the user has in pipes.
pub(crate) struct HugeCredit(
    #[expect(dead_code, reason = "counted as long as it is there")] UserPages,
);

impl HugeCredit {
    /// The number of pages of [`PAGE_SIZE`] that one huge page counts as.
    const PAGES: u32 = (HUGE_SIZE / PAGE_SIZE) as u32;

    /// Creates a credit for the user of the current task.
    ///
    /// [`None`] if the limit on all huge pages is reached, or if `above` says that the user now has
    /// too many pages in pipes.
    pub(crate) fn new(above: impl FnOnce(u64) -> bool) -> Option<Self> {
        let before = TOTAL.fetch_add(1, Relaxed);
        let mut user = UserPages::of_current();
        let all = user.set(Self::PAGES);
        let credit = Self(user);

        (before < TOTAL_MAX.read() && !above(all)).then_some(credit)
    }
}

impl Drop for HugeCredit {
    fn drop(&mut self) {
        TOTAL.fetch_sub(1, Relaxed);
    }
}

/// A huge page that belongs to the kernel module.
///
/// # Invariants
///
/// * `folio` is a folio of [`Self::SIZE`] bytes with one reference, which this object owns. Nothing
///   maps it, and it is on none of the kernel's lists.
/// * All of it is initialised, and nobody else writes to it.
pub(crate) struct HugePage {
    folio: NonNull<bindings::folio>,
}

// SAFETY: A folio may be used and freed on any thread.
unsafe impl Send for HugePage {}
// SAFETY: The bytes are only read from `&self`.
unsafe impl Sync for HugePage {}

impl HugePage {
    /// The size of a huge page in bytes: what one PMD entry maps.
    pub(crate) const SIZE: usize = HUGE_SIZE;

    /// Allocates a replacement for the huge page at `at` in the current task's memory: a page of
    /// zeros.
    ///
    /// It is charged to nobody: it inherits the charge of the page that it replaces. [`None`] if no
    /// huge page is free at once, if the mmap_lock is not free, or if the mapping cannot be gifted
    /// from. Sleeps.
    pub(crate) fn replacement(at: usize) -> Option<Self> {
        // SAFETY: The caller may sleep.
        let folio = NonNull::new(unsafe { sys::zpipe_gift_replacement(at) })?;

        // INVARIANT: The page is new, has that size, and was cleared.
        Some(Self { folio })
    }

    /// True if the page can enter a process's memory: it is not charged to a memory cgroup, and has
    /// no bad memory.
    pub(crate) fn fits(&self) -> bool {
        // SAFETY: By the type invariants the page is valid.
        unsafe { sys::zpipe_huge_fits(self.folio.as_ptr()) }
    }

    /// Copies at most `bytes` bytes from `offset` to `dest`; returns how many.
    ///
    /// It stops at the end of the page, at bad memory, and where the copy would need a page fault.
    pub(crate) fn drain_atomic(
        &self,
        offset: usize,
        bytes: usize,
        dest: &mut Dest<'_, '_>,
    ) -> usize {
        let bytes = bytes.min(Self::SIZE.saturating_sub(offset));
        if bytes == 0 {
            return 0;
        }

        // SAFETY: By the type invariants the page is valid and initialised, and nobody writes to
        // it. `offset + bytes` is at most its size.
        unsafe { dest.copy_from_folio_atomic(self.folio.as_ptr(), offset, bytes) }
    }

    /// Returns the folio; the caller now owns its reference.
    pub(super) fn into_raw(self) -> NonNull<bindings::folio> {
        let folio = self.folio;

        mem::forget(self);
        folio
    }

    /// Makes a huge page of `folio` and takes over its reference.
    ///
    /// # Safety
    ///
    /// The type invariants hold for `folio`.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        // INVARIANT: The caller guarantees it.
        Self { folio }
    }
}

impl Drop for HugePage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this object owns a reference, which it gives up here.
        unsafe { sys::zpipe_huge_put(self.folio.as_ptr()) };
    }
}
