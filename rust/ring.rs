// SPDX-License-Identifier: GPL-2.0-only

//! The slots of a pipe, in order.

use crate::{
    direct::{Direct, Pulled},
    mm::Dest,
    slot::Slot,
    zcore::{merge::LastSlot, seats::Seats, state::Offered},
};
use core::mem;
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// Where the next byte is that a read would get: it changes whenever bytes leave the pipe.
///
/// `tail` wraps: a position comes again after 2^32 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    tail: u32,
    offset: usize,
    direct: u64,
}

/// The slots of a pipe: a ring of as many places as a power of two. Behind them all there may be the
/// memory of a writer that waits; as long as something is left of it, the pipe counts as full.
///
/// `head` and `tail` count the slots ever put in and taken out; they wrap.
///
/// # Invariants
///
/// * `places` has a power of two elements, at least one, which `seats` counts.
/// * `head - tail`, wrapping, is at most what `seats` lets be used; exactly the places from `tail` to
///   `head` are full.
#[repr(C)]
pub(crate) struct Ring {
    head: u32,
    tail: u32,
    seats: Seats,
    places: KVec<Option<Slot>>,
    direct: Option<KBox<Direct>>,
    /// Bytes that ever went straight from one process to the other, and slots that came back to the
    /// front; wraps.
    direct_bytes: u64,
}

impl Ring {
    /// An empty ring of `slots` slots, a power of two. Sleeps.
    pub(crate) fn new(slots: u32) -> Result<Self, AllocError> {
        // INVARIANT: The places are as many as asked for, and empty.
        Ok(Self {
            places: Self::places(slots)?,
            seats: Seats::new(slots),
            head: 0,
            tail: 0,
            direct: None,
            direct_bytes: 0,
        })
    }

    fn places(slots: u32) -> Result<KVec<Option<Slot>>, AllocError> {
        // A privileged user may ask for more than there is: that is no news for the log.
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let slots = slots as usize;
        let mut places = KVec::with_capacity(slots, flags)?;

        for _ in 0..slots {
            places.push(None, flags)?;
        }
        Ok(places)
    }

    /// Where the slot with this number is.
    fn place(&self, number: u32) -> usize {
        number as usize & (self.places.len() - 1)
    }

    /// The number of slots that hold data.
    pub(crate) fn used(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// The number of slots there are, whoever may use them.
    pub(crate) fn slots(&self) -> u32 {
        self.seats.slots()
    }

    /// The number of slots that may hold data: those that nobody has reserved.
    pub(crate) fn limit(&self) -> u32 {
        self.seats.limit()
    }

    /// The number of slots that writers have reserved.
    pub(crate) fn reserved(&self) -> u32 {
        self.seats.reserved()
    }

    /// The number of slots that are free.
    pub(crate) fn free(&self) -> usize {
        // CAST: A u32 fits.
        (self.limit() - self.used()) as usize
    }

    /// Whether there is no data.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0 && !self.offered().takeable
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.limit() || self.is_occupied()
    }

    /// True if readers can take something of a writer's memory behind the slots: then nothing can be
    /// put behind them.
    pub(crate) fn is_occupied(&self) -> bool {
        self.direct
            .as_ref()
            .is_some_and(|direct| direct.offer().takeable())
    }

    /// Bytes there are to read: in all slots, and as many behind them as would be in the others.
    pub(crate) fn bytes(&self) -> usize {
        let slot = |n| {
            self.places
                .get(self.place(self.tail.wrapping_add(n)))?
                .as_ref()
        };
        (0..self.used())
            .filter_map(slot)
            .map(Slot::len)
            .sum::<usize>()
            + self.announced()
    }

    /// Bytes there are to read behind the slots: as many as would be in those that are free.
    pub(crate) fn announced(&self) -> usize {
        self.direct
            .as_ref()
            .map_or(0, |direct| direct.offer().visible(self.free()))
    }

    /// Where the next byte is that a read would get.
    pub(crate) fn position(&self) -> Position {
        let first = self.places.get(self.place(self.tail));
        Position {
            tail: self.tail,
            offset: first.and_then(Option::as_ref).map_or(0, Slot::offset),
            direct: self.direct_bytes,
        }
    }

