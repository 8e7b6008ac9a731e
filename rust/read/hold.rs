// SPDX-License-Identifier: GPL-2.0-only

//! Slots that a read window brings into view.
//!
//! They leave the ring, but still count against the capacity of the pipe. They are held until they
//! are consumed or return to the front of the ring.

use crate::{
    compat,
    pipe::Pipe,
    request::Request,
    slot::{LargeSlots, Slot},
    trace::{self, Who},
    zcore::{
        gift::{FRAMES_MAX, HUGE_MAX},
        wakeup::ReaderPolicy,
    },
};
use kernel::prelude::*;

impl Pipe {
    /// Takes the first slots out of the ring and adds them to `slots`, as long as `admits` accepts
    /// the next one and `slots` has space. The caller provides space for at least one.
    ///
    /// If it cannot take any, and `waits` is set, it waits for data as a read does. It takes none
    /// at the end of the data, or if it would have to wait and must not. Sleeps.
    ///
    /// Errors, without any slot taken: `EAGAIN`, `ERESTARTSYS`, and `ENOBUFS` if nothing can be
    /// added to the view. That is so if `admits` refuses the first slot. It is also so if the
    /// caller already `has_view`, and writers cannot write before some of that is consumed.
    pub(crate) fn hold(
        &self,
        request: Request<'_>,
        waits: bool,
        has_view: bool,
        slots: &mut KVec<Slot>,
        mut admits: impl FnMut(&Slot) -> bool,
    ) -> Result {
        let mut policy = ReaderPolicy::default();
        let mut inner = self.lock_to_read(&mut policy);
        let result = loop {
            let mut claimed = false;
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
                inner.stats.frames_shown += u64::from(slot.frame().is_some());
                // The loop has checked that there is space.
                let _ = slots.push_within_capacity(slot);
            }
            if inner.ring.used() == 0 && self.huge() >= HUGE_MAX && !slots.is_empty() {
                // Writers that wait for a huge page to be read can copy instead, because the ring
                // has nothing to read any more.
                policy.slot_emptied(true);
            }
            if !slots.is_empty() || !waits {
                break Ok(());
            }
            if claimed {
                // A read waits for the end of the other reader's claim in the same way.
                self.unlock_and_wake(inner, &mut policy);
                let waited = self.claim_wait.wait_killable(|| self.claimed.read() == 0);
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
            let reserved = inner.ring.reserved();
            let frames = self.huge().saturating_sub(reserved.into());
            if has_view && (inner.ring.limit() + reserved == 0 || frames >= FRAMES_MAX) {
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

    /// Ends the consumption of `bytes` bytes in held slots. `slots` are those that it emptied: they
    /// become free. `passed_on` pages of the bytes went to a socket without a copy. Sleeps, but
    /// only for the lock.
    pub(crate) fn consumed(&self, bytes: usize, slots: &mut KVec<Slot>, passed_on: u64) {
        let mut gone = LargeSlots::new();
        let mut policy = ReaderPolicy::default();

        // The frames go home before writers are woken, so that these find them there.
        for slot in slots.iter_mut() {
            if let Slot::Large(slot) = slot {
                drop(slot.take_frame());
            }
        }
        let mut inner = self.lock_to_read(&mut policy);
        inner.stats.read.count(bytes);
        inner.stats.pages_passed_on += passed_on;
        for slot in slots.drain_all() {
            policy.slot_emptied(inner.ring.is_full());
            inner.ring.release_held();
            match slot {
                Slot::Page(slot) => inner.recycle(slot.into_page()),
                // Others may still read the page, so it is not used again.
                Slot::Shared(_) => (),
                Slot::Large(slot) => self.retire(&mut inner, slot, &mut policy, &mut gone),
            }
        }
        self.unlock_reader(inner, &mut policy, &mut gone, ReaderPolicy::end);
    }
}
