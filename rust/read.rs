// SPDX-License-Identifier: GPL-2.0-only

//! Reading from a pipe. It follows `anon_pipe_read()`.
//!
//! Under the inner lock bytes are copied without faults. Where a copy stops short, nothing is
//! consumed: the lock is dropped, the reader's memory is faulted in, and the read starts again from
//! what the pipe then holds.

mod claim;
mod landing;

pub(crate) use landing::Landing;

use landing::{Next, Place};

use crate::{
    demand::Demand,
    direct::{self, Pulled},
    lock::{Inner, Locked},
    mm::{Dest, Ended, Miss},
    pipe::{Pipe, Request, FRAMES_MOST, HUGE_MOST},
    slot::{HugeSlots, Kind, Slot},
    sync::{killed, Event},
    trace::{self, Who},
    zcore::turn::{Left, ReaderTurn, Wakes},
};
use core::mem;
use kernel::{
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// Times that faults are resolved in vain before the destination counts as one that cannot be
/// written to: there is memory of which a fault handler says otherwise, such as a shadow stack.
const IN_VAIN_MOST: u32 = 256;

/// Times that a read waits for a writer's memory that is being changed.
const BUSY_MOST: u32 = 4;

/// For how long.
const BUSY_SLEEP: Delta = Delta::from_micros(20);

/// Why taking data came to an end.
enum Step {
    /// All is read that this call may read.
    Done,
    /// There is no more data.
    Empty,
    /// There is, in memory that is being changed just now.
    Busy,
    /// A huge page is to be freed before more is copied.
    Retire,
    /// What is next may become the reader's memory there: look at that first.
    Probe(Place),
    /// So it may, as far as is known.
    Land(Place),
    /// Another reader tries just that.
    Claimed,
    /// The next bytes, so many, cannot be delivered without a fault.
    NeedRoom {
        /// Bytes that must be writable to go on.
        next: usize,
        /// Bytes that could be delivered then.
        all: usize,
    },
}

/// A read on its way.
struct Read<'r, 'a, 'data> {
    pipe: &'r Pipe,
    dest: &'r mut Dest<'a, 'data>,
    /// Bytes read.
    done: usize,
    /// Bytes still wanted.
    left: usize,
    /// What it owes to others.
    turn: ReaderTurn,
    /// Bytes taken from a writer's memory.
    pulled: usize,
    /// The destination of the next slot has just been faulted in. It may be copied in several
    /// pieces, of which one stops short all the same: what arrives now stays, or it might go on
    /// like this.
    faulted: bool,
    /// Bytes of those read that are counted.
    counted: usize,
    /// Times in a row that faults were resolved and nothing came of it.
    in_vain: u32,
    /// Times that a writer's memory was found busy.
    busy: u32,
    /// Huge pages that are read: they are freed without the lock.
    huge: HugeSlots,
    /// How many more this call reads: it drops the lock for each, and writers put others in.
    huge_left: u64,
    landing: &'r mut Landing,
}

