// SPDX-License-Identifier: GPL-2.0-only

//! Reading from a pipe. It follows `anon_pipe_read()`.
//!
//! Under the inner lock bytes are copied without page faults. If a copy stops short, its incomplete
//! part stays in the pipe: a page, or 4 KiB of a huge page. The read drops the lock, faults in the
//! reader's memory, and starts again with what the pipe then holds.

mod hold;
mod lock;
mod moves;
mod splice;
mod wait;

pub(crate) use moves::Moves;
pub(crate) use splice::{Front, Peeked};

use moves::{Next, Target};

use crate::{
    direct,
    lock::{Inner, Locked},
    mm::Dest,
    pipe::Pipe,
    posted_read::PostedRead,
    posted_write::Pulled,
    request::{Request, Splice},
    slot::{Kind, LargeSlots, Slot, SmallSlot},
    trace,
    zcore::{
        gift::FRAMES_MAX,
        outcome::{Miss, Outcome},
        wakeup::{ReaderPolicy, Remaining},
    },
};
use core::mem;
use kernel::prelude::*;

/// Retry limit for a pull that finds the address space of the owner busy.
const BUSY_RETRY_LIMIT: u32 = 4;

/// Why a read cannot go on without leaving the inner lock.
enum ReadStop {
    /// This call may read no more.
    Done,
    /// There is no more data.
    Empty,
    /// There is data in a posted write, and the owner's address space is busy.
    Busy,
    /// A huge page has to be freed before more is copied.
    Retire,
    /// The next page may be movable to this memory: look at the memory first.
    Probe(Target),
    /// The next page can be moved to this memory, as far as is known.
    MoveIn(Target),
    /// Another reader has claimed the first slot.
    Claimed,
    /// The next bytes cannot be delivered without a page fault.
    NeedFault {
        /// Bytes of the destination that must be writable to go on.
        next: usize,
        /// Bytes that could be delivered then.
        all: usize,
    },
}

/// How a read goes on after it has dropped the inner lock for a while.
enum Resume {
    /// It reads on.
    GoOn,
    /// It ends with what it has. The next bytes in the pipe may not be those that follow, because
    /// other readers have read meanwhile.
    End,
}

/// One read call.
struct Read<'r, 'a, 'data> {
    pipe: &'r Pipe,
    request: Request<'r>,
    dest: &'r mut Dest<'a, 'data>,
    /// Bytes read.
    done: usize,
    /// Bytes still wanted.
    left: usize,
    /// The wakeups that the read has to issue.
    policy: ReaderPolicy,
    /// Bytes pulled from a posted write.
    pulled: usize,
    /// The read to post before it waits for data, if it may be posted.
    posted_read: Option<KBox<PostedRead>>,
    /// The destination of the next slot has just been faulted in. A copy to it may still stop
    /// short. Then the read keeps the part that was copied, so that each fault leads to progress.
    faulted: bool,
    /// Those of the bytes read that are in the counters.
    counted: usize,
    /// Page faults in a row without progress.
    retries: u32,
    /// Times that the address space of the owner was busy.
    busy: u32,
    /// Huge pages that were read. They are freed without the inner lock.
    huge: LargeSlots,
    /// The number of huge pages that this call may still read. It drops the lock for each, and
    /// writers refill the pipe meanwhile.
    huge_left: u64,
    moves: &'r mut Moves,
}

