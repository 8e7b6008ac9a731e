// SPDX-License-Identifier: GPL-2.0-only

//! A read window: slots that are out of the ring, with their places held, until they are read or come
//! back to the front.

use super::{
    super::turn::{Left, ReaderTurn, Wakes},
    world::{At, Job, World},
};
use std::mem;

impl World {
    /// Whether a reader may take the first slot out now, to show it.
    pub(super) fn may_peek(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Read { done: 0, .. })
            && !self.slots.is_empty()
            && !self.claimed
    }

    /// A reader takes the first slots out, as `Pipe::claim()` does.
    pub(super) fn peek(&mut self, who: usize, slots: usize) {
        for slot in self.slots.drain(..slots.min(self.slots.len())) {
            self.seats.hold();
            self.processes[who].peeked.push(slot);
        }
        self.leave_lock(who, At::Peeking);
    }

    /// It has read them, as `Pipe::consumed()` has it; that was one call.
    pub(super) fn consume(&mut self, who: usize) {
        let mut turn = ReaderTurn::default();
        turn.locked(self.announced());
        for slot in mem::take(&mut self.processes[who].peeked) {
            turn.emptied(self.full());
            assert!(self.seats.let_go());
            for unit in slot {
                self.delivered(unit);
            }
        }
        let offered = self.offered();
        let mut wakes = turn.pause(Left {
            slots: !self.slots.is_empty(),
            offered: offered.takeable,
            due: offered.due,
        });
        wakes.output = true;
        self.processes[who].at = At::Lock;
        self.next_call(who);
        self.unlock(who, wakes);
    }

    /// Its window is closed, as by `Pipe::close_window()`; it reads on without.
    pub(super) fn give_back(&mut self, who: usize) {
        while let Some(slot) = self.processes[who].peeked.pop() {
            assert!(self.seats.let_go());
            self.slots.insert(0, slot);
        }
        self.processes[who].at = At::Lock;
        let wakes = Wakes {
            reader: true,
            input: true,
            ..Wakes::default()
        };
        self.unlock(who, wakes);
    }
}
