// SPDX-License-Identifier: GPL-2.0-only

//! The wakeup policy: which tasks a reader or writer has to wake, and when.
//!
//! The task collects wakeups while it holds the inner lock, and issues them after it has dropped
//! the lock. The rules are those of `anon_pipe_read()` and `anon_pipe_write()`:
//!
//! * A write wakes a reader if the pipe was empty.
//! * A read wakes a writer if the pipe was full.
//! * A task that was woken wakes the next one, if it leaves something for that task.
//!
//! zpipe adds two rules:
//!
//! * A task that was woken passes the wakeup on before it faults in memory.
//! * A task wakes the owner of a [posted write](super::posted_write::PostedBytes), if the owner
//!   must withdraw it because of what the task has done.

use super::state::{Access, Ends, PostedState};
use core::mem;

/// The wakeups that a task has to issue after it has dropped the inner lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wakes {
    /// Wake a reader, and all tasks that poll for data.
    pub(crate) reader: bool,
    /// Wake a writer, and all tasks that poll for a free slot.
    pub(crate) writer: bool,
    /// Wake the owner of the posted write.
    pub(crate) owner: bool,
    /// Send SIGIO to the readers that asked for it.
    pub(crate) sigio_readers: bool,
    /// Send SIGIO to the writers that asked for it.
    pub(crate) sigio_writers: bool,
}

impl Wakes {
    /// Wakeups after a change of the capacity: there may be free slots. If the owner of a posted
    /// write would have `refilled` them, there is new data.
    pub(crate) fn resized(refilled: bool) -> Self {
        Self {
            owner: true,
            writer: true,
            sigio_readers: refilled,
            ..Self::default()
        }
    }

    /// Wakeups after the posted write was closed, if it `was`. Its owner has to withdraw it, and
    /// other writers may find free slots.
    pub(crate) fn closed(was: bool) -> Self {
        Self {
            owner: was,
            writer: was,
            sigio_writers: was,
            ..Self::default()
        }
    }

    /// Wakeups after a read window was closed. `any` says that it returned slots to the ring.
    pub(crate) fn returned(any: bool) -> Self {
        Self {
            reader: any,
            sigio_readers: any,
            ..Self::default()
        }
    }
}

/// The wakeup policy of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriterPolicy {
    /// The pipe was empty when the writer last took the lock.
    was_empty: bool,
    /// The writer waited and may have consumed a wakeup: the next writer is to be woken, too.
    wake_next: bool,
    /// Bytes of which readers need no further notification: they were notified, or have the bytes
    /// already.
    notified: usize,
    /// The writer has withdrawn a pullable posted write. Until then other writers found no free
    /// slot.
    withdrew: bool,
    /// Readers were notified since the writer last waited.
    notified_since_wait: bool,
}

impl WriterPolicy {
    /// The policy of a write that begins. The writer holds the lock; `empty` says that the pipe is
    /// empty.
    pub(crate) fn new(empty: bool) -> Self {
        Self {
            was_empty: empty,
            wake_next: false,
            notified: 0,
            withdrew: false,
            notified_since_wait: false,
        }
    }

    /// The wakeups to issue when the writer drops the lock for a while, with `done` bytes written.
    /// The writer waits for a free slot if the pipe is full. Else it faults in its memory or gifts
    /// a page.
    ///
    /// Readers need not wait for the rest of the write to get the bytes written so far. Nor does
    /// the next writer wait for a page fault of this one.
    pub(crate) fn pause(&mut self, done: usize, full: bool) -> Wakes {
        self.pause_with(done, full, full && !self.notified_since_wait)
    }

    /// The wakeups to issue when the writer drops the lock after it has posted the rest of the
    /// write, with `done` bytes written. `announces` says that slots are free, so that bytes of the
    /// posted write are announced.
    pub(crate) fn pause_to_post(&mut self, done: usize, announces: bool) -> Wakes {
        self.pause_with(done, true, announces || !self.notified_since_wait)
    }

    /// The wakeups to issue when the writer drops the lock. `new_data` says that readers have to be
    /// notified even if no more bytes were written.
    fn pause_with(&mut self, done: usize, full: bool, new_data: bool) -> Wakes {
        let new_data = new_data || done > self.notified;
        if new_data {
            self.notified = done;
            self.notified_since_wait = true;
        }
        Wakes {
            reader: new_data && self.was_empty,
            sigio_readers: new_data,
            writer: !full && mem::take(&mut self.wake_next),
            sigio_writers: mem::take(&mut self.withdrew) && !full,
            owner: false,
        }
    }

