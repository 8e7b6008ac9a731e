// SPDX-License-Identifier: GPL-2.0-only

//! The pipe and its processes, what can happen to them next, and what must be so at the end.

use super::super::{
    offer::{Offer, Standing},
    posted_read::{PostedRead, Ticket, WaitingReaders},
    seats::Seats,
    state::{Ends, Offered, Room, State},
    turn::{ReaderTurn, Wakes, WriterTurn},
    PAGE_SIZE,
};
use super::claim::Comes;

/// Bytes in what is counted as one here: two to a slot, so that slots are read in parts.
pub(super) const UNIT: usize = PAGE_SIZE / 2;

/// One unit: whose it is and which one of its.
pub(super) type Unit = (usize, usize);

/// Where a process is in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// About to take the lock.
    Lock,
    /// About to get onto its wait queue.
    Enqueue,
    /// On the queue, about to look.
    Look,
    /// Asleep.
    Asleep,
    /// Faulting, without the lock.
    Fault,
    /// With a seat, without the lock.
    Seated,
    /// With a claim, without the lock.
    Claiming,
    /// With slots in view, without the lock.
    Peeking,
    /// About to close.
    Close,
    /// Through.
    Through,
}

/// What a process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Queue {
    Readers,
    Writers,
    Owner,
    /// Readers that wait for another's claim.
    Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Write {
        turn: Option<WriterTurn>,
        done: usize,
        left: usize,
        /// Units that were offered, of an offer that is out.
        offered: Option<usize>,
        standing: Standing,
        /// It waits for room, and is counted.
        waits: bool,
        /// Another that had waited has written something since it withdrew an offer.
        others: bool,
    },
    Read {
        turn: ReaderTurn,
        done: usize,
        want: usize,
        /// The demand is its own.
        demands: bool,
        /// It waits for data, and has this place.
        waits: Option<Ticket>,
        /// The wait ended with a signal.
        interrupted: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) at: At,
    pub(super) job: Job,
    pub(super) queue: Queue,
    pub(super) wakes: Wakes,
    /// It owes a wakeup to those that wait for its claim.
    pub(super) unclaimed: bool,
    pub(super) signal: bool,
    /// Sizes of calls still to come; a reader with none left reads on until the end.
    pub(super) calls: Vec<usize>,
    /// Ends after the calls, though there may be more to read.
    pub(super) leaves: bool,
    /// Writer: units that calls said were written.
    pub(super) written: usize,
    /// Writer: how far its units were read.
    pub(super) next_read: usize,
    /// Reader: slots that it took out and shows.
    pub(super) peeked: Vec<Vec<Unit>>,
}

/// Where a waiting reader wants its units.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    pub(super) reader: usize,
    pub(super) rules: PostedRead,
    /// The reader's memory, as far as writers wrote to it.
    pub(super) memory: Vec<Unit>,
    /// The units that writers count as written to it.
    pub(super) given: Vec<Unit>,
}

/// Who is to be told when something can be read, or written, that could not be before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observer {
    /// SIGIO for readers.
    InputSignal,
    /// Edge-triggered epoll at the read end.
    InputPoll,
    /// SIGIO for writers.
    OutputSignal,
    /// Edge-triggered epoll at the write end.
    OutputPoll,
}