    /// The number of the slot that is read next: it comes again after 2^32 slots.
    pub(crate) fn next_number(&self) -> u32 {
        self.tail
    }

    /// Notes that `bytes` bytes went straight from one process to the other.
    pub(crate) fn passed(&mut self, bytes: usize) {
        self.direct_bytes = self.direct_bytes.wrapping_add(bytes as u64);
    }

    /// Calls the owner of the offer back if readers have taken its share; to be asked if others wait
    /// for room. Says whether that is news to the owner.
    pub(crate) fn recall_spent(&mut self) -> bool {
        let free = self.free();
        self.direct()
            .is_some_and(|direct| direct.recall_spent(free))
    }

    /// Whether a writer's memory is behind the slots, or was: its owner has not come back yet.
    pub(crate) fn is_offered(&self) -> bool {
        self.direct.is_some()
    }

    /// What can be told of the writer's memory behind the slots.
    pub(crate) fn offered(&self) -> Offered {
        self.direct
            .as_ref()
            .map_or(Offered::default(), |direct| direct.state(self.free()))
    }

    /// Puts a writer's memory behind the slots. There is none yet.
    pub(crate) fn offer(&mut self, direct: KBox<Direct>) {
        self.direct = Some(direct);
    }

    /// The writer's memory behind the slots.
    pub(crate) fn direct(&mut self) -> Option<&mut Direct> {
        self.direct.as_deref_mut()
    }

    /// Takes the writer's memory away, for the writer.
    pub(crate) fn withdraw(&mut self) -> Option<KBox<Direct>> {
        self.direct.take()
    }

    /// Bytes of the writer's memory that would be in one slot, the next.
    pub(crate) fn next_part(&self) -> usize {
        self.direct
            .as_ref()
            .map_or(0, |direct| direct.offer().visible(1))
    }

    /// Has at most `bytes` bytes of the writer's memory copied to `dest`. [`None`] if there are none
    /// to take. The slots must be empty. As for `parts`, see [`Direct::pull`].
    pub(crate) fn pull(
        &mut self,
        bytes: usize,
        parts: bool,
        dest: &mut Dest<'_, '_>,
    ) -> Option<Pulled> {
        let free = self.free();
        let direct = self.direct.as_mut().filter(|d| d.offer().takeable())?;
        let pulled = direct.pull(bytes, parts, free, dest);
        self.passed(pulled.bytes);
        Some(pulled)
    }

    /// The slot that is read next.
    pub(crate) fn first(&mut self) -> Option<&mut Slot> {
        let place = self.place(self.tail);
        self.places.get_mut(place)?.as_mut()
    }

    /// The slot that was written last, if nothing is behind it: what a writer has offered behind
    /// full slots is not in the pipe yet, as if that writer had waited for a slot.
    pub(crate) fn last(&mut self) -> Option<&mut Slot> {
        if self.used() == 0 || (self.is_occupied() && self.free() != 0) {
            return None;
        }
        let place = self.place(self.head.wrapping_sub(1));
        self.places.get_mut(place)?.as_mut()
    }

    /// What the last slot says about being appended to, if that is possible at all.
    #[inline(always)]
    pub(crate) fn last_slot(&mut self) -> Option<LastSlot> {
        self.last()?.as_stream_page().map(|slot| slot.as_last())
    }

    /// Moves all slots over to `other`, an empty ring, and takes its place; returns the old places,
    /// to be freed without the lock. When they do not fit, nothing happens and it returns `other`.
    pub(crate) fn move_to(&mut self, mut other: Ring) -> Result<Ring, Ring> {
        let behind = self
            .direct
            .as_ref()
            .map_or(0, |direct| direct.offer().slots().min(self.free()));
        // CAST: At most the slots there are.
        let used = self.used() + behind as u32;
        let Some(seats) = self.seats.resized(other.slots(), used) else {
            return Err(other);
        };
        other.seats = seats;
        other.direct_bytes = self.direct_bytes;
        other.direct = self.direct.take();
        if other.slots() > self.slots() {
            let free = self.free();
            if let Some(direct) = &mut other.direct {
                direct.slot_freed(free);
            }
        }
        // A reader that faults compares positions across this.
        // INVARIANT: The ring is empty before and after.
        (other.head, other.tail) = (self.tail, self.tail);
        while let Some(slot) = self.pop() {
            other.push(slot);
        }
        Ok(mem::replace(self, other))
    }

