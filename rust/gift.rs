// SPDX-License-Identifier: GPL-2.0-only

//! Writing memory that may be taken away: `ZPIPE_IOC_GIFT`.
//!
//! Ranges of memory are cut into pieces. Whole huge pages leave the writer's memory and become slots;
//! what lies between two of them, and what cannot be moved, is gathered and written as by writev(2).
//!
//! A huge page is taken under the writer's mmap_lock, so not under the pipe's lock. The writer reserves
//! a slot first, its *seat*: when the page is there, nothing can fail any more.

mod small;

use crate::{
    homes::{Terms, Wanted},
    mm::{self, AddressSpace, HugeCredit, HugePage, Ranges, Scratch},
    pipe::{Pipe, Request, FRAMES_MOST, HUGE_MOST},
    slot::{HugeSlot, HugeSlots, Kind, Origin, Slot},
    sync::{killed, raise_sigpipe},
    trace::{self, Who},
    zcore::{
        gift::{next_piece, Piece, Report},
        turn::{Wakes, WriterTurn},
        PAGE_SIZE,
    },
};
use kernel::prelude::*;

/// Why a piece was copied, as the ABI has it.
mod reason {
    use crate::uapi;

    pub(super) const PART: usize = uapi::REASON_PART as usize;
    pub(super) const MEMORY: usize = uapi::REASON_MEMORY as usize;
    pub(super) const LIMIT: usize = uapi::REASON_LIMIT as usize;
    pub(super) const PACKET: usize = uapi::REASON_PACKET as usize;
    pub(super) const BUFFER_ONLY: usize = uapi::REASON_BUFFER_ONLY as usize;
    pub(super) const COST: usize = uapi::REASON_COST as usize;
    pub(super) const MAPPING: usize = uapi::REASON_MAPPING as usize;
    pub(super) const SMALL: usize = uapi::REASON_SMALL as usize;
}

/// What is to be copied, and why.
struct Part {
    bytes: usize,
    reason: usize,
}

/// A call of `ZPIPE_IOC_GIFT`.
pub(crate) struct Gift<'p> {
    pipe: &'p Pipe,
    request: Request<'p>,
    terms: Terms,
    /// Small pages are to leave, too.
    small: bool,
    giver: Option<AddressSpace>,
    scratch: Option<Scratch>,
    /// A slot without a page, for one that nothing comes home for.
    fresh: Option<KBox<HugeSlot>>,
    /// What is to be copied before anything else.
    ranges: Ranges,
    /// The same, one by one.
    parts: KVec<Part>,
    /// What was written so far.
    pub(crate) report: Report,
}

impl<'p> Gift<'p> {
    /// Nothing is written yet. Pages of 4 KiB are to leave the writer, too, if `small`.
    pub(crate) fn new(pipe: &'p Pipe, request: Request<'p>, terms: Terms, small: bool) -> Self {
        Self {
            pipe,
            request,
            terms,
            small,
            giver: AddressSpace::of_current(),
            scratch: None,
            fresh: None,
            ranges: Ranges::new(),
            parts: KVec::new(),
            report: Report::default(),
        }
    }

    /// Writes `ranges`, addresses and lengths, in order, until something comes in between; what was written is
    /// in the report.
    ///
    /// Sleeps as [`Pipe::write`], and fails as that, whatever was written before.
    pub(crate) fn write(&mut self, ranges: impl Iterator<Item = (usize, usize)>) -> Result {
        for (mut at, mut bytes) in ranges {
            while let Some(piece) = next_piece(at, bytes) {
                let step = match piece {
                    Piece::Part(part) => {
                        if !self.part(at, part, reason::PART)? {
                            return Ok(());
                        }
                        part
                    }
                    Piece::Whole => {
                        if !self.whole(at)? {
                            return Ok(());
                        }
                        HugePage::SIZE
                    }
                };
                at = at.wrapping_add(step);
                bytes -= step;
                if self.ranges.is_full() && !self.copy()? {
                    return Ok(());
                }
            }
        }
        self.copy()?;
        Ok(())
    }

