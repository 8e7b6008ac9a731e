// SPDX-License-Identifier: GPL-2.0-only

//! The number of slots that may be used, if some are reserved or held.
//!
//! Page tables cannot be changed under the inner lock. So a writer first reserves a free slot for a
//! huge page, its *seat*. A seat is only a number: it has no position in the ring, and the number
//! of usable slots is one less. For all other tasks a reserved slot is a used one.
//!
//! Slots that a read window shows have left the ring, and may return to its front. They are *held*
//! until the reader has consumed them. A held slot still counts against the capacity, so the number
//! of usable slots is one less for each.

/// The slots of a ring, by what they may be used for.
///
/// # Invariants
///
/// `limit + reserved + held` is the number of slots of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seats {
    /// Slots that may be used: all those that are neither reserved nor held.
    limit: u32,
    /// Slots that writers have reserved.
    reserved: u32,
    /// Slots that are held for a read window.
    held: u32,
}

impl Seats {
    /// A ring of `slots` slots, none of which is reserved or held.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            limit: slots,
            reserved: 0,
            held: 0,
        }
    }

    /// The number of slots that may be used.
    pub(crate) fn limit(self) -> u32 {
        self.limit
    }

    /// The number of all slots of the ring.
    pub(crate) fn slots(self) -> u32 {
        self.limit + self.reserved + self.held
    }

    /// The number of slots that writers have reserved.
    pub(crate) fn reserved(self) -> u32 {
        self.reserved
    }

    /// Holds a slot that has just been taken out of the ring.
    pub(crate) fn hold(&mut self) {
        if self.limit != 0 {
            // INVARIANT: The sum does not change.
            self.limit -= 1;
            self.held += 1;
        }
    }

    /// Releases a held slot, which is then free or about to be used. False if none was held.
    pub(crate) fn release_held(&mut self) -> bool {
        let held = self.held != 0;
        if held {
            // INVARIANT: The sum does not change.
            self.limit += 1;
            self.held -= 1;
        }
        held
    }

    /// Reserves a free slot, with `used` slots used. False if no slot is free.
    pub(crate) fn reserve(&mut self, used: u32) -> bool {
        let free = used < self.limit;
        if free {
            // INVARIANT: The sum does not change.
            self.limit -= 1;
            self.reserved += 1;
        }
        free
    }

    /// Releases a reserved slot, which is then free or about to be used. False if none was
    /// reserved.
    pub(crate) fn release(&mut self) -> bool {
        let reserved = self.reserved != 0;
        if reserved {
            // INVARIANT: The sum does not change.
            self.limit += 1;
            self.reserved -= 1;
        }
        reserved
    }

    /// The same reserved and held slots in a ring of `slots` slots, of which `used` are used.
    /// [`None`] if they do not fit.
    pub(crate) fn resized(self, slots: u32, used: u32) -> Option<Self> {
        let limit = slots.checked_sub(self.reserved + self.held)?;

        // INVARIANT: The sum is `slots`.
        (used <= limit).then_some(Self { limit, ..self })
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_seats))]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_slot_counts_as_used() {
        let mut seats = Seats::new(2);
        assert!(seats.reserve(1));
        assert_eq!((seats.limit(), seats.slots()), (1, 2));
        assert!(!seats.reserve(1));
        assert!(seats.reserve(0));
        assert!(!seats.reserve(0));
        assert_eq!((seats.limit(), seats.slots()), (0, 2));
    }

    #[test]
    fn no_more_is_released_than_was_reserved() {
        let mut seats = Seats::new(1);
        assert!(!seats.release());
        assert!(seats.reserve(0));
        assert!(seats.release());
        assert!(!seats.release());
        assert_eq!((seats.limit(), seats.slots()), (1, 1));
    }

    #[test]
    fn a_resize_keeps_reserved_slots() {
        let mut seats = Seats::new(4);
        assert!(seats.reserve(1));
        assert!(seats.resized(1, 1).is_none());
        assert!(seats.resized(0, 0).is_none());
        let smaller = seats.resized(2, 1);
        assert_eq!(smaller.map(|s| (s.limit(), s.slots())), Some((1, 2)));
        let larger = seats.resized(8, 1);
        assert_eq!(larger.map(|s| (s.limit(), s.slots())), Some((7, 8)));
    }

    #[test]
    fn a_held_slot_counts_as_used() {
        let mut seats = Seats::new(2);
        seats.hold();
        assert_eq!((seats.limit(), seats.slots()), (1, 2));
        assert!(!seats.reserve(1));
        assert!(seats.reserve(0));
        seats.hold();
        assert_eq!((seats.limit(), seats.reserved(), seats.slots()), (0, 1, 2));
        assert!(seats.resized(1, 0).is_none());
        assert_eq!(seats.resized(4, 2).map(|s| s.limit()), Some(2));
        assert!(seats.release_held());
        assert!(!seats.release_held());
        assert!(seats.release());
        assert_eq!((seats.limit(), seats.slots()), (2, 2));
    }
}
