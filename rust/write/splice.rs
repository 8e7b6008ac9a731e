// SPDX-License-Identifier: GPL-2.0-only

//! Writing from a real pipe, and writing pages that something else has filled.

use crate::{
    lock::Inner,
    mm::{BufferPage, Parts},
    pipe::Pipe,
    real_pipe::RealPipe,
    request::Request,
    slot::{Kind, Slot},
    sync::raise_sigpipe,
    zcore::{wakeup::WriterPolicy, PAGE_SIZE},
};
use core::mem;
use kernel::prelude::*;

impl Pipe {
    /// Writes at most `max` bytes of `from`. Returns the number of bytes, which is 0 at the end of
    /// the data.
    ///
    /// Each byte is copied once: to a page of the pipe, or to the memory of a posted read. Those
    /// that do not fit stay in `from`. It waits for the first bytes, and then for a free slot.
    /// While it waits, nobody holds the mutex of `from`. It does not wait again once it has written
    /// something. Sleeps.
    ///
    /// Errors, if nothing was written: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `EPIPE` (with SIGPIPE),
    /// and those of a file that bytes in `from` come from.
    pub(crate) fn splice_from_real(
        &self,
        request: Request<'_>,
        from: &mut RealPipe<'_>,
        max: usize,
    ) -> Result<usize> {
        let mut done = 0;
        let result = loop {
            if done == max {
                break Ok(());
            }
            match from.wait_for_data(done != 0 || request.nonblock()) {
                Ok(true) => (),
                Ok(false) if done == 0 => {
                    break from.unlocked(|| self.wait_for_space(request));
                }
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
            match from.feed(max - done, |parts, kind| {
                self.write_parts(request, parts, kind)
            }) {
                Ok(0) => break Ok(()),
                Ok(bytes) => done += bytes,
                Err(EAGAIN) if done == 0 && !request.nonblock() => {
                    let waited = from.unlocked(|| self.wait_writable(request));
                    if waited.is_err() {
                        break waited;
                    }
                }
                Err(e) => break Err(e),
            }
        };
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }

    /// Writes `parts` to slots of this kind, without waiting. Returns the number of bytes. Sleeps,
    /// to allocate pages. Errors: as for [`Self::write`].
    pub(crate) fn write_parts(
        &self,
        request: Request<'_>,
        parts: &Parts<'_>,
        kind: Kind,
    ) -> Result<usize> {
        let request = Request {
            nowait: true,
            kind: Some(kind),
            ..request
        };
        parts.read(|source| match kind {
            // A packet is not appended to another slot.
            Kind::Packet => self.write_on(request, parts.bytes(), source),
            Kind::Stream => self.write(request, source),
        })
    }

    /// Waits until the pipe can be written to, or has no reader. The wait is not exclusive, so it
    /// uses up no wakeup that another writer needs. Errors: `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn wait_writable(&self, request: Request<'_>) -> Result {
        if request.nonblock() {
            return Err(EAGAIN);
        }
        self.wr_wait.wait(|| self.snapshot().writable())
    }

    /// Waits for a free slot, for a transfer that has no bytes: as `opipe_prep()`, which does not
    /// know that. Sleeps. Errors: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn wait_for_space(&self, request: Request<'_>) -> Result {
        loop {
            let state = self.snapshot();
            if state.ends.readers == 0 {
                raise_sigpipe();
                return Err(EPIPE);
            }
            if state.writable() {
                return Ok(());
            }
            self.wait_writable(request)?;
        }
    }

    /// Reserves free slots: at least one, at most `max`. Waits for one unless the request does not
    /// wait. Takes spare pages of the pipe, and allocates the others. Sleeps.
    ///
    /// Errors: `EPIPE` (with SIGPIPE), `EAGAIN`, `ERESTARTSYS`, `ENOMEM`.
    pub(crate) fn reserve(&self, request: Request<'_>, max: usize) -> Result<Reserved<'_>> {
        let mut pages = KVec::with_capacity(max, GFP_KERNEL_ACCOUNT)?;
        let mut reserved = loop {
            let mut inner = self.lock();
            if !inner.has_readers() {
                drop(inner);
                raise_sigpipe();
                return Err(EPIPE);
            }
            let mut slots = 0;
            while slots < max && inner.ring.reserve() {
                slots += 1;
                inner.reserved_pages += 1;
            }
            if slots != 0 {
                while pages.len() < slots {
                    let Some(page) = inner.spare.take() else {
                        break;
                    };
                    // There is space for as many pages as there are slots.
                    let _ = pages.push_within_capacity(page);
                }
                break Reserved {
                    pipe: self,
                    slots,
                    pages,
                };
            }
            inner.refused = true;
            drop(inner);
            self.wait_writable(request)?;
        };
        while reserved.pages.len() < reserved.slots {
            reserved
                .pages
                .push(BufferPage::new()?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(reserved)
    }
}

/// Free slots that are reserved, with an empty page for each. They stay reserved until
/// [`Self::fill`], or until the value is dropped.
pub(crate) struct Reserved<'p> {
    pipe: &'p Pipe,
    slots: usize,
    /// The pages, to be filled in order.
    pub(crate) pages: KVec<BufferPage>,
}

impl Reserved<'_> {
    /// The number of reserved slots.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Frees the slots that are still reserved.
    fn release(&mut self, inner: &mut Inner) {
        for _ in 0..mem::take(&mut self.slots) {
            inner.ring.release();
            inner.reserved_pages -= 1;
        }
    }

    /// Puts the pages with their first `bytes` bytes into slots, behind all others. All of these
    /// pages but the last are full. The other slots are free again.
    pub(crate) fn fill(mut self, bytes: usize) {
        let pipe = self.pipe;
        let mut inner = pipe.lock();
        let policy = WriterPolicy::new(inner.ring.is_empty());
        let used = bytes.div_ceil(PAGE_SIZE).min(self.slots);

        let mut pages = mem::take(&mut self.pages).into_iter();
        for page in pages.by_ref().take(used) {
            let slot = Slot::of_page(page, 0, Kind::Stream);
            inner.ring.fill_reserved(slot);
            inner.reserved_pages -= 1;
            self.slots -= 1;
        }
        // Nobody waits for a slot of a pipe that is not full.
        let released = self.slots != 0 && inner.ring.is_full();
        self.release(&mut inner);
        while inner.wants_spare() {
            let Some(page) = pages.next() else { break };
            inner.recycle(page);
        }
        inner.stats.write.count(bytes);
        let full = inner.ring.is_full();
        let posted = inner.ring.posted_state();
        drop(inner);
        // The other pages are freed without the lock.
        drop(pages);
        pipe.wake(policy.end_reserved(bytes, released, full, pipe.every_write_wakes(), posted));
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.slots == 0 {
            return;
        }
        let mut inner = self.pipe.lock();
        self.release(&mut inner);
        let posted = inner.ring.posted_state();
        let wakes = WriterPolicy::new(false).release_seat(inner.ring.is_full(), posted);
        drop(inner);
        self.pipe.wake(wakes);
    }
}
