// SPDX-License-Identifier: GPL-2.0-only

//! Transfers to another file in the model, as in `splice.rs` and `read/hold.rs`. Slots are held,
//! and a claimed slot stands for them. Meanwhile the other file takes a part of them, or nothing.

use super::{
    super::wakeup::{ReaderPolicy, Remaining, Wakes},
    process::{At, Job, Queue, Wait},
    world::{World, STAND_IN},
};
use std::mem;

impl World {
    /// Begins a command, as in `Pipe::begin_splice()`: the pipe is slots-only from now on.
    pub(super) fn begin_splice(&mut self, who: usize) {
        self.splices += 1;
        let closed = self.posted.is_some();
        if let Some((_, posted)) = &mut self.posted {
            posted.close();
        }
        self.processes[who].at = At::Lock;
        self.unlock(who, Wakes::closed(closed));
    }

    /// Takes the lock and holds slots, or waits for some, as in `Pipe::hold()`.
    pub(super) fn hold(&mut self, who: usize) {
        let process = &mut self.processes[who];
        process.queue = Queue::Readers;
        let may_wait = process.wait != Wait::Never;
        let announced = self.announced();
        let Job::SpliceTo {
            policy,
            done,
            want,
            waits,
            interrupted,
            ended,
        } = &mut self.processes[who].job
        else {
            unreachable!()
        };
        policy.locked(announced);
        if let Some(ticket) = waits.take() {
            let posted_read = self.posted_read.as_mut();
            self.waiting_readers
                .leave(ticket, posted_read.map(|read| &mut read.space));
        }
        let (first, left, interrupted) = (*done == 0, *want - *done, *interrupted);
        let at = if interrupted {
            At::End
        } else if self.claimed {
            if first {
                return self.wait_for_claim(who);
            }
            At::End
        } else if !self.slots.is_empty() {
            self.take_out(who, left);
            At::Offering
        } else if !first {
            At::End
        } else if self.ends.writers == 0 {
            *ended = true;
            At::End
        } else if !may_wait {
            At::End
        } else {
            *waits = Some(self.waiting_readers.enter(None));
            At::Enqueue
        };
        self.leave_lock(who, at);
    }

    /// Takes the slots of the next `left` units out of the ring, and puts one there that stands for
    /// them. Other tasks must not notice.
    fn take_out(&mut self, who: usize, left: usize) {
        let before = (self.units(), self.empty(), self.full());
        let mut taken = 0;
        let held = &mut self.processes[who].held;
        while taken < left && held.len() < self.batch && !self.slots.is_empty() {
            let slot = self.slots.remove(0);
            self.seats.hold();
            taken += slot.len();
            held.push(slot);
        }
        assert!(self.seats.release_held());
        self.slots.insert(0, vec![STAND_IN; taken]);
        self.claimed = true;
        assert_eq!(
            before,
            (self.units(), self.empty(), self.full()),
            "held slots are missing: {self:#?}"
        );
    }

    /// The number of units that the other file may take of the held slots.
    pub(super) fn offered(&self, who: usize) -> usize {
        let Job::SpliceTo { done, want, .. } = self.processes[who].job else {
            unreachable!()
        };
        let held = self.processes[who].held.iter().map(Vec::len).sum::<usize>();
        held.min(want - done)
    }

    /// The other file has taken `units` units. The others return to the ring, as in
    /// `Pipe::end_front()`.
    pub(super) fn take(&mut self, who: usize, units: usize) {
        let offered = self.offered(who);
        let before = (self.units(), self.empty(), self.full());
        let held = mem::take(&mut self.processes[who].held);
        let mut policy = ReaderPolicy::default();
        policy.locked(self.announced());

        let stand_in = vec![STAND_IN; held.iter().map(Vec::len).sum()];
        assert_eq!(
            self.slots.remove(0),
            stand_in,
            "the claimed slot is not the first one: {self:#?}"
        );
        self.seats.hold();
        let mut left = units;
        let mut rest = Vec::new();
        for mut slot in held {
            for unit in slot.drain(..left.min(slot.len())) {
                left -= 1;
                self.delivered(unit);
            }
            if slot.is_empty() {
                policy.slot_emptied(self.full());
                assert!(self.seats.release_held());
            } else {
                rest.push(slot);
            }
        }
        while let Some(slot) = rest.pop() {
            assert!(self.seats.release_held());
            self.slots.insert(0, slot);
        }
        let now = (self.units() + units, self.empty(), self.full());
        assert!(
            before.0 == now.0 && (units != 0 || before == now),
            "held slots were lost: {self:#?}"
        );
        self.claimed = false;
        self.processes[who].wakes_claim_queue = true;

        let posted_state = self.posted_state();
        let remaining = Remaining {
            slots: !self.slots.is_empty(),
            pullable: posted_state.pullable,
            must_withdraw: posted_state.must_withdraw,
        };
        let wakes = if units == 0 {
            policy.pause(remaining)
        } else {
            policy.end(remaining)
        };
        let process = &mut self.processes[who];
        if let Job::SpliceTo { done, want, .. } = &mut process.job {
            *done += units;
            process.at = if units < offered || done == want {
                At::End
            } else {
                At::Lock
            };
        }
        self.unlock(who, wakes);
    }

    /// Ends a command, as in `Pipe::end_splice()`.
    pub(super) fn end_splice(&mut self, who: usize) {
        self.splices -= 1;
        self.publish();
        let process = &mut self.processes[who];
        let Job::SpliceTo {
            done, want, ended, ..
        } = process.job
        else {
            unreachable!()
        };
        if done == 0 && process.signal {
            return self.call_again(who, want);
        }
        process.at = At::Lock;
        process.signal = false;
        self.next_call(who);
        if ended {
            self.processes[who].at = At::Close;
        }
    }
}