    fn copy_later(&mut self, at: usize, bytes: usize, reason: usize) -> Result {
        self.ranges.push(at, bytes)?;
        self.parts
            .push(Part { bytes, reason }, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Writes what was to be copied; says whether all of it went.
    fn copy(&mut self) -> Result<bool> {
        if self.parts.is_empty() {
            return Ok(true);
        }
        let (pipe, request) = (self.pipe, self.request);
        let result = self.ranges.read(|source| {
            let total = source.remaining();
            pipe.write_on(request, total, source)
        });
        let mut left = *result.as_ref().unwrap_or(&0);
        let mut all = true;

        for part in &self.parts {
            let bytes = part.bytes.min(left);
            all &= bytes == part.bytes;
            left -= bytes;
            self.report.copied(bytes, part.reason);
        }
        self.ranges.clear();
        self.parts.clear();
        result?;
        Ok(all)
    }

    /// Looks whether the writer was killed: an error if so and nothing is written yet, false if something is. A
    /// write looks for signals where it waits; this call may move much without a wait.
    fn goes_on(&self) -> Result<bool> {
        let was_killed = killed();

        if was_killed && self.report.done() == 0 {
            return Err(ERESTARTSYS);
        }
        Ok(!was_killed)
    }

    /// Has the huge page at `at` leave the memory it is in, or be copied later; false if something
    /// came in between.
    fn whole(&mut self, at: usize) -> Result<bool> {
        if !self.goes_on()? {
            return Ok(false);
        }
        let mut tries = 0;
        let refused = loop {
            // Before anything is done for it, and before anybody waits.
            if let Err(reason) = self.refusal(at) {
                break Some(reason);
            }
            if !self.copy()? {
                return Ok(false);
            }
            match self.moved(at)? {
                Err(reason) if mm::may_be_over(reason) && tries < mm::TRIES => tries += 1,
                moved => break moved.err(),
            }
        };
        match refused {
            None => self.report.moved(HugePage::SIZE),
            // Or there may be several mappings.
            Some(reason @ (reason::SMALL | reason::MAPPING)) => {
                return self.part(at, HugePage::SIZE, reason);
            }
            Some(reason) => {
                self.copy_later(at, HugePage::SIZE, reason)?;
                if reason == reason::COST {
                    // By then more may be known of that.
                    return self.copy();
                }
            }
        }
        Ok(true)
    }

    /// Why the huge page at `at` is copied, as far as can be told beforehand.
    fn refusal(&mut self, at: usize) -> Result<(), usize> {
        if self.request.kind() == Kind::Packet {
            return Err(reason::PACKET);
        }
        let wanted = self.wanted()?;
        if self.small {
            // Small pages have another price.
            mm::is_giftable(at)?;
        }
        {
            let inner = self.pipe.lock();
            if inner.buffer_only {
                return Err(reason::BUFFER_ONLY);
            }
            if !inner.homes.can(wanted) {
                return Err(reason::COST);
            }
        }
        if !self.small {
            mm::is_giftable(at)?;
        }
        self.provide()
    }

    /// Has ready what it takes to move a page, as far as it can be had beforehand.
    fn provide(&mut self) -> Result<(), usize> {
        if self.scratch.is_none() {
            self.scratch = self.pipe.lock().homes.take_scratch();
        }
        if self.scratch.is_none() {
            self.scratch = Scratch::new().ok();
        }
        if self.fresh.is_none() {
            self.fresh = HugeSlot::new().ok();
        }
        match (&self.scratch, &self.fresh) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(reason::MEMORY),
        }
    }

    fn wanted(&self) -> Result<Wanted<'_>, usize> {
        Ok(Wanted {
            giver: self.giver.as_ref().ok_or(reason::MAPPING)?,
            terms: self.terms,
        })
    }

    /// Counts `slot` to the current user, unless it already is.
    fn credit(&self, slot: &mut HugeSlot) -> Result<(), usize> {
        let pipe = self.pipe;
        if !matches!(slot.origin(), Origin::Given(_)) {
            let credit = HugeCredit::new(|all| pipe.above_user(all)).ok_or(reason::LIMIT)?;
            slot.set_credit(credit);
        }
        Ok(())
    }

