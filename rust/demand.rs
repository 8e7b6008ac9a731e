// SPDX-License-Identifier: GPL-2.0-only

//! The other rendezvous: one copy, straight to a waiting reader's memory.
//!
//! A reader that waits leaves in the pipe where it wants its bytes. A writer that finds the pipe empty
//! may then copy there instead of into slots: as if the reader had been at it while the writer
//! still wrote.

use crate::{
    mm::{Dest, Ended, RemoteDest, Source},
    zcore::posted_read::{PostedRead, PushEnd},
};
use kernel::{prelude::*, sync::aref::ARef, task::Task};

/// A reader that waits, and where it wants what it waits for.
pub(crate) struct Demand {
    memory: RemoteDest,
    rules: PostedRead,
    reader: ARef<Task>,
}

impl Demand {
    /// Posts the current task's read, with the room in `dest`; [`None`] if that is not its own
    /// memory, or if no memory is left to remember where it is. Sleeps.
    #[cold]
    pub(crate) fn new(dest: &mut Dest<'_, '_>) -> Option<KBox<Self>> {
        let this = Self {
            rules: PostedRead::new(dest.remaining()),
            memory: RemoteDest::new(dest).ok()??,
            reader: ARef::from(&**current!()),
        };
        KBox::new(this, GFP_KERNEL_ACCOUNT).ok()
    }

    /// True if it may be posted: see [`PostedRead`].
    pub(crate) fn is_unserved(&self) -> bool {
        self.rules.is_unserved()
    }

    /// True if a writer may push, as long as it is posted.
    pub(crate) fn is_open(&self) -> bool {
        self.rules.is_open()
    }

    /// What decides who may push.
    pub(crate) fn rules(&mut self) -> &mut PostedRead {
        &mut self.rules
    }

    /// Bytes that a writer has delivered.
    pub(crate) fn filled(&self) -> usize {
        self.rules.filled()
    }

    /// Wakes the reader by name. It has not left the call: for that it takes the pipe's lock, which the
    /// caller holds; so no other sleep of the task is disturbed.
    pub(crate) fn wake_reader(&self) {
        self.reader.wake_up();
    }

    /// Copies at most `bytes` bytes of `source` to the reader, with the pipe's lock held; returns how
    /// many. In slots the first of them would be behind `phase` others.
    ///
    /// What cannot be copied up to the end of a slot, if it were in slots, is not copied from its
    /// start: the source goes back there. The reader's memory is filled from its start in any case,
    /// so a push that delivers nothing leaves nothing behind.
    pub(crate) fn push(
        &mut self,
        bytes: usize,
        phase: usize,
        source: &mut Source<'_, '_>,
    ) -> (usize, Ended) {
        let (copied, end) = self.memory.push(bytes.min(self.rules.room()), source);
        let undone = self.rules.settle(
            copied,
            phase,
            match end {
                Ended::All => PushEnd::All,
                Ended::Stopped => PushEnd::Writer,
                Ended::Missed(_) => PushEnd::Reader,
            },
        );

        source.rewind(undone);
        (copied - undone, end)
    }
}
