// SPDX-License-Identifier: GPL-2.0-only

//! Slots that a read window shows.
//!
//! They leave the ring, but not the pipe: their places are held until they are read, or come back to the
//! front.

use crate::{
    pipe::{Pipe, Request, HUGE_MOST},
    slot::{HugeSlots, Slot},
    sync::Event,
    trace::{self, Who},
    zcore::turn::ReaderTurn,
};
use kernel::prelude::*;

impl Pipe {
    /// Takes the first slots out, as long as `takes` says so and `slots` has room, which it has for at least
    /// one. If there are none, and `waits`, waits for some as a read does.
    ///
    /// None come at the end of the data, without a wait, or if the first is not to be taken: returns whether that
    /// is why. Sleeps. Errors, without any: `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn claim(
        &self,
        request: Request<'_>,
        waits: bool,
        slots: &mut KVec<Slot>,
        mut takes: impl FnMut(&Slot) -> bool,
    ) -> Result<bool> {
        let mut turn = ReaderTurn::default();
        let mut inner = self.lock_to_read(&mut turn);
        let result = loop {
            let mut landing = false;
            while slots.len() < slots.capacity() {
                let taken = match inner.ring.first() {
                    Some(Slot::Huge(slot)) if slot.is_claimed() => {
                        landing = true;
                        false
                    }
                    Some(slot) => takes(slot),
                    None => false,
                };
                let slot = if taken { inner.ring.pop_held() } else { None };
                let Some(slot) = slot else { break };
                inner.stats.frames_shown += u64::from(slot.frame().is_some());
                // There is room.
                let _ = slots.push_within_capacity(slot);
            }
            if !slots.is_empty() || !waits {
                break Ok(false);
            }
            if landing {
                // As in a read.
                self.leave(inner, &mut turn);
                let waited = self.claim_wait.wait_killable(|| self.claimed.read() == 0);
                inner = self.lock_to_read(&mut turn);
                if let Err(e) = waited {
                    break Err(e);
                }
                continue;
            }
            if inner.ring.used() != 0 || !inner.has_writers() {
                break Ok(inner.ring.used() != 0);
            }
            if request.nonblock() {
                break Err(EAGAIN);
            }

            inner.stats.read.waits += 1;
            let (ticket, _) = inner.begin_reader_wait(&mut None);
            self.leave(inner, &mut turn);
            trace::wait(self.id(), Who::Reader);
            let waited = self.rd_wait.wait_exclusive(|| self.state().readable());
            if waited.is_ok() {
                turn.waited();
            }
            inner = self.lock_to_read(&mut turn);
            inner.end_reader_wait(ticket, false);
            if let Err(e) = waited {
                break Err(e);
            }
        };
        self.leave(inner, &mut turn);
        result
    }

    /// So many bytes of what was claimed are read, with them all of `slots`. Sleeps, but only for the lock.
    pub(crate) fn consumed(&self, bytes: usize, slots: &mut KVec<Slot>) {
        let mut gone = HugeSlots::new();
        let mut turn = ReaderTurn::default();

        // Frames are home before anybody is told that there is room for others.
        for slot in slots.iter_mut() {
            if let Slot::Huge(slot) = slot {
                drop(slot.take_frame());
            }
        }
        let mut inner = self.lock_to_read(&mut turn);
        inner.stats.read.moved(bytes);
        for slot in slots.drain_all() {
            turn.emptied(inner.ring.is_full());
            inner.ring.let_go();
            match slot {
                Slot::Page(slot) => inner.recycle(slot.into_page()),
                Slot::Huge(slot) => {
                    let pages = self.huge();
                    turn.emptied(pages >= HUGE_MOST);
                    self.set_huge(&inner, pages.saturating_sub(1));
                    if inner.has_writers() {
                        inner.homes.put(slot, &mut gone);
                    } else {
                        gone.push(slot);
                    }
                }
            }
        }
        self.leave(inner, &mut turn);
        gone.free();
        self.fasync.writers.tell(Event::Output);
    }
}
