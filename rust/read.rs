// SPDX-License-Identifier: GPL-2.0-only

//! Reading from a pipe. It follows `anon_pipe_read()`.
//!
//! Under the inner lock bytes are copied without faults. Where a copy stops short, nothing is
//! consumed: the lock is dropped, the reader's memory is faulted in, and the read starts again from
//! what the pipe then holds.

use crate::{
    demand::Demand,
    direct,
    lock::{Inner, Locked},
    mm::{Dest, Ended},
    pipe::{Pipe, Request},
    ring::Kind,
    sync::{killed, Event},
    trace::{self, Who},
    zcore::turn::{Left, ReaderTurn},
};
use core::mem;
use kernel::prelude::*;

/// Why taking data came to an end.
enum Step {
    /// All is read that this call may read.
    Done,
    /// There is no more data.
    Empty,
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
}

impl Read<'_, '_, '_> {
    /// Reads as much as can be read now.
    fn advance(&mut self, locked: &mut Locked<'_>) -> Step {
        loop {
            let inner = &mut **locked;
            let was_full = inner.ring.is_full();
            let left = self.left;
            let Some(slot) = inner.ring.first() else {
                match self.pull(inner) {
                    Some(step) => return step,
                    None => continue,
                }
            };

            let bytes = slot.len().min(left);
            if !slot.peek_atomic(bytes, self.dest) {
                let all = inner.ring.bytes().min(left);
                return Step::NeedRoom { next: bytes, all };
            }
            self.done += bytes;
            self.left -= bytes;
            slot.consume(bytes);
            if slot.kind() == Kind::Packet {
                // What did not fit is gone, and the next packet is another read's.
                slot.consume(usize::MAX);
                self.left = 0;
            }
            if slot.len() == 0 {
                self.turn.emptied(was_full);
                if let Some(slot) = inner.ring.pop() {
                    inner.recycle(slot.into_page());
                }
                if was_full {
                    // A writer that comes while more is copied waits for the lock, not for a
                    // wakeup.
                    locked.publish_room();
                }
            }
            if self.left == 0 {
                return Step::Done;
            }
        }
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
        let Some((bytes, end)) = inner.ring.pull(most, parts, self.dest) else {
            return Some(Step::Empty);
        };

        self.turn.took();
        self.done += bytes;
        self.left -= bytes;
        self.pulled += bytes;
        inner.stats.pull.moved(bytes, end);
        trace::pull(&inner.id, bytes, end);
        match end {
            _ if self.left == 0 => Some(Step::Done),
            Ended::All => None,
            Ended::Missed(_) => Some(Step::Empty),
            Ended::Stopped => Some(Step::NeedRoom {
                next: inner.ring.next_part().min(self.left),
                all: most - bytes,
            }),
        }
    }
}

impl Pipe {
    /// What a reader leaves when it drops the lock.
    fn left_behind(&self, inner: &Locked<'_>) -> Left {
        Left {
            empty: inner.ring.is_empty(),
            offered: inner.ring.offered().present,
            due: inner.ring.offered().due,
            polled: self.polled(),
        }
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

        let mut job = Read {
            dest,
            done: 0,
            left: total,
            turn: ReaderTurn::default(),
            pulled: 0,
            faulted: false,
        };
        // What is waited for may come straight here.
        let mut demand = if request.nonblock() || self.state().readable() {
            None
        } else {
            Demand::new(job.dest)
        };
        let mut inner = self.lock();
        let result = loop {
            match job.advance(&mut inner) {
                Step::Done => break Ok(()),
                Step::Empty if !inner.has_writers() || job.done > 0 => break Ok(()),
                Step::Empty if request.nonblock() => break Err(EAGAIN),
                Step::Empty => {
                    inner.stats.read.waits += 1;
                    let demands = demand.is_some() && inner.demand.is_none();
                    if demands {
                        inner.demand = demand.take();
                        inner.stats.read.offers += 1;
                    }
                    let wakes = job.turn.pause(self.left_behind(&inner));
                    drop(inner);
                    self.wake(wakes);
                    trace::wait(self.id(), Who::Reader);
                    let waited = self.rd_wait.wait_exclusive(|| {
                        let state = self.state();
                        state.readable() || (demands && state.room.pushed)
                    });
                    if waited.is_ok() {
                        job.turn.waited();
                    }
                    if !demands {
                        waited?;
                    }
                    inner = self.lock();
                    if demands {
                        demand = inner.demand.take();
                        job.given(demand.as_ref().map_or(0, Demand::filled));
                    }
                    if job.done > 0 {
                        // What is in the pipe need not be what follows: there are other readers.
                        break Ok(());
                    }
                    waited?;
                }
                Step::NeedRoom { next, all } => {
                    inner.stats.read.faults += 1;
                    // Nobody waits for our faults.
                    let wakes = job.turn.pause(self.left_behind(&inner));
                    drop(inner);
                    self.wake(wakes);
                    let ready = job.dest.fault_in(all);
                    inner = self.lock();
                    if ready < next {
                        break Err(EFAULT);
                    }
                    job.faulted = true;
                    if killed() {
                        break Err(ERESTARTSYS);
                    }
                }
            }
        };
        inner.stats.read.moved(job.done);
        let wakes = job.turn.pause(self.left_behind(&inner));
        drop(inner);

        self.wake(wakes);
        self.wr_fasync.tell(Event::Output);
        match result {
            Err(e) if job.done == 0 => Err(e),
            _ => Ok(job.done),
        }
    }
}