    /// The wakeups to issue when the writer drops the lock to allocate pages, with `done` bytes
    /// written.
    ///
    /// The next writer is not woken. Its bytes would come between those of a write that has free
    /// slots.
    pub(crate) fn pause_for_pages(&mut self, done: usize) -> Wakes {
        let next = mem::take(&mut self.wake_next);
        let withdrew = mem::take(&mut self.withdrew);
        let wakes = self.pause(done, false);
        self.wake_next = next;
        self.withdrew = withdrew;
        wakes
    }

    /// Counts `bytes` bytes as pushed. The owner of the posted read is woken by name. The bytes
    /// were never in the pipe, so other readers are not notified of them.
    pub(crate) fn pushed(&mut self, bytes: usize) {
        self.notified += bytes;
    }

    /// Records the end of a wait for a free slot, or of a wait with the write posted. Whatever
    /// ended it, other writers may wait for the same event.
    pub(crate) fn waited(&mut self) {
        self.wake_next = true;
        self.notified_since_wait = false;
    }

    /// Records that the writer has withdrawn its posted write, and has now written `done` bytes.
    /// The readers pulled these bytes and need not be notified of them. `blocked_others` says that
    /// the posted write was pullable, so that other writers found no free slot.
    pub(crate) fn withdrew(&mut self, done: usize, blocked_others: bool) {
        self.notified = done;
        self.withdrew = blocked_others;
    }

    /// The wakeups to issue when a writer that has written nothing gives up its seat, so that the
    /// reserved slot is free again.
    ///
    /// Other writers may have waited for the slot. If the posted write keeps the pipe `full`, the
    /// wakeups are those of a larger capacity. The owner checks whether it may still wait. It would
    /// have filled the slot, so there is new data.
    pub(crate) fn release_seat(self, full: bool, posted: PostedState) -> Wakes {
        Wakes {
            reader: false,
            sigio_readers: posted.pullable,
            writer: !full,
            sigio_writers: !full,
            owner: posted.must_withdraw,
        }
    }

    /// The wakeups to issue when a task has filled reserved slots with `done` bytes, and its call
    /// ends. If it `released` others, these are free again, as after [`Self::release_seat`].
    pub(crate) fn end_reserved(
        self,
        done: usize,
        released: bool,
        full: bool,
        polled: bool,
        posted: PostedState,
    ) -> Wakes {
        let ended = self.end(done, full, polled);
        if !released {
            return ended;
        }
        Wakes {
            reader: ended.reader,
            sigio_readers: ended.sigio_readers,
            ..self.release_seat(full, posted)
        }
    }

    /// Records that the writer has taken the lock again; `empty` says that the pipe is empty.
    pub(crate) fn resume(&mut self, empty: bool) {
        self.was_empty = empty;
    }

    /// The wakeups to issue when the writer drops the lock and its call ends, with `done` bytes
    /// written.
    ///
    /// If `polled`, every write wakes the tasks that poll for data, because edge-triggered epoll
    /// relies on that. As in fs/pipe.c, a write that failed wakes a reader, too. That reader finds
    /// no data and goes to the end of the queue.
    pub(crate) fn end(self, done: usize, full: bool, polled: bool) -> Wakes {
        Wakes {
            reader: (self.was_empty && (done > self.notified || done == 0)) || polled,
            sigio_readers: true,
            writer: self.wake_next && !full,
            sigio_writers: self.withdrew && !full,
            owner: false,
        }
    }
}

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

/// The wait queues on which all tasks have to be woken after the lock was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WakesAll {
    /// Readers, and tasks whose open waits for a partner.
    pub(crate) readers: bool,
    /// Writers.
    pub(crate) writers: bool,
    /// The owner of the posted write.
    pub(crate) owner: bool,
    /// Send SIGIO to the readers and writers that asked for it.
    pub(crate) sigio: bool,
}

impl WakesAll {
    /// Wakeups after a file was opened with `access`, with `before` files open before. Tasks whose
    /// open waits for a partner are woken by the first reader or the first writer.
    pub(crate) fn opened(before: Ends, access: Access) -> Self {
        Self {
            readers: (access.read && before.readers == 0) || (access.write && before.writers == 0),
            ..Self::default()
        }
    }

    /// Wakeups after a file was closed, with `after` files left open. If one side has lost its last
    /// file, the tasks of the other side must not wait for it.
    pub(crate) fn closed(after: Ends) -> Self {
        let alone = (after.readers == 0) != (after.writers == 0);
        Self {
            readers: alone,
            writers: alone,
            owner: alone,
            sigio: alone,
        }
    }

