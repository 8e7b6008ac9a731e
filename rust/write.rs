// SPDX-License-Identifier: GPL-2.0-only

//! Writing into a pipe. It follows `anon_pipe_write()`.
//!
//! Under the inner lock bytes are copied without page faults. If a copy stops short, the write
//! drops the lock and *stages* the next bytes. It copies them, with page faults, into a page of its
//! own. A staged page then goes into a slot as it is, whatever the writer's memory contains by
//! then. So each round makes progress. If a page is missing, the write allocates it without the
//! lock.
//!
//! A large write that would have to wait posts its memory instead, see [`posting`].

mod posting;
mod splice;
mod stock;

use crate::{
    direct,
    lock::{Inner, Locked},
    mm::{BufferPage, PageStock, Source},
    pipe::Pipe,
    request::Request,
    slot::{Kind, Slot},
    sync::raise_sigpipe,
    trace::{self, Who},
    zcore::{
        merge::merge_len, posted_bytes::PostedBytes, state::Occupancy, wakeup::WriterPolicy,
        PAGE_SIZE,
    },
};
use core::mem;
use kernel::prelude::*;
use posting::Posting;
use stock::WriteStock;

/// Why a write cannot go on without leaving the inner lock.
#[derive(Clone, Copy)]
enum WriteStop {
    /// No slot is free.
    Full,
    /// The rest does not fit and could be posted, once resident memory is found.
    FindResident,
    /// The rest does not fit. These bytes of it are to be posted.
    Post(PostedBytes),
    /// The pipe has no reader.
    Broken,
    /// A page is missing.
    NeedPage,
    /// The next bytes cannot be copied without a page fault.
    NeedFault,
    /// The next bytes cannot be copied at all.
    BadAddress,
}

/// One write call.
struct Write<'w, 'a, 'data> {
    pipe: &'w Pipe,
    source: &'w mut Source<'a, 'data>,
    request: Request<'w>,
    /// Bytes to write in all.
    total: usize,
    /// Bytes written.
    done: usize,
    /// The offset of the next byte in its slot, which is not 0 behind a direct transfer.
    slot_offset: usize,
    /// The odd bytes may still be appended to the last slot.
    merge: bool,
    /// The next bytes, if they were copied with page faults. They are fewer than the next slot
    /// takes if the copy failed.
    staged: Option<BufferPage>,
    /// An empty page to stage bytes in.
    blank: Option<BufferPage>,
    stock: WriteStock,
    posting: Posting,
    /// The wakeups that the write has to issue.
    policy: WriterPolicy,
    /// Bytes pushed since the inner lock was taken.
    pushed: usize,
    /// Bytes that were transferred directly.
    direct: usize,
}

impl<'w> Write<'w, '_, '_> {
    /// The number of bytes that the next new slot takes.
    fn next(&self) -> usize {
        self.left().min(PAGE_SIZE - self.slot_offset)
    }

    /// Bytes still to write.
    fn left(&self) -> usize {
        self.total - self.done
    }

    /// The number of pages that must be allocated to fill the free slots of `occupancy`, as far as
    /// the write has bytes for them.
    fn missing(&self, occupancy: Occupancy) -> usize {
        occupancy.missing(self.left().div_ceil(PAGE_SIZE))
    }

    /// Prepares for what the write will probably need: finds resident memory or allocates pages.
    /// Sleeps: not under the inner lock.
    #[inline(always)]
    fn prepare(&mut self) {
        let occupancy = self.pipe.snapshot().occupancy;

        // A guess without the lock: such a write does not fit. `try_post` decides with the lock.
        if self.posting.is_allowed()
            && self.total / PAGE_SIZE > occupancy.limit as usize
            && self.request.may_block_stream()
            && !self.pipe.is_slots_only()
        {
            // A posted read that takes all of the write makes a post unnecessary.
            if !occupancy.pushable || self.total > direct::max_bytes() {
                self.find_resident();
            }
        } else if self.total > PAGE_SIZE {
            self.stock.fill(self.missing(occupancy));
        }
    }

    /// Writes as much as can be written now. Wakes the owner of a posted read that was pushed to.
    fn advance(&mut self, inner: &mut Locked<'_>) -> Result<(), WriteStop> {
        let result = self.try_advance(inner);
        let pushed = mem::take(&mut self.pushed);

        if pushed != 0 {
            self.policy.pushed(pushed);
            inner.wake_pushed();
        }
        self.posting.count_progress(self.done, inner);
        result
    }

