// SPDX-License-Identifier: GPL-2.0-only

//! The steps of the processes, which follow the loops of `read.rs` and `write.rs`.

use super::{
    super::{
        outcome::{self, Outcome},
        posted_bytes::{partial_slot, PostedBytes, Standing},
        posted_space::PostedSpace,
        wakeup::{Remaining, Wakes, WakesAll, WriterPolicy},
        PAGE_SIZE,
    },
    claim::Intent,
    process::{At, Job, Queue, Wait},
    world::{Observer, Obstacle, WaitingRead, World, UNIT},
};

impl World {
    /// Fills free slots from a writer with `left` units. Returns the number of units written.
    pub(super) fn fill(&mut self, who: usize, mut left: usize, slot_offset: &mut usize) -> usize {
        let before = left;
        while left > 0 && !self.full() {
            // Units that were pulled from this slot still take up a part of it.
            let units = left.min(2 - *slot_offset / UNIT);
            *slot_offset = 0;
            self.slots
                .push((0..units).map(|n| (who, self.sent[who] + n)).collect());
            self.sent[who] += units;
            left -= units;
        }
        before - left
    }

    /// True if a writer posts its `left` units, because it would have to wait otherwise.
    pub(super) fn posts(&self, left: usize, standing: Standing) -> bool {
        left > 2
            && !self.slots_only()
            && self.posted.is_none()
            && (!self.slots.is_empty() || self.free() != 0)
            && standing.allows_post(self.writers_to_respect())
            && left * UNIT > self.free() * PAGE_SIZE
    }

    /// Pushes units to the posted read. Returns their number and the outcome.
    pub(super) fn push(
        &mut self,
        who: usize,
        left: usize,
        obstacle: Option<Obstacle>,
    ) -> (usize, Outcome) {
        let (has_pullable, slots_only) = (self.has_pullable(), self.slots_only());
        let Some(posted_read) = self.posted_read.as_mut().filter(|d| d.space.is_open()) else {
            return (0, Outcome::All);
        };
        if left <= 2 || !self.slots.is_empty() || has_pullable || slots_only {
            return (0, Outcome::All);
        }
        let max = left.min(posted_read.space.space());
        let (units, outcome) = match obstacle {
            Some(Obstacle::OwnMemory(units)) if units < max => (units, Outcome::Stopped),
            Some(Obstacle::Page) => (0, Outcome::Missed(outcome::Miss::Page)),
            _ => (max, Outcome::All),
        };
        // Each push begins at the start of the reader's memory. Older units behind the new ones
        // stay.
        for n in 0..units {
            let unit = (who, self.sent[who] + n);
            match posted_read.memory.get_mut(n) {
                Some(old) => *old = unit,
                None => posted_read.memory.push(unit),
            }
        }
        let undone = posted_read.space.settle(units * UNIT, 0, outcome) / UNIT;
        let units = units - undone;
        assert_eq!(units, posted_read.space.pushed() / UNIT);
        for _ in 0..units {
            let unit = (who, self.sent[who]);
            self.sent[who] += 1;
            if let Some(posted_read) = &mut self.posted_read {
                posted_read.received.push(unit);
            }
            self.delivered(unit);
        }
        (units, outcome)
    }

