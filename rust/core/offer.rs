// SPDX-License-Identifier: GPL-2.0-only

//! What a blocked writer offers: bytes that readers take straight from its memory.
//!
//! A pipe has at most one offer, behind all its slots, and as long as something is left of it the
//! pipe counts as full: what can be seen of it is what could be seen of a pipe whose writer had filled
//! its slots and waits for more. So an offer keeps count of the slots that its bytes would take. An
//! offer of which readers can take nothing does not occupy the pipe, since nothing is left or since it
//! was missed: other writers find room at once, whether its owner has come back or not.
//!
//! The writer that made the offer, its *owner*, is called back when it is due: when all is taken,
//! when what is left would fit into free slots (then a write into a pipe returns), or when a reader
//! missed a page of the owner's memory, which nobody else may fault in. The owner then withdraws the
//! offer, under the pipe's lock as everything here, and goes on as a writer that finds room. Until
//! then it may offer more, of what it finds to be present in its memory.
//!
//! Writers share a pipe. While others wait for room, readers take at most a *share* of one offer; then
//! the offer is recalled, and its owner queues behind the others ([`Standing`]). Until the owner comes,
//! readers can take what was announced by then, as much as free slots would hold, and no more: of a
//! pipe(2) they could take what its slots hold. With that gone, the offer does not occupy the pipe.

use super::PAGE_SIZE;

/// Bytes offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offer {
    /// Bytes that nobody has taken yet.
    left: usize,
    /// Bytes that have been taken of the slot that the next would be in; less than a page.
    phase: usize,
    /// Bytes that have been taken since the offer was made.
    taken: usize,
    /// Bytes that readers may still take, if there are so many: without a bound until the share is
    /// spent.
    reach: usize,
    /// A reader could not take the next bytes without a fault.
    missed: bool,
    /// Its owner is no longer to wait for readers.
    recalled: bool,
}

impl Offer {
    /// Offers `bytes` bytes, of which the first would be in a slot behind `phase` others.
    pub(crate) fn new(bytes: usize, phase: usize) -> Self {
        Self {
            left: bytes,
            phase: phase % PAGE_SIZE,
            taken: 0,
            reach: usize::MAX,
            missed: false,
            recalled: false,
        }
    }

    /// Bytes that nobody has taken yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Bytes taken of the slot that the next byte would be in.
    pub(crate) fn phase(&self) -> usize {
        self.phase
    }

    /// Bytes that readers may take, if they are not missed.
    pub(crate) fn reachable(&self) -> usize {
        self.left.min(self.reach)
    }

    /// True if readers can take something; and then the pipe counts as full.
    pub(crate) fn takeable(&self) -> bool {
        self.reachable() != 0 && !self.missed
    }

    /// The number of slots that the bytes within reach would take up.
    pub(crate) fn slots(&self) -> usize {
        if self.takeable() {
            (self.phase.saturating_add(self.reachable())).div_ceil(PAGE_SIZE)
        } else {
            0
        }
    }

    /// The number of slots that all the bytes left would take up.
    pub(crate) fn slots_left(&self) -> usize {
        if self.left == 0 {
            0
        } else {
            self.phase.saturating_add(self.left).div_ceil(PAGE_SIZE)
        }
    }

    /// True if readers can take something, and have taken at least `share` bytes since the offer was
    /// made.
    pub(crate) fn share_is_spent(&self, share: usize) -> bool {
        self.takeable() && self.taken >= share
    }

    /// Bytes that would be in `free` slots.
    fn within(&self, free: usize) -> usize {
        let room = free.saturating_mul(PAGE_SIZE).saturating_sub(self.phase);
        self.left.min(room)
    }

    /// Bytes that are announced, with `free` slots free: those that FIONREAD counts.
    pub(crate) fn visible(&self, free: usize) -> usize {
        if self.takeable() {
            self.within(free).min(self.reach)
        } else {
            0
        }
    }

    /// Whether all that is left would be in `free` slots.
    pub(crate) fn fits(&self, free: usize) -> bool {
        self.within(free) == self.left
    }

