// SPDX-License-Identifier: GPL-2.0-only

//! Slots that a read window shows.
//!
//! They leave the ring, but not the pipe: their places are held until they are read, or come back to the
//! front.

use crate::{
    compat,
    pipe::{Pipe, Request, FRAMES_MOST, HUGE_MOST},
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
    /// None come at the end of the data, or without a wait. Sleeps. Errors, without any: `EAGAIN`, `ERESTARTSYS`,
    /// `ENOBUFS` if there is no room for more: the first is not to be taken, or the caller `shows` something
    /// that writers may wait for to be gone.
    pub(crate) fn claim(
        &self,
        request: Request<'_>,
        waits: bool,
        shows: bool,
        slots: &mut KVec<Slot>,
        mut takes: impl FnMut(&Slot) -> bool,
    ) -> Result {
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
            if inner.ring.used() == 0 && self.huge() >= HUGE_MOST && !slots.is_empty() {
                // There is nothing to be read first any more: who can be copied need not wait.
                turn.emptied(true);
            }
            if !slots.is_empty() || !waits {
                break Ok(());
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
            if inner.ring.used() != 0 {
                break Err(compat::no_buffers());
            }
            if !inner.has_writers() {
                break Ok(());
            }
            // What writers have reserved will be filled, or free.
            let reserved = inner.ring.reserved();
            let frames = self.huge().saturating_sub(reserved.into());
            if shows && (inner.ring.limit() + reserved == 0 || frames >= FRAMES_MOST) {
                break Err(compat::no_buffers());
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

    /// The bytes of so many slots that were claimed are in others now: their places are free. Sleeps, but only for
    /// the lock.
    pub(crate) fn merged(&self, slots: usize) {
        let mut turn = ReaderTurn::default();
        let mut inner = self.lock_to_read(&mut turn);
        for _ in 0..slots {
            turn.emptied(inner.ring.is_full());
            inner.ring.let_go();
        }
        self.leave(inner, &mut turn);
        self.fasync.writers.tell(Event::Output);
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
                    // A frame is home by now.
                    if slot.is_huge() {
                        inner.homes.worth.copied();
                    }
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
