// SPDX-License-Identifier: GPL-2.0-only

//! What a waiting reader posts: room in its memory, which a writer may fill directly.
//!
//! One write serves a posted read, once: bytes of a later write need not follow on those that the
//! reader has, if other readers took something in between. A push that delivers nothing because the
//! *writer's* own memory cannot be read leaves the posted read as it was, for the next write.
//!
//! Readers are served in the order in which they began to wait: a push goes to a posted read only when
//! no other reader waits ahead of it.
//!
//! Slots are counted as if the bytes had passed through them: what a push copied of a slot that it
//! could not complete is taken back. Each push begins at the start of the reader's memory.

use super::offer::part;

/// Why a push came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushEnd {
    /// Everything that was asked for was copied.
    All,
    /// The writer's own memory cannot be read without a fault.
    Writer,
    /// The reader's memory cannot be written without its owner.
    Reader,
}

/// The place of a reader among those that wait for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(pub(super) u64);

/// The readers that wait for data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct WaitingReaders {
    pub(super) count: u32,
    pub(super) next: u64,
}

impl WaitingReaders {
    /// A reader begins to wait, behind the others; `post` is what it posts, if it posts.
    pub(crate) fn enter(&mut self, post: Option<&mut PostedRead>) -> Ticket {
        let ticket = Ticket(self.next);

        if let Some(posted) = post {
            posted.ticket = ticket;
            posted.ahead = self.count;
        }
        self.next += 1;
        self.count += 1;
        ticket
    }

    /// The reader with `ticket` waits no more, while `posted` is what a reader has posted.
    pub(crate) fn leave(&mut self, ticket: Ticket, posted: Option<&mut PostedRead>) {
        self.count -= 1;
        if self.count == 0 {
            self.next = 0;
        }
        if let Some(posted) = posted {
            posted.ahead -= u32::from(ticket.0 < posted.ticket.0);
        }
    }
}

/// A read that waits with its memory at the disposal of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PostedRead {
    /// Bytes that the reader has room for.
    room: usize,
    /// Bytes that a writer has delivered.
    filled: usize,
    /// No writer has served it, nor found its memory missing.
    open: bool,
    /// The place of its reader.
    pub(super) ticket: Ticket,
    /// Readers that began to wait before it, and still do.
    ahead: u32,
}

impl PostedRead {
    /// A read with room for `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            filled: 0,
            open: true,
            ticket: Ticket(0),
            ahead: 0,
        }
    }

    /// Bytes that one push may copy.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Bytes that a writer has delivered.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// True if no writer has served it, nor found its memory missing: it may be posted, also again.
    pub(crate) fn is_unserved(&self) -> bool {
        self.open
    }

    /// True if a writer may push: nobody has served it, and nobody waits ahead of it.
    pub(crate) fn is_open(&self) -> bool {
        self.open && self.ahead == 0
    }

    /// Accounts for a push that copied `copied` bytes, the first of them `offset` bytes into a slot.
    ///
    /// Returns how many of these bytes the writer has to take back: those of a slot that the push
    /// could not complete.
    pub(crate) fn settle(&mut self, copied: usize, offset: usize, end: PushEnd) -> usize {
        let undone = if end == PushEnd::All {
            0
        } else {
            part(offset, copied)
        };

        self.filled = copied - undone;
        self.open = self.filled == 0 && end == PushEnd::Writer;
        undone
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_posted_read))]
mod tests {
    use super::super::PAGE_SIZE;
    use super::*;

    #[test]
    fn a_push_serves_a_posted_read_once() {
        let mut read = PostedRead::new(9);
        assert!(read.is_open() && read.filled() == 0 && read.room() == 9);
        assert_eq!(read.settle(5, 0, PushEnd::All), 0);
        assert!(!read.is_open() && read.filled() == 5);
    }

    #[test]
    fn readers_that_wait_ahead_are_served_first() {
        let mut waiting = WaitingReaders::default();
        let mut read = PostedRead::new(9);
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
    fn what_is_copied_of_an_unfinished_slot_is_taken_back() {
        let mut read = PostedRead::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(PAGE_SIZE + 7, 0, PushEnd::Writer), 7);
        assert!(!read.is_open() && read.filled() == PAGE_SIZE);

        let mut read = PostedRead::new(9 * PAGE_SIZE);
        assert_eq!(
            read.settle(PAGE_SIZE + 7, PAGE_SIZE - 7, PushEnd::Reader),
            0
        );
        assert_eq!(read.filled(), PAGE_SIZE + 7);
    }

    #[test]
    fn a_writer_without_its_own_memory_leaves_the_read_open() {
        let mut read = PostedRead::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(7, 0, PushEnd::Writer), 7);
        assert!(read.is_open() && read.filled() == 0);
    }

    #[test]
    fn a_reader_without_memory_is_asked_once() {
        let mut read = PostedRead::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(7, 0, PushEnd::Reader), 7);
        assert!(!read.is_open() && read.filled() == 0);
        let mut read = PostedRead::new(9 * PAGE_SIZE);
        assert_eq!(read.settle(0, 0, PushEnd::Reader), 0);
        assert!(!read.is_open());
    }
}
