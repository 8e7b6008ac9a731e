// SPDX-License-Identifier: GPL-2.0-only

//! A reader's claim: a slot that it has for itself without the lock, while it has its page tables
//! changed.

use super::{
    super::turn::{Left, Wakes},
    world::{At, Job, Queue, World},
};

/// How a reader comes to the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// To read what there is.
    ToRead,
    /// To claim the first slot, if that is possible then.
    ToClaim,
    /// To take so many slots out and show them, if there are any then.
    ToPeek(usize),
    /// With its claim: the page has landed, or was refused.
    WithClaim(bool),
}

impl World {
    /// Whether the first slot may be claimed, one of two units, by who wants so many more.
    pub(super) fn claimable(&self, left: usize) -> bool {
        left >= 2 && self.slots.first().is_some_and(|slot| slot.len() == 2)
    }

    /// Whether a reader may come to claim now.
    pub(super) fn may_claim(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Read { done: 0, want, .. } if self.claimable(want))
            && !self.claimed
    }

    /// A reader claims the first slot, which stays where it is.
    pub(super) fn claim(&mut self, who: usize) {
        self.claimed = true;
        // It keeps the wakeup that it got.
        self.processes[who].at = At::Claiming;
        self.unlock(who, Wakes::default());
    }

    /// A reader has the lock, and finds the first slot claimed by another.
    pub(super) fn wait_for_claim(&mut self, who: usize) {
        self.processes[who].queue = Queue::Claim;
        self.leave_lock(who, At::Enqueue);
    }

    /// Drops the lock, as `Pipe::leave()` does.
    pub(super) fn leave_lock(&mut self, who: usize, at: At) {
        let offered = self.offered();
        let slots = !self.slots.is_empty();
        let Job::Read { turn, .. } = &mut self.processes[who].job else {
            unreachable!()
        };
        let mut wakes = turn.pause(Left {
            slots,
            offered: offered.takeable,
            due: offered.due,
        });
        wakes.output = wakes.writer;
        self.processes[who].at = at;
        self.unlock(who, wakes);
    }
}
