// SPDX-License-Identifier: GPL-2.0-only

//! Frames: huge pages of the module's own that are mapped into processes.

use super::{Dest, Source};
use crate::{sys, zcore::gift::HUGE_SIZE};
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

/// Whether this kernel has pages of that size.
pub(crate) fn has_frames() -> bool {
    // SAFETY: No requirement.
    unsafe { sys::zpipe_has_frames() }
}

/// A page of [`Self::SIZE`] bytes, charged to the memory cgroup of who allocated it, which may be mapped into
/// processes, for writing too: what is in it may change at any time, unless it is [alone](Self::is_alone).
///
/// # Invariants
///
/// `folio` is a folio of that size, of which all was initialised, and one reference of it is ours. It is on no list
/// of the kernel's.
pub(crate) struct Frame {
    folio: NonNull<bindings::folio>,
}

// SAFETY: A folio may be used and freed on any thread.
unsafe impl Send for Frame {}
// SAFETY: What is done to its bytes from `&self` is done by C, as to memory that user space may write.
unsafe impl Sync for Frame {}

impl Frame {
    /// Bytes of a frame: what one entry of a PMD maps.
    pub(crate) const SIZE: usize = HUGE_SIZE;

    /// A frame of zeros; [`None`] if there is no memory for it. Sleeps.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: It may sleep, says the caller.
        let folio = NonNull::new(unsafe { sys::zpipe_frame_alloc(true) })?;

        // INVARIANT: It is new, of that size, and was cleared.
        Some(Self { folio })
    }

    /// A copy of this one, made when nobody writes to it. [`None`] if there is no memory for it, or bad
    /// memory in it. Sleeps.
    pub(crate) fn copy(&self) -> Option<Self> {
        // SAFETY: It may sleep, says the caller.
        let folio = NonNull::new(unsafe { sys::zpipe_frame_alloc(false) })?;

        // SAFETY: Both are folios of the same size; the new one is ours alone.
        if !unsafe { sys::zpipe_frame_copy(folio.as_ptr(), self.folio.as_ptr()) } {
            // SAFETY: The reference is ours.
            unsafe { sys::zpipe_huge_put(folio.as_ptr()) };
            return None;
        }
        // INVARIANT: It is new, of that size, and all of it was written.
        Some(Self { folio })
    }

    /// Copies the bytes of `from` between two offsets to the front of this one. False if there is bad memory.
    pub(crate) fn take_bytes(&mut self, from: &Self, start: usize, end: usize) -> bool {
        let end = end.min(Self::SIZE);
        let start = start.min(end);
        // SAFETY: Both are folios of that size, and two if this one is not `from` shared, which is no overlap
        // worse than of user space's.
        unsafe {
            sys::zpipe_frame_copy_part(self.folio.as_ptr(), from.folio.as_ptr(), start, end - start)
        }
    }

    /// Another reference to the same frame.
    pub(crate) fn share(&self) -> Self {
        // SAFETY: By the type invariants there is a reference.
        unsafe { sys::zpipe_frame_get(self.folio.as_ptr()) };

        // INVARIANT: It is the same folio, and the new reference is for this.
        Self { folio: self.folio }
    }

    /// Whether the two are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.folio == other.folio
    }

    /// Whether nobody else refers to it, maps it, or has a way to it that a processor remembers.
    ///
    /// So it stays as long as nobody shares or places it.
    pub(crate) fn is_alone(&self) -> bool {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_frame_alone(self.folio.as_ptr()) }
    }

    /// Whether nobody else refers to it but by mappings; may be stale, and false though it is so.
    pub(crate) fn is_mapped_only(&self) -> bool {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_frame_mapped_only(self.folio.as_ptr()) }
    }

    /// Makes zeros of all bytes but those from `from` to `to`.
    pub(crate) fn clear_around(&mut self, from: usize, to: usize) {
        let (from, to) = (from.min(Self::SIZE), to.min(Self::SIZE));
        // SAFETY: The folio is valid, and has as many bytes.
        unsafe {
            sys::zpipe_frame_clear(self.folio.as_ptr(), 0, from);
            sys::zpipe_frame_clear(self.folio.as_ptr(), to, Self::SIZE);
        }
    }

    /// Copies `bytes` bytes from `offset` to `dest`, as far as they are in the frame and as it goes
    /// without a fault; returns how many.
    pub(crate) fn drain_atomic(
        &self,
        offset: usize,
        bytes: usize,
        dest: &mut Dest<'_, '_>,
    ) -> usize {
        let bytes = bytes.min(Self::SIZE.saturating_sub(offset));
        if bytes == 0 {
            return 0;
        }

        // SAFETY: By the type invariants the folio is valid and initialised, and the part is within its
        // size. What user space writes to it meanwhile shows or does not, as in any copy from a user's
        // memory, and no Rust code borrows it.
        unsafe { dest.copy_from_folio_atomic(self.folio.as_ptr(), offset, bytes) }
    }

    /// Has `read` read `bytes` bytes of frames one after the other, from `offset` in the first on, as far as they
    /// are there. Sleeps. `ENOMEM`.
    pub(crate) fn read_all<R>(
        frames: &[Self],
        offset: usize,
        bytes: usize,
        read: impl FnOnce(&mut Source<'_, '_>) -> R,
    ) -> Result<R> {
        let mut iter = MaybeUninit::uninit();
        let mut vecs = KVec::with_capacity(frames.len(), GFP_KERNEL_ACCOUNT)?;
        let offset = offset.min(Self::SIZE);
        let bytes = bytes.min(frames.len() * Self::SIZE - offset);
        let (mut from, mut left) = (offset, bytes);

        for frame in frames {
            let part = left.min(Self::SIZE - from);
            vecs.push(frame.part(from, part), GFP_KERNEL_ACCOUNT)?;
            (from, left) = (0, left - part);
        }
        // SAFETY: There is room for it; the vectors are as many, and have so many bytes in all.
        unsafe {
            sys::zpipe_import_parts(iter.as_mut_ptr(), vecs.as_ptr(), vecs.len(), bytes, false);
        }
        // SAFETY: It was initialised as one to read from. It and what it leads to stay here, and nobody else
        // has it. For the bytes see `drain_atomic()`.
        let iter = unsafe { IovIterSource::from_raw(iter.as_mut_ptr()) };
        Ok(read(&mut Source::new(iter)))
    }

    /// Has `write` write at most `bytes` bytes from `offset` on.
    pub(crate) fn write<R>(
        &self,
        offset: usize,
        bytes: usize,
        write: impl FnOnce(&mut Dest<'_, '_>) -> R,
    ) -> R {
        let mut iter = MaybeUninit::uninit();
        let offset = offset.min(Self::SIZE);
        let bytes = bytes.min(Self::SIZE - offset);
        let vec = self.part(offset, bytes);

        // SAFETY: As in [`Self::read_all`], of one vector.
        unsafe { sys::zpipe_import_parts(iter.as_mut_ptr(), &vec, 1, bytes, true) };
        // SAFETY: As in [`Self::read_all`], of one to write to.
        let iter = unsafe { IovIterDest::from_raw(iter.as_mut_ptr()) };
        write(&mut Dest::new(iter))
    }

    /// A part of it that is within its size, for an iterator.
    fn part(&self, offset: usize, bytes: usize) -> bindings::bio_vec {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_folio_part(self.folio.as_ptr(), offset, bytes) }
    }

    /// The folio, for who maps it.
    pub(super) fn as_ptr(&self) -> *mut bindings::folio {
        self.folio.as_ptr()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { sys::zpipe_huge_put(self.folio.as_ptr()) };
    }
}
