// SPDX-License-Identifier: GPL-2.0-only

//! Whom a reader or writer wakes, and when: what it owes to others while it holds the lock, paid
//! when it has dropped it.
//!
//! The rules are those of `anon_pipe_read()` and `anon_pipe_write()`: a write wakes a reader if the
//! pipe was empty, a read wakes a writer if it was full, and who was woken itself, and leaves
//! something for the next, wakes the next. Added are the pauses: a wakeup that somebody had is
//! passed on before it faults. And offers, see [`Offer`](super::offer::Offer): who makes one due
//! wakes its owner.

use super::state::Offered;
use core::mem;

/// Whom to wake, now that the lock is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wakes {
    /// A reader, and who polls for input.
    pub(crate) reader: bool,
    /// A writer, and who polls for room.
    pub(crate) writer: bool,
    /// The owner of the offer.
    pub(crate) owner: bool,
    /// There is news for readers that want SIGIO.
    pub(crate) input: bool,
    /// There is room, and writers that want SIGIO were not told of it by a reader.
    pub(crate) output: bool,
}

/// What a write owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriterTurn {
    was_empty: bool,
    wake_next: bool,
    told: usize,
    withdrew: bool,
    told_since_wait: bool,
}

impl WriterTurn {
    /// A write begins, with the lock taken.
    pub(crate) fn new(empty: bool) -> Self {
        Self {
            was_empty: empty,
            wake_next: false,
            told: 0,
            withdrew: false,
            told_since_wait: false,
        }
    }

    /// The lock is about to be dropped, with `done` bytes written, to wait for room if the pipe is
    /// full and otherwise for the writer's own memory.
    ///
    /// What is written so far must not wait for what is not; nor must the next writer.
    pub(crate) fn pause(&mut self, done: usize, full: bool) -> Wakes {
        self.pause_with(done, full, full && !self.told_since_wait)
    }

    /// The lock is about to be dropped, with `done` bytes written and an offer made, which `announces`
    /// something if there are free slots.
    pub(crate) fn pause_to_offer(&mut self, done: usize, announces: bool) -> Wakes {
        self.pause_with(done, true, announces || !self.told_since_wait)
    }

    fn pause_with(&mut self, done: usize, full: bool, news: bool) -> Wakes {
        let news = news || done > self.told;
        if news {
            self.told = done;
            self.told_since_wait = true;
        }
        Wakes {
            reader: news && self.was_empty,
            input: news,
            writer: !full && mem::take(&mut self.wake_next),
            output: mem::take(&mut self.withdrew) && !full,
            owner: false,
        }
    }

    /// The lock is about to be dropped to allocate pages: that is no time for the next writer, whose
    /// bytes would come between those of a write that has room.
    pub(crate) fn pause_for_pages(&mut self, done: usize) -> Wakes {
        let next = mem::take(&mut self.wake_next);
        let withdrew = mem::take(&mut self.withdrew);
        let wakes = self.pause(done, false);
        self.wake_next = next;
        self.withdrew = withdrew;
        wakes
    }

    /// `bytes` bytes were copied to a waiting reader, which is woken by name: they were never in the
    /// pipe, so other readers are not told of them.
    pub(crate) fn pushed(&mut self, bytes: usize) {
        self.told += bytes;
    }

    /// The wait for room, or for the end of an offer, is over, whatever ended it: there may be
    /// others who had to wait for the same.
    pub(crate) fn waited(&mut self) {
        self.wake_next = true;
        self.told_since_wait = false;
    }

    /// The write has withdrawn its offer, which makes `done` bytes written: the readers that took
    /// them know of these. If the offer was `in_the_way` of other writers, they were told of no room.
    pub(crate) fn withdrew(&mut self, done: usize, in_the_way: bool) {
        self.told = done;
        self.withdrew = in_the_way;
    }