    /// A writer takes the lock and writes what it can, as in `Write::run()`. An owner first
    /// withdraws its posted write. `obstacle` limits the push.
    pub(super) fn write(&mut self, who: usize, obstacle: Option<Obstacle>) {
        let process = self.processes[who].clone();
        let Job::Write {
            policy,
            mut done,
            mut left,
            posted_units,
            mut standing,
            waits,
            mut others,
        } = process.job
        else {
            unreachable!()
        };
        let before = done;
        let mut slot_offset = 0;
        let owner = posted_units.is_some();
        let mut blocked_others = false;
        if let Some(posted_units) = posted_units {
            // Only its owner withdraws a posted write.
            let (_, posted) = self.posted.take().expect("a posted write is lost");
            let pulled = posted_units - posted.left() / UNIT;
            done += pulled;
            left -= pulled;
            slot_offset = posted.slot_offset();
            standing = Standing::after(&posted);
            others = false;
            blocked_others = posted.pullable();
        }
        if waits {
            self.waiting_writers -= 1;
            standing = standing.waited(self.waiting_writers, true, others);
        }
        let mut policy = policy.map_or(WriterPolicy::new(self.empty()), |mut policy| {
            if owner {
                policy.withdrew(done, blocked_others);
            }
            policy.resume(self.empty());
            policy
        });

        let mut stopped = false;
        let mut reader = None;
        if self.ends.readers != 0 {
            let (units, outcome) = self.push(who, left, obstacle);
            done += units;
            left -= units;
            if units != 0 {
                policy.pushed(units);
                reader = self
                    .posted_read
                    .as_ref()
                    .map(|posted_read| posted_read.reader);
            }
            stopped = outcome == Outcome::Stopped;
        }
        // Units that were withdrawn go into slots first, as if they had always been there.
        let blocks = process.wait == Wait::Exclusive;
        let posts = blocks && !owner && !process.signal && self.posts(left, standing);
        if !stopped && !posts && (owner || self.ends.readers != 0) {
            let units = self.fill(who, left, &mut slot_offset);
            done += units;
            left -= units;
        }
        let mut queue = Queue::Writers;
        let mut now_posted = None;
        let at = if self.ends.readers == 0 && left > 0 {
            At::Close
        } else if left > 0 && stopped {
            At::Fault
        } else if left == 0 || process.signal {
            At::Lock
        } else if !blocks {
            // Such a write never waits. One from a real pipe has ended, too, before the wait.
            self.refused = true;
            if process.wait == Wait::Shared && done == 0 {
                At::Enqueue
            } else {
                At::Lock
            }
        } else {
            if self.posts(left, standing) {
                queue = Queue::Owner;
                let units = left.min(self.resident);
                let whole = if units < left {
                    units - partial_slot(slot_offset, units * UNIT) / UNIT
                } else {
                    units
                };
                let posted = PostedBytes::new(whole * UNIT, slot_offset);
                if posted.fits(self.free()) {
                    queue = Queue::Writers;
                } else {
                    now_posted = Some(whole);
                    standing = Standing::New;
                    self.refused = false;
                    self.posted = Some((who, posted));
                }
            }
            At::Enqueue
        };
        if waits && done > before {
            self.made_progress(who);
        }
        let call_ends = matches!(at, At::Lock | At::Close);
        let waits = blocks && at == At::Enqueue && queue == Queue::Writers;
        let mut recalled = false;
        if waits {
            self.waiting_writers += 1;
            recalled = self.recall_used_share(true);
        }
        let (free, full, polled) = (self.free(), self.full(), self.polled);
        let process = &mut self.processes[who];
        process.at = at;
        process.queue = queue;
        let wakes = if call_ends {
            process.written += done;
            process.signal = false;
            self.next_call(who);
            policy.end(done, full, polled)
        } else if !blocks && at == At::Enqueue {
            process.job = process.job.next(left);
            policy.end(done, full, polled)
        } else {
            let pending = if now_posted.is_some() {
                policy.pause_to_post(done, free != 0)
            } else {
                policy.pause(done, full)
            };
            let wakes = Wakes {
                owner: recalled,
                ..pending
            };
            process.job = Job::Write {
                policy: Some(policy),
                done,
                left,
                posted_units: now_posted,
                standing,
                waits,
                others,
            };
            wakes
        };
        self.unlock(who, wakes);
        // The kernel module does this with the lock still held.
        if let Some(reader) = reader {
            self.wake_task(reader);
        }
    }

    /// Notes for the other writers that a writer that had waited has written something.
    fn made_progress(&mut self, who: usize) {
        for (n, process) in self.processes.iter_mut().enumerate() {
            if let Job::Write { others, .. } = &mut process.job {
                *others |= n != who;
            }
        }
    }

