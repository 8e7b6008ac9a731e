// SPDX-License-Identifier: GPL-2.0-only

//! Moves: huge pages that become a reader's memory, and small pages if both sides gave
//! `ZPIPE_SMALL`.
//!
//! Page tables cannot be changed under the inner lock. So a reader *claims* the page first: it
//! takes the page out of the first slot. The slot stays where it is and counts as before.
//!
//! Other readers find the claim and wait for its end, as they would wait for the mutex of a
//! pipe(2). Otherwise they would read the slots behind this one, and a page that is refused here
//! would come after those. When the claim ends, the slot is gone or has its page again.

use super::Read;
use crate::{
    lock::{Inner, Locked},
    mm::{self, Dest, HugePage, Scratch, SmallPages},
    slot::{LargeSlot, Origin, Slot},
    uapi,
    zcore::{
        gift::{Report, REASONS},
        PAGE_SIZE,
    },
};
use core::mem;

/// The maximum number of small pages that are moved at once. Other readers wait meanwhile, and each
/// page needs a TLB flush and page table walks of its own.
const MOVE_MAX: usize = 64;

/// The memory of the reader that a page may be moved to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    at: usize,
    /// The number of small pages; [`None`] for a huge page.
    small: Option<usize>,
}

/// The next step of a read whose first slot is a [`LargeSlot`].
pub(super) enum Next {
    /// Probe whether they can be moved to this memory.
    Probe(Target),
    /// Move them to this memory. The probe found it suitable.
    MoveIn(Target),
    /// Copy at most this number of bytes.
    Copy(usize),
}

/// The position of a page: the number of its slot, and the bytes before it in that slot.
type Key = (u32, usize);

/// Bytes of a slot that have to be copied.
#[derive(Clone, Copy)]
struct Refused {
    /// The number of the slot.
    number: u32,
    /// The offset in the slot at which they end.
    until: usize,
    why: usize,
}

/// The rules of one read for moves, their state, and the counters for its report.
pub(crate) struct Moves {
    /// Pages may be moved.
    allowed: bool,
    /// `ZPIPE_RETURN`: writers may see the pages that the moved ones displace.
    returns: bool,
    /// `ZPIPE_SMALL`: small pages may be moved, too.
    small: bool,
    scratch: Option<Scratch>,
    refused: Option<Refused>,
    /// The bytes in `refused` are already counted in `why`.
    counted: bool,
    /// The position that [`Self::next`] looked at last.
    key: Key,
    /// The number of transient refusals at that position.
    tries: u32,
    /// The position for which the probe found the reader's memory suitable, and the number of small
    /// pages that this holds for.
    fit: Option<(Key, usize)>,
    /// The number of small pages to refuse when the next one is refused. It doubles with each
    /// refusal in a row.
    run: usize,
    /// Bytes that were moved.
    moved: usize,
    /// Bytes of huge pages, small pages and frames that were copied.
    copied: usize,
    /// The number of refusals after which bytes were copied, by the reason.
    why: [u32; REASONS],
}

