// SPDX-License-Identifier: GPL-2.0-only

//! Gifts and moves of pages of 4 KiB: they leave the memory of the current task, or enter it.

use super::{Dest, Scratch};
use crate::sys;
use core::{mem::size_of, ptr::NonNull};
use kernel::{bindings, page::PAGE_SIZE, prelude::*};

/// A page that belongs to the kernel module and is charged to nobody.
///
/// # Invariants
///
/// * It is a folio of one page with one reference, which this object owns. Nothing maps it, and it
///   is on none of the kernel's lists.
/// * All of it is initialised, and nobody else writes to it.
#[repr(transparent)]
struct SmallPage(NonNull<bindings::page>);

// C code treats an array of these as an array of pointers, where null means [`None`].
const _: () = assert!(size_of::<Option<SmallPage>>() == size_of::<*mut bindings::page>());

impl Drop for SmallPage {
    fn drop(&mut self) {
        let mut page = self.0.as_ptr();
        // SAFETY: By the type invariants this object owns a reference, which it gives up here.
        unsafe { sys::zpipe_put_pages(&mut page, 1) };
    }
}

/// A sequence of small pages that belong to the kernel module. Their bytes are read in this order.
pub(crate) struct SmallPages {
    /// [`None`] instead of a page that is not allocated yet or was removed.
    pages: KVec<Option<SmallPage>>,
}

// SAFETY: A page may be used and freed on any thread.
unsafe impl Send for SmallPages {}
// SAFETY: The bytes are only read from `&self`.
unsafe impl Sync for SmallPages {}

impl SmallPages {
    /// The maximal number of pages: as many as make up a huge page.
    pub(crate) const MAX: usize = 512;

    /// Creates a sequence for `pages` pages, at most [`Self::MAX`], without any page yet. Sleeps.
    ///
    /// Error: `ENOMEM`.
    pub(crate) fn with_capacity(pages: usize) -> Result<Self> {
        let max = pages.min(Self::MAX);
        let mut pages = KVec::with_capacity(max, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..max {
            pages.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { pages })
    }

    /// Allocates pages of zeros that can replace those at `at` in the current task's memory;
    /// returns how many.
    ///
    /// The pages that were in the sequence are freed. It stops at the first page that is not free
    /// at once. It allocates none if the mmap_lock is not free.
    pub(crate) fn fill(&mut self, at: usize) -> usize {
        self.remove(0, self.len());
        let to = self.pages.as_mut_ptr().cast();
        // INVARIANT: The function writes pointers to pages of zeros that nobody else has.
        // SAFETY: `to` has space for `self.len()` pointers. All of them are null, so no page is
        // lost.
        // CAST: The length is at most `MAX`.
        let got = unsafe { sys::zpipe_small_replacements(at, self.len() as u32, to) };
        got as usize
    }

    /// The length of the sequence, including pages that are missing.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Frees all pages but the first `pages`. Call it without locks.
    pub(crate) fn truncate(&mut self, pages: usize) {
        self.pages.truncate(pages);
    }

    /// Frees `pages` pages, from number `from` on. Call it without locks.
    pub(crate) fn remove(&mut self, from: usize, pages: usize) {
        for page in self.pages.iter_mut().skip(from).take(pages) {
            *page = None;
        }
    }

    /// Exchanges pages of the current task's memory at `at` with those of this sequence, from
    /// number `from` on. Gifts and moves both use this.
    ///
    /// It exchanges as many as possible, one after the other, at most `max` and at most up to the
    /// first missing one. The pages of the task's memory get the numbers of those that replace
    /// them. In the task's memory, pages behind the exchanged ones may be replaced by others with
    /// the same bytes.
    ///
    /// Returns how many were exchanged. If that is not all, the second number is one of the ABI's
    /// reasons why the next one was not.
    ///
    /// It sleeps, so call it without locks. It takes the mmap_lock for writing, but only if that
    /// lock is free.
    pub(crate) fn exchange(
        &mut self,
        from: usize,
        at: usize,
        max: usize,
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        let with = self.pages.get_mut(from..).unwrap_or_default();
        let there = with.iter().take(max).take_while(|page| page.is_some());
        let max = there.count();
        let mut why = 0;
        // INVARIANT: Each page that the function stores has one reference, which is ours now. It
        // was taken out of all page tables and off all lists. It held user memory, which is
        // initialised.
        // SAFETY: The first `max` entries of `with` are pages, for which the type invariants hold.
        // `scratch` has space for `ZPIPE_GIFT_PFNS` numbers. The caller holds no lock.
        // CAST: `max` is at most `MAX`.
        let pages = unsafe {
            sys::zpipe_small_exchange(
                at,
                max as u32,
                with.as_mut_ptr().cast(),
                scratch.as_mut_ptr(),
                &mut why,
            )
        };
        (pages as usize, why as usize)
    }

    /// Copies at most `bytes` bytes to `dest`; returns how many. `offset` counts from the first
    /// page of the sequence, even if that page was removed.
    ///
    /// It stops at a missing page, at bad memory, and where the copy would need a page fault.
    pub(crate) fn drain_atomic(
        &self,
        offset: usize,
        bytes: usize,
        dest: &mut Dest<'_, '_>,
    ) -> usize {
        let mut done = 0;

        for page in self.pages.iter().skip(offset / PAGE_SIZE) {
            let from = (offset + done) % PAGE_SIZE;
            let step = (bytes - done).min(PAGE_SIZE - from);
            let (Some(page), true) = (page, step != 0) else {
                break;
            };
            // SAFETY: By the type invariants it is a folio of one page, initialised, and nobody
            // writes to it. The range is within the page.
            let copied = unsafe { dest.copy_from_folio_atomic(page.0.as_ptr().cast(), from, step) };
            done += copied;
            if copied < step {
                break;
            }
        }
        done
    }
}

/// Tests how many of the `max` pages at `at` in the current task's memory can leave it, or, if
/// `moves_in`, be replaced by moved pages.
///
/// Returns the number of pages from the first one on that can. If the first one cannot, the error
/// has one of the ABI's reasons. Its number counts the pages to which the reason applies, from the
/// first one on. Either number is at least one. The answer is a hint: it may be stale at once.
///
/// Sleeps, takes the mmap_lock, and, if `moves_in`, causes page faults: call it without locks.
pub(crate) fn small_run(
    at: usize,
    max: usize,
    moves_in: bool,
    scratch: &mut Scratch,
) -> Result<usize, (usize, usize)> {
    let max = max.clamp(1, SmallPages::MAX);
    let mut run = 0;
    let to = scratch.as_mut_ptr().cast();
    // SAFETY: `to` has space for `ZPIPE_GIFT_PFNS` pointers, more than `max`. The caller holds no
    // lock.
    // CAST: `max` is at most `SmallPages::MAX`.
    let why = unsafe { sys::zpipe_small_probe(at, max as u32, moves_in, to, &mut run) };
    let run = (run as usize).clamp(1, max);
    match why {
        0 => Ok(run),
        why => Err((why as usize, run)),
    }
}