/// Why a direct transfer moves nothing, or less than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// A page of the other side is not there.
    Page,
    /// The other side's address space is being changed.
    Busy,
    /// The writer's own memory ends after so many units.
    Own(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) slots: Vec<Vec<Unit>>,
    pub(super) seats: Seats,
    pub(super) offer: Option<(usize, Offer)>,
    pub(super) demand: Option<Demand>,
    pub(super) waiting_readers: WaitingReaders,
    pub(super) waiting_writers: u32,
    /// Somebody polls for room.
    pub(super) observed: bool,
    /// Units of one offer that readers take while others wait for room.
    pub(super) share: usize,
    /// Observers that have not been told yet that they could go on.
    pub(super) owed: [bool; 4],
    /// Capacities that the pipe is still to get, and whom the last change is still to wake.
    pub(super) resizes: Vec<usize>,
    pub(super) resized: Wakes,
    /// Units of each writer that were put into slots or taken from offers.
    pub(super) sent: Vec<usize>,
    pub(super) ends: Ends,
    pub(super) polled: bool,
    pub(super) published: State,
    pub(super) queues: [Vec<usize>; 4],
    pub(super) processes: Vec<Process>,
    pub(super) signals: usize,
    pub(super) misses: usize,
    /// Pushes that still may meet bad memory of the writer's.
    pub(super) bad: usize,
    pub(super) busy: usize,
    pub(super) faults: usize,
    /// Slots that writers may still reserve.
    pub(super) gifts: usize,
    /// Slots that readers may still claim, and whether one is claimed.
    pub(super) claims: usize,
    pub(super) claimed: bool,
    /// Times that readers may still take slots out to show them; whether there are windows, for which all data
    /// goes through slots.
    pub(super) peeks: usize,
    pub(super) windows: bool,
    /// Units of each writer that were read, where others may read what is behind those in view.
    pub(super) unordered: Vec<u32>,
    /// Units that an owner finds present at first.
    pub(super) look: usize,
    /// Writers do not close, so that closing wakes nobody.
    pub(super) stays: bool,
}

impl World {
    pub(super) fn free(&self) -> usize {
        self.seats.limit() as usize - self.slots.len()
    }

    pub(super) fn full(&self) -> bool {
        self.free() == 0 || self.occupied()
    }

    pub(super) fn occupied(&self) -> bool {
        self.offer.is_some_and(|(_, offer)| offer.takeable())
    }

    /// As `Inner::recall_spent()`.
    pub(super) fn recall_spent(&mut self, others: bool) -> bool {
        let share = self.share * UNIT;
        let free = self.free();
        match &mut self.offer {
            Some((_, offer))
                if (self.waiting_writers != 0 || others)
                    && offer.share_is_spent(share)
                    && !offer.is_recalled() =>
            {
                offer.recall(free);
                true
            }
            _ => false,
        }
    }

    /// Numbers the places of waiting readers anew: only their order makes a difference.
    pub(super) fn renumber(&mut self) {
        let mut places = Vec::new();
        for process in &mut self.processes {
            if let Job::Read { waits: Some(t), .. } = &mut process.job {
                places.push(t);
            }
        }
        let mut posted = self.demand.as_mut().map(|d| &mut d.rules.ticket);
        places.sort_by_key(|t| t.0);
        self.waiting_readers.next = places.len() as u64;
        for (n, place) in places.into_iter().enumerate() {
            if let Some(t) = posted.take_if(|t| **t == *place) {
                t.0 = n as u64;
            }
            place.0 = n as u64;
        }
    }

    /// Bytes of an offer that can be seen.
    pub(super) fn announced(&self) -> usize {
        self.offer
            .map_or(0, |(_, offer)| offer.visible(self.free()))
    }

    /// An observer is to be told.
    pub(super) fn owe(&mut self, observer: Observer) {
        self.owed[observer as usize] = true;
    }

    /// An observer was told.
    pub(super) fn told(&mut self, observer: Observer) {
        self.owed[observer as usize] = false;
    }

    pub(super) fn empty(&self) -> bool {
        self.slots.is_empty() && !self.offer.is_some_and(|(_, offer)| offer.takeable())
    }

    pub(super) fn offered(&self) -> Offered {
        self.offer.map_or(Offered::default(), |(_, offer)| Offered {
            takeable: offer.takeable(),
            due: offer.due(self.free()),
        })
    }

