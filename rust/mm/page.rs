// SPDX-License-Identifier: GPL-2.0-only

//! A page that data passes through.

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

/// A page of the module's own, charged to the memory cgroup of who allocated it.
///
/// Only what has been written to it can be read from it, so that neither uninitialised memory nor
/// what a former user of the page left in it ever becomes visible.
///
/// # Invariants
///
/// * Nobody else has a pointer to the page.
/// * The first `valid` bytes are initialised, and were written since the page was last cleared;
///   `valid` is at most [`PAGE_SIZE`].
pub(crate) struct BufferPage {
    page: Page,
    valid: usize,
}

impl BufferPage {
    /// Allocates an empty page. Sleeps.
    pub(crate) fn new() -> Result<Self, AllocError> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_HIGHMEM)?;

        // INVARIANT: The page is new, and nothing of it counts as valid.
        Ok(Self { page, valid: 0 })
    }

    /// Bytes from the start of the page that hold data.
    pub(crate) fn valid(&self) -> usize {
        self.valid
    }

    /// Makes the page empty, for another use.
    pub(crate) fn clear(&mut self) {
        // INVARIANT: Nothing counts as valid.
        self.valid = 0;
    }

    /// Makes the first `bytes` bytes of an empty page valid, as zeros: for a slot whose first bytes
    /// are gone.
    #[inline]
    pub(crate) fn pad(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let (offset, bytes) = self.room(self.valid, bytes);

        // SAFETY: By the type invariants the page is ours alone.
        if unsafe { self.page.fill_zero_raw(offset, bytes) }.is_ok() {
            // INVARIANT: The bytes behind `valid` were just written.
            self.valid = offset + bytes;
        }
    }

    /// Where data goes that is to be written at `offset`: at most `bytes`, within the page, and
    /// without a hole behind what is valid.
    fn room(&self, offset: usize, bytes: usize) -> (usize, usize) {
        let offset = offset.min(self.valid);
        (offset, bytes.min(PAGE_SIZE - offset))
    }

    /// Writes at most `bytes` bytes from `source` at `offset`, which is at most [`Self::valid`];
    /// returns how many.
    ///
    /// Sleeps in page faults; stops short only where the source cannot be read.
    pub(crate) fn fill(
        &mut self,
        offset: usize,
        bytes: usize,
        source: &mut Source<'_, '_>,
    ) -> usize {
        let (offset, bytes) = self.room(offset, bytes);

        // SAFETY: By the type invariants the page is ours alone, and `room` keeps to its bounds.
        let copied = unsafe { source.copy_to_page(self.page.as_ptr(), offset, bytes) };
        // INVARIANT: `offset` was at most `valid`, and the bytes behind it were just written.
        self.valid = self.valid.max(offset + copied);
        copied
    }

    /// As [`Self::fill`], but never faults: stops short where it would have to.
    ///
    /// What a short copy has overwritten behind [`Self::valid`] does not become valid; bytes
    /// before it are overwritten as far as the copy went.
    pub(crate) fn fill_atomic(
        &mut self,
        offset: usize,
        bytes: usize,
        source: &mut Source<'_, '_>,
    ) -> usize {
        let (offset, bytes) = self.room(offset, bytes);

        // SAFETY: By the type invariants the page is ours alone, and `room` keeps to its bounds.
        let copied = unsafe { source.copy_to_page_atomic(self.page.as_ptr(), offset, bytes) };
        if copied == bytes {
            // INVARIANT: `offset` was at most `valid`, and the bytes behind it were just written.
            self.valid = self.valid.max(offset + copied);
        }
        copied
    }

    /// Writes the first `bytes` bytes of `from` at `offset`, as far as `from` is valid and there
    /// is room; returns how many.
    pub(crate) fn fill_from_page(&mut self, offset: usize, bytes: usize, from: &Self) -> usize {
        let (offset, bytes) = self.room(offset, bytes.min(from.valid));

        // SAFETY: Both pages are ours alone, and they are two since `self` is borrowed mutably.
        // The first `bytes` bytes of `from` are initialised, and `room` keeps to this page's
        // bounds. kmap_local mappings are undone in reverse order.
        unsafe {
            let src = bindings::kmap_local_page(from.page.as_ptr());
            let dst = bindings::kmap_local_page(self.page.as_ptr());
            core::ptr::copy_nonoverlapping(src.cast::<u8>(), dst.cast::<u8>().add(offset), bytes);
            bindings::kunmap_local(dst);
            bindings::kunmap_local(src);
        }
        // INVARIANT: `offset` was at most `valid`, and the bytes behind it were just written.
        self.valid = self.valid.max(offset + bytes);
        bytes
    }

    /// Copies `bytes` bytes from `offset` to `dest`, as far as the page is valid and as it goes
    /// without a fault; returns how many.
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
        // and only we could write it, for which `self` would have to be borrowed mutably.
        unsafe { dest.copy_from_page_atomic(self.page.as_ptr(), offset, bytes) }
    }
}