    /// Moves the huge page at `at` into the pipe, or says why not.
    fn moved(&mut self, at: usize) -> Result<Result<(), usize>> {
        let (wanted, giver) = match (self.wanted(), &self.giver) {
            (Ok(wanted), Some(giver)) => (wanted, giver.clone()),
            _ => return Ok(Err(reason::MAPPING)),
        };
        let mut seat = match Seat::wait(self.pipe, self.request, What::Huge(wanted))? {
            Ok(seat) => seat,
            Err(why) => return Ok(Err(why)),
        };
        let (Some(mut slot), Some(mut scratch)) =
            (seat.home.take().or(self.fresh.take()), self.scratch.take())
        else {
            seat.give_up();
            return Ok(Err(reason::MEMORY));
        };
        // It is counted with the seat, so that nobody who waits has anything counted.
        if let Err(why) = self.credit(&mut slot) {
            self.scratch = Some(scratch);
            if slot.is_whole() {
                seat.home = Some(slot);
            }
            seat.give_up();
            return Ok(Err(why));
        }

        let page = slot.take_page().or_else(|| {
            seat.clears = true;
            HugePage::replacement(at)
        });
        let gifted = match page {
            Some(page) => mm::exchange(at, page, &mut scratch),
            None => {
                self.scratch = Some(scratch);
                seat.give_up();
                return Ok(Err(reason::MEMORY));
            }
        };
        self.scratch = Some(scratch);
        match gifted {
            Ok(page) => {
                slot.put_page(page);
                slot.set_origin(Origin::Given(giver));
                seat.fill(slot);
                Ok(Ok(()))
            }
            Err((why, page)) => {
                if !seat.clears {
                    slot.put_page(page);
                    seat.home = Some(slot);
                }
                seat.give_up();
                Ok(Err(why))
            }
        }
    }
}

impl Drop for Gift<'_> {
    fn drop(&mut self) {
        let unused = self
            .scratch
            .take()
            .and_then(|scratch| self.pipe.lock().homes.put_scratch(scratch));
        // It is freed without the lock.
        drop(unused);
    }
}

/// What a seat is for.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    /// A huge page, which this is to replace.
    Huge(Wanted<'a>),
    /// So many small ones.
    Small(usize),
    /// A frame of a window.
    Frame,
}

impl What<'_> {
    /// Slots that a copy takes.
    fn pages(self) -> usize {
        match self {
            Self::Huge(_) | Self::Frame => HugePage::SIZE / PAGE_SIZE,
            Self::Small(pages) => pages,
        }
    }

    /// How many huge pages and frames may be in the pipe with it.
    fn most(self) -> u64 {
        match self {
            Self::Huge(_) | Self::Small(_) => HUGE_MOST,
            Self::Frame => FRAMES_MOST,
        }
    }

    /// Whether it waits until a window has consumed others, though readers find nothing. What can be copied at
    /// once does not; but to fill a frame and to have it copied costs more than to wait.
    fn waits_for_windows(self) -> bool {
        matches!(self, Self::Frame)
    }

    /// Whether it may be in a pipe that is for buffered data only.
    fn is_buffered(self) -> bool {
        // Nobody but the pipe has it any more.
        matches!(self, Self::Frame)
    }
}

/// A slot that a writer has reserved for a huge page, to be filled or given up: without the pipe's lock,
/// and without an mmap_lock.
#[must_use]
pub(crate) struct Seat<'p> {
    pipe: &'p Pipe,
    turn: WriterTurn,
    /// It waited for room.
    waited: bool,
    /// What takes the place of the page, if it need not be cleared.
    home: Option<KBox<HugeSlot>>,
    /// A page of zeros takes its place.
    clears: bool,
}