impl Moves {
    /// For a read that has read nothing yet.
    ///
    /// If pages may be moved (`allowed`), the read takes the reader's mmap_lock for that. If it
    /// `returns` the displaced pages, writers may see them. Small pages are moved only if `small`
    /// is set, for callers that accept their cost.
    pub(crate) fn new(allowed: bool, returns: bool, small: bool) -> Self {
        Self {
            allowed,
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

    /// The report of a read that has read `done` bytes.
    pub(crate) fn report(&self, done: usize) -> Report {
        let mut report = Report {
            moved: self.moved as u64,
            copied: self.copied as u64,
            why: self.why,
        };
        // Bytes of pages of the pipe's own, and of direct transfers.
        let rest = done.saturating_sub(self.moved + self.copied);
        report.copied(rest, uapi::REASON_SMALL as usize);
        report
    }

    /// Decides what to do with the rest of `slot`, the first slot, which has this `number`. The
    /// reader wants `left` bytes at `dest`. `buffer_only` is the flag of the pipe.
    pub(super) fn next(
        &mut self,
        number: u32,
        slot: &LargeSlot,
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
        let target = if slot.frame().is_some() {
            Err((uapi::REASON_WINDOW, slot.len()))
        } else if !self.allowed {
            Err((uapi::REASON_KERNEL, slot.len()))
        } else if buffer_only {
            Err((uapi::REASON_BUFFER_ONLY, slot.len()))
        } else {
            self.target(slot, left, dest)
        };
        match target {
            Ok(target) if self.fit.is_some_and(|(fit, _)| fit == key) => Next::MoveIn(target),
            Ok(target) => Next::Probe(target),
            Err((why, bytes)) => {
                // CAST: Reasons are small numbers.
                self.refuse(bytes, why as usize);
                Next::Copy(bytes)
            }
        }
    }

    /// The number of bytes from this position on that are known to be refused, if there are any.
    fn to_copy(&self, (number, offset): Key) -> Option<usize> {
        let refused = self.refused.filter(|refused| refused.number == number)?;
        refused
            .until
            .checked_sub(offset)
            .filter(|bytes| *bytes != 0)
    }

    /// The memory that the next page or pages can be moved to. The error is the reason why there is
    /// none, and the number of bytes that it holds for.
    fn target(
        &self,
        slot: &LargeSlot,
        left: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Result<Target, (u32, usize)> {
        if !slot.is_small() {
            return match dest.huge_page() {
                Some(at) if slot.is_whole() && left >= HugePage::SIZE => {
                    Ok(Target { at, small: None })
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
            // The reader's buffer and the pages of the slot have different offsets from a page
            // boundary, so none of these pages can be moved.
            Err((uapi::REASON_PART, bytes))
        } else if to_next != 0 || bytes < PAGE_SIZE {
            Err((uapi::REASON_PART, slot.part().min(bytes)))
        } else {
            let small = Some(MOVE_MAX.min(bytes / PAGE_SIZE));
            Ok(Target { at, small })
        }
    }

    /// Counts `bytes` bytes that were copied from the position of the last [`Self::next`]. The
    /// reason is counted once for each refusal.
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

    /// Refuses the next `bytes` bytes: they have to be copied.
    fn refuse(&mut self, bytes: usize, why: usize) {
        let (number, offset) = self.key;
        self.refused = Some(Refused {
            number,
            until: offset + bytes,
            why,
        });
    }

    /// Takes scratch memory that an earlier call left in the pipe.
    pub(super) fn take_scratch(&mut self, inner: &mut Inner) {
        if self.scratch.is_none() {
            self.scratch = inner.homes.take_scratch();
        }
    }

    /// Probes whether the next page or pages can be moved to `target`, and refuses them if not.
    /// Sleeps, faults, and takes the mmap_lock.
    pub(super) fn probe(&mut self, target: Target) {
        // Allocated here, because other readers wait while a claim lasts.
        if self.scratch.is_none() {
            self.scratch = Scratch::new().ok();
        }
        // The result counts small pages. A huge page counts as the number of small pages of its
        // size.
        const HUGE: usize = HugePage::SIZE / PAGE_SIZE;
        let result = match (&mut self.scratch, target.small) {
            (None, small) => Err((uapi::REASON_MEMORY as usize, small.unwrap_or(HUGE))),
            (Some(_), None) => mm::can_move_in(target.at)
                .map(|()| HUGE)
                .map_err(|why| (why, HUGE)),
            (Some(scratch), Some(pages)) => mm::small_run(target.at, pages, true, scratch),
        };
        match result {
            Ok(run) => self.fit = Some((self.key, run)),
            Err((why, run)) => self.refuse(run * PAGE_SIZE, why),
        }
    }

    /// Notes that a move failed for this reason. It refuses `bytes` bytes and returns true, unless
    /// the reason is transient and the retry limit is not reached.
    fn not_moved(&mut self, bytes: usize, why: usize) -> bool {
        let again = mm::is_transient(why) && self.tries < mm::TRIES;
        if again {
            self.tries += 1;
            self.fit = None;
        } else {
            self.refuse(bytes, why);
        }
        !again
    }

    /// Moves `page` to `at` in the current task's memory, and returns the page that it displaced.
    /// If the move fails, the error is `page` itself. Sleeps.
    fn try_huge(&mut self, at: usize, page: HugePage) -> Result<HugePage, HugePage> {
        let moved_in = match &mut self.scratch {
            Some(scratch) => mm::exchange(at, page, scratch),
            None => Err((uapi::REASON_MEMORY as usize, page)),
        };
        moved_in.map_err(|(why, page)| {
            self.not_moved(HugePage::SIZE, why);
            page
        })
    }

    /// Moves small pages, from number `from` on, to `at` in the current task's memory. It moves at
    /// most `max`, returns how many it moved, and frees the pages that they displaced. Sleeps.
    fn try_small(&mut self, at: usize, max: usize, from: usize, pages: &mut SmallPages) -> usize {
        let fit = self.fit.map_or(0, |(_, run)| run);
        let Some(scratch) = &mut self.scratch else {
            self.refuse(PAGE_SIZE, uapi::REASON_MEMORY as usize);
            return 0;
        };
        let (moved_in, why) = pages.exchange(from, at, max.min(fit), scratch);
        if moved_in == 0 {
            let run = (pages.len() - from).min(self.run);
            if self.not_moved(run * PAGE_SIZE, why) {
                // Each further page costs as much to try, so more pages are refused at once.
                self.run = 2 * run;
            }
            return 0;
        }
        self.run = 1;
        pages.remove(from, moved_in);
        self.moved += moved_in * PAGE_SIZE;
        moved_in
    }
}

/// The pages that a reader has claimed.
enum Claim {
    Huge(HugePage),
    /// Small pages, of which those from this number on have not been read.
    Small(SmallPages, usize),
}

/// The result of a claim.
enum MoveResult {
    /// The page that the moved one displaced. The error is the claimed page, which was refused.
    Huge(Result<HugePage, HugePage>),
    /// The small pages that remain, and the number of pages that were moved.
    Small(SmallPages, usize),
}

impl Read<'_, '_, '_> {
    /// Claims the huge page of the first slot, or its small pages, and tries to move them to
    /// `target`. Drops the lock for that and returns with the lock held. Sleeps.
    pub(super) fn move_in<'l>(&mut self, mut inner: Locked<'l>, target: Target) -> Locked<'l>
    where
        Self: 'l,
    {
        let pipe = self.pipe;
        let claim = match (inner.ring.first(), target.small) {
            (Some(Slot::Large(slot)), None) => slot.take_page().map(Claim::Huge),
            (Some(Slot::Large(slot)), Some(_)) => {
                let from = slot.offset() / PAGE_SIZE;
                slot.take_small().map(|pages| Claim::Small(pages, from))
            }
            _ => None,
        };
        let Some(claim) = claim else { return inner };
        pipe.claimed.write(1);
        self.count(&mut inner);
        self.unlock_briefly(inner);

        let moved_in = match claim {
            Claim::Huge(page) => MoveResult::Huge(self.moves.try_huge(target.at, page)),
            Claim::Small(mut pages, from) => {
                let max = target.small.unwrap_or(0);
                let moved_in = self.moves.try_small(target.at, max, from, &mut pages);
                MoveResult::Small(pages, moved_in)
            }
        };

        let mut inner = self.lock_again();
        // The first slot is still the same: other readers wait for the end of the claim.
        match (moved_in, inner.ring.first()) {
            (MoveResult::Huge(Ok(displaced)), _) => self.moved_in(&mut inner, displaced),
            (MoveResult::Huge(Err(page)), Some(Slot::Large(slot))) => slot.put_page(page),
            (MoveResult::Small(pages, moved_in), Some(Slot::Large(slot))) => {
                slot.put_small(pages, moved_in);
                let empty = slot.len() == 0;
                self.received(moved_in * PAGE_SIZE);
                inner.stats.small_moves += moved_in as u64;
                if empty {
                    self.retire_small(&mut inner);
                }
            }
            // This cannot happen, because the claimed slot stays the first one. The pages would be
            // freed with the lock held.
            _ => (),
        }
        let unused = self
            .moves
            .scratch
            .take()
            .and_then(|scratch| inner.homes.put_scratch(scratch));
        // It is freed when the read ends, without the lock.
        self.moves.scratch = unused;
        pipe.end_claim(&inner);
        inner
    }

    /// Removes the first slot, after its last small page has been moved.
    fn retire_small(&mut self, inner: &mut Locked<'_>) {
        self.policy.slot_emptied(inner.ring.is_full());
        if let Some(Slot::Large(slot)) = inner.ring.pop() {
            // The slot is freed without the lock.
            self.huge.push(slot);
        }
        self.huge_is_gone(inner);
    }

    /// Removes the first slot, after its huge page has been moved. `displaced` is the page that the
    /// reader had before.
    fn moved_in(&mut self, inner: &mut Locked<'_>, displaced: HugePage) {
        let was_full = inner.ring.is_full();
        self.received(HugePage::SIZE);
        self.moves.moved += HugePage::SIZE;
        inner.stats.moves += 1;
        inner.homes.cost.moved_in();
        self.policy.slot_emptied(was_full);
        if let Some(Slot::Large(mut slot)) = inner.ring.pop() {
            slot.put_page(displaced);
            if self.moves.returns && inner.has_writers() {
                slot.set_origin(Origin::Returned);
                inner.homes.put(slot, &mut self.huge);
            } else {
                // The slot and the page are freed without the lock.
                self.huge.push(slot);
            }
        }
        self.huge_is_gone(inner);
    }
}
