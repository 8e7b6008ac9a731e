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
//! order; each write returns as many bytes as left it; nobody sleeps when nothing more can happen;
//! and who observes the pipe from outside, by SIGIO or by edge-triggered epoll, was told whenever
//! there was something to read, or room, that had not been there before.

mod claim;
mod peek;
mod reserve;
mod steps;
mod world;

use super::{
    offer::Standing,
    posted_read::WaitingReaders,
    seats::Seats,
    state::{Ends, State},
    turn::{ReaderTurn, Wakes},
};
use std::{
    collections::{hash_map::Entry, HashMap},
    hash::{Hash, Hasher},
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
};
use world::{At, Job, Process, Queue, World};

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

/// A hash that is quick and spreads well; nobody attacks it.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The finaliser of MurmurHash3, over what came before.
        let mut h = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 33;
        self.0 = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(29);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(world: &World) -> u64 {
    let mut hasher = Spread::default();
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
        seats: Seats::new(limit as u32),
        offer: None,
        demand: None,
        waiting_readers: WaitingReaders::default(),
        waiting_writers: 0,
        observed: false,
        share: 3,
        owed: [false; 4],
        resizes: Vec::new(),
        resized: Wakes::default(),
        sent: vec![0; count],
        ends: Ends {
            readers: readers.len() as u32,
            writers: writers.len() as u32,
        },
        polled: false,
        published: State::default(),
        queues: [Vec::new(), Vec::new(), Vec::new(), Vec::new()],
        processes: Vec::new(),
        signals: 0,
        misses: 0,
        bad: 0,
        busy: 0,
        faults: 0,
        gifts: 0,
        claims: 0,
        claimed: false,
        peeks: 0,
        windows: false,
        unordered: vec![0; count],
        look: usize::MAX,
        stays: false,
    };
    let write = Job::Write {
        turn: None,
        done: 0,
        left: 0,
        offered: None,
        standing: Standing::Fresh,
        waits: false,
        others: false,
    };
    let read = Job::Read {
        turn: ReaderTurn::default(),
        done: 0,
        want: 0,
        demands: false,
        waits: None,
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
            unclaimed: false,
            signal: false,
            calls: calls.to_vec(),
            leaves,
            written: 0,
            next_read: 0,
            peeked: Vec::new(),
        });
    }
    for who in 0..count {
        world.next_call(who);
    }
    world.publish();
    world.owed = [false; 4];
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
    let mut world = world(2, &[&[7], &[4]], &[&[3], &[2]], false);
    world.misses = 1;
    assert!(explore(world) > 10_000);
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
    let mut world = world(2, &[&[7], &[4]], &[&[1], &[3]], false);
    world.polled = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn room_is_observed() {
    let mut world = world(2, &[&[7], &[5]], &[&[3], &[1]], false);
    world.observed = true;
    world.stays = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn writers_have_bad_memory() {
    let mut world = world(2, &[&[7], &[5, 4]], &[&[6, 6]], false);
    world.bad = 2;
    assert!(explore(world) > 1_000);
}

#[test]
fn memory_is_busy() {
    let mut world = world(2, &[&[7], &[5]], &[&[3], &[2]], false);
    world.busy = 1;
    assert!(explore(world) > 10_000);
}

#[test]
fn the_capacity_changes() {
    for resizes in [vec![4], vec![1, 2]] {
        let mut world = world(2, &[&[7], &[3]], &[&[5]], false);
        world.resizes = resizes;
        assert!(explore(world) > 1_000);
    }
}

#[test]
fn a_writer_reserves_a_seat() {
    for limit in 1..=2 {
        let mut world = world(limit, &[&[4], &[2]], &[&[1], &[3]], false);
        world.gifts = 3 - limit;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn seats_meet_offers() {
    let mut world = world(2, &[&[5], &[2]], &[&[2], &[3]], false);
    world.gifts = 1;
    world.signals = 1;
    world.stays = true;
    assert!(explore(world) > 10_000);
}

/// Nobody reads on who would set right what a wakeup too few left.
#[test]
fn a_seat_is_given_up_beside_an_offer() {
    let mut world = world(2, &[&[2], &[3]], &[&[1]], true);
    world.gifts = 1;
    world.stays = true;
    assert!(explore(world) > 100);
}

#[test]
fn readers_leave_seats() {
    let mut world = world(1, &[&[4], &[2]], &[&[2], &[1]], true);
    world.gifts = 2;
    assert!(explore(world) > 10_000);
}

#[test]
fn the_capacity_changes_under_seats() {
    for resizes in [vec![4], vec![1, 2]] {
        let mut world = world(2, &[&[4], &[3]], &[&[5]], false);
        world.resizes = resizes;
        world.gifts = 1;
        assert!(explore(world) > 1_000);
    }
}

#[test]
fn readers_claim_slots() {
    for leaves in [false, true] {
        let mut world = world(2, &[&[6], &[2]], &[&[2], &[3]], leaves);
        world.claims = 2;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn claims_meet_signals() {
    let mut world = world(2, &[&[6]], &[&[2], &[2, 1]], false);
    world.claims = 1;
    world.signals = 1;
    world.stays = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn claims_meet_seats() {
    for resizes in [vec![], vec![1, 4]] {
        let mut world = world(1, &[&[4]], &[&[2], &[4]], false);
        world.claims = 1;
        world.gifts = 1;
        world.resizes = resizes;
        assert!(explore(world) > 1_000);
    }
}

#[test]
fn readers_peek() {
    for leaves in [false, true] {
        let mut world = world(2, &[&[5], &[2]], &[&[2], &[3]], leaves);
        world.windows = true;
        world.peeks = 2;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn peeks_meet_commits_and_signals() {
    for limit in 1..=2 {
        let mut world = world(limit, &[&[3], &[2]], &[&[2], &[1]], true);
        world.windows = true;
        world.peeks = 1;
        world.gifts = 1;
        world.signals = 1;
        world.stays = true;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn peeks_meet_claims_and_resizes() {
    for resizes in [vec![], vec![1, 4]] {
        let mut world = world(2, &[&[6]], &[&[2], &[4]], false);
        world.windows = true;
        world.peeks = 2;
        world.claims = 1;
        world.resizes = resizes;
        assert!(explore(world) > 1_000);
    }
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
