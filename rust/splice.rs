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
    mm::{BufferPage, Parts},
    other_file::OtherFile,
    pipe::Pipe,
    read::{Copy, Front},
    request::Request,
    slot::{Kind, LargeSlot, Slot},
    zcore::PAGE_SIZE,
};
use core::mem;
use kernel::prelude::*;

/// The error of a command, by the side that it comes from.
pub(crate) enum Failed {
    /// Of the pipe whose end was called.
    Pipe(Error),
    /// Of the other file.
    File(Error),
}

impl Failed {
    /// The error of a call to the other side, whose sides are the other way round.
    pub(crate) fn swap(self) -> Self {
        match self {
            Failed::Pipe(e) => Failed::File(e),
            Failed::File(e) => Failed::Pipe(e),
        }
    }
}

/// The maximum number of slots to hold, reserve or copy at a time.
const SLOTS_MAX: usize = BufferPage::FILL_MAX;

/// A command that reads from a pipe for another file. As long as it exists, the pipe is slots-only.
struct SlotsOnly<'p>(&'p Pipe);

impl<'p> SlotsOnly<'p> {
    fn new(pipe: &'p Pipe) -> Self {
        pipe.begin_splice();
        Self(pipe)
    }
}

impl Drop for SlotsOnly<'_> {
    fn drop(&mut self) {
        self.0.end_splice();
    }
}

/// Slots that are taken out of the front of a pipe, for one transfer at a time.
struct Held<'p> {
    pipe: &'p Pipe,
    _slots_only: SlotsOnly<'p>,
    slots: KVec<Slot>,
    /// Memory for slots while others are consumed.
    rest: KVec<Slot>,
    emptied: KVec<Slot>,
    /// The slot that stands for the others in the ring, while that has none.
    claim: Option<KBox<LargeSlot>>,
}

impl<'p> Held<'p> {
    /// Begins without slots. Sleeps. `ENOMEM`.
    fn new(pipe: &'p Pipe) -> Result<Self> {
        Ok(Self {
            pipe,
            slots: KVec::with_capacity(SLOTS_MAX, GFP_KERNEL_ACCOUNT)?,
            rest: KVec::with_capacity(SLOTS_MAX, GFP_KERNEL_ACCOUNT)?,
            emptied: KVec::with_capacity(SLOTS_MAX, GFP_KERNEL_ACCOUNT)?,
            claim: Some(LargeSlot::new()?),
            _slots_only: SlotsOnly::new(pipe),
        })
    }

    /// Claims slots at the front of the pipe, passes at most `max` bytes of them to `write`,
    /// consumes as many as that says it has taken, and ends the claim. If there are no slots and
    /// `waits` is set, waits for some.
    ///
    /// The slots are of the same kind. If `shares`, pages of the pipe's own are shared first. The
    /// second argument of `write` says whether all pages are shared, so that others may keep
    /// references to them. `write` may sleep. Other readers wait meanwhile, and can be killed.
    ///
    /// Returns [`None`] if there are no slots: at the end of the data, or because it does not wait.
    /// Errors of the pipe: `EAGAIN`, `ERESTARTSYS`, `EBUSY`. Those of the file are from `write`.
    fn pass(
        &mut self,
        request: Request<'_>,
        waits: bool,
        max: usize,
        shares: bool,
        write: impl FnOnce(&Parts<'_>, bool, Kind) -> Result<usize>,
    ) -> Result<Option<usize>, Failed> {
        let mut left = max;
        let mut kind = None;
        let admits = |slot: &Slot| {
            let same = match (kind, Class::of(slot)) {
                (None, _) => true,
                (Some(Class::Pages), Class::Pages) => true,
                _ => false,
            };
            let wanted = left != 0 && same;
            kind = Some(Class::of(slot));
            left = left.saturating_sub(slot.len());
            wanted
        };
        self.pipe
            .hold(
                request,
                waits,
                false,
                &mut self.slots,
                &mut self.claim,
                admits,
            )
            .map_err(Failed::Pipe)?;
        if self.slots.is_empty() {
            return Ok(None);
        }
        if shares {
            for slot in self.slots.drain_all() {
                // All lists have the same capacity.
                let _ = self.rest.push_within_capacity(slot.into_shared());
            }
            mem::swap(&mut self.slots, &mut self.rest);
        }

        let mut parts = Parts::new();
        let (mut is_shared, mut kind) = (true, Kind::Stream);
        for slot in &self.slots {
            is_shared &= matches!(slot, Slot::Shared(_));
            kind = slot.kind();
            let bytes = slot.len().min(max - parts.bytes());
            if slot.add_to(&mut parts, bytes) != bytes {
                break;
            }
        }
        let wanted = parts.bytes();
        let taken = write(&parts, is_shared, kind).map(|taken| taken.min(wanted));
        self.end(*taken.as_ref().unwrap_or(&0), shares && is_shared);
        taken.map(Some).map_err(Failed::File)
    }

    /// Consumes the first `bytes` bytes, which were `passed_on` without a copy, or not. Then ends
    /// the claim.
    fn end(&mut self, bytes: usize, passed_on: bool) {
        let mut left = bytes;
        let mut pages = 0;

        for mut slot in self.slots.drain_all() {
            let step = left.min(slot.len());
            slot.consume(step);
            left -= step;
            pages += u64::from(passed_on && step != 0);
            let list = if slot.len() == 0 {
                &mut self.emptied
            } else {
                &mut self.rest
            };
            // All lists have the same capacity.
            let _ = list.push_within_capacity(slot);
        }
        let (emptied, rest) = (&mut self.emptied, &mut self.rest);
        self.claim = self.pipe.end_front(bytes, emptied, pages, rest);
    }
}

/// What slots have to have in common to be passed together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Single pages of a stream.
    Pages,
    /// Anything else is passed alone: a packet, a huge page, small pages or a frame.
    Alone,
}

