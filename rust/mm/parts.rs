// SPDX-License-Identifier: GPL-2.0-only

//! Lists of byte ranges in pages, for the kernel's functions that read or write from pages.

use super::Source;
use crate::sys;
use core::{marker::PhantomData, mem::MaybeUninit};
use kernel::{bindings, iov::IovIterSource};

/// The maximum number of ranges.
const MAX: usize = 16;

/// Byte ranges in pages that are borrowed for `'p`, to be read one after the other.
///
/// # Invariants
///
/// Each of the first `len` elements of `vecs` is a range of initialised bytes, of one page or of
/// adjacent pages, which are valid for `'p`. Nobody else in the kernel writes to them meanwhile.
/// `bytes` is the sum of their lengths.
pub(crate) struct Parts<'p> {
    vecs: [MaybeUninit<bindings::bio_vec>; MAX],
    len: usize,
    bytes: usize,
    _pages: PhantomData<&'p ()>,
}

impl Parts<'_> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        // INVARIANT: There are no ranges.
        Self {
            vecs: [const { MaybeUninit::uninit() }; MAX],
            len: 0,
            bytes: 0,
            _pages: PhantomData,
        }
    }

    /// The number of bytes in all ranges.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds `bytes` bytes from `offset` on of `page`, unless the list is full. Returns how many it
    /// added.
    ///
    /// # Safety
    ///
    /// The range is within the page, or the folio whose first page this is. For the lifetime of the
    /// list that is valid and the bytes are initialised, and nobody else in the kernel writes to
    /// them.
    pub(super) unsafe fn push(
        &mut self,
        page: *mut bindings::page,
        offset: usize,
        bytes: usize,
    ) -> usize {
        let Some(free) = self.vecs.get_mut(self.len).filter(|_| bytes != 0) else {
            return 0;
        };
        // SAFETY: The function only stores its arguments.
        free.write(unsafe { sys::zpipe_page_part(page, offset, bytes) });
        // INVARIANT: The caller guarantees what is to hold for the range.
        self.len += 1;
        self.bytes += bytes;
        bytes
    }

    /// Replaces the ranges by those that `fill` writes. Its arguments are an array and how many
    /// ranges that has space for. It returns how many it wrote, or a negative error, and the sum of
    /// their lengths. The first of these is returned.
    ///
    /// # Safety
    ///
    /// What [`Self::push`] requires holds for the ranges that `fill` writes.
    pub(crate) unsafe fn fill_raw(
        &mut self,
        fill: impl FnOnce(*mut bindings::bio_vec, usize) -> (isize, usize),
    ) -> isize {
        let (written, bytes) = fill(self.vecs.as_mut_ptr().cast(), MAX);
        // INVARIANT: The caller guarantees it. After an error there are no ranges.
        (self.len, self.bytes) = match usize::try_from(written) {
            Ok(len) => (len.min(MAX), bytes),
            Err(_) => (0, 0),
        };
        written
    }

    /// The ranges, for C functions that read from them.
    pub(crate) fn as_raw(&self) -> (*const bindings::bio_vec, usize) {
        (self.vecs.as_ptr().cast(), self.len)
    }

    /// Calls `read` with a [`Source`] of all ranges.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Source<'_, '_>) -> R) -> R {
        let mut iter = MaybeUninit::uninit();
        let (vecs, n) = self.as_raw();

        // SAFETY: `iter` is memory for an iterator. By the type invariants `vecs` has `n` ranges
        // with `bytes` bytes in all.
        unsafe { sys::zpipe_import_parts(iter.as_mut_ptr(), vecs, n, self.bytes, false) };
        // SAFETY: The iterator was initialised as a source. It, the ranges and their pages outlive
        // the call of `read`, and only `read` uses the iterator.
        let iter = unsafe { IovIterSource::from_raw(iter.as_mut_ptr()) };
        read(&mut Source::new(iter))
    }
}
