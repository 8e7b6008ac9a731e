// SPDX-License-Identifier: GPL-2.0-only

//! What can be told of a pipe from its counts: who may go on, and what poll says.
//!
//! It follows `pipe_readable()`, `pipe_writable()` and `pipe_poll()`.

/// What a file may do with its pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The file reads.
    pub(crate) read: bool,
    /// The file writes.
    pub(crate) write: bool,
}

/// Slots and pages of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Room {
    /// Slots that hold data. Less than 2^24.
    pub(crate) used: u32,
    /// Slots that may be used. Less than 2^24.
    pub(crate) limit: u32,
    /// Pages at hand for writers. Less than 2^8.
    pub(crate) spare: u32,
    /// What a blocked writer offers, behind the slots.
    pub(crate) offer: Offered,
    /// A reader that waits has been given something.
    pub(crate) pushed: bool,
    /// A reader that waits can be given something.
    pub(crate) demanded: bool,
}

/// What can be told of an [`Offer`](super::offer::Offer) from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Offered {
    /// Readers can take something of one, so there is no room for other writers.
    pub(crate) takeable: bool,
    /// Its owner has to come back.
    pub(crate) due: bool,
}

impl Room {
    /// In one word.
    pub(crate) fn pack(self) -> u64 {
        let bit = |on, shift| u64::from(on) << shift;

        let counts =
            u64::from(self.used) | u64::from(self.limit) << 24 | u64::from(self.spare) << 48;
        if self.offer == Offered::default() && !self.demanded && !self.pushed {
            // As most of the time.
            return counts;
        }
        counts
            | bit(self.offer.takeable, 56)
            | bit(self.offer.due, 57)
            | bit(self.pushed, 58)
            | bit(self.demanded, 59)
    }

    /// Out of one word.
    pub(crate) fn unpack(word: u64) -> Self {
        const SLOTS: u64 = (1 << 24) - 1;
        let bit = |shift: u32| word >> shift & 1 != 0;

        // CAST: Of 24, 24 and 8 bits.
        Self {
            used: (word & SLOTS) as u32,
            limit: (word >> 24 & SLOTS) as u32,
            spare: (word >> 48 & 0xff) as u32,
            offer: Offered {
                takeable: bit(56),
                due: bit(57),
            },
            pushed: bit(58),
            demanded: bit(59),
        }
    }

    /// How many of the `pages` pages that a write takes must be allocated to fill what is free.
    pub(crate) fn missing(self, pages: usize) -> usize {
        // CAST: A u32 fits.
        let free = self.limit.saturating_sub(self.used) as usize;

        pages.min(free).saturating_sub(self.spare as usize)
    }

    /// Whether there is nothing to read.
    pub(crate) fn empty(self) -> bool {
        self.used == 0 && !self.offer.takeable
    }

    /// Whether there is no room to write.
    pub(crate) fn full(self) -> bool {
        self.used >= self.limit || self.offer.takeable
    }
}

/// One number for each side of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sides {
    /// Of those that read.
    pub(crate) readers: u32,
    /// Of those that write.
    pub(crate) writers: u32,
}

/// Files that are open, those included that still wait in open.
pub(crate) type Ends = Sides;

/// How often the pipe was opened. Wraps.
pub(crate) type Opens = Sides;

impl Sides {
    /// In one word.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.readers) | u64::from(self.writers) << 32
    }

    /// Out of one word.
    pub(crate) fn unpack(word: u64) -> Self {
        // CAST: Of 32 bits each.
        Self {
            readers: word as u32,
            writers: (word >> 32) as u32,
        }
    }
}

/// The counts of a pipe at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Slots and pages.
    pub(crate) room: Room,
    /// Files that are open.
    pub(crate) ends: Ends,
    /// How often it was opened.
    pub(crate) opens: Opens,
}

/// What poll says of a file, in words; the caller knows the bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There is something to read.
    pub(crate) input: bool,
    /// There is room to write.
    pub(crate) output: bool,
    /// Nobody writes, and somebody did since this file was opened.
    pub(crate) hang_up: bool,
    /// Nobody reads.
    pub(crate) error: bool,
}

