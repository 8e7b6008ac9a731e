// SPDX-License-Identifier: GPL-2.0-only

//! How readers of all kinds take the inner lock, drop it, and free large slots.

use crate::{
    lock::Locked,
    pipe::Pipe,
    slot::{LargeSlot, LargeSlots},
    zcore::{
        gift::HUGE_MAX,
        wakeup::{ReaderPolicy, Remaining, Wakes},
    },
};
use kernel::prelude::*;

impl Pipe {
    /// Counts a huge page that has left the pipe.
    pub(super) fn huge_is_gone(&self, locked: &Locked<'_>, policy: &mut ReaderPolicy) {
        let pages = self.huge();
        self.set_huge(locked, pages.saturating_sub(1));
        // A writer may have waited for this.
        policy.slot_emptied(pages >= HUGE_MAX);
    }

    /// Takes care of `slot`, which is out of the pipe: it was read by copying, or consumed from a
    /// read window. Its page goes into the home, or it is added to `gone`, to be freed without the
    /// lock.
    pub(super) fn retire(
        &self,
        locked: &mut Locked<'_>,
        slot: KBox<LargeSlot>,
        policy: &mut ReaderPolicy,
        gone: &mut LargeSlots,
    ) {
        if slot.is_huge() {
            locked.homes.cost.copied();
        }
        if locked.has_writers() {
            locked.homes.put(slot, gone);
        } else {
            gone.push(slot);
        }
        self.huge_is_gone(locked, policy);
    }

    /// Takes the lock, for a reader.
    pub(super) fn lock_to_read(&self, policy: &mut ReaderPolicy) -> Locked<'_> {
        let inner = self.lock();
        policy.locked(inner.ring.announced());
        inner
    }

    /// Drops the lock for a while and issues the wakeups of a reader.
    pub(super) fn unlock_and_wake(&self, inner: Locked<'_>, policy: &mut ReaderPolicy) {
        self.unlock_reader(inner, policy, &mut LargeSlots::new(), ReaderPolicy::pause);
    }

    /// Drops the lock at the end of a reader's call and issues its wakeups.
    pub(super) fn finish(&self, inner: Locked<'_>, policy: &mut ReaderPolicy) {
        self.unlock_reader(inner, policy, &mut LargeSlots::new(), ReaderPolicy::end);
    }

    /// Drops the lock, frees `huge` and issues the wakeups that `wakes` returns.
    pub(super) fn unlock_reader(
        &self,
        mut inner: Locked<'_>,
        policy: &mut ReaderPolicy,
        huge: &mut LargeSlots,
        wakes: fn(&mut ReaderPolicy, Remaining) -> Wakes,
    ) {
        if inner.recall_used_share(|| self.wr_wait.has_waiters()) {
            policy.post_changed();
        }
        let posted = inner.ring.posted_state();
        let remaining = Remaining {
            slots: inner.ring.used() != 0,
            pullable: posted.pullable,
            must_withdraw: posted.must_withdraw,
        };
        drop(inner);
        let wakes = wakes(policy, remaining);
        if !huge.is_empty() {
            // Before the wakeups, because the woken tasks may need these pages.
            huge.free();
        }
        self.wake(wakes);
    }
}
