// SPDX-License-Identifier: GPL-2.0-only

//! The commands that splice(2) and tee(2) leave to zpipe, because neither file is a real pipe.
//!
//! To transfer bytes to another file, slots are taken out of the ring and *held*, as those of a
//! read window. In their place a slot without data stands that is claimed, so other readers wait,
//! as they would for the mutex of a pipe(2). No lock is held while the other file takes the bytes.
//! What it does not take returns to the front of the ring, also if the task is killed.
//!
//! To transfer bytes from another file, free slots are *reserved*. The file then fills pages, which
//! go into these slots as they are. So no byte is read that does not fit.
//!
//! Meanwhile the pipe that is read from is slots-only: nothing is posted there.

use crate::{
    mm::{BufferPage, Dest, Parts},
    other_file::OtherFile,
    pipe::Pipe,
    read::{Front, Peeked},
    real_pipe::{InternalPipe, RealPipe},
    request::Request,
    slot::{Kind, LargeSlot, Slot, SmallSlot},
    sys,
    zcore::PAGE_SIZE,
};
use core::mem;
use kernel::prelude::*;

/// A side of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The pipe whose end was called.
    Pipe,
    /// The other file.
    File,
}

impl Side {
    /// The side as the other side sees it.
    fn swap(self) -> Self {
        match self {
            Side::Pipe => Side::File,
            Side::File => Side::Pipe,
        }
    }
}

/// How far a command came.
pub(crate) struct Progress {
    /// The number of bytes transferred.
    pub(crate) done: usize,
    /// The side that ended the transfer before all bytes were transferred.
    pub(crate) side: Option<Side>,
    /// The error of that side.
    pub(crate) error: Option<Error>,
}

impl Progress {
    /// After `done` bytes, `result` says why the transfer ended: because one side, if any, has no
    /// more bytes or takes no more, or because of an error.
    fn new(done: usize, result: Result<Option<Side>, Failed>) -> Self {
        let (side, error) = match result {
            Ok(side) => (side, None),
            Err(Failed::Pipe(e)) => (Some(Side::Pipe), Some(e)),
            Err(Failed::File(e)) => (Some(Side::File), Some(e)),
        };
        Self { done, side, error }
    }

    /// The same, as the other side sees it.
    pub(crate) fn swap(self) -> Self {
        Self {
            side: self.side.map(Side::swap),
            ..self
        }
    }
}

/// The error of a command, by the side that it comes from.
enum Failed {
    /// Of the pipe whose end was called.
    Pipe(Error),
    /// Of the other file.
    File(Error),
}

/// The maximum number of slots to hold or to reserve at a time. FUSE transfers a request or a reply
/// at once, or not at all.
const SLOTS_MAX: usize = 512;

/// The maximum number of slots to copy at a time.
const COPIES_MAX: usize = BufferPage::FILL_MAX;

/// The number of slots to hold or reserve for `max` bytes of `pipe`.
fn slots_for(pipe: &Pipe, max: usize) -> usize {
    let limit = pipe.snapshot().occupancy.limit as usize;
    max.div_ceil(PAGE_SIZE)
        .max(COPIES_MAX)
        .min(limit)
        .clamp(1, SLOTS_MAX)
}

/// A command that reads from a pipe for another file. As long as it exists, the pipe is slots-only.
struct SlotsOnly<'p> {
    pipe: &'p Pipe,
    /// The command closed a posted write, and has not waited for its owner yet.
    closed: bool,
}

impl<'p> SlotsOnly<'p> {
    fn new(pipe: &'p Pipe) -> Self {
        let closed = pipe.begin_splice();
        Self { pipe, closed }
    }
}

impl SlotsOnly<'_> {
    /// For a command that must not wait and has found no slots: waits a moment for bytes that were
    /// announced before the command closed the posted write. True if there are slots now.
    fn has_refill(&mut self) -> bool {
        mem::take(&mut self.closed) && self.pipe.wait_for_refill()
    }
}