impl State {
    /// Whether a read would not wait: there is data, or nobody will ever write any.
    pub(crate) fn readable(&self) -> bool {
        !self.room.empty() || self.ends.writers == 0
    }

    /// Whether a write would not wait: there is a free slot, or nobody reads.
    pub(crate) fn writable(&self) -> bool {
        !self.room.full() || self.ends.readers == 0
    }

    /// Whether the owner of an offer would not wait: it is due, or nobody reads.
    pub(crate) fn offer_over(&self) -> bool {
        self.room.offer.due || self.ends.readers == 0
    }

    /// What poll says of a file with `access`.
    ///
    /// `unseen` is the number of writers' opens when the file was opened if there was no writer
    /// then: as long as it has not changed, hanging up is not reported.
    pub(crate) fn ready(&self, access: Access, unseen: Option<u32>) -> Ready {
        Ready {
            input: access.read && !self.room.empty(),
            output: access.write && !self.room.full(),
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
            room: Room {
                used,
                limit: 16,
                ..Room::default()
            },
            ends: Sides { readers, writers },
            opens: Sides {
                readers: 1,
                writers: 1,
            },
        }
    }

    #[test]
    fn words_keep_their_numbers() {
        let room = Room {
            used: (1 << 24) - 1,
            limit: 1 << 19,
            spare: 0xfe,
            ..Room::default()
        };
        assert_eq!(Room::unpack(room.pack()), room);
        for bits in 0..16 {
            let offer = Offered {
                takeable: bits & 1 != 0,
                due: bits & 2 != 0,
            };
            let pushed = bits & 4 != 0;
            let room = Room {
                offer,
                pushed,
                demanded: bits & 8 != 0,
                ..room
            };
            assert_eq!(Room::unpack(room.pack()), room);
        }

        let sides = Sides {
            readers: u32::MAX,
            writers: 0x1234_5678,
        };
        assert_eq!(Sides::unpack(sides.pack()), sides);
    }

    #[test]
    fn only_pages_that_can_be_used_are_missing() {
        let room = |used, spare| Room {
            used,
            limit: 16,
            spare,
            ..Room::default()
        };
        assert_eq!(room(0, 0).missing(3), 3);
        assert_eq!(room(0, 0).missing(99), 16);
        assert_eq!(room(10, 4).missing(99), 2);
        assert_eq!(room(16, 0).missing(99), 0);
        assert_eq!(room(0, 16).missing(1), 0);
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

    fn offering(used: u32, offer: Offered) -> State {
        let mut state = pipe(used, 1, 1);
        state.room.offer = offer;
        state
    }

    #[test]
    fn an_offer_is_a_full_pipe() {
        let offer = Offered {
            takeable: true,
            due: false,
        };
        let offered = offering(0, offer);
        assert!(offered.readable() && !offered.writable() && !offered.offer_over());
        assert!(offered.ready(READER, None).input);
        assert!(!offered.ready(WRITER, None).output);
    }

    #[test]
    fn an_offer_that_nobody_can_take_is_no_data() {
        let missed = Offered {
            takeable: false,
            due: true,
        };
        let offered = offering(0, missed);
        assert!(!offered.readable() && offered.offer_over());
        assert!(offering(1, missed).readable());
        // Nor is it in the way of other writers.
        assert!(offered.writable() && offered.ready(WRITER, None).output);
        assert!(!offering(16, missed).writable());
    }

    #[test]
    fn an_offer_is_over_without_readers() {
        let mut offered = offering(
            0,
            Offered {
                takeable: true,
                due: false,
            },
        );
        offered.ends.readers = 0;
        assert!(offered.offer_over());
    }

    #[test]
    fn a_slot_less_is_not_full() {
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
    fn hanging_up_waits_for_the_first_writer() {
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
    fn an_end_sees_its_own_side_only() {
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
