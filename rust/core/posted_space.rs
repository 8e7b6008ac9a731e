// SPDX-License-Identifier: GPL-2.0-only

//! The rules of posted reads: when a writer may push, and which bytes of a push count.
//!
//! A posted read is a blocked read into whose memory a writer may copy. At most one push fills it.
//! A later write may not follow the bytes that the reader has, because other readers may have read
//! bytes in between. One kind of push leaves the posted read open for the next write: a push that
//! delivers nothing because the *writer's* own memory cannot be read.
//!
//! Readers are served in the order in which they began to wait. So a writer pushes only if no other
//! reader waits ahead of the owner of the posted read.
//!
//! Slots are counted as if the bytes had gone through slots. If a push ends early, the writer
//! rewinds its source to the start of a slot that the push did not complete. Each push begins at
//! the start of the reader's memory.

use super::{outcome::Outcome, posted_bytes::partial_slot};

/// The position of a reader among the readers that wait for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(pub(super) u64);

/// The readers that wait for data, in the order in which they began to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct WaitingReaders {
    /// Number of readers that wait.
    pub(super) count: u32,
    /// The ticket of the next reader that begins to wait.
    pub(super) next: u64,
}

impl WaitingReaders {
    /// Adds a reader behind the others. `post` is the posted read of this reader, if it posts.
    pub(crate) fn enter(&mut self, post: Option<&mut PostedSpace>) -> Ticket {
        let ticket = Ticket(self.next);

        if let Some(posted) = post {
            posted.ticket = ticket;
            posted.ahead = self.count;
        }
        self.next += 1;
        self.count += 1;
        ticket
    }

    /// Removes the reader with `ticket`. `posted` is the posted read of another reader, if there is
    /// one.
    pub(crate) fn leave(&mut self, ticket: Ticket, posted: Option<&mut PostedSpace>) {
        self.count -= 1;
        if self.count == 0 {
            self.next = 0;
        }
        if let Some(posted) = posted {
            posted.ahead -= u32::from(ticket.0 < posted.ticket.0);
        }
    }
}

/// The byte counts of a posted read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PostedSpace {
    /// Bytes of the reader's memory that a writer may fill.
    space: usize,
    /// Bytes that a writer has pushed.
    pushed: usize,
    /// No push has delivered bytes or ended with a miss.
    open: bool,
    /// The position of the owner among the waiting readers.
    pub(super) ticket: Ticket,
    /// Readers that began to wait before the owner, and still wait.
    ahead: u32,
}

impl PostedSpace {
    /// A posted read with space for `space` bytes.
    pub(crate) fn new(space: usize) -> Self {
        Self {
            space,
            pushed: 0,
            open: true,
            ticket: Ticket(0),
            ahead: 0,
        }
    }

    /// The maximum number of bytes of a push.
    pub(crate) fn space(&self) -> usize {
        self.space
    }

    /// Bytes that a writer has pushed.
    pub(crate) fn pushed(&self) -> usize {
        self.pushed
    }

    /// True if no push has delivered bytes or ended with a miss. Then the read may be posted, or
    /// posted again.
    pub(crate) fn is_unserved(&self) -> bool {
        self.open
    }

    /// True if a writer may push: the read is unserved, and no other reader waits ahead of its
    /// owner.
    pub(crate) fn is_open(&self) -> bool {
        self.open && self.ahead == 0
    }

    /// Counts a push that copied `copied` bytes, of which the first one is at slot offset `offset`.
    ///
    /// Returns how many bytes the writer has to rewind: those of a slot that the push did not
    /// complete.
    pub(crate) fn settle(&mut self, copied: usize, offset: usize, outcome: Outcome) -> usize {
        let undone = if outcome == Outcome::All {
            0
        } else {
            partial_slot(offset, copied)
        };

        self.pushed = copied - undone;
        self.open = self.pushed == 0 && outcome == Outcome::Stopped;
        undone
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_posted_space))]
mod tests {
    use super::super::{outcome::Miss, PAGE_SIZE};
    use super::*;

    #[test]
    fn a_push_serves_a_posted_read_once() {
        let mut read = PostedSpace::new(9);
        assert!(read.is_open() && read.pushed() == 0 && read.space() == 9);
        assert_eq!(read.settle(5, 0, Outcome::All), 0);
        assert!(!read.is_open() && read.pushed() == 5);
    }

    #[test]
    fn readers_that_wait_ahead_are_served_first() {
        let mut waiting = WaitingReaders::default();
        let mut read = PostedSpace::new(9);
        let first = waiting.enter(None);
        let second = waiting.enter(None);
        let own = waiting.enter(Some(&mut read));
        let behind = waiting.enter(None);
        assert!(!read.is_open() && read.is_unserved() && waiting.count == 4);
        waiting.leave(behind, Some(&mut read));
        waiting.leave(second, Some(&mut read));
        assert!(!read.is_open());
        waiting.leave(first, Some(&mut read));
        assert!(read.is_open());
        waiting.leave(own, None);
        assert_eq!(waiting, WaitingReaders::default());
    }

    #[test]
    fn a_push_rewinds_an_incomplete_slot() {
        let mut read = PostedSpace::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(PAGE_SIZE + 7, 0, Outcome::Stopped), 7);
        assert!(!read.is_open() && read.pushed() == PAGE_SIZE);

        let mut read = PostedSpace::new(9 * PAGE_SIZE);
        assert_eq!(
            read.settle(PAGE_SIZE + 7, PAGE_SIZE - 7, Outcome::Missed(Miss::Page)),
            0
        );
        assert_eq!(read.pushed(), PAGE_SIZE + 7);
    }

    #[test]
    fn a_fault_of_the_writer_leaves_the_read_open() {
        let mut read = PostedSpace::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(7, 0, Outcome::Stopped), 7);
        assert!(read.is_open() && read.pushed() == 0);
    }

    #[test]
    fn a_miss_closes_the_posted_read() {
        for miss in [Miss::Busy, Miss::Mapping, Miss::Page] {
            let mut read = PostedSpace::new(9 * PAGE_SIZE);
            assert_eq!(read.settle(7, 0, Outcome::Missed(miss)), 7);
            assert!(!read.is_open() && read.pushed() == 0);
        }
        let mut read = PostedSpace::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(0, 0, Outcome::Missed(Miss::Page)), 0);
        assert!(!read.is_open());
    }
}