    /// The lock is about to be dropped, with nothing written: a slot that was reserved is free again.
    ///
    /// Others may have waited for it. If what is `offered` keeps the pipe `full`, it is as when a larger
    /// capacity frees a slot: the owner looks whether it may still wait, and would have filled it.
    pub(crate) fn give_up_seat(self, full: bool, offered: Offered) -> Wakes {
        Wakes {
            reader: false,
            input: offered.takeable,
            writer: !full,
            output: !full,
            owner: offered.due,
        }
    }

    /// The lock is taken again.
    pub(crate) fn resume(&mut self, empty: bool) {
        self.was_empty = empty;
    }

    /// The lock is about to be dropped for good, with `done` bytes written. If anybody ever polled,
    /// every write wakes: epoll's edges want it. As in fs/pipe.c, a write that failed wakes, too, and
    /// a reader that finds nothing waits behind the others from then on.
    pub(crate) fn end(self, done: usize, full: bool, polled: bool) -> Wakes {
        Wakes {
            reader: (self.was_empty && (done > self.told || done == 0)) || polled,
            input: true,
            writer: self.wake_next && !full,
            output: self.withdrew && !full,
            owner: false,
        }
    }
}

/// What a read owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ReaderTurn {
    made_room: bool,
    wake_next: bool,
    freed: bool,
    missed: bool,
    announced: usize,
}

/// What a reader leaves behind when it drops the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// There is data in slots.
    pub(crate) slots: bool,
    /// There is an offer of which readers can take something, so no room for other writers.
    pub(crate) offered: bool,
    /// There is an offer, and it is due.
    pub(crate) due: bool,
}

impl ReaderTurn {
    /// The lock was taken, with nothing read so far. Of an offer `announced` bytes can be read: as far
    /// as others can tell, they are in the pipe.
    pub(crate) fn locked(&mut self, announced: usize) {
        self.announced = announced;
    }

    /// A slot was emptied.
    pub(crate) fn emptied(&mut self, was_full: bool) {
        self.made_room |= was_full;
    }

    /// `bytes` bytes were taken of an offer; `frees` says that a slot would be free for that.
    pub(crate) fn took(&mut self, bytes: usize, frees: bool) {
        self.announced = self.announced.saturating_sub(bytes);
        self.freed |= frees;
    }

    /// The offer became due without a byte taken of it: its memory was missed, or it was recalled.
    pub(crate) fn missed(&mut self) {
        self.missed = true;
    }

    /// The wait for data is over, with a wakeup.
    pub(crate) fn waited(&mut self) {
        self.wake_next = true;
    }

    /// The lock is about to be dropped.
    ///
    /// Where a slot was freed, the writer would have filled it: what is left of an offer is news to
    /// who wants SIGIO, and if all was read that could be read when the lock was taken, it is so to
    /// who waits or polls for data. As long as something can be taken of it, other writers are the
    /// owner's to wake; who takes the last of it, or misses it, makes room.
    pub(crate) fn pause(&mut self, left: Left) -> Wakes {
        let freed = mem::take(&mut self.freed) | mem::take(&mut self.made_room);
        let missed = mem::take(&mut self.missed);
        let refilled = freed && left.offered;
        let drained = !left.slots && self.announced == 0;
        let empty = !left.slots && !left.offered;
        Wakes {
            reader: (mem::take(&mut self.wake_next) && !empty) || (refilled && drained),
            input: refilled,
            writer: (freed || missed) && !left.offered,
            output: missed && !left.offered,
            owner: (freed || missed) && left.due,
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_turn))]
mod tests {
    use super::*;

    const EMPTY: Left = Left {
        slots: false,
        offered: false,
        due: false,
    };
    const DATA: Left = Left {
        slots: true,
        ..EMPTY
    };
    const OFFER: Left = Left {
        offered: true,
        ..EMPTY
    };
    const BOTH: Left = Left {
        offered: true,
        ..DATA
    };

