// SPDX-License-Identifier: GPL-2.0-only

//! Iterators over somebody's memory that can be taken back.
//!
//! [`Source`] and [`Dest`] wrap the kernel crate's I/O vectors. They count what has been taken, so
//! that taking it back is safe, and they can resolve faults ahead of a copy that must not fault.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{sys, zcore::gift::HUGE_SIZE};
use core::mem::MaybeUninit;
use kernel::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

/// Memory that is read from: the buffer of a write.
///
/// # Invariants
///
/// `iter` has been advanced by at least `taken` bytes since it was wrapped.
pub(crate) struct Source<'a, 'data> {
    iter: &'a mut IovIterSource<'data>,
    taken: usize,
}

impl<'a, 'data> Source<'a, 'data> {
    /// Wraps an iterator. Only what is taken from now on can be taken back.
    pub(crate) fn new(iter: &'a mut IovIterSource<'data>) -> Self {
        // INVARIANT: Nothing has been taken.
        Self { iter, taken: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.iter.len()
    }

    /// Skips `bytes` bytes that were taken by other means, at most those that are left.
    pub(crate) fn skip(&mut self, bytes: usize) {
        // INVARIANT: The iterator is advanced, and the count is not.
        self.iter.advance(bytes);
    }

    /// How many of the `bytes` bytes behind the next `skip` ones are present: from the first on,
    /// those that can be read without a fault.
    pub(crate) fn present(&mut self, skip: usize, bytes: usize) -> usize {
        let left = self.remaining();
        let skip = skip.min(left);

        // SAFETY: The wrapped type vouches for the iterator, which is only read, and not beyond its
        // end.
        unsafe { sys::zpipe_present(self.iter.as_raw(), skip, bytes.min(left - skip)) }
    }

    /// Writes to `spans`, as far as there is room, where what is left is in the user's memory;
    /// returns how many spans that are. None of them is empty. 0 if it is not user memory.
    pub(super) fn user_spans(&mut self, spans: &mut [sys::zpipe_span]) -> usize {
        // SAFETY: The wrapped type vouches for the iterator, which is only read; there is room for
        // as many spans as the slice is long.
        unsafe { sys::zpipe_user_spans(self.iter.as_raw(), spans.as_mut_ptr(), spans.len()) }
    }

    /// Takes the last `bytes` bytes back: they come again.
    ///
    /// Bytes that were never taken are not given.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        let bytes = bytes.min(self.taken);

        // INVARIANT: The iterator goes back by as much as the count does.
        self.taken -= bytes;
        // SAFETY: By the type invariants the iterator has been advanced by at least `bytes`.
        unsafe { self.iter.revert(bytes) };
    }

