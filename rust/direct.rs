// SPDX-License-Identifier: GPL-2.0-only

//! Rendezvous: one copy, straight from a blocked writer's memory.
//!
//! The rules of an offer are in [`Offer`]. What is here brings them together with the memory they
//! are about: [`Ahead`] is the writer's, [`Direct`] what stands in the pipe's ring meanwhile.

use crate::{
    mm::{Dest, Ended, Miss, RemoteSource, Source},
    pipe::Request,
    sync::Word,
    zcore::{
        offer::{part, Offer, Standing},
        state::Offered,
        PAGE_SIZE,
    },
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// How far a writer looks ahead in its memory at a time, in what one call copies at most.
const LOOK: usize = 8;

/// What [`least`] says.
static LEAST: Word = Word::new(0);

/// What [`most`] says.
static MOST: Word = Word::new(0);

/// Sets the least and the most that goes straight from one process to the other, in bytes. Once,
/// before there is a pipe.
pub(crate) fn set_limits(least: u32, most: u32) {
    LEAST.write(u64::from(least).max(PAGE_SIZE as u64 + 1));
    MOST.write(u64::from(most).clamp(PAGE_SIZE as u64, 16 << 20));
}

/// Bytes below which what a writer has left is not offered: a second copy costs less than a
/// rendezvous. More than PIPE_BUF: what is no longer than that is atomic.
pub(crate) fn least() -> usize {
    // CAST: Of a u32.
    LEAST.read() as usize
}

/// Bytes that one call copies straight from one process to the other at most: others wait for the
/// pipe's lock meanwhile.
pub(crate) fn most() -> usize {
    // CAST: Of a u32.
    MOST.read() as usize
}

/// What a writer has left to write, as readers would find it in its memory.
///
/// Only what is present is offered: to fault it in is the writer's business, and as with pipe(2) it
/// does so, and may fail or wait for long, no sooner than there is a free slot for it. All numbers
/// count from the start of the write.
pub(crate) struct Ahead {
    /// [`None`] while it is offered.
    direct: Option<KBox<Direct>>,
    /// Where that begins.
    start: usize,
    /// As far as this the writer found it present.
    present: usize,
    /// What was written when it last looked.
    looked: usize,
    /// As far as this it is offered.
    offered: usize,
    /// Offers of which nobody could take anything.
    fruitless: u32,
}

impl Ahead {
    /// Begins with what is left of `source`, of which `done` bytes are written to `file`; [`None`]
    /// if nobody else may read that, or there is no memory to remember where it is. Sleeps.
    #[cold]
    pub(crate) fn new(source: &mut Source<'_, '_>, done: usize, file: &File) -> Option<Self> {
        let direct = Direct {
            offer: Offer::new(0, 0),
            memory: RemoteSource::new(source).ok()??,
            file: ARef::from(file),
        };
        let mut this = Self {
            direct: Some(KBox::new(direct, GFP_KERNEL_ACCOUNT).ok()?),
            start: done,
            present: done,
            looked: done,
            offered: done,
            fruitless: 0,
        };
        this.look(source, done);
        Some(this)
    }

    /// Looks a bit further ahead than before; says whether that led anywhere. `source` is what is
    /// left with `done` bytes written.
    ///
    /// A bit is some reads' worth: with the first going on, there is time to find and offer more.
    ///
    /// Does not fault, but takes its time: not for under the lock.
    pub(crate) fn look(&mut self, source: &mut Source<'_, '_>, done: usize) -> bool {
        let before = self.present.max(done);

        self.looked = done;
        self.present = before + source.present(before - done, LOOK * most());
        self.present > before
    }

    /// Whether something was written since it looked.
    pub(crate) fn stale(&self, done: usize) -> bool {
        done > self.looked
    }

    /// Whether to offer it is in vain: there is memory that looks present to its owner and cannot be
    /// had by others.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.fruitless > 1
    }

    /// What could be offered of `total` bytes of which `done` are written: all, or as much as fills
    /// slots, the first of them behind `phase` other bytes.
    pub(crate) fn offer(&self, done: usize, total: usize, phase: usize) -> Offer {
        let present = self.present.saturating_sub(done);
        let odd = if self.present < total {
            part(phase, present)
        } else {
            0
        };
        Offer::new(present - odd, phase)
    }

    /// Makes of that what stands in the ring; [`None`] if it stands there.
    pub(crate) fn put_out(&mut self, offer: Offer, done: usize) -> Option<KBox<Direct>> {
        let mut direct = self.direct.take()?;

        direct.memory.skip(done - self.start);
        direct.offer = offer;
        self.start = done;
        self.offered = done + offer.left();
        Some(direct)
    }

    /// Offers more, if more was found, and if nobody called for the owner meanwhile; with `free`
    /// slots free.
    pub(crate) fn extend(&mut self, direct: &mut Direct, free: usize, all: Offer, done: usize) {
        let more = done + all.left() - self.offered;

        self.offered += direct.offer.extend(more, free);
    }

    /// Takes back what stood in the ring; returns how many bytes are written now, how many of them
    /// are in the slot that would be next, and where the write stands among others from now on.
    pub(crate) fn take_back(&mut self, direct: KBox<Direct>) -> (usize, usize, Standing) {
        let done = self.offered - direct.offer.left();
        let phase = direct.offer.phase();
        let standing = Standing::after(&direct.offer);

        if direct.offer.is_missed() && done == self.start {
            self.fruitless += 1;
        }
        self.direct = Some(direct);
        self.start = done;
        // What is present now will show when something is written.
        self.present = done;
        self.looked = done;
        (done, phase, standing)
    }
}

