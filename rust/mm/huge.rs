// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that are in no process's memory.

use super::{Dest, UserPages};
use crate::{sync::Word, sys, zcore::gift::HUGE_SIZE};
use core::{mem, ptr::NonNull};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    sync::atomic::{Atomic, Relaxed},
};

/// Huge pages that pipes have.
static TOTAL: Atomic<u64> = Atomic::new(0);

/// How many they may have.
static TOTAL_MOST: Word = Word::new(0);

/// Sets how many huge pages all pipes together may have; 0: a 64th of memory. Once, before there is a
/// pipe.
pub(crate) fn set_gifts_most(most: u32) {
    // SAFETY: No requirement.
    let memory = unsafe { sys::zpipe_ram_pages() } as u64;
    let most = u64::from(most);

    TOTAL_MOST.write(if most != 0 {
        most
    } else {
        memory / 64 / u64::from(HugeCredit::PAGES)
    });
}

/// The right to have one huge page in a pipe: it is charged to no memory cgroup, so all that there are
/// are counted, and those of each user among the pages that it has in pipes.
pub(crate) struct HugeCredit(
    #[expect(dead_code, reason = "counted as long as it is there")] UserPages,
);

impl HugeCredit {
    /// What a huge page counts for.
    const PAGES: u32 = (HUGE_SIZE / PAGE_SIZE) as u32;

    /// For the user of the current task; [`None`] if there are too many, or the user has as many pages in pipes
    /// as `above` says are too many.
    pub(crate) fn new(above: impl FnOnce(u64) -> bool) -> Option<Self> {
        let before = TOTAL.fetch_add(1, Relaxed);
        let mut user = UserPages::of_current();
        let all = user.set(Self::PAGES);
        let credit = Self(user);

        (before < TOTAL_MOST.read() && !above(all)).then_some(credit)
    }
}

impl Drop for HugeCredit {
    fn drop(&mut self) {
        TOTAL.fetch_sub(1, Relaxed);
    }
}

/// A huge page of the module's own.
///
/// # Invariants
///
/// * `folio` is a folio of [`Self::SIZE`] bytes, with one reference, which is ours; nothing maps it,
///   and it is on no list of the kernel's.
/// * All of it is initialised, and nobody else writes to it.
pub(crate) struct HugePage {
    folio: NonNull<bindings::folio>,
}

// SAFETY: A folio may be used and freed on any thread.
unsafe impl Send for HugePage {}
// SAFETY: From `&self` its bytes are only read.
unsafe impl Sync for HugePage {}

impl HugePage {
    /// Bytes of a huge page: what one entry of a PMD maps.
    pub(crate) const SIZE: usize = HUGE_SIZE;

    /// A page of zeros to take the place of that at `at` in the current task's memory: charged to nobody, as
    /// its charge comes when it gets there. [`None`] if there is none to be had at once. Sleeps, and takes
    /// the mmap_lock.
    pub(crate) fn replacement(at: usize) -> Option<Self> {
        // SAFETY: It may sleep, says the caller.
        let folio = NonNull::new(unsafe { sys::zpipe_gift_replacement(at) })?;

        // INVARIANT: The page is new, of that size, and was cleared.
        Some(Self { folio })
    }

    /// Whether it can come into a process's memory: not if it is charged to a memory cgroup, or bad memory.
    pub(crate) fn fits(&self) -> bool {
        // SAFETY: By the type invariants the page is valid.
        unsafe { sys::zpipe_huge_fits(self.folio.as_ptr()) }
    }

    /// Copies `bytes` bytes from `offset` to `dest`, as far as they are in the page and as it goes
    /// without a fault; returns how many.
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

        // SAFETY: By the type invariants the page is valid, `offset + bytes` is at most its size, it is
        // initialised and nobody writes it.
        unsafe { dest.copy_from_folio_atomic(self.folio.as_ptr(), offset, bytes) }
    }

    /// The folio, whose reference is the caller's from now on.
    pub(super) fn into_raw(self) -> NonNull<bindings::folio> {
        let folio = self.folio;

        mem::forget(self);
        folio
    }

    /// Takes the reference over.
    ///
    /// # Safety
    ///
    /// What the type invariants say of it holds.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        // INVARIANT: Says the caller.
        Self { folio }
    }
}

impl Drop for HugePage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { sys::zpipe_huge_put(self.folio.as_ptr()) };
    }
}