    /// A writer whose page fault failed takes the lock and returns the number of units written.
    pub(super) fn end_with_fault(&mut self, who: usize) {
        let Job::Write { policy, done, .. } = self.processes[who].job else {
            unreachable!()
        };
        let mut policy = policy.expect("a fault without a wakeup policy");
        policy.resume(self.empty());
        let wakes = policy.end(done, self.full(), self.polled);
        let process = &mut self.processes[who];
        process.at = At::Lock;
        process.written += done;
        process.signal = false;
        self.next_call(who);
        self.unlock(who, wakes);
    }

    /// Changes the capacity, as in `Pipe::set_capacity()`.
    pub(super) fn resize(&mut self) {
        let limit = self.resizes.remove(0);
        let behind = self
            .posted
            .map_or(0, |(_, posted)| posted.slots().min(self.free()));
        let used = (self.slots.len() + behind) as u32;
        let Some(seats) = self.seats.resized(limit as u32, used) else {
            return;
        };
        let grows = limit as u32 > self.seats.slots();
        self.seats = seats;
        self.publish();
        let refilled = grows && self.has_pullable();
        self.resize_wakes = self.issue_sigio(Wakes::resized(refilled));
        // As in fs/pipe.c, a change of the capacity sends no SIGIO to writers.
        self.notified(Observer::OutputSignal);
    }

    /// The owner of a posted write has found that its other memory is resident, too, and posts the
    /// rest.
    pub(super) fn extend(&mut self, who: usize) {
        let free = self.free();
        if let (
            Job::Write {
                left, posted_units, ..
            },
            Some((_, posted)),
        ) = (&mut self.processes[who].job, &mut self.posted)
        {
            let more = *left - posted_units.unwrap_or(*left);
            if posted.extend(more * UNIT, free) != 0 {
                *posted_units = Some(*left);
            }
        }
        self.publish();
    }

    /// True if a process has posted a part of its write and may extend it.
    pub(super) fn can_extend(&self, who: usize) -> bool {
        matches!(self.processes[who].job,
            Job::Write { left, posted_units: Some(units), .. } if units < left)
    }