/// The memory of a writer that waits, for readers to take it.
///
/// It stands in the pipe's ring only as long as the writer waits.
pub(crate) struct Direct {
    offer: Offer,
    memory: RemoteSource,
    file: ARef<File>,
}

/// What came of a [pull](Direct::pull).
pub(crate) struct Pulled {
    /// Bytes copied.
    pub(crate) bytes: usize,
    /// Why not more.
    pub(crate) end: Ended,
    /// They were the last ones of a slot, had they been in slots.
    pub(crate) frees: bool,
}

impl Direct {
    /// What can be told of it, with `free` slots free.
    pub(crate) fn state(&self, free: usize) -> Offered {
        Offered {
            takeable: self.offer.takeable(),
            due: self.offer.due(free),
        }
    }

    /// The rules.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Has at most `bytes` bytes copied to `dest`, with the pipe's lock held.
    ///
    /// As with slots, what cannot be copied up to the end of a slot is not copied from its start;
    /// unless `parts` says that it may be. `free` slots are free. After a miss there is nothing to take any more, unless
    /// the memory was only [busy](Miss::Busy).
    pub(crate) fn pull(
        &mut self,
        bytes: usize,
        parts: bool,
        free: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Pulled {
        // The file's flags may change at any time: of a file that has become another there is only
        // what was announced before. They are looked at once. What is copied is what is accounted
        // for, and who changes them meanwhile comes after that.
        let may_offer = self.may_offer();
        let most = if may_offer {
            self.offer.reachable()
        } else {
            self.offer.visible(free)
        };
        let (mut copied, end) = self.memory.pull(bytes.min(most), dest);

        if end != Ended::All && !(parts && end == Ended::Stopped) {
            let part = self.offer.part(copied);
            self.memory.rewind(part);
            dest.rewind(part);
            copied -= part;
        }
        let frees = self.offer.frees_slot(copied);
        if frees && !may_offer {
            self.offer.recall(free);
        }
        self.offer.take(copied);
        match end {
            // That may be over soon.
            Ended::Missed(Miss::Busy) | Ended::All | Ended::Stopped => (),
            Ended::Missed(Miss::Mapping | Miss::Page) => self.offer.miss(),
        }
        Pulled {
            bytes: copied,
            end,
            frees,
        }
    }

    /// There is nothing to be had until the owner has seen to it.
    pub(crate) fn miss(&mut self) {
        self.offer.miss();
    }

    /// Calls the owner back if readers have taken its share; to be asked if others wait for room, with
    /// `free` slots free. Says whether that is news to the owner.
    pub(crate) fn recall_spent(&mut self, free: usize) -> bool {
        let news = self.offer.share_is_spent(most()) && !self.offer.is_recalled();
        if news {
            self.offer.recall(free);
        }
        news
    }

    fn may_offer(&self) -> bool {
        Request::of(&self.file).may_offer()
    }

    /// There is a slot more than the `free` ones that were free: its owner would look whether it may
    /// still wait, and whether what it writes is still a stream. What was announced before stays.
    pub(crate) fn slot_freed(&mut self, free: usize) {
        if !self.may_offer() {
            self.offer.recall(free);
        }
    }
}
