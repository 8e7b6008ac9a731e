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
//! * A task wakes the owner of a [posted write](super::posted_bytes::PostedBytes), if the owner
//!   must withdraw it because of what the task has done.

mod reader;
mod writer;

pub(crate) use reader::{ReaderPolicy, Remaining};
pub(crate) use writer::WriterPolicy;

use super::state::{Access, Ends};

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
}
