// SPDX-License-Identifier: GPL-2.0-only

//! A posted read: the memory of a blocked reader, into which a writer may copy.
//!
//! A writer that finds the pipe empty pushes into this memory instead of filling slots. The result
//! is the same as if the reader had been reading while the writer wrote.

use crate::{
    mm::{Dest, RemoteDest, Source},
    zcore::{outcome::Outcome, posted_space::PostedSpace},
};
use kernel::{prelude::*, sync::aref::ARef, task::Task};

/// A posted read: its memory, its counts and its owner.
pub(crate) struct PostedRead {
    memory: RemoteDest,
    space: PostedSpace,
    owner: ARef<Task>,
}

impl PostedRead {
    /// A read of the current task into the space left in `dest`.
    ///
    /// [`None`] if `dest` is not memory of this task, or if an allocation fails. Sleeps.
    #[cold]
    pub(crate) fn new(dest: &mut Dest<'_, '_>) -> Option<KBox<Self>> {
        let this = Self {
            space: PostedSpace::new(dest.remaining()),
            memory: RemoteDest::new(dest).ok()??,
            owner: ARef::from(&**current!()),
        };
        KBox::new(this, GFP_KERNEL_ACCOUNT).ok()
    }

    /// True if the read may be posted, see [`PostedSpace::is_unserved`].
    pub(crate) fn is_unserved(&self) -> bool {
        self.space.is_unserved()
    }

    /// True if a writer may push while the read is posted.
    pub(crate) fn is_open(&self) -> bool {
        self.space.is_open()
    }

    /// The counts, which decide whether a writer may push.
    pub(crate) fn space(&mut self) -> &mut PostedSpace {
        &mut self.space
    }

    /// Number of bytes that a writer has pushed.
    pub(crate) fn pushed(&self) -> usize {
        self.space.pushed()
    }

    /// Wakes the owner by name, not through a wait queue.
    ///
    /// The caller holds the inner lock. The owner needs that lock to leave its call, so it is still
    /// in this call and no other sleep of the task is disturbed.
    pub(crate) fn wake_owner(&self) {
        self.owner.wake_up();
    }

    /// Pushes at most `bytes` bytes of `source`; returns how many. The caller holds the inner lock.
    /// The first byte would be at `slot_offset` in a slot.
    ///
    /// Bytes of a slot that could not be completed do not count: `source` is rewound to the start
    /// of that slot. Each push begins at the start of the posted memory, so a push that delivers
    /// nothing has no effect on the next one.
    pub(crate) fn push(
        &mut self,
        bytes: usize,
        slot_offset: usize,
        source: &mut Source<'_, '_>,
    ) -> (usize, Outcome) {
        let (copied, outcome) = self.memory.push(bytes.min(self.space.space()), source);
        let undone = self.space.settle(copied, slot_offset, outcome);

        source.rewind(undone);
        (copied - undone, outcome)
    }
}