    /// Ends a hold of the lock.
    pub(super) fn publish(&mut self) {
        let before = self.published.room;
        self.published = State {
            room: Room {
                used: self.slots.len() as u32,
                limit: self.seats.limit(),
                spare: 0,
                offer: self.offered(),
                demanded: self.demand.as_ref().is_some_and(|d| d.rules.is_open()),
                pushed: self.demand.as_ref().is_some_and(|d| d.rules.filled() != 0),
            },
            ends: self.ends,
            ..State::default()
        };
        let now = self.published.room;
        for (observer, could, can) in [
            (Observer::InputSignal, !before.empty(), !now.empty()),
            (Observer::InputPoll, !before.empty(), !now.empty()),
            (Observer::OutputSignal, !before.full(), !now.full()),
            (Observer::OutputPoll, !before.full(), !now.full()),
        ] {
            let owed = &mut self.owed[observer as usize];
            *owed = can && (*owed || !could);
        }
    }

    pub(super) fn ready(&self, who: usize) -> bool {
        let demands = matches!(self.processes[who].job, Job::Read { demands: true, .. });
        match self.processes[who].queue {
            Queue::Readers => self.published.readable() || (demands && self.published.room.pushed),
            Queue::Writers => self.published.writable(),
            Queue::Owner => self.published.offer_over(),
            Queue::Claim => !self.claimed,
        }
    }

    /// Wakes the first on a queue: it is off the queue, as by `autoremove_wake_function()`.
    pub(super) fn wake(&mut self, queue: Queue) {
        match queue {
            Queue::Readers => self.told(Observer::InputPoll),
            Queue::Writers => self.told(Observer::OutputPoll),
            Queue::Owner | Queue::Claim => (),
        }
        let queue = &mut self.queues[queue as usize];
        if !queue.is_empty() {
            let who = queue.remove(0);
            self.runs(who);
        }
    }

    /// Wakes all that wait for a claim to end.
    pub(super) fn wake_claim(&mut self) {
        while !self.queues[Queue::Claim as usize].is_empty() {
            self.wake(Queue::Claim);
        }
    }

    pub(super) fn wake_all(&mut self) {
        for queue in [Queue::Readers, Queue::Writers, Queue::Owner] {
            while !self.queues[queue as usize].is_empty() {
                self.wake(queue);
            }
        }
        self.owed = [false; 4];
    }