    fn try_advance(&mut self, locked: &mut Locked<'_>) -> Result<(), WriteStop> {
        let inner = &mut **locked;
        // Bytes that were announced still go into slots, with or without readers.
        if !inner.has_readers() && !self.posting.withdrawn {
            return Err(WriteStop::Broken);
        }
        self.push(inner);
        if self.merge {
            self.merge(inner)?;
        }
        if !self.posting.withdrawn {
            self.try_post(inner)?;
        }
        while self.done < self.total {
            let inner = &mut **locked;
            let was_empty = inner.ring.is_empty();
            let Some(free_slot) = inner.ring.free_slot() else {
                return self.without_free_slot(inner);
            };
            let bytes = self.next();
            let page = self.page(&mut inner.spare)?;
            let kind = self.posting.slot_kind(bytes, self.request.kind());

            free_slot.fill(Slot::of_page(page, self.slot_offset, kind));
            self.slot_offset = 0;
            self.done += bytes;
            if was_empty {
                // A reader that looks now waits for the lock and not for a wakeup.
                locked.update_snapshot();
            }
        }
        Ok(())
    }

    /// Decides what to do if no slot is free.
    fn without_free_slot(&mut self, inner: &Inner) -> Result<(), WriteStop> {
        self.posting.withdrawn = false;
        if !inner.has_readers() {
            return Err(WriteStop::Broken);
        }
        self.try_post(inner)?;
        Err(WriteStop::Full)
    }

    /// Appends the odd bytes to the last slot, if the rules of merging allow it.
    fn merge(&mut self, inner: &mut Inner) -> Result<(), WriteStop> {
        if let Some(odd) = merge_len(self.total, inner.ring.end_of_last()) {
            let Some(last) = inner.ring.last().and_then(Slot::as_stream_page) else {
                return Ok(());
            };
            match self.staged.take() {
                Some(page) if page.valid() >= odd => {
                    last.append_page(odd, &page);
                    // The other staged bytes are copied again, for the next slot.
                    self.source.rewind(page.valid() - odd);
                    inner.recycle(page);
                }
                Some(_) => return Err(WriteStop::BadAddress),
                None => {
                    if !last.append_atomic(odd, self.source) {
                        return Err(WriteStop::NeedFault);
                    }
                }
            }
            self.done += odd;
        }
        self.merge = false;
        Ok(())
    }

    /// A page with the bytes of the next slot.
    fn page(&mut self, spare: &mut PageStock) -> Result<BufferPage, WriteStop> {
        let next = self.next();

        if let Some(page) = self.staged.take() {
            if page.valid() < self.slot_offset + next {
                return Err(WriteStop::BadAddress);
            }
            return Ok(page);
        }
        let mut page = spare
            .take()
            .or_else(|| self.stock.take())
            .ok_or(WriteStop::NeedPage)?;
        page.pad(self.slot_offset);
        let copied = page.fill_atomic(self.slot_offset, next, self.source);
        if copied < next {
            self.source.rewind(copied);
            self.blank = Some(page);
            return Err(WriteStop::NeedFault);
        }
        Ok(page)
    }

    /// Stages the next bytes. Sleeps: not under the inner lock.
    fn stage(&mut self) -> Result {
        let next = self.next();
        let mut page = match self.blank.take() {
            Some(page) => page,
            None => BufferPage::new()?,
        };

        page.clear();
        page.pad(self.slot_offset);
        // A short copy is found later under the lock, because the odd bytes alone may be enough.
        page.fill(self.slot_offset, next, self.source);
        self.staged = Some(page);
        Ok(())
    }

