// SPDX-License-Identifier: GPL-2.0-only

//! The ring: the slots of a pipe in order, and the posted write behind them.

use crate::{
    mm::Dest,
    posted_write::{PostedWrite, Pulled},
    slot::Slot,
    zcore::{seats::Seats, state::PostedState},
};
use core::mem;
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// The position of the next byte that a read would get. It changes whenever bytes leave the pipe,
/// so a reader that dropped the lock can detect that other readers have read meanwhile.
///
/// `tail` wraps: a position may repeat after 2^32 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    tail: u32,
    offset: usize,
    changes: u64,
}

/// The slots of a pipe; their number is a power of two. A posted write stands behind all used
/// slots. As long as it is pullable, the ring counts as full.
///
/// `tail` is the number of the slot that is read next, `head` of the slot that is filled next. Both
/// wrap.
///
/// # Invariants
///
/// * `slots` has a power of two elements, at least one, and `seats` counts all of them.
/// * `head - tail`, wrapping, is at most `seats.limit()`. The slots numbered from `tail` up to but
///   not including `head` are used, all others are empty.
#[repr(C)]
pub(crate) struct Ring {
    head: u32,
    tail: u32,
    seats: Seats,
    slots: KVec<Option<Slot>>,
    posted_write: Option<KBox<PostedWrite>>,
    /// The number of bytes that were ever transferred directly, and of slots that returned to the
    /// front. Wraps.
    changes: u64,
}

impl Ring {
    /// A ring of `slots` empty slots, a power of two. Sleeps.
    pub(crate) fn new(slots: u32) -> Result<Self, AllocError> {
        // INVARIANT: There are `slots` slots, all of them empty, and `head` equals `tail`.
        Ok(Self {
            slots: Self::empty_slots(slots)?,
            seats: Seats::new(slots),
            head: 0,
            tail: 0,
            posted_write: None,
            changes: 0,
        })
    }

    fn empty_slots(count: u32) -> Result<KVec<Option<Slot>>, AllocError> {
        // A privileged user may ask for more memory than there is. The log need not report that.
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let count = count as usize;
        let mut slots = KVec::with_capacity(count, flags)?;

        for _ in 0..count {
            slots.push(None, flags)?;
        }
        Ok(slots)
    }

    /// The index in `slots` of the slot with this number.
    fn index(&self, number: u32) -> usize {
        number as usize & (self.slots.len() - 1)
    }

    /// The number of used slots.
    pub(crate) fn used(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// The number of slots: used, free, reserved and held.
    pub(crate) fn slots(&self) -> u32 {
        self.seats.slots()
    }

    /// The number of slots that are used or free, but neither reserved nor held.
    pub(crate) fn limit(&self) -> u32 {
        self.seats.limit()
    }

    /// The number of slots that writers have reserved.
    pub(crate) fn reserved(&self) -> u32 {
        self.seats.reserved()
    }

    /// The number of free slots.
    pub(crate) fn free(&self) -> usize {
        // CAST: A u32 fits.
        (self.limit() - self.used()) as usize
    }

    /// True if there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0 && !self.posted_state().pullable
    }