    /// Puts a slot behind all others, into a place that the caller knows to be free.
    fn push(&mut self, slot: Slot) {
        let place = self.place(self.head);
        if let Some(place) = self.places.get_mut(place) {
            // INVARIANT: The place behind the last full one becomes full.
            *place = Some(slot);
            self.head = self.head.wrapping_add(1);
        }
    }

    /// The free place behind all slots. [`None`] when the ring is full.
    pub(crate) fn vacancy(&mut self) -> Option<Vacancy<'_>> {
        if self.is_full() {
            return None;
        }
        let place = self.place(self.head);

        Some(Vacancy {
            place: self.places.get_mut(place)?,
            head: &mut self.head,
        })
    }

    /// Takes the slot out that is read next.
    pub(crate) fn pop(&mut self) -> Option<Slot> {
        let place = self.place(self.tail);
        let free = self.free();
        let slot = self.places.get_mut(place)?.take()?;

        // INVARIANT: The first full place became empty.
        self.tail = self.tail.wrapping_add(1);
        self.freed(free);
        Some(slot)
    }

    /// Notes that there is one free slot more than the `free` there were.
    fn freed(&mut self, free: usize) {
        if let Some(direct) = &mut self.direct {
            direct.slot_freed(free);
        }
    }

    /// Reserves a free slot, for [`Self::fill_reserved`] or [`Self::release`]. False if the ring is
    /// full.
    pub(crate) fn reserve(&mut self) -> bool {
        // INVARIANT: No more than `used` slots have to be used.
        !self.is_full() && self.seats.reserve(self.used())
    }

    /// Puts a slot behind all others, into a place that was reserved.
    pub(crate) fn fill_reserved(&mut self, slot: Slot) {
        if self.seats.release() {
            self.push(slot);
        }
    }

    /// Takes the slot out that is read next, and holds its place: for [`Self::let_go`] or
    /// [`Self::give_back`].
    pub(crate) fn pop_held(&mut self) -> Option<Slot> {
        let place = self.place(self.tail);
        let slot = self.places.get_mut(place)?.take()?;

        // INVARIANT: The first full place became empty, and one that may be used fewer is.
        self.tail = self.tail.wrapping_add(1);
        self.seats.hold();
        Some(slot)
    }

    /// A held place is free.
    pub(crate) fn let_go(&mut self) {
        let free = self.free();
        if self.seats.let_go() {
            self.freed(free);
        }
    }

    /// Puts a slot before all others, into a place that was held.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        if !self.seats.let_go() {
            return;
        }
        let number = self.tail.wrapping_sub(1);
        let place = self.place(number);
        if let Some(place) = self.places.get_mut(place) {
            // INVARIANT: The place before the first full one becomes full: there was one, for it was held.
            *place = Some(slot);
            self.tail = number;
        }
        // A reader that was here before must not take this for what it saw.
        self.passed(1);
    }

    /// A reserved slot is free.
    pub(crate) fn release(&mut self) {
        let free = self.free();
        if self.seats.release() {
            self.freed(free);
        }
    }
}

/// The place in a [`Ring`] that is filled next.
pub(crate) struct Vacancy<'r> {
    place: &'r mut Option<Slot>,
    head: &'r mut u32,
}

impl Vacancy<'_> {
    /// Puts a slot in, behind all others.
    pub(crate) fn fill(self, slot: Slot) {
        // INVARIANT: The place behind the last full one becomes full. It was empty, and is not asked again:
        // for every message that is dearer than all else here.
        mem::forget(self.place.replace(slot));
        *self.head = self.head.wrapping_add(1);
    }
}
