// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a posted write or posted read, as another task accesses it.
//!
//! A task that copies from or to the owner's memory does so under the inner lock, for which the
//! owner may wait. So it must not wait for anything that the owner might hold:
//!
//! - It looks up resident pages only, and causes no fault in the owner's memory.
//! - It only tries the mmap_lock of the owner's address space.
//! - It holds a batch of pages only while it copies them.
//!
//! A push pins the pages to which it writes (FOLL_PIN): that is case 5 of
//! Documentation/core-api/pin_user_pages.rst. According to that document, pages whose data is only
//! read should be pinned, too. A pull only takes references to them (FOLL_GET), because pins need
//! more than resident pages, and a reader gains nothing from them:
//!
//! - Anonymous memory can be pinned only if it belongs to the task alone. Memory that is shared
//!   since a fork, or by KSM, must first be unshared by a fault (`gup_must_unshare()`). A pull
//!   causes no faults, so it could not read such memory at all.
//! - A pin makes a later fork copy the page for the child at once. It tells write-back that the
//!   page may change at any time. Neither matters to a reader, which wants the current bytes.
//! - A reference is enough to keep the page from becoming another task's while it is read. While
//!   there are more references than mappings, no other task that shares the page may write to it in
//!   place (`wp_can_reuse_anon_folio()`).
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{Dest, Source};
use crate::{
    sync::Word,
    sys::{self, zpipe_span as Span},
    zcore::outcome::{Miss, Outcome},
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

/// The value that [`batch`] returns.
static BATCH: Word = Word::new(1);

/// Sets how many pages a batch has at most. Called once, before the first pipe exists.
pub(crate) fn set_batch(pages: u32) {
    BATCH.write(u64::from(pages).clamp(1, Batch::MAX as u64));
}

/// The maximal number of pages that are looked up and held at a time.
fn batch() -> usize {
    // CAST: The value is at most `Batch::MAX`.
    BATCH.read() as usize
}

/// A buffer in the memory of a task, and a position in it.
struct Remote {
    /// The owner's address space. The reference is released asynchronously, so that this object
    /// could be dropped anywhere: releasing the last reference tears down the address space, which
    /// sleeps and takes long. Today only its owner drops it, without the inner lock.
    mm: ARef<MmWithUserAsync>,
    /// The address ranges of the buffer. No range is empty.
    spans: KVec<Span>,
    /// The index of the range that contains the position.
    next: usize,
    /// The offset of the position in that range.
    skip: usize,
}

impl Remote {
    /// Creates a description of a buffer of the current task.
    ///
    /// `list` writes its ranges to the slice, as many as fit, and returns how many there are.
    /// [`None`] if there are no ranges, or if the task has no address space. Sleeps.
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

    /// Advances by `bytes` bytes, at most to the end.
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

    /// Goes back to the start.
    fn restart(&mut self) {
        (self.next, self.skip) = (0, 0);
    }

    /// Copies at most `bytes` bytes and advances by the number of copied bytes, which it returns.
    ///
    /// For each batch of pages it calls `copy` with the batch, the offset in it, and the number of
    /// bytes to copy; `copy` returns how many it copied. It causes no page fault in the owner's
    /// memory. If the buffer ends before `bytes` bytes, the outcome is [`Miss::Mapping`].
    fn copy(
        &mut self,
        purpose: Purpose,
        bytes: usize,
        mut copy: impl FnMut(&mut Batch, usize, usize) -> usize,
    ) -> (usize, Outcome) {
        let mut done = 0;

        while done < bytes {
            let Some(span) = self.spans.get(self.next) else {
                return (done, Outcome::Missed(Miss::Mapping));
            };
            let start = span.start.wrapping_add(self.skip);
            let want = (span.bytes - self.skip).min(bytes - done);
            let mut batch = match Batch::new(&self.mm, start, want, purpose) {
                Ok(batch) => batch,
                Err(outcome) => return (done, outcome),
            };
            let offset = start % PAGE_SIZE;
            let held = want.min(batch.bytes(offset));
            let copied = copy(&mut batch, offset, held);
            drop(batch);

            self.skip(copied);
            done += copied;
            if copied < held {
                return (done, Outcome::Stopped);
            }
        }
        (done, Outcome::All)
    }

    /// True if at the start of the buffer nothing is mapped, or only its owner may access the
    /// mapping. False if the mmap_lock is not free.
    fn only_owner_may_read(&self) -> bool {
        let first = self.spans.first().map_or(0, |span| span.start);
        matches!(
            Batch::new(&self.mm, first, 1, Purpose::Read),
            Err(Outcome::Missed(Miss::Mapping))
        )
    }
}

/// The memory of a posted write.
pub(crate) struct RemoteSource(Remote);

impl RemoteSource {
    /// Describes what is left of `source`, which belongs to the current task.
    ///
    /// [`None`] if it is not user memory, or if only its owner may read it. Only the first page is
    /// checked here. Sleeps.
    pub(crate) fn new(source: &mut Source<'_, '_>) -> Result<Option<Self>, AllocError> {
        let remote = Remote::new(|spans| source.user_spans(spans))?;
        Ok(remote
            .filter(|remote| !remote.only_owner_may_read())
            .map(Self))
    }

    /// Advances by `bytes` bytes, at most to the end.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.0.skip(bytes);
    }

    /// Goes back by `bytes` bytes, at most to the start.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        self.0.rewind(bytes);
    }

    /// Copies at most `bytes` bytes to `dest` and advances by the number of copied bytes, which it
    /// returns. It causes no page fault in the memory of either task.
    pub(crate) fn pull(&mut self, bytes: usize, dest: &mut Dest<'_, '_>) -> (usize, Outcome) {
        let mut bad = false;
        let (copied, outcome) = self.0.copy(Purpose::Read, bytes, |batch, offset, bytes| {
            // SAFETY: The batch holds the pages, so they are valid, and they are user memory. They
            // have `bytes` bytes from `offset` on.
            let (copied, page_is_bad) =
                unsafe { dest.copy_from_pages_atomic(batch.pages.as_mut_ptr(), offset, bytes) };
            bad = page_is_bad;
            copied
        });
        // Bad memory counts as a miss. The owner then copies the page itself, and the kernel
        // reports the bad memory to it.
        let outcome = if bad {
            Outcome::Missed(Miss::Page)
        } else {
            outcome
        };
        (copied, outcome)
    }
}

