// SPDX-License-Identifier: GPL-2.0-only

//! The state of the model: the pipe, its processes, their possible next steps and the checks at the
//! end.

use super::super::{
    posted_bytes::{PostedBytes, Standing},
    posted_space::{PostedSpace, Ticket, WaitingReaders},
    seats::Seats,
    state::{Ends, Occupancy, PostedState, State},
    wakeup::{ReaderPolicy, Wakes, WriterPolicy},
    PAGE_SIZE,
};
use super::claim::Intent;

/// The model counts units instead of bytes. A slot has two units, so it can be read in parts.
pub(super) const UNIT: usize = PAGE_SIZE / 2;

/// One unit: the number of its writer, and the position of the unit in the data of that writer.
pub(super) type Unit = (usize, usize);

/// The position of a process in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// About to take the lock.
    Lock,
    /// About to join its wait queue.
    Enqueue,
    /// On the wait queue, about to check whether it has to sleep.
    Check,
    /// Asleep.
    Asleep,
    /// In a page fault, without the lock.
    Fault,
    /// With a seat, without the lock.
    Seated,
    /// With a claim, without the lock.
    Claiming,
    /// With slots in view, without the lock.
    Peeking,
    /// About to close its end.
    Close,
    /// Finished.
    Finished,
}

/// The wait queue that a process uses next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Queue {
    Readers,
    Writers,
    Owner,
    /// Readers that wait for the end of another reader's claim.
    Claim,
}

/// The current call of a process. Counts are in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Write {
        policy: Option<WriterPolicy>,
        done: usize,
        left: usize,
        /// The number of units posted, while the write is posted.
        posted_units: Option<usize>,
        standing: Standing,
        /// The writer waits for a free slot, and `waiting_writers` counts it.
        waits: bool,
        /// Another writer that had waited has written something since this write withdrew its post.
        others: bool,
    },
    Read {
        policy: ReaderPolicy,
        done: usize,
        want: usize,
        /// This read is the posted one.
        posts: bool,
        /// The ticket of the reader while it waits for data.
        waits: Option<Ticket>,
        /// A signal ended the wait for data.
        interrupted: bool,
    },
}

/// A process, which makes calls on one end of the pipe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) at: At,
    pub(super) job: Job,
    pub(super) queue: Queue,
    /// The wakeups that the process has to issue.
    pub(super) wakes: Wakes,
    /// The process has ended its claim and has to wake the readers that wait for that.
    pub(super) wakes_claim_queue: bool,
    /// A signal is pending.
    pub(super) signal: bool,
    /// The sizes of the next calls. A reader without further sizes goes on reading until the end.
    pub(super) calls: Vec<usize>,
    /// The reader closes after its calls, even if there is more to read.
    pub(super) leaves_early: bool,
    /// Of a writer: units written, as returned by its calls.
    pub(super) written: usize,
    /// Of a writer: the number of its units that were read.
    pub(super) next_read: usize,
    /// Of a reader: the slots that it has in view.
    pub(super) peeked: Vec<Vec<Unit>>,
}

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

    /// Recalls the posted write if its share is used, as in `Inner::recall_used_share()`.
    pub(super) fn recall_used_share(&mut self, others: bool) -> bool {
        let share = self.share * UNIT;
        let free = self.free();
        match &mut self.posted {
            Some((_, posted))
                if (self.waiting_writers != 0 || others)
                    && posted.share_is_used(share)
                    && !posted.is_recalled() =>
            {
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
            if let Job::Read { waits: Some(t), .. } = &mut process.job {
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

    /// Wakes the first process on a queue and removes it, as `autoremove_wake_function()` does.
    pub(super) fn wake(&mut self, queue: Queue) {
        match queue {
            Queue::Readers => self.notified(Observer::InputPoll),
            Queue::Writers => self.notified(Observer::OutputPoll),
            Queue::Owner | Queue::Claim => (),
        }
        let queue = &mut self.queues[queue as usize];
        if !queue.is_empty() {
            let who = queue.remove(0);
            self.make_runnable(who);
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
        if core::mem::take(&mut wakes.owner) {
            self.wake(Queue::Owner);
        } else if core::mem::take(&mut wakes.reader) {
            self.wake(Queue::Readers);
        } else if core::mem::take(&mut wakes.writer) {
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
            if self.signals > 0
                && !process.signal
                && !matches!(process.at, At::Finished | At::Close)
            {
                step(&|world| {
                    world.signals -= 1;
                    world.processes[who].signal = true;
                    if world.processes[who].at == At::Asleep {
                        for queue in &mut world.queues {
                            queue.retain(|other| *other != who);
                        }
                        world.make_runnable(who);
                    }
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
        all
    }

    /// Checks a state in which no step is possible any more: no process hangs, and no unit is lost.
    pub(super) fn check_end(&self) {
        let in_slots = |writer| {
            self.slots
                .iter()
                .flatten()
                .filter(|u| u.0 == writer)
                .count()
        };
        for (who, process) in self.processes.iter().enumerate() {
            let waits = self.ends_stay_open && process.at == At::Asleep && !self.ready(who);
            assert!(
                waits || process.at == At::Finished,
                "process {who} hangs: {self:#?}"
            );
            if matches!(process.job, Job::Write { .. }) && !waits {
                assert_eq!(
                    process.written, self.sent[who],
                    "a writer counted its units wrongly: {self:#?}"
                );
                assert_eq!(
                    process.next_read + in_slots(who),
                    self.sent[who],
                    "{self:#?}"
                );
            }
        }
        let asleep = |queue| {
            let sleeps = |p: &&Process| p.at == At::Asleep && p.queue == queue;
            self.processes.iter().filter(sleeps).count() as u32
        };
        assert_eq!(
            self.waiting_readers.count,
            asleep(Queue::Readers),
            "{self:#?}"
        );
        assert_eq!(self.waiting_writers, asleep(Queue::Writers), "{self:#?}");
        assert_eq!(
            self.expected, [false; 4],
            "an observer was not notified: {self:#?}"
        );
        let blocked = |who: usize| self.ends_stay_open && self.processes[who].at == At::Asleep;
        assert!(
            self.posted.is_none_or(|(owner, _)| blocked(owner)),
            "a posted write is left: {self:#?}"
        );
        assert_eq!(self.seats.limit(), self.seats.slots(), "{self:#?}");
        assert!(!self.claimed, "a claim is left: {self:#?}");
        assert!(
            self.ends_stay_open || self.posted_read.is_none(),
            "a posted read is left: {self:#?}"
        );
    }
}
