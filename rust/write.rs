// SPDX-License-Identifier: GPL-2.0-only

//! Writing into a pipe. It follows `anon_pipe_write()`.
//!
//! Under the inner lock bytes are copied without faults. Where a copy stops short, the lock is
//! dropped and the bytes are staged: copied into a page of ours, with faults. A staged page then
//! goes in as it is, whatever the writer's memory has become meanwhile, so that every round makes
//! progress. A page that is missing is likewise allocated without the lock.
//!
//! A large write that would have to wait offers its memory to readers instead, see
//! [`direct`], and sleeps until it is called back.

mod offering;

use crate::{
    direct::{self, Ahead},
    lock::{Inner, Locked},
    mm::{BufferPage, PageStock, Source},
    pipe::{Pipe, Request},
    slot::{Kind, Slot},
    sync::raise_sigpipe,
    trace::{self, Who},
    zcore::{
        merge::merge_len,
        offer::{Offer, Standing},
        state::Room,
        turn::WriterTurn,
        PAGE_SIZE,
    },
};
use core::mem;
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// Why filling slots came to an end.
#[derive(Clone, Copy)]
enum Step {
    /// All is written.
    Done,
    /// No slot is free.
    Full,
    /// What is left does not fit, and might be offered: look ahead.
    Look,
    /// What is left does not fit, and is for readers to take, so much of it.
    Offer(Offer),
    /// Nobody reads.
    Broken,
    /// A page is missing.
    NeedPage,
    /// The next bytes cannot be had without a fault.
    NeedBytes,
    /// The next bytes cannot be had at all.
    BadAddress,
}

/// A write on its way.
struct Write<'w, 'a, 'data> {
    source: &'w mut Source<'a, 'data>,
    request: Request<'w>,
    /// Bytes to write in all.
    total: usize,
    /// Bytes written.
    done: usize,
    /// The odd bytes may still go to the last slot.
    merge: bool,
    /// The next bytes, if they had to be had with faults: less than the next slot takes if no more
    /// could be had.
    staged: Option<BufferPage>,
    /// A page to stage in.
    blank: Option<BufferPage>,
    /// Pages of our own; none for the many writes that need none.
    stock: Option<PageStock>,
    /// More of them, for what is withdrawn from readers of a large pipe.
    more: KVec<BufferPage>,
    /// What is left may be offered: as far as is known, others may read it.
    offers: bool,
    /// Where it is. It is freed at the end, without the lock.
    ahead: Option<Ahead>,
    /// An offer was withdrawn: what fits of it goes into slots before anything else.
    withdrawn: bool,
    /// Bytes that it announced, as part of a stream.
    announced: usize,
    /// Where it stands among the writers that wait for room.
    standing: Standing,
    /// What was written when it last waited for room.
    waited_at: Option<usize>,
    /// How often writers that had waited wrote something, without this one.
    turns: u64,
    /// Bytes that readers took of the slot that would be next.
    phase: usize,
    /// Bytes pushed since the lock was taken.
    pushed: usize,
    /// Bytes that went straight to readers.
    direct: usize,
}

