// SPDX-License-Identifier: GPL-2.0-only

//! Gifts of small pages, which happen only with `ZPIPE_SMALL`.
//!
//! One slot takes many pages at once. Their replacements are newly allocated and cleared. Keeping
//! pages that were read as replacements would save only a small part of the cost of such a gift.

use super::{reason, Gift, Payload, Seat};
use crate::{
    mm::{self, SmallPages},
    slot::Kind,
    zcore::{gift::small_pages, PAGE_SIZE},
};
use kernel::prelude::*;

/// The result of an attempt to gift the first of several pages.
enum FirstPages {
    /// This number of pages was gifted.
    Gifted(usize),
    /// This number of pages must be copied, for this reason.
    Copy(usize, usize),
    /// The first page was refused after all retries, for this reason.
    Refused(usize),
    /// The bytes that had to be copied before these pages were not all written.
    Stopped,
}

impl Gift<'_> {
    /// Writes a piece without a huge page that can be gifted. Gifts its small pages, as far as they
    /// can be gifted, and leaves all other bytes to be copied later. Returns false if the call has
    /// to stop.
    ///
    /// A piece without a small page to try counts as refused for `reason`. Otherwise each part that
    /// is copied has a reason of its own.
    pub(super) fn write_part(&mut self, at: usize, bytes: usize, reason: usize) -> Result<bool> {
        let (before, mut pages) = match self.small {
            // A packet is copied, because it must not be split.
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
        // The number of pages to copy after the next refusal. It doubles with each refusal in a
        // row, because each further page costs as much to try.
        let mut refused = 1;
        while pages != 0 {
            if !self.may_continue()? {
                return Ok(false);
            }
            let (step, why) = match self.gift_first(at, pages)? {
                FirstPages::Stopped => return Ok(false),
                FirstPages::Gifted(step) => {
                    refused = 1;
                    (step, None)
                }
                FirstPages::Copy(step, why) => (step, Some(why)),
                FirstPages::Refused(why) => {
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

    /// Gifts the first of the `pages` pages at `at`, as many as one slot takes.
    fn gift_first(&mut self, at: usize, pages: usize) -> Result<FirstPages> {
        let mut tries = 0;
        loop {
            let max = match self.small_refusal(at, pages) {
                Ok(max) => max,
                Err((why, run)) => return Ok(FirstPages::Copy(run, why)),
            };
            let Ok(with) = SmallPages::with_capacity(max) else {
                return Ok(FirstPages::Copy(max, reason::MEMORY));
            };
            if !self.copy()? {
                return Ok(FirstPages::Stopped);
            }
            match self.gift_small(at, with)? {
                Ok(moved) => return Ok(FirstPages::Gifted(moved)),
                Err(why) if mm::is_transient(why) && tries < mm::TRIES => tries += 1,
                Err(why) => return Ok(FirstPages::Refused(why)),
            }
        }
    }

    /// Checks, as far as possible without a seat, how many pages at `at` can be gifted. Returns at
    /// least one. The error is a reason, and the number of pages that have to be copied for it.
    fn small_refusal(&mut self, at: usize, pages: usize) -> Result<usize, (usize, usize)> {
        if self.request.kind() == Kind::Packet {
            return Err((reason::PACKET, pages));
        }
        if self.pipe.is_buffer_only() {
            return Err((reason::BUFFER_ONLY, pages));
        }
        self.prepare().map_err(|why| (why, pages))?;
        match &mut self.scratch {
            Some(scratch) => mm::small_run(at, pages, false, scratch),
            None => Err((reason::MEMORY, pages)),
        }
    }

    /// Gifts pages at `at`, at most as many as `with` has space for, and returns their number. The
    /// inner error is the reason why the first of them was refused.
    fn gift_small(&mut self, at: usize, mut with: SmallPages) -> Result<Result<usize, usize>> {
        let seat = match Seat::wait(self.pipe, self.request, Payload::Small(with.len()))? {
            Ok(seat) => seat,
            Err(why) => return Ok(Err(why)),
        };
        let (Some(mut slot), Some(mut scratch)) = (self.empty_slot.take(), self.scratch.take())
        else {
            seat.give_up();
            return Ok(Err(reason::MEMORY));
        };
        if let Err(why) = self.credit(&mut slot) {
            self.scratch = Some(scratch);
            seat.give_up();
            return Ok(Err(why));
        }

        // The replacements are allocated only when they are charged. So a writer that waits for a
        // seat has none.
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
