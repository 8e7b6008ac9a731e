// SPDX-License-Identifier: GPL-2.0-only

//! The wakeup policy of a write.

use super::{super::state::PostedState, Wakes};
use core::mem;

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
    /// ends. If it `released` others of a full pipe, these are free again, as after
    /// [`Self::release_seat`].
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

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_wakeup_writer))]
mod tests {
    use super::*;

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
}