    /// True if there is no free slot to write to, or a posted write is pullable.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.limit() || self.has_pullable()
    }

    /// True if a posted write is pullable. No slot can be filled then, because that would get
    /// behind the posted write.
    pub(crate) fn has_pullable(&self) -> bool {
        self.posted_write
            .as_ref()
            .is_some_and(|posted_write| posted_write.bytes().pullable())
    }

    /// The number of bytes that FIONREAD reports: those in used slots and those announced of the
    /// posted write.
    pub(crate) fn bytes(&self) -> usize {
        let slot = |n| {
            self.slots
                .get(self.index(self.tail.wrapping_add(n)))?
                .as_ref()
        };
        (0..self.used())
            .filter_map(slot)
            .map(Slot::len)
            .sum::<usize>()
            + self.announced()
    }

    /// The number of announced bytes of the posted write: as many as would fit into the free slots.
    pub(crate) fn announced(&self) -> usize {
        self.posted_write.as_ref().map_or(0, |posted_write| {
            posted_write.bytes().announced(self.free())
        })
    }

    /// The position of the next byte that a read would get.
    pub(crate) fn position(&self) -> Position {
        let first = self.slots.get(self.index(self.tail));
        // The owner may put the next bytes into a slot meanwhile. They have the same offset there.
        let posted = self
            .posted_write
            .as_ref()
            .map_or(0, |posted_write| posted_write.bytes().slot_offset());
        Position {
            tail: self.tail,
            offset: first.and_then(Option::as_ref).map_or(posted, Slot::offset),
            changes: self.changes,
        }
    }

    /// The number of the slot that is read next. Wraps after 2^32 slots.
    pub(crate) fn next_number(&self) -> u32 {
        self.tail
    }

    /// Counts `bytes` bytes that were transferred directly, so that the position changes.
    pub(crate) fn count_changes(&mut self, bytes: usize) {
        self.changes = self.changes.wrapping_add(bytes as u64);
    }

    /// Recalls the posted write if readers have used its share. Call it if other writers wait for a
    /// free slot. True if this call recalled it.
    pub(crate) fn recall_used_share(&mut self) -> bool {
        let free = self.free();
        self.posted_write()
            .is_some_and(|posted_write| posted_write.recall_used_share(free))
    }

    /// True if a write is posted: from its post until its owner withdraws it, whether it is
    /// pullable or not.
    pub(crate) fn is_posted(&self) -> bool {
        self.posted_write.is_some()
    }

    /// The part of the snapshot about the posted write.
    pub(crate) fn posted_state(&self) -> PostedState {
        self.posted_write
            .as_ref()
            .map_or(PostedState::default(), |posted_write| {
                posted_write.state(self.free())
            })
    }

    /// Posts a write. The caller makes sure that none is posted.
    pub(crate) fn post(&mut self, posted_write: KBox<PostedWrite>) {
        self.posted_write = Some(posted_write);
    }

    /// The posted write.
    pub(crate) fn posted_write(&mut self) -> Option<&mut PostedWrite> {
        self.posted_write.as_deref_mut()
    }

    /// Withdraws the posted write and returns it, for its owner.
    pub(crate) fn withdraw(&mut self) -> Option<KBox<PostedWrite>> {
        self.posted_write.take()
    }

    /// The number of bytes of the posted write that would be in the next slot.
    pub(crate) fn next_slot_bytes(&self) -> usize {
        self.posted_write
            .as_ref()
            .map_or(0, |posted_write| posted_write.bytes().announced(1))
    }

    /// Copies at most `bytes` bytes of the posted write to `dest`. [`None`] if nothing is pullable.
    /// The caller makes sure that no slot is used. For `allow_partial` see [`PostedWrite::pull`].
    pub(crate) fn pull(
        &mut self,
        bytes: usize,
        allow_partial: bool,
        dest: &mut Dest<'_, '_>,
    ) -> Option<Pulled> {
        let free = self.free();
        let posted_write = self
            .posted_write
            .as_mut()
            .filter(|posted| posted.bytes().pullable())?;
        let pulled = posted_write.pull(bytes, allow_partial, free, dest);
        self.count_changes(pulled.bytes);
        Some(pulled)
    }

    /// The slot that is read next.
    pub(crate) fn first(&mut self) -> Option<&mut Slot> {
        let index = self.index(self.tail);
        self.slots.get_mut(index)?.as_mut()
    }

    /// The slot that is read after `n` others, with its page shared if that was one of the pipe's
    /// own. [`None`] if fewer are used.
    pub(crate) fn nth_shared(&mut self, n: u32) -> Option<&mut Slot> {
        if n >= self.used() {
            return None;
        }
        let index = self.index(self.tail.wrapping_add(n));
        let slot = self.slots.get_mut(index)?;
        *slot = slot.take().map(Slot::into_shared);
        slot.as_mut()
    }

    /// Makes the slot that is read after `n` others the pipe's own, if nobody else refers to its
    /// page.
    pub(crate) fn unshare(&mut self, n: u32) {
        if n >= self.used() {
            return;
        }
        let index = self.index(self.tail.wrapping_add(n));
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = slot.take().map(Slot::into_own);
        }
    }

    /// The slot that was written last, if a write may append to it. It may not if a pullable posted
    /// write has announced bytes behind it. If no slot is free, the posted write has announced
    /// none: a writer of a pipe(2) would still wait for a slot then.
    pub(crate) fn last(&mut self) -> Option<&mut Slot> {
        if self.used() == 0 || (self.has_pullable() && self.free() != 0) {
            return None;
        }
        let index = self.index(self.head.wrapping_sub(1));
        self.slots.get_mut(index)?.as_mut()
    }

    /// The offset in the page of the last slot where its data ends, if a write may append to it.
    #[inline(always)]
    pub(crate) fn end_of_last(&mut self) -> Option<usize> {
        self.last()?.as_stream_page().map(|slot| slot.end())
    }

    /// Moves all slots and the posted write to `other`, an empty ring, and replaces this ring by
    /// `other`. Returns the old ring, to be freed without the lock.
    ///
    /// If the used slots and the announced bytes do not fit, changes nothing and returns `other` as
    /// the error.
    pub(crate) fn resize_into(&mut self, mut other: Ring) -> Result<Ring, Ring> {
        let behind = self.posted_write.as_ref().map_or(0, |posted_write| {
            posted_write.bytes().slots().min(self.free())
        });
        // CAST: At most the number of free slots.
        let used = self.used() + behind as u32;
        let Some(seats) = self.seats.resized(other.slots(), used) else {
            return Err(other);
        };
        other.seats = seats;
        other.changes = self.changes;
        other.posted_write = self.posted_write.take();
        if other.slots() > self.slots() {
            let free = self.free();
            if let Some(posted_write) = &mut other.posted_write {
                posted_write.slot_freed(free);
            }
        }
        // A reader that drops the lock for a page fault compares its position before and after. So
        // the slots keep their numbers. INVARIANT: `other` is empty before and after this line.
        (other.head, other.tail) = (self.tail, self.tail);
        while let Some(slot) = self.pop() {
            other.push(slot);
        }
        Ok(mem::replace(self, other))
    }

    /// Fills the next slot. The caller makes sure that it is free.
    fn push(&mut self, slot: Slot) {
        let index = self.index(self.head);
        if let Some(free) = self.slots.get_mut(index) {
            // INVARIANT: The slot behind the last used one becomes used.
            *free = Some(slot);
            self.head = self.head.wrapping_add(1);
        }
    }

    /// The next free slot. [`None`] if the ring is full.
    pub(crate) fn free_slot(&mut self) -> Option<FreeSlot<'_>> {
        if self.is_full() {
            return None;
        }
        let index = self.index(self.head);

        Some(FreeSlot {
            slot: self.slots.get_mut(index)?,
            head: &mut self.head,
        })
    }

    /// Empties the slot that is read next, and returns what it held.
    pub(crate) fn pop(&mut self) -> Option<Slot> {
        let free = self.free();
        let slot = self.take_first()?;

        self.freed(free);
        Some(slot)
    }

    #[inline(always)]
    fn take_first(&mut self) -> Option<Slot> {
        let index = self.index(self.tail);
        let slot = self.slots.get_mut(index)?.take()?;

        // INVARIANT: The first used slot became empty.
        self.tail = self.tail.wrapping_add(1);
        Some(slot)
    }

    /// Notifies the posted write that a slot was freed, beside the `free` slots that were free
    /// before.
    fn freed(&mut self, free: usize) {
        if let Some(posted_write) = &mut self.posted_write {
            posted_write.slot_freed(free);
        }
    }

    /// Reserves a free slot, for [`Self::fill_reserved`] or [`Self::release`]. False if the ring is
    /// full.
    pub(crate) fn reserve(&mut self) -> bool {
        // INVARIANT: `seats` keeps its limit at or above `used()`.
        !self.is_full() && self.seats.reserve(self.used())
    }

    /// Fills a slot that was reserved, behind all used slots.
    pub(crate) fn fill_reserved(&mut self, slot: Slot) {
        if self.seats.release() {
            self.push(slot);
        }
    }

    /// Empties the slot that is read next and returns what it held, but keeps the slot held: until
    /// [`Self::release_held`] or [`Self::return_held`].
    pub(crate) fn pop_held(&mut self) -> Option<Slot> {
        let slot = self.take_first()?;

        // INVARIANT: One slot fewer is used, so the limit may shrink by one.
        self.seats.hold();
        Some(slot)
    }

    /// Frees a held slot.
    pub(crate) fn release_held(&mut self) {
        let free = self.free();
        if self.seats.release_held() {
            self.freed(free);
        }
    }

    /// Puts a slot that was held back in front of all used slots.
    pub(crate) fn return_held(&mut self, slot: Slot) {
        if !self.seats.release_held() {
            return;
        }
        let number = self.tail.wrapping_sub(1);
        let index = self.index(number);
        if let Some(free) = self.slots.get_mut(index) {
            // INVARIANT: The slot before the first used one becomes used. There was an empty one,
            // because a slot was held.
            *free = Some(slot);
            self.tail = number;
        }
        // This changes the position even if `tail` is back at an earlier value. Otherwise a reader
        // that dropped the lock before would not notice.
        self.count_changes(1);
    }

    /// Frees a slot that was reserved.
    pub(crate) fn release(&mut self) {
        let free = self.free();
        if self.seats.release() {
            self.freed(free);
        }
    }
}

/// The free slot of a [`Ring`] that is filled next.
pub(crate) struct FreeSlot<'r> {
    slot: &'r mut Option<Slot>,
    head: &'r mut u32,
}

impl FreeSlot<'_> {
    /// Fills it, behind all used slots.
    pub(crate) fn fill(self, slot: Slot) {
        // INVARIANT: The slot behind the last used one becomes used. The old value is [`None`] and
        // is not dropped. The test before a drop would cost more than the rest of this function,
        // for every message.
        mem::forget(self.slot.replace(slot));
        *self.head = self.head.wrapping_add(1);
    }
}
