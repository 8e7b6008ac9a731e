// SPDX-License-Identifier: GPL-2.0-only

//! The state of a pipe, as counts: which tasks can go on, and what poll reports.
//!
//! The rules are those of `pipe_readable()`, `pipe_writable()` and `pipe_poll()`.

/// The directions in which a file uses its pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The file is open for reading.
    pub(crate) read: bool,
    /// The file is open for writing.
    pub(crate) write: bool,
}

/// The occupancy of a pipe: its slots, its spare pages and what is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Occupancy {
    /// Used slots. Less than 2^24.
    pub(crate) used: u32,
    /// Slots that may be used: those that are neither reserved nor held. Less than 2^24.
    pub(crate) limit: u32,
    /// Spare pages, which the next write need not allocate. Less than 2^8.
    pub(crate) spare: u32,
    /// The posted write.
    pub(crate) posted: PostedState,
    /// A read is posted, and a writer has pushed to it.
    pub(crate) pushed: bool,
    /// A read is posted, and a writer may push to it.
    pub(crate) pushable: bool,
}

/// The state of a posted write ([`PostedBytes`](super::posted_bytes::PostedBytes)) for other tasks.
/// All fields are false if no write is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PostedState {
    /// Readers can pull something, so the pipe counts as full.
    pub(crate) pullable: bool,
    /// The owner must withdraw the posted write.
    pub(crate) must_withdraw: bool,
}

impl Occupancy {
    /// Packs the occupancy into one word.
    pub(crate) fn pack(self) -> u64 {
        let bit = |on, shift| u64::from(on) << shift;

        let counts =
            u64::from(self.used) | u64::from(self.limit) << 24 | u64::from(self.spare) << 48;
        if self.posted == PostedState::default() && !self.pushable && !self.pushed {
            // Usually nothing is posted.
            return counts;
        }
        counts
            | bit(self.posted.pullable, 56)
            | bit(self.posted.must_withdraw, 57)
            | bit(self.pushed, 58)
            | bit(self.pushable, 59)
    }

    /// Unpacks a word of [`Self::pack`].
    pub(crate) fn unpack(word: u64) -> Self {
        const SLOTS: u64 = (1 << 24) - 1;
        let bit = |shift: u32| word >> shift & 1 != 0;

        // CAST: The values have 24, 24 and 8 bits.
        Self {
            used: (word & SLOTS) as u32,
            limit: (word >> 24 & SLOTS) as u32,
            spare: (word >> 48 & 0xff) as u32,
            posted: PostedState {
                pullable: bit(56),
                must_withdraw: bit(57),
            },
            pushed: bit(58),
            pushable: bit(59),
        }
    }

    /// The number of pages that must be allocated so that a write of `pages` pages can fill the
    /// free slots.
    pub(crate) fn missing(self, pages: usize) -> usize {
        // CAST: A u32 fits into a usize.
        let free = self.limit.saturating_sub(self.used) as usize;

        pages.min(free).saturating_sub(self.spare as usize)
    }

    /// True if a read finds no data.
    pub(crate) fn empty(self) -> bool {
        self.used == 0 && !self.posted.pullable
    }

    /// True if a write finds no free slot.
    pub(crate) fn full(self) -> bool {
        self.used >= self.limit || self.posted.pullable
    }
}

/// A number for each side of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sides {
    /// The number for the readers.
    pub(crate) readers: u32,
    /// The number for the writers.
    pub(crate) writers: u32,
}

/// The number of open files, including those whose open still waits for a partner. A file that
/// reads and writes counts on both sides.
pub(crate) type Ends = Sides;

/// The number of opens so far. It wraps.
pub(crate) type Opens = Sides;

impl Sides {
    /// Packs both numbers into one word.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.readers) | u64::from(self.writers) << 32
    }

    /// Unpacks a word of [`Self::pack`].
    pub(crate) fn unpack(word: u64) -> Self {
        // CAST: Each number has 32 bits.
        Self {
            readers: word as u32,
            writers: (word >> 32) as u32,
        }
    }
}

/// The state of a pipe. In a snapshot the fields may be of different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Slots, spare pages and what is posted.
    pub(crate) occupancy: Occupancy,
    /// Open files.
    pub(crate) ends: Ends,
    /// Opens so far.
    pub(crate) opens: Opens,
}

/// The conditions that poll reports for a file. The caller translates them into poll's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There is data to read.
    pub(crate) input: bool,
    /// There is a free slot to write to.
    pub(crate) output: bool,
    /// No file is open for writing, and one was since this file was opened.
    pub(crate) hang_up: bool,
    /// No file is open for reading.
    pub(crate) error: bool,
}

impl State {
    /// True if a read need not wait: there is data, or no file is open for writing.
    pub(crate) fn readable(&self) -> bool {
        !self.occupancy.empty() || self.ends.writers == 0
    }

    /// True if a write need not wait: there is a free slot, or no file is open for reading.
    pub(crate) fn writable(&self) -> bool {
        !self.occupancy.full() || self.ends.readers == 0
    }

    /// True if the owner of a posted write need not wait any longer: it must withdraw the posted
    /// write, or no file is open for reading.
    pub(crate) fn owner_ready(&self) -> bool {
        self.occupancy.posted.must_withdraw || self.ends.readers == 0
    }

    /// The conditions that poll reports for a file with `access`.
    ///
    /// `unseen` is the number of opens for writing when the file was opened, if there was no writer
    /// then. A hang-up is not reported until that number has changed.
    pub(crate) fn ready(&self, access: Access, unseen: Option<u32>) -> Ready {
        Ready {
            input: access.read && !self.occupancy.empty(),
            output: access.write && !self.occupancy.full(),
            hang_up: access.read && self.ends.writers == 0 && unseen != Some(self.opens.writers),
            error: access.write && self.ends.readers == 0,
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_state))]
mod tests {
    use super::*;

