// SPDX-License-Identifier: GPL-2.0-only

//! The pipe and its processes, what can happen to them next, and what must be so at the end.

use super::super::{
    offer::Offer,
    state::{Ends, Offered, Room, State},
    turn::{ReaderTurn, Wakes, WriterTurn},
    PAGE_SIZE,
};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Write {
        turn: Option<WriterTurn>,
        done: usize,
        left: usize,
        /// Units that were offered, of an offer that is out.
        offered: Option<usize>,
    },
    Read {
        turn: ReaderTurn,
        done: usize,
        want: usize,
        /// The demand is its own.
        demands: bool,
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
    pub(super) signal: bool,
    /// Sizes of calls still to come; a reader with none left reads on until the end.
    pub(super) calls: Vec<usize>,
    /// Ends after the calls, though there may be more to read.
    pub(super) leaves: bool,
    /// Writer: units that calls said were written.
    pub(super) written: usize,
    /// Writer: how far its units were read.
    pub(super) next_read: usize,
}

/// Where a waiting reader wants its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    pub(super) room: usize,
    pub(super) filled: usize,
    pub(super) open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) slots: Vec<Vec<Unit>>,
    pub(super) limit: usize,
    pub(super) offer: Option<(usize, Offer)>,
    pub(super) demand: Option<Demand>,
    /// Units of each writer that were put into slots or taken from offers.
    pub(super) sent: Vec<usize>,
    pub(super) ends: Ends,
    pub(super) polled: bool,
    pub(super) published: State,
    pub(super) queues: [Vec<usize>; 3],
    pub(super) processes: Vec<Process>,
    pub(super) signals: usize,
    pub(super) misses: usize,
    pub(super) faults: usize,
    /// Units that an owner finds present at first.
    pub(super) look: usize,
    /// Writers do not close, so that closing wakes nobody.
    pub(super) stays: bool,
}

impl World {
    pub(super) fn free(&self) -> usize {
        self.limit - self.slots.len()
    }

    pub(super) fn full(&self) -> bool {
        self.free() == 0 || self.offer.is_some()
    }

    pub(super) fn empty(&self) -> bool {
        self.slots.is_empty() && !self.offer.is_some_and(|(_, offer)| offer.takeable())
    }

    pub(super) fn offered(&self) -> Offered {
        self.offer.map_or(Offered::default(), |(_, offer)| Offered {
            present: true,
            takeable: offer.takeable(),
            due: offer.due(self.free()),
        })
    }

    /// Ends a hold of the lock.
    pub(super) fn publish(&mut self) {
        self.published = State {
            room: Room {
                used: self.slots.len() as u32,
                limit: self.limit as u32,
                spare: 0,
                offer: self.offered(),
                demanded: self.demand.is_some_and(|demand| demand.open),
                pushed: self.demand.is_some_and(|demand| demand.filled != 0),
            },
            ends: self.ends,
            ..State::default()
        };
    }

    pub(super) fn ready(&self, who: usize) -> bool {
        let demands = matches!(self.processes[who].job, Job::Read { demands: true, .. });
        match self.processes[who].queue {
            Queue::Readers => self.published.readable() || (demands && self.published.room.pushed),
            Queue::Writers => self.published.writable(),
            Queue::Owner => self.published.offer_over(),
        }
    }

    /// Wakes the first on a queue: it is off the queue, as by `autoremove_wake_function()`.
    pub(super) fn wake(&mut self, queue: Queue) {
        let queue = &mut self.queues[queue as usize];
        if !queue.is_empty() {
            let who = queue.remove(0);
            self.runs(who);
        }
    }

    pub(super) fn wake_each(&mut self, queue: Queue) {
        while !self.queues[queue as usize].is_empty() {
            self.wake(queue);
        }
    }

    pub(super) fn wake_all(&mut self) {
        for queue in [Queue::Readers, Queue::Writers, Queue::Owner] {
            self.wake_each(queue);
        }
    }

    pub(super) fn runs(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Enqueue;
        }
    }

    /// A unit was read.
    pub(super) fn delivered(&mut self, (writer, number): Unit) {
        assert_eq!(number, self.processes[writer].next_read, "out of order");
        self.processes[writer].next_read += 1;
    }

    /// All that can happen next.
    pub(super) fn next(&self) -> Vec<World> {
        let mut all = Vec::new();
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
            if wakes != Wakes::default() {
                // In the order of the code: it makes no difference which is first.
                step(&|world| {
                    let wakes = &mut world.processes[who].wakes;
                    wakes.input = false;
                    if core::mem::take(&mut wakes.owner) {
                        world.wake(Queue::Owner);
                    } else if core::mem::take(&mut wakes.taker) {
                        wakes.reader = false;
                        world.wake_each(Queue::Readers);
                    } else if core::mem::take(&mut wakes.reader) {
                        world.wake(Queue::Readers);
                    } else if core::mem::take(&mut wakes.writer) {
                        world.wake(Queue::Writers);
                    }
                });
                continue;
            }
            match process.at {
                At::Lock => {
                    let reads = matches!(process.job, Job::Read { .. });
                    for first in 0..2 {
                        if self.faults > 0 {
                            step(&|world| {
                                world.faults -= 1;
                                world.fault(who, first);
                            });
                        }
                    }
                    if reads {
                        step(&|world| world.read(who, false));
                        if self.misses > 0 && self.offer.is_some() {
                            step(&|world| {
                                world.misses -= 1;
                                world.read(who, true);
                            });
                        }
                    } else {
                        step(&|world| world.write(who, false));
                        if self.misses > 0 && self.demand.is_some() {
                            step(&|world| {
                                world.misses -= 1;
                                world.write(who, true);
                            });
                        }
                    }
                }
                At::Fault => step(&|world| world.processes[who].at = At::Lock),
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
            if matches!(process.job, Job::Write { .. }) {
                assert_eq!(process.written, self.sent[who], "miscounted: {self:#?}");
                assert_eq!(
                    process.next_read + in_slots(who),
                    self.sent[who],
                    "{self:#?}"
                );
            }
        }
        assert!(self.offer.is_none(), "an offer is left: {self:#?}");
        assert!(
            self.stays || self.demand.is_none(),
            "a demand is left: {self:#?}"
        );
    }
}
