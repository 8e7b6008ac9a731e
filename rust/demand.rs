// SPDX-License-Identifier: GPL-2.0-only

//! The other rendezvous: one copy, straight to a waiting reader's memory.
//!
//! A reader that waits leaves in the pipe where it wants its bytes. A writer that finds the pipe empty
//! may then copy there instead of into slots: as if the reader had been at it while the writer
//! still wrote.

use crate::{
    mm::{Dest, Ended, RemoteDest, Source},
    zcore::offer::part,
};
use kernel::prelude::*;

/// A reader that waits, and where it wants what it waits for.
pub(crate) struct Demand {
    memory: RemoteDest,
    room: usize,
    filled: usize,
    open: bool,
}

impl Demand {
    /// Of a reader with room in `dest`; [`None`] if that is not its own memory, or if there is none
    /// to remember where it is. Sleeps.
    #[cold]
    pub(crate) fn new(dest: &mut Dest<'_, '_>) -> Option<KBox<Self>> {
        let this = Self {
            memory: RemoteDest::new(dest).ok()??,
            room: dest.remaining(),
            filled: 0,
            open: true,
        };
        KBox::new(this, GFP_KERNEL_ACCOUNT).ok()
    }

    /// Whether a writer may copy there. One may, once: others would have to know that nobody else
    /// read in between.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Bytes that were copied there.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Copies at most `bytes` bytes of `source`, with the pipe's lock held; returns how many. In
    /// slots the first of them would be behind `phase` others.
    ///
    /// What cannot be copied up to the end of a slot, if it were in slots, is not copied from its
    /// start.
    pub(crate) fn push(
        &mut self,
        bytes: usize,
        phase: usize,
        source: &mut Source<'_, '_>,
    ) -> (usize, Ended) {
        let (mut copied, end) = self.memory.push(bytes.min(self.room), source);

        if end != Ended::All {
            let part = part(phase, copied);
            source.rewind(part);
            copied -= part;
        }
        self.filled = copied;
        // It is not the reader's fault if the writer cannot go on.
        self.open = copied == 0 && end == Ended::Stopped;
        (copied, end)
    }
}
