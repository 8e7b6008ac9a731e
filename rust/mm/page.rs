// SPDX-License-Identifier: GPL-2.0-only

//! Buffer pages: small pages that hold the bytes of slots.

use super::{Dest, Source};
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_HIGHMEM},
        AllocError,
    },
    bindings,
    page::{Page, PAGE_SIZE},
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
/// * Nobody else has a pointer to the page.
/// * The first `valid` bytes are initialised, and were written since the page was last cleared.
///   `valid` is at most [`PAGE_SIZE`].
pub(crate) struct BufferPage {
    page: Page,
    valid: usize,
}

impl BufferPage {
    /// Allocates a page without valid bytes. Sleeps.
    pub(crate) fn new() -> Result<Self, AllocError> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_HIGHMEM)?;

        // INVARIANT: The page is new, and none of its bytes count as valid.
        Ok(Self { page, valid: 0 })
    }

    /// The number of valid bytes, counted from the start of the page.
    pub(crate) fn valid(&self) -> usize {
        self.valid
    }

    /// Makes all bytes invalid, for another use of the page.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: No bytes count as valid.
        self.valid = 0;
    }

    /// Makes the first `bytes` bytes of an empty page valid by writing zeros. They stand for bytes
    /// that have already left the slot.
    #[inline]
    pub(crate) fn pad(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let (offset, bytes) = self.clamp(self.valid, bytes);

        // SAFETY: By the type invariants only this object has the page.
        if unsafe { self.page.fill_zero_raw(offset, bytes) }.is_ok() {
            // INVARIANT: The bytes from the old `valid` on were just written.
            self.valid = offset + bytes;
        }
    }

    /// Limits a write of `bytes` bytes at `offset`; returns its offset and length. It begins at
    /// `valid` at the latest, so no gap arises. It ends with the page at the latest.
    fn clamp(&self, offset: usize, bytes: usize) -> (usize, usize) {
        let offset = offset.min(self.valid);
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
        let copied = unsafe { source.copy_to_page(self.page.as_ptr(), offset, bytes) };
        // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just written.
        self.valid = self.valid.max(offset + copied);
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
        let copied = unsafe { source.copy_to_page_atomic(self.page.as_ptr(), offset, bytes) };
        if copied == bytes {
            // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just
            // written.
            self.valid = self.valid.max(offset + copied);
        }
        copied
    }

    /// Copies at most the first `bytes` bytes of `from` to `offset` in this page; returns how many.
    ///
    /// It copies only valid bytes of `from`, and only up to the end of this page.
    pub(crate) fn fill_from_page(&mut self, offset: usize, bytes: usize, from: &Self) -> usize {
        let (offset, bytes) = self.clamp(offset, bytes.min(from.valid));

        // SAFETY: By the type invariants no other object has either page. They are two pages, since
        // `self` is borrowed mutably. The first `bytes` bytes of `from` are initialised, and
        // `clamp` keeps the range within this page. The kmap_local mappings are released in reverse
        // order.
        unsafe {
            let src = bindings::kmap_local_page(from.page.as_ptr());
            let dst = bindings::kmap_local_page(self.page.as_ptr());
            core::ptr::copy_nonoverlapping(src.cast::<u8>(), dst.cast::<u8>().add(offset), bytes);
            bindings::kunmap_local(dst);
            bindings::kunmap_local(src);
        }
        // INVARIANT: `offset` is at most `valid`, and the bytes from there on were just written.
        self.valid = self.valid.max(offset + bytes);
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
        let bytes = bytes.min(self.valid.saturating_sub(offset));
        if bytes == 0 {
            return 0;
        }

        // SAFETY: By the type invariants the page is valid and initialised up to `offset + bytes`.
        // Only this object could write to it, and only through a mutable borrow, which cannot exist
        // now.
        unsafe { dest.copy_from_page_atomic(self.page.as_ptr(), offset, bytes) }
    }
}
