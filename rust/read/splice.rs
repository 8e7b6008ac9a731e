// SPDX-License-Identifier: GPL-2.0-only

//! Reading into a real pipe: the pipe's side of `splice_pipe_to_pipe()` and `link_pipe()`.
//!
//! Pages of slots leave the pipe as they are. Bytes in large slots, and those of a posted write,
//! are copied once, to new pages.

use crate::{
    lock::Inner,
    mm::{BufferPage, Dest, SharedPage},
    pipe::Pipe,
    read::Moves,
    real_pipe::RealPipe,
    request::{Request, Splice},
    slot::{Kind, Slot, SmallSlot},
    zcore::{wakeup::ReaderPolicy, PAGE_SIZE},
};
use core::slice;
use kernel::{iov::IovIterDest, prelude::*};

/// What was at the front of the pipe.
pub(crate) enum Front {
    /// This many bytes, which the caller has taken or copied.
    Taken(usize),
    /// Bytes that the caller could not take.
    Other,
    /// Slots that another reader has claimed.
    Claimed,
    /// No bytes, but there are writers.
    Empty,
    /// No bytes and no writers.
    End,
}

impl Front {
    /// What was at the front of the pipe, after the caller has taken or copied `done` bytes.
    fn of(inner: &mut Inner, done: usize) -> Self {
        match done {
            1.. => Front::Taken(done),
            0 if matches!(inner.ring.first(), Some(Slot::Large(slot)) if slot.is_claimed()) => {
                Front::Claimed
            }
            0 if !inner.ring.is_empty() => Front::Other,
            0 if inner.has_writers() => Front::Empty,
            0 => Front::End,
        }
    }
}

/// Bytes from the front of a pipe that stay there, too.
pub(crate) struct Peeked {
    pub(crate) page: SharedPage,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) kind: Kind,
}

impl Pipe {
    /// Reads at most `max` bytes into `to`. Returns the number of bytes, which is 0 at the end of
    /// the data.
    ///
    /// Waits for the first bytes, and then for a free slot of `to`. While it waits, nobody holds
    /// the mutex of `to`. It does not wait again once it has bytes. Sleeps.
    ///
    /// Errors, if nothing was read: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `EPIPE` (with SIGPIPE).
    pub(crate) fn splice_to_real(
        &self,
        request: Request<'_>,
        to: &mut RealPipe<'_>,
        max: usize,
    ) -> Result<usize> {
        loop {
            to.wait_for_space(request.nonblock())?;
            match self.pass_on(to, max) {
                Front::Taken(bytes) => return Ok(bytes),
                Front::End => return Ok(0),
                Front::Other => match self.copy_to_real(request, to, max) {
                    // There is a claim or a packet now.
                    Err(EAGAIN) if self.snapshot().readable() => continue,
                    Err(EAGAIN) => (),
                    result => return result,
                },
                Front::Claimed => {
                    // `splice_pipe_to_pipe()` would wait for the mutex of the pipe.
                    to.unlocked(|| self.wait_claimed())?;
                    continue;
                }
                Front::Empty => (),
            }
            if request.nonblock() {
                return Err(EAGAIN);
            }
            // The wait is not exclusive, so it uses up no wakeup that another reader needs.
            to.unlocked(|| self.rd_wait.wait(|| self.snapshot().readable()))?;
        }
    }

    /// Passes at most `max` bytes from the front of the pipe on to `to`, as far as they are in
    /// pages of the pipe's own. Nothing is copied.
    fn pass_on(&self, to: &mut RealPipe<'_>, max: usize) -> Front {
        let mut policy = ReaderPolicy::default();
        let mut inner = self.lock_to_read(&mut policy);
        let (mut done, mut pages) = (0, 0);

        while done < max && to.free() != 0 {
            let was_full = inner.ring.is_full();
            let left = max - done;
            let Some(Slot::Shared(slot)) = inner.ring.nth_shared(0) else {
                break;
            };
            let (kind, bytes) = (slot.kind(), slot.len());
            if bytes > left {
                // As in fs/splice.c, the rest of a packet stays, too.
                let (page, offset) = slot.share();
                slot.consume(left);
                done += to.push(page, offset, left, kind);
            } else if let Some(Slot::Shared(slot)) = inner.ring.pop() {
                let (page, offset) = slot.into_parts();
                done += to.push(page, offset, bytes, kind);
                policy.slot_emptied(was_full);
            }
            pages += 1;
        }
        let front = Front::of(&mut inner, done);
        if done != 0 {
            inner.stats.read.count(done);
            inner.stats.pages_passed_on += pages;
            self.finish(inner, &mut policy);
        }
        front
    }

    /// Copies at most `max` bytes to new pages and puts those into `to`. As [`Self::read`] without
    /// waiting. Sleeps, but for no user of a pipe.
    fn copy_to_real(
        &self,
        request: Request<'_>,
        to: &mut RealPipe<'_>,
        max: usize,
    ) -> Result<usize> {
        let count = to
            .free()
            .min(max.div_ceil(PAGE_SIZE))
            .min(BufferPage::FILL_MAX);
        let mut pages = BufferPage::new_all(count)?;
        let max = max.min(count * PAGE_SIZE);
        let request = Request {
            nowait: true,
            splice: Splice::PassOn,
            ..request
        };
        let read = |dest: &mut IovIterDest<'_>| {
            let mut moves = Moves::new(false, false, false);
            self.read_on(request, max, &mut Dest::new(dest), &mut moves)
        };
        let bytes = BufferPage::fill_all(&mut pages, max, read)?;
        for page in pages {
            // `to` has as many free slots, and its mutex is held.
            to.push(page.into_shared(), 0, PAGE_SIZE, Kind::Stream);
        }
        Ok(bytes)
    }

    /// Adds the bytes at the front of the pipe, at most `max`, to `copies`, as far as that has
    /// space. They stay in the pipe. Pages of the pipe's own are shared and not copied. Other bytes
    /// are copied to `blank` pages, as far as there are any.
    ///
    /// It does not see what a blocked writer has posted, so the pipe must be
    /// [slots-only](Self::is_slots_only). Sleeps, but only for the lock.
    pub(crate) fn peek_pages(
        &self,
        max: usize,
        blank: &mut KVec<BufferPage>,
        copies: &mut KVec<Peeked>,
    ) -> Front {
        let inner = &mut *self.lock();
        let (mut done, mut n, mut skip) = (0, 0, 0);

        while done < max && copies.len() < copies.capacity() {
            let Some(slot) = inner.ring.nth_shared(n) else {
                break;
            };
            let left = slot.len() - skip;
            let bytes = left.min(max - done);
            let kind = slot.kind();
            let (page, offset, bytes) = match slot {
                Slot::Shared(slot) => {
                    let (page, offset) = slot.share();
                    (page, offset, bytes)
                }
                slot => {
                    let Some(mut page) = blank.pop() else { break };
                    let pages = slice::from_mut(&mut page);
                    let copied = BufferPage::fill_all(pages, bytes, |dest| {
                        Ok(slot.peek_atomic(skip, &mut Dest::new(dest)))
                    });
                    (page.into_shared(), 0, copied.unwrap_or(0))
                }
            };
            let copy = Peeked {
                page,
                offset,
                bytes,
                kind,
            };
            if bytes == 0 || copies.push_within_capacity(copy).is_err() {
                break;
            }
            done += bytes;
            skip += bytes;
            if bytes == left {
                (n, skip) = (n + 1, 0);
            }
        }
        Front::of(inner, done)
    }
}
