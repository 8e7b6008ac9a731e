// SPDX-License-Identifier: GPL-2.0-only

//! Transfers from another file in the model, as in `write/splice.rs`. Free slots are reserved.
//! Meanwhile the other file fills a part of them, or none.

use super::{
    super::wakeup::{Wakes, WriterPolicy},
    process::{At, Job, Queue, Wait},
    world::{Observer, World},
};

impl World {
    /// Takes the lock and reserves free slots, or waits for one, as in `Pipe::reserve()`.
    pub(super) fn reserve_slots(&mut self, who: usize) {
        let Job::SpliceFrom {
            want, interrupted, ..
        } = self.processes[who].job
        else {
            unreachable!()
        };
        if interrupted {
            return self.call_again(who, want);
        }
        if self.ends.readers == 0 {
            self.processes[who].at = At::Close;
            return self.next_call(who);
        }
        let mut slots = 0;
        while slots < want.div_ceil(2)
            && !self.full()
            && self.seats.reserve(self.slots.len() as u32)
        {
            slots += 1;
        }
        let process = &mut self.processes[who];
        if slots != 0 {
            if let Job::SpliceFrom { reserved, .. } = &mut process.job {
                *reserved = slots;
            }
            process.at = At::Filling;
        } else {
            self.refused = true;
            if process.wait == Wait::Never {
                process.signal = false;
                self.next_call(who);
            } else {
                process.queue = Queue::Writers;
                process.at = At::Enqueue;
            }
        }
        self.unlock(who, Wakes::default());
    }

    /// The number of units that the other file may fill the reserved slots with.
    pub(super) fn fillable(&self, who: usize) -> usize {
        let Job::SpliceFrom { want, reserved, .. } = self.processes[who].job else {
            unreachable!()
        };
        want.min(2 * reserved)
    }

    /// The other file had `units` units. Fills reserved slots with them and releases the others, as
    /// in `Reserved::fill()`, or as in `Reserved::drop()` if there are none.
    pub(super) fn fill_reserved(&mut self, who: usize, units: usize) {
        let Job::SpliceFrom { want, reserved, .. } = self.processes[who].job else {
            unreachable!()
        };
        let policy = WriterPolicy::new(self.empty());
        let mut left = units;
        let mut unused = reserved;
        while left != 0 {
            let step = left.min(2);
            let sent = self.sent[who];
            assert!(self.seats.release());
            self.slots
                .push((sent..sent + step).map(|n| (who, n)).collect());
            self.sent[who] += step;
            left -= step;
            unused -= 1;
        }
        let released = unused != 0 && self.full();
        for _ in 0..unused {
            assert!(self.seats.release());
        }
        let (full, posted_state) = (self.full(), self.posted_state());
        if unused != 0 && posted_state.pullable {
            // Its owner would have filled the slots.
            self.expect(Observer::InputSignal);
        }
        let wakes = if units == 0 {
            WriterPolicy::new(false).release_seat(full, posted_state)
        } else {
            policy.end_reserved(units, released, full, self.polled, posted_state)
        };
        let process = &mut self.processes[who];
        process.at = At::Lock;
        process.written += units;
        if units == 0 && process.signal {
            self.call_again(who, want);
        } else {
            process.signal = false;
            self.next_call(who);
        }
        self.unlock(who, wakes);
    }
}