impl<'p> Seat<'p> {
    /// Waits for a slot that is free, as a write does, and reserves it; or says why a huge page is not to
    /// be moved. For a huge page it comes with one to take its place, if there is one; without that only if
    /// zeros are worth it.
    ///
    /// Errors: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn wait(
        pipe: &'p Pipe,
        request: Request<'_>,
        what: What<'_>,
    ) -> Result<Result<Self, usize>> {
        let mut inner = pipe.lock();
        let mut turn = WriterTurn::new(inner.has_readers() && inner.ring.is_empty());
        let mut waited = false;
        let result = loop {
            let full = inner.ring.is_full();
            // Those of seats say nothing of what readers can do about it. Nor does who can be copied wait for
            // readers where a write would not.
            let read_first = pipe.huge() > u64::from(inner.ring.reserved())
                && (inner.ring.used() != 0 || what.waits_for_windows())
                && what.pages() > inner.ring.free();
            if !inner.has_readers() {
                break Err(EPIPE);
            }
            if !full && request.kind() == Kind::Packet {
                break Ok(Err(reason::PACKET));
            }
            if !full && inner.buffer_only && !what.is_buffered() {
                break Ok(Err(reason::BUFFER_ONLY));
            }
            if !full && pipe.huge() < what.most() {
                let home = match what {
                    What::Huge(wanted) => {
                        let home = inner.homes.take(wanted);
                        if home.is_none() && !inner.homes.may_clear(wanted) {
                            break Ok(Err(reason::COST));
                        }
                        home
                    }
                    What::Small(_) | What::Frame => None,
                };
                inner.ring.reserve();
                pipe.set_huge(&inner, pipe.huge() + 1);
                break Ok(Ok(home));
            }
            if full && request.nonblock() {
                inner.refused = true;
                break Err(EAGAIN);
            }
            if !full && (request.nonblock() || !read_first) {
                break Ok(Err(reason::LIMIT));
            }
            if current!().signal_pending() {
                break Err(ERESTARTSYS);
            }

            let mut wakes = turn.pause(0, full);
            if full {
                inner.stats.write.waits += 1;
                inner.waiting_writers.count += 1;
                wakes.owner = inner.recall_spent(|| true);
            }
            drop(inner);
            pipe.wake(wakes);
            trace::wait(pipe.id(), Who::Writer);
            // A signal is seen after another look, as by a write.
            let _ = if full {
                let room = || pipe.state().writable();
                pipe.wr_wait.wait_exclusive(room).map(|_| ())
            } else {
                // What is room to others is none for this: it would keep wakeups that are theirs.
                pipe.wr_wait.wait(|| {
                    let room = pipe.state().room;
                    let free = room.limit.saturating_sub(room.used) as usize;
                    pipe.huge() < what.most()
                        || free >= what.pages()
                        || pipe.state().ends.readers == 0
                        || (pipe.is_buffer_only() && !what.is_buffered())
                        || (room.used == 0 && !what.waits_for_windows())
                })
            };
            turn.waited();
            inner = pipe.lock();
            if full {
                waited = true;
                inner.waiting_writers.count -= 1;
            }
            turn.resume(inner.ring.is_empty());
        };

        let full = inner.ring.is_full();
        drop(inner);
        let wakes = match result {
            Err(_) => turn.end(0, full, pipe.every_write_wakes()),
            // Nothing is written; a wakeup that came is kept for what will be.
            Ok(_) if full => Wakes::default(),
            Ok(_) => turn.pause(0, false),
        };
        pipe.wake(wakes);
        if result.as_ref().is_err_and(|e| *e == EPIPE) && !request.nosignal {
            raise_sigpipe();
        }
        Ok(result?.map(|home| Self {
            pipe,
            turn,
            waited,
            home,
            clears: false,
        }))
    }

    /// Puts `slot` in.
    pub(crate) fn fill(mut self, slot: KBox<HugeSlot>) {
        let pipe = self.pipe;
        let bytes = slot.len();
        let (is_small, is_frame) = (slot.is_small(), slot.frame().is_some());
        let mut inner = pipe.lock();

        self.turn.resume(inner.ring.is_empty());
        inner.ring.fill_reserved(Slot::Huge(slot));
        inner.stats.write.moved(bytes);
        if is_frame {
            inner.stats.frames_sent += 1;
            inner.stats.frame_bytes += bytes as u64;
        } else if is_small {
            inner.stats.small_gifts += (bytes / PAGE_SIZE) as u64;
        } else {
            inner.stats.gifts += 1;
            if self.clears {
                inner.stats.clears += 1;
                inner.homes.worth.cleared();
            } else {
                inner.homes.worth.reused();
            }
        }
        if self.waited {
            inner.waiting_writers.turns = inner.waiting_writers.turns.wrapping_add(1);
        }
        let full = inner.ring.is_full();
        drop(inner);
        let polled = pipe.every_write_wakes();
        pipe.wake(self.turn.end(bytes, full, polled));
    }

    /// Gives it up unused.
    pub(crate) fn give_up(mut self) {
        let pipe = self.pipe;
        let mut gone = HugeSlots::new();
        let mut inner = pipe.lock();

        self.turn.resume(inner.ring.is_empty());
        if let Some(home) = self.home.take() {
            inner.homes.put(home, &mut gone);
        }
        inner.ring.release();
        pipe.set_huge(&inner, pipe.huge().saturating_sub(1));
        let offered = inner.ring.offered();
        let wakes = self.turn.give_up_seat(inner.ring.is_full(), offered);
        drop(inner);
        pipe.wake(wakes);
        gone.free();
    }
}