impl<'r> Read<'r, '_, '_> {
    /// Reads as much as can be read now.
    fn advance(&mut self, locked: &mut Locked<'_>) -> ReadStop {
        // After a move the read may want nothing more.
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
                Some(Slot::Page(slot)) if self.leaves(slot) => return self.leave(),
                Some(Slot::Shared(slot)) if self.leaves(slot) => return self.leave(),
                Some(Slot::Page(slot)) => {
                    missing = self.deliver(slot);
                    slot.len() == 0
                }
                Some(Slot::Shared(slot)) => {
                    missing = self.deliver(slot);
                    slot.len() == 0
                }
                Some(Slot::Large(slot)) if slot.is_claimed() => return ReadStop::Claimed,
                // The pipe had at most `FRAMES_MAX` of them when the call began, so this one came
                // later.
                Some(Slot::Large(_)) if self.huge_left == 0 => return ReadStop::Done,
                Some(Slot::Large(slot)) => {
                    let next = self.moves.next(number, slot, buffer_only, left, self.dest);
                    let max = match next {
                        Next::Probe(target) => return ReadStop::Probe(target),
                        Next::MoveIn(target) => return ReadStop::MoveIn(target),
                        Next::Copy(max) => max,
                    };
                    let bytes = slot.len().min(left).min(max);
                    let copied = slot.consume_atomic(bytes, self.dest);
                    self.done += copied;
                    self.left -= copied;
                    self.moves.copied(copied);
                    if copied < bytes {
                        missing = Some(slot.part().min(self.left));
                    }
                    slot.len() == 0
                }
            };
            if let Some(next) = missing {
                let all = inner.ring.bytes().min(self.left);
                return ReadStop::NeedFault { next, all };
            }
            if emptied {
                self.policy.slot_emptied(was_full);
                match inner.ring.pop() {
                    Some(Slot::Page(slot)) => inner.recycle(slot.into_page()),
                    Some(Slot::Large(slot)) => {
                        let (policy, gone) = (&mut self.policy, &mut self.huge);
                        self.pipe.retire(locked, slot, policy, gone);
                        self.huge_left = self.huge_left.saturating_sub(1);
                        if self.left != 0 {
                            return ReadStop::Retire;
                        }
                    }
                    Some(Slot::Shared(_)) | None => (),
                }
                if was_full {
                    // A writer that tests now, while more is copied, waits for the lock and not for
                    // a wakeup.
                    locked.update_snapshot();
                }
            }
        }
        ReadStop::Done
    }

    /// True if the read leaves this slot to its caller: a packet that goes to a real pipe, where it
    /// is to stay one.
    #[inline(always)]
    fn leaves(&self, slot: &impl SmallSlot) -> bool {
        self.request.splice == Splice::PassOn && slot.kind() == Kind::Packet
    }

    /// Ends the read before a slot that it leaves to its caller.
    #[cold]
    fn leave(&self) -> ReadStop {
        if self.done != 0 {
            ReadStop::Done
        } else {
            ReadStop::Claimed
        }
    }

    /// Copies bytes of the first slot, as far as they are wanted, and consumes them. If that needs
    /// a page fault, it copies nothing and returns how many bytes it would have copied.
    #[inline(always)]
    fn deliver(&mut self, slot: &mut impl SmallSlot) -> Option<usize> {
        let bytes = slot.len().min(self.left);
        if !slot.peek_atomic(bytes, self.dest) {
            return Some(bytes);
        }
        self.done += bytes;
        self.left -= bytes;
        slot.consume(bytes);
        if slot.kind() == Kind::Packet {
            // The rest of the packet is dropped. The next packet is for another read.
            slot.consume(usize::MAX);
            self.left = 0;
        }
        None
    }

    /// Counts a huge page that was moved out of the pipe.
    fn huge_is_gone(&mut self, locked: &Locked<'_>) {
        self.pipe.huge_is_gone(locked, &mut self.policy);
        self.huge_left = self.huge_left.saturating_sub(1);
    }

    /// Adds the bytes read since the last call to the counters.
    fn count(&mut self, inner: &mut Inner) {
        inner.stats.read.bytes += (self.done - self.counted) as u64;
        if self.done > self.counted {
            self.retries = 0;
        }
        self.counted = self.done;
    }

    /// Counts `bytes` bytes that were delivered to `dest` by a push or a move.
    fn received(&mut self, bytes: usize) {
        self.dest.skip(bytes);
        self.done += bytes;
        self.left -= bytes;
    }

    /// Pulls from the posted write. Returns [`None`] if the read may go on, or else the reason why
    /// it cannot.
    fn pull(&mut self, inner: &mut Inner) -> Option<ReadStop> {
        let max = self
            .left
            .min(direct::max_bytes().saturating_sub(self.pulled));
        if max == 0 {
            return Some(ReadStop::Done);
        }
        let allow_partial = mem::take(&mut self.faulted);
        let max = if allow_partial {
            max.min(inner.ring.next_slot_bytes())
        } else {
            max
        };
        let Some(pulled) = inner.ring.pull(max, allow_partial, self.dest) else {
            return Some(ReadStop::Empty);
        };

        let Pulled {
            bytes,
            outcome,
            frees_slot,
        } = pulled;
        if bytes != 0 {
            self.policy.pulled(bytes, frees_slot);
        } else {
            self.policy.post_changed();
        }
        self.done += bytes;
        self.left -= bytes;
        self.pulled += bytes;
        inner.stats.pull.count(bytes, outcome);
        trace::pull(&inner.id, bytes, outcome);
        match outcome {
            _ if self.left == 0 => Some(ReadStop::Done),
            Outcome::All => None,
            Outcome::Missed(Miss::Busy) => Some(ReadStop::Busy),
            Outcome::Missed(_) => Some(ReadStop::Empty),
            Outcome::Stopped => Some(ReadStop::NeedFault {
                next: inner.ring.next_slot_bytes().min(self.left),
                all: max - bytes,
            }),
        }
    }

    /// Closes the posted write, so that its owner withdraws it: the owner may be able to access the
    /// memory.
    fn close_posted_write(&mut self, inner: &mut Inner) {
        if let Some(posted) = inner.ring.posted_write() {
            posted.close();
            self.policy.post_changed();
        }
    }

    /// Reads until the call ends. Returns with the lock held, except after a signal ended a wait
    /// for data: as in fs/pipe.c, such a read wakes nobody.
    fn run(&mut self) -> (Option<Locked<'r>>, Result) {
        let mut inner = self.pipe.lock_to_read(&mut self.policy);
        loop {
            let mut resume = Ok(Resume::GoOn);
            match self.advance(&mut inner) {
                ReadStop::Done => resume = Ok(Resume::End),
                ReadStop::Busy if self.done > 0 => resume = Ok(Resume::End),
                ReadStop::Busy if self.busy < BUSY_RETRY_LIMIT => inner = self.wait_busy(inner),
                ReadStop::Busy => self.close_posted_write(&mut inner),
                ReadStop::Retire => (inner, resume) = self.free_and_probe(inner, None),
                ReadStop::Probe(target) => {
                    (inner, resume) = self.free_and_probe(inner, Some(target));
                }
                ReadStop::Claimed if self.request.splice != Splice::No => resume = Err(EAGAIN),
                ReadStop::Claimed => (inner, resume) = self.wait_claimed(inner),
                ReadStop::MoveIn(target) => inner = self.move_in(inner, target),
                ReadStop::Empty if !inner.has_writers() || self.done > 0 => {
                    resume = Ok(Resume::End);
                }
                ReadStop::Empty if self.request.nonblock() => resume = Err(EAGAIN),
                ReadStop::Empty => {
                    (inner, resume) = self.wait_for_data(inner);
                    if let Err(e) = resume {
                        return (None, Err(e));
                    }
                }
                ReadStop::NeedFault { next, all } => {
                    (inner, resume) = self.fault_in(inner, next, all);
                }
            }
            match resume {
                Ok(Resume::GoOn) => (),
                Ok(Resume::End) => return (Some(inner), Ok(())),
                Err(e) => return (Some(inner), Err(e)),
            }
        }
    }

    /// Ends the read: counts the bytes and wakes other tasks.
    fn finish(&mut self, mut inner: Locked<'_>, result: Result) -> Result<usize> {
        self.count(&mut inner);
        inner.stats.read.calls += u64::from(self.done != 0);
        self.pipe
            .unlock_reader(inner, &mut self.policy, &mut self.huge, ReaderPolicy::end);
        match result {
            Err(e) if self.done == 0 => Err(e),
            _ => Ok(self.done),
        }
    }
}

