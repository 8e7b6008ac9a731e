// SPDX-License-Identifier: GPL-2.0-only

//! Slots that a read window brings into view.
//!
//! They leave the ring, but still count against the capacity of the pipe. They are held until they
//! are consumed or return to the front of the ring.

use crate::{
    compat,
    lock::Locked,
    pipe::Pipe,
    request::Request,
    slot::{LargeSlot, LargeSlots, Slot},
    trace::{self, Who},
    zcore::{
        gift::{FRAMES_MAX, HUGE_MAX},
        wakeup::ReaderPolicy,
    },
};
use kernel::{
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// Retry limit for a transfer that must not wait, and has closed the posted write.
const REFILL_TRIES: u32 = 100;

/// Time between two of these retries.
const REFILL_SLEEP: Delta = Delta::from_micros(100);

/// Sends the frames of `slots` home. It does so before writers are woken, so that these find them
/// there.
fn take_frames(slots: &mut KVec<Slot>) {
    for slot in slots.iter_mut() {
        if let Slot::Large(slot) = slot {
            drop(slot.take_frame());
        }
    }
}

impl Pipe {
    /// Takes the first slots out of the ring and adds them to `slots`, as long as `admits` accepts
    /// the next one and `slots` has space. The caller provides space for at least one.
    ///
    /// With `claim`, it claims the front of the pipe: that slot takes the place of all those that
    /// it takes, and has as many bytes. Other readers wait until [`Self::end_front`].
    ///
    /// If it cannot take any, and `waits` is set, it waits for data as a read does. It takes none
    /// at the end of the data, or if it would have to wait and must not. Sleeps.
    ///
    /// Errors, without any slot taken: `EAGAIN`, `ERESTARTSYS`, `EBUSY` if it is to claim the front
    /// of a pipe that has read windows, and `ENOBUFS` if nothing can be added to the view. That is
    /// so if `admits` refuses the first slot. It is also so if the caller already `has_view`, and
    /// writers cannot write before some of that is consumed.
    pub(crate) fn hold(
        &self,
        request: Request<'_>,
        waits: bool,
        has_view: bool,
        slots: &mut KVec<Slot>,
        claim: &mut Option<KBox<LargeSlot>>,
        mut admits: impl FnMut(&Slot) -> bool,
    ) -> Result {
        let mut policy = ReaderPolicy::default();
        let mut inner = self.lock_to_read(&mut policy);
        let result = loop {
            let mut claimed = false;
            if claim.is_some() && inner.windows != 0 {
                // Closing a window would have to wait for the claim.
                break Err(EBUSY);
            }
            while slots.len() < slots.capacity() {
                let admitted = match inner.ring.first() {
                    Some(Slot::Large(slot)) if slot.is_claimed() => {
                        claimed = true;
                        false
                    }
                    Some(slot) => admits(slot),
                    None => false,
                };
                let slot = if admitted {
                    inner.ring.pop_held()
                } else {
                    None
                };
                let Some(slot) = slot else { break };
                if claim.is_none() {
                    inner.stats.frames_shown += u64::from(slot.frame().is_some());
                }
                // The loop has checked that there is space.
                let _ = slots.push_within_capacity(slot);
            }
            if inner.ring.used() == 0 && self.huge() >= HUGE_MAX && !slots.is_empty() {
                // Writers that wait for a huge page to be read can copy instead, because the ring
                // has nothing to read any more.
                policy.slot_emptied(true);
            }
            if let Some(mut claim) = claim.take_if(|_| !slots.is_empty()) {
                claim.stand_for(slots.iter().map(Slot::len).sum());
                inner.ring.return_held(Slot::Large(claim));
                self.claimed.write(1);
            }
            if !slots.is_empty() || !waits {
                break Ok(());
            }
            if claimed {
                // A read waits for the end of the other reader's claim in the same way.
                self.unlock_and_wake(inner, &mut policy);
                let waited = self.wait_claimed();
                inner = self.lock_to_read(&mut policy);
                if let Err(e) = waited {
                    break Err(e);
                }
                continue;
            }
            if inner.ring.used() != 0 {
                break Err(compat::no_buffers());
            }
            if !inner.has_writers() {
                break Ok(());
            }
            // Seats do not count as in view. Their writers fill them or give them up, whatever this
            // reader does.
            let seats = inner.seats();
            let frames = self.huge().saturating_sub(seats.into());
            if has_view && (inner.ring.limit() + inner.ring.reserved() == 0 || frames >= FRAMES_MAX)
            {
                break Err(compat::no_buffers());
            }
            if request.nonblock() {
                break Err(EAGAIN);
            }

            inner.stats.read.waits += 1;
            let (ticket, _) = inner.begin_reader_wait(&mut None);
            self.unlock_and_wake(inner, &mut policy);
            trace::wait(self.id(), Who::Reader);
            let waited = self.rd_wait.wait_exclusive(|| self.snapshot().readable());
            if waited.is_ok() {
                policy.waited();
            }
            inner = self.lock_to_read(&mut policy);
            inner.end_reader_wait(ticket, false);
            if let Err(e) = waited {
                break Err(e);
            }
        };
        self.unlock_and_wake(inner, &mut policy);
        result
    }

    /// Frees `slots` held slots that were in view. Their bytes were appended to other slots in
    /// view. Sleeps, but only for the lock.
    pub(crate) fn merged(&self, slots: usize) {
        let mut policy = ReaderPolicy::default();
        let mut inner = self.lock_to_read(&mut policy);
        for _ in 0..slots {
            policy.slot_emptied(inner.ring.is_full());
            inner.ring.release_held();
        }
        self.finish(inner, &mut policy);
    }

    /// Ends the claim of the front of the pipe. `bytes` bytes of the slots that were taken are
    /// consumed: these emptied the slots `emptied`, which become free. `passed_on` pages of them
    /// went to a socket without a copy. The slots `rest` return to the front, the last one first.
    ///
    /// Returns the slot that stood for all of them. Sleeps, but only for the lock.
    pub(crate) fn end_front(
        &self,
        bytes: usize,
        emptied: &mut KVec<Slot>,
        passed_on: u64,
        rest: &mut KVec<Slot>,
    ) -> Option<KBox<LargeSlot>> {
        let mut gone = LargeSlots::new();
        let mut policy = ReaderPolicy::default();

        take_frames(emptied);
        let mut inner = self.lock_to_read(&mut policy);
        // Nobody else takes a slot that is claimed.
        let claimed = match inner.ring.first() {
            Some(Slot::Large(slot)) if slot.is_claimed() => inner.ring.pop_held(),
            _ => None,
        };
        let claim = match claimed {
            Some(Slot::Large(slot)) => Some(slot),
            _ => None,
        };
        if bytes != 0 {
            inner.stats.read.count(bytes);
            inner.stats.pages_passed_on += passed_on;
        }
        self.free_held(&mut inner, emptied, &mut policy, &mut gone);
        while let Some(slot) = rest.pop() {
            inner.ring.return_held(slot);
        }
        self.end_claim(&inner);
        let wakes = if bytes == 0 {
            ReaderPolicy::pause
        } else {
            ReaderPolicy::end
        };
        self.unlock_reader(inner, &mut policy, &mut gone, wakes);
        claim
    }

    /// Waits a moment for the owner of a posted write that was closed to put bytes into slots. True
    /// if there are some now. Sleeps.
    pub(crate) fn wait_for_refill(&self) -> bool {
        (0..REFILL_TRIES).any(|_| {
            let ready = self.snapshot().readable();
            if !ready {
                fsleep(REFILL_SLEEP);
            }
            ready
        })
    }

    /// Waits until another reader's claim has ended. `ERESTARTSYS` after a fatal signal.
    pub(crate) fn wait_claimed(&self) -> Result {
        self.claim_wait.wait_killable(|| self.claimed.read() == 0)
    }

    /// Makes the first `slots` slots the pipe's own again, as far as nobody else refers to their
    /// pages any more. Sleeps, but only for the lock.
    pub(crate) fn unshare(&self, slots: usize) {
        let mut inner = self.lock();
        for n in 0..inner.ring.used().min(slots as u32) {
            inner.ring.unshare(n);
        }
    }

    /// Frees the held `slots`, which are empty.
    fn free_held(
        &self,
        inner: &mut Locked<'_>,
        slots: &mut KVec<Slot>,
        policy: &mut ReaderPolicy,
        gone: &mut LargeSlots,
    ) {
        for slot in slots.drain_all() {
            policy.slot_emptied(inner.ring.is_full());
            inner.ring.release_held();
            match slot {
                Slot::Page(slot) => inner.recycle(slot.into_page()),
                // Others may still read the page, so it is not used again.
                Slot::Shared(_) => (),
                Slot::Large(slot) => self.retire(inner, slot, policy, gone),
            }
        }
    }

    /// Ends the consumption of `bytes` bytes in held slots. `slots` are those that it emptied: they
    /// become free. Sleeps, but only for the lock.
    pub(crate) fn consumed(&self, bytes: usize, slots: &mut KVec<Slot>) {
        let mut gone = LargeSlots::new();
        let mut policy = ReaderPolicy::default();

        take_frames(slots);
        let mut inner = self.lock_to_read(&mut policy);
        inner.stats.read.count(bytes);
        self.free_held(&mut inner, slots, &mut policy, &mut gone);
        self.unlock_reader(inner, &mut policy, &mut gone, ReaderPolicy::end);
    }
}
