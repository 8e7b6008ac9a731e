// SPDX-License-Identifier: GPL-2.0-only

//! The wakeup policy of a read.

use super::Wakes;
use core::mem;

/// The wakeup policy of one read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ReaderPolicy {
    /// The read has emptied a slot of a full pipe.
    freed_slot: bool,
    /// The read waited and may have consumed a wakeup: the next reader is to be woken, too.
    wake_next: bool,
    /// A pull has freed a slot, had its bytes gone through slots.
    pull_freed_slot: bool,
    /// The state of the posted write may have changed without a byte pulled: by a miss or a recall.
    post_changed: bool,
    /// Announced bytes of the posted write when the reader took the lock, less those pulled since.
    announced: usize,
}

/// The state in which a reader leaves the pipe when it drops the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remaining {
    /// There are used slots.
    pub(crate) slots: bool,
    /// The posted write is pullable, so other writers find no free slot.
    pub(crate) pullable: bool,
    /// The owner must withdraw the posted write.
    pub(crate) must_withdraw: bool,
}

impl ReaderPolicy {
    /// Records that the reader has taken the lock, with nothing read so far. `announced` bytes of
    /// the posted write are announced: to other tasks they are in the pipe.
    pub(crate) fn locked(&mut self, announced: usize) {
        self.announced = announced;
    }

    /// Records that a slot was emptied. `was_full` says that the pipe was full before.
    pub(crate) fn slot_emptied(&mut self, was_full: bool) {
        self.freed_slot |= was_full;
    }

    /// Records that `bytes` bytes were pulled. `frees` says that this frees a slot, had the bytes
    /// gone through slots.
    pub(crate) fn pulled(&mut self, bytes: usize, frees: bool) {
        self.announced = self.announced.saturating_sub(bytes);
        self.pull_freed_slot |= frees;
    }

    /// Records that the state of the posted write may have changed although no byte was pulled: by
    /// a miss or a recall. [`Remaining::must_withdraw`] says whether the owner has to withdraw it.
    pub(crate) fn post_changed(&mut self) {
        self.post_changed = true;
    }

    /// Records that a wait for data ended without a signal, so that it may have consumed a wakeup.
    pub(crate) fn waited(&mut self) {
        self.wake_next = true;
    }

    /// The wakeups to issue when the reader drops the lock for a while: to wait, to sleep or to
    /// fault in its memory.
    ///
    /// If the reader freed a slot, the owner of a posted write would have refilled it. So the rest
    /// of the posted write counts as new data for SIGIO. The reader may also have read all data
    /// that was in the pipe when it took the lock. Then the rest counts as new data for tasks that
    /// wait or poll for data, too.
    ///
    /// While the posted write is pullable, its owner wakes the other writers. A reader that pulls
    /// the last of it, or misses, wakes them itself.
    pub(crate) fn pause(&mut self, left: Remaining) -> Wakes {
        let pull_freed_slot =
            mem::take(&mut self.pull_freed_slot) | mem::take(&mut self.freed_slot);
        let post_changed = mem::take(&mut self.post_changed);
        let refilled = pull_freed_slot && left.pullable;
        let drained = !left.slots && self.announced == 0;
        let empty = !left.slots && !left.pullable;
        Wakes {
            reader: (mem::take(&mut self.wake_next) && !empty) || (refilled && drained),
            sigio_readers: refilled,
            writer: (pull_freed_slot || post_changed) && !left.pullable,
            sigio_writers: (pull_freed_slot || post_changed) && !left.pullable,
            owner: (pull_freed_slot || post_changed) && left.must_withdraw,
        }
    }

    /// The wakeups to issue when the reader drops the lock and its call ends. As in fs/pipe.c,
    /// writers get SIGIO whether the read freed a slot or not.
    pub(crate) fn end(&mut self, left: Remaining) -> Wakes {
        Wakes {
            sigio_writers: true,
            ..self.pause(left)
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_wakeup_reader))]
mod tests {
    use super::*;

    const EMPTY: Remaining = Remaining {
        slots: false,
        pullable: false,
        must_withdraw: false,
    };
    const DATA: Remaining = Remaining {
        slots: true,
        ..EMPTY
    };
    const POSTED: Remaining = Remaining {
        pullable: true,
        ..EMPTY
    };
    const BOTH: Remaining = Remaining {
        pullable: true,
        ..DATA
    };

