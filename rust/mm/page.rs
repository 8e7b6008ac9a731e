// SPDX-License-Identifier: GPL-2.0-only

//! Buffer pages: small pages that hold the bytes of slots.

use super::{Dest, Parts, Source};
use crate::sys;
use core::{
    mem::{self, MaybeUninit},
    ptr::NonNull,
};
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_HIGHMEM},
        AllocError,
    },
    bindings,
    iov::IovIterDest,
    page::{BorrowedPage, Page, PAGE_SIZE},
    prelude::*,
};

/// A page that belongs to the kernel module, charged to the memory cgroup of the task that
/// allocated it.
///
/// Only bytes that were written to the page can be read from it. So neither uninitialised memory
/// nor bytes of an earlier use of the page become visible.
///
/// # Invariants
///
/// * This object owns the only reference to the page, and nobody else has a pointer to it.
/// * The first `valid` bytes were written since the page was last cleared.
pub(crate) struct BufferPage(SharedPage);

impl BufferPage {
    /// Allocates a page without valid bytes. Sleeps.
    pub(crate) fn new() -> Result<Self, AllocError> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_HIGHMEM)?;

        let ptr = NonNull::new(page.as_ptr()).ok_or(AllocError)?;
        mem::forget(page);

        // INVARIANT: The page is new, and the only reference is that of `page`, which was
        // forgotten. None of its bytes count as valid.
        Ok(Self(SharedPage {
            page: ptr,
            valid: 0,
        }))
    }

    /// Allocates `count` such pages. Sleeps.
    pub(crate) fn new_all(count: usize) -> Result<KVec<Self>, AllocError> {
        let mut pages = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            pages.push(Self::new()?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(pages)
    }

    /// The number of valid bytes, counted from the start of the page.
    pub(crate) fn valid(&self) -> usize {
        self.0.valid
    }

    /// Makes all bytes invalid, for another use of the page.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: No bytes count as valid.
        self.0.valid = 0;
    }

    /// Makes the first `bytes` bytes of an empty page valid by writing zeros. They stand for bytes
    /// that have already left the slot.
    #[inline]
    pub(crate) fn pad(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let (offset, bytes) = self.clamp(self.0.valid, bytes);

        // SAFETY: The page is valid by the type invariants, as long as `self`.
        let page = unsafe { BorrowedPage::from_raw(self.0.page) };
        // SAFETY: By the type invariants only this object has the page.
        if unsafe { page.fill_zero_raw(offset, bytes) }.is_ok() {
            // INVARIANT: The bytes from the old `valid` on were just written.
            self.0.valid = offset + bytes;
        }
    }

    /// Limits a write of `bytes` bytes at `offset`; returns its offset and length. It begins at
    /// `valid` at the latest, so no gap arises. It ends with the page at the latest.
    fn clamp(&self, offset: usize, bytes: usize) -> (usize, usize) {
        let offset = offset.min(self.0.valid);
        (offset, bytes.min(PAGE_SIZE - offset))
    }

    /// Copies at most `bytes` bytes from `source` to `offset` in the page; returns how many.
    /// `offset` is at most [`Self::valid`].
    ///
    /// It may cause page faults, so it sleeps. It stops short only where the source cannot be read.
    pub(crate) fn fill(
        &mut self,
        offset: usize,
        bytes: usize,
        source: &mut Source<'_, '_>,
    ) -> usize {
        let (offset, bytes) = self.clamp(offset, bytes);

        // SAFETY: By the type invariants only this object has the page. `clamp` keeps the range
        // within it.
        let copied = unsafe { source.copy_to_page(self.0.page.as_ptr(), offset, bytes) };
        // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just written.
        self.0.valid = self.0.valid.max(offset + copied);
        copied
    }

    /// As [`Self::fill`], but it stops short instead of causing a page fault.
    ///
    /// A short copy does not make bytes valid. Valid bytes that it has overwritten stay
    /// overwritten.
    pub(crate) fn fill_atomic(
        &mut self,
        offset: usize,
        bytes: usize,
        source: &mut Source<'_, '_>,
    ) -> usize {
        let (offset, bytes) = self.clamp(offset, bytes);

        // SAFETY: By the type invariants only this object has the page. `clamp` keeps the range
        // within it.
        let copied = unsafe { source.copy_to_page_atomic(self.0.page.as_ptr(), offset, bytes) };
        if copied == bytes {
            // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just
            // written.
            self.0.valid = self.0.valid.max(offset + copied);
        }
        copied
    }

    /// Copies at most the first `bytes` bytes of `from` to `offset` in this page; returns how many.
    ///
    /// It copies only valid bytes of `from`, and only up to the end of this page.
    pub(crate) fn fill_from_page(&mut self, offset: usize, bytes: usize, from: &Self) -> usize {
        let (offset, bytes) = self.clamp(offset, bytes.min(from.0.valid));

        // SAFETY: By the type invariants no other object has either page. They are two pages, since
        // `self` is borrowed mutably. The first `bytes` bytes of `from` are initialised, and
        // `clamp` keeps the range within this page. The kmap_local mappings are released in reverse
        // order.
        unsafe {
            let src = bindings::kmap_local_page(from.0.page.as_ptr());
            let dst = bindings::kmap_local_page(self.0.page.as_ptr());
            core::ptr::copy_nonoverlapping(src.cast::<u8>(), dst.cast::<u8>().add(offset), bytes);
            bindings::kunmap_local(dst);
            bindings::kunmap_local(src);
        }
        // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just written.
        self.0.valid = self.0.valid.max(offset + bytes);
        bytes
    }

    /// Copies at most `bytes` bytes from `offset` to `dest`; returns how many.
    ///
    /// It copies only valid bytes. It stops short instead of causing a page fault.
    pub(crate) fn drain_atomic(
        &self,
        offset: usize,
        bytes: usize,
        dest: &mut Dest<'_, '_>,
    ) -> usize {
        self.0.drain_atomic(offset, bytes, dest)
    }

    /// The maximum number of pages that [`Self::fill_all`] uses.
    pub(crate) const FILL_MAX: usize = 16;

    /// Calls `write` with an iterator over at most `bytes` bytes of `pages`, and of the first
    /// [`Self::FILL_MAX`] of them. `write` fills them one after the other from their starts, and
    /// returns how many bytes it has written. So does this function. Errors: those of `write`.
    pub(crate) fn fill_all(
        pages: &mut [Self],
        bytes: usize,
        write: impl FnOnce(&mut IovIterDest<'_>) -> Result<usize>,
    ) -> Result<usize> {
        let mut vecs = [const { MaybeUninit::<bindings::bio_vec>::uninit() }; Self::FILL_MAX];
        let (mut left, mut n) = (bytes, 0);

        for (vec, page) in vecs.iter_mut().zip(&*pages) {
            let part = left.min(PAGE_SIZE);
            if part == 0 {
                break;
            }
            // SAFETY: The function only stores its arguments.
            vec.write(unsafe { sys::zpipe_page_part(page.0.page.as_ptr(), 0, part) });
            left -= part;
            n += 1;
        }
        let mut iter = MaybeUninit::uninit();
        // SAFETY: `iter` is memory for an iterator. The first `n` elements of `vecs` were written
        // above, and have `bytes - left` bytes in all.
        unsafe {
            let vecs = vecs.as_ptr().cast();
            sys::zpipe_import_parts(iter.as_mut_ptr(), vecs, n, bytes - left, true);
        }
        // SAFETY: The iterator was initialised as a destination. It, the vectors and the pages
        // outlive the call of `write`, and only `write` uses the iterator. By the type invariants
        // nobody else has the pages.
        let iter = unsafe { IovIterDest::from_raw(iter.as_mut_ptr()) };
        let space = iter.len();
        let result = write(iter);
        // The iterator counts what was written to it, whatever `write` says.
        let all = (space - iter.len()).min(*result.as_ref().unwrap_or(&0));
        let mut written = all;
        for page in pages {
            let part = written.min(PAGE_SIZE);
            // INVARIANT: The pages were filled one after the other, each from its start.
            page.0.valid = page.0.valid.max(part);
            written -= part;
        }
        result.map(|_| all)
    }

    /// Allows others in the kernel to refer to the page. Nothing can be written to it any more.
    pub(crate) fn into_shared(self) -> SharedPage {
        // INVARIANT: There is no [`BufferPage`] around it any more, so nobody writes to the page.
        self.0
    }
}