    #[test]
    fn a_write_wakes_a_reader_of_an_empty_pipe_only() {
        assert!(WriterTurn::new(true).end(1, false, false).reader);
        assert!(!WriterTurn::new(false).end(1, false, false).reader);
        assert!(WriterTurn::new(false).end(1, false, true).reader);
        assert!(WriterTurn::new(true).end(0, false, false).reader);
    }

    #[test]
    fn what_readers_took_themselves_is_no_news() {
        let mut turn = WriterTurn::new(true);
        turn.withdrew(9, true);
        assert!(!turn.end(9, false, false).reader);
        assert!(turn.end(9, false, true).reader);
        assert!(turn.end(10, false, false).reader);
        assert!(!turn.pause(9, false).reader);
    }

    #[test]
    fn what_was_pushed_is_news_for_nobody_else() {
        let mut turn = WriterTurn::new(true);
        turn.pushed(5);
        assert!(!turn.pause(5, false).reader);
        assert!(!turn.end(5, false, false).reader);
        assert!(turn.end(6, false, false).reader);
    }

    #[test]
    fn who_withdraws_tells_of_the_room_that_is_left() {
        let mut turn = WriterTurn::new(false);
        turn.withdrew(1, true);
        assert!(turn.end(1, false, false).output);
        assert!(!turn.end(1, true, false).output);
        assert!(!turn.pause_for_pages(1).output);
        assert!(turn.pause(1, false).output);
        assert!(!turn.pause(2, false).output);
        turn.withdrew(2, true);
        // A reader that frees a slot of a full pipe tells of it.
        assert!(!turn.pause(2, true).output);
        assert!(!turn.end(2, false, false).output);
        // Readers told of the room beside one of which they could take no more.
        turn.withdrew(3, false);
        assert!(!turn.end(3, false, false).output);
    }

    #[test]
    fn a_woken_writer_wakes_the_next_if_there_is_room() {
        let mut turn = WriterTurn::new(true);
        assert!(!turn.end(1, false, false).writer);
        turn.waited();
        assert!(turn.end(1, false, false).writer);
        assert!(!turn.end(1, true, false).writer);
    }

    #[test]
    fn another_offer_behind_full_slots_is_no_news() {
        let mut turn = WriterTurn::new(true);
        assert!(turn.pause_to_offer(1, false).input);
        assert_eq!(turn.pause_to_offer(1, false), Wakes::default());
        let wakes = turn.pause_to_offer(1, true);
        assert!(wakes.input && wakes.reader);
        assert!(turn.pause_to_offer(2, false).input);
        turn.waited();
        let wakes = turn.pause_to_offer(2, false);
        assert!(wakes.input && !wakes.writer);
    }

    #[test]
    fn a_pause_tells_what_is_new_once() {
        let mut turn = WriterTurn::new(true);
        assert!(!turn.pause(0, false).input);
        assert!(turn.pause(1, false).reader);
        assert!(!turn.pause(1, false).input);
        // That it waits is told once, as by fs/pipe.c, and again when it waits again.
        assert!(!turn.pause(1, true).input);
        turn.waited();
        assert!(turn.pause(1, true).input);
        turn.resume(false);
        let wakes = turn.pause(2, false);
        assert!(wakes.input && !wakes.reader);
    }

    #[test]
    fn a_wakeup_is_kept_while_pages_are_allocated() {
        let mut turn = WriterTurn::new(true);
        turn.waited();
        let wakes = turn.pause_for_pages(1);
        assert!(wakes.reader && wakes.input && !wakes.writer);
        assert!(!turn.pause_for_pages(1).input);
        assert!(turn.end(1, false, false).writer);
    }

    #[test]
    fn a_wakeup_is_passed_on_once_before_a_fault() {
        let mut turn = WriterTurn::new(false);
        turn.waited();
        assert!(!turn.pause(0, true).writer);
        assert!(turn.pause(0, false).writer);
        assert!(!turn.end(1, false, false).writer);
    }