    /// Whether the owner has to come back, with `free` slots free.
    pub(crate) fn due(&self, free: usize) -> bool {
        self.missed || self.recalled || self.fits(free)
    }

    /// Whether taking the next `bytes` bytes would free a slot: they are the last ones of one.
    pub(crate) fn frees_slot(&self, bytes: usize) -> bool {
        bytes != 0 && (self.phase + bytes >= PAGE_SIZE || bytes >= self.left)
    }

    /// Takes `bytes` bytes, from the front, at most those left: they were copied, so all of them
    /// count, however far readers may go by now.
    pub(crate) fn take(&mut self, bytes: usize) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.reach = self.reach.saturating_sub(bytes);
        self.taken = self.taken.saturating_add(bytes);
        self.phase = (self.phase + bytes) % PAGE_SIZE;
    }

    /// Offers `bytes` bytes more, behind the others, with `free` slots free; returns how many. None
    /// if the owner is called for: readers may have found nothing left, and nobody would tell them.
    pub(crate) fn extend(&mut self, bytes: usize, free: usize) -> usize {
        let bytes = if self.due(free) { 0 } else { bytes };
        self.left += bytes;
        bytes
    }

    /// Of the next `bytes` bytes, how many would be in a slot of which others still follow.
    pub(crate) fn part(&self, bytes: usize) -> usize {
        part(self.phase, bytes)
    }

    /// Whether the next bytes cannot be had.
    pub(crate) fn is_missed(&self) -> bool {
        self.missed
    }

    /// Notes that the next bytes cannot be had without a fault: from now on there are none.
    pub(crate) fn miss(&mut self) {
        self.missed = true;
    }

    /// Calls the owner back, who is not to go on offering, with `free` slots free: until it comes,
    /// there is no more than what was announced by now, as it would be in these.
    pub(crate) fn recall(&mut self, free: usize) {
        self.reach = self.reach.min(self.within(free));
        self.recalled = true;
    }

    /// True if the owner was called back, for whatever else it has to see to.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled
    }
}

/// Where a large write stands among the writers that wait for room: it decides whether the write may
/// make an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// The write has just begun, or withdrew an offer that nobody recalled.
    Fresh,
    /// The write has waited for room, and its turn has come.
    Turn,
    /// Readers took the write's share, and others wait: the write offers again when one of them has
    /// written something, or when nobody waits any more.
    Spent,
}

impl Standing {
    /// True if the write may make an offer while `waiting` other writers wait for room, or were
    /// refused for want of it.
    pub(crate) fn may_offer(self, waiting: u32) -> bool {
        match self {
            Standing::Fresh => waiting == 0,
            Standing::Turn => true,
            Standing::Spent => false,
        }
    }

    /// The standing of a write that has waited for room, with `waiting` others that still do.
    ///
    /// `queued` says that it slept, so that nobody can have been there before: who found room at
    /// once may have passed others. `others` says that another that waited has written since.
    pub(crate) fn waited(self, waiting: u32, queued: bool, others: bool) -> Self {
        if waiting == 0 || (queued && (self != Standing::Spent || others)) {
            Standing::Turn
        } else {
            self
        }
    }

    /// The standing of a write that has withdrawn `offer`.
    pub(crate) fn after(offer: &Offer) -> Self {
        if offer.is_recalled() {
            Standing::Spent
        } else {
            Standing::Fresh
        }
    }
}