/// The memory of a posted read.
pub(crate) struct RemoteDest(Remote);

impl RemoteDest {
    /// Describes what is left of `dest`, which belongs to the current task.
    ///
    /// [`None`] if it is not user memory. Sleeps.
    pub(crate) fn new(dest: &mut Dest<'_, '_>) -> Result<Option<Self>, AllocError> {
        Ok(Remote::new(|spans| dest.user_spans(spans))?.map(Self))
    }

    /// Copies at most `bytes` bytes of `source` to the start of the buffer; returns how many.
    ///
    /// It overwrites what an earlier push copied there. It causes no page fault in the memory of
    /// either task.
    pub(crate) fn push(&mut self, bytes: usize, source: &mut Source<'_, '_>) -> (usize, Outcome) {
        self.0.restart();
        self.0.copy(Purpose::Write, bytes, |batch, offset, bytes| {
            // SAFETY: The batch holds the pages, so they are valid. They are user memory, pinned
            // for writing, and have space for `bytes` bytes from `offset` on.
            unsafe { source.copy_to_pages_atomic(batch.pages.as_mut_ptr(), offset, bytes) }
        })
    }
}

/// What a batch of pages is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
}

/// Consecutive pages of a task's memory that another task holds for a copy.
///
/// # Invariants
///
/// The first `count` of `pages` are valid. For each this object owns a reference if `purpose` is
/// `Read`, and a pin if it is `Write`.
struct Batch {
    pages: [*mut bindings::page; Batch::MAX],
    count: usize,
    purpose: Purpose,
}

