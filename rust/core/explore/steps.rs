// SPDX-License-Identifier: GPL-2.0-only

//! What the processes do in one step: the loops of `read.rs` and `write.rs`.

use super::{
    super::{
        offer::{part, Offer},
        turn::{Left, ReaderTurn, WriterTurn},
        PAGE_SIZE,
    },
    world::{At, Demand, Job, Queue, World, UNIT},
};

impl World {
    /// Writes what fits; returns how many units.
    pub(super) fn fill(&mut self, who: usize, mut left: usize, phase: &mut usize) -> usize {
        let before = left;
        while left > 0 && !self.full() {
            // What was taken of a slot counts as there.
            let units = left.min(2 - *phase / UNIT);
            *phase = 0;
            self.slots
                .push((0..units).map(|n| (who, self.sent[who] + n)).collect());
            self.sent[who] += units;
            left -= units;
        }
        before - left
    }

    /// Whether a writer with so many units left offers them: they would have to wait.
    pub(super) fn offers(&self, left: usize) -> bool {
        left > 2 && self.offer.is_none() && left * UNIT > self.free() * PAGE_SIZE
    }

    /// Gives units to a reader that waits; returns how many. With `miss` the first cannot be had.
    pub(super) fn push(&mut self, who: usize, left: usize, miss: bool) -> usize {
        let Some(demand) = self.demand.as_mut().filter(|demand| demand.open) else {
            return 0;
        };
        if left <= 2 || !self.slots.is_empty() || self.offer.is_some() {
            return 0;
        }
        let units = if miss { 0 } else { left.min(demand.room) };
        demand.open = false;
        demand.filled = units;
        for _ in 0..units {
            let unit = (who, self.sent[who]);
            self.sent[who] += 1;
            self.delivered(unit);
        }
        units
    }

    pub(super) fn write(&mut self, who: usize, miss: bool) {
        let process = self.processes[who].clone();
        let Job::Write {
            turn,
            mut done,
            mut left,
            offered,
        } = process.job
        else {
            unreachable!()
        };
        let mut phase = 0;
        let owner = offered.is_some();
        if let Some(offered) = offered {
            // Nobody else withdraws it.
            let (_, offer) = self.offer.take().expect("an offer is lost");
            let taken = offered - offer.left() / UNIT;
            done += taken;
            left -= taken;
            phase = offer.phase();
        }
        let mut turn = turn.map_or(WriterTurn::new(self.empty()), |mut turn| {
            turn.resume(self.empty());
            if owner {
                turn.taken(done);
            }
            turn
        });

        if self.ends.readers != 0 {
            let units = self.push(who, left, miss);
            done += units;
            left -= units;
            if units != 0 {
                turn.pushed();
            }
        }
        // What is withdrawn goes into slots first, as if it had been there all the time.
        let offers = !owner && !process.signal && self.offers(left);
        if !offers && (owner || self.ends.readers != 0) {
            let units = self.fill(who, left, &mut phase);
            done += units;
            left -= units;
        }
        let mut queue = Queue::Writers;
        let mut now_offered = None;
        let at = if self.ends.readers == 0 && left > 0 {
            At::Close
        } else if left == 0 || process.signal {
            At::Lock
        } else {
            if self.offers(left) {
                queue = Queue::Owner;
                let units = left.min(self.look);
                let whole = if units < left {
                    units - part(phase, units * UNIT) / UNIT
                } else {
                    units
                };
                let offer = Offer::new(whole * UNIT, phase);
                if offer.fits(self.free()) {
                    queue = Queue::Writers;
                } else {
                    now_offered = Some(whole);
                    self.offer = Some((who, offer));
                }
            }
            At::Enqueue
        };
        let over = at != At::Enqueue;
        let (full, polled) = (self.full(), self.polled);
        let process = &mut self.processes[who];
        process.at = at;
        process.queue = queue;
        if over {
            process.written += done;
            process.signal = false;
            process.wakes = turn.end(done, full, polled);
            self.next_call(who);
        } else {
            process.wakes = turn.pause(done, full);
            process.job = Job::Write {
                turn: Some(turn),
                done,
                left,
                offered: now_offered,
            };
        }
        self.publish();
    }

    /// The owner of an offer has found the rest present: it offers that, too.
    pub(super) fn extend(&mut self, who: usize) {
        let free = self.free();
        if let (Job::Write { left, offered, .. }, Some((_, offer))) =
            (&mut self.processes[who].job, &mut self.offer)
        {
            let more = *left - offered.unwrap_or(*left);
            if offer.extend(more * UNIT, free) != 0 {
                *offered = Some(*left);
            }
        }
        self.publish();
    }

    /// Whether a process has an offer out with more to come.
    pub(super) fn can_extend(&self, who: usize) -> bool {
        matches!(self.processes[who].job,
            Job::Write { left, offered: Some(offered), .. } if offered < left)
    }

