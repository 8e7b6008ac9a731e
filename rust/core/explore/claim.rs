// SPDX-License-Identifier: GPL-2.0-only

//! Claims in the model: a reader claims the first slot and moves its huge page without the lock.

use super::{
    super::wakeup::{Remaining, Wakes},
    process::{At, Job, Queue},
    world::World,
};

/// The intent with which a reader takes the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Read what is in the pipe.
    Read,
    /// Claim the first slot, if it can be claimed.
    Claim,
    /// Take up to this number of slots out of the ring and show them, if there are any.
    Peek(usize),
    /// End the claim. The value says whether the page was moved; else it was refused.
    EndClaim(bool),
}

impl World {
    /// True if the first slot can be claimed: it has two units, and the reader wants at least two.
    pub(super) fn claimable(&self, left: usize) -> bool {
        left >= 2 && self.slots.first().is_some_and(|slot| slot.len() == 2)
    }

    /// True if a reader may now take the lock to claim a slot.
    pub(super) fn may_claim(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Read { done: 0, want, .. } if self.claimable(want))
            && !self.claimed
    }

    /// A reader claims the first slot, which stays in the ring.
    pub(super) fn claim(&mut self, who: usize) {
        self.claimed = true;
        // The reader keeps the wakeup that it consumed.
        self.processes[who].at = At::Claiming;
        self.unlock(who, Wakes::default());
    }

    /// A reader holds the lock and finds that another reader has claimed the first slot.
    pub(super) fn wait_for_claim(&mut self, who: usize) {
        self.processes[who].queue = Queue::Claim;
        self.leave_lock(who, At::Enqueue);
    }

    /// A reader drops the lock, as in `Pipe::unlock_and_wake()`.
    pub(super) fn leave_lock(&mut self, who: usize, at: At) {
        let posted_state = self.posted_state();
        let slots = !self.slots.is_empty();
        let (Job::Read { policy, .. } | Job::SpliceTo { policy, .. }) =
            &mut self.processes[who].job
        else {
            unreachable!()
        };
        let wakes = policy.pause(Remaining {
            slots,
            pullable: posted_state.pullable,
            must_withdraw: posted_state.must_withdraw,
        });
        self.processes[who].at = at;
        self.unlock(who, wakes);
    }
}