    #[test]
    fn a_read_wakes_a_writer_of_a_full_pipe_only() {
        let mut policy = ReaderPolicy::default();
        policy.slot_emptied(false);
        assert_eq!(policy.pause(DATA), Wakes::default());
        policy.slot_emptied(true);
        policy.slot_emptied(false);
        assert!(policy.pause(DATA).writer);
        assert!(!policy.pause(DATA).writer);
    }

    #[test]
    fn a_woken_reader_wakes_the_next_if_there_is_data() {
        let mut policy = ReaderPolicy::default();
        policy.waited();
        assert!(policy.pause(DATA).reader);
        assert!(!policy.pause(DATA).reader);
        policy.waited();
        assert!(!policy.pause(EMPTY).reader);
    }

    #[test]
    fn a_slot_freed_before_a_post_is_its_owners() {
        let mut policy = ReaderPolicy::default();
        policy.slot_emptied(true);
        let wakes = policy.pause(BOTH);
        // The owner would have refilled the slot.
        assert!(wakes.sigio_readers && !wakes.reader && !wakes.owner && !wakes.writer);
        policy.slot_emptied(true);
        let wakes = policy.pause(Remaining {
            must_withdraw: true,
            ..BOTH
        });
        assert!(wakes.owner && !wakes.writer);
    }

    #[test]
    fn the_last_pull_wakes_writers() {
        let mut policy = ReaderPolicy::default();
        policy.pulled(1, true);
        let wakes = policy.pause(Remaining {
            must_withdraw: true,
            ..EMPTY
        });
        assert!(wakes.writer && wakes.owner && !wakes.sigio_readers);
        assert!(!policy.pause(EMPTY).writer);
    }

    #[test]
    fn a_miss_notifies_no_reader() {
        let mut policy = ReaderPolicy::default();
        policy.post_changed();
        // The posted write was recalled, and is still pullable.
        let left = Remaining {
            must_withdraw: true,
            ..POSTED
        };
        let owner = Wakes {
            owner: true,
            ..Wakes::default()
        };
        assert_eq!(policy.pause(left), owner);
        assert_eq!(policy.pause(left), Wakes::default());
        // The posted write is not pullable, so slots are free.
        policy.post_changed();
        let free = Wakes {
            writer: true,
            sigio_writers: true,
            ..owner
        };
        assert_eq!(
            policy.pause(Remaining {
                must_withdraw: true,
                ..EMPTY
            }),
            free
        );
    }

    #[test]
    fn the_rest_of_a_post_is_new_data_if_a_slot_was_freed() {
        let mut policy = ReaderPolicy::default();
        policy.locked(9);
        policy.pulled(4, false);
        assert_eq!(policy.pause(POSTED), Wakes::default());
        policy.pulled(4, true);
        let wakes = policy.pause(POSTED);
        assert!(wakes.sigio_readers && !wakes.reader && !wakes.owner);
        assert!(!policy.pause(POSTED).sigio_readers);
    }

    #[test]
    fn a_read_that_drains_the_pipe_wakes_readers_for_the_rest() {
        let mut policy = ReaderPolicy::default();
        policy.locked(9);
        policy.pulled(20, true);
        assert!(policy.pause(POSTED).reader);
        // Slots are left, so this read has not drained the pipe.
        policy.slot_emptied(true);
        assert!(!policy.pause(BOTH).reader);
        // All slots are used, so nothing of the posted write is announced.
        policy.locked(0);
        policy.slot_emptied(true);
        assert!(policy.pause(POSTED).reader);
        policy.locked(9);
        policy.pulled(9, true);
        assert!(!policy.pause(EMPTY).reader);
    }

    #[test]
    fn the_end_of_a_read_notifies_writers() {
        let mut policy = ReaderPolicy::default();
        assert!(policy.end(DATA).sigio_writers && !policy.end(DATA).writer);
        policy.slot_emptied(true);
        assert!(policy.end(DATA).writer && !policy.pause(DATA).sigio_writers);
    }

    #[test]
    fn a_pause_that_freed_a_slot_notifies_writers() {
        let mut policy = ReaderPolicy::default();
        policy.slot_emptied(true);
        assert!(policy.pause(DATA).sigio_writers);
        policy.slot_emptied(true);
        assert!(!policy.pause(BOTH).sigio_writers);
    }
}
