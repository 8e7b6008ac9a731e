// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a task that waits, seen from another.
//!
//! Nobody faults in somebody else's memory: pages are looked up only if they are there, with an
//! mmap_lock that is only tried, and a batch of them is held only while it is copied. So all of
//! this may be done under a lock that the memory's owner waits for.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{Dest, Source};
use crate::sys::{self, zpipe_span as Span};
use core::ptr;
use kernel::{
    alloc::AllocError,
    bindings,
    mm::{virt::VmaRef, MmWithUser},
    page::{PAGE_MASK, PAGE_SIZE},
    prelude::*,
    sync::aref::ARef,
};

/// Why bytes could not be had without their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The owner's address space is being changed.
    Busy,
    /// There is no mapping, or one that only its owner may read.
    Mapping,
    /// The page is not there.
    Page,
}

/// Why a pull came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// There is more, or all was pulled.
    All,
    /// The next byte cannot be read.
    Missed(Miss),
    /// The next byte cannot be delivered without a fault.
    NoRoom,
}

/// What a task has to write, wherever it is in its memory.
pub(crate) struct RemoteSource {
    mm: ARef<MmWithUser>,
    /// None of them is empty.
    spans: KVec<Span>,
    /// The spans before this one are done.
    next: usize,
    /// So is so much of this one.
    skip: usize,
}

impl RemoteSource {
    /// Pages that are looked up, and held, at a time.
    const BATCH: usize = 16;

    /// What is left of `source`, a source of the current task's. [`None`] if it is not user memory.
    ///
    /// Sleeps.
    pub(crate) fn new(source: &mut Source<'_, '_>) -> Result<Option<Self>, AllocError> {
        let task = current!();
        let Some(mm) = task.mm() else {
            return Ok(None);
        };
        let count = source.user_spans(&mut []);
        if count == 0 {
            return Ok(None);
        }

        let mut spans = KVec::from_elem(Span::default(), count, GFP_KERNEL_ACCOUNT)?;
        source.user_spans(&mut spans);
        let this = Self {
            mm: mm.into(),
            spans,
            next: 0,
            skip: 0,
        };
        Ok((!this.is_private()).then_some(this))
    }

    /// Whether its memory is of a kind that only its owner may read.
    fn is_private(&self) -> bool {
        let first = self.spans.first().map_or(0, |span| span.start);
        matches!(Batch::new(&self.mm, first, 1), Err(Miss::Mapping))
    }

    /// Skips `bytes` bytes, at most those there are.
    pub(crate) fn skip(&mut self, mut bytes: usize) {
        while let Some(span) = self.spans.get(self.next) {
            let step = bytes.min(span.bytes - self.skip);

            self.skip += step;
            bytes -= step;
            if self.skip < span.bytes {
                return;
            }
            self.next += 1;
            self.skip = 0;
        }
    }

    /// Goes back by `bytes` bytes, at most to the start.
    pub(crate) fn rewind(&mut self, mut bytes: usize) {
        while bytes > self.skip {
            let Some(next) = self.next.checked_sub(1) else {
                self.skip = 0;
                return;
            };
            bytes -= self.skip;
            self.next = next;
            self.skip = self.spans.get(next).map_or(0, |span| span.bytes);
        }
        self.skip -= bytes;
    }

    /// Copies at most `bytes` bytes to `dest`, without a fault of anybody's; returns how many.
    ///
    /// They are consumed: what did not come is what a next call begins with.
    pub(crate) fn pull(&mut self, bytes: usize, dest: &mut Dest<'_, '_>) -> (usize, Pulled) {
        let mut done = 0;

        while done < bytes {
            let Some(span) = self.spans.get(self.next) else {
                return (done, Pulled::Missed(Miss::Mapping));
            };
            let start = span.start.wrapping_add(self.skip);
            let want = (span.bytes - self.skip).min(bytes - done);
            let batch = match Batch::new(&self.mm, start, want) {
                Ok(batch) => batch,
                Err(miss) => return (done, Pulled::Missed(miss)),
            };
            let copied = batch.copy(start % PAGE_SIZE, want, dest);

            self.skip(copied);
            done += copied;
            if copied < want.min(batch.bytes(start % PAGE_SIZE)) {
                return (done, Pulled::NoRoom);
            }
        }
        (done, Pulled::All)
    }
}

/// A few pages of somebody's memory, one after the other, held.
///
/// # Invariants
///
/// Of `pages` the first `count` are valid, with a reference of ours each.
struct Batch {
    pages: [*mut bindings::page; RemoteSource::BATCH],
    count: usize,
}

impl Batch {
    /// Holds the pages of `bytes` bytes at `start`, from the first on, at least that one and as
    /// many as there are.
    fn new(mm: &MmWithUser, start: usize, bytes: usize) -> Result<Self, Miss> {
        let first = start & PAGE_MASK;
        let guard = mm.mmap_read_trylock().ok_or(Miss::Busy)?;
        let vma = guard.vma_lookup(first).ok_or(Miss::Mapping)?;
        if has_pkey(vma) {
            // Whether this task may read it, only this task knows.
            return Err(Miss::Mapping);
        }

        let end = start.saturating_add(bytes).min(vma.end());
        let wanted = (end - first).div_ceil(PAGE_SIZE).min(RemoteSource::BATCH);
        let mut pages = [ptr::null_mut(); RemoteSource::BATCH];
        // SAFETY: `mm` is valid, with its mmap_lock held for reading, and `pages` has room for
        // `wanted` pointers.
        let got = unsafe {
            bindings::get_user_pages_remote(
                mm.as_raw(),
                first,
                wanted,
                bindings::FOLL_NOFAULT,
                pages.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        match usize::try_from(got) {
            // INVARIANT: So many pages are valid and referenced.
            Ok(count @ 1..) => Ok(Self { pages, count }),
            _ => Err(Miss::Page),
        }
    }

    /// Bytes in these pages from `offset` in the first.
    fn bytes(&self, offset: usize) -> usize {
        self.count * PAGE_SIZE - offset
    }

    /// Copies at most `bytes` bytes, from `offset` in the first page, as far as it goes without a
    /// fault; returns how many.
    fn copy(&self, mut offset: usize, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        let mut done = 0;

        for page in self.pages.iter().take(self.count) {
            let want = (bytes - done).min(PAGE_SIZE - offset);
            if want == 0 {
                break;
            }
            // SAFETY: By the type invariants the page is valid. It is user memory: initialised,
            // and what its owner writes to it meanwhile shows or does not, as in any copy from a
            // user's memory.
            let copied = unsafe { dest.copy_from_page_atomic(*page, offset, want) };
            done += copied;
            offset = 0;
            if copied < want {
                break;
            }
        }
        done
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for page in self.pages.iter().take(self.count) {
            // SAFETY: By the type invariants there is a reference of ours, and it goes away with
            // the batch.
            unsafe { sys::zpipe_put_page(*page) };
        }
    }
}

/// Whether who may access the mapping depends on the accessing thread.
fn has_pkey(vma: &VmaRef) -> bool {
    // SAFETY: The mapping is valid, and its mm is locked for as long as it is borrowed.
    unsafe { sys::zpipe_vma_has_pkey(vma.as_ptr()) }
}