impl Batch {
    /// The maximal number of pages in a batch, whatever the module parameter says.
    const MAX: usize = 64;

    /// Holds the resident pages at `start`, as many as `bytes` bytes need, but no more than a batch
    /// may have. It stops at the first page that is not resident, or at the end of the mapping.
    ///
    /// It only tries the mmap_lock. The error is a miss if not even the first page can be held, and
    /// [`Outcome::Stopped`] if the current task is being killed.
    fn new(mm: &MmWithUser, start: usize, bytes: usize, purpose: Purpose) -> Result<Self, Outcome> {
        let first = start & PAGE_MASK;
        let guard = mm.mmap_read_trylock().ok_or(Outcome::Missed(Miss::Busy))?;
        let vma = guard
            .vma_lookup(first)
            .ok_or(Outcome::Missed(Miss::Mapping))?;
        // Before a write to a file mapping the kernel has to notify the file system, so a push
        // writes to anonymous memory only.
        if is_owner_only(vma) || (purpose == Purpose::Write && !is_anonymous(vma)) {
            return Err(Outcome::Missed(Miss::Mapping));
        }

        let end = start.saturating_add(bytes).min(vma.end());
        let wanted = (end - first).div_ceil(PAGE_SIZE).min(batch());
        let mut pages = [ptr::null_mut(); Self::MAX];
        // SAFETY: `mm` is valid, and the guard holds its mmap_lock for reading. `pages` has space
        // for `wanted` pointers.
        let got = unsafe {
            match purpose {
                Purpose::Read => bindings::get_user_pages_remote(
                    mm.as_raw(),
                    first,
                    wanted,
                    bindings::FOLL_NOFAULT,
                    pages.as_mut_ptr(),
                    ptr::null_mut(),
                ),
                Purpose::Write => bindings::pin_user_pages_remote(
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
            // INVARIANT: The kernel stored this many pages, and took a reference to each or pinned
            // each.
            Ok(count @ 1..) => Ok(Self {
                pages,
                count,
                purpose,
            }),
            // The current task is being killed.
            _ if got == -(bindings::EINTR as isize) => Err(Outcome::Stopped),
            _ => Err(Outcome::Missed(Miss::Page)),
        }
    }

    /// The number of bytes in these pages from `offset` in the first one on.
    fn bytes(&self, offset: usize) -> usize {
        self.count * PAGE_SIZE - offset
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        match self.purpose {
            Purpose::Read => {
                // SAFETY: By the type invariants this object owns references to these pages. It
                // gives them up here.
                unsafe { sys::zpipe_put_pages(self.pages.as_mut_ptr(), self.count) };
            }
            // SAFETY: By the type invariants this object owns pins of these pages. It gives them up
            // here. `Batch::new` pins only pages of anonymous memory.
            Purpose::Write => unsafe {
                sys::zpipe_unpin_anonymous_dirty(self.pages.as_mut_ptr(), self.count)
            },
        }
    }
}

/// True if only the owner may access the mapping, for one of these reasons:
///
/// - Access depends on the protection keys of the accessing thread.
/// - Looking up the pages may sleep (hugetlbfs).
/// - There are no pages to look up (a device).
fn is_owner_only(vma: &VmaRef) -> bool {
    // SAFETY: The mapping is valid, and its mm is locked as long as it is borrowed.
    unsafe { sys::zpipe_vma_is_owner_only(vma.as_ptr()) }
}

/// True if the mapping is of anonymous memory.
fn is_anonymous(vma: &VmaRef) -> bool {
    // SAFETY: As above.
    unsafe { sys::zpipe_vma_is_anonymous(vma.as_ptr()) }
}
