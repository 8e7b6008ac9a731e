// SPDX-License-Identifier: GPL-2.0-only

//! How a large write uses direct transfers: it pushes to a posted read, or posts its own memory and
//! waits until readers have pulled it.

use super::{Write, WriteStop};
use crate::{
    direct,
    lock::{Inner, Locked},
    posted_write::WriteOwner,
    slot::Kind,
    trace::{self, Who},
    zcore::{
        posted_bytes::{PostedBytes, Standing},
        PAGE_SIZE,
    },
};
use kernel::prelude::*;

/// The state that a write keeps in order to post its memory.
pub(super) struct Posting {
    /// The rest of the write may be posted: it is large, and other tasks may access its memory.
    allowed: bool,
    /// The owner's part of the posted write. [`None`] until the write first looks for resident
    /// memory. It is freed when the write ends, without the inner lock.
    owner: Option<WriteOwner>,
    /// The write has just withdrawn what it had posted. What fits of it goes into slots before
    /// anything else.
    pub(super) withdrawn: bool,
    /// Bytes that the posted write announced as part of a stream, and that are not yet in slots.
    announced: usize,
    /// The standing of the write among the writers that wait for a free slot.
    standing: Standing,
    /// The number of bytes written when the write last began to wait for a free slot.
    waited_at: Option<usize>,
    /// The value of `WaitingWriters::progress` without the progress of this write.
    seen_progress: u64,
}

impl Posting {
    /// Nothing is posted. `allowed` says whether the write may ever post.
    pub(super) fn new(allowed: bool) -> Self {
        Self {
            allowed,
            owner: None,
            withdrawn: false,
            announced: 0,
            standing: Standing::New,
            waited_at: None,
            seen_progress: 0,
        }
    }

    /// True if the write may post.
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The kind of the next slot of `bytes` bytes, for a file whose slots are of `kind` now.
    ///
    /// Bytes that were announced as part of a stream remain one, even if the file has O_DIRECT now.
    pub(super) fn slot_kind(&mut self, bytes: usize, kind: Kind) -> Kind {
        let kind = if self.announced != 0 {
            Kind::Stream
        } else {
            kind
        };
        self.announced = self.announced.saturating_sub(bytes);
        kind
    }

    /// Counts the progress of a writer that had waited for a free slot, if it has written more
    /// bytes since then; `done` are written now. The standing of other writers depends on that
    /// count, see [`Standing`].
    pub(super) fn count_progress(&mut self, done: usize, inner: &mut Inner) {
        if self.waited_at.take_if(|before| *before < done).is_some() {
            inner.waiting_writers.made_progress();
            self.seen_progress = self.seen_progress.wrapping_add(1);
        }
    }

    /// Begins to wait for a free slot, with `done` bytes written.
    pub(super) fn begin_wait(&mut self, done: usize, inner: &mut Inner) {
        inner.waiting_writers.count += 1;
        self.waited_at = Some(done);
    }

    /// Ends the wait for a free slot. `queued` says whether the writer slept in the queue.
    pub(super) fn end_wait(&mut self, queued: bool, inner: &mut Inner) {
        let waiting = &mut inner.waiting_writers;
        waiting.count -= 1;
        let others = waiting.progress != self.seen_progress;
        self.standing = self.standing.waited(waiting.count, queued, others);
    }
}

impl<'w> Write<'w, '_, '_> {
    /// Decides whether to post the rest of the write: if it would have to wait otherwise.
    ///
    /// Errors: [`WriteStop::FindResident`] if the owner first has to look for resident memory,
    /// [`WriteStop::Post`] with the bytes to post.
    pub(super) fn try_post(&self, inner: &Inner) -> Result<(), WriteStop> {
        let may_post = self.posting.allowed
            // Staged bytes have left the source, but are not in the pipe.
            && self.staged.is_none()
            && self.left() >= direct::min_bytes()
            && !inner.ring.is_posted()
            && !inner.slots_only()
            // If all slots are reserved or held, nothing of the posted write could be announced.
            && (inner.ring.used() != 0 || inner.ring.free() != 0)
            && self.posting.standing.allows_post(inner.writers_to_respect())
            && !PostedBytes::new(self.left(), self.slot_offset).fits(inner.ring.free())
            && self.request.may_block_stream()
            && !current!().signal_pending();
        if !may_post {
            return Ok(());
        }

        let Some(owner) = &self.posting.owner else {
            return Err(WriteStop::FindResident);
        };
        let bytes = owner.postable(self.done, self.total, self.slot_offset);
        if bytes.left() >= direct::min_bytes() && !bytes.fits(inner.ring.free()) {
            return Err(WriteStop::Post(bytes));
        }
        if owner.is_stale(self.done) {
            return Err(WriteStop::FindResident);
        }
        Ok(())
    }