    #[test]
    fn who_gives_a_seat_up_tells_who_could_use_it() {
        let turn = WriterTurn::new(false);
        let none = Offered::default();
        let wakes = turn.give_up_seat(false, none);
        assert!(wakes.writer && wakes.output && !wakes.owner && !wakes.input && !wakes.reader);
        assert_eq!(turn.give_up_seat(true, none), Wakes::default());
        let offered = Offered {
            takeable: true,
            due: true,
        };
        let wakes = turn.give_up_seat(true, offered);
        assert!(wakes.owner && wakes.input && !wakes.writer && !wakes.output);
    }

    #[test]
    fn a_read_wakes_a_writer_of_a_full_pipe_only() {
        let mut turn = ReaderTurn::default();
        turn.emptied(false);
        assert_eq!(turn.pause(DATA), Wakes::default());
        turn.emptied(true);
        turn.emptied(false);
        assert!(turn.pause(DATA).writer);
        assert!(!turn.pause(DATA).writer);
    }

    #[test]
    fn a_woken_reader_wakes_the_next_if_there_is_data() {
        let mut turn = ReaderTurn::default();
        turn.waited();
        assert!(turn.pause(DATA).reader);
        assert!(!turn.pause(DATA).reader);
        turn.waited();
        assert!(!turn.pause(EMPTY).reader);
    }

    #[test]
    fn room_beside_an_offer_is_its_owners() {
        let mut turn = ReaderTurn::default();
        turn.emptied(true);
        let wakes = turn.pause(BOTH);
        // The owner would have refilled it.
        assert!(wakes.input && !wakes.reader && !wakes.owner && !wakes.writer);
        turn.emptied(true);
        let wakes = turn.pause(Left { due: true, ..BOTH });
        assert!(wakes.owner && !wakes.writer);
    }

    #[test]
    fn who_takes_the_last_of_an_offer_makes_room() {
        let mut turn = ReaderTurn::default();
        turn.took(1, true);
        let wakes = turn.pause(Left { due: true, ..EMPTY });
        assert!(wakes.writer && wakes.owner && !wakes.input);
        assert!(!turn.pause(EMPTY).writer);
    }

    #[test]
    fn to_miss_an_offer_is_no_news_for_readers() {
        let mut turn = ReaderTurn::default();
        turn.missed();
        // It was recalled, and there is still something to take.
        let left = Left { due: true, ..OFFER };
        let owner = Wakes {
            owner: true,
            ..Wakes::default()
        };
        assert_eq!(turn.pause(left), owner);
        assert_eq!(turn.pause(left), Wakes::default());
        // There is nothing, so there is room.
        turn.missed();
        let room = Wakes {
            writer: true,
            output: true,
            ..owner
        };
        assert_eq!(turn.pause(Left { due: true, ..EMPTY }), room);
    }

    #[test]
    fn a_rest_of_an_offer_is_news_where_a_slot_was_freed() {
        let mut turn = ReaderTurn::default();
        turn.locked(9);
        turn.took(4, false);
        assert_eq!(turn.pause(OFFER), Wakes::default());
        turn.took(4, true);
        let wakes = turn.pause(OFFER);
        assert!(wakes.input && !wakes.reader && !wakes.owner);
        assert!(!turn.pause(OFFER).input);
    }

    #[test]
    fn who_read_all_there_was_wakes_for_what_would_have_followed() {
        let mut turn = ReaderTurn::default();
        turn.locked(9);
        turn.took(20, true);
        assert!(turn.pause(OFFER).reader);
        // There are slots that this read did not come to.
        turn.emptied(true);
        assert!(!turn.pause(BOTH).reader);
        // Full slots, with nothing announced behind them.
        turn.locked(0);
        turn.emptied(true);
        assert!(turn.pause(OFFER).reader);
        turn.locked(9);
        turn.took(9, true);
        assert!(!turn.pause(EMPTY).reader);
    }
}
