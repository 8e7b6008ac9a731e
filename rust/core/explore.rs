// SPDX-License-Identifier: GPL-2.0-only

//! Every order in which readers and writers of a pipe can take turns, tried out on the host.
//!
//! The processes below are the loops of `read.rs` and `write.rs` with the bytes counted and not
//! copied; what they decide, they decide by [`Offer`], [`WriterTurn`], [`ReaderTurn`] and [`State`],
//! as the module does. A step is what cannot be divided there: one hold of the lock with what is
//! published at its end, one wakeup, to get onto a wait queue, to look before sleeping. Signals come
//! at any time, and pages are missing at any time. All states that can be reached are visited once.
//!
//! What must hold: each byte is read once, or is still in the pipe; those of one writer come in
//! order; each write returns as many bytes as left it; and nobody sleeps when nothing more can
//! happen.

use super::{
    offer::{part, Offer},
    state::{Ends, Offered, Room, State},
    turn::{Left, ReaderTurn, Wakes, WriterTurn},
    PAGE_SIZE,
};
use std::{
    collections::{
        hash_map::{DefaultHasher, Entry},
        HashMap,
    },
    hash::{Hash, Hasher},
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
};

/// Bytes in what is counted as one here: two to a slot, so that slots are read in parts.
const UNIT: usize = PAGE_SIZE / 2;

/// One unit: whose it is and which one of its.
type Unit = (usize, usize);

/// Where a process is in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
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
enum Queue {
    Readers,
    Writers,
    Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Job {
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
struct Process {
    at: At,
    job: Job,
    queue: Queue,
    wakes: Wakes,
    signal: bool,
    /// Sizes of calls still to come; a reader with none left reads on until the end.
    calls: Vec<usize>,
    /// Ends after the calls, though there may be more to read.
    leaves: bool,
    /// Writer: units that calls said were written.
    written: usize,
    /// Writer: how far its units were read.
    next_read: usize,
}

/// Where a waiting reader wants its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Demand {
    room: usize,
    filled: usize,
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    slots: Vec<Vec<Unit>>,
    limit: usize,
    offer: Option<(usize, Offer)>,
    demand: Option<Demand>,
    /// Units of each writer that were put into slots or taken from offers.
    sent: Vec<usize>,
    ends: Ends,
    polled: bool,
    published: State,
    queues: [Vec<usize>; 3],
    processes: Vec<Process>,
    signals: usize,
    misses: usize,
    faults: usize,
    /// Units that an owner finds present at first.
    look: usize,
    /// Writers do not close, so that closing wakes nobody.
    stays: bool,
}

impl World {
    fn free(&self) -> usize {
        self.limit - self.slots.len()
    }

    fn full(&self) -> bool {
        self.free() == 0 || self.offer.is_some()
    }

    fn empty(&self) -> bool {
        self.slots.is_empty() && !self.offer.is_some_and(|(_, offer)| offer.takeable())
    }

    fn offered(&self) -> Offered {
        self.offer.map_or(Offered::default(), |(_, offer)| Offered {
            present: true,
            takeable: offer.takeable(),
            due: offer.due(self.free()),
        })
    }

    /// Ends a hold of the lock.
    fn publish(&mut self) {
        self.published = State {
            room: Room {
                used: self.slots.len() as u32,
                limit: self.limit as u32,
                spare: 0,
                offer: self.offered(),
                pushed: self.demand.is_some_and(|demand| demand.filled != 0),
            },
            ends: self.ends,
            ..State::default()
        };
    }

    fn ready(&self, who: usize) -> bool {
        let demands = matches!(self.processes[who].job, Job::Read { demands: true, .. });
        match self.processes[who].queue {
            Queue::Readers => self.published.readable() || (demands && self.published.room.pushed),
            Queue::Writers => self.published.writable(),
            Queue::Owner => self.published.offer_over(),
        }
    }