    /// A reader takes the lock and acts by its `intent`, as in `Read::run()`. `obstacle` limits the
    /// pull.
    pub(super) fn read(&mut self, who: usize, obstacle: Option<Obstacle>, intent: Intent) {
        self.processes[who].queue = Queue::Readers;
        let process = self.processes[who].clone();
        let Job::Read {
            mut policy,
            mut done,
            want,
            posts,
            waits,
            interrupted,
        } = process.job
        else {
            unreachable!()
        };
        let own = if posts { self.posted_read.take() } else { None };
        if let Some(ticket) = waits {
            let posted_space = self
                .posted_read
                .as_mut()
                .map(|posted_read| &mut posted_read.space);
            self.waiting_readers.leave(ticket, posted_space);
        }
        if posts {
            let posted_read = own.expect("a posted read is lost");
            let pushed = posted_read.space.pushed() / UNIT;
            assert_eq!(
                posted_read.memory[..pushed],
                posted_read.received[..],
                "the pushed units are not in the reader's memory: {self:#?}"
            );
            done += pushed;
        }
        if interrupted && done == 0 {
            self.call_again(who, want);
            self.publish();
            return;
        }
        let received = done > 0;
        let own_claim = matches!(intent, Intent::EndClaim(_));
        if !own_claim {
            let now = Job::Read {
                policy,
                done,
                want,
                posts: false,
                waits: None,
                interrupted: false,
            };
            policy.locked(self.announced());
            if self.claimed && !received {
                self.processes[who].job = now;
                self.wait_for_claim(who);
                return;
            }
            if intent == Intent::Claim && !received && self.claimable(want) {
                self.processes[who].job = now;
                self.claim(who);
                return;
            }
            if let Intent::Peek(slots) = intent {
                if !received && !self.slots.is_empty() {
                    self.processes[who].job = now;
                    self.peek(who, slots);
                    return;
                }
            }
        }
        let mut busy = false;
        // Units that other processes could see in the pipe before this read, less those read since.
        let announced = self.announced();
        let mut visible_units = self.slots.iter().map(Vec::len).sum::<usize>() + announced / UNIT;
        let mut freed = false;
        policy.locked(announced);
        if own_claim {
            self.claimed = false;
            self.processes[who].wakes_claim_queue = true;
        }
        if intent == Intent::EndClaim(true) {
            let was_full = self.full();
            for unit in self.slots.remove(0) {
                self.delivered(unit);
            }
            policy.slot_emptied(was_full);
            freed |= was_full;
            visible_units = visible_units.saturating_sub(2);
            done += 2;
        }
        while done < want && !received {
            if let Some(slot) = self.slots.first_mut() {
                let unit = slot.remove(0);
                if slot.is_empty() {
                    let was_full = self.full();
                    self.slots.remove(0);
                    policy.slot_emptied(was_full);
                    freed |= was_full;
                }
                self.delivered(unit);
            } else if let Some((owner, posted)) = self.posted.filter(|(_, o)| o.pullable()) {
                let mut posted = posted;
                match obstacle {
                    Some(Obstacle::Page) => {
                        posted.close();
                        policy.post_changed();
                    }
                    Some(_) => {
                        policy.post_changed();
                        busy = true;
                    }
                    None => {
                        let frees = posted.frees_slot(UNIT);
                        policy.pulled(UNIT, frees);
                        freed |= frees;
                        posted.count_pulled(UNIT);
                        let unit = (owner, self.sent[owner]);
                        self.sent[owner] += 1;
                        self.delivered(unit);
                    }
                }
                self.posted = Some((owner, posted));
                if obstacle.is_some() {
                    break;
                }
            } else {
                break;
            }
            done += 1;
            visible_units = visible_units.saturating_sub(1);
        }
        if freed && self.has_pullable() {
            self.expect(Observer::InputSignal);
            if visible_units == 0 {
                self.expect(Observer::InputPoll);
            }
        }
        // Tasks that poll are on the same queue as the writers that wait.
        let others = self.output_polled || !self.queues[Queue::Writers as usize].is_empty();
        if self.recall_used_share(others) {
            policy.post_changed();
        }
        let posted_state = self.posted_state();
        let remaining = Remaining {
            slots: !self.slots.is_empty(),
            pullable: posted_state.pullable,
            must_withdraw: posted_state.must_withdraw,
        };
        let call_ends = done > 0 || (!busy && self.ends.writers == 0);
        let blocks = process.wait == Wait::Exclusive || busy;
        let wakes = if call_ends || !blocks {
            policy.end(remaining)
        } else {
            policy.pause(remaining)
        };
        let process = &mut self.processes[who];
        if call_ends {
            process.at = if done == 0 { At::Close } else { At::Lock };
            process.signal = false;
            self.next_call(who);
        } else if !blocks {
            process.job = process.job.next(want);
            if process.wait == Wait::Shared {
                process.at = At::Enqueue;
            } else {
                process.signal = false;
                self.next_call(who);
            }
        } else {
            let posts = !busy && want > 2 && self.posted_read.is_none() && !self.windows;
            let mut space = PostedSpace::new(want * UNIT);
            let waits = (!busy).then(|| {
                let posted = Some(&mut space).filter(|_| posts);
                self.waiting_readers.enter(posted)
            });
            process.at = if busy { At::Lock } else { At::Enqueue };
            process.job = Job::Read {
                policy,
                done,
                want,
                posts,
                waits,
                interrupted: false,
            };
            if posts {
                self.posted_read = Some(WaitingRead {
                    reader: who,
                    space,
                    memory: Vec::new(),
                    received: Vec::new(),
                });
            }
        }
        self.unlock(who, wakes);
    }

    /// Ends a call of a process and begins the next one.
    pub(super) fn next_call(&mut self, who: usize) {
        let process = &mut self.processes[who];
        let goes_on = process.job.reads() && process.wait != Wait::Never && !process.leaves_early;
        let size = match process.calls {
            _ if process.killed => None,
            [] => Some(3).filter(|_| goes_on),
            [size, rest @ ..] => {
                process.calls = rest;
                Some(*size)
            }
        };
        let Some(size) = size else {
            process.at = if self.ends_stay_open {
                At::Finished
            } else {
                At::Close
            };
            return;
        };
        self.begin_call(who, size);
    }