impl Class {
    fn of(slot: &Slot) -> Self {
        match slot {
            Slot::Page(_) | Slot::Shared(_) if slot.kind() == Kind::Stream => Class::Pages,
            _ => Class::Alone,
        }
    }
}

/// Transfers at most `max` bytes from `pipe` to `file` at `at`, and advances that. `more` says that
/// more bytes follow soon. Returns the number of bytes, and the error that ended it early.
///
/// Waits for the first bytes of the pipe, and as the file does. Sleeps.
pub(crate) fn to_file(
    pipe: &Pipe,
    request: Request<'_>,
    file: &OtherFile,
    at: &mut i64,
    max: usize,
    more: bool,
) -> (usize, Result<(), Failed>) {
    let mut done = 0;
    let result = (|| {
        let mut held = Held::new(pipe).map_err(Failed::Pipe)?;
        let is_socket = file.is_socket();
        if is_socket {
            file.may_write(max).map_err(Failed::File)?;
        }
        while done < max {
            let left = max - done;
            if current!().signal_pending() {
                return Err(Failed::Pipe(ERESTARTSYS));
            }
            let passed = held.pass(request, done == 0, left, is_socket, |parts, shared, _| {
                if is_socket {
                    let more =
                        more || (parts.bytes() < left && pipe.snapshot().occupancy.used != 0);
                    file.send(parts, shared, more)
                } else {
                    file.write(parts, at)
                }
            });
            match passed? {
                None | Some(0) => break,
                Some(bytes) => done += bytes,
            }
        }
        Ok(())
    })();
    (done, result)
}

