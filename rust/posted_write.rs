// SPDX-License-Identifier: GPL-2.0-only

//! A posted write: the memory of a blocked writer, from which readers copy.
//!
//! [`PostedBytes`] counts the bytes and has the rules. This file combines the counts with the
//! memory: [`PostedWrite`] is the part in the pipe's ring, [`WriteOwner`] the part that the owner
//! keeps.

use crate::{
    direct,
    mm::{Dest, RemoteSource, Source},
    request::Request,
    zcore::{
        outcome::{Miss, Outcome},
        posted_bytes::{partial_slot, PostedBytes, Standing},
        state::PostedState,
    },
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// How far the owner looks for resident memory at a time, in units of [`direct::max_bytes`].
///
/// This is enough for several reads: while the first one copies, the owner has time to find more.
const LOOKAHEAD: usize = 8;

/// The owner's part of a posted write: how much of its memory is resident, and how much of it is
/// posted.
///
/// A write posts only resident memory. The owner faults in the rest itself, and does so, as with
/// pipe(2), no sooner than a slot is free for it. All positions count from the start of the write.
pub(crate) struct WriteOwner {
    /// [`None`] while the write is posted.
    posted: Option<KBox<PostedWrite>>,
    /// The position of the first byte of `posted`.
    start: usize,
    /// The end of the memory that was found resident.
    resident: usize,
    /// The number of bytes written when the owner last looked for resident memory.
    found_at: usize,
    /// The end of the posted bytes.
    posted_end: usize,
    /// The number of times that the write was posted and a miss withdrew it with nothing pulled.
    failed_posts: u32,
}

impl WriteOwner {
    /// Prepares to post what is left of `source`, of which `done` bytes are written to `file`.
    ///
    /// [`None`] if only the current task may access that memory, or if an allocation fails. Sleeps.
    #[cold]
    pub(crate) fn new(source: &mut Source<'_, '_>, done: usize, file: &File) -> Option<Self> {
        let posted = PostedWrite {
            bytes: PostedBytes::new(0, 0),
            memory: RemoteSource::new(source).ok()??,
            file: ARef::from(file),
        };
        let mut this = Self {
            posted: Some(KBox::new(posted, GFP_KERNEL_ACCOUNT).ok()?),
            start: done,
            resident: done,
            found_at: done,
            posted_end: done,
            failed_posts: 0,
        };
        this.find_resident(source, done);
        Some(this)
    }

    /// Looks for more resident memory; true if it found some. `source` is what is left after `done`
    /// bytes.
    ///
    /// It causes no fault, but it takes long: do not call it under the inner lock.
    pub(crate) fn find_resident(&mut self, source: &mut Source<'_, '_>, done: usize) -> bool {
        let before = self.resident.max(done);

        self.found_at = done;
        self.resident = before + source.resident(before - done, LOOKAHEAD * direct::max_bytes());
        self.resident > before
    }

    /// True if bytes were written since the owner last looked for resident memory.
    pub(crate) fn is_stale(&self, done: usize) -> bool {
        done > self.found_at
    }

    /// True if the write should not be posted again: part of its memory is resident for the owner
    /// but not accessible to readers.
    pub(crate) fn gave_up(&self) -> bool {
        self.failed_posts > 1
    }

    /// The bytes that could be posted, of `total` bytes of which `done` are written. The first one
    /// would be at `slot_offset` in a slot.
    ///
    /// If not all of the rest is resident, the post ends with a complete slot.
    pub(crate) fn postable(&self, done: usize, total: usize, slot_offset: usize) -> PostedBytes {
        let resident = self.resident.saturating_sub(done);
        let partial = if self.resident < total {
            partial_slot(slot_offset, resident)
        } else {
            0
        };
        PostedBytes::new(resident - partial, slot_offset)
    }

    /// Makes a posted write of `bytes`, for the ring. [`None`] if the write is posted already.
    pub(crate) fn post(&mut self, bytes: PostedBytes, done: usize) -> Option<KBox<PostedWrite>> {
        let mut posted = self.posted.take()?;

        posted.memory.skip(done - self.start);
        posted.bytes = bytes;
        self.start = done;
        self.posted_end = done + bytes.left();
        Some(posted)
    }

    /// Extends `posted` to `all`, which begins after `done` bytes. Does nothing if the owner must
    /// withdraw it. `free` slots are free.
    pub(crate) fn extend(
        &mut self,
        posted: &mut PostedWrite,
        free: usize,
        all: PostedBytes,
        done: usize,
    ) {
        let more = done + all.left() - self.posted_end;

        self.posted_end += posted.bytes.extend(more, free);
    }

    /// Keeps `posted`, which was withdrawn from the ring, for the next post.
    ///
    /// Returns the number of bytes that are written now, the slot offset of the next one, and the
    /// standing of the write among other writers.
    pub(crate) fn withdraw(&mut self, posted: KBox<PostedWrite>) -> (usize, usize, Standing) {
        let done = self.posted_end - posted.bytes.left();
        let slot_offset = posted.bytes.slot_offset();
        let standing = Standing::after(&posted.bytes);

        if posted.bytes.is_closed() && done == self.start {
            self.failed_posts += 1;
        }
        self.posted = Some(posted);
        self.start = done;
        // The owner looks again for resident memory once more bytes are written.
        self.resident = done;
        self.found_at = done;
        (done, slot_offset, standing)
    }
}

/// The pipe's part of a posted write: its memory and its counts. It is in the ring while its owner
/// waits.
pub(crate) struct PostedWrite {
    bytes: PostedBytes,
    memory: RemoteSource,
    file: ARef<File>,
}

/// The result of a [pull](PostedWrite::pull).
pub(crate) struct Pulled {
    /// Bytes copied.
    pub(crate) bytes: usize,
    /// Why the pull ended.
    pub(crate) outcome: Outcome,
    /// The bytes include the last ones of a slot, had they gone through slots.
    pub(crate) frees_slot: bool,
}

impl PostedWrite {
    /// The part of the state that goes into the snapshot, with `free` slots free.
    pub(crate) fn state(&self, free: usize) -> PostedState {
        PostedState {
            pullable: self.bytes.pullable(),
            must_withdraw: self.bytes.must_withdraw(free),
        }
    }

    /// The counts.
    pub(crate) fn bytes(&self) -> &PostedBytes {
        &self.bytes
    }

    /// Copies at most `bytes` bytes to `dest`. The caller holds the inner lock; `free` slots are
    /// free.
    ///
    /// As with slots, bytes of a slot that could not be copied completely do not count: the owner's
    /// memory and `dest` are rewound to the start of that slot. If the reader had to stop,
    /// `allow_partial` keeps them. A miss closes the posted write, except if the address space was
    /// only [busy](Miss::Busy).
    pub(crate) fn pull(
        &mut self,
        bytes: usize,
        allow_partial: bool,
        free: usize,
        dest: &mut Dest<'_, '_>,
    ) -> Pulled {
        // The flags of the file may change at any time, so they are read only once: what is copied
        // now is counted by what the flags are now. If the file may no longer post, only the bytes
        // that were announced before are left.
        let may_post = self.may_post();
        let max = if may_post {
            self.bytes.available()
        } else {
            self.bytes.announced(free)
        };
        let (mut copied, outcome) = self.memory.pull(bytes.min(max), dest);

        if outcome != Outcome::All && !(allow_partial && outcome == Outcome::Stopped) {
            let part = self.bytes.partial_slot(copied);
            self.memory.rewind(part);
            dest.rewind(part);
            copied -= part;
        }
        let frees_slot = self.bytes.frees_slot(copied);
        if frees_slot && !may_post {
            self.bytes.recall(free);
        }
        self.bytes.count_pulled(copied);
        match outcome {
            // A busy address space may be free again soon.
            Outcome::Missed(Miss::Busy) | Outcome::All | Outcome::Stopped => (),
            Outcome::Missed(Miss::Mapping | Miss::Page) => self.bytes.close(),
        }
        Pulled {
            bytes: copied,
            outcome,
            frees_slot,
        }
    }

    /// Closes the posted write: nothing is pullable until the owner has withdrawn it and filled
    /// slots.
    pub(crate) fn close(&mut self) {
        self.bytes.close();
    }

    /// Recalls the posted write if readers have used its share. Call it if other writers wait for a
    /// free slot; `free` slots are free. True if this call recalled it.
    pub(crate) fn recall_used_share(&mut self, free: usize) -> bool {
        let recalls = self.bytes.share_is_used(direct::max_bytes()) && !self.bytes.is_recalled();
        if recalls {
            self.bytes.recall(free);
        }
        recalls
    }

    fn may_post(&self) -> bool {
        Request::of(&self.file).may_block_stream()
    }

    /// Notes that a slot was freed, beside the `free` slots that were free already.
    ///
    /// A writer of a pipe(2) would wake now. It would check whether it may still wait, and whether
    /// it still writes a stream. So a write that may not post any more is recalled. The bytes that
    /// were announced before stay.
    pub(crate) fn slot_freed(&mut self, free: usize) {
        if !self.may_post() {
            self.bytes.recall(free);
        }
    }
}
