// SPDX-License-Identifier: GPL-2.0-only

//! The state of the model: the pipe and its processes, and their possible next steps.

use super::super::{
    posted_bytes::PostedBytes,
    posted_space::{PostedSpace, WaitingReaders},
    seats::Seats,
    state::{Ends, Occupancy, PostedState, State},
    wakeup::Wakes,
    PAGE_SIZE,
};
use super::{
    claim::Intent,
    process::{At, Job, Process, Queue, Wait},
};
use std::mem;

/// The model counts units instead of bytes. A slot has two units, so it can be read in parts.
pub(super) const UNIT: usize = PAGE_SIZE / 2;

/// One unit: the number of its writer, and the position of the unit in the data of that writer.
pub(super) type Unit = (usize, usize);

/// A unit of the slot that stands for held slots. Nobody may read it.
pub(super) const STAND_IN: Unit = (usize::MAX, 0);

/// The posted read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitingRead {
    pub(super) reader: usize,
    pub(super) space: PostedSpace,
    /// The reader's memory, as far as writers have filled it.
    pub(super) memory: Vec<Unit>,
    /// The units that pushes have delivered, as counted by the writers.
    pub(super) received: Vec<Unit>,
}

/// An observer of the pipe that has to be notified when the pipe becomes readable or writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observer {
    /// A reader that asked for SIGIO.
    InputSignal,
    /// A task that polls the read end, by edge-triggered epoll.
    InputPoll,
    /// A writer that asked for SIGIO.
    OutputSignal,
    /// A task that polls the write end, by edge-triggered epoll.
    OutputPoll,
}

/// The reason why a direct transfer copies nothing, or less than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A page of the owner's memory is not resident.
    Page,
    /// The address space of the owner is busy.
    Busy,
    /// The writer's own memory cannot be read after this number of units.
    OwnMemory(usize),
}

/// A state of the model. The fields that are called budgets count events that may still happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The units in each used slot.
    pub(super) slots: Vec<Vec<Unit>>,
    pub(super) seats: Seats,
    /// The owner of the posted write, and its counts.
    pub(super) posted: Option<(usize, PostedBytes)>,
    pub(super) posted_read: Option<WaitingRead>,
    pub(super) waiting_readers: WaitingReaders,
    pub(super) waiting_writers: u32,
    /// A writer was refused a free slot since a write was posted last.
    pub(super) refused: bool,
    /// A task polls for a free slot.
    pub(super) output_polled: bool,
    /// The share of a posted write, in units.
    pub(super) share: usize,
    /// Observers that still have to be notified, by [`Observer`].
    pub(super) expected: [bool; 4],
    /// The next capacities of the pipe.
    pub(super) resizes: Vec<usize>,
    /// Wakeups that the last change of the capacity has still to issue.
    pub(super) resize_wakes: Wakes,
    /// For each writer, the units that have left it: into slots, by a pull or by a push.
    pub(super) sent: Vec<usize>,
    pub(super) ends: Ends,
    /// Every write wakes the tasks that poll for data.
    pub(super) polled: bool,
    pub(super) snapshot: State,
    /// The processes on each wait queue, by [`Queue`].
    pub(super) queues: [Vec<usize>; 4],
    pub(super) processes: Vec<Process>,
    /// Budget: signals.
    pub(super) signals: usize,
    /// Budget: fatal signals.
    pub(super) kills: usize,
    /// Budget: misses of pulls and pushes.
    pub(super) misses: usize,
    /// Budget: pushes that find that the writer's own memory cannot be read.
    pub(super) bad_memory: usize,
    /// Budget: pulls that find the owner's address space busy.
    pub(super) busy_spaces: usize,
    /// Budget: page faults of a process's own memory.
    pub(super) faults: usize,
    /// Budget: slots that writers reserve.
    pub(super) gifts: usize,
    /// Budget: slots that readers claim.
    pub(super) claims: usize,
    /// The first slot is claimed.
    pub(super) claimed: bool,
    /// Budget: times that a reader takes slots out of the ring to show them.
    pub(super) peeks: usize,
    /// There are read windows, so all data goes through slots.
    pub(super) windows: bool,
    /// The number of commands that read slots for another file, so likewise.
    pub(super) splices: usize,
    /// The maximum number of slots that such a command holds at a time.
    pub(super) batch: usize,
    /// The other files answer sooner or later, even if nobody is killed.
    pub(super) answers: bool,
    /// Budget: transfers of which the other file takes, or has, less than there could be.
    pub(super) short_transfers: usize,
    /// For each writer, the set of its units that were read. With read windows, other readers may
    /// read units behind those in view.
    pub(super) delivered_units: Vec<u32>,
    /// The number of units that an owner first finds resident.
    pub(super) resident: usize,
    /// Processes that have finished do not close their ends. The last close of a side wakes all
    /// tasks, which could hide a missing wakeup.
    pub(super) ends_stay_open: bool,
}