/// A page that was a [`BufferPage`], and to which others in the kernel may have references, for
/// example real pipes and sockets. Nobody writes to it, and it is not used for other bytes as long
/// as others may refer to it.
///
/// # Invariants
///
/// * `page` is a page of order 0, and this object owns a reference to it.
/// * The first `valid` bytes are initialised. `valid` is at most [`PAGE_SIZE`].
/// * Nobody in the kernel writes to the page, except a [`BufferPage`] around this object, through a
///   mutable borrow.
pub(crate) struct SharedPage {
    page: NonNull<bindings::page>,
    valid: usize,
}

// SAFETY: A page may be used and freed on any thread.
unsafe impl Send for SharedPage {}
// SAFETY: The bytes are only read from `&self`.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// The number of valid bytes, counted from the start of the page.
    pub(crate) fn valid(&self) -> usize {
        self.valid
    }

    /// Returns another reference to the same page.
    pub(crate) fn share(&self) -> Self {
        // SAFETY: The page is valid by the type invariants.
        unsafe { sys::zpipe_page_get(self.page.as_ptr()) };

        // INVARIANT: The new object owns the new reference.
        Self {
            page: self.page,
            valid: self.valid,
        }
    }

    /// Makes it a [`BufferPage`] again, if nobody else refers to it. The error is the page itself.
    pub(crate) fn into_own(self) -> Result<BufferPage, Self> {
        // SAFETY: The page is valid by the type invariants.
        if !unsafe { sys::zpipe_page_is_alone(self.page.as_ptr()) } {
            return Err(self);
        }
        // INVARIANT: It owns the only reference. So nobody else has a pointer to the page, and
        // nobody can get one.
        Ok(BufferPage(self))
    }

    /// Returns the page; the caller now owns the reference.
    pub(crate) fn into_raw(self) -> NonNull<bindings::page> {
        let page = self.page;

        mem::forget(self);
        page
    }

    /// Adds the valid bytes from `offset` on, at most `bytes` of them, to `parts`. Returns how many
    /// it added: none if `parts` is full.
    pub(crate) fn add_to<'p>(
        &'p self,
        parts: &mut Parts<'p>,
        offset: usize,
        bytes: usize,
    ) -> usize {
        let bytes = bytes.min(self.valid.saturating_sub(offset));
        // SAFETY: The page is valid as long as `self` is borrowed, and the range is within its
        // initialised bytes, to which nobody writes.
        unsafe { parts.push(self.page.as_ptr(), offset, bytes) }
    }

    /// Copies at most `bytes` valid bytes from `offset` to `dest`; returns how many. It stops short
    /// instead of causing a page fault.
    pub(crate) fn drain_atomic(
        &self,
        offset: usize,
        bytes: usize,
        dest: &mut Dest<'_, '_>,
    ) -> usize {
        let bytes = bytes.min(self.valid.saturating_sub(offset));
        if bytes == 0 {
            return 0;
        }

        // SAFETY: By the type invariants the page is valid and initialised up to `offset + bytes`,
        // and nobody writes to these bytes.
        unsafe { dest.copy_from_page_atomic(self.page.as_ptr(), offset, bytes) }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this object owns a reference to a page of order 0, which
        // it gives up here.
        unsafe { bindings::__free_pages(self.page.as_ptr(), 0) };
    }
}
