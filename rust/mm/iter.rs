// SPDX-License-Identifier: GPL-2.0-only

//! Iterators over the memory of a read or write call, which can be rewound.
//!
//! [`Source`] and [`Dest`] wrap the kernel crate's I/O vectors. They add three things:
//!
//! - They count the bytes that were copied, so that rewinding is safe.
//! - Their atomic copies cause no page faults. They stop short instead.
//! - They find out, or ensure, that memory is resident before such a copy.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{sys, zcore::gift::HUGE_SIZE};
use core::mem::MaybeUninit;
use kernel::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

/// Memory to read from: for example the buffer of a write call.
///
/// # Invariants
///
/// `iter` has been advanced by at least `copied` bytes since it was wrapped.
pub(crate) struct Source<'a, 'data> {
    iter: &'a mut IovIterSource<'data>,
    copied: usize,
}

impl<'a, 'data> Source<'a, 'data> {
    /// Wraps an iterator. [`Self::rewind`] goes back to this position at most.
    pub(crate) fn new(iter: &'a mut IovIterSource<'data>) -> Self {
        // INVARIANT: The iterator has not been advanced since.
        Self { iter, copied: 0 }
    }

    /// The number of bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.iter.len()
    }

    /// Skips `bytes` bytes, or all that are left, for example those that readers pulled.
    pub(crate) fn skip(&mut self, bytes: usize) {
        // INVARIANT: The iterator advances, and `copied` stays as it is.
        self.iter.advance(bytes);
    }

    /// Counts resident bytes: after the next `skip` bytes, how many of `bytes` bytes, from the
    /// first on, can be read without a page fault.
    ///
    /// It stops at a mapping that only its owner may access. The result is 0 if the mmap_lock is
    /// not free. If this is not user memory, all bytes are resident.
    pub(crate) fn resident(&mut self, skip: usize, bytes: usize) -> usize {
        let left = self.remaining();
        let skip = skip.min(left);

        // SAFETY: The wrapped type guarantees that the iterator is valid. The function only reads
        // it, and goes no further than its end.
        unsafe { sys::zpipe_resident(self.iter.as_raw(), skip, bytes.min(left - skip)) }
    }

    /// Writes the ranges of user memory that are left to `spans`, as many as it has space for.
    ///
    /// Returns how many there are, which may be more. No range is empty. The result is 0 if this is
    /// not user memory.
    pub(super) fn user_spans(&mut self, spans: &mut [sys::zpipe_span]) -> usize {
        // SAFETY: The wrapped type guarantees that the iterator is valid. The function only reads
        // it. `spans` has space for as many ranges as its length says.
        unsafe { sys::zpipe_user_spans(self.iter.as_raw(), spans.as_mut_ptr(), spans.len()) }
    }

    /// Goes back by `bytes` bytes, which are then read again.
    ///
    /// It goes back by no more bytes than were copied since the iterator was wrapped.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        let bytes = bytes.min(self.copied);

        // INVARIANT: The iterator goes back by as many bytes as `copied` is reduced by.
        self.copied -= bytes;
        // SAFETY: By the type invariants the iterator has been advanced by at least `bytes`.
        unsafe { self.iter.revert(bytes) };
    }

    /// Copies at most `bytes` bytes to `offset` in `page`; returns how many.
    ///
    /// It may cause page faults, so it sleeps. It stops short only where the source cannot be read.
    ///
    /// # Safety
    ///
    /// `page` is a valid page that was allocated on its own. `offset + bytes` is at most a page.
    /// Nobody else reads or writes that part of the page meanwhile.
    pub(super) unsafe fn copy_to_page(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller guarantees that the page is valid, the wrapped type that the iterator
        // is.
        let copied =
            unsafe { bindings::copy_page_from_iter(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        copied
    }

    /// As [`Self::copy_to_page`], but it stops short instead of causing a page fault.
    ///
    /// # Safety
    ///
    /// As for [`Self::copy_to_page`].
    pub(super) unsafe fn copy_to_page_atomic(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller guarantees that the page is valid, the wrapped type that the iterator
        // is.
        let copied =
            unsafe { sys::zpipe_page_from_iter_atomic(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        copied
    }

    /// Copies at most `bytes` bytes to several pages, one after the other; returns how many.
    ///
    /// It begins at `offset` in the first page. It stops short instead of causing a page fault.
    ///
    /// # Safety
    ///
    /// `pages` points to as many valid pages as the bytes need. They are pages of user memory and
    /// pinned for writing.
    pub(super) unsafe fn copy_to_pages_atomic(
        &mut self,
        pages: *mut *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller guarantees that the pages are valid, the wrapped type that the
        // iterator is. The owner of the pages may read or write them meanwhile, as with any copy to
        // user memory. No Rust code borrows their bytes.
        let copied =
            unsafe { sys::zpipe_pages_from_iter_atomic(pages, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        copied
    }
}

/// A list of ranges of the current task's memory, to be read or written in order.
///
/// # Invariants
///
/// Each range passed `access_ok()`: it has only addresses that a user may have. `bytes` is the sum
/// of their lengths.
pub(crate) struct Ranges {
    iov: KVec<bindings::iovec>,
    bytes: usize,
}

impl Ranges {
    /// The number of ranges at which [`Self::is_full`] is true: UIO_MAXIOV.
    const MAX: usize = 1024;

    /// Creates an empty list.
    pub(crate) const fn new() -> Self {
        Self {
            iov: KVec::new(),
            bytes: 0,
        }
    }

    /// True if no more ranges may be added.
    pub(crate) fn is_full(&self) -> bool {
        self.iov.len() >= Self::MAX
    }

    /// Appends a range. Sleeps.
    ///
    /// Errors: `EFAULT` (not user addresses), `EINVAL` (the sum overflows), `ENOMEM`.
    pub(crate) fn push(&mut self, at: usize, bytes: usize) -> Result {
        // SAFETY: The function only compares numbers.
        if !unsafe { sys::zpipe_access_ok(at, bytes) } {
            return Err(EFAULT);
        }
        let sum = self.bytes.checked_add(bytes).ok_or(EINVAL)?;

        // INVARIANT: The range passed the check above, and `bytes` counts it below.
        self.iov.push(
            bindings::iovec {
                iov_base: at as *mut _,
                iov_len: bytes,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        self.bytes = sum;
        Ok(())
    }

    /// Removes all ranges.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: An empty list has 0 bytes.
        self.iov.clear();
        self.bytes = 0;
    }

    /// Calls `write` with a [`Dest`] of all ranges.
    pub(crate) fn fill<R>(&self, write: impl FnOnce(&mut Dest<'_, '_>) -> R) -> R {
        let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
        let iov = self.iov.as_ptr();

        // SAFETY: `iter` is memory for an iterator. By the type invariants the ranges are checked,
        // as readv(2) checks them, and have `bytes` bytes in all.
        unsafe {
            sys::zpipe_import_dest(iter.as_mut_ptr(), iov, self.iov.len(), self.bytes);
        }
        // SAFETY: As in [`Self::read`], but the iterator was initialised as a destination.
        let iter = unsafe { IovIterDest::from_raw(iter.as_mut_ptr()) };
        write(&mut Dest::new(iter))
    }

    /// Calls `read` with a [`Source`] of all ranges.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Source<'_, '_>) -> R) -> R {
        let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
        let iov = self.iov.as_ptr();

        // SAFETY: `iter` is memory for an iterator. By the type invariants the ranges are checked,
        // as writev(2) checks them, and have `bytes` bytes in all.
        unsafe {
            sys::zpipe_import_source(iter.as_mut_ptr(), iov, self.iov.len(), self.bytes);
        }
        // SAFETY: The iterator was initialised as a source. It and the ranges outlive the call of
        // `read`, and only `read` uses the iterator. It refers to user memory, which the C
        // functions for iterators may read at any time in the task that owns it.
        let iter = unsafe { IovIterSource::from_raw(iter.as_mut_ptr()) };
        read(&mut Source::new(iter))
    }
}

/// Memory to write to: for example the buffer of a read call.
///
/// # Invariants
///
/// `iter` has been advanced by at least `copied` bytes since it was wrapped.
pub(crate) struct Dest<'a, 'data> {
    iter: &'a mut IovIterDest<'data>,
    copied: usize,
}

impl<'a, 'data> Dest<'a, 'data> {
    /// Wraps an iterator. [`Self::rewind`] goes back to this position at most.
    pub(crate) fn new(iter: &'a mut IovIterDest<'data>) -> Self {
        // INVARIANT: The iterator has not been advanced since.
        Self { iter, copied: 0 }
    }

    /// The space left, in bytes.
    pub(crate) fn remaining(&self) -> usize {
        self.iter.len()
    }

    /// Goes back by `bytes` bytes, which are then written again.
    ///
    /// It goes back by no more bytes than were copied since the iterator was wrapped.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        let bytes = bytes.min(self.copied);

        // INVARIANT: The iterator goes back by as many bytes as `copied` is reduced by.
        self.copied -= bytes;
        // SAFETY: By the type invariants the iterator has been advanced by at least `bytes`.
        unsafe { self.iter.revert(bytes) };
    }

    /// Skips `bytes` bytes of space, or all that is left, for example what a writer pushed to.
    pub(crate) fn skip(&mut self, bytes: usize) {
        // INVARIANT: The iterator advances, and `copied` stays as it is.
        self.iter.advance(bytes);
    }

    /// As [`Source::user_spans`], but of the space that is left.
    pub(super) fn user_spans(&mut self, spans: &mut [sys::zpipe_span]) -> usize {
        // SAFETY: The wrapped type guarantees that the iterator is valid. The function only reads
        // it. `spans` has space for as many ranges as its length says.
        unsafe { sys::zpipe_user_spans(self.iter.as_raw(), spans.as_mut_ptr(), spans.len()) }
    }

    /// The address of the next byte, if an aligned huge page of user memory begins there.
    pub(crate) fn huge_page(&mut self) -> Option<usize> {
        let (at, bytes) = self.user_memory()?;
        (at % HUGE_SIZE == 0 && bytes >= HUGE_SIZE).then_some(at)
    }

    /// The address of the next byte and the length of the range from there on, if it is user
    /// memory.
    pub(crate) fn user_memory(&mut self) -> Option<(usize, usize)> {
        let mut first = [sys::zpipe_span { start: 0, bytes: 0 }];
        let [sys::zpipe_span { start, bytes }] = match self.user_spans(&mut first) {
            0 => return None,
            _ => first,
        };
        Some((start, bytes))
    }

    /// Faults in the next `bytes` bytes for writing.
    ///
    /// Returns how many of them, from the first on, are writable now. The kernel may take the pages
    /// away again before they are used. Sleeps, and takes the mmap_lock of the current task: call
    /// it without locks.
    pub(crate) fn fault_in(&mut self, bytes: usize) -> usize {
        // SAFETY: The wrapped type guarantees that the iterator is valid.
        let missed = unsafe { sys::zpipe_fault_in_writeable(self.iter.as_raw(), bytes) };
        bytes.saturating_sub(missed)
    }

    /// Copies at most `bytes` bytes from `offset` in `page`; returns how many. It stops short
    /// instead of causing a page fault.
    ///
    /// # Safety
    ///
    /// `page` is a valid page, and `offset + bytes` is at most
    /// [`PAGE_SIZE`](kernel::page::PAGE_SIZE). That part of it is initialised, and nobody else in
    /// the kernel writes to it meanwhile.
    pub(super) unsafe fn copy_from_page_atomic(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller guarantees that the page is valid, the wrapped type that the iterator
        // is.
        let copied =
            unsafe { sys::zpipe_page_to_iter_atomic(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        copied
    }

    /// Copies at most `bytes` bytes from `offset` in `folio`; returns how many. It stops short at
    /// bad memory, and instead of causing a page fault.
    ///
    /// # Safety
    ///
    /// `folio` is a valid folio, and `offset + bytes` is at most its size. All of it is
    /// initialised. Nobody else writes to it meanwhile, except user space through its mappings, and
    /// the kernel or a device on behalf of user space.
    pub(super) unsafe fn copy_from_folio_atomic(
        &mut self,
        folio: *mut bindings::folio,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller guarantees that the folio is valid, the wrapped type that the iterator
        // is.
        let copied =
            unsafe { sys::zpipe_folio_to_iter_atomic(folio, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        copied
    }

    /// Copies at most `bytes` bytes from several pages, one after the other, from `offset` in the
    /// first.
    ///
    /// Returns how many were copied, and true if the copy stopped at bad memory. It stops short
    /// instead of causing a page fault.
    ///
    /// # Safety
    ///
    /// `pages` points to as many valid pages of user memory as the bytes need.
    pub(super) unsafe fn copy_from_pages_atomic(
        &mut self,
        pages: *mut *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> (usize, bool) {
        let mut bad = false;
        // SAFETY: The caller guarantees that the pages are valid, the wrapped type that the
        // iterator is. User memory is initialised. If its owner writes to it meanwhile, the copy
        // has the old or the new bytes, as any copy from user memory.
        let copied = unsafe {
            sys::zpipe_pages_to_iter_atomic(pages, offset, bytes, self.iter.as_raw(), &mut bad)
        };
        // INVARIANT: The iterator was advanced by the number of copied bytes.
        self.copied += copied;
        (copied, bad)
    }
}

/// Makes atomic copies stop short, for tests.
///
/// - 0: none.
/// - 1: about half of them, in the middle.
/// - 2: all of them, before the first byte.
///
/// It is rare that a page is missing in the middle of such a copy. Without this, tests would rarely
/// reach the code that follows a short copy.
pub(crate) fn cut_copies(how: u8) {
    // SAFETY: The function only sets a flag.
    unsafe { sys::zpipe_cut_copies(how) };
}