impl World {
    pub(super) fn free(&self) -> usize {
        self.seats.limit() as usize - self.slots.len()
    }

    pub(super) fn full(&self) -> bool {
        self.free() == 0 || self.has_pullable()
    }

    pub(super) fn has_pullable(&self) -> bool {
        self.posted.is_some_and(|(_, posted)| posted.pullable())
    }

    /// The number of units that FIONREAD reports.
    pub(super) fn units(&self) -> usize {
        self.slots.iter().map(Vec::len).sum::<usize>() + self.announced() / UNIT
    }

    /// True if all data goes through slots.
    pub(super) fn slots_only(&self) -> bool {
        self.windows || self.splices != 0
    }

    /// True if the process waits so that a wakeup reaches only one such process.
    pub(super) fn is_exclusive(&self, who: usize) -> bool {
        self.processes[who].wait == Wait::Exclusive
    }

    /// The number of writers that a write may not overtake by posting.
    pub(super) fn writers_to_respect(&self) -> u32 {
        self.waiting_writers + u32::from(self.refused)
    }

    /// Recalls the posted write if its share is used, as in `Inner::recall_used_share()`.
    pub(super) fn recall_used_share(&mut self, others: bool) -> bool {
        let share = self.share * UNIT;
        let (free, others) = (self.free(), others || self.writers_to_respect() != 0);
        match &mut self.posted {
            Some((_, posted)) if others && posted.share_is_used(share) && !posted.is_recalled() => {
                posted.recall(free);
                true
            }
            _ => false,
        }
    }

    /// Renumbers the tickets of waiting readers. Only their order matters, and equal states must be
    /// equal.
    pub(super) fn renumber(&mut self) {
        let mut tickets = Vec::new();
        for process in &mut self.processes {
            if let Job::Read { waits: Some(t), .. } | Job::SpliceTo { waits: Some(t), .. } =
                &mut process.job
            {
                tickets.push(t);
            }
        }
        let mut posted = self.posted_read.as_mut().map(|d| &mut d.space.ticket);
        tickets.sort_by_key(|t| t.0);
        self.waiting_readers.next = tickets.len() as u64;
        for (n, ticket) in tickets.into_iter().enumerate() {
            if let Some(t) = posted.take_if(|t| **t == *ticket) {
                t.0 = n as u64;
            }
            ticket.0 = n as u64;
        }
    }

    /// The announced bytes of the posted write.
    pub(super) fn announced(&self) -> usize {
        self.posted
            .map_or(0, |(_, posted)| posted.announced(self.free()))
    }

    /// Records that an observer has to be notified.
    pub(super) fn expect(&mut self, observer: Observer) {
        self.expected[observer as usize] = true;
    }

    /// Records that an observer was notified.
    pub(super) fn notified(&mut self, observer: Observer) {
        self.expected[observer as usize] = false;
    }

    pub(super) fn empty(&self) -> bool {
        self.slots.is_empty() && !self.posted.is_some_and(|(_, posted)| posted.pullable())
    }

