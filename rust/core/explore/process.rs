// SPDX-License-Identifier: GPL-2.0-only

//! The processes of the model.

use super::{
    super::{
        posted_bytes::Standing,
        posted_space::Ticket,
        wakeup::{ReaderPolicy, Wakes, WriterPolicy},
    },
    world::Unit,
};

/// The position of a process in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// About to begin a command that transfers to another file.
    Begin,
    /// About to take the lock.
    Lock,
    /// About to join its wait queue.
    Enqueue,
    /// On the wait queue, about to check whether it has to sleep.
    Check,
    /// Asleep.
    Asleep,
    /// In a page fault, without the lock.
    Fault,
    /// With a seat, without the lock.
    Seated,
    /// With a claim, without the lock.
    Claiming,
    /// With slots in view, without the lock.
    Peeking,
    /// With slots held and offered to another file, without the lock.
    Offering,
    /// With slots reserved that another file fills, without the lock.
    Filling,
    /// About to end a command that transfers to another file.
    End,
    /// About to close its end.
    Close,
    /// Finished.
    Finished,
}

/// The wait queue that a process uses next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Queue {
    Readers,
    Writers,
    Owner,
    /// Readers that wait for the end of another reader's claim.
    Claim,
}

/// How a process waits for data or for free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wait {
    /// A wakeup reaches one such process. It may post.
    Exclusive,
    /// A wakeup reaches all such processes: they transfer from or to a real pipe.
    Shared,
    /// It does not wait: its file is O_NONBLOCK.
    Never,
}

/// The current call of a process. Counts are in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Write {
        policy: Option<WriterPolicy>,
        done: usize,
        left: usize,
        /// The number of units posted, while the write is posted.
        posted_units: Option<usize>,
        standing: Standing,
        /// The writer waits for a free slot, and `waiting_writers` counts it.
        waits: bool,
        /// Another writer that had waited has written something since this write withdrew its post.
        others: bool,
    },
    Read {
        policy: ReaderPolicy,
        done: usize,
        want: usize,
        /// This read is the posted one.
        posts: bool,
        /// The ticket of the reader while it waits for data.
        waits: Option<Ticket>,
        /// A signal ended the wait for data, or a fatal one the wait for a claim.
        interrupted: bool,
    },
    /// A command that transfers to another file, as `splice::to_file()`.
    SpliceTo {
        policy: ReaderPolicy,
        done: usize,
        want: usize,
        /// The ticket of the process while it waits for data.
        waits: Option<Ticket>,
        /// As of a read.
        interrupted: bool,
        /// There was no more data, and no writer.
        ended: bool,
    },
    /// A command that transfers from another file, as `splice::from_file()`.
    SpliceFrom {
        want: usize,
        /// The number of slots that are reserved.
        reserved: usize,
        /// A signal ended the wait for a free slot.
        interrupted: bool,
    },
}

impl Job {
    /// True if the call takes data out of the pipe.
    pub(super) fn reads(&self) -> bool {
        matches!(self, Job::Read { .. } | Job::SpliceTo { .. })
    }

    /// True if the call has not looked at the pipe since it began to wait for data.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(
            self,
            Job::Read { waits: Some(_), .. } | Job::SpliceTo { waits: Some(_), .. }
        )
    }

    /// The next call of the same kind, for `size` units.
    pub(super) fn next(&self, size: usize) -> Job {
        match self {
            Job::Read { .. } => Job::Read {
                policy: ReaderPolicy::default(),
                done: 0,
                want: size,
                posts: false,
                waits: None,
                interrupted: false,
            },
            Job::Write { .. } => Job::Write {
                policy: None,
                done: 0,
                left: size,
                posted_units: None,
                standing: Standing::New,
                waits: false,
                others: false,
            },
            Job::SpliceTo { .. } => Job::SpliceTo {
                policy: ReaderPolicy::default(),
                done: 0,
                want: size,
                waits: None,
                interrupted: false,
                ended: false,
            },
            Job::SpliceFrom { .. } => Job::SpliceFrom {
                want: size,
                reserved: 0,
                interrupted: false,
            },
        }
    }
}

/// A process, which makes calls on one end of the pipe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) at: At,
    pub(super) job: Job,
    pub(super) wait: Wait,
    pub(super) queue: Queue,
    /// The wakeups that the process has to issue.
    pub(super) wakes: Wakes,
    /// The process has ended its claim and has to wake the readers that wait for that.
    pub(super) wakes_claim_queue: bool,
    /// A signal is pending.
    pub(super) signal: bool,
    /// The signal is fatal: the process makes no further call.
    pub(super) killed: bool,
    /// The sizes of the next calls. A reader without further sizes goes on reading until the end.
    pub(super) calls: &'static [usize],
    /// The reader closes after its calls, even if there is more to read.
    pub(super) leaves_early: bool,
    /// Of a writer: units written, as returned by its calls.
    pub(super) written: usize,
    /// Of a writer: the number of its units that were read.
    pub(super) next_read: usize,
    /// Of a reader: the slots that it holds, in view or for another file.
    pub(super) held: Vec<Vec<Unit>>,
}