    /// Copies at most `bytes` bytes to `offset` in `page`; returns how many.
    ///
    /// Sleeps in page faults. It stops short only where the source cannot be read.
    ///
    /// # Safety
    ///
    /// `page` is a valid page of its own, `offset + bytes` is at most a page, and nobody else
    /// reads or writes that part of it meanwhile.
    pub(super) unsafe fn copy_to_page(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller vouches for the page, the wrapped type for the iterator.
        let copied =
            unsafe { bindings::copy_page_from_iter(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        copied
    }

    /// As [`Self::copy_to_page`], but never faults: stops short where it would have to.
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
        // SAFETY: The caller vouches for the page, the wrapped type for the iterator.
        let copied =
            unsafe { sys::zpipe_page_from_iter_atomic(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        copied
    }

    /// Copies `bytes` bytes to pages one after the other, from `offset` in the first on, as far as
    /// it goes without a fault; returns how many.
    ///
    /// # Safety
    ///
    /// There are valid pages at `pages`, as many as that takes, of user memory, pinned for writing.
    pub(super) unsafe fn copy_to_pages_atomic(
        &mut self,
        pages: *mut *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller vouches for the pages, the wrapped type for the iterator. What their
        // owner reads or writes of them meanwhile is as with any copy to a user's memory, and no
        // Rust code borrows them.
        let copied =
            unsafe { sys::zpipe_pages_from_iter_atomic(pages, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        copied
    }
}

/// Ranges of the current task's memory, one after the other.
///
/// # Invariants
///
/// Each is one of addresses that a user may have, and `bytes` is the sum of their lengths.
pub(crate) struct Ranges {
    iov: KVec<bindings::iovec>,
    bytes: usize,
}

impl Ranges {
    /// As many as UIO_MAXIOV.
    const MOST: usize = 1024;

    /// No ranges.
    pub(crate) const fn new() -> Self {
        Self {
            iov: KVec::new(),
            bytes: 0,
        }
    }

    /// Whether there is room for no more.
    pub(crate) fn is_full(&self) -> bool {
        self.iov.len() >= Self::MOST
    }

    /// Adds one, behind the others. Sleeps. `EFAULT`: not a user's; `ENOMEM`.
    pub(crate) fn push(&mut self, at: usize, bytes: usize) -> Result {
        // SAFETY: It compares numbers.
        if !unsafe { sys::zpipe_access_ok(at, bytes) } {
            return Err(EFAULT);
        }
        let sum = self.bytes.checked_add(bytes).ok_or(EINVAL)?;

        // INVARIANT: It was checked, and is counted.
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

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: There are none.
        self.iov.clear();
        self.bytes = 0;
    }

    /// Has `write` write to all of them.
    pub(crate) fn fill<R>(&self, write: impl FnOnce(&mut Dest<'_, '_>) -> R) -> R {
        let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
        let iov = self.iov.as_ptr();

        // SAFETY: As in [`Self::read`].
        unsafe {
            sys::zpipe_import_dest(iter.as_mut_ptr(), iov, self.iov.len(), self.bytes);
        }
        // SAFETY: As in [`Self::read`], of one to write to.
        let iter = unsafe { IovIterDest::from_raw(iter.as_mut_ptr()) };
        write(&mut Dest::new(iter))
    }

    /// Has `read` read from all of them.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Source<'_, '_>) -> R) -> R {
        let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
        let iov = self.iov.as_ptr();

        // SAFETY: There is room for an iterator, and by the type invariants the ranges are as writev(2)
        // would have checked them.
        unsafe {
            sys::zpipe_import_source(iter.as_mut_ptr(), iov, self.iov.len(), self.bytes);
        }
        // SAFETY: It is initialised now, as one to read from. It stays here, as the ranges do, and nobody
        // else has it; what it leads to is user memory, which may be read at any time in the task whose
        // it is.
        let iter = unsafe { IovIterSource::from_raw(iter.as_mut_ptr()) };
        read(&mut Source::new(iter))
    }
}

/// Memory that is written to: the buffer of a read.
///
/// # Invariants
///
/// `iter` has been advanced by at least `taken` bytes since it was wrapped.
pub(crate) struct Dest<'a, 'data> {
    iter: &'a mut IovIterDest<'data>,
    taken: usize,
}

impl<'a, 'data> Dest<'a, 'data> {
    /// Wraps an iterator. Only what is filled from now on can be taken back.
    pub(crate) fn new(iter: &'a mut IovIterDest<'data>) -> Self {
        // INVARIANT: Nothing has been taken.
        Self { iter, taken: 0 }
    }

    /// Bytes for which there is room.
    pub(crate) fn remaining(&self) -> usize {
        self.iter.len()
    }

    /// Takes the last `bytes` bytes back: they will be written again.
    pub(crate) fn rewind(&mut self, bytes: usize) {
        let bytes = bytes.min(self.taken);

        // INVARIANT: The iterator goes back by as much as the count does.
        self.taken -= bytes;
        // SAFETY: By the type invariants the iterator has been advanced by at least `bytes`.
        unsafe { self.iter.revert(bytes) };
    }

    /// Skips `bytes` bytes that were filled by other means, at most those for which there is room.
    pub(crate) fn skip(&mut self, bytes: usize) {
        // INVARIANT: The iterator is advanced, and the count is not.
        self.iter.advance(bytes);
    }

    /// As [`Source::user_spans`], of where there is room.
    pub(super) fn user_spans(&mut self, spans: &mut [sys::zpipe_span]) -> usize {
        // SAFETY: The wrapped type vouches for the iterator, which is only read; there is room for
        // as many spans as the slice is long.
        unsafe { sys::zpipe_user_spans(self.iter.as_raw(), spans.as_mut_ptr(), spans.len()) }
    }

    /// Where the next bytes go, if that is user memory for a whole huge page, aligned as one.
    pub(crate) fn huge_page(&mut self) -> Option<usize> {
        let (at, bytes) = self.user_memory()?;
        (at % HUGE_SIZE == 0 && bytes >= HUGE_SIZE).then_some(at)
    }

    /// Where the next bytes go, and how many without a break, if that is user memory.
    pub(crate) fn user_memory(&mut self) -> Option<(usize, usize)> {
        let mut first = [sys::zpipe_span { start: 0, bytes: 0 }];
        let [sys::zpipe_span { start, bytes }] = match self.user_spans(&mut first) {
            0 => return None,
            _ => first,
        };
        Some((start, bytes))
    }

    /// Faults in the next `bytes` bytes for writing; returns how many of them, from the front, are
    /// writable now.
    ///
    /// Sleeps, and takes the mmap_lock of the caller's own memory: call it without locks. A
    /// page may be taken away again before it is used.
    pub(crate) fn fault_in(&mut self, bytes: usize) -> usize {
        // SAFETY: The wrapped type vouches for the iterator.
        let missed = unsafe { sys::zpipe_fault_in_writeable(self.iter.as_raw(), bytes) };
        bytes.saturating_sub(missed)
    }

    /// Copies `bytes` bytes from `offset` in `page`, as far as it goes without a fault; returns
    /// how many.
    ///
    /// # Safety
    ///
    /// `page` is a valid page, `offset + bytes` is at most [`PAGE_SIZE`](kernel::page::PAGE_SIZE), that part of it
    /// is initialised and nobody else in the kernel writes it meanwhile.
    pub(super) unsafe fn copy_from_page_atomic(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller vouches for the page, the wrapped type for the iterator.
        let copied =
            unsafe { sys::zpipe_page_to_iter_atomic(page, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        copied
    }

    /// Copies `bytes` bytes from `offset` in `folio`, as far as it goes without a fault, and up to bad
    /// memory; returns how many.
    ///
    /// # Safety
    ///
    /// `folio` is a valid folio, `offset + bytes` is at most its size, all of it is initialised and nobody
    /// else writes it meanwhile.
    pub(super) unsafe fn copy_from_folio_atomic(
        &mut self,
        folio: *mut bindings::folio,
        offset: usize,
        bytes: usize,
    ) -> usize {
        // SAFETY: The caller vouches for the folio, the wrapped type for the iterator.
        let copied =
            unsafe { sys::zpipe_folio_to_iter_atomic(folio, offset, bytes, self.iter.as_raw()) };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        copied
    }

    /// Copies `bytes` bytes from pages one after the other, from `offset` in the first on, as far as
    /// it goes without a fault; returns how many, and whether it came to its end in a page that is bad
    /// memory.
    ///
    /// # Safety
    ///
    /// There are valid pages at `pages`, as many as that takes, of user memory.
    pub(super) unsafe fn copy_from_pages_atomic(
        &mut self,
        pages: *mut *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> (usize, bool) {
        let mut bad = false;
        // SAFETY: The caller vouches for the pages, the wrapped type for the iterator. They are
        // initialised, and what their owner writes to them meanwhile shows or does not, as in any
        // copy from a user's memory.
        let copied = unsafe {
            sys::zpipe_pages_to_iter_atomic(pages, offset, bytes, self.iter.as_raw(), &mut bad)
        };
        // INVARIANT: The iterator was advanced by what was copied.
        self.taken += copied;
        (copied, bad)
    }
}

/// Has atomic copies stop, for tests: 1 about half of them half-way, 2 all before they begin, 0 none.
///
/// Memory that is not there in the middle of such a copy is rare; so what follows would be, too.
pub(crate) fn cut_copies(how: u8) {
    // SAFETY: It sets a flag.
    unsafe { sys::zpipe_cut_copies(how) };
}