/// Of `bytes` bytes behind `phase` others in a slot, how many are in a last slot that they do not
/// fill.
pub(crate) fn part(phase: usize, bytes: usize) -> usize {
    ((phase + bytes) % PAGE_SIZE).min(bytes)
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_offer))]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_due() {
        let offer = Offer::new(3 * PAGE_SIZE, 0);
        assert!(!offer.due(2));
        assert!(offer.due(3));
        assert_eq!(offer.visible(2), 2 * PAGE_SIZE);
        assert_eq!(offer.visible(16), 3 * PAGE_SIZE);
    }

    #[test]
    fn what_is_recalled_is_due_and_still_there() {
        let mut offer = Offer::new(3 * PAGE_SIZE, 0);
        assert!(!offer.is_recalled());
        offer.recall(1);
        assert!(offer.due(1) && offer.takeable() && !offer.is_missed() && offer.is_recalled());
    }

    #[test]
    fn an_offer_is_there_until_all_is_taken() {
        let mut offer = Offer::new(2 * PAGE_SIZE, 0);
        assert!(offer.takeable());
        offer.take(2 * PAGE_SIZE - 1);
        assert!(offer.takeable());
        offer.take(1);
        assert!(!offer.takeable() && offer.due(0));
    }

    #[test]
    fn slots_are_counted_with_what_was_taken_of_the_first() {
        let mut offer = Offer::new(3 * PAGE_SIZE, 0);
        assert_eq!(offer.slots(), 3);
        offer.take(1);
        assert_eq!(offer.slots(), 3);
        offer.take(PAGE_SIZE - 1);
        assert_eq!(offer.slots(), 2);
        offer.take(2 * PAGE_SIZE);
        assert_eq!(offer.slots(), 0);
        assert_eq!(Offer::new(2, PAGE_SIZE - 1).slots(), 2);
        assert_eq!(Offer::new(0, PAGE_SIZE - 1).slots(), 0);
        assert_eq!(Offer::new(0, PAGE_SIZE - 1).slots_left(), 0);
        assert_eq!(Offer::new(2, PAGE_SIZE - 1).slots_left(), 2);
    }

    #[test]
    fn a_share_is_spent_by_what_is_taken() {
        let mut offer = Offer::new(4 * PAGE_SIZE, 0);
        assert!(!offer.share_is_spent(PAGE_SIZE));
        offer.take(PAGE_SIZE - 1);
        assert!(!offer.share_is_spent(PAGE_SIZE));
        offer.take(1);
        assert!(offer.share_is_spent(PAGE_SIZE));
        offer.take(offer.reachable());
        assert!(!offer.share_is_spent(PAGE_SIZE));
    }

    #[test]
    fn after_the_share_there_is_what_was_announced() {
        let mut offer = Offer::new(9 * PAGE_SIZE, 0);
        offer.take(1);
        offer.recall(2);
        offer.recall(3);
        assert!(offer.is_recalled() && offer.due(2) && offer.takeable());
        assert_eq!(offer.visible(2), 2 * PAGE_SIZE - 1);
        assert_eq!(offer.visible(16), 2 * PAGE_SIZE - 1);
        assert_eq!(offer.slots(), 2);
        assert_eq!(offer.reachable(), 2 * PAGE_SIZE - 1);
        offer.take(2 * PAGE_SIZE - 1);
        assert!(!offer.takeable() && offer.due(16));
        // The rest is still the owner's to write, from the start of a slot.
        assert_eq!((offer.left(), offer.phase()), (7 * PAGE_SIZE, 0));
        assert_eq!((offer.slots(), offer.visible(16)), (0, 0));
        assert_eq!(offer.slots_left(), 7);
    }

    #[test]
    fn what_was_taken_counts_whatever_was_said_meanwhile() {
        let mut offer = Offer::new(9 * PAGE_SIZE, 0);
        offer.recall(2);
        offer.take(5 * PAGE_SIZE);
        assert_eq!((offer.left(), offer.reachable()), (4 * PAGE_SIZE, 0));
    }

    #[test]
    fn a_slot_is_freed_by_its_last_byte() {
        let offer = Offer::new(2 * PAGE_SIZE, 100);
        assert!(!offer.frees_slot(0) && !offer.frees_slot(PAGE_SIZE - 101));
        assert!(offer.frees_slot(PAGE_SIZE - 100));
        assert!(!Offer::new(100, 0).frees_slot(99) && Offer::new(100, 0).frees_slot(100));
        assert!(!Offer::new(0, 0).frees_slot(0));
    }

    #[test]
    fn nobody_offers_past_those_who_wait() {
        assert!(Standing::Fresh.may_offer(0) && !Standing::Fresh.may_offer(1));
        assert!(Standing::Turn.may_offer(9));
        assert!(!Standing::Spent.may_offer(0));

        // Who did not queue may have passed others.
        assert_eq!(Standing::Fresh.waited(1, false, true), Standing::Fresh);
        assert_eq!(Standing::Fresh.waited(1, true, false), Standing::Turn);
        assert_eq!(Standing::Fresh.waited(0, false, false), Standing::Turn);
        // Who had its share lets another have its own.
        assert_eq!(Standing::Spent.waited(1, true, false), Standing::Spent);
        assert_eq!(Standing::Spent.waited(1, true, true), Standing::Turn);
        assert_eq!(Standing::Spent.waited(1, false, true), Standing::Spent);
        assert_eq!(Standing::Spent.waited(0, false, false), Standing::Turn);

        let mut offer = Offer::new(PAGE_SIZE, 0);
        assert_eq!(Standing::after(&offer), Standing::Fresh);
        offer.recall(9);
        assert_eq!(Standing::after(&offer), Standing::Spent);
    }

    #[test]
    fn what_is_found_later_comes_behind() {
        let mut offer = Offer::new(2 * PAGE_SIZE, 0);
        offer.take(1);
        assert_eq!(offer.extend(3 * PAGE_SIZE, 1), 3 * PAGE_SIZE);
        assert_eq!((offer.left(), offer.phase()), (5 * PAGE_SIZE - 1, 1));
        assert!(!offer.fits(4) && offer.fits(5));
    }

    #[test]
    fn what_is_due_does_not_grow() {
        let mut offer = Offer::new(2 * PAGE_SIZE, 0);
        assert_eq!(offer.extend(PAGE_SIZE, 2), 0);
        offer.take(usize::MAX);
        assert_eq!(offer.extend(PAGE_SIZE, 0), 0);
        assert_eq!(offer.left(), 0);
    }

    #[test]
    fn a_slot_that_is_partly_taken_is_still_taken_up() {
        let mut offer = Offer::new(3 * PAGE_SIZE, 0);
        offer.take(1);
        // 4095, 4096 and 4096 bytes: three slots.
        assert_eq!((offer.left(), offer.phase()), (3 * PAGE_SIZE - 1, 1));
        assert!(!offer.fits(2));
        assert_eq!(offer.visible(2), 2 * PAGE_SIZE - 1);
        offer.take(PAGE_SIZE - 1);
        assert!(offer.fits(2));
        assert_eq!(offer.phase(), 0);
    }

    #[test]
    fn a_part_of_a_slot_is_told_from_whole_ones() {
        let offer = Offer::new(3 * PAGE_SIZE, PAGE_SIZE - 10);
        assert_eq!(offer.part(9), 9);
        assert_eq!(offer.part(10), 0);
        assert_eq!(offer.part(11), 1);
        assert_eq!(offer.part(10 + PAGE_SIZE), 0);
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut offer = Offer::new(PAGE_SIZE, 0);
        assert_eq!(offer.reachable(), PAGE_SIZE);
        offer.take(PAGE_SIZE);
        assert_eq!(offer.left(), 0);
        assert!(!offer.takeable());
        assert!(offer.due(0));
    }

    #[test]
    fn a_miss_takes_the_rest_away_and_calls_the_owner() {
        let mut offer = Offer::new(9 * PAGE_SIZE, 0);
        assert!(offer.takeable() && !offer.due(1));
        offer.miss();
        assert!(!offer.takeable() && offer.due(1));
        assert_eq!((offer.left(), offer.visible(16)), (9 * PAGE_SIZE, 0));
        assert_eq!(offer.slots(), 0);
    }

    #[test]
    fn a_pipe_without_room_shows_nothing() {
        let offer = Offer::new(2 * PAGE_SIZE, 7);
        assert_eq!(offer.visible(0), 0);
        assert_eq!(offer.visible(usize::MAX), 2 * PAGE_SIZE);
        assert_eq!(Offer::new(1, PAGE_SIZE).phase(), 0);
    }
}