impl Drop for SlotsOnly<'_> {
    fn drop(&mut self) {
        self.pipe.end_splice();
    }
}

/// Slots that are taken out of the front of a pipe, for one transfer at a time.
struct Held<'p> {
    pipe: &'p Pipe,
    slots_only: SlotsOnly<'p>,
    slots: KVec<Slot>,
    /// Memory for slots while others are consumed.
    rest: KVec<Slot>,
    emptied: KVec<Slot>,
    /// The slot that stands for the others in the ring, while that has none.
    claim: Option<KBox<LargeSlot>>,
}

/// A transfer that is offered to the other side.
struct Batch<'h> {
    /// The slots: single pages that are shared, or one large slot.
    slots: &'h [Slot],
    /// The number of bytes.
    bytes: usize,
    /// There are more bytes in the pipe.
    more: bool,
}

impl<'p> Held<'p> {
    /// Begins without slots. Sleeps. `ENOMEM`.
    fn new(pipe: &'p Pipe, max: usize) -> Result<Self> {
        let count = slots_for(pipe, max);
        Ok(Self {
            pipe,
            slots: KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            rest: KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            emptied: KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            claim: Some(LargeSlot::new()?),
            slots_only: SlotsOnly::new(pipe),
        })
    }

    /// Claims slots at the front of the pipe, passes at most `max` bytes of them to `write`,
    /// consumes as many as that says it has taken, and ends the claim. If there are no slots and
    /// `waits` is set, waits for some.
    ///
    /// A large slot is passed alone. `write` returns how many bytes were taken, and its result. It
    /// may sleep. Other readers wait meanwhile, and can be killed.
    ///
    /// Returns [`None`] if there are no slots: at the end of the data, or because it does not wait.
    /// Errors: `EAGAIN`, `ERESTARTSYS`, `EBUSY`, and those of `write`.
    fn pass(
        &mut self,
        request: Request<'_>,
        waits: bool,
        max: usize,
        write: impl FnOnce(Batch<'_>) -> (usize, Result<usize, Failed>),
    ) -> Result<Option<usize>, Failed> {
        let mut left = max;
        let (mut any, mut last) = (false, false);
        let mut admits = |slot: &Slot| {
            let is_large = matches!(slot, Slot::Large(_));
            let admits = left != 0 && !last && !(any && is_large);
            (any, last) = (true, is_large);
            left = left.saturating_sub(slot.len());
            admits
        };
        let (slots, claim) = (&mut self.slots, &mut self.claim);
        let mut result = self
            .pipe
            .hold(request, waits, false, slots, claim, &mut admits);
        if result == Err(EAGAIN) && self.slots_only.has_refill() {
            // No slot was taken, so nothing was asked of `admits`.
            result = self
                .pipe
                .hold(request, waits, false, slots, claim, &mut admits);
        }
        result.map_err(Failed::Pipe)?;
        if self.slots.is_empty() {
            return Ok(None);
        }
        for slot in self.slots.drain_all() {
            // All lists have the same capacity.
            let _ = self.rest.push_within_capacity(slot.into_shared());
        }
        mem::swap(&mut self.slots, &mut self.rest);

        let held = self.slots.iter().map(Slot::len).sum::<usize>();
        let batch = Batch {
            slots: &self.slots,
            bytes: held.min(max),
            // One used slot stands for all those that are held.
            more: held > max || self.pipe.snapshot().occupancy.used > 1,
        };
        let (taken, result) = write(batch);
        let taken = taken.min(held);
        self.end(taken);
        result.map(|_| Some(taken))
    }

    /// Consumes the first `bytes` bytes, and ends the claim.
    fn end(&mut self, bytes: usize) {
        let mut left = bytes;
        let mut passed_on = 0;

        for mut slot in self.slots.drain_all() {
            let step = left.min(slot.len());
            slot.consume(step);
            left -= step;
            // A page to which nobody else refers is one of the pipe's own again.
            let slot = slot.into_own();
            passed_on += u64::from(step != 0 && matches!(slot, Slot::Shared(_)));
            let list = if slot.len() == 0 {
                &mut self.emptied
            } else {
                &mut self.rest
            };
            // All lists have the same capacity.
            let _ = list.push_within_capacity(slot);
        }
        let (emptied, rest) = (&mut self.emptied, &mut self.rest);
        self.claim = self.pipe.end_front(bytes, emptied, passed_on, rest);
    }
}

impl Batch<'_> {
    /// Puts the bytes into `to`, which is empty. Bytes of a large slot are copied, as many as fit
    /// into a few pages, because their memory is used again. Returns how many bytes it put there.
    /// Sleeps. Errors: `ENOMEM`, `EFAULT` (bad memory).
    fn put_into(&self, to: &mut RealPipe<'_>) -> Result<usize> {
        let mut done = 0;
        for slot in self.slots {
            let left = self.bytes - done;
            match slot {
                Slot::Shared(slot) => {
                    let (page, offset) = slot.share();
                    done += to.push(page, offset, slot.len().min(left), slot.kind());
                }
                slot => {
                    let mut pages = BufferPage::new_all(COPIES_MAX.min(to.free()))?;
                    BufferPage::fill_all(&mut pages, left, |dest| {
                        Ok(slot.peek_atomic(0, &mut Dest::new(dest)))
                    })?;
                    for page in pages {
                        done += to.push(page.into_shared(), 0, PAGE_SIZE, Kind::Stream);
                    }
                }
            }
        }
        if done == 0 {
            return Err(EFAULT);
        }
        Ok(done)
    }

