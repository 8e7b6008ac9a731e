// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that become a reader's memory, and small ones where both sides insist.
//!
//! Page tables cannot be changed under the pipe's lock. So a reader *claims* the page first: it takes
//! it out of the first slot, which stays where it is and counts as before. Who else wants to read finds
//! the claim and waits for its end, as for the mutex of a pipe(2): or it would read what is behind, and
//! what is refused here would come after that. In the end the slot is gone, or has its page again.

use super::Read;
use crate::{
    lock::{Inner, Locked},
    mm::{self, Dest, HugePage, Scratch, SmallPages},
    slot::{HugeSlot, Origin, Slot},
    uapi,
    zcore::{
        gift::{Report, REASONS},
        PAGE_SIZE,
    },
};
use core::mem;

/// Small pages that land at once, at most: others wait for that, and each takes a flush and walks of its own.
const LAND_MOST: usize = 64;

/// Where pages may become the reader's memory.
#[derive(Clone, Copy)]
pub(super) struct Place {
    at: usize,
    /// So many small ones; [`None`] for a huge one.
    small: Option<usize>,
}

/// What to do with the next bytes of a huge page, or of small ones.
pub(super) enum Next {
    /// Look whether they can become the reader's memory.
    Probe(Place),
    /// They can, as it seems.
    Land(Place),
    /// Copy so many, or what there is of that.
    Copy(usize),
}

/// Which page: the number of its slot, and the bytes before it.
type Key = (u32, usize);

/// Bytes that are to be copied.
#[derive(Clone, Copy)]
struct Refused {
    /// The number of their slot.
    number: u32,
    /// Where in it they end.
    until: usize,
    why: usize,
}

/// How a read deals with huge pages, and what became of them.
pub(crate) struct Landing {
    /// They may become the reader's memory.
    may: bool,
    /// What they replace may be seen by writers.
    returns: bool,
    /// Small pages are to become the reader's memory, too.
    small: bool,
    scratch: Option<Scratch>,
    refused: Option<Refused>,
    /// It is counted.
    counted: bool,
    /// The page that was looked at last.
    key: Key,
    /// How often it was refused for what may be over.
    tries: u32,
    /// The page for which the reader's memory was found fit, and that of how many more if they are small.
    fit: Option<(Key, usize)>,
    /// Small pages to be refused when one is at last.
    run: usize,
    /// Bytes that were moved.
    moved: usize,
    /// Bytes of huge pages that were copied.
    copied: usize,
    /// Huge pages that were copied, by the reason.
    why: [u32; REASONS],
}

