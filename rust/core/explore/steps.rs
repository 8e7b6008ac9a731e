// SPDX-License-Identifier: GPL-2.0-only

//! What the processes do in one step: the loops of `read.rs` and `write.rs`.

use super::{
    super::{
        offer::{part, Offer, Standing},
        posted_read::{PostedRead, PushEnd},
        turn::{Left, ReaderTurn, Wakes, WriterTurn},
        PAGE_SIZE,
    },
    claim::Comes,
    world::{At, Demand, Job, Miss, Observer, Queue, World, UNIT},
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
    pub(super) fn offers(&self, left: usize, standing: Standing) -> bool {
        left > 2
            && !self.windows
            && self.offer.is_none()
            && standing.may_offer(self.waiting_writers)
            && left * UNIT > self.free() * PAGE_SIZE
    }

    /// Gives units to a reader that waits; returns how many, and why not more.
    pub(super) fn push(&mut self, who: usize, left: usize, miss: Option<Miss>) -> (usize, PushEnd) {
        let occupied = self.occupied();
        let Some(demand) = self.demand.as_mut().filter(|d| d.rules.is_open()) else {
            return (0, PushEnd::All);
        };
        if left <= 2 || !self.slots.is_empty() || occupied {
            return (0, PushEnd::All);
        }
        let most = left.min(demand.rules.room());
        let (units, end) = match miss {
            Some(Miss::Own(units)) if units < most => (units, PushEnd::Writer),
            Some(Miss::Page) => (0, PushEnd::Reader),
            _ => (most, PushEnd::All),
        };
        // To the start of the memory: what is behind stays.
        for n in 0..units {
            let unit = (who, self.sent[who] + n);
            match demand.memory.get_mut(n) {
                Some(place) => *place = unit,
                None => demand.memory.push(unit),
            }
        }
        let undone = demand.rules.settle(units * UNIT, 0, end) / UNIT;
        let units = units - undone;
        assert_eq!(units, demand.rules.filled() / UNIT);
        for _ in 0..units {
            let unit = (who, self.sent[who]);
            self.sent[who] += 1;
            if let Some(demand) = &mut self.demand {
                demand.given.push(unit);
            }
            self.delivered(unit);
        }
        (units, end)
    }

    pub(super) fn write(&mut self, who: usize, miss: Option<Miss>) {
        let process = self.processes[who].clone();
        let Job::Write {
            turn,
            mut done,
            mut left,
            offered,
            mut standing,
            waits,
            mut others,
        } = process.job
        else {
            unreachable!()
        };
        let before = done;
        let mut phase = 0;
        let owner = offered.is_some();
        let mut in_the_way = false;
        if let Some(offered) = offered {
            // Nobody else withdraws it.
            let (_, offer) = self.offer.take().expect("an offer is lost");
            let taken = offered - offer.left() / UNIT;
            done += taken;
            left -= taken;
            phase = offer.phase();
            standing = Standing::after(&offer);
            others = false;
            in_the_way = offer.takeable();
        }
        if waits {
            self.waiting_writers -= 1;
            standing = standing.waited(self.waiting_writers, true, others);
        }
        let mut turn = turn.map_or(WriterTurn::new(self.empty()), |mut turn| {
            if owner {
                turn.withdrew(done, in_the_way);
            }
            turn.resume(self.empty());
            turn
        });

        let mut stopped = false;
        let mut taker = None;
        if self.ends.readers != 0 {
            let (units, end) = self.push(who, left, miss);
            done += units;
            left -= units;
            if units != 0 {
                turn.pushed(units);
                taker = self.demand.as_ref().map(|demand| demand.reader);
            }
            stopped = end == PushEnd::Writer;
        }
        // What is withdrawn goes into slots first, as if it had been there all the time.
        let offers = !owner && !process.signal && self.offers(left, standing);
        if !stopped && !offers && (owner || self.ends.readers != 0) {
            let units = self.fill(who, left, &mut phase);
            done += units;
            left -= units;
        }
        let mut queue = Queue::Writers;
        let mut now_offered = None;
        let at = if self.ends.readers == 0 && left > 0 {
            At::Close
        } else if left > 0 && stopped {
            At::Fault
        } else if left == 0 || process.signal {
            At::Lock
        } else {
            if self.offers(left, standing) {
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
                    standing = Standing::Fresh;
                    self.offer = Some((who, offer));
                }
            }
            At::Enqueue
        };
        if waits && done > before {
            self.had_turn(who);
        }
        let over = matches!(at, At::Lock | At::Close);
        let waits = at == At::Enqueue && queue == Queue::Writers;
        let mut recalled = false;
        if waits {
            self.waiting_writers += 1;
            recalled = self.recall_spent(true);
        }
        let (free, full, polled) = (self.free(), self.full(), self.polled);
        let process = &mut self.processes[who];
        process.at = at;
        process.queue = queue;
        let wakes = if over {
            process.written += done;
            process.signal = false;
            self.next_call(who);
            turn.end(done, full, polled)
        } else {
            let paid = if now_offered.is_some() {
                turn.pause_to_offer(done, free != 0)
            } else {
                turn.pause(done, full)
            };
            let wakes = Wakes {
                owner: recalled,
                ..paid
            };
            process.job = Job::Write {
                turn: Some(turn),
                done,
                left,
                offered: now_offered,
                standing,
                waits,
                others,
            };
            wakes
        };
        self.unlock(who, wakes);
        // With the lock still held, in the module.
        if let Some(taker) = taker {
            self.wake_task(taker);
        }
    }

    /// A writer that had waited has written something.
    fn had_turn(&mut self, who: usize) {
        for (n, process) in self.processes.iter_mut().enumerate() {
            if let Job::Write { others, .. } = &mut process.job {
                *others |= n != who;
            }
        }
    }

    /// A writer that faulted has bad memory: it takes the lock, and returns what it has written.
    pub(super) fn give_up(&mut self, who: usize) {
        let Job::Write { turn, done, .. } = self.processes[who].job else {
            unreachable!()
        };
        let mut turn = turn.expect("a fault without a turn");
        turn.resume(self.empty());
        let wakes = turn.end(done, self.full(), self.polled);
        let process = &mut self.processes[who];
        process.at = At::Lock;
        process.written += done;
        process.signal = false;
        self.next_call(who);
        self.unlock(who, wakes);
    }

    /// The capacity changes, as by `Pipe::set_capacity()`.
    pub(super) fn resize(&mut self) {
        let limit = self.resizes.remove(0);
        let behind = self
            .offer
            .map_or(0, |(_, offer)| offer.slots().min(self.free()));
        let used = (self.slots.len() + behind) as u32;
        let Some(seats) = self.seats.resized(limit as u32, used) else {
            return;
        };
        let grows = limit as u32 > self.seats.slots();
        self.seats = seats;
        self.publish();
        self.resized = self.signal(Wakes {
            owner: true,
            writer: true,
            input: grows && self.occupied(),
            ..Wakes::default()
        });
        // Nor does fs/pipe.c send SIGIO then.
        self.told(Observer::OutputSignal);
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

    pub(super) fn read(&mut self, who: usize, miss: Option<Miss>, comes: Comes) {
        self.processes[who].queue = Queue::Readers;
        let process = self.processes[who].clone();
        let Job::Read {
            mut turn,
            mut done,
            want,
            demands,
            waits,
            interrupted,
        } = process.job
        else {
            unreachable!()
        };
        let own = if demands { self.demand.take() } else { None };
        if let Some(ticket) = waits {
            let others = self.demand.as_mut().map(|demand| &mut demand.rules);
            self.waiting_readers.leave(ticket, others);
        }
        if demands {
            let demand = own.expect("a demand is lost");
            let filled = demand.rules.filled() / UNIT;
            assert_eq!(
                demand.memory[..filled],
                demand.given[..],
                "others' units: {self:#?}"
            );
            done += filled;
        }
        if interrupted && done == 0 {
            // Called again.
            self.processes[who].job = Job::Read {
                turn: ReaderTurn::default(),
                done,
                want,
                demands: false,
                waits: None,
                interrupted: false,
            };
            self.publish();
            return;
        }
        let given = done > 0;
        let own_claim = matches!(comes, Comes::WithClaim(_));
        if !own_claim {
            let now = Job::Read {
                turn,
                done,
                want,
                demands: false,
                waits: None,
                interrupted: false,
            };
            turn.locked(self.announced());
            if self.claimed && !given {
                self.processes[who].job = now;
                self.wait_for_claim(who);
                return;
            }
            if comes == Comes::ToClaim && !given && self.claimable(want) {
                self.processes[who].job = now;
                self.claim(who);
                return;
            }
            if let Comes::ToPeek(slots) = comes {
                if !given && !self.slots.is_empty() {
                    self.processes[who].job = now;
                    self.peek(who, slots);
                    return;
                }
            }
        }
        let mut busy = false;
        // What others could see before, and how much of it is left.
        let announced = self.announced();
        let mut seen = self.slots.iter().map(Vec::len).sum::<usize>() + announced / UNIT;
        let mut freed = false;
        turn.locked(announced);
        if own_claim {
            self.claimed = false;
            self.processes[who].unclaimed = true;
        }
        if comes == Comes::WithClaim(true) {
            let was_full = self.full();
            for unit in self.slots.remove(0) {
                self.delivered(unit);
            }
            turn.emptied(was_full);
            freed |= was_full;
            seen = seen.saturating_sub(2);
            done += 2;
        }
        while done < want && !given {
            if let Some(slot) = self.slots.first_mut() {
                let unit = slot.remove(0);
                if slot.is_empty() {
                    let was_full = self.full();
                    self.slots.remove(0);
                    turn.emptied(was_full);
                    freed |= was_full;
                }
                self.delivered(unit);
            } else if let Some((owner, offer)) = self.offer.filter(|(_, o)| o.takeable()) {
                let mut offer = offer;
                match miss {
                    Some(Miss::Page) => {
                        offer.miss();
                        turn.missed();
                    }
                    Some(_) => {
                        turn.missed();
                        busy = true;
                    }
                    None => {
                        let frees = offer.frees_slot(UNIT);
                        turn.took(UNIT, frees);
                        freed |= frees;
                        offer.take(UNIT);
                        let unit = (owner, self.sent[owner]);
                        self.sent[owner] += 1;
                        self.delivered(unit);
                    }
                }
                self.offer = Some((owner, offer));
                if miss.is_some() {
                    break;
                }
            } else {
                break;
            }
            done += 1;
            seen = seen.saturating_sub(1);
        }
        if freed && self.occupied() {
            self.owe(Observer::InputSignal);
            if seen == 0 {
                self.owe(Observer::InputPoll);
            }
        }
        if self.recall_spent(self.observed) {
            turn.missed();
        }
        let offered = self.offered();
        let mut wakes = turn.pause(Left {
            slots: !self.slots.is_empty(),
            offered: offered.takeable,
            due: offered.due,
        });
        let over = done > 0 || (!busy && self.ends.writers == 0);
        // At the end it is told in any case, as by fs/pipe.c.
        wakes.output |= over;
        let process = &mut self.processes[who];
        if over {
            process.at = if done == 0 { At::Close } else { At::Lock };
            process.signal = false;
            self.next_call(who);
        } else {
            let demands = !busy && want > 2 && self.demand.is_none() && !self.windows;
            let mut rules = PostedRead::new(want * UNIT);
            let waits = (!busy).then(|| {
                let posts = Some(&mut rules).filter(|_| demands);
                self.waiting_readers.enter(posts)
            });
            process.at = if busy { At::Lock } else { At::Enqueue };
            process.job = Job::Read {
                turn,
                done,
                want,
                demands,
                waits,
                interrupted: false,
            };
            if demands {
                self.demand = Some(Demand {
                    reader: who,
                    rules,
                    memory: Vec::new(),
                    given: Vec::new(),
                });
            }
        }
        self.unlock(who, wakes);
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
                waits: None,
                interrupted: false,
            }
        } else {
            Job::Write {
                turn: None,
                done: 0,
                left: size,
                offered: None,
                standing: Standing::Fresh,
                waits: false,
                others: false,
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
        let empty = self.empty();
        let offered = self.offered();
        let mut job = self.processes[who].job;
        match &mut job {
            Job::Write {
                turn,
                done,
                left,
                offered: None,
                standing,
                waits,
                others,
            } if self.ends.readers != 0 && !self.occupied() && self.free() > first => {
                if std::mem::take(waits) {
                    self.waiting_writers -= 1;
                    *standing = standing.waited(self.waiting_writers, true, *others);
                }
                let mut paid = turn.unwrap_or(WriterTurn::new(empty));
                paid.resume(empty);
                if first != 0 && *left > 2 {
                    let units = self.fill(who, 2, &mut 0);
                    *done += units;
                    *left -= units;
                }
                let wakes = paid.pause(*done, false);
                *turn = Some(paid);
                self.processes[who].at = At::Fault;
                self.processes[who].job = job;
                self.unlock(who, wakes);
            }
            Job::Read {
                turn,
                demands: false,
                waits,
                ..
            } if !empty && first == 0 => {
                if let Some(ticket) = waits.take() {
                    let others = self.demand.as_mut().map(|demand| &mut demand.rules);
                    self.waiting_readers.leave(ticket, others);
                }
                turn.locked(self.announced());
                let mut wakes = turn.pause(Left {
                    slots: !self.slots.is_empty(),
                    offered: offered.takeable,
                    due: offered.due,
                });
                wakes.output = wakes.writer;
                self.processes[who].at = At::Fault;
                self.processes[who].job = job;
                self.unlock(who, wakes);
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
                // Who waits for a claim got no wakeup that others could have.
                Job::Read { .. } if queue == Queue::Claim => (),
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
