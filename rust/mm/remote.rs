// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a task that waits, seen from another.
//!
//! Nobody faults in somebody else's memory: pages are looked up only if they are there, with an
//! mmap_lock that is only tried, and a batch of them is held only while it is copied. So all of
//! this may be done under a lock that the memory's owner waits for.
//!
//! Pages that are written to are pinned: that is case 5 of Documentation/core-api/pin_user_pages.rst.
//! The same page would have pages pinned whose data is read, too. They are only referenced (FOLL_GET),
//! because a pin takes more than is there, and does nothing for who only reads:
//!
//! - Anonymous memory can be pinned only where it is the task's alone. What it shares since a fork,
//!   or with KSM, has to be unshared first, by a fault (`gup_must_unshare()`); and nobody faults
//!   here. Such memory could not be read at all.
//! - A pin tells a later fork to copy the page for the child at once, and write-back that the page
//!   may change at any time. Neither matters to a reader, who wants what is there now.
//! - That the page does not become somebody else's while it is read needs a reference only: as
//!   long as there is one more than mappings, no other task that shares it may write to it in place
//!   (`wp_can_reuse_anon_folio()`).
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{Dest, Source};
use crate::{
    sync::Word,
    sys::{self, zpipe_span as Span},
};
use core::ptr;
use kernel::{
    alloc::AllocError,
    bindings,
    mm::{virt::VmaRef, MmWithUser, MmWithUserAsync},
    page::{PAGE_MASK, PAGE_SIZE},
    prelude::*,
    sync::aref::ARef,
};

/// What [`batch`] says.
static BATCH: Word = Word::new(1);

/// Sets how many pages are looked up, and held, at a time. Once, before there is a pipe.
pub(crate) fn set_batch(pages: u32) {
    BATCH.write(u64::from(pages).clamp(1, Batch::MOST as u64));
}

/// Pages that are looked up, and held, at a time.
fn batch() -> usize {
    // CAST: At most `Batch::MOST`.
    BATCH.read() as usize
}

/// Why bytes could not be had without their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The owner's address space is being changed.
    Busy,
    /// There is no mapping, or one that is left to its owner.
    Mapping,
    /// The page is not there.
    Page,
}

/// Why a copy between a task's own memory and another's came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There is more, or all was copied.
    All,
    /// The next byte of the other's memory cannot be had.
    Missed(Miss),
    /// The next byte of the task's own cannot be had without a fault, or it is being killed.
    Stopped,
}

/// A buffer of a task's, wherever it is in its memory.
struct Remote {
    /// Let go of asynchronously: the last reference tears the address space down, which takes long
    /// and sleeps, and it may be dropped with a pipe's lock held.
    mm: ARef<MmWithUserAsync>,
    /// None of them is empty.
    spans: KVec<Span>,
    /// The spans before this one are done.
    next: usize,
    /// So is so much of this one.
    skip: usize,
}

impl Remote {
    /// A buffer of the current task's: `list` writes its spans, as far as there is room, and
    /// returns how many there are. [`None`] if there is none. Sleeps.
    fn new(mut list: impl FnMut(&mut [Span]) -> usize) -> Result<Option<Self>, AllocError> {
        let task = current!();
        let Some(mm) = task.mm() else {
            return Ok(None);
        };
        let count = list(&mut []);
        if count == 0 {
            return Ok(None);
        }

        let mut spans = KVec::from_elem(Span::default(), count, GFP_KERNEL_ACCOUNT)?;
        list(&mut spans);
        Ok(Some(Self {
            mm: MmWithUser::into_mmput_async(mm.into()),
            spans,
            next: 0,
            skip: 0,
        }))
    }

    /// Skips `bytes` bytes, at most those there are.
    fn skip(&mut self, mut bytes: usize) {
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
    fn rewind(&mut self, mut bytes: usize) {
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

    /// Copies at most `bytes` bytes, without a fault of anybody's; returns how many. `copy` does so
    /// with what is held of them: a batch, an offset in it, and how many it may copy.
    ///
    /// They are consumed: what was not copied is what a next call begins with.
    fn copy(
        &mut self,
        kind: Access,
        bytes: usize,
        mut copy: impl FnMut(&mut Batch, usize, usize) -> usize,
    ) -> (usize, Ended) {
        let mut done = 0;

        while done < bytes {
            let Some(span) = self.spans.get(self.next) else {
                return (done, Ended::Missed(Miss::Mapping));
            };
            let start = span.start.wrapping_add(self.skip);
            let want = (span.bytes - self.skip).min(bytes - done);
            let mut batch = match Batch::new(&self.mm, start, want, kind) {
                Ok(batch) => batch,
                Err(end) => return (done, end),
            };
            let offset = start % PAGE_SIZE;
            let held = want.min(batch.bytes(offset));
            let copied = copy(&mut batch, offset, held);
            drop(batch);

            self.skip(copied);
            done += copied;
            if copied < held {
                return (done, Ended::Stopped);
            }
        }
        (done, Ended::All)
    }

    /// Whether its memory is of a kind that only its owner may read.
    fn is_private(&self) -> bool {
        let first = self.spans.first().map_or(0, |span| span.start);
        matches!(
            Batch::new(&self.mm, first, 1, Access::Read),
            Err(Ended::Missed(Miss::Mapping))
        )
    }
}

/// What a task has to write.
pub(crate) struct RemoteSource(Remote);

impl RemoteSource {
    /// What is left of `source`, a source of the current task's. [`None`] if it is not user memory,
    /// or of a kind that only its owner may read.
    ///
    /// Sleeps.
    pub(crate) fn new(source: &mut Source<'_, '_>) -> Result<Option<Self>, AllocError> {
        let remote = Remote::new(|spans| source.user_spans(spans))?;
        Ok(remote.filter(|remote| !remote.is_private()).map(Self))
    }

    /// Skips `bytes` bytes, at most those there are.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.0.skip(bytes);
    }

    /// Goes back by `bytes` bytes, at most to the start.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        self.0.rewind(bytes);
    }

