// SPDX-License-Identifier: GPL-2.0-only

//! Frames: huge pages that belong to the kernel module and are mapped into processes.

use super::{Dest, Source};
use crate::{sys, zcore::gift::HUGE_SIZE};
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

/// True if this kernel supports huge pages, of which frames are made.
pub(crate) fn has_frames() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { sys::zpipe_has_frames() }
}

/// A huge page of [`Self::SIZE`] bytes that processes may map, for writing too.
///
/// It is charged to the memory cgroup of the task that allocated it. Its bytes may change at any
/// time, unless it is [alone](Self::is_alone).
///
/// # Invariants
///
/// `folio` is a folio of [`Self::SIZE`] bytes, all of which were initialised. This object owns one
/// reference to it. The folio is on none of the kernel's lists.
pub(crate) struct Frame {
    folio: NonNull<bindings::folio>,
}

// SAFETY: A folio may be used and freed on any thread.
unsafe impl Send for Frame {}
// SAFETY: Only C code accesses the bytes from `&self`. It treats them as memory that user space may
// write at the same time.
unsafe impl Sync for Frame {}

impl Frame {
    /// The size of a frame in bytes: what one PMD entry maps.
    pub(crate) const SIZE: usize = HUGE_SIZE;

    /// Allocates a frame of zeros. [`None`] if there is no memory for it. Sleeps.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: The caller may sleep.
        let folio = NonNull::new(unsafe { sys::zpipe_frame_alloc(true) })?;

        // INVARIANT: The folio is new, has that size, and was cleared.
        Some(Self { folio })
    }

    /// Copies this frame, to which nobody may write meanwhile.
    ///
    /// [`None`] if there is no memory for the copy, or if this frame has bad memory
    /// (`copy_mc_to_kernel()` failed). Sleeps.
    pub(crate) fn copy(&self) -> Option<Self> {
        // SAFETY: The caller may sleep.
        let folio = NonNull::new(unsafe { sys::zpipe_frame_alloc(false) })?;

        // INVARIANT: The folio is new and has that size. All of it is written below; if that fails,
        // it is freed.
        let mut copy = Self { folio };
        copy.take_bytes(self, 0, Self::SIZE).then_some(copy)
    }

    /// Copies the bytes of `from` between the offsets `start` and `end` to the front of this frame.
    ///
    /// False if the copy met bad memory.
    pub(crate) fn take_bytes(&mut self, from: &Self, start: usize, end: usize) -> bool {
        let end = end.min(Self::SIZE);
        let start = start.min(end);
        // SAFETY: Both folios are valid by the type invariants and have `SIZE` bytes, and `start +
        // (end - start)` is at most that. The two may be one folio, if this frame is a
        // [share](Self::share) of `from`. An overlapping copy then changes the bytes no worse than
        // user space could at any time, and no Rust code borrows them.
        unsafe {
            sys::zpipe_frame_copy_part(self.folio.as_ptr(), from.folio.as_ptr(), start, end - start)
        }
    }

    /// Returns another reference to the same frame.
    pub(crate) fn share(&self) -> Self {
        // SAFETY: The folio is valid, since by the type invariants there is a reference to it.
        unsafe { sys::zpipe_frame_get(self.folio.as_ptr()) };

        // INVARIANT: It is the same folio, and the new object owns the new reference.
        Self { folio: self.folio }
    }

    /// True if both refer to the same frame.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.folio == other.folio
    }

    /// True if this is the only reference to the frame, no page table maps it, and no TLB entry for
    /// it is left.
    ///
    /// It stays alone until [`Self::share`] or [`Fault::place`](super::Fault::place) is called with
    /// it.
    pub(crate) fn is_alone(&self) -> bool {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_frame_alone(self.folio.as_ptr()) }
    }

    /// True if no reference to the frame exists except this one and those of mappings.
    ///
    /// The result may be stale. It may be false although no other reference exists.
    pub(crate) fn is_mapped_only(&self) -> bool {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_frame_mapped_only(self.folio.as_ptr()) }
    }

    /// Clears all bytes before offset `from` and from offset `to` on.
    pub(crate) fn clear_around(&mut self, from: usize, to: usize) {
        let (from, to) = (from.min(Self::SIZE), to.min(Self::SIZE));
        // SAFETY: The folio is valid by the type invariants, and the offsets are at most its size.
        unsafe {
            sys::zpipe_frame_clear(self.folio.as_ptr(), 0, from);
            sys::zpipe_frame_clear(self.folio.as_ptr(), to, Self::SIZE);
        }
    }

    /// Copies at most `bytes` bytes from `offset` to `dest`; returns how many.
    ///
    /// It stops at the end of the frame, at bad memory, and where the copy would need a page fault.
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

        // SAFETY: By the type invariants the folio is valid and initialised, and the range is
        // within its size. User space may write to it meanwhile. The copy then has the old or the
        // new bytes, as any copy from user memory, and no Rust code borrows them.
        unsafe { dest.copy_from_folio_atomic(self.folio.as_ptr(), offset, bytes) }
    }

    /// Calls `read` with a [`Source`] of at most `bytes` bytes of `frames`, which are read one
    /// after the other.
    ///
    /// The source begins at `offset` in the first frame and ends with the last one at the latest.
    /// Sleeps. Error: `ENOMEM`.
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
        // SAFETY: `iter` is memory for an iterator. `vecs` has as many vectors as its length says,
        // and they have `bytes` bytes in all.
        unsafe {
            sys::zpipe_import_parts(iter.as_mut_ptr(), vecs.as_ptr(), vecs.len(), bytes, false);
        }
        // SAFETY: The iterator was initialised as a source. It, the vectors and the frames outlive
        // the call of `read`, and only `read` uses the iterator. User space may change the bytes
        // meanwhile; see `drain_atomic()`.
        let iter = unsafe { IovIterSource::from_raw(iter.as_mut_ptr()) };
        Ok(read(&mut Source::new(iter)))
    }

    /// Calls `write` with a [`Dest`] of at most `bytes` bytes from `offset` on.
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

        // SAFETY: `iter` is memory for an iterator. There is one vector, of `bytes` bytes.
        unsafe { sys::zpipe_import_parts(iter.as_mut_ptr(), &vec, 1, bytes, true) };
        // SAFETY: As in [`Self::read_all`], but the iterator was initialised as a destination.
        let iter = unsafe { IovIterDest::from_raw(iter.as_mut_ptr()) };
        write(&mut Dest::new(iter))
    }

    /// Describes a range of the frame for an iterator. The range must be within the frame.
    fn part(&self, offset: usize, bytes: usize) -> bindings::bio_vec {
        // SAFETY: By the type invariants the folio is valid.
        unsafe { sys::zpipe_folio_part(self.folio.as_ptr(), offset, bytes) }
    }

    /// The folio, for the code that maps it.
    pub(super) fn as_ptr(&self) -> *mut bindings::folio {
        self.folio.as_ptr()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this object owns a reference, which it gives up here.
        unsafe { sys::zpipe_huge_put(self.folio.as_ptr()) };
    }
}
