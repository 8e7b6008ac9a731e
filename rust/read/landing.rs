// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that become a reader's memory.
//!
//! Page tables cannot be changed under the pipe's lock. So a reader *claims* the page first: it takes
//! it out of the first slot, which stays where it is and counts as before. Who else wants to read finds
//! the claim and waits for its end, as for the mutex of a pipe(2): or it would read what is behind, and
//! what is refused here would come after that. In the end the slot is gone, or has its page again.

use super::Read;
use crate::{
    lock::{Inner, Locked},
    mm::{self, Dest, HugePage, Scratch},
    slot::{Origin, Slot},
    uapi,
    zcore::gift::{Report, REASONS},
};
use core::mem;

/// How a read deals with huge pages, and what became of them.
pub(crate) struct Landing {
    /// They may become the reader's memory.
    may: bool,
    /// What they replace may be seen by writers.
    returns: bool,
    scratch: Option<Scratch>,
    /// Why the page with this number is copied.
    refused: Option<(u32, usize)>,
    /// It is counted.
    counted: bool,
    /// The number of the page that was looked at last.
    number: u32,
    /// How often it was refused for what may be over.
    tries: u32,
    /// The number of the page for which the reader's memory was found fit.
    fit: Option<u32>,
    /// Bytes that were moved.
    moved: usize,
    /// Bytes of huge pages that were copied.
    copied: usize,
    /// Huge pages that were copied, by the reason.
    why: [u32; REASONS],
}

impl Landing {
    /// For a read that has read nothing yet. It `may` land pages, for which it takes the reader's
    /// mmap_lock; if it `returns` what they replace, writers may see that.
    pub(crate) fn new(may: bool, returns: bool) -> Self {
        Self {
            may,
            returns,
            scratch: None,
            refused: None,
            counted: false,
            number: 0,
            tries: 0,
            fit: None,
            moved: 0,
            copied: 0,
            why: [0; REASONS],
        }
    }

    /// What was read, if that were `done` bytes.
    pub(crate) fn report(&self, done: usize) -> Report {
        let mut report = Report {
            moved: self.moved as u64,
            copied: self.copied as u64,
            why: self.why,
        };
        // What was no huge page in the pipe.
        let rest = done.saturating_sub(self.moved + self.copied);
        report.copied(rest, uapi::REASON_SMALL as usize);
        report
    }

    /// Where the huge page that is next, with this `number`, may become the memory of the reader, who wants
    /// `left` bytes at `dest`; `against` is what the pipe has against it.
    pub(super) fn place(
        &mut self,
        number: u32,
        against: Option<u32>,
        left: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Option<usize> {
        if self.refused.is_some_and(|(refused, _)| refused == number) {
            return None;
        }
        if self.number != number {
            self.tries = 0;
        }
        self.counted = false;
        self.number = number;
        let place = if !self.may {
            Err(uapi::REASON_KERNEL)
        } else if let Some(why) = against {
            Err(why)
        } else if left < HugePage::SIZE {
            Err(uapi::REASON_PART)
        } else {
            dest.huge_page().ok_or(uapi::REASON_PART)
        };
        // CAST: A small number.
        place.map_err(|why| self.refuse(why as usize)).ok()
    }

    /// So many bytes of the huge page that is next were copied.
    pub(super) fn copied(&mut self, bytes: usize) {
        if bytes != 0 && !mem::replace(&mut self.counted, true) {
            if let Some(count) = self.refused.and_then(|(_, why)| self.why.get_mut(why)) {
                *count = count.saturating_add(1);
            }
        }
        self.copied += bytes;
    }

    fn refuse(&mut self, why: usize) {
        self.refused = Some((self.number, why));
    }

    /// Takes what earlier calls have left.
    pub(super) fn take_scratch(&mut self, inner: &mut Inner) {
        if self.scratch.is_none() {
            self.scratch = inner.homes.take_scratch();
        }
    }

    /// Whether the reader's memory at `at` is fit for the page that is next; it is refused if not. Sleeps,
    /// faults, and takes the mmap_lock.
    pub(super) fn probe(&mut self, at: usize) {
        // Before others wait for it.
        if self.scratch.is_none() {
            self.scratch = Scratch::new().ok();
        }
        let scratch = self.scratch.as_ref().map(|_| ());
        match mm::can_land(at).and(scratch.ok_or(uapi::REASON_MEMORY as usize)) {
            Ok(()) => self.fit = Some(self.number),
            Err(why) => self.refuse(why),
        }
    }

    /// Whether that was found.
    pub(super) fn is_fit(&self) -> bool {
        self.fit == Some(self.number)
    }

    /// Puts `page` into the current task's memory at `at`; returns what it replaced. Or it is refused, and
    /// comes back. Sleeps.
    fn try_at(&mut self, at: usize, page: HugePage) -> Result<HugePage, HugePage> {
        let landed = match &mut self.scratch {
            Some(scratch) => mm::exchange(at, page, scratch),
            None => Err((uapi::REASON_MEMORY as usize, page)),
        };
        landed.map_err(|(why, page)| {
            if mm::may_be_over(why) && self.tries < mm::TRIES {
                self.tries += 1;
                self.fit = None;
            } else {
                self.refuse(why);
            }
            page
        })
    }
}

impl Read<'_, '_, '_> {
    /// Tries to have the first slot, a whole huge page, become the reader's memory at `at`. Drops the lock
    /// for that, and returns it. Sleeps.
    pub(super) fn land<'l>(&mut self, mut inner: Locked<'l>, at: usize) -> Locked<'l>
    where
        Self: 'l,
    {
        let pipe = self.pipe;
        let page = match inner.ring.first() {
            Some(Slot::Huge(slot)) => slot.take_page(),
            _ => None,
        };
        let Some(page) = page else { return inner };
        pipe.claimed.write(1);
        self.count(&mut inner);
        self.step_out(inner);

        let landed = self.landing.try_at(at, page);

        let mut inner = if self.done == 0 {
            pipe.lock_to_read(&mut self.turn)
        } else {
            pipe.lock()
        };
        match landed {
            Ok(displaced) => self.landed(&mut inner, displaced),
            Err(page) => {
                // Nobody else has touched it.
                if let Some(Slot::Huge(slot)) = inner.ring.first() {
                    slot.put_page(page);
                }
            }
        }
        let unused = self
            .landing
            .scratch
            .take()
            .and_then(|scratch| inner.homes.put_scratch(scratch));
        // Freed at the end, without the lock.
        self.landing.scratch = unused;
        pipe.claimed.write(0);
        inner.publish_room();
        pipe.claim_wait.wake_all();
        inner
    }

    /// The page of the first slot is the reader's memory now, in place of `displaced`.
    fn landed(&mut self, inner: &mut Locked<'_>, displaced: HugePage) {
        let was_full = inner.ring.is_full();
        self.given(HugePage::SIZE);
        self.landing.moved += HugePage::SIZE;
        inner.stats.moves += 1;
        inner.homes.worth.landed();
        self.turn.emptied(was_full);
        if let Some(Slot::Huge(mut slot)) = inner.ring.pop() {
            slot.put_page(displaced);
            if self.landing.returns && inner.has_writers() {
                slot.set_origin(Origin::Returned);
                inner.homes.put(slot, &mut self.huge);
            } else {
                // Both are freed without the lock.
                self.huge.push(slot);
            }
        }
        self.huge_is_gone(inner);
    }
}