    /// Wakes a process by name: its entry stays on the queue, and it looks again.
    pub(super) fn wake_task(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Look;
        }
    }

    /// Gives one of the wakeups that are owed, in the order of `Pipe::wake()`.
    pub(super) fn give(&mut self, mut wakes: Wakes) -> Wakes {
        if core::mem::take(&mut wakes.owner) {
            self.wake(Queue::Owner);
        } else if core::mem::take(&mut wakes.reader) {
            self.wake(Queue::Readers);
        } else if core::mem::take(&mut wakes.writer) {
            self.wake(Queue::Writers);
        }
        wakes
    }

    /// Sends the signals that are owed. When exactly makes no difference: who looks too early or too
    /// late finds nothing to do, and is owed another one.
    pub(super) fn signal(&mut self, wakes: Wakes) -> Wakes {
        if wakes.input {
            self.told(Observer::InputSignal);
        }
        if wakes.output {
            self.told(Observer::OutputSignal);
        }
        Wakes {
            input: false,
            output: false,
            ..wakes
        }
    }

    /// Ends a hold of the lock by `who`, who then owes `wakes`.
    pub(super) fn unlock(&mut self, who: usize, wakes: Wakes) {
        self.renumber();
        self.publish();
        self.processes[who].wakes = self.signal(wakes);
    }

    pub(super) fn runs(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Enqueue;
        }
    }

    /// A unit was read.
    pub(super) fn delivered(&mut self, (writer, number): Unit) {
        if self.windows {
            assert_eq!(self.unordered[writer] >> number & 1, 0, "read twice");
            self.unordered[writer] |= 1 << number;
            self.processes[writer].next_read += 1;
            return;
        }
        assert_eq!(number, self.processes[writer].next_read, "out of order");
        self.processes[writer].next_read += 1;
    }

    /// All that can happen next.
    pub(super) fn next(&self) -> Vec<World> {
        let mut all = Vec::new();
        if self.resized != Wakes::default() {
            let mut world = self.clone();
            world.resized = world.give(self.resized);
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
            if self.signals > 0 && !process.signal && !matches!(process.at, At::Through | At::Close)
            {
                step(&|world| {
                    world.signals -= 1;
                    world.processes[who].signal = true;
                    if world.processes[who].at == At::Asleep {
                        for queue in &mut world.queues {
                            queue.retain(|other| *other != who);
                        }
                        world.runs(who);
                    }
                });
            }
            let wakes = process.wakes;
            if process.unclaimed {
                step(&|world| {
                    world.processes[who].unclaimed = false;
                    world.wake_claim();
                });
                continue;
            }
            if wakes != Wakes::default() {
                step(&|world| world.processes[who].wakes = world.give(wakes));
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
                            world.read(who, None, Comes::ToClaim);
                        });
                    }
                    if self.peeks > 0 && self.may_peek(who) {
                        for slots in 1..=self.slots.len() {
                            step(&|world| {
                                world.peeks -= 1;
                                world.read(who, None, Comes::ToPeek(slots));
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
                        step(&|world| world.read(who, None, Comes::ToRead));
                        if self.misses > 0 && self.occupied() {
                            step(&|world| {
                                world.misses -= 1;
                                world.read(who, Some(Miss::Page), Comes::ToRead);
                            });
                        }
                        if self.busy > 0 && self.occupied() {
                            step(&|world| {
                                world.busy -= 1;
                                world.read(who, Some(Miss::Busy), Comes::ToRead);
                            });
                        }
                    } else {
                        step(&|world| world.write(who, None));
                        if self.misses > 0 && self.demand.is_some() {
                            step(&|world| {
                                world.misses -= 1;
                                world.write(who, Some(Miss::Page));
                            });
                        }
                        if self.bad > 0 && self.demand.is_some() {
                            for units in [1, 3] {
                                step(&|world| {
                                    world.bad -= 1;
                                    world.write(who, Some(Miss::Own(units)));
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
                    step(&|world| world.read(who, None, Comes::WithClaim(true)));
                    step(&|world| world.read(who, None, Comes::WithClaim(false)));
                }
                At::Peeking => {
                    step(&|world| world.consume(who));
                    step(&|world| world.give_back(who));
                }
                At::Fault => {
                    step(&|world| world.processes[who].at = At::Lock);
                    if matches!(process.job, Job::Write { .. }) {
                        // The memory is bad.
                        step(&|world| world.give_up(who));
                    }
                }
                At::Enqueue => {
                    if self.can_extend(who) {
                        step(&|world| world.extend(who));
                    }
                    step(&|world| {
                        let queue = world.processes[who].queue;
                        world.queues[queue as usize].push(who);
                        world.processes[who].at = At::Look;
                    });
                }
                At::Look => step(&|world| world.look(who)),
                At::Close => step(&|world| world.close(who)),
                At::Asleep | At::Through => (),
            }
        }
        all
    }

    /// Nothing more can happen: everybody is through, and every byte is where it belongs.
    pub(super) fn check_end(&self) {
        let in_slots = |writer| {
            self.slots
                .iter()
                .flatten()
                .filter(|u| u.0 == writer)
                .count()
        };
        for (who, process) in self.processes.iter().enumerate() {
            let waits = self.stays && process.at == At::Asleep && !self.ready(who);
            assert!(waits || process.at == At::Through, "{who} hangs: {self:#?}");
            if matches!(process.job, Job::Write { .. }) && !waits {
                assert_eq!(process.written, self.sent[who], "miscounted: {self:#?}");
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
        assert_eq!(self.owed, [false; 4], "somebody was not told: {self:#?}");
        let blocked = |who: usize| self.stays && self.processes[who].at == At::Asleep;
        assert!(
            self.offer.is_none_or(|(owner, _)| blocked(owner)),
            "an offer is left: {self:#?}"
        );
        assert_eq!(self.seats.limit(), self.seats.slots(), "{self:#?}");
        assert!(!self.claimed, "a claim is left: {self:#?}");
        assert!(
            self.stays || self.demand.is_none(),
            "a demand is left: {self:#?}"
        );
    }
}