impl Landing {
    /// For a read that has read nothing yet. It `may` land pages, for which it takes the reader's
    /// mmap_lock; if it `returns` what they replace, writers may see that. Small pages may land, too, if it
    /// is to deal with these: `small`.
    pub(crate) fn new(may: bool, returns: bool, small: bool) -> Self {
        Self {
            may,
            returns,
            small,
            scratch: None,
            refused: None,
            counted: false,
            key: (0, 0),
            tries: 0,
            fit: None,
            run: 1,
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

    /// What to do with what is left in `slot`, the next one, which has this `number`. The reader wants `left` bytes
    /// at `dest`; `buffer_only` is the flag of the pipe.
    pub(super) fn next(
        &mut self,
        number: u32,
        slot: &HugeSlot,
        buffer_only: bool,
        left: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Next {
        let key = (number, slot.offset());
        if let Some(bytes) = self.to_copy(key) {
            return Next::Copy(bytes);
        }
        if self.key != key {
            self.tries = 0;
        }
        self.counted = false;
        self.key = key;
        let place = if slot.frame().is_some() {
            Err((uapi::REASON_WINDOW, slot.len()))
        } else if !self.may {
            Err((uapi::REASON_KERNEL, slot.len()))
        } else if buffer_only {
            Err((uapi::REASON_BUFFER_ONLY, slot.len()))
        } else {
            self.place(slot, left, dest)
        };
        match place {
            Ok(place) if self.fit.is_some_and(|(fit, _)| fit == key) => Next::Land(place),
            Ok(place) => Next::Probe(place),
            Err((why, bytes)) => {
                // CAST: A small number.
                self.refuse(bytes, why as usize);
                Next::Copy(bytes)
            }
        }
    }

    /// Bytes from there on that are known to be refused, if any.
    fn to_copy(&self, (number, offset): Key) -> Option<usize> {
        let refused = self.refused.filter(|refused| refused.number == number)?;
        refused
            .until
            .checked_sub(offset)
            .filter(|bytes| *bytes != 0)
    }

    /// Where it may become the reader's memory; or why it cannot, and for how many bytes that is so.
    fn place(
        &self,
        slot: &HugeSlot,
        left: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Result<Place, (u32, usize)> {
        if !slot.is_small() {
            return match dest.huge_page() {
                Some(at) if slot.is_whole() && left >= HugePage::SIZE => {
                    Ok(Place { at, small: None })
                }
                _ => Err((uapi::REASON_PART, slot.len())),
            };
        }
        if !self.small {
            return Err((uapi::REASON_SMALL, slot.len()));
        }
        let Some((at, bytes)) = dest.user_memory() else {
            return Err((uapi::REASON_PART, slot.len()));
        };
        let bytes = bytes.min(left).min(slot.len());
        let to_next = slot.part() % PAGE_SIZE;
        if at.wrapping_add(to_next) % PAGE_SIZE != 0 {
            // No page of this range is aligned with one of the slot's.
            Err((uapi::REASON_PART, bytes))
        } else if to_next != 0 || bytes < PAGE_SIZE {
            Err((uapi::REASON_PART, slot.part().min(bytes)))
        } else {
            let small = Some(LAND_MOST.min(bytes / PAGE_SIZE));
            Ok(Place { at, small })
        }
    }

    /// So many bytes of what is next were copied.
    pub(super) fn copied(&mut self, bytes: usize) {
        if bytes != 0 && !mem::replace(&mut self.counted, true) {
            if let Some(count) = self
                .refused
                .and_then(|refused| self.why.get_mut(refused.why))
            {
                *count = count.saturating_add(1);
            }
        }
        self.copied += bytes;
    }

    /// The next `bytes` bytes are to be copied.
    fn refuse(&mut self, bytes: usize, why: usize) {
        let (number, offset) = self.key;
        self.refused = Some(Refused {
            number,
            until: offset + bytes,
            why,
        });
    }

    /// Takes what earlier calls have left.
    pub(super) fn take_scratch(&mut self, inner: &mut Inner) {
        if self.scratch.is_none() {
            self.scratch = inner.homes.take_scratch();
        }
    }

    /// Looks whether the reader's memory at `place` is fit for what is next; it is refused if not. Sleeps,
    /// faults, and takes the mmap_lock.
    pub(super) fn probe(&mut self, place: Place) {
        // Before others wait for it.
        if self.scratch.is_none() {
            self.scratch = Scratch::new().ok();
        }
        // The result counts small pages: a huge page is as many as it has room for.
        const HUGE: usize = HugePage::SIZE / PAGE_SIZE;
        let result = match (&mut self.scratch, place.small) {
            (None, small) => Err((uapi::REASON_MEMORY as usize, small.unwrap_or(HUGE))),
            (Some(_), None) => mm::can_land(place.at)
                .map(|()| HUGE)
                .map_err(|why| (why, HUGE)),
            (Some(scratch), Some(pages)) => mm::small_run(place.at, pages, true, scratch),
        };
        match result {
            Ok(run) => self.fit = Some((self.key, run)),
            Err((why, run)) => self.refuse(run * PAGE_SIZE, why),
        }
    }

    /// What is next did not land, for this reason: `bytes` of it are refused, or it is to be tried again.
    /// Says whether it is refused.
    fn not_landed(&mut self, bytes: usize, why: usize) -> bool {
        let again = mm::may_be_over(why) && self.tries < mm::TRIES;
        if again {
            self.tries += 1;
            self.fit = None;
        } else {
            self.refuse(bytes, why);
        }
        !again
    }

    /// Puts `page` into the current task's memory at `at`; returns what it replaced. Or it is refused, and
    /// comes back. Sleeps.
    fn try_at(&mut self, at: usize, page: HugePage) -> Result<HugePage, HugePage> {
        let landed = match &mut self.scratch {
            Some(scratch) => mm::exchange(at, page, scratch),
            None => Err((uapi::REASON_MEMORY as usize, page)),
        };
        landed.map_err(|(why, page)| {
            self.not_landed(HugePage::SIZE, why);
            page
        })
    }

    /// Puts small pages from number `from` on into the current task's memory at `at`; returns how many. What they
    /// replaced is freed. At most `most` are wanted. Sleeps.
    fn try_small(&mut self, at: usize, most: usize, from: usize, pages: &mut SmallPages) -> usize {
        let fit = self.fit.map_or(0, |(_, run)| run);
        let Some(scratch) = &mut self.scratch else {
            self.refuse(PAGE_SIZE, uapi::REASON_MEMORY as usize);
            return 0;
        };
        let (landed, why) = pages.exchange(from, at, most.min(fit), scratch);
        if landed == 0 {
            let run = (pages.len() - from).min(self.run);
            if self.not_landed(run * PAGE_SIZE, why) {
                // Each of those behind it costs as much to find out.
                self.run = 2 * run;
            }
            return 0;
        }
        self.run = 1;
        pages.remove(from, landed);
        self.moved += landed * PAGE_SIZE;
        landed
    }
}

/// What a reader has claimed.
enum Claim {
    Huge(HugePage),
    /// From the page with this number on.
    Small(SmallPages, usize),
}

/// What it was replaced by.
enum Landed {
    /// This page, or it is back.
    Huge(Result<HugePage, HugePage>),
    /// So many have landed.
    Small(SmallPages, usize),
}

impl Read<'_, '_, '_> {
    /// Tries to have the first slot, a whole huge page, or some small pages of it, become the reader's memory at
    /// `place`. Drops the lock for that, and returns it. Sleeps.
    pub(super) fn land<'l>(&mut self, mut inner: Locked<'l>, place: Place) -> Locked<'l>
    where
        Self: 'l,
    {
        let pipe = self.pipe;
        let claim = match (inner.ring.first(), place.small) {
            (Some(Slot::Huge(slot)), None) => slot.take_page().map(Claim::Huge),
            (Some(Slot::Huge(slot)), Some(_)) => {
                let from = slot.offset() / PAGE_SIZE;
                slot.take_small().map(|pages| Claim::Small(pages, from))
            }
            _ => None,
        };
        let Some(claim) = claim else { return inner };
        pipe.claimed.write(1);
        self.count(&mut inner);
        self.step_out(inner);

        let landed = match claim {
            Claim::Huge(page) => Landed::Huge(self.landing.try_at(place.at, page)),
            Claim::Small(mut pages, from) => {
                let most = place.small.unwrap_or(0);
                let landed = self.landing.try_small(place.at, most, from, &mut pages);
                Landed::Small(pages, landed)
            }
        };

        let mut inner = self.lock_again();
        // Nobody else has touched it.
        match (landed, inner.ring.first()) {
            (Landed::Huge(Ok(displaced)), _) => self.landed(&mut inner, displaced),
            (Landed::Huge(Err(page)), Some(Slot::Huge(slot))) => slot.put_page(page),
            (Landed::Small(pages, landed), Some(Slot::Huge(slot))) => {
                slot.put_small(pages, landed);
                let empty = slot.len() == 0;
                self.given(landed * PAGE_SIZE);
                inner.stats.small_moves += landed as u64;
                if empty {
                    self.retire_small(&mut inner);
                }
            }
            // Both are freed with the lock held, but that does not come to pass.
            _ => (),
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

    /// All small pages of the first slot are the reader's memory now.
    fn retire_small(&mut self, inner: &mut Locked<'_>) {
        self.turn.emptied(inner.ring.is_full());
        if let Some(Slot::Huge(slot)) = inner.ring.pop() {
            // It is freed without the lock.
            self.huge.push(slot);
        }
        self.huge_is_gone(inner);
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