impl<'r> Read<'r, '_, '_> {
    /// Reads as much as can be read now.
    fn advance(&mut self, locked: &mut Locked<'_>) -> Step {
        // After a page that landed nothing may be wanted any more.
        while self.left != 0 {
            let inner = &mut **locked;
            let was_full = inner.ring.is_full();
            let left = self.left;
            let (number, buffer_only) = (inner.ring.next_number(), inner.buffer_only);
            let mut missing = None;
            let emptied = match inner.ring.first() {
                None => match self.pull(inner) {
                    Some(step) => return step,
                    None => continue,
                },
                Some(Slot::Page(slot)) => {
                    let bytes = slot.len().min(left);
                    if slot.peek_atomic(bytes, self.dest) {
                        self.done += bytes;
                        self.left -= bytes;
                        slot.consume(bytes);
                        if slot.kind() == Kind::Packet {
                            // What did not fit is gone, and the next packet is another read's.
                            slot.consume(usize::MAX);
                            self.left = 0;
                        }
                    } else {
                        missing = Some(bytes);
                    }
                    slot.len() == 0
                }
                Some(Slot::Huge(slot)) if slot.is_claimed() => return Step::Claimed,
                // It came after those that were there when the call began.
                Some(Slot::Huge(_)) if self.huge_left == 0 => return Step::Done,
                Some(Slot::Huge(slot)) => {
                    let next = self
                        .landing
                        .next(number, slot, buffer_only, left, self.dest);
                    let most = match next {
                        Next::Probe(place) => return Step::Probe(place),
                        Next::Land(place) => return Step::Land(place),
                        Next::Copy(most) => most,
                    };
                    let bytes = slot.len().min(left).min(most);
                    let copied = slot.consume_atomic(bytes, self.dest);
                    self.done += copied;
                    self.left -= copied;
                    self.landing.copied(copied);
                    if copied < bytes {
                        missing = Some(slot.part().min(self.left));
                    }
                    slot.len() == 0
                }
            };
            if let Some(next) = missing {
                let all = inner.ring.bytes().min(self.left);
                return Step::NeedRoom { next, all };
            }
            if emptied {
                self.turn.emptied(was_full);
                match inner.ring.pop() {
                    Some(Slot::Page(slot)) => inner.recycle(slot.into_page()),
                    Some(Slot::Huge(slot)) => {
                        if slot.is_huge() {
                            inner.homes.worth.copied();
                        }
                        if inner.has_writers() {
                            inner.homes.put(slot, &mut self.huge);
                        } else {
                            self.huge.push(slot);
                        }
                        self.huge_is_gone(locked);
                        if self.left != 0 {
                            return Step::Retire;
                        }
                    }
                    None => (),
                }
                if was_full {
                    // A writer that comes while more is copied waits for the lock, not for a
                    // wakeup.
                    locked.publish_room();
                }
            }
        }
        Step::Done
    }

    /// A huge page is out of the pipe.
    fn huge_is_gone(&mut self, locked: &Locked<'_>) {
        let pages = self.pipe.huge();
        self.pipe.set_huge(locked, pages.saturating_sub(1));
        self.huge_left = self.huge_left.saturating_sub(1);
        // A writer may have waited for that.
        self.turn.emptied(pages >= HUGE_MOST);
    }

    /// Drops the lock for a moment. Who has read nothing keeps the wakeup that it got: it is not through
    /// with what it was woken for.
    fn step_out(&mut self, inner: Locked<'_>) {
        if self.done == 0 {
            drop(inner);
            self.huge.free();
        } else {
            self.leave(inner);
        }
    }

    /// Drops the lock, and wakes and tells whom it owes that.
    fn leave(&mut self, inner: Locked<'_>) {
        if self.leave_for_good(inner).writer {
            self.pipe.fasync.writers.tell(Event::Output);
        }
    }

    /// Drops the lock, and wakes whom it owes that; returns who that is.
    fn leave_for_good(&mut self, inner: Locked<'_>) -> Wakes {
        self.pipe
            .leave_freeing(inner, &mut self.turn, &mut self.huge)
    }

    /// Takes the lock again.
    fn lock_again(&mut self) -> Locked<'r> {
        if self.done == 0 {
            self.pipe.lock_to_read(&mut self.turn)
        } else {
            // One read empties the pipe once, in however many pieces.
            self.pipe.lock()
        }
    }

    /// Counts what was read since it last did.
    fn count(&mut self, inner: &mut Inner) {
        inner.stats.read.bytes += (self.done - self.counted) as u64;
        if self.done > self.counted {
            self.in_vain = 0;
        }
        self.counted = self.done;
    }

    /// A writer has copied so many bytes to `dest`.
    fn given(&mut self, bytes: usize) {
        self.dest.skip(bytes);
        self.done += bytes;
        self.left -= bytes;
    }

    /// Takes from the memory of a writer that waits; [`None`] if there may be more.
    fn pull(&mut self, inner: &mut Inner) -> Option<Step> {
        let most = self.left.min(direct::most().saturating_sub(self.pulled));
        if most == 0 {
            return Some(Step::Done);
        }
        let parts = mem::take(&mut self.faulted);
        let most = if parts {
            most.min(inner.ring.next_part())
        } else {
            most
        };
        let Some(pulled) = inner.ring.pull(most, parts, self.dest) else {
            return Some(Step::Empty);
        };

        let Pulled { bytes, end, frees } = pulled;
        if bytes != 0 {
            self.turn.took(bytes, frees);
        } else {
            self.turn.missed();
        }
        self.done += bytes;
        self.left -= bytes;
        self.pulled += bytes;
        inner.stats.pull.moved(bytes, end);
        trace::pull(&inner.id, bytes, end);
        match end {
            _ if self.left == 0 => Some(Step::Done),
            Ended::All => None,
            Ended::Missed(Miss::Busy) => Some(Step::Busy),
            Ended::Missed(_) => Some(Step::Empty),
            Ended::Stopped => Some(Step::NeedRoom {
                next: inner.ring.next_part().min(self.left),
                all: most - bytes,
            }),
        }
    }
}

