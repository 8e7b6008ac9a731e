// SPDX-License-Identifier: GPL-2.0-only

//! Rendezvous: one copy, straight from a blocked writer's memory.
//!
//! The rules of an offer are in [`Offer`]. What is here brings them together with the memory they
//! are about.

use crate::{
    mm::{Dest, Pulled, RemoteSource},
    sync::Word,
    zcore::{offer::Offer, state::Offered, PAGE_SIZE},
};

/// What [`least`] says.
static LEAST: Word = Word::new(0);

/// Sets the least that is offered, in bytes. Once, before there is a pipe.
pub(crate) fn set_least(bytes: u32) {
    LEAST.write(u64::from(bytes).max(PAGE_SIZE as u64 + 1));
}

/// Bytes below which what a writer has left is not offered: a second copy costs less than a
/// rendezvous. More than PIPE_BUF: what is no longer than that is atomic.
pub(crate) fn least() -> usize {
    // CAST: Of a u32.
    LEAST.read() as usize
}

/// The memory of a writer that waits for readers to take it.
///
/// It stands in the pipe's ring only as long as the writer waits.
pub(crate) struct Direct {
    offer: Offer,
    memory: RemoteSource,
}

impl Direct {
    /// Offers the first `bytes` bytes of `memory`, of which the first would be in a slot behind
    /// `phase` others.
    pub(crate) fn new(bytes: usize, phase: usize, memory: RemoteSource) -> Self {
        Self {
            offer: Offer::new(bytes, phase),
            memory,
        }
    }

    /// What can be told of it, with `free` slots free.
    pub(crate) fn state(&self, free: usize) -> Offered {
        Offered {
            present: true,
            takeable: self.offer.takeable(),
            due: self.offer.due(free),
        }
    }

    /// The rules.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Has at most `bytes` bytes copied to `dest`, with the pipe's lock held; returns how many.
    ///
    /// As with slots, what cannot be copied up to the end of a slot is not copied from its start;
    /// unless `parts` says that it may be. After a miss there is nothing to take any more.
    pub(crate) fn pull(
        &mut self,
        bytes: usize,
        parts: bool,
        dest: &mut Dest<'_, '_>,
    ) -> (usize, Pulled) {
        let (mut copied, end) = self.memory.pull(bytes.min(self.offer.left()), dest);

        if end != Pulled::All && !(parts && end == Pulled::NoRoom) {
            let part = self.offer.part(copied);
            self.memory.rewind(part);
            dest.rewind(part);
            copied -= part;
        }
        self.offer.take(copied);
        if let Pulled::Missed(_) = end {
            self.offer.miss();
        }
        (copied, end)
    }
}