impl Pipe {
    /// Reads to `dest`. Returns the number of bytes, which is 0 if the pipe is empty and has no
    /// writer.
    ///
    /// Sleeps: it waits for data, until a signal comes, and for page faults of the reader's own
    /// memory.
    ///
    /// Errors, if nothing was read: `EAGAIN`, `ERESTARTSYS`, `EFAULT`.
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
            &mut Moves::new(!request.nowait, false, false),
        )
    }

    /// The fast path of a small read. Reads from the first slot if that holds all that is to be
    /// read. [`None`] if it does not, or if anything else needs [`Self::read_on`]. Nothing is read
    /// then.
    ///
    /// The result is that of [`Self::read_on`], in fewer instructions. The cost of a small read is
    /// mainly its instructions.
    fn read_at_once(&self, total: usize, dest: &mut Dest<'_, '_>) -> Option<usize> {
        let mut inner = self.lock();
        let was_full = inner.ring.is_full();
        let used = inner.ring.used();
        if inner.ring.is_posted() {
            return None;
        }

        let slot = inner.ring.first()?.as_stream_page()?;
        let bytes = slot.len().min(total);
        if (bytes < total && used > 1) || !slot.peek_atomic(bytes, dest) {
            return None;
        }
        slot.consume(bytes);
        let mut policy = ReaderPolicy::default();
        if slot.len() == 0 {
            policy.slot_emptied(was_full);
            if let Some(Slot::Page(slot)) = inner.ring.pop() {
                inner.recycle(slot.into_page());
            }
        }
        inner.stats.read.count(bytes);
        drop(inner);
        // Nothing is posted and there is no wakeup to pass on, so the wakeups do not depend on what
        // remains in the pipe.
        self.wake(policy.end(Remaining::default()));
        Some(bytes)
    }

    /// The general path of a read, with all sleeps and page faults of [`Self::read`]. Reads at most
    /// `total` bytes, which is not 0. `dest` has space for them.
    #[inline(never)]
    pub(crate) fn read_on(
        &self,
        request: Request<'_>,
        total: usize,
        dest: &mut Dest<'_, '_>,
        moves: &mut Moves,
    ) -> Result<usize> {
        let posts = total >= direct::min_bytes()
            && !request.nonblock()
            && !self.is_slots_only()
            && !self.snapshot().readable();
        let posted_read = if posts { PostedRead::new(dest) } else { None };
        let mut read = Read {
            pipe: self,
            request,
            dest,
            done: 0,
            left: total,
            policy: ReaderPolicy::default(),
            pulled: 0,
            posted_read,
            faulted: false,
            counted: 0,
            retries: 0,
            busy: 0,
            huge: LargeSlots::new(),
            huge_left: FRAMES_MAX,
            moves,
        };
        match read.run() {
            (Some(inner), result) => read.finish(inner, result),
            (None, result) => result.map(|()| 0),
        }
    }
}