    pub(super) fn posted_state(&self) -> PostedState {
        self.posted
            .map_or(PostedState::default(), |(_, posted)| PostedState {
                pullable: posted.pullable(),
                must_withdraw: posted.must_withdraw(self.free()),
            })
    }

    /// Updates the snapshot at the end of a hold of the lock. Finds the observers to notify.
    pub(super) fn publish(&mut self) {
        let before = self.snapshot.occupancy;
        self.snapshot = State {
            occupancy: Occupancy {
                used: self.slots.len() as u32,
                limit: self.seats.limit(),
                spare: 0,
                posted: self.posted_state(),
                pushable: self.posted_read.as_ref().is_some_and(|d| d.space.is_open()),
                pushed: self
                    .posted_read
                    .as_ref()
                    .is_some_and(|d| d.space.pushed() != 0),
            },
            ends: self.ends,
            ..State::default()
        };
        let now = self.snapshot.occupancy;
        for (observer, could, can) in [
            (Observer::InputSignal, !before.empty(), !now.empty()),
            (Observer::InputPoll, !before.empty(), !now.empty()),
            (Observer::OutputSignal, !before.full(), !now.full()),
            (Observer::OutputPoll, !before.full(), !now.full()),
        ] {
            let expected = &mut self.expected[observer as usize];
            *expected = can && (*expected || !could);
        }
    }

    /// True if the event that the process waits for has happened.
    pub(super) fn ready(&self, who: usize) -> bool {
        let posts = matches!(self.processes[who].job, Job::Read { posts: true, .. });
        match self.processes[who].queue {
            Queue::Readers => self.snapshot.readable() || (posts && self.snapshot.occupancy.pushed),
            Queue::Writers => self.snapshot.writable(),
            Queue::Owner => self.snapshot.owner_ready(),
            Queue::Claim => !self.claimed,
        }
    }

    /// Wakes the first exclusive process on a queue and all others that are not exclusive, and
    /// removes them, as `autoremove_wake_function()` does.
    pub(super) fn wake(&mut self, queue: Queue) {
        match queue {
            Queue::Readers => self.notified(Observer::InputPoll),
            Queue::Writers => self.notified(Observer::OutputPoll),
            Queue::Owner | Queue::Claim => (),
        }
        let mut woken = false;
        for who in mem::take(&mut self.queues[queue as usize]) {
            let exclusive = self.is_exclusive(who);
            if exclusive && woken {
                self.queues[queue as usize].push(who);
            } else {
                woken |= exclusive;
                self.make_runnable(who);
            }
        }
    }

    /// Wakes all readers that wait for the end of a claim.
    pub(super) fn wake_claim(&mut self) {
        while !self.queues[Queue::Claim as usize].is_empty() {
            self.wake(Queue::Claim);
        }
    }

    /// Wakes every process that waits as a reader, a writer or an owner, and notifies all
    /// observers.
    pub(super) fn wake_all(&mut self) {
        for queue in [Queue::Readers, Queue::Writers, Queue::Owner] {
            while !self.queues[queue as usize].is_empty() {
                self.wake(queue);
            }
        }
        self.expected = [false; 4];
    }