    /// Pushes to the posted read, if there is one, the pipe is empty and the rest is large.
    pub(super) fn push(&mut self, inner: &mut Inner) {
        if inner.posted_read.is_none() || inner.slots_only() {
            return;
        }
        let Some(posted_read) = &mut inner.posted_read else {
            return;
        };
        let may_push = posted_read.is_open()
            && self.left() >= direct::min_bytes()
            && self.staged.is_none()
            && inner.ring.used() == 0
            && !inner.ring.has_pullable()
            && self.request.kind() == Kind::Stream;
        if !may_push {
            return;
        }
        let max = self.left().min(direct::max_bytes());
        let (bytes, outcome) = posted_read.push(max, self.slot_offset, self.source);

        self.done += bytes;
        // The rest of a slot that was pushed in part still takes up that slot.
        self.slot_offset = (self.slot_offset + bytes) % PAGE_SIZE;
        self.direct += bytes;
        self.merge &= bytes == 0;
        self.pushed += bytes;
        self.posting.announced = self.posting.announced.saturating_sub(bytes);
        inner.ring.count_changes(bytes);
        inner.stats.push.count(bytes, outcome);
        trace::push(&inner.id, bytes, outcome);
    }

    /// Looks for resident memory in the rest of the write. Sleeps: not under the inner lock.
    pub(super) fn find_resident(&mut self) {
        match &mut self.posting.owner {
            Some(owner) => {
                owner.find_resident(self.source, self.done);
            }
            None => {
                self.posting.owner = WriteOwner::new(self.source, self.done, self.request.file);
                self.posting.allowed = self.posting.owner.is_some();
            }
        }
    }

    /// Posts `bytes`, waits until the owner has to withdraw them, and withdraws them.
    pub(super) fn wait_posted(&mut self, mut inner: Locked<'w>, bytes: PostedBytes) -> Locked<'w> {
        self.post(&mut inner, bytes);
        let wakes = self.policy.pause_to_post(self.done, inner.ring.free() != 0);
        drop(inner);
        self.pipe.wake(wakes);

        trace::wait(self.pipe.id(), Who::Owner);
        self.extend();
        let pipe = self.pipe;
        // A signal ends the wait, too. The write then refills slots, and `run` returns the error.
        let _ = pipe
            .owner_wait
            .wait_exclusive(|| pipe.snapshot().owner_ready());
        self.policy.waited();

        let mut inner = self.lock_for_refill();
        let blocked_others = self.withdraw(&mut inner);
        self.policy.withdrew(self.done, blocked_others);
        inner
    }

    /// Puts the posted write into the ring. The owner's part exists: [`Self::try_post`] returned
    /// `bytes` of it.
    fn post(&mut self, inner: &mut Inner, bytes: PostedBytes) {
        let Some(owner) = &mut self.posting.owner else {
            return;
        };
        if let Some(posted) = owner.post(bytes, self.done) {
            inner.ring.post(posted);
            inner.refused = false;
            self.posting.standing = Standing::New;
            inner.stats.write.posts += 1;
            trace::post(&inner.id, bytes.left());
        }
    }

    /// Extends the posted write as long as more of the rest is resident. Not under the inner lock.
    fn extend(&mut self) {
        let Some(owner) = &mut self.posting.owner else {
            return;
        };

        while !self.pipe.snapshot().owner_ready()
            && !current!().signal_pending()
            && owner.find_resident(self.source, self.done)
        {
            let all = owner.postable(self.done, self.total, self.slot_offset);
            let mut inner = self.pipe.lock();
            let free = inner.ring.free();
            if let Some(posted) = inner.ring.posted_write() {
                owner.extend(posted, free, all, self.done);
            }
        }
    }

    /// Takes the inner lock with enough pages to put what is posted into the free slots.
    ///
    /// Until the pages are there the write stays posted: what it announces must not disappear for
    /// the time of an allocation. If an allocation fails, it does disappear until there is memory.
    fn lock_for_refill(&mut self) -> Locked<'w> {
        loop {
            let mut inner = self.pipe.lock();
            let free = inner.ring.free();
            let posted = inner
                .ring
                .posted_write()
                .map_or(0, |posted| posted.bytes().slots_left());
            let have = inner.spare.len() + self.stock.len();
            let missing = posted.min(free).saturating_sub(have);
            if missing == 0 {
                return inner;
            }
            drop(inner);
            if self.stock.add(missing).is_err() {
                return self.pipe.lock();
            }
        }
    }

    /// Withdraws the posted write and counts what readers pulled. True if it was pullable, so that
    /// other writers could not write.
    fn withdraw(&mut self, inner: &mut Inner) -> bool {
        let free = inner.ring.free();
        let posting = &mut self.posting;
        let (Some(owner), Some(posted)) = (&mut posting.owner, inner.ring.withdraw()) else {
            return false;
        };
        let blocked_others = posted.bytes().pullable();
        let announced = posted.bytes().announced(free);
        let (done, slot_offset, standing) = owner.withdraw(posted);

        posting.allowed = !owner.gave_up();
        posting.standing = standing;
        posting.withdrawn = true;
        posting.announced = announced;
        posting.seen_progress = inner.waiting_writers.progress;
        self.source.skip(done - self.done);
        self.direct += done - self.done;
        self.done = done;
        self.slot_offset = slot_offset;
        blocked_others
    }
}