impl Write<'_, '_, '_> {
    /// Bytes of the next new slot.
    fn next(&self) -> usize {
        self.left().min(PAGE_SIZE - self.phase)
    }

    /// Bytes still to write.
    fn left(&self) -> usize {
        self.total - self.done
    }

    /// Pages still needed if nothing is merged.
    fn pages(&self) -> usize {
        self.left().div_ceil(PAGE_SIZE)
    }

    /// Appends the odd bytes to the last slot, where the rules say so.
    fn merge(&mut self, inner: &mut Inner) -> Result<(), Step> {
        if let Some(odd) = merge_len(self.total, inner.ring.last_slot()) {
            let Some(last) = inner.ring.last().and_then(Slot::as_stream_page) else {
                return Ok(());
            };
            match self.staged.take() {
                Some(page) if page.valid() >= odd => {
                    last.append_page(odd, &page);
                    // The rest comes again, for the next slot.
                    self.source.rewind(page.valid() - odd);
                    inner.recycle(page);
                }
                Some(_) => return Err(Step::BadAddress),
                None => {
                    if !last.append_atomic(odd, self.source) {
                        return Err(Step::NeedBytes);
                    }
                }
            }
            self.done += odd;
        }
        self.merge = false;
        Ok(())
    }

    /// A page with the bytes of the next slot.
    fn page(&mut self, spare: &mut PageStock) -> Result<BufferPage, Step> {
        let next = self.next();

        if let Some(page) = self.staged.take() {
            if page.valid() < self.phase + next {
                return Err(Step::BadAddress);
            }
            return Ok(page);
        }
        let mut page = spare
            .take()
            .or_else(|| self.stock.as_mut().and_then(PageStock::take))
            .or_else(|| self.more.pop())
            .ok_or(Step::NeedPage)?;
        page.pad(self.phase);
        let copied = page.fill_atomic(self.phase, next, self.source);
        if copied < next {
            self.source.rewind(copied);
            self.blank = Some(page);
            return Err(Step::NeedBytes);
        }
        Ok(page)
    }

    /// Writes as much as can be written now.
    fn advance(&mut self, inner: &mut Locked<'_>) -> Step {
        match self.try_advance(inner) {
            Ok(()) => Step::Done,
            Err(step) => step,
        }
    }

    fn try_advance(&mut self, locked: &mut Locked<'_>) -> Result<(), Step> {
        let inner = &mut **locked;
        if !inner.has_readers() && !self.withdrawn {
            return Err(Step::Broken);
        }
        self.push(inner);
        if self.merge {
            self.merge(inner)?;
        }
        if !self.withdrawn {
            self.offer(inner)?;
        }
        while self.done < self.total {
            let inner = &mut **locked;
            let was_empty = inner.ring.is_empty();
            let Some(vacancy) = inner.ring.vacancy() else {
                return self.stuck(inner);
            };
            let bytes = self.next();
            let page = self.page(&mut inner.spare)?;

            // What was announced as part of a stream stays one, whatever the file has become.
            let kind = if self.announced != 0 {
                Kind::Stream
            } else {
                self.request.kind()
            };
            self.announced = self.announced.saturating_sub(bytes);
            vacancy.fill(Slot::of_page(page, self.phase, kind));
            self.phase = 0;
            self.done += bytes;
            if was_empty {
                // A reader that comes while more is copied waits for the lock, not for a wakeup.
                locked.publish_room();
            }
        }
        Ok(())
    }

    /// What to do when no slot is free.
    fn stuck(&mut self, inner: &Inner) -> Result<(), Step> {
        self.withdrawn = false;
        if !inner.has_readers() {
            return Err(Step::Broken);
        }
        self.offer(inner)?;
        Err(Step::Full)
    }

    /// Has the next bytes with faults. Sleeps: not under the lock.
    fn stage(&mut self) -> Result {
        let next = self.next();
        let mut page = match self.blank.take() {
            Some(page) => page,
            None => BufferPage::new()?,
        };

        page.clear();
        page.pad(self.phase);
        // A short copy is found out under the lock: the odd bytes alone may do.
        page.fill(self.phase, next, self.source);
        self.staged = Some(page);
        Ok(())
    }

    /// Allocates what pages are missing as things stand. Best effort: one that is missed all the
    /// same is allocated then. Sleeps: not under the lock.
    fn stock_up(&mut self, room: Room) {
        let missing = room.missing(self.pages());

        if missing != 0 {
            self.stock.get_or_insert_with(PageStock::new).fill(missing);
        }
    }

    /// Notes for others that this write had its turn, if it had waited for room.
    fn note_turn(&mut self, inner: &mut Inner) {
        if self.waited_at.take_if(|done| *done < self.done).is_some() {
            inner.waiting_writers.turns = inner.waiting_writers.turns.wrapping_add(1);
            self.turns = self.turns.wrapping_add(1);
        }
    }

    /// Allocates `missing` pages; without memory for all of them it keeps those that came. Sleeps: not
    /// under the lock.
    fn stock_more(&mut self, missing: usize) -> Result<(), AllocError> {
        let stock = self.stock.get_or_insert_with(PageStock::new);
        let before = stock.len();

        stock.fill(before + missing);
        let rest = missing - (stock.len() - before);
        // There may be many, and to fail is no news for the log.
        self.more.reserve(rest, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        for _ in 0..rest {
            let page = BufferPage::new().map_err(|_| AllocError)?;
            self.more.push(page, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// Allocates a page that was missed, and what else is missing. Sleeps: not under the lock.
    fn stock_one(&mut self, room: Room) -> Result {
        self.stock.get_or_insert_with(PageStock::new).fill(1);
        self.stock_up(room);
        match &self.stock {
            Some(stock) if stock.len() != 0 => Ok(()),
            _ => Err(ENOMEM),
        }
    }
}

impl Pipe {
    /// Writes from `source`; returns how many bytes, which is less than all only if something came
    /// in between.
    ///
    /// Sleeps, for room and in page faults of the writer's own memory; waits for room end with a
    /// signal. Errors if nothing was written: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`,
    /// `EFAULT`, `ENOMEM`.
    pub(crate) fn write(&self, request: Request<'_>, source: &mut Source<'_, '_>) -> Result<usize> {
        let total = source.remaining();
        if total == 0 {
            return Ok(0);
        }
        if total <= PAGE_SIZE && self.write_at_once(request, total, source) {
            return Ok(total);
        }
        self.write_on(request, total, source)
    }

    /// Writes all of a small write, or nothing: if anything at all stands in the way.
    ///
    /// What [`Self::write_on`] would do, in half the instructions, which is what a small write
    /// consists of.
    fn write_at_once(
        &self,
        request: Request<'_>,
        total: usize,
        source: &mut Source<'_, '_>,
    ) -> bool {
        let mut inner = self.lock();
        if !inner.has_readers() {
            return false;
        }

        let was_empty = inner.ring.is_empty();
        if merge_len(total, inner.ring.last_slot()).is_some() {
            if !inner
                .ring
                .last()
                .and_then(Slot::as_stream_page)
                .is_some_and(|last| last.append_atomic(total, source))
            {
                return false;
            }
        } else {
            let inner = &mut *inner;
            let Some(vacancy) = inner.ring.vacancy() else {
                return false;
            };
            let Some(mut page) = inner.spare.take() else {
                return false;
            };
            let copied = page.fill_atomic(0, total, source);
            if copied < total {
                source.rewind(copied);
                inner.recycle(page);
                return false;
            }
            vacancy.fill(Slot::of_page(page, 0, request.kind()));
        }
        inner.stats.write.moved(total);
        drop(inner);
        self.wake(WriterTurn::new(was_empty).end(total, true, self.every_write_wakes()));
        true
    }

    /// Writes `total` bytes, all that `source` has, with all the waiting and faulting that takes: as
    /// [`Self::write`], if there are any.
    #[inline(never)]
    pub(crate) fn write_on(
        &self,
        request: Request<'_>,
        total: usize,
        source: &mut Source<'_, '_>,
    ) -> Result<usize> {
        let mut job = Write {
            source,
            request,
            total,
            done: 0,
            merge: true,
            staged: None,
            blank: None,
            stock: None,
            more: KVec::new(),
            offers: total >= direct::least(),
            ahead: None,
            withdrawn: false,
            announced: 0,
            standing: Standing::Fresh,
            waited_at: None,
            turns: 0,
            phase: 0,
            pushed: 0,
            direct: 0,
        };
        let room = self.state().room;
        if job.offers
            && total / PAGE_SIZE > room.limit as usize
            && request.may_offer()
            && !self.is_slots_only()
        {
            // Unless a reader waits for all of it.
            if !room.demanded || total > direct::most() {
                job.look_ahead();
            }
        } else if total > PAGE_SIZE {
            job.stock_up(room);
        }

        let mut inner = self.lock();
        let mut turn = WriterTurn::new(inner.has_readers() && inner.ring.is_empty());
        let result = loop {
            let step = job.advance(&mut inner);
            let pushed = mem::take(&mut job.pushed);
            if pushed != 0 {
                turn.pushed(pushed);
                inner.wake_pushed();
            }
            job.note_turn(&mut inner);
            let mut recalled = false;
            match step {
                Step::Done => break Ok(()),
                Step::Broken => break Err(EPIPE),
                Step::BadAddress => break Err(EFAULT),
                Step::Full if request.nonblock() => {
                    inner.refused = true;
                    break Err(EAGAIN);
                }
                Step::Full if current!().signal_pending() => break Err(ERESTARTSYS),
                Step::Full => {
                    inner.stats.write.waits += 1;
                    inner.waiting_writers.count += 1;
                    job.waited_at = Some(job.done);
                    recalled = inner.recall_spent(|| true);
                }
                Step::NeedBytes => inner.stats.write.faults += 1,
                Step::Offer(offer) => job.put_out(&mut inner, offer),
                Step::Look | Step::NeedPage => (),
            }

            let mut wakes = match step {
                Step::Look | Step::NeedPage => turn.pause_for_pages(job.done),
                Step::Offer(_) => turn.pause_to_offer(job.done, inner.ring.free() != 0),
                _ => turn.pause(job.done, inner.ring.is_full()),
            };
            wakes.owner = recalled;
            drop(inner);
            self.wake(wakes);

            let mut queued = false;
            let resolved = match step {
                Step::Offer(_) => {
                    trace::wait(self.id(), Who::Owner);
                    job.extend(self);
                    let _ = self.offer_wait.wait_exclusive(|| self.state().offer_over());
                    turn.waited();
                    Ok(())
                }
                Step::Look => {
                    job.look_ahead();
                    Ok(())
                }
                Step::NeedPage => job.stock_one(self.state().room),
                Step::NeedBytes => job.stage(),
                _ => {
                    // A signal is seen after another look at the ring, as in fs/pipe.c.
                    trace::wait(self.id(), Who::Writer);
                    let slept = self.wr_wait.wait_exclusive(|| self.state().writable());
                    queued = slept.unwrap_or(false);
                    turn.waited();
                    Ok(())
                }
            };
            inner = self.lock();
            match step {
                Step::Offer(_) => {
                    loop {
                        let missing = job.missing_for_refill(&mut inner);
                        if missing == 0 {
                            break;
                        }
                        drop(inner);
                        let stocked = job.stock_more(missing);
                        inner = self.lock();
                        // Without memory what was announced is gone until there is some.
                        if stocked.is_err() {
                            break;
                        }
                    }
                    let in_the_way = job.withdraw(&mut inner);
                    turn.withdrew(job.done, in_the_way);
                }
                Step::Full => {
                    let waiting = &mut inner.waiting_writers;
                    waiting.count -= 1;
                    let others = waiting.turns != job.turns;
                    job.standing = job.standing.waited(waiting.count, queued, others);
                }
                _ => (),
            }
            turn.resume(inner.ring.is_empty());
            if let Err(e) = resolved {
                break Err(e);
            }
        };

        if let Some(page) = job.staged.take() {
            job.source.rewind(page.valid() - job.phase);
            inner.recycle(page);
        }
        if let Some(stock) = &mut job.stock {
            inner.restock(stock);
        }
        inner.stats.write.moved(job.done);
        inner.stats.write.direct += job.direct as u64;
        let full = inner.ring.is_full();
        drop(inner);
        // Who polls from now on sees what is published.
        let wakes = turn.end(job.done, full, self.every_write_wakes());
        // What is left in the stock is freed at the end, without the lock.

        if result == Err(EPIPE) && !request.nosignal {
            raise_sigpipe();
        }
        self.wake(wakes);
        match result {
            Err(e) if job.done == 0 => Err(e),
            _ => Ok(job.done),
        }
    }
}