    /// Wakes a process by name: it stays on its queue, and checks again whether it has to sleep.
    pub(super) fn wake_task(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Check;
        }
    }

    /// Issues one of `wakes`, in the order of `Pipe::wake()`. Returns the others.
    pub(super) fn issue_one(&mut self, mut wakes: Wakes) -> Wakes {
        if mem::take(&mut wakes.owner) {
            self.wake(Queue::Owner);
        } else if mem::take(&mut wakes.reader) {
            self.wake(Queue::Readers);
        } else if mem::take(&mut wakes.writer) {
            self.wake(Queue::Writers);
        }
        wakes
    }

    /// Sends the SIGIO of `wakes`. Returns the other wakeups.
    ///
    /// The exact moment does not matter. An observer that looks too early or too late finds nothing
    /// to do, and has to be notified again.
    pub(super) fn issue_sigio(&mut self, wakes: Wakes) -> Wakes {
        if wakes.sigio_readers {
            self.notified(Observer::InputSignal);
        }
        if wakes.sigio_writers {
            self.notified(Observer::OutputSignal);
        }
        Wakes {
            sigio_readers: false,
            sigio_writers: false,
            ..wakes
        }
    }

    /// Ends a hold of the lock by `who`, who then has to issue `wakes`.
    pub(super) fn unlock(&mut self, who: usize, wakes: Wakes) {
        self.renumber();
        self.publish();
        self.processes[who].wakes = self.issue_sigio(wakes);
    }

    /// Makes a sleeping process runnable.
    pub(super) fn make_runnable(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Enqueue;
        }
    }

    /// Records that a unit was read, and checks that it was its turn.
    pub(super) fn delivered(&mut self, (writer, number): Unit) {
        assert_ne!(
            (writer, number),
            STAND_IN,
            "a slot that stands for held ones was read"
        );
        if self.windows {
            assert_eq!(
                self.delivered_units[writer] >> number & 1,
                0,
                "a unit was read twice"
            );
            self.delivered_units[writer] |= 1 << number;
            self.processes[writer].next_read += 1;
            return;
        }
        assert_eq!(
            number, self.processes[writer].next_read,
            "units were read out of order"
        );
        self.processes[writer].next_read += 1;
    }

    /// All states that one step leads to.
    pub(super) fn next(&self) -> Vec<World> {
        let mut all = Vec::new();
        if self.resize_wakes != Wakes::default() {
            let mut world = self.clone();
            world.resize_wakes = world.issue_one(self.resize_wakes);
            all.push(world);
        } else if !self.resizes.is_empty() {
            let mut world = self.clone();
            world.resize();
            all.push(world);
        }
        for (who, process) in self.processes.iter().enumerate() {
            let mut step = |f: &dyn Fn(&mut World)| {
                let mut world = self.clone();
                f(&mut world);
                all.push(world);
            };
            let running = !matches!(process.at, At::Finished | At::Close);
            if self.signals > 0 && !process.signal && running {
                step(&|world| {
                    world.signals -= 1;
                    world.signal(who, false);
                });
            }
            if self.kills > 0 && !process.killed && running {
                step(&|world| {
                    world.kills -= 1;
                    world.signal(who, true);
                });
            }
            let wakes = process.wakes;
            if process.wakes_claim_queue {
                step(&|world| {
                    world.processes[who].wakes_claim_queue = false;
                    world.wake_claim();
                });
                continue;
            }
            if wakes != Wakes::default() {
                step(&|world| world.processes[who].wakes = world.issue_one(wakes));
                continue;
            }
            match process.at {
                At::Begin => step(&|world| world.begin_splice(who)),
                At::End => step(&|world| world.end_splice(who)),
                At::Offering => {
                    for (units, short) in self.transfers(who, self.offered(who)) {
                        step(&|world| {
                            world.short_transfers -= usize::from(short);
                            world.take(who, units);
                        });
                    }
                }
                At::Filling => {
                    for (units, short) in self.transfers(who, self.fillable(who)) {
                        step(&|world| {
                            world.short_transfers -= usize::from(short);
                            world.fill_reserved(who, units);
                        });
                    }
                }
                At::Lock if matches!(process.job, Job::SpliceTo { .. }) => {
                    step(&|world| world.hold(who));
                    if process.signal && !process.job.is_waiting() {
                        step(&|world| world.processes[who].at = At::End);
                    }
                }
                At::Lock if matches!(process.job, Job::SpliceFrom { .. }) => {
                    step(&|world| world.reserve_slots(who));
                }
                At::Lock => {
                    let reads = matches!(process.job, Job::Read { .. });
                    if self.gifts > 0 && self.may_reserve(who) {
                        step(&|world| {
                            world.gifts -= 1;
                            world.reserve(who);
                        });
                    }
                    if self.claims > 0 && self.may_claim(who) {
                        step(&|world| {
                            world.claims -= 1;
                            world.read(who, None, Intent::Claim);
                        });
                    }
                    if self.peeks > 0 && self.may_peek(who) {
                        for slots in 1..=self.slots.len() {
                            step(&|world| {
                                world.peeks -= 1;
                                world.read(who, None, Intent::Peek(slots));
                            });
                        }
                    }
                    for first in 0..2 {
                        if self.faults > 0 {
                            step(&|world| {
                                world.faults -= 1;
                                world.fault(who, first);
                            });
                        }
                    }
                    if reads {
                        step(&|world| world.read(who, None, Intent::Read));
                        if self.misses > 0 && self.has_pullable() {
                            step(&|world| {
                                world.misses -= 1;
                                world.read(who, Some(Obstacle::Page), Intent::Read);
                            });
                        }
                        if self.busy_spaces > 0 && self.has_pullable() {
                            step(&|world| {
                                world.busy_spaces -= 1;
                                world.read(who, Some(Obstacle::Busy), Intent::Read);
                            });
                        }
                    } else {
                        step(&|world| world.write(who, None));
                        if self.misses > 0 && self.posted_read.is_some() {
                            step(&|world| {
                                world.misses -= 1;
                                world.write(who, Some(Obstacle::Page));
                            });
                        }
                        if self.bad_memory > 0 && self.posted_read.is_some() {
                            for units in [1, 3] {
                                step(&|world| {
                                    world.bad_memory -= 1;
                                    world.write(who, Some(Obstacle::OwnMemory(units)));
                                });
                            }
                        }
                    }
                }
                At::Seated => {
                    step(&|world| world.leave_seat(who, true));
                    step(&|world| world.leave_seat(who, false));
                }
                At::Claiming => {
                    step(&|world| world.read(who, None, Intent::EndClaim(true)));
                    step(&|world| world.read(who, None, Intent::EndClaim(false)));
                }
                At::Peeking => {
                    step(&|world| world.consume(who));
                    step(&|world| world.return_held(who));
                }
                At::Fault => {
                    step(&|world| world.processes[who].at = At::Lock);
                    if matches!(process.job, Job::Write { .. }) {
                        // The memory cannot be read.
                        step(&|world| world.end_with_fault(who));
                    }
                }
                At::Enqueue => {
                    if self.can_extend(who) {
                        step(&|world| world.extend(who));
                    }
                    step(&|world| {
                        let queue = world.processes[who].queue;
                        world.queues[queue as usize].push(who);
                        world.processes[who].at = At::Check;
                    });
                }
                At::Check => step(&|world| world.check_wait(who)),
                At::Close => step(&|world| world.close(who)),
                At::Asleep | At::Finished => (),
            }
        }
        all.iter_mut().for_each(World::forget);
        all
    }

    /// A process gets a signal, which is fatal if it is `killed`. A signal that is not does not end
    /// the wait for a claim.
    fn signal(&mut self, who: usize, killed: bool) {
        let process = &mut self.processes[who];
        process.signal = true;
        process.killed |= killed;
        if process.at == At::Asleep && (killed || process.queue != Queue::Claim) {
            for queue in &mut self.queues {
                queue.retain(|other| *other != who);
            }
            self.make_runnable(who);
        }
    }

    /// The numbers of units that another file may transfer of `max`, and whether this uses up the
    /// budget. After a signal it may transfer any number. There are none if it does not answer.
    fn transfers(&self, who: usize, max: usize) -> Vec<(usize, bool)> {
        let any = self.processes[who].signal;
        if !any && !self.answers {
            return Vec::new();
        }
        let from = if any || self.short_transfers > 0 {
            0
        } else {
            max
        };
        (from..=max).map(|n| (n, !any && n < max)).collect()
    }
}