    /// Wakes the first on a queue: it is off the queue, as by `autoremove_wake_function()`.
    fn wake(&mut self, queue: Queue) {
        let queue = &mut self.queues[queue as usize];
        if !queue.is_empty() {
            let who = queue.remove(0);
            self.runs(who);
        }
    }

    fn wake_each(&mut self, queue: Queue) {
        while !self.queues[queue as usize].is_empty() {
            self.wake(queue);
        }
    }

    fn wake_all(&mut self) {
        for queue in [Queue::Readers, Queue::Writers, Queue::Owner] {
            self.wake_each(queue);
        }
    }

    fn runs(&mut self, who: usize) {
        if self.processes[who].at == At::Asleep {
            self.processes[who].at = At::Enqueue;
        }
    }

    /// A unit was read.
    fn delivered(&mut self, (writer, number): Unit) {
        assert_eq!(number, self.processes[writer].next_read, "out of order");
        self.processes[writer].next_read += 1;
    }

    /// Writes what fits; returns how many units.
    fn fill(&mut self, who: usize, mut left: usize, phase: &mut usize) -> usize {
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
    fn offers(&self, left: usize) -> bool {
        left > 2 && self.offer.is_none() && left * UNIT > self.free() * PAGE_SIZE
    }

    /// Gives units to a reader that waits; returns how many. With `miss` the first cannot be had.
    fn push(&mut self, who: usize, left: usize, miss: bool) -> usize {
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

    fn write(&mut self, who: usize, miss: bool) {
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
            process.wakes = turn.end(full, polled);
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
    fn extend(&mut self, who: usize) {
        let free = self.free();
        if let (Job::Write { left, offered, .. }, Some((_, offer))) =
            (&mut self.processes[who].job, &mut self.offer)
        {
            let more = *left - offered.unwrap_or(*left);
            if !offer.due(free) {
                offer.extend(more * UNIT);
                *offered = Some(*left);
            }
        }
        self.publish();
    }

    /// Whether a process has an offer out with more to come.
    fn can_extend(&self, who: usize) -> bool {
        matches!(self.processes[who].job,
            Job::Write { left, offered: Some(offered), .. } if offered < left)
    }

    fn read(&mut self, who: usize, miss: bool) {
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
    fn next_call(&mut self, who: usize) {
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

    fn close(&mut self, who: usize) {
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

    /// All that can happen next.
    fn next(&self) -> Vec<World> {
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

    /// The lock was taken, and a copy stopped short: with a writer the one after `first` slots.
    fn fault(&mut self, who: usize, first: usize) {
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
    fn look(&mut self, who: usize) {
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

    /// Nothing more can happen: everybody is through, and every byte is where it belongs.
    fn check_end(&self) {
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

/// One line of a trail.
fn summary(world: &World) -> String {
    let processes = world.processes.iter().map(|p| match p.job {
        Job::Write { done, left, .. } => format!(" {:?}({done}+{left})", p.at),
        Job::Read { done, want, .. } => format!(" {:?}({done}/{want})", p.at),
    });
    let slots = world.slots.len();
    format!(
        "{slots} slots, {:?}:{}",
        world.offer,
        processes.collect::<String>()
    )
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Visits all that can be reached; returns how many states that were.
fn explore(first: World) -> usize {
    // Where each state was first come to from.
    let mut seen = HashMap::from([(hash(&first), 0)]);
    let mut todo = vec![first.clone()];
    while let Some(world) = todo.pop() {
        let here = hash(&world);
        let mut end = true;
        for next in world.next() {
            end &= next == world;
            if let Entry::Vacant(entry) = seen.entry(hash(&next)) {
                entry.insert(here);
                todo.push(next);
            }
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            if end {
                world.check_end();
            }
        }));
        if let Err(e) = result {
            print_trail(&first, &seen, here);
            resume_unwind(e);
        }
    }
    seen.len()
}

/// Shows how a state was come to.
fn print_trail(first: &World, seen: &HashMap<u64, u64>, last: u64) {
    let mut trail = vec![last];
    while let Some(before) = seen
        .get(&trail[trail.len() - 1])
        .filter(|before| **before != 0)
    {
        trail.push(*before);
    }
    let mut world = first.clone();
    println!("{}", summary(&world));
    for wanted in trail.iter().rev().skip(1) {
        let next = world.next().into_iter().find(|next| hash(next) == *wanted);
        world = next.expect("the trail is lost");
        println!("{}", summary(&world));
    }
}

/// A pipe of `limit` slots, and processes with the sizes of their calls, in units.
fn world(limit: usize, writers: &[&[usize]], readers: &[&[usize]], leaves: bool) -> World {
    let count = writers.len() + readers.len();
    let mut world = World {
        slots: Vec::new(),
        limit,
        offer: None,
        demand: None,
        sent: vec![0; count],
        ends: Ends {
            readers: readers.len() as u32,
            writers: writers.len() as u32,
        },
        polled: false,
        published: State::default(),
        queues: [Vec::new(), Vec::new(), Vec::new()],
        processes: Vec::new(),
        signals: 0,
        misses: 0,
        faults: 0,
        look: usize::MAX,
        stays: false,
    };
    let write = Job::Write {
        turn: None,
        done: 0,
        left: 0,
        offered: None,
    };
    let read = Job::Read {
        turn: ReaderTurn::default(),
        done: 0,
        want: 0,
        demands: false,
        interrupted: false,
    };
    for (job, queue, calls) in writers
        .iter()
        .map(|calls| (write, Queue::Writers, calls))
        .chain(readers.iter().map(|calls| (read, Queue::Readers, calls)))
    {
        world.processes.push(Process {
            at: At::Lock,
            job,
            queue,
            wakes: Wakes::default(),
            signal: false,
            calls: calls.to_vec(),
            leaves,
            written: 0,
            next_read: 0,
        });
    }
    for who in 0..count {
        world.next_call(who);
    }
    world.publish();
    world
}

#[test]
fn one_writer_one_reader() {
    assert!(explore(world(2, &[&[9, 1, 5]], &[&[1, 4]], false)) > 100);
}

#[test]
fn two_writers_two_readers() {
    assert!(explore(world(2, &[&[7], &[1, 5]], &[&[1], &[3]], false)) > 100_000);
}

#[test]
fn a_reader_waits_with_room() {
    assert!(explore(world(2, &[&[7], &[3]], &[&[4], &[6]], false)) > 10_000);
}

#[test]
fn writers_stay() {
    let mut world = world(2, &[&[7], &[3, 1]], &[&[4], &[6]], false);
    world.stays = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn the_rest_is_present() {
    let mut world = world(2, &[&[11], &[1]], &[&[3], &[2]], false);
    world.look = 7;
    assert!(explore(world) > 10_000);
}

#[test]
fn pages_are_missing() {
    let mut world = world(2, &[&[7], &[5]], &[&[3], &[2]], false);
    world.misses = 1;
    assert!(explore(world) > 100_000);
}

#[test]
fn everybody_faults() {
    let mut world = world(1, &[&[4], &[1, 2]], &[&[1], &[3]], false);
    world.faults = 1;
    assert!(explore(world) > 100_000);
}

#[test]
fn somebody_is_signalled() {
    let mut world = world(2, &[&[6], &[1]], &[&[1], &[3]], false);
    world.signals = 1;
    assert!(explore(world) > 100_000);
}

#[test]
fn readers_leave() {
    let mut world = world(2, &[&[7], &[5]], &[&[1], &[3]], true);
    world.signals = 1;
    assert!(explore(world) > 50_000);
}

#[test]
fn somebody_polled() {
    let mut world = world(2, &[&[7], &[1, 5]], &[&[1], &[3]], false);
    world.polled = true;
    assert!(explore(world) > 100_000);
}

/// All of it at once takes some minutes.
#[test]
#[ignore = "long"]
fn everything() {
    let mut world = world(2, &[&[7], &[1, 5]], &[&[1], &[3]], false);
    world.signals = 1;
    world.misses = 1;
    world.faults = 1;
    assert!(explore(world) > 1_000_000);
}
