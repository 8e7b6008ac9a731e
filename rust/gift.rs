// SPDX-License-Identifier: GPL-2.0-only

//! Gifts: `ZPIPE_IOC_GIFT`, a write that may take huge pages out of the writer's memory.
//!
//! The ranges of the call are cut into pieces. Whole huge pages leave the writer's memory and
//! become slots. Bytes between two of them, and pages that cannot be gifted, are gathered and
//! written as by writev(2).
//!
//! A huge page is taken out under the writer's mmap_lock, so not under the inner lock. Therefore
//! the writer reserves a free slot first, its *seat*. Once the page is out, filling the seat cannot
//! fail.

mod small;

use crate::{
    homes::{Terms, Wanted},
    mm::{self, AddressSpace, HugeCredit, HugePage, Ranges, Scratch},
    pipe::Pipe,
    request::Request,
    slot::{Kind, LargeSlot, LargeSlots, Origin, Slot},
    sync::{killed, raise_sigpipe},
    trace::{self, Who},
    zcore::{
        gift::{next_piece, Piece, Report, FRAMES_MAX, HUGE_MAX},
        state::State,
        wakeup::{Wakes, WriterPolicy},
        PAGE_SIZE,
    },
};
use kernel::prelude::*;

/// The reasons for which a piece is copied, as the ABI numbers them.
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

/// Bytes that are to be copied, and the reason.
struct Part {
    bytes: usize,
    reason: usize,
}

/// One call of `ZPIPE_IOC_GIFT`.
pub(crate) struct Gift<'p> {
    pipe: &'p Pipe,
    request: Request<'p>,
    terms: Terms,
    /// `ZPIPE_SMALL`: small pages are gifted, too.
    small: bool,
    gifter: Option<AddressSpace>,
    scratch: Option<Scratch>,
    /// An empty slot for the next gift. A replacement from the home comes with a slot of its own
    /// instead.
    empty_slot: Option<KBox<LargeSlot>>,
    /// Memory that has to be copied before anything that follows it is written.
    ranges: Ranges,
    /// The pieces of `ranges`, with the reason for each.
    parts: KVec<Part>,
    /// The bytes that were written so far.
    pub(crate) report: Report,
}

impl<'p> Gift<'p> {
    /// A call that has written nothing yet. It gifts pages of 4 KiB, too, if `small` is set.
    pub(crate) fn new(pipe: &'p Pipe, request: Request<'p>, terms: Terms, small: bool) -> Self {
        Self {
            pipe,
            request,
            terms,
            small,
            gifter: AddressSpace::of_current(),
            scratch: None,
            empty_slot: None,
            ranges: Ranges::new(),
            parts: KVec::new(),
            report: Report::default(),
        }
    }