    /// Writes the bytes to the pipe `to` without waiting. Returns how many it has written.
    fn write_to(&self, to: &Pipe, request: Request<'_>) -> Result<usize, Failed> {
        let slots = self.slots.len().max(COPIES_MAX);
        let mut pipe = InternalPipe::new(slots).map_err(Failed::Pipe)?;
        let pipe = &mut pipe.as_real();
        let bytes = self.put_into(pipe).map_err(Failed::Pipe)?;
        let request = Request {
            nowait: true,
            ..request
        };
        to.splice_from_real(request, pipe, bytes)
            .map_err(Failed::File)
    }
}

/// Transfers at most `max` bytes from `pipe` to `file` at `at`, and advances that. `more` says that
/// more bytes follow soon.
///
/// Waits for the first bytes of the pipe, and as the file does. Sleeps.
pub(crate) fn to_file(
    pipe: &Pipe,
    request: Request<'_>,
    file: &OtherFile,
    at: &mut i64,
    max: usize,
    more: bool,
) -> Progress {
    let mut done = 0;
    let result = (|| {
        file.verify(true, *at, max).map_err(Failed::File)?;
        // Before a claim, because a frozen file system makes it wait.
        let file = file.start_write();
        let mut held = Held::new(pipe, max).map_err(Failed::Pipe)?;
        let slots = held.slots.capacity().max(COPIES_MAX);
        let mut internal = InternalPipe::new(slots).map_err(Failed::Pipe)?;
        while done < max {
            if current!().signal_pending() {
                return Err(Failed::Pipe(ERESTARTSYS));
            }
            let left = max - done;
            let mut offered = 0;
            let passed = held.pass(request, done == 0, left, |batch| {
                let bytes = match batch.put_into(&mut internal.as_real()) {
                    Ok(bytes) => bytes,
                    Err(e) => return (0, Err(Failed::Pipe(e))),
                };
                offered = bytes;
                let mut flags = flags_of(request);
                if more || (bytes < left && (batch.more || bytes < batch.bytes)) {
                    flags |= sys::ZPIPE_SPLICE_F_MORE;
                }
                // All that is wanted, so that FUSE refuses a message that is not complete.
                let result = file.splice_write(&mut internal, at, left, flags);
                // As with splice(2), a file may have taken bytes and fail.
                let taken = bytes - internal.clear().min(bytes);
                (taken, result.map_err(Failed::File))
            })?;
            match passed {
                None => return Ok(Some(Side::Pipe)),
                Some(bytes) => {
                    done += bytes;
                    if bytes < offered {
                        return Ok(Some(Side::File));
                    }
                }
            }
        }
        Ok(None)
    })();
    Progress::new(done, result)
}