    const READER: Access = Access {
        read: true,
        write: false,
    };
    const WRITER: Access = Access {
        read: false,
        write: true,
    };

    fn pipe(used: u32, readers: u32, writers: u32) -> State {
        State {
            occupancy: Occupancy {
                used,
                limit: 16,
                ..Occupancy::default()
            },
            ends: Sides { readers, writers },
            opens: Sides {
                readers: 1,
                writers: 1,
            },
        }
    }

    #[test]
    fn pack_and_unpack_are_inverse() {
        let occupancy = Occupancy {
            used: (1 << 24) - 1,
            limit: 1 << 19,
            spare: 0xfe,
            ..Occupancy::default()
        };
        assert_eq!(Occupancy::unpack(occupancy.pack()), occupancy);
        for bits in 0..16 {
            let posted = PostedState {
                pullable: bits & 1 != 0,
                must_withdraw: bits & 2 != 0,
            };
            let pushed = bits & 4 != 0;
            let occupancy = Occupancy {
                posted,
                pushed,
                pushable: bits & 8 != 0,
                ..occupancy
            };
            assert_eq!(Occupancy::unpack(occupancy.pack()), occupancy);
        }

        let sides = Sides {
            readers: u32::MAX,
            writers: 0x1234_5678,
        };
        assert_eq!(Sides::unpack(sides.pack()), sides);
    }

    #[test]
    fn missing_pages_fit_into_free_slots() {
        let occupancy = |used, spare| Occupancy {
            used,
            limit: 16,
            spare,
            ..Occupancy::default()
        };
        assert_eq!(occupancy(0, 0).missing(3), 3);
        assert_eq!(occupancy(0, 0).missing(99), 16);
        assert_eq!(occupancy(10, 4).missing(99), 2);
        assert_eq!(occupancy(16, 0).missing(99), 0);
        assert_eq!(occupancy(0, 16).missing(1), 0);
    }

    #[test]
    fn an_idle_pipe_is_writable_only() {
        let idle = pipe(0, 1, 1);
        assert!(!idle.readable());
        assert!(idle.writable());
        assert_eq!(idle.ready(READER, None), Ready::default());

        let output = Ready {
            output: true,
            ..Ready::default()
        };
        assert_eq!(idle.ready(WRITER, None), output);
    }

    #[test]
    fn a_full_pipe_is_readable_only() {
        let full = pipe(16, 1, 1);
        assert!(full.readable());
        assert!(!full.writable());
        assert!(full.ready(READER, None).input);
        assert!(!full.ready(WRITER, None).output);
    }

    fn with_posted(used: u32, posted: PostedState) -> State {
        let mut state = pipe(used, 1, 1);
        state.occupancy.posted = posted;
        state
    }

    #[test]
    fn a_pullable_post_makes_the_pipe_full() {
        let posted = PostedState {
            pullable: true,
            must_withdraw: false,
        };
        let posted_state = with_posted(0, posted);
        assert!(posted_state.readable() && !posted_state.writable() && !posted_state.owner_ready());
        assert!(posted_state.ready(READER, None).input);
        assert!(!posted_state.ready(WRITER, None).output);
    }

    #[test]
    fn a_closed_post_is_no_data() {
        let closed = PostedState {
            pullable: false,
            must_withdraw: true,
        };
        let posted_state = with_posted(0, closed);
        assert!(!posted_state.readable() && posted_state.owner_ready());
        assert!(with_posted(1, closed).readable());
        // Other writers find free slots.
        assert!(posted_state.writable() && posted_state.ready(WRITER, None).output);
        assert!(!with_posted(16, closed).writable());
    }

    #[test]
    fn an_owner_without_readers_is_ready() {
        let mut posted_state = with_posted(
            0,
            PostedState {
                pullable: true,
                must_withdraw: false,
            },
        );
        posted_state.ends.readers = 0;
        assert!(posted_state.owner_ready());
    }

    #[test]
    fn a_pipe_with_one_free_slot_is_writable() {
        let nearly = pipe(15, 1, 1);
        assert!(nearly.writable());
        assert!(nearly.ready(WRITER, None).output);
    }

    #[test]
    fn without_writers_a_read_ends_and_poll_hangs_up() {
        let ended = pipe(0, 1, 0);
        let hang_up = Ready {
            hang_up: true,
            ..Ready::default()
        };
        assert!(ended.readable());
        assert_eq!(ended.ready(READER, None), hang_up);
    }

    #[test]
    fn hang_up_needs_a_writer_since_the_open() {
        let opened = pipe(0, 1, 0);
        let unseen = Some(opened.opens.writers);
        assert!(!opened.ready(READER, unseen).hang_up);

        let mut come_and_gone = opened;
        come_and_gone.opens.writers += 1;
        assert!(come_and_gone.ready(READER, unseen).hang_up);
    }

    #[test]
    fn without_readers_a_write_fails_and_poll_errs() {
        let broken = pipe(16, 0, 1);
        let error = Ready {
            error: true,
            ..Ready::default()
        };
        assert!(broken.writable());
        assert_eq!(broken.ready(WRITER, None), error);
    }

    #[test]
    fn poll_reports_only_the_directions_of_the_file() {
        let both = Access {
            read: true,
            write: true,
        };
        let used = pipe(1, 1, 1);
        assert!(!used.ready(WRITER, None).input);
        assert!(!used.ready(READER, None).output);
        assert!(used.ready(both, None).input && used.ready(both, None).output);
    }
}
