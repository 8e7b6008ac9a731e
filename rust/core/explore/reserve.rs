// SPDX-License-Identifier: GPL-2.0-only

//! Seats in the model: a writer reserves a slot and takes a huge page from its memory without the
//! lock.

use super::{
    super::wakeup::{Wakes, WriterPolicy},
    process::{At, Job},
    world::{Observer, World},
};

impl World {
    /// True if a writer may now reserve a seat, which takes two units.
    pub(super) fn may_reserve(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Write { left, posted_units: None, .. } if left >= 2)
            && self.ends.readers != 0
            && !self.full()
    }

    /// A writer takes the lock and reserves a seat.
    pub(super) fn reserve(&mut self, who: usize) {
        let empty = self.empty();
        let Job::Write {
            policy,
            done,
            standing,
            waits,
            others,
            ..
        } = &mut self.processes[who].job
        else {
            unreachable!()
        };
        if std::mem::take(waits) {
            self.waiting_writers -= 1;
            *standing = standing.waited(self.waiting_writers, true, *others);
        }
        let mut pending = policy.unwrap_or(WriterPolicy::new(empty));
        pending.resume(empty);
        *policy = Some(pending);
        let done = *done;
        assert!(self.seats.reserve(self.slots.len() as u32));
        let wakes = if self.full() {
            Wakes::default()
        } else {
            pending.pause(done, false)
        };
        self.continue_write(who, At::Seated, pending);
        self.unlock(who, wakes);
    }

    fn continue_write(&mut self, who: usize, at: At, pending: WriterPolicy) {
        self.processes[who].at = at;
        if let Job::Write { policy, .. } = &mut self.processes[who].job {
            *policy = Some(pending);
        }
    }

    /// The writer fills its seat if the page was `gifted`, else it gives up the seat.
    pub(super) fn leave_seat(&mut self, who: usize, gifted: bool) {
        let empty = self.empty();
        let Job::Write {
            policy: Some(mut pending),
            mut done,
            mut left,
            ..
        } = self.processes[who].job
        else {
            unreachable!()
        };
        pending.resume(empty);
        assert!(self.seats.release());
        if gifted {
            let sent = self.sent[who];
            self.slots.push(vec![(who, sent), (who, sent + 1)]);
            self.sent[who] += 2;
            done += 2;
            left -= 2;
            if let Job::Write {
                done: d, left: l, ..
            } = &mut self.processes[who].job
            {
                (*d, *l) = (done, left);
            }
        }
        let (full, polled) = (self.full(), self.polled);
        let wakes = if !gifted {
            let posted_state = self.posted_state();
            if posted_state.pullable {
                self.expect(Observer::InputSignal);
            }
            self.continue_write(who, At::Lock, WriterPolicy::new(empty));
            pending.release_seat(full, posted_state)
        } else if left == 0 {
            let process = &mut self.processes[who];
            process.at = At::Lock;
            process.written += done;
            process.signal = false;
            self.next_call(who);
            pending.end(done, full, polled)
        } else {
            let wakes = pending.pause(done, full);
            self.continue_write(who, At::Lock, pending);
            wakes
        };
        self.unlock(who, wakes);
    }
}