/// Transfers at most `max` bytes from `pipe` to the pipe `to`. The requests say alike whether it
/// may wait.
///
/// Waits for the first bytes, and then for a free slot of `to`. Sleeps.
pub(crate) fn to_pipe(
    pipe: &Pipe,
    request: Request<'_>,
    to: &Pipe,
    to_request: Request<'_>,
    max: usize,
) -> Progress {
    let mut done = 0;
    let result = (|| {
        let mut held = Held::new(pipe, max).map_err(Failed::Pipe)?;
        while done < max {
            if done != 0 && current!().signal_pending() {
                return Err(Failed::Pipe(ERESTARTSYS));
            }
            let passed = held.pass(request, done == 0, max - done, |batch| {
                let written = batch.write_to(to, to_request);
                (*written.as_ref().unwrap_or(&0), written)
            });
            match passed {
                Ok(None) => {
                    if done == 0 {
                        to.wait_for_space(to_request).map_err(Failed::File)?;
                    }
                    return Ok(Some(Side::Pipe));
                }
                Ok(Some(0)) => return Ok(Some(Side::File)),
                Ok(Some(bytes)) => done += bytes,
                // Nothing is claimed any more. Nobody waits for this task.
                Err(Failed::File(EAGAIN)) if done == 0 => {
                    to.wait_writable(to_request).map_err(Failed::File)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    })();
    Progress::new(done, result)
}

/// The flags of `->splice_read` and `->splice_write` for a call.
fn flags_of(request: Request<'_>) -> u32 {
    if request.nonblock() {
        sys::ZPIPE_SPLICE_F_NONBLOCK
    } else {
        0
    }
}

/// Transfers at most `max` bytes from `file` at `at` to `pipe`, and advances `at`. Nothing is
/// transferred at the end of the file.
///
/// Waits for free slots, and as the file does. Sleeps.
pub(crate) fn from_file(
    pipe: &Pipe,
    request: Request<'_>,
    file: &OtherFile,
    at: &mut i64,
    max: usize,
) -> Progress {
    let mut done = 0;
    let result = (|| {
        let wanted = slots_for(pipe, max).min(max.div_ceil(PAGE_SIZE));
        let mut reserved = pipe.reserve(request, wanted).map_err(Failed::Pipe)?;
        let space = max.min(reserved.slots() * PAGE_SIZE);
        // Bytes that are not aligned, and parts of messages, take more slots than pages.
        let slots = reserved.slots() + COPIES_MAX;
        let mut internal = InternalPipe::new(slots).map_err(Failed::Pipe)?;
        let bytes = file
            .splice_read(&mut internal, at, space, flags_of(request))
            .map_err(Failed::File)?;
        let copied = copy_out(&mut internal.as_real(), bytes, &mut reserved.pages);
        done = reserved.pages.iter().map(BufferPage::valid).sum();
        // CAST: At most `max`.
        *at -= (bytes - done) as i64;
        if done != 0 {
            reserved.fill(done);
        }
        copied.map_err(Failed::File)?;
        Ok(match done {
            _ if done < space => Some(Side::File),
            _ if done < max => Some(Side::Pipe),
            _ => None,
        })
    })();
    Progress::new(done, result)
}

/// Copies the `bytes` bytes of `from` to `pages`, which have space for them. Stops where a page of
/// a file cannot be read. Sleeps.
fn copy_out(from: &mut RealPipe<'_>, bytes: usize, pages: &mut KVec<BufferPage>) -> Result {
    let mut pages = pages.iter_mut();
    let mut page = pages.next();
    let mut left = bytes;

    while left != 0 {
        let copied = from.feed(left, |parts, _| {
            parts.read(|source| {
                let before = source.remaining();
                while let Some(next) = &mut page {
                    let (valid, rest) = (next.valid(), source.remaining());
                    if rest == 0 {
                        break;
                    }
                    if valid == PAGE_SIZE {
                        page = pages.next();
                    } else if next.fill(valid, rest, source) == 0 {
                        return Err(EFAULT);
                    }
                }
                Ok(before - source.remaining())
            })
        })?;
        if copied == 0 {
            break;
        }
        left -= copied;
    }
    Ok(())
}

/// Writes at most `max` bytes from the front of `pipe` to the pipe `to`, and leaves them where they
/// are, as tee(2) does. The requests say alike whether it may wait.
///
/// Waits for the first bytes, and then for a free slot of `to`. Sleeps.
pub(crate) fn tee(
    pipe: &Pipe,
    request: Request<'_>,
    to: &Pipe,
    to_request: Request<'_>,
    max: usize,
) -> Progress {
    let mut slots_only = SlotsOnly::new(pipe);
    let mut done = 0;
    let result = loop {
        let copies = match peek(&mut slots_only, request, max) {
            Ok(copies) => copies,
            Err(e) => break Err(Failed::Pipe(e)),
        };
        if copies.is_empty() {
            let waited = to.wait_for_space(to_request).map_err(Failed::File);
            break waited.map(|()| Some(Side::Pipe));
        }
        let written = write_copies(&copies, to, to_request, &mut done);
        let count = copies.len();
        drop(copies);
        pipe.unshare(count);
        match written {
            Err(EAGAIN) if done == 0 => {
                if let Err(e) = to.wait_writable(to_request) {
                    break Err(Failed::File(e));
                }
            }
            Err(e) => break Err(Failed::File(e)),
            Ok(_) if done == max => break Ok(None),
            Ok(all) => break Ok(Some(if all { Side::Pipe } else { Side::File })),
        }
    };
    Progress::new(done, result)
}

/// Writes `copies` to the pipe `to` without waiting, and adds the number of bytes to `done`. True
/// if all were written.
fn write_copies(
    copies: &[Peeked],
    to: &Pipe,
    to_request: Request<'_>,
    done: &mut usize,
) -> Result<bool> {
    for copy in copies {
        let mut parts = Parts::new();
        copy.page.add_to(&mut parts, copy.offset, copy.bytes);
        let bytes = to.write_parts(to_request, &parts, copy.kind)?;
        *done += bytes;
        if bytes < copy.bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gets bytes at the front of `from`, at most `max`, which stay there. Waits for the first ones.
/// The result is empty at the end of the data. Sleeps.
///
/// Errors: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `EFAULT` (bad memory).
fn peek(from: &mut SlotsOnly<'_>, request: Request<'_>, max: usize) -> Result<KVec<Peeked>> {
    let pipe = from.pipe;
    let wanted = max.div_ceil(PAGE_SIZE).min(COPIES_MAX);
    let mut copies = KVec::with_capacity(COPIES_MAX, GFP_KERNEL_ACCOUNT)?;
    loop {
        // Pages to copy to are needed for large slots only.
        let mut blank = BufferPage::new_all(if pipe.huge() == 0 { 0 } else { wanted })?;
        let can_copy = !blank.is_empty();
        match pipe.peek_pages(max, &mut blank, &mut copies) {
            Front::Taken(_) | Front::End => return Ok(copies),
            Front::Claimed => pipe.wait_claimed()?,
            Front::Other if can_copy => return Err(EFAULT),
            // A large slot came meanwhile.
            Front::Other => (),
            Front::Empty if request.nonblock() => {
                if !from.has_refill() {
                    return Err(EAGAIN);
                }
            }
            Front::Empty => pipe.rd_wait.wait(|| pipe.snapshot().readable())?,
        }
    }
}