    /// Writes `ranges`, pairs of address and length, in order. It may stop before the end, for
    /// example after a partial copy or when the task is killed. `report` has the bytes that were
    /// written.
    ///
    /// Sleeps as [`Pipe::write`] does, and has the same errors, even if it has written something
    /// before.
    pub(crate) fn write(&mut self, ranges: impl Iterator<Item = (usize, usize)>) -> Result {
        for (mut at, mut bytes) in ranges {
            while let Some(piece) = next_piece(at, bytes) {
                let step = match piece {
                    Piece::Part(part) => {
                        if !self.write_part(at, part, reason::PART)? {
                            return Ok(());
                        }
                        part
                    }
                    Piece::Whole => {
                        if !self.write_huge(at)? {
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

    /// Writes the memory that was to be copied. Returns true if all of it was written.
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

    /// False if the writer is being killed. `ERESTARTSYS` if in that case nothing was written yet.
    ///
    /// A write looks for signals where it waits. This call needs its own check, because it can gift
    /// many pages without a wait.
    fn may_continue(&self) -> Result<bool> {
        let was_killed = killed();

        if was_killed && self.report.done() == 0 {
            return Err(ERESTARTSYS);
        }
        Ok(!was_killed)
    }

    /// Gifts the huge page at `at`, or leaves it to be copied later. Returns false if the call has
    /// to stop.
    fn write_huge(&mut self, at: usize) -> Result<bool> {
        if !self.may_continue()? {
            return Ok(false);
        }
        let mut tries = 0;
        let refused = loop {
            // The refusal is checked before anything is copied, reserved or waited for.
            if let Err(reason) = self.refusal(at) {
                break Some(reason);
            }
            if !self.copy()? {
                return Ok(false);
            }
            match self.gift_huge(at)? {
                Err(reason) if mm::is_transient(reason) && tries < mm::TRIES => tries += 1,
                moved => break moved.err(),
            }
        };
        match refused {
            None => self.report.moved(HugePage::SIZE),
            // There are small pages, or the 2 MiB may span several mappings.
            Some(reason @ (reason::SMALL | reason::MAPPING)) => {
                return self.write_part(at, HugePage::SIZE, reason);
            }
            Some(reason) => {
                self.copy_later(at, HugePage::SIZE, reason)?;
                if reason == reason::COST {
                    // While these bytes are written, readers may read earlier pages. Then the cost
                    // policy may decide otherwise for the next page.
                    return self.copy();
                }
            }
        }
        Ok(true)
    }

    /// Checks, as far as possible without a seat, whether the huge page at `at` can be gifted. The
    /// error is the reason to copy it.
    fn refusal(&mut self, at: usize) -> Result<(), usize> {
        if self.request.kind() == Kind::Packet {
            return Err(reason::PACKET);
        }
        let wanted = self.wanted()?;
        if self.small {
            // The cost policy does not apply to small pages. So memory that has small pages must be
            // refused for that, before the cost policy is asked.
            mm::is_giftable(at)?;
        }
        {
            let inner = self.pipe.lock();
            if inner.buffer_only {
                return Err(reason::BUFFER_ONLY);
            }
            if !inner.homes.can_replace(wanted) {
                return Err(reason::COST);
            }
        }
        if !self.small {
            mm::is_giftable(at)?;
        }
        self.prepare()
    }

    /// Allocates what a gift needs: scratch memory and a slot. The replacement is found or
    /// allocated later.
    fn prepare(&mut self) -> Result<(), usize> {
        if self.scratch.is_none() {
            self.scratch = self.pipe.lock().homes.take_scratch();
        }
        if self.scratch.is_none() {
            self.scratch = Scratch::new().ok();
        }
        if self.empty_slot.is_none() {
            self.empty_slot = LargeSlot::new().ok();
        }
        match (&self.scratch, &self.empty_slot) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(reason::MEMORY),
        }
    }

    fn wanted(&self) -> Result<Wanted<'_>, usize> {
        Ok(Wanted {
            gifter: self.gifter.as_ref().ok_or(reason::MAPPING)?,
            terms: self.terms,
        })
    }

    /// Charges `slot` to the current user. A replacement that this address space gifted earlier
    /// brings a slot that is charged already.
    fn credit(&self, slot: &mut LargeSlot) -> Result<(), usize> {
        let pipe = self.pipe;
        if !matches!(slot.origin(), Origin::Gifted(_)) {
            let credit = HugeCredit::new(|all| pipe.above_user(all)).ok_or(reason::LIMIT)?;
            slot.set_credit(credit);
        }
        Ok(())
    }

    /// Gifts the huge page at `at`. The inner error is the reason to copy it.
    fn gift_huge(&mut self, at: usize) -> Result<Result<(), usize>> {
        let (wanted, gifter) = match (self.wanted(), &self.gifter) {
            (Ok(wanted), Some(gifter)) => (wanted, gifter.clone()),
            _ => return Ok(Err(reason::MAPPING)),
        };
        let mut seat = match Seat::wait(self.pipe, self.request, Payload::Huge(wanted))? {
            Ok(seat) => seat,
            Err(why) => return Ok(Err(why)),
        };
        let (Some(mut slot), Some(mut scratch)) = (
            seat.home.take().or(self.empty_slot.take()),
            self.scratch.take(),
        ) else {
            seat.give_up();
            return Ok(Err(reason::MEMORY));
        };
        // The page is charged only when the writer has a seat. So a writer that waits for a seat
        // has no page charged.
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
                slot.set_origin(Origin::Gifted(gifter));
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
        // The inner lock is not held here.
        drop(unused);
    }
}

/// The payload of a seat.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    /// A huge page, and the kind of replacement that it needs.
    Huge(Wanted<'a>),
    /// A number of small pages.
    Small(usize),
    /// A frame of a write window.
    Frame,
}

impl Payload<'_> {
    /// The number of slots that a copy of it would use.
    fn pages(self) -> usize {
        match self {
            Self::Huge(_) | Self::Frame => HugePage::SIZE / PAGE_SIZE,
            Self::Small(pages) => pages,
        }
    }

    /// The limit for this kind: it is not put into a pipe that already has so many huge pages,
    /// frames and slots of small pages.
    fn max(self) -> u64 {
        match self {
            Self::Huge(_) | Self::Small(_) => HUGE_MAX,
            Self::Frame => FRAMES_MAX,
        }
    }

    /// True if the writer waits for a read window to consume, although the ring has no data that
    /// other readers could read. A gift does not wait for that, because its bytes can be copied at
    /// once. A frame does, because filling a frame and copying it afterwards costs more than the
    /// wait.
    fn waits_for_windows(self) -> bool {
        matches!(self, Self::Frame)
    }

    /// True if it can be put into a buffer-only pipe.
    fn allowed_on_buffer_only(self) -> bool {
        // A committed frame is in nobody's memory but the pipe's.
        matches!(self, Self::Frame)
    }
}

/// A free slot that a writer has reserved for a huge page, small pages or a frame.
///
/// The writer has to fill it or give it up. It does so while it holds neither the inner lock nor an
/// mmap_lock.
#[must_use]
pub(crate) struct Seat<'p> {
    pipe: &'p Pipe,
    policy: WriterPolicy,
    /// The writer waited for a free slot.
    waited: bool,
    /// The replacement from the home, with its slot. [`None`] if the home has none, or none is
    /// needed.
    home: Option<KBox<LargeSlot>>,
    /// The replacement is a cleared page.
    clears: bool,
}

impl<'p> Seat<'p> {
    /// Waits for a free slot, as a write does, and reserves it. The inner error is the reason to
    /// copy the payload. If the pipe has as many huge pages as it may have, it also waits until
    /// readers have read one, but only if a copy would have to wait, too.
    ///
    /// The seat for a huge page comes with a replacement, if the home has one. If it has none,
    /// there is a seat only if the cost policy allows a cleared page.
    ///
    /// Errors: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn wait(
        pipe: &'p Pipe,
        request: Request<'_>,
        payload: Payload<'_>,
    ) -> Result<Result<Self, usize>> {
        let mut inner = pipe.lock();
        let mut policy = WriterPolicy::new(inner.has_readers() && inner.ring.is_empty());
        let mut waited = false;
        let result = loop {
            let full = inner.ring.is_full();
            // True if the writer has to wait until readers have read huge pages. Those that other
            // writers have reserved seats for do not count, because readers cannot read them yet. A
            // writer whose bytes would fit into free slots does not wait, because a write would not
            // wait either.
            let read_first = pipe.huge() > u64::from(inner.seats())
                && (inner.ring.used() != 0 || payload.waits_for_windows())
                && payload.pages() > inner.ring.free();
            if !inner.has_readers() {
                break Err(EPIPE);
            }
            if !full && request.kind() == Kind::Packet {
                break Ok(Err(reason::PACKET));
            }
            if !full && inner.buffer_only && !payload.allowed_on_buffer_only() {
                break Ok(Err(reason::BUFFER_ONLY));
            }
            if !full && pipe.huge() < payload.max() {
                let home = match payload {
                    Payload::Huge(wanted) => {
                        let home = inner.homes.take(wanted);
                        if home.is_none() && !inner.homes.may_clear(wanted) {
                            break Ok(Err(reason::COST));
                        }
                        home
                    }
                    Payload::Small(_) | Payload::Frame => None,
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

            let mut wakes = policy.pause(0, full);
            if full {
                inner.stats.write.waits += 1;
                inner.waiting_writers.count += 1;
                wakes.owner = inner.recall_used_share(|| false);
            }
            drop(inner);
            pipe.wake(wakes);
            trace::wait(pipe.id(), Who::Writer);
            // The result is ignored. The loop sees a signal after it has looked at the pipe again,
            // as a write does.
            let _ = if full {
                let writable = || pipe.snapshot().writable();
                pipe.wr_wait.wait_exclusive(writable).map(|_| ())
            } else {
                // This wait is not exclusive. One free slot is of no use to this writer, so an
                // exclusive wait would use up wakeups that are meant for other writers.
                pipe.wr_wait.wait(|| {
                    let State {
                        occupancy, ends, ..
                    } = pipe.snapshot();
                    let free = occupancy.limit.saturating_sub(occupancy.used) as usize;
                    pipe.huge() < payload.max()
                        || free >= payload.pages()
                        || ends.readers == 0
                        || (pipe.is_buffer_only() && !payload.allowed_on_buffer_only())
                        || (occupancy.used == 0 && !payload.waits_for_windows())
                })
            };
            policy.waited();
            inner = pipe.lock();
            if full {
                waited = true;
                inner.waiting_writers.count -= 1;
            }
            policy.resume(inner.ring.is_empty());
        };

        let full = inner.ring.is_full();
        drop(inner);
        let wakes = match result {
            Err(_) => policy.end(0, full, pipe.every_write_wakes()),
            // Nothing is written yet. The seat keeps a wakeup for the next writer until it is
            // filled.
            Ok(_) if full => Wakes::default(),
            Ok(_) => policy.pause(0, false),
        };
        pipe.wake(wakes);
        if result.as_ref().is_err_and(|e| *e == EPIPE) && !request.nosignal {
            raise_sigpipe();
        }
        Ok(result?.map(|home| Self {
            pipe,
            policy,
            waited,
            home,
            clears: false,
        }))
    }

    /// Puts `slot` into the seat, behind all other slots, and wakes readers and writers.
    pub(crate) fn fill(mut self, slot: KBox<LargeSlot>) {
        let pipe = self.pipe;
        let bytes = slot.len();
        let (is_small, is_frame) = (slot.is_small(), slot.frame().is_some());
        let mut inner = pipe.lock();

        self.policy.resume(inner.ring.is_empty());
        inner.ring.fill_reserved(Slot::Large(slot));
        inner.stats.write.count(bytes);
        if is_frame {
            inner.stats.frames_sent += 1;
            inner.stats.frame_bytes += bytes as u64;
        } else if is_small {
            inner.stats.small_gifts += (bytes / PAGE_SIZE) as u64;
        } else {
            inner.stats.gifts += 1;
            if self.clears {
                inner.stats.clears += 1;
                inner.homes.cost.cleared();
            } else {
                inner.homes.cost.reused();
            }
        }
        if self.waited {
            inner.waiting_writers.made_progress();
        }
        let full = inner.ring.is_full();
        drop(inner);
        let polled = pipe.every_write_wakes();
        pipe.wake(self.policy.end(bytes, full, polled));
    }

    /// Gives the seat up without filling it. Returns the replacement to the home, and wakes tasks
    /// that may use the slot.
    pub(crate) fn give_up(mut self) {
        let pipe = self.pipe;
        let mut gone = LargeSlots::new();
        let mut inner = pipe.lock();

        self.policy.resume(inner.ring.is_empty());
        if let Some(home) = self.home.take() {
            inner.homes.put(home, &mut gone);
        }
        inner.ring.release();
        pipe.set_huge(&inner, pipe.huge().saturating_sub(1));
        let posted_state = inner.ring.posted_state();
        let wakes = self.policy.release_seat(inner.ring.is_full(), posted_state);
        drop(inner);
        pipe.wake(wakes);
        gone.free();
    }
}
