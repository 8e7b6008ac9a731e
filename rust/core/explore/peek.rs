// SPDX-License-Identifier: GPL-2.0-only

//! Read windows in the model: slots are in view and held, and so out of the ring. The reader
//! consumes them, or they return to the front of the ring.

use super::{
    super::wakeup::{ReaderPolicy, Remaining, Wakes},
    process::{At, Job},
    world::World,
};
use std::mem;

impl World {
    /// True if a reader may now take the first slot out of the ring to show it.
    pub(super) fn may_peek(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Read { done: 0, .. })
            && !self.slots.is_empty()
            && !self.claimed
    }

    /// A reader takes the first slots out of the ring, as in `Pipe::hold()`.
    pub(super) fn peek(&mut self, who: usize, slots: usize) {
        for slot in self.slots.drain(..slots.min(self.slots.len())) {
            self.seats.hold();
            self.processes[who].held.push(slot);
        }
        self.leave_lock(who, At::Peeking);
    }

    /// The reader consumes the slots in view, as in `Pipe::consumed()`. This counts as one call.
    pub(super) fn consume(&mut self, who: usize) {
        let mut policy = ReaderPolicy::default();
        policy.locked(self.announced());
        for slot in mem::take(&mut self.processes[who].held) {
            policy.slot_emptied(self.full());
            assert!(self.seats.release_held());
            for unit in slot {
                self.delivered(unit);
            }
        }
        let posted_state = self.posted_state();
        let wakes = policy.end(Remaining {
            slots: !self.slots.is_empty(),
            pullable: posted_state.pullable,
            must_withdraw: posted_state.must_withdraw,
        });
        self.processes[who].at = At::Lock;
        self.next_call(who);
        self.unlock(who, wakes);
    }

    /// The reader closes its window, as in `Pipe::close_window()`, and goes on reading without it.
    pub(super) fn return_held(&mut self, who: usize) {
        let any = !self.processes[who].held.is_empty();
        while let Some(slot) = self.processes[who].held.pop() {
            assert!(self.seats.release_held());
            self.slots.insert(0, slot);
        }
        self.processes[who].at = At::Lock;
        self.unlock(who, Wakes::returned(any));
    }
}