/// Transfers at most `max` bytes from `pipe` to the pipe `to`. Returns the number of bytes, and the
/// error that ended it early.
///
/// Waits for the first bytes, and then for a free slot of `to`. Sleeps.
pub(crate) fn to_pipe(
    pipe: &Pipe,
    request: Request<'_>,
    to: &Pipe,
    to_request: Request<'_>,
    max: usize,
) -> (usize, Result<(), Failed>) {
    let mut done = 0;
    let result = (|| {
        let mut held = Held::new(pipe).map_err(Failed::Pipe)?;
        while done < max {
            let passed = held.pass(request, done == 0, max - done, false, |parts, _, kind| {
                parts.read(|source| to.write(without_wait(to_request, kind), source))
            });
            match passed {
                Ok(None | Some(0)) => break,
                Ok(Some(bytes)) => done += bytes,
                // Nothing is claimed any more. Nobody waits for this task.
                Err(Failed::File(EAGAIN)) if done == 0 && !request.nonblock() => {
                    wait_writable(to, to_request).map_err(Failed::File)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })();
    (done, result)
}

/// Waits until `pipe` can be written to. Errors: `EAGAIN`, `ERESTARTSYS`.
fn wait_writable(pipe: &Pipe, request: Request<'_>) -> Result {
    if request.nonblock() {
        return Err(EAGAIN);
    }
    pipe.wr_wait.wait(|| pipe.snapshot().writable())
}

/// The request of a write of slots of this kind that must not wait.
fn without_wait(request: Request<'_>, kind: Kind) -> Request<'_> {
    Request {
        nowait: true,
        kind: Some(kind),
        ..request
    }
}

/// Transfers at most `max` bytes from `file` at `at` to `pipe`, and advances `at`. Returns the
/// number of bytes, which is 0 at the end of the file.
///
/// Waits for free slots, and as the file does. Sleeps.
pub(crate) fn from_file(
    pipe: &Pipe,
    request: Request<'_>,
    file: &OtherFile,
    at: &mut i64,
    max: usize,
) -> Result<usize, Failed> {
    let wanted = max.div_ceil(PAGE_SIZE).min(SLOTS_MAX);
    let reserved = pipe.reserve(request, wanted).map_err(Failed::Pipe)?;
    let mut pages = pages(reserved.slots()).map_err(Failed::Pipe)?;
    let bytes = file
        .read(&mut pages, max, at, request.nonblock())
        .map_err(Failed::File)?;
    if bytes != 0 {
        reserved.fill(pages, bytes);
    }
    Ok(bytes)
}

/// Allocates pages. Sleeps. `ENOMEM`.
fn pages(count: usize) -> Result<KVec<BufferPage>> {
    let mut pages = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    for _ in 0..count {
        pages.push(BufferPage::new()?, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(pages)
}

/// Writes at most `max` bytes from the front of `pipe` to the pipe `to`, and leaves them where they
/// are, as tee(2) does. Returns the number of bytes, which is 0 at the end of the data.
///
/// Waits for the first bytes, and then for a free slot of `to`. Sleeps.
pub(crate) fn tee(
    pipe: &Pipe,
    request: Request<'_>,
    to: &Pipe,
    to_request: Request<'_>,
    max: usize,
) -> Result<usize, Failed> {
    let _slots_only = SlotsOnly::new(pipe);
    let nonblock = request.nonblock();
    loop {
        let copies = peek(pipe, request, max).map_err(Failed::Pipe)?;
        let mut done = 0;
        for copy in &copies {
            let mut parts = Parts::new();
            copy.page.add_to(&mut parts, copy.offset, copy.bytes);
            let request = without_wait(to_request, copy.kind);
            match parts.read(|source| to.write(request, source)) {
                Ok(bytes) => {
                    done += bytes;
                    if bytes < copy.bytes {
                        break;
                    }
                }
                Err(_) if done != 0 => break,
                Err(EAGAIN) if !nonblock => {
                    wait_writable(to, to_request).map_err(Failed::File)?;
                    break;
                }
                Err(e) => return Err(Failed::File(e)),
            }
        }
        if done != 0 || copies.is_empty() {
            return Ok(done);
        }
    }
}

/// Gets bytes at the front of `pipe`, at most `max`, which stay there. Waits for the first ones.
/// The result is empty at the end of the data. Sleeps.
///
/// Errors: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `EFAULT` (bad memory).
fn peek(pipe: &Pipe, request: Request<'_>, max: usize) -> Result<KVec<Copy>> {
    let wanted = max.div_ceil(PAGE_SIZE).min(SLOTS_MAX);
    let mut copies = KVec::with_capacity(SLOTS_MAX, GFP_KERNEL_ACCOUNT)?;
    loop {
        // Pages to copy to are needed for large slots only.
        let mut blank = pages(if pipe.huge() == 0 { 0 } else { wanted })?;
        let can_copy = !blank.is_empty();
        match pipe.peek_pages(max, &mut blank, &mut copies) {
            Front::Taken(_) | Front::End => return Ok(copies),
            // The kernel ends another reader's claim soon.
            Front::Other if pipe.claimed.read() != 0 => {
                pipe.claim_wait.wait_killable(|| pipe.claimed.read() == 0)?;
            }
            Front::Other if can_copy => return Err(EFAULT),
            // A large slot came meanwhile.
            Front::Other => (),
            Front::Empty if request.nonblock() => return Err(EAGAIN),
            Front::Empty => pipe.rd_wait.wait(|| pipe.snapshot().readable())?,
        }
    }
}