    pub(super) fn read(&mut self, who: usize, miss: bool) {
        let process = self.processes[who].clone();
        let Job::Read {
            mut turn,
            mut done,
            want,
            demands,
            interrupted,
        } = process.job
        else {
            unreachable!()
        };
        if demands {
            let demand = self.demand.take().expect("a demand is lost");
            done += demand.filled;
        }
        if interrupted && done == 0 {
            // Called again.
            self.processes[who].job = Job::Read {
                turn: ReaderTurn::default(),
                done,
                want,
                demands: false,
                interrupted: false,
            };
            self.publish();
            return;
        }
        let given = done > 0;
        while done < want && !given {
            if let Some(slot) = self.slots.first_mut() {
                let unit = slot.remove(0);
                if slot.is_empty() {
                    let was_full = self.full();
                    self.slots.remove(0);
                    turn.emptied(was_full);
                }
                self.delivered(unit);
            } else if let Some((owner, mut offer)) = self.offer.filter(|(_, o)| o.takeable()) {
                turn.took();
                if miss {
                    offer.miss();
                } else {
                    assert_eq!(offer.take(UNIT), UNIT);
                    let unit = (owner, self.sent[owner]);
                    self.sent[owner] += 1;
                    self.delivered(unit);
                }
                self.offer = Some((owner, offer));
                if miss {
                    break;
                }
            } else {
                break;
            }
            done += 1;
        }
        let offered = self.offered();
        let wakes = turn.pause(Left {
            empty: self.empty(),
            offered: offered.present,
            due: offered.due,
            polled: self.polled,
        });
        let waits = done == 0 && self.ends.writers != 0;
        let process = &mut self.processes[who];
        process.wakes = wakes;
        if waits {
            let demands = want > 2 && self.demand.is_none();
            process.at = At::Enqueue;
            process.job = Job::Read {
                turn,
                done,
                want,
                demands,
                interrupted: false,
            };
            if demands {
                self.demand = Some(Demand {
                    room: want,
                    filled: 0,
                    open: true,
                });
            }
        } else {
            process.at = if done == 0 { At::Close } else { At::Lock };
            process.signal = false;
            self.next_call(who);
        }
        self.publish();
    }

    /// The call has returned.
    pub(super) fn next_call(&mut self, who: usize) {
        let process = &mut self.processes[who];
        let reads = matches!(process.job, Job::Read { .. });
        let size = match process.calls.len() {
            0 if !reads || process.leaves => {
                process.at = if self.stays { At::Through } else { At::Close };
                return;
            }
            0 => 3,
            _ => process.calls.remove(0),
        };
        process.job = if reads {
            Job::Read {
                turn: ReaderTurn::default(),
                done: 0,
                want: size,
                demands: false,
                interrupted: false,
            }
        } else {
            Job::Write {
                turn: None,
                done: 0,
                left: size,
                offered: None,
            }
        };
    }

    pub(super) fn close(&mut self, who: usize) {
        if matches!(self.processes[who].job, Job::Read { .. }) {
            self.ends.readers -= 1;
        } else {
            self.ends.writers -= 1;
        }
        self.processes[who].at = At::Through;
        self.publish();
        if self.ends.readers == 0 || self.ends.writers == 0 {
            self.wake_all();
        }
    }

    /// The lock was taken, and a copy stopped short: with a writer the one after `first` slots.
    pub(super) fn fault(&mut self, who: usize, first: usize) {
        let (empty, polled) = (self.empty(), self.polled);
        let offered = self.offered();
        let mut job = self.processes[who].job;
        match &mut job {
            Job::Write {
                turn,
                done,
                left,
                offered: None,
            } if self.ends.readers != 0 && self.offer.is_none() && self.free() > first => {
                let mut paid = turn.unwrap_or(WriterTurn::new(empty));
                paid.resume(empty);
                if first != 0 && *left > 2 {
                    let units = self.fill(who, 2, &mut 0);
                    *done += units;
                    *left -= units;
                }
                let process = &mut self.processes[who];
                process.wakes = paid.pause(*done, false);
                process.at = At::Fault;
                *turn = Some(paid);
                process.job = job;
                self.publish();
            }
            Job::Read {
                turn,
                demands: false,
                ..
            } if !empty && first == 0 => {
                let process = &mut self.processes[who];
                process.wakes = turn.pause(Left {
                    empty,
                    offered: offered.present,
                    due: offered.due,
                    polled,
                });
                process.at = At::Fault;
                process.job = job;
            }
            _ => (),
        }
    }

    /// Looks, on the queue, whether to sleep.
    pub(super) fn look(&mut self, who: usize) {
        let queue = self.processes[who].queue;
        let ready = self.ready(who);
        let process = &mut self.processes[who];
        let woken = !self.queues[queue as usize].contains(&who);
        if ready || process.signal {
            process.at = At::Lock;
            match &mut process.job {
                Job::Write { turn, .. } => turn.iter_mut().for_each(WriterTurn::waited),
                Job::Read { turn, .. } if ready => turn.waited(),
                Job::Read { interrupted, .. } => {
                    *interrupted = true;
                    process.signal = false;
                }
            }
            self.queues[queue as usize].retain(|other| *other != who);
        } else {
            // A wakeup since it got onto the queue: the state is not that of a sleeper.
            process.at = if woken { At::Enqueue } else { At::Asleep };
        }
    }
}
