// SPDX-License-Identifier: GPL-2.0-only

//! How many slots of a pipe may be used, where some are reserved.
//!
//! Page tables cannot be changed under the pipe's lock. So a writer that gifts a huge page reserves
//! a free slot first, its *seat*. Where in the ring that is, is not said: only how many may be used
//! changes. To everybody else a reserved slot is one that holds data.
//!
//! What a read window shows has left the ring, and may come back to the front of it. Until it is read
//! the slot it was in is *held*: it is free for nobody.

/// The slots of a ring.
///
/// # Invariants
///
/// `limit + reserved + held` are all slots there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seats {
    limit: u32,
    reserved: u32,
    held: u32,
}

impl Seats {
    /// Of `slots` slots none is reserved.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            limit: slots,
            reserved: 0,
            held: 0,
        }
    }

    /// Slots that may hold data.
    pub(crate) fn limit(self) -> u32 {
        self.limit
    }

    /// Slots there are.
    pub(crate) fn slots(self) -> u32 {
        self.limit + self.reserved + self.held
    }

    /// Slots that writers have reserved.
    pub(crate) fn reserved(self) -> u32 {
        self.reserved
    }

    /// Holds a slot that was just emptied, of those that may hold data.
    pub(crate) fn hold(&mut self) {
        if self.limit != 0 {
            // INVARIANT: The sum stays.
            self.limit -= 1;
            self.held += 1;
        }
    }

    /// A held slot is free again, or is about to be used. Says whether one was held.
    pub(crate) fn let_go(&mut self) -> bool {
        let held = self.held != 0;
        if held {
            // INVARIANT: The sum stays.
            self.limit += 1;
            self.held -= 1;
        }
        held
    }

    /// Reserves a slot, where `used` others hold data; says whether there was one that is free.
    pub(crate) fn reserve(&mut self, used: u32) -> bool {
        let free = used < self.limit;
        if free {
            // INVARIANT: The sum stays.
            self.limit -= 1;
            self.reserved += 1;
        }
        free
    }

    /// A reserved slot is free again, or is about to be used. Says whether one was reserved.
    pub(crate) fn release(&mut self) -> bool {
        let held = self.reserved != 0;
        if held {
            // INVARIANT: The sum stays.
            self.limit += 1;
            self.reserved -= 1;
        }
        held
    }

    /// The same reservations and held slots in a ring of `slots` slots, of which `used` hold data. [`None`] if
    /// they do not fit.
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
    fn reservations_take_part_in_a_resize() {
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
    fn a_held_slot_is_free_for_nobody() {
        let mut seats = Seats::new(2);
        seats.hold();
        assert_eq!((seats.limit(), seats.slots()), (1, 2));
        assert!(!seats.reserve(1));
        assert!(seats.reserve(0));
        seats.hold();
        assert_eq!((seats.limit(), seats.reserved(), seats.slots()), (0, 1, 2));
        assert!(seats.resized(1, 0).is_none());
        assert_eq!(seats.resized(4, 2).map(|s| s.limit()), Some(2));
        assert!(seats.let_go());
        assert!(!seats.let_go());
        assert!(seats.release());
        assert_eq!((seats.limit(), seats.slots()), (2, 2));
    }
}
