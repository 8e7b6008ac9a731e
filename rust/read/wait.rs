// SPDX-License-Identifier: GPL-2.0-only

//! What a read does without the inner lock: it waits, faults in memory, and frees huge pages.

use super::{moves::Target, Read, Resume};
use crate::{
    lock::{Inner, Locked},
    posted_read::PostedRead,
    ring::Position,
    sync::killed,
    trace::{self, Who},
    zcore::wakeup::ReaderPolicy,
};
use kernel::{
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// Retry limit for page faults of the destination that lead to no progress. Some memory, such as a
/// shadow stack, is writable for a fault handler, and still cannot be written to.
const FAULT_RETRY_LIMIT: u32 = 256;

/// Time between two retries of a pull that finds the address space of the owner busy.
const BUSY_SLEEP: Delta = Delta::from_micros(20);

impl<'r> Read<'r, '_, '_> {
    /// Drops the lock for a moment. A reader that has read nothing keeps its wakeup: it still needs
    /// the data that it was woken for.
    pub(super) fn unlock_briefly(&mut self, inner: Locked<'_>) {
        if self.done == 0 {
            drop(inner);
            self.huge.free();
        } else {
            self.unlock_and_wake(inner);
        }
    }

    /// Drops the lock for a longer time, frees huge pages and issues wakeups.
    fn unlock_and_wake(&mut self, inner: Locked<'_>) {
        self.pipe
            .unlock_reader(inner, &mut self.policy, &mut self.huge, ReaderPolicy::pause);
    }

    /// Takes the lock again.
    pub(super) fn lock_again(&mut self) -> Locked<'r> {
        if self.done == 0 {
            self.pipe.lock_to_read(&mut self.policy)
        } else {
            // A read that drains the pipe in several pieces drains it once.
            self.pipe.lock()
        }
    }

    /// Decides how a read goes on that was at `position` when it dropped the lock.
    fn resume(&self, inner: &Inner, position: Position) -> Resume {
        if self.done > 0 && inner.ring.position() != position {
            Resume::End
        } else {
            Resume::GoOn
        }
    }

    /// Waits for a busy address space. A non-blocking read waits, too: a pipe(2) would make it wait
    /// for the mutex of the pipe.
    pub(super) fn wait_busy(&mut self, inner: Locked<'r>) -> Locked<'r> {
        self.busy += 1;
        self.unlock_and_wake(inner);
        fsleep(BUSY_SLEEP);
        self.pipe.lock_to_read(&mut self.policy)
    }

    /// Frees the huge pages that were read. If there is a `target`, also tests whether the next
    /// page can be moved there.
    pub(super) fn free_and_probe(
        &mut self,
        mut inner: Locked<'r>,
        target: Option<Target>,
    ) -> (Locked<'r>, Result<Resume>) {
        self.count(&mut inner);
        let position = inner.ring.position();
        if target.is_some() {
            self.moves.take_scratch(&mut inner);
        }
        self.unlock_briefly(inner);
        if let Some(target) = target {
            self.moves.probe(target);
        }
        let inner = self.lock_again();
        let resume = self.resume(&inner, position);
        (inner, Ok(resume))
    }

    /// Waits until another reader's claim has ended, as a read of a pipe(2) waits for its mutex.
    pub(super) fn wait_claimed(&mut self, mut inner: Locked<'r>) -> (Locked<'r>, Result<Resume>) {
        let pipe = self.pipe;
        self.count(&mut inner);
        let position = inner.ring.position();
        self.unlock_and_wake(inner);
        let waited = pipe.wait_claimed();
        let inner = self.lock_again();
        let resume = waited.map(|()| self.resume(&inner, position));
        (inner, resume)
    }

    /// Waits for data, with the read posted if it may be.
    pub(super) fn wait_for_data(&mut self, mut inner: Locked<'r>) -> (Locked<'r>, Result<Resume>) {
        let pipe = self.pipe;
        inner.stats.read.waits += 1;
        let (ticket, posted) = inner.begin_reader_wait(&mut self.posted_read);
        self.unlock_and_wake(inner);

        trace::wait(pipe.id(), Who::Reader);
        let waited = pipe.rd_wait.wait_exclusive(|| {
            let state = pipe.snapshot();
            state.readable() || (posted && state.occupancy.pushed)
        });
        if waited.is_ok() {
            self.policy.waited();
        }

        let mut inner = pipe.lock_to_read(&mut self.policy);
        let own = inner.end_reader_wait(ticket, posted);
        if posted {
            self.received(own.as_deref().map_or(0, PostedRead::pushed));
            self.posted_read = own;
        }
        let resume = if self.done > 0 {
            // The next bytes in the pipe may not be those that follow: there are other readers.
            Ok(Resume::End)
        } else {
            waited.map(|_| Resume::GoOn)
        };
        (inner, resume)
    }

    /// Faults in the destination: `all` bytes, of which `next` are needed to go on.
    pub(super) fn fault_in(
        &mut self,
        mut inner: Locked<'r>,
        next: usize,
        all: usize,
    ) -> (Locked<'r>, Result<Resume>) {
        inner.stats.read.faults += 1;
        self.retries += 1;
        self.count(&mut inner);
        let position = inner.ring.position();
        self.unlock_and_wake(inner);
        let ready = self.dest.fault_in(all);
        let inner = self.lock_again();

        let resume = self.resume(&inner, position);
        if ready < next || self.retries > FAULT_RETRY_LIMIT {
            (inner, Err(EFAULT))
        } else if killed() {
            (inner, Err(ERESTARTSYS))
        } else {
            self.faulted = true;
            (inner, Ok(resume))
        }
    }
}
