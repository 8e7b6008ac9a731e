// SPDX-License-Identifier: GPL-2.0-only

//! Gifts and moves of huge pages: they leave the memory of the current task, or enter it.

use super::HugePage;
use crate::sys;
use core::ptr::{self, NonNull};
use kernel::{mm::Mm, prelude::*, sync::aref::ARef};

const PFNS: usize = sys::ZPIPE_GIFT_PFNS as usize;

/// Working memory for a gift or a move: the page frame numbers that `migrate_vma_setup()` collects.
///
/// One object serves any number of gifts and moves, one at a time.
pub(crate) struct Scratch(KBox<[usize; PFNS]>);

impl Scratch {
    /// Allocates working memory. Sleeps. Error: `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KBox::new([0; PFNS], GFP_KERNEL_ACCOUNT)?))
    }

    /// A pointer to `ZPIPE_GIFT_PFNS` numbers.
    pub(super) fn as_mut_ptr(&mut self) -> *mut usize {
        self.0.as_mut_ptr()
    }
}

/// Makes the kernel refuse all moves of huge pages, for tests. `when` is as for
/// `zpipe_refuse_moves()`.
pub(crate) fn refuse_moves(when: u8) {
    // SAFETY: The function only sets a flag.
    unsafe { sys::zpipe_refuse_moves(when) };
}

/// Retry limit: how often a page is tried again after a refusal for a [transient](is_transient)
/// reason.
pub(crate) const TRIES: u32 = 2;

/// True if the next attempt may succeed after a refusal for this reason. Another task holds the
/// page or the lock of the address space, possibly for a moment only.
pub(crate) fn is_transient(why: usize) -> bool {
    why == sys::ZPIPE_REASON_KERNEL as usize || why == sys::ZPIPE_REASON_PINNED as usize
}

/// Tests if the huge page at `at` can leave the current task's memory. If not, returns one of the
/// ABI's reasons.
///
/// The answer is a hint: it may be stale at once. A page in memory that must stay movable is
/// migrated out of it first. Sleeps, and takes the mmap_lock: call it without locks.
pub(crate) fn is_giftable(at: usize) -> Result<(), usize> {
    // SAFETY: The caller holds no lock.
    match unsafe { sys::zpipe_gift_probe(at) } {
        0 => Ok(()),
        why => Err(why as usize),
    }
}

/// Takes the huge page at `at` out of the current task's memory and puts `with` in its place. Gifts
/// and moves both use this.
///
/// The returned page is mapped nowhere, has no other references, and is charged to nobody. On
/// failure the memory is unchanged; `with` is returned with one of the ABI's reasons.
///
/// It sleeps, so call it without locks. It takes the mmap_lock for writing, but only if that lock
/// is free.
pub(crate) fn exchange(
    at: usize,
    with: HugePage,
    scratch: &mut Scratch,
) -> Result<HugePage, (usize, HugePage)> {
    let with = with.into_raw();
    let mut out = ptr::null_mut();

    // SAFETY: `with` is a folio of that size that nothing maps. It has one reference, which is
    // ours. `scratch` has space for `ZPIPE_GIFT_PFNS` numbers. The caller holds no lock.
    let why = unsafe { sys::zpipe_gift_page(at, with.as_ptr(), scratch.as_mut_ptr(), &mut out) };
    match NonNull::new(out) {
        // SAFETY: The folio has one reference, which is ours now. It was taken out of all page
        // tables and off all lists. It held user memory, which is initialised.
        Some(folio) => Ok(unsafe { HugePage::from_raw(folio) }),
        // SAFETY: On failure `with` is unchanged, and its reference is ours as before.
        None => Err((why as usize, unsafe { HugePage::from_raw(with) })),
    }
}

/// Tests if a huge page can enter the current task's memory at `at`. If not, returns one of the
/// ABI's reasons.
///
/// If nothing is mapped at `at`, the kernel faults in a page first, which the move then replaces.
/// The answer is a hint: it may be stale at once. Sleeps, causes page faults, and takes the
/// mmap_lock: call it without locks.
pub(crate) fn can_move_in(at: usize) -> Result<(), usize> {
    // SAFETY: The caller holds no lock.
    match unsafe { sys::zpipe_move_probe(at) } {
        0 => Ok(()),
        why => Err(why as usize),
    }
}

/// Identifies an address space.
///
/// It keeps the `mm_struct` allocated, so the address stays unique. It does not access the address
/// space, and does not prevent its teardown.
#[derive(Clone)]
pub(crate) struct AddressSpace(ARef<Mm>);

impl AddressSpace {
    /// The address space of the current task, if it has one.
    pub(crate) fn of_current() -> Option<Self> {
        current!().mm().map(|mm| Self(ARef::from(&**mm)))
    }

    /// True if both are the same address space.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.as_raw() == other.0.as_raw()
    }

    /// True if a task still uses the address space.
    pub(crate) fn is_used(&self) -> bool {
        // SAFETY: We hold a reference that keeps the `mm_struct` allocated.
        unsafe { sys::zpipe_mm_is_used(self.0.as_raw()) }
    }
}