    /// Copies at most `bytes` bytes to `dest`, without a fault of anybody's; returns how many.
    ///
    /// They are consumed: what did not come is what a next call begins with.
    pub(crate) fn pull(&mut self, bytes: usize, dest: &mut Dest<'_, '_>) -> (usize, Ended) {
        self.0.copy(Access::Read, bytes, |batch, offset, bytes| {
            // SAFETY: The pages are valid, user memory, and have `bytes` bytes from there on.
            unsafe { dest.copy_from_pages_atomic(batch.pages.as_mut_ptr(), offset, bytes) }
        })
    }
}

/// Where a task wants to read to.
pub(crate) struct RemoteDest(Remote);

impl RemoteDest {
    /// What is left of `dest`, a destination of the current task's. [`None`] if it is not user
    /// memory.
    ///
    /// Sleeps.
    pub(crate) fn new(dest: &mut Dest<'_, '_>) -> Result<Option<Self>, AllocError> {
        Ok(Remote::new(|spans| dest.user_spans(spans))?.map(Self))
    }

    /// Copies at most `bytes` bytes of `source`, without a fault of anybody's; returns how many.
    pub(crate) fn push(&mut self, bytes: usize, source: &mut Source<'_, '_>) -> (usize, Ended) {
        self.0.copy(Access::Write, bytes, |batch, offset, bytes| {
            // SAFETY: The pages are valid, user memory, pinned for writing, and have room for `bytes`
            // bytes from there on.
            unsafe { source.copy_to_pages_atomic(batch.pages.as_mut_ptr(), offset, bytes) }
        })
    }
}

/// What is done with somebody's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A few pages of somebody's memory, one after the other, held.
///
/// # Invariants
///
/// Of `pages` the first `count` are valid, with a reference of ours each; a pin, if it is for
/// writing.
struct Batch {
    pages: [*mut bindings::page; Batch::MOST],
    count: usize,
    access: Access,
}

impl Batch {
    /// Pages that are looked up, and held, at a time, whatever the parameter says.
    const MOST: usize = 64;

    /// Holds the pages of `bytes` bytes at `start`, from the first on, at least that one and as
    /// many as there are.
    fn new(mm: &MmWithUser, start: usize, bytes: usize, access: Access) -> Result<Self, Ended> {
        let first = start & PAGE_MASK;
        let guard = mm.mmap_read_trylock().ok_or(Ended::Missed(Miss::Busy))?;
        let vma = guard
            .vma_lookup(first)
            .ok_or(Ended::Missed(Miss::Mapping))?;
        // To write to a file may take more than the page.
        if is_private(vma) || (access == Access::Write && !is_anonymous(vma)) {
            return Err(Ended::Missed(Miss::Mapping));
        }

        let end = start.saturating_add(bytes).min(vma.end());
        let wanted = (end - first).div_ceil(PAGE_SIZE).min(batch());
        let mut pages = [ptr::null_mut(); Self::MOST];
        // SAFETY: `mm` is valid, with its mmap_lock held for reading, and `pages` has room for
        // `wanted` pointers.
        let got = unsafe {
            match access {
                Access::Read => bindings::get_user_pages_remote(
                    mm.as_raw(),
                    first,
                    wanted,
                    bindings::FOLL_NOFAULT,
                    pages.as_mut_ptr(),
                    ptr::null_mut(),
                ),
                Access::Write => bindings::pin_user_pages_remote(
                    mm.as_raw(),
                    first,
                    wanted,
                    bindings::FOLL_NOFAULT | bindings::FOLL_WRITE,
                    pages.as_mut_ptr(),
                    ptr::null_mut(),
                ),
            }
        };
        match usize::try_from(got) {
            // INVARIANT: So many pages are valid and referenced, or pinned.
            Ok(count @ 1..) => Ok(Self {
                pages,
                count,
                access,
            }),
            // The current task is being killed.
            _ if got == -(bindings::EINTR as isize) => Err(Ended::Stopped),
            _ => Err(Ended::Missed(Miss::Page)),
        }
    }

    /// Bytes in these pages from `offset` in the first.
    fn bytes(&self, offset: usize) -> usize {
        self.count * PAGE_SIZE - offset
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        match self.access {
            Access::Read => {
                // SAFETY: By the type invariants there is a reference of ours to so many, and they
                // go away with the batch.
                unsafe { sys::zpipe_put_pages(self.pages.as_mut_ptr(), self.count) };
            }
            // SAFETY: By the type invariants so many pages are pinned by us, and the pins go away
            // with the batch. They are anonymous memory's.
            Access::Write => unsafe {
                sys::zpipe_unpin_anonymous_dirty(self.pages.as_mut_ptr(), self.count)
            },
        }
    }
}

/// Whether it is of a kind that is left to its owner: who may access it depends on the accessing
/// thread, or to look up its pages may sleep.
fn is_private(vma: &VmaRef) -> bool {
    // SAFETY: The mapping is valid, and its mm is locked for as long as it is borrowed.
    unsafe { sys::zpipe_vma_is_private(vma.as_ptr()) }
}

/// Whether it is memory of the task's alone.
fn is_anonymous(vma: &VmaRef) -> bool {
    // SAFETY: As above.
    unsafe { sys::zpipe_vma_is_anonymous(vma.as_ptr()) }
}