impl Pipe {
    /// Takes the lock, for a reader.
    fn lock_to_read(&self, turn: &mut ReaderTurn) -> Locked<'_> {
        let inner = self.lock();
        turn.locked(inner.ring.announced());
        inner
    }

    /// Drops the lock and wakes whom a reader owes it.
    fn leave(&self, inner: Locked<'_>, turn: &mut ReaderTurn) {
        self.leave_freeing(inner, turn, &mut HugeSlots::new());
    }

    /// Drops the lock, frees `huge`, and wakes whom a reader owes it; returns who that is.
    fn leave_freeing(
        &self,
        mut inner: Locked<'_>,
        turn: &mut ReaderTurn,
        huge: &mut HugeSlots,
    ) -> Wakes {
        if inner.recall_spent(|| self.wr_wait.has_waiters()) {
            turn.missed();
        }
        let offered = inner.ring.offered();
        let left = Left {
            slots: inner.ring.used() != 0,
            offered: offered.takeable,
            due: offered.due,
        };
        drop(inner);
        let wakes = turn.pause(left);
        if !huge.is_empty() {
            // Who is woken may want these again.
            huge.free();
        }
        self.wake(wakes);
        wakes
    }

    /// Reads to `dest`; returns how many bytes, 0 at the end of the data with no writer left.
    ///
    /// Sleeps, for data and in page faults of the reader's own memory; waits for data end with a
    /// signal. Errors if nothing was read: `EAGAIN`, `ERESTARTSYS`, `EFAULT`.
    pub(crate) fn read(&self, request: Request<'_>, dest: &mut Dest<'_, '_>) -> Result<usize> {
        let total = dest.remaining();
        if total == 0 {
            return Ok(0);
        }
        if let Some(bytes) = self.read_at_once(total, dest) {
            return Ok(bytes);
        }
        self.read_on(
            request,
            total,
            dest,
            &mut Landing::new(!request.nowait, false, false),
        )
    }

    /// Reads from the first slot, if all that is to be read is in there; [`None`], and nothing is
    /// read, if anything at all stands in the way.
    ///
    /// What [`Self::read_on`] would do, in fewer instructions, which is what a small read consists
    /// of.
    fn read_at_once(&self, total: usize, dest: &mut Dest<'_, '_>) -> Option<usize> {
        let mut inner = self.lock();
        let was_full = inner.ring.is_full();
        let used = inner.ring.used();
        if inner.ring.is_offered() {
            return None;
        }

        let slot = inner.ring.first()?.as_stream_page()?;
        let bytes = slot.len().min(total);
        if (bytes < total && used > 1) || !slot.peek_atomic(bytes, dest) {
            return None;
        }
        slot.consume(bytes);
        let mut turn = ReaderTurn::default();
        if slot.len() == 0 {
            turn.emptied(was_full);
            if let Some(Slot::Page(slot)) = inner.ring.pop() {
                inner.recycle(slot.into_page());
            }
        }
        inner.stats.read.moved(bytes);
        drop(inner);
        // With nothing offered, and no wakeup to pass on, no more is owed.
        self.wake(turn.pause(Left::default()));
        self.fasync.writers.tell(Event::Output);
        Some(bytes)
    }

    /// Reads at most `total` bytes, which there is room for, with all the waiting and faulting that
    /// takes: as [`Self::read`], if that is not nothing.
    #[inline(never)]
    pub(crate) fn read_on(
        &self,
        request: Request<'_>,
        total: usize,
        dest: &mut Dest<'_, '_>,
        landing: &mut Landing,
    ) -> Result<usize> {
        let mut job = Read {
            pipe: self,
            dest,
            done: 0,
            left: total,
            turn: ReaderTurn::default(),
            pulled: 0,
            faulted: false,
            counted: 0,
            in_vain: 0,
            busy: 0,
            huge: HugeSlots::new(),
            huge_left: FRAMES_MOST,
            landing,
        };
        // What is waited for may come straight here.
        let mut demand = if total < direct::least()
            || request.nonblock()
            || self.is_slots_only()
            || self.state().readable()
        {
            None
        } else {
            Demand::new(job.dest)
        };
        let mut inner = self.lock_to_read(&mut job.turn);
        let result = loop {
            match job.advance(&mut inner) {
                Step::Done => break Ok(()),
                Step::Busy if job.done > 0 => break Ok(()),
                // Who does not want to wait for data waits that long, too: in pipe(2) it would be
                // for the mutex of the pipe.
                Step::Busy if job.busy < BUSY_MOST => {
                    job.busy += 1;
                    job.leave_for_good(inner);
                    job.huge.free();
                    fsleep(BUSY_SLEEP);
                    inner = self.lock_to_read(&mut job.turn);
                }
                Step::Busy => {
                    // Its owner may be able to.
                    if let Some(direct) = inner.ring.direct() {
                        direct.miss();
                        job.turn.missed();
                    }
                }
                step @ (Step::Retire | Step::Probe(_)) => {
                    job.count(&mut inner);
                    let position = inner.ring.position();
                    if let Step::Probe(_) = step {
                        job.landing.take_scratch(&mut inner);
                    }
                    job.step_out(inner);
                    if let Step::Probe(place) = step {
                        job.landing.probe(place);
                    }
                    inner = job.lock_again();
                    if job.done > 0 && inner.ring.position() != position {
                        // What is next is not what follows.
                        break Ok(());
                    }
                }
                Step::Claimed => {
                    // It is nobody else's turn: for pipe(2) this is another's hold of the mutex.
                    job.count(&mut inner);
                    let position = inner.ring.position();
                    job.leave(inner);
                    let waited = self.claim_wait.wait_killable(|| self.claimed.read() == 0);
                    inner = job.lock_again();
                    if let Err(e) = waited {
                        break Err(e);
                    }
                    if job.done > 0 && inner.ring.position() != position {
                        // What is next is not what follows.
                        break Ok(());
                    }
                }
                Step::Land(place) => inner = job.land(inner, place),
                Step::Empty if !inner.has_writers() || job.done > 0 => break Ok(()),
                Step::Empty if request.nonblock() => break Err(EAGAIN),
                Step::Empty => {
                    inner.stats.read.waits += 1;
                    let (ticket, demands) = inner.begin_reader_wait(&mut demand);
                    job.leave_for_good(inner);
                    trace::wait(self.id(), Who::Reader);
                    let waited = self.rd_wait.wait_exclusive(|| {
                        let state = self.state();
                        state.readable() || (demands && state.room.pushed)
                    });
                    if waited.is_ok() {
                        job.turn.waited();
                    }
                    inner = self.lock_to_read(&mut job.turn);
                    let own = inner.end_reader_wait(ticket, demands);
                    if demands {
                        demand = own;
                        job.given(demand.as_deref().map_or(0, Demand::filled));
                    }
                    if job.done > 0 {
                        // What is in the pipe need not be what follows: there are other readers.
                        break Ok(());
                    }
                    // As in fs/pipe.c, nobody is told of a read that a signal ended.
                    waited?;
                }
                Step::NeedRoom { next, all } => {
                    inner.stats.read.faults += 1;
                    job.in_vain += 1;
                    job.count(&mut inner);
                    let position = inner.ring.position();
                    // Nobody waits for our faults, nor for a signal that tells of room.
                    job.leave(inner);
                    let ready = job.dest.fault_in(all);
                    inner = job.lock_again();
                    if ready < next || job.in_vain > IN_VAIN_MOST {
                        break Err(EFAULT);
                    }
                    if job.done > 0 && inner.ring.position() != position {
                        // What is next is not what follows.
                        break Ok(());
                    }
                    job.faulted = true;
                    if killed() {
                        break Err(ERESTARTSYS);
                    }
                }
            }
        };
        job.count(&mut inner);
        inner.stats.read.calls += u64::from(job.done != 0);
        job.leave_for_good(inner);

        self.fasync.writers.tell(Event::Output);
        match result {
            Err(e) if job.done == 0 => Err(e),
            _ => Ok(job.done),
        }
    }
}
