// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that leave the memory of the current task, and such that come into it.

use super::HugePage;
use crate::sys;
use core::ptr::{self, NonNull};
use kernel::{mm::Mm, prelude::*, sync::aref::ARef};

const PFNS: usize = sys::ZPIPE_GIFT_PFNS as usize;

/// What a gift takes beside the pages, for one after the other.
pub(crate) struct Scratch(KBox<[usize; PFNS]>);

impl Scratch {
    /// Sleeps.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KBox::new([0; PFNS], GFP_KERNEL_ACCOUNT)?))
    }

    /// Where there is room for `ZPIPE_GIFT_PFNS` numbers.
    pub(super) fn as_mut_ptr(&mut self) -> *mut usize {
        self.0.as_mut_ptr()
    }
}

/// Sets when all huge pages are refused, for tests: see `zpipe_refuse_moves()`.
pub(crate) fn refuse_moves(when: u8) {
    // SAFETY: It sets a flag.
    unsafe { sys::zpipe_refuse_moves(when) };
}

/// Times that a page is tried again that was refused for what [may be over](may_be_over).
pub(crate) const TRIES: u32 = 2;

/// Whether this reason may be none with the next try: somebody holds the page, or the address space, for
/// a moment.
pub(crate) fn may_be_over(why: usize) -> bool {
    why == sys::ZPIPE_REASON_KERNEL as usize || why == sys::ZPIPE_REASON_PINNED as usize
}

/// Whether it seems that the huge page at `at` can leave the current task's memory; if not, the reason,
/// one of the ABI's.
///
/// Sleeps, and takes the mmap_lock: call it without locks.
pub(crate) fn is_giftable(at: usize) -> Result<(), usize> {
    // SAFETY: No lock is held, says the caller.
    match unsafe { sys::zpipe_gift_probe(at) } {
        0 => Ok(()),
        why => Err(why as usize),
    }
}

/// Takes the huge page at `at` out of the current task's memory, and puts `with` in its place: what a writer
/// gifts, or what a reader lands.
///
/// What comes back is mapped nowhere, nobody else has a reference, and it is charged to nobody. Or
/// all is as it was, and the reason, one of the ABI's, comes back with the page.
///
/// Sleeps, and takes the mmap_lock for writing, for a moment, if it is free: call it without locks.
pub(crate) fn exchange(
    at: usize,
    with: HugePage,
    scratch: &mut Scratch,
) -> Result<HugePage, (usize, HugePage)> {
    let with = with.into_raw();
    let mut out = ptr::null_mut();

    // SAFETY: `with` is a page of that size with one reference, which is ours, that nothing maps;
    // there is room for as many numbers; no lock is held, says the caller.
    let why = unsafe { sys::zpipe_gift_page(at, with.as_ptr(), scratch.as_mut_ptr(), &mut out) };
    match NonNull::new(out) {
        // SAFETY: It has one reference, now ours, was taken out of all page tables and off all lists, and
        // held user memory, which is initialised.
        Some(folio) => Ok(unsafe { HugePage::from_raw(folio) }),
        // SAFETY: With a reason, all is as it was: the reference is ours as before.
        None => Err((why as usize, unsafe { HugePage::from_raw(with) })),
    }
}

/// Whether it seems that a huge page can come to `at` in the current task's memory; if not, the reason, one
/// of the ABI's. Where nothing is, the kernel puts a page first.
///
/// Sleeps, faults, and takes the mmap_lock: call it without locks.
pub(crate) fn can_land(at: usize) -> Result<(), usize> {
    // SAFETY: No lock is held, says the caller.
    match unsafe { sys::zpipe_land_probe(at) } {
        0 => Ok(()),
        why => Err(why as usize),
    }
}

/// An address space, to be known again: it is not used, nor kept from coming to its end.
#[derive(Clone)]
pub(crate) struct AddressSpace(ARef<Mm>);

impl AddressSpace {
    /// That of the current task, if it has one.
    pub(crate) fn of_current() -> Option<Self> {
        current!().mm().map(|mm| Self(ARef::from(&**mm)))
    }

    /// Whether the two are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.as_raw() == other.0.as_raw()
    }

    /// Whether somebody still uses it.
    pub(crate) fn is_used(&self) -> bool {
        // SAFETY: The struct is there as long as we have it.
        unsafe { sys::zpipe_mm_is_used(self.0.as_raw()) }
    }
}