    /// Waits for a free slot.
    fn wait_for_slot(&mut self, mut inner: Locked<'w>) -> Locked<'w> {
        let pipe = self.pipe;
        inner.stats.write.waits += 1;
        self.posting.begin_wait(self.done, &mut inner);
        let mut wakes = self.policy.pause(self.done, inner.ring.is_full());
        wakes.owner = inner.recall_used_share(|| false);
        drop(inner);
        pipe.wake(wakes);

        trace::wait(pipe.id(), Who::Writer);
        // As in fs/pipe.c, a signal ends the write only after another look at the ring.
        let slept = pipe.wr_wait.wait_exclusive(|| pipe.snapshot().writable());
        self.policy.waited();

        let mut inner = pipe.lock();
        self.posting.end_wait(slept.unwrap_or(false), &mut inner);
        inner
    }

    /// Drops the lock, calls `prepare` and takes the lock again. The next writer is not woken: the
    /// bytes of a write that has free slots stay together.
    fn prepare_unlocked(
        &mut self,
        inner: Locked<'w>,
        prepare: impl FnOnce(&mut Self) -> Result,
    ) -> (Locked<'w>, Result) {
        let wakes = self.policy.pause_for_pages(self.done);
        drop(inner);
        self.pipe.wake(wakes);
        let result = prepare(self);
        (self.pipe.lock(), result)
    }

    /// Drops the lock, stages the next bytes and takes the lock again.
    fn stage_unlocked(&mut self, mut inner: Locked<'w>) -> (Locked<'w>, Result) {
        inner.stats.write.faults += 1;
        let wakes = self.policy.pause(self.done, inner.ring.is_full());
        drop(inner);
        self.pipe.wake(wakes);
        let result = self.stage();
        (self.pipe.lock(), result)
    }

    /// Writes until all is written or an error ends the write. Returns with the lock held.
    #[inline(always)]
    fn run(&mut self) -> (Locked<'w>, Result) {
        let mut inner = self.pipe.lock();
        // As `was_empty` of anon_pipe_write(), which returns before it looks if no reader is left.
        self.policy
            .resume(inner.has_readers() && inner.ring.is_empty());
        loop {
            let stop = match self.advance(&mut inner) {
                Ok(()) => return (inner, Ok(())),
                Err(stop) => stop,
            };
            let result;
            (inner, result) = match stop {
                WriteStop::Broken => return (inner, Err(EPIPE)),
                WriteStop::BadAddress => return (inner, Err(EFAULT)),
                WriteStop::Full if self.request.nonblock() => {
                    inner.refused = true;
                    return (inner, Err(EAGAIN));
                }
                WriteStop::Full if current!().signal_pending() => {
                    return (inner, Err(ERESTARTSYS));
                }
                WriteStop::Full => (self.wait_for_slot(inner), Ok(())),
                WriteStop::Post(bytes) => (self.wait_posted(inner, bytes), Ok(())),
                WriteStop::FindResident => self.prepare_unlocked(inner, |write| {
                    write.find_resident();
                    Ok(())
                }),
                WriteStop::NeedPage => self.prepare_unlocked(inner, |write| {
                    let missing = write.missing(write.pipe.snapshot().occupancy);
                    write.stock.fill_some(missing)
                }),
                WriteStop::NeedFault => self.stage_unlocked(inner),
            };
            self.policy.resume(inner.ring.is_empty());
            if result.is_err() {
                return (inner, result);
            }
        }
    }

    /// Ends the write: returns unused pages, counts the bytes and wakes other tasks.
    #[inline(always)]
    fn finish(&mut self, mut inner: Locked<'_>, result: Result) -> Result<usize> {
        if let Some(page) = self.staged.take() {
            self.source.rewind(page.valid() - self.slot_offset);
            inner.recycle(page);
        }
        if let Some(pages) = self.stock.spare() {
            inner.restock(pages);
        }
        inner.stats.write.count(self.done);
        inner.stats.write.direct += self.direct as u64;
        let full = inner.ring.is_full();
        drop(inner);
        // Read only now: a task that begins to poll sets it before it looks at the snapshot.
        let polled = self.pipe.every_write_wakes();
        let wakes = self.policy.end(self.done, full, polled);

        if result == Err(EPIPE) && !self.request.nosignal {
            raise_sigpipe();
        }
        self.pipe.wake(wakes);
        match result {
            Err(e) if self.done == 0 => Err(e),
            _ => Ok(self.done),
        }
    }
}

impl Pipe {
    /// Writes the bytes of `source`. Returns the number of bytes written. It is less than all only
    /// if an error or a signal ended the write.
    ///
    /// Sleeps: it waits for free slots, until a signal comes, for page faults of the writer's own
    /// memory, and for allocations.
    ///
    /// Errors, if nothing was written: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`, `EFAULT`,
    /// `ENOMEM`.
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

    /// The fast path of a small write of at most a page. Writes all bytes and returns true. Returns
    /// false if anything needs [`Self::write_on`]. Nothing is written then.
    ///
    /// The result is that of [`Self::write_on`], in half the instructions. The cost of a small
    /// write is mainly its instructions.
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
        if merge_len(total, inner.ring.end_of_last()).is_some() {
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
            let Some(free_slot) = inner.ring.free_slot() else {
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
            free_slot.fill(Slot::of_page(page, 0, request.kind()));
        }
        inner.stats.write.count(total);
        drop(inner);
        self.wake(WriterPolicy::new(was_empty).end(total, true, self.every_write_wakes()));
        true
    }

    /// The general path of a write, with all sleeps and page faults of [`Self::write`]. Writes
    /// `total` bytes, which is not 0 and all that `source` has.
    #[inline(never)]
    pub(crate) fn write_on(
        &self,
        request: Request<'_>,
        total: usize,
        source: &mut Source<'_, '_>,
    ) -> Result<usize> {
        let mut write = Write {
            pipe: self,
            source,
            request,
            total,
            done: 0,
            slot_offset: 0,
            merge: request.kind != Some(Kind::Packet),
            staged: None,
            blank: None,
            stock: WriteStock::new(),
            posting: Posting::new(total >= direct::min_bytes()),
            policy: WriterPolicy::new(false),
            pushed: 0,
            direct: 0,
        };
        write.prepare();
        let (inner, result) = write.run();
        write.finish(inner, result)
    }
}