    /// Wakeups after the pipe became buffer-only, if `on`. Writers that wait to gift a page copy it
    /// now.
    pub(crate) fn buffer_only(on: bool) -> Self {
        Self {
            writers: on,
            ..Self::default()
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_wakeup))]
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
    fn a_write_wakes_a_reader_of_an_empty_pipe_only() {
        assert!(WriterPolicy::new(true).end(1, false, false).reader);
        assert!(!WriterPolicy::new(false).end(1, false, false).reader);
        assert!(WriterPolicy::new(false).end(1, false, true).reader);
        assert!(WriterPolicy::new(true).end(0, false, false).reader);
    }

    #[test]
    fn pulled_bytes_notify_no_reader() {
        let mut policy = WriterPolicy::new(true);
        policy.withdrew(9, true);
        assert!(!policy.end(9, false, false).reader);
        assert!(policy.end(9, false, true).reader);
        assert!(policy.end(10, false, false).reader);
        assert!(!policy.pause(9, false).reader);
    }

    #[test]
    fn pushed_bytes_notify_no_other_reader() {
        let mut policy = WriterPolicy::new(true);
        policy.pushed(5);
        assert!(!policy.pause(5, false).reader);
        assert!(!policy.end(5, false, false).reader);
        assert!(policy.end(6, false, false).reader);
    }

    #[test]
    fn a_withdrawal_notifies_writers_of_free_slots() {
        let mut policy = WriterPolicy::new(false);
        policy.withdrew(1, true);
        assert!(policy.end(1, false, false).sigio_writers);
        assert!(!policy.end(1, true, false).sigio_writers);
        assert!(!policy.pause_for_pages(1).sigio_writers);
        assert!(policy.pause(1, false).sigio_writers);
        assert!(!policy.pause(2, false).sigio_writers);
        policy.withdrew(2, true);
        // A reader that later frees a slot of the full pipe notifies the writers.
        assert!(!policy.pause(2, true).sigio_writers);
        assert!(!policy.end(2, false, false).sigio_writers);
        // Readers had pulled all that they could, and notified the writers of the free slots
        // themselves.
        policy.withdrew(3, false);
        assert!(!policy.end(3, false, false).sigio_writers);
    }

    #[test]
    fn a_woken_writer_wakes_the_next_if_slots_are_free() {
        let mut policy = WriterPolicy::new(true);
        assert!(!policy.end(1, false, false).writer);
        policy.waited();
        assert!(policy.end(1, false, false).writer);
        assert!(!policy.end(1, true, false).writer);
    }

    #[test]
    fn another_post_behind_full_slots_notifies_nobody() {
        let mut policy = WriterPolicy::new(true);
        assert!(policy.pause_to_post(1, false).sigio_readers);
        assert_eq!(policy.pause_to_post(1, false), Wakes::default());
        let wakes = policy.pause_to_post(1, true);
        assert!(wakes.sigio_readers && wakes.reader);
        assert!(policy.pause_to_post(2, false).sigio_readers);
        policy.waited();
        let wakes = policy.pause_to_post(2, false);
        assert!(wakes.sigio_readers && !wakes.writer);
    }

    #[test]
    fn a_pause_notifies_of_new_data_once() {
        let mut policy = WriterPolicy::new(true);
        assert!(!policy.pause(0, false).sigio_readers);
        assert!(policy.pause(1, false).reader);
        assert!(!policy.pause(1, false).sigio_readers);
        // As in fs/pipe.c, a wait notifies readers once. The next wait does so again.
        assert!(!policy.pause(1, true).sigio_readers);
        policy.waited();
        assert!(policy.pause(1, true).sigio_readers);
        policy.resume(false);
        let wakes = policy.pause(2, false);
        assert!(wakes.sigio_readers && !wakes.reader);
    }

    #[test]
    fn a_wakeup_is_kept_while_pages_are_allocated() {
        let mut policy = WriterPolicy::new(true);
        policy.waited();
        let wakes = policy.pause_for_pages(1);
        assert!(wakes.reader && wakes.sigio_readers && !wakes.writer);
        assert!(!policy.pause_for_pages(1).sigio_readers);
        assert!(policy.end(1, false, false).writer);
    }

    #[test]
    fn a_wakeup_is_passed_on_once_before_a_fault() {
        let mut policy = WriterPolicy::new(false);
        policy.waited();
        assert!(!policy.pause(0, true).writer);
        assert!(policy.pause(0, false).writer);
        assert!(!policy.end(1, false, false).writer);
    }

    #[test]
    fn a_released_seat_wakes_other_writers() {
        let policy = WriterPolicy::new(false);
        let none = PostedState::default();
        let wakes = policy.release_seat(false, none);
        assert!(
            wakes.writer
                && wakes.sigio_writers
                && !wakes.owner
                && !wakes.sigio_readers
                && !wakes.reader
        );
        assert_eq!(policy.release_seat(true, none), Wakes::default());
        let posted = PostedState {
            pullable: true,
            must_withdraw: true,
        };
        let wakes = policy.release_seat(true, posted);
        assert!(wakes.owner && wakes.sigio_readers && !wakes.writer && !wakes.sigio_writers);
    }

    #[test]
    fn reserved_slots_that_are_not_filled_wake_other_writers() {
        let none = PostedState::default();
        let empty = WriterPolicy::new(true);
        let filled = Wakes {
            reader: true,
            sigio_readers: true,
            ..Wakes::default()
        };
        assert_eq!(empty.end_reserved(1, false, false, false, none), filled);
        let both = Wakes {
            writer: true,
            sigio_writers: true,
            ..filled
        };
        assert_eq!(empty.end_reserved(1, true, false, false, none), both);
        assert_eq!(empty.end_reserved(1, true, true, false, none), filled);
        let policy = WriterPolicy::new(false);
        assert!(!policy.end_reserved(1, true, false, false, none).reader);
        assert!(policy.end_reserved(1, true, false, true, none).reader);
        // The posted write fits into the slots that are free again.
        let posted = PostedState {
            pullable: true,
            must_withdraw: true,
        };
        let wakes = policy.end_reserved(1, true, true, false, posted);
        assert!(wakes.owner && wakes.sigio_readers && !wakes.writer && !wakes.sigio_writers);
    }

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
    fn the_first_open_of_a_side_wakes_openers() {
        let both = Access {
            read: true,
            write: true,
        };
        let reads = Access {
            write: false,
            ..both
        };
        let writes = Access {
            read: false,
            ..both
        };
        let none = Ends::default();
        let reader = Ends { readers: 1, ..none };
        let writer = Ends { writers: 1, ..none };
        let wakes = WakesAll {
            readers: true,
            ..WakesAll::default()
        };

        for (before, access) in [
            (none, reads),
            (none, writes),
            (none, both),
            (reader, writes),
            (reader, both),
            (writer, reads),
            (writer, both),
        ] {
            assert_eq!(WakesAll::opened(before, access), wakes);
        }
        assert_eq!(WakesAll::opened(reader, reads), WakesAll::default());
        assert_eq!(WakesAll::opened(writer, writes), WakesAll::default());
    }

    #[test]
    fn a_side_that_is_left_alone_is_woken() {
        let ends = |readers, writers| Ends { readers, writers };
        let everybody = WakesAll {
            readers: true,
            writers: true,
            owner: true,
            sigio: true,
        };

        assert_eq!(WakesAll::closed(ends(0, 2)), everybody);
        assert_eq!(WakesAll::closed(ends(2, 0)), everybody);
        assert_eq!(WakesAll::closed(ends(1, 1)), WakesAll::default());
        assert_eq!(WakesAll::closed(ends(0, 0)), WakesAll::default());
    }

    #[test]
    fn a_pipe_that_becomes_buffer_only_wakes_writers() {
        assert!(WakesAll::buffer_only(true).writers && !WakesAll::buffer_only(true).readers);
        assert_eq!(WakesAll::buffer_only(false), WakesAll::default());
    }

    #[test]
    fn changes_of_a_pipe_wake_those_that_they_concern() {
        let wakes = Wakes::resized(true);
        assert!(
            wakes.owner
                && wakes.writer
                && wakes.sigio_readers
                && !wakes.reader
                && !wakes.sigio_writers
        );
        assert!(!Wakes::resized(false).sigio_readers);
        let wakes = Wakes::closed(true);
        assert!(
            wakes.owner
                && wakes.writer
                && wakes.sigio_writers
                && !wakes.reader
                && !wakes.sigio_readers
        );
        assert_eq!(Wakes::closed(false), Wakes::default());
        let wakes = Wakes::returned(true);
        assert!(
            wakes.reader
                && wakes.sigio_readers
                && !wakes.owner
                && !wakes.writer
                && !wakes.sigio_writers
        );
        assert_eq!(Wakes::returned(false), Wakes::default());
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
