// SPDX-License-Identifier: GPL-2.0-only

//! Pages of 4 KiB that leave the memory of the current task, and such that come into it.

use super::{Dest, Scratch};
use crate::sys;
use core::{mem::size_of, ptr::NonNull};
use kernel::{bindings, page::PAGE_SIZE, prelude::*};

/// A page of the module's own, charged to nobody.
///
/// # Invariants
///
/// * It is a folio of one page, with one reference, which is ours; nothing maps it, and it is on no list of
///   the kernel's.
/// * All of it is initialised, and nobody else writes to it.
#[repr(transparent)]
struct SmallPage(NonNull<bindings::page>);

// What C writes to an array of them, or takes out.
const _: () = assert!(size_of::<Option<SmallPage>>() == size_of::<*mut bindings::page>());

impl Drop for SmallPage {
    fn drop(&mut self) {
        let mut page = self.0.as_ptr();
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { sys::zpipe_put_pages(&mut page, 1) };
    }
}

/// Pages of the module's own, to be read one after the other.
pub(crate) struct SmallPages {
    /// [`None`] for those that are gone.
    pages: KVec<Option<SmallPage>>,
}

// SAFETY: A page may be used and freed on any thread.
unsafe impl Send for SmallPages {}
// SAFETY: From `&self` their bytes are only read.
unsafe impl Sync for SmallPages {}

impl SmallPages {
    /// At most.
    pub(crate) const MOST: usize = 512;

    /// Room for so many pages, or as many as there may be; there is none yet. Sleeps.
    pub(crate) fn with_room(pages: usize) -> Result<Self> {
        let most = pages.min(Self::MOST);
        let mut pages = KVec::with_capacity(most, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..most {
            pages.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { pages })
    }

    /// Fills it with pages of zeros to take the place of those at `at` in the current task's memory, as many as are
    /// to be had at once; returns how many. Takes the mmap_lock, if it is free.
    pub(crate) fn fill(&mut self, at: usize) -> usize {
        self.remove(0, self.len());
        let to = self.pages.as_mut_ptr().cast();
        // INVARIANT: What it writes are pages of zeros that nobody else has.
        // SAFETY: There is room for so many pointers, which are no pages so far. CAST: A small number.
        let got = unsafe { sys::zpipe_small_replacements(at, self.len() as u32, to) };
        got as usize
    }

    /// How many pages there is room for, whether they are there or not.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Frees all but the first `pages`. Not with a lock held.
    pub(crate) fn truncate(&mut self, pages: usize) {
        self.pages.truncate(pages);
    }

    /// Frees `pages` of them, from number `from` on. Not with a lock held.
    pub(crate) fn remove(&mut self, from: usize, pages: usize) {
        for page in self.pages.iter_mut().skip(from).take(pages) {
            *page = None;
        }
    }

    /// Takes pages out of the current task's memory, from `at` on, as many as possible but at most `most`, and
    /// puts those with the numbers from `from` on there in their place: what a writer gifts, or what a reader
    /// lands. The others get these numbers. The pages behind them may be others than before, but with the same
    /// bytes.
    ///
    /// Returns how many, and why not the next one, one of the ABI's reasons, if that is not all.
    ///
    /// Sleeps, and takes the mmap_lock for writing, for a moment, if it is free: call it without locks.
    pub(crate) fn exchange(
        &mut self,
        from: usize,
        at: usize,
        most: usize,
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        let with = self.pages.get_mut(from..).unwrap_or_default();
        let there = with.iter().take(most).take_while(|page| page.is_some());
        let most = there.count();
        let mut why = 0;
        // INVARIANT: Those that come have one reference, now ours, were taken out of all page tables and off
        // all lists, and held user memory.
        // SAFETY: There are as many pages, as the type invariants say; no lock is held, says the caller.
        // CAST: At most `MOST`.
        let pages = unsafe {
            sys::zpipe_small_exchange(
                at,
                most as u32,
                with.as_mut_ptr().cast(),
                scratch.as_mut_ptr(),
                &mut why,
            )
        };
        (pages as usize, why as usize)
    }

    /// Copies at most `bytes` bytes to `dest`, from `offset` in all that there ever were on, as far as it goes without
    /// a fault; returns how many.
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
            // SAFETY: By the type invariants it is a folio of that size, initialised, and nobody writes it.
            let copied = unsafe { dest.copy_from_folio_atomic(page.0.as_ptr().cast(), from, step) };
            done += copied;
            if copied < step {
                break;
            }
        }
        done
    }
}

/// Of the pages at `at` in the current task's memory, at most `most`, how many can leave it, or be replaced by such that
/// `land`, as it seems; or how many cannot, and the reason, one of the ABI's. At least one.
///
/// Sleeps, takes the mmap_lock, and, to land, faults: call it without locks.
pub(crate) fn small_run(
    at: usize,
    most: usize,
    lands: bool,
    scratch: &mut Scratch,
) -> Result<usize, (usize, usize)> {
    let most = most.clamp(1, SmallPages::MOST);
    let mut run = 0;
    let to = scratch.as_mut_ptr().cast();
    // SAFETY: There is room for as many pointers as pages; no lock is held, says the caller. CAST: A small
    // number.
    let why = unsafe { sys::zpipe_small_probe(at, most as u32, lands, to, &mut run) };
    let run = (run as usize).clamp(1, most);
    match why {
        0 => Ok(run),
        why => Err((why as usize, run)),
    }
}
