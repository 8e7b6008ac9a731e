// SPDX-License-Identifier: GPL-2.0-only

//! A writer's seat: a slot that it keeps without the lock, while it has its page tables changed.

use super::{
    super::turn::{Wakes, WriterTurn},
    world::{At, Job, Observer, World},
};

impl World {
    /// Whether a writer may reserve a seat now, for a slot of two units.
    pub(super) fn may_reserve(&self, who: usize) -> bool {
        matches!(self.processes[who].job, Job::Write { left, offered: None, .. } if left >= 2)
            && self.ends.readers != 0
            && !self.full()
    }

    /// A writer takes the lock and reserves a seat.
    pub(super) fn reserve(&mut self, who: usize) {
        let empty = self.empty();
        let Job::Write {
            turn,
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
        let mut owed = turn.unwrap_or(WriterTurn::new(empty));
        owed.resume(empty);
        *turn = Some(owed);
        let done = *done;
        assert!(self.seats.reserve(self.slots.len() as u32));
        let wakes = if self.full() {
            Wakes::default()
        } else {
            owed.pause(done, false)
        };
        self.write_goes_on(who, At::Seated, owed);
        self.unlock(who, wakes);
    }

    fn write_goes_on(&mut self, who: usize, at: At, owed: WriterTurn) {
        self.processes[who].at = at;
        if let Job::Write { turn, .. } = &mut self.processes[who].job {
            *turn = Some(owed);
        }
    }

    /// The page was taken, and is put into the seat; or it was refused, and the seat is given up.
    pub(super) fn leave_seat(&mut self, who: usize, taken: bool) {
        let empty = self.empty();
        let Job::Write {
            turn: Some(mut owed),
            mut done,
            mut left,
            ..
        } = self.processes[who].job
        else {
            unreachable!()
        };
        owed.resume(empty);
        assert!(self.seats.release());
        if taken {
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
        let wakes = if !taken {
            let offered = self.offered();
            if offered.takeable {
                self.owe(Observer::InputSignal);
            }
            self.write_goes_on(who, At::Lock, WriterTurn::new(empty));
            owed.give_up_seat(full, offered)
        } else if left == 0 {
            let process = &mut self.processes[who];
            process.at = At::Lock;
            process.written += done;
            process.signal = false;
            self.next_call(who);
            owed.end(done, full, polled)
        } else {
            let wakes = owed.pause(done, full);
            self.write_goes_on(who, At::Lock, owed);
            wakes
        };
        self.unlock(who, wakes);
    }
}