    fn begin_call(&mut self, who: usize, size: usize) {
        let process = &mut self.processes[who];
        process.job = process.job.next(size);
        if matches!(process.job, Job::SpliceTo { .. }) && process.at == At::Lock {
            process.at = At::Begin;
        }
    }

    /// Ends a call that a signal has interrupted. The process makes the same call again, unless it
    /// is killed.
    pub(super) fn call_again(&mut self, who: usize, size: usize) {
        let process = &mut self.processes[who];
        process.at = At::Lock;
        process.signal = false;
        if process.killed {
            self.next_call(who);
        } else {
            self.begin_call(who, size);
        }
    }

    /// A process closes its end.
    pub(super) fn close(&mut self, who: usize) {
        if self.processes[who].job.reads() {
            self.ends.readers -= 1;
        } else {
            self.ends.writers -= 1;
        }
        self.processes[who].at = At::Finished;
        self.publish();
        if WakesAll::closed(self.ends).owner {
            self.wake_all();
        }
    }

    /// A process takes the lock, and its copy stops short. A writer fills `first` slots before
    /// that.
    pub(super) fn fault(&mut self, who: usize, first: usize) {
        let empty = self.empty();
        let posted_state = self.posted_state();
        let mut job = self.processes[who].job;
        match &mut job {
            Job::Write {
                policy,
                done,
                left,
                posted_units: None,
                standing,
                waits,
                others,
            } if self.ends.readers != 0 && !self.has_pullable() && self.free() > first => {
                if std::mem::take(waits) {
                    self.waiting_writers -= 1;
                    *standing = standing.waited(self.waiting_writers, true, *others);
                }
                let mut pending = policy.unwrap_or(WriterPolicy::new(empty));
                pending.resume(empty);
                if first != 0 && *left > 2 {
                    let units = self.fill(who, 2, &mut 0);
                    *done += units;
                    *left -= units;
                }
                let wakes = pending.pause(*done, false);
                *policy = Some(pending);
                self.processes[who].at = At::Fault;
                self.processes[who].job = job;
                self.unlock(who, wakes);
            }
            Job::Read {
                policy,
                posts: false,
                waits,
                ..
            } if !empty && first == 0 && !self.claimed => {
                if let Some(ticket) = waits.take() {
                    let posted_space = self
                        .posted_read
                        .as_mut()
                        .map(|posted_read| &mut posted_read.space);
                    self.waiting_readers.leave(ticket, posted_space);
                }
                policy.locked(self.announced());
                let wakes = policy.pause(Remaining {
                    slots: !self.slots.is_empty(),
                    pullable: posted_state.pullable,
                    must_withdraw: posted_state.must_withdraw,
                });
                self.processes[who].at = At::Fault;
                self.processes[who].job = job;
                self.unlock(who, wakes);
            }
            _ => (),
        }
    }

    /// A process on a wait queue checks whether it has to sleep.
    pub(super) fn check_wait(&mut self, who: usize) {
        let queue = self.processes[who].queue;
        let ready = self.ready(who);
        let process = &mut self.processes[who];
        let woken = !self.queues[queue as usize].contains(&who);
        // A wakeup of a claim, or of a shared wait, reaches all who wait, so none passes it on.
        let consumes = queue != Queue::Claim && process.wait == Wait::Exclusive;
        if ready || process.killed || (process.signal && queue != Queue::Claim) {
            process.at = At::Lock;
            match &mut process.job {
                Job::Write { policy, .. } => policy.iter_mut().for_each(WriterPolicy::waited),
                Job::Read { policy, .. } | Job::SpliceTo { policy, .. } if ready => {
                    if consumes {
                        policy.waited();
                    }
                }
                Job::SpliceFrom { .. } if ready => (),
                Job::Read { interrupted, .. }
                | Job::SpliceTo { interrupted, .. }
                | Job::SpliceFrom { interrupted, .. } => *interrupted = true,
            }
            self.queues[queue as usize].retain(|other| *other != who);
        } else {
            // A wakeup since the process joined the queue has made it runnable, so it does not
            // sleep.
            process.at = if woken { At::Enqueue } else { At::Asleep };
        }
    }
}
