// SPDX-License-Identifier: GPL-2.0-only

//! Gifts of small pages, for who insists: see `ZPIPE_SMALL`.
//!
//! Many leave the writer's memory at once, and come into one slot. What takes their place is new, and
//! cleared: to keep pages that were read would save the least of what this costs.

use super::{reason, Gift, Seat, What};
use crate::{
    mm::{self, SmallPages},
    slot::Kind,
    zcore::{gift::small_pages, PAGE_SIZE},
};
use kernel::prelude::*;

/// What became of the first of some pages.
enum First {
    /// So many left.
    Moved(usize),
    /// So many are to be copied, for this reason.
    Copy(usize, usize),
    /// It was refused at last, for this reason.
    Refused(usize),
    /// What was to be copied before was not all written.
    Stopped,
}

impl Gift<'_> {
    /// Has the small pages in a piece without a huge page leave the memory they are in, if they may, and the rest be
    /// copied later, as what was refused for this `reason`; false if something came in between.
    pub(super) fn part(&mut self, at: usize, bytes: usize, reason: usize) -> Result<bool> {
        let (before, mut pages) = match self.small {
            // Packets are of any parts, and not to be cut.
            true if self.request.kind() == Kind::Packet => {
                self.copy_later(at, bytes, reason::PACKET)?;
                return Ok(true);
            }
            true => small_pages(at, bytes),
            false => (0, 0),
        };
        if pages == 0 {
            self.copy_later(at, bytes, reason)?;
            return Ok(true);
        }
        if before != 0 {
            self.copy_later(at, before, reason::PART)?;
        }

        let end = at.wrapping_add(bytes);
        let mut at = at.wrapping_add(before);
        // Pages to be copied when one is refused at last: more and more, since each of those behind it costs
        // as much to find out.
        let mut refused = 1;
        while pages != 0 {
            if !self.goes_on()? {
                return Ok(false);
            }
            let (step, why) = match self.first_of(at, pages)? {
                First::Stopped => return Ok(false),
                First::Moved(step) => {
                    refused = 1;
                    (step, None)
                }
                First::Copy(step, why) => (step, Some(why)),
                First::Refused(why) => {
                    refused *= 2;
                    (pages.min(refused / 2), Some(why))
                }
            };
            if let Some(why) = why {
                self.copy_later(at, step * PAGE_SIZE, why)?;
                if self.ranges.is_full() && !self.copy()? {
                    return Ok(false);
                }
            }
            at = at.wrapping_add(step * PAGE_SIZE);
            pages -= step;
        }
        match end.wrapping_sub(at) {
            0 => (),
            rest => self.copy_later(at, rest, reason::PART)?,
        }
        Ok(true)
    }

    /// Moves the first of `pages` pages at `at` into the pipe, as many as go at once.
    fn first_of(&mut self, at: usize, pages: usize) -> Result<First> {
        let mut tries = 0;
        loop {
            let most = match self.small_refusal(at, pages) {
                Ok(most) => most,
                Err((why, run)) => return Ok(First::Copy(run, why)),
            };
            let Ok(with) = SmallPages::with_room(most) else {
                return Ok(First::Copy(most, reason::MEMORY));
            };
            if !self.copy()? {
                return Ok(First::Stopped);
            }
            match self.small_moved(at, with)? {
                Ok(moved) => return Ok(First::Moved(moved)),
                Err(why) if mm::may_be_over(why) && tries < mm::TRIES => tries += 1,
                Err(why) => return Ok(First::Refused(why)),
            }
        }
    }

    /// How many pages at `at` seem to be fit, at least one; or why so many are copied, as far as can be told
    /// beforehand.
    fn small_refusal(&mut self, at: usize, pages: usize) -> Result<usize, (usize, usize)> {
        if self.request.kind() == Kind::Packet {
            return Err((reason::PACKET, pages));
        }
        if self.pipe.is_buffer_only() {
            return Err((reason::BUFFER_ONLY, pages));
        }
        self.provide().map_err(|why| (why, pages))?;
        match &mut self.scratch {
            Some(scratch) => mm::small_run(at, pages, false, scratch),
            None => Err((reason::MEMORY, pages)),
        }
    }

    /// Moves pages at `at` into the pipe, as many as `with` has room for; or says why not the first one.
    fn small_moved(&mut self, at: usize, mut with: SmallPages) -> Result<Result<usize, usize>> {
        let seat = match Seat::wait(self.pipe, self.request, What::Small(with.len()))? {
            Ok(seat) => seat,
            Err(why) => return Ok(Err(why)),
        };
        let (Some(mut slot), Some(mut scratch)) = (self.fresh.take(), self.scratch.take()) else {
            seat.give_up();
            return Ok(Err(reason::MEMORY));
        };
        if let Err(why) = self.credit(&mut slot) {
            self.scratch = Some(scratch);
            seat.give_up();
            return Ok(Err(why));
        }

        // Only now, when they are counted: who waits has none.
        let pages = with.fill(at);
        if pages == 0 {
            self.scratch = Some(scratch);
            seat.give_up();
            return Ok(Err(reason::MEMORY));
        }
        let (pages, why) = with.exchange(0, at, pages, &mut scratch);
        self.scratch = Some(scratch);
        if pages == 0 {
            seat.give_up();
            return Ok(Err(why));
        }
        with.truncate(pages);
        slot.fill_small(with);
        seat.fill(slot);
        self.report.moved(pages * PAGE_SIZE);
        Ok(Ok(pages))
    }
}
