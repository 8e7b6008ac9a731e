// SPDX-License-Identifier: GPL-2.0-only

//! A model checker for the wakeups: it visits every order in which readers and writers can run.
//!
//! It runs on the host, as unit tests. The processes of the model are the loops of `read.rs` and
//! `write.rs`, and the commands of `splice.rs`. They count bytes instead of copying them. They
//! decide by [`PostedBytes`](super::posted_bytes::PostedBytes),
//! [`WriterPolicy`](super::wakeup::WriterPolicy), [`ReaderPolicy`] and [`State`], as the kernel
//! module does.
//!
//! A step is what other processes cannot interrupt in the kernel module:
//!
//! * one hold of the inner lock, with the update of the snapshot at its end;
//! * one wakeup;
//! * to join a wait queue;
//! * to check the condition before sleeping.
//!
//! Signals may come at any time, fatal ones, too, and pages may become non-resident at any time.
//! Files that a command transfers to or from take or have less than they could, or do not answer.
//! Each reachable state is visited once.
//!
//! The model checks these properties:
//!
//! * Each byte is read once, or is still in the pipe.
//! * The bytes of one writer are read in order.
//! * Each write returns the number of bytes that have left its memory.
//! * When no step is possible any more, no process sleeps for an event that has happened. No slot
//!   is left reserved, held or claimed.
//! * FIONREAD and poll do not change when slots are held, or return.
//! * Observers use SIGIO or edge-triggered epoll. Each of them was notified whenever the pipe
//!   became readable or writable.

mod check;
mod claim;
mod fill;
mod hold;
mod peek;
mod process;
mod reserve;
mod splices;
mod steps;
mod world;

use super::{
    posted_bytes::Standing,
    posted_space::WaitingReaders,
    seats::Seats,
    state::{Ends, State},
    wakeup::{ReaderPolicy, Wakes},
};
use process::{At, Job, Process, Queue, Wait};
use std::{
    collections::{hash_map::Entry, HashMap},
    hash::{BuildHasherDefault, Hash, Hasher},
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
};
use world::World;

/// One line that describes a state, for the trail.
fn summary(world: &World) -> String {
    let processes = world.processes.iter().map(|p| match p.job {
        Job::Write { done, left, .. } => format!(" {:?}({done}+{left})", p.at),
        Job::Read { done, want, .. } => format!(" {:?}({done}/{want})", p.at),
        Job::SpliceTo { done, want, .. } => {
            format!(" {:?}({done}/{want}, {} held)", p.at, p.held.len())
        }
        Job::SpliceFrom { want, reserved, .. } => {
            format!(" {:?}({want}, {reserved} reserved)", p.at)
        }
    });
    let slots = world.slots.len();
    format!(
        "{slots} slots, {:?}:{}",
        world.posted,
        processes.collect::<String>()
    )
}

/// A fast hash function with few collisions. It need not resist attacks.
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
        // Both halves of a product. The first constant prevents 0 for a word that equals the state.
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xff51_afd7_ed55_8ccd;
        self.0 = (product >> 64) as u64 ^ (product as u64).rotate_left(29);
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

/// Maps each visited state to the state from which it was first reached. Both by their hash values.
type Seen = HashMap<u64, u64, BuildHasherDefault<Spread>>;

/// Visits all reachable states. Returns their number.
fn explore(first: World) -> usize {
    let mut seen = Seen::default();
    seen.insert(hash(&first), 0);
    let mut todo = vec![(hash(&first), first.clone())];
    while let Some((here, world)) = todo.pop() {
        let mut end = true;
        for next in world.next() {
            let there = hash(&next);
            end &= there == here;
            if let Entry::Vacant(entry) = seen.entry(there) {
                entry.insert(here);
                todo.push((there, next));
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

/// Prints the states on the way to `last`.
fn print_trail(first: &World, seen: &Seen, last: u64) {
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
        world = next.expect("no step leads to the next state of the trail");
        println!("{}", summary(&world));
    }
}

/// A pipe of `limit` slots, with writers and readers. Each process has a list of the sizes of its
/// calls, in units. `leaves_early` says that readers close after their calls.
fn world(
    limit: usize,
    writers: &[&'static [usize]],
    readers: &[&'static [usize]],
    leaves_early: bool,
) -> World {
    let count = writers.len() + readers.len();
    let mut world = World {
        slots: Vec::new(),
        seats: Seats::new(limit as u32),
        posted: None,
        posted_read: None,
        waiting_readers: WaitingReaders::default(),
        waiting_writers: 0,
        refused: false,
        output_polled: false,
        share: 3,
        expected: [false; 4],
        resizes: Vec::new(),
        resize_wakes: Wakes::default(),
        sent: vec![0; count],
        ends: Ends {
            readers: readers.len() as u32,
            writers: writers.len() as u32,
        },
        polled: false,
        snapshot: State::default(),
        queues: [Vec::new(), Vec::new(), Vec::new(), Vec::new()],
        processes: Vec::new(),
        signals: 0,
        kills: 0,
        misses: 0,
        bad_memory: 0,
        busy_spaces: 0,
        faults: 0,
        gifts: 0,
        claims: 0,
        claimed: false,
        peeks: 0,
        windows: false,
        splices: 0,
        batch: usize::MAX,
        answers: true,
        short_transfers: 0,
        delivered_units: vec![0; count],
        resident: usize::MAX,
        ends_stay_open: false,
    };
    let write = Job::Write {
        policy: None,
        done: 0,
        left: 0,
        posted_units: None,
        standing: Standing::New,
        waits: false,
        others: false,
    };
    let read = Job::Read {
        policy: ReaderPolicy::default(),
        done: 0,
        want: 0,
        posts: false,
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
            wait: Wait::Exclusive,
            queue,
            wakes: Wakes::default(),
            wakes_claim_queue: false,
            signal: false,
            killed: false,
            calls,
            leaves_early,
            written: 0,
            next_read: 0,
            held: Vec::new(),
        });
    }
    for who in 0..count {
        world.next_call(who);
    }
    world.publish();
    world.expected = [false; 4];
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
fn a_reader_posts_its_read() {
    assert!(explore(world(2, &[&[7], &[3]], &[&[4], &[6]], false)) > 10_000);
}

#[test]
fn writers_do_not_close() {
    let mut world = world(2, &[&[7], &[3, 1]], &[&[4], &[6]], false);
    world.ends_stay_open = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn an_owner_extends_its_posted_write() {
    let mut world = world(2, &[&[11], &[1]], &[&[3], &[2]], false);
    world.resident = 7;
    assert!(explore(world) > 10_000);
}

#[test]
fn a_page_is_missed() {
    let mut world = world(2, &[&[7], &[4]], &[&[3], &[2]], false);
    world.misses = 1;
    assert!(explore(world) > 10_000);
}

#[test]
fn a_process_faults() {
    let mut world = world(1, &[&[4], &[1, 2]], &[&[1], &[3]], false);
    world.faults = 1;
    assert!(explore(world) > 100_000);
}

#[test]
fn a_process_gets_a_signal() {
    let mut world = world(2, &[&[6], &[1]], &[&[1], &[3]], false);
    world.signals = 1;
    assert!(explore(world) > 100_000);
}

#[test]
fn readers_close_early() {
    let mut world = world(2, &[&[7], &[5]], &[&[1], &[3]], true);
    world.signals = 1;
    assert!(explore(world) > 50_000);
}

#[test]
fn every_write_wakes() {
    let mut world = world(2, &[&[7], &[4]], &[&[1], &[3]], false);
    world.polled = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn free_slots_are_polled() {
    let mut world = world(2, &[&[7], &[5]], &[&[3], &[1]], false);
    world.output_polled = true;
    world.ends_stay_open = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn writers_have_bad_memory() {
    let mut world = world(2, &[&[7], &[5, 4]], &[&[6, 6]], false);
    world.bad_memory = 2;
    assert!(explore(world) > 1_000);
}

#[test]
fn an_address_space_is_busy() {
    let mut world = world(2, &[&[7], &[5]], &[&[3], &[2]], false);
    world.busy_spaces = 1;
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
fn seats_and_posted_writes() {
    let mut world = world(2, &[&[5], &[2]], &[&[2], &[3]], false);
    world.gifts = 1;
    world.signals = 1;
    world.ends_stay_open = true;
    assert!(explore(world) > 10_000);
}

/// No reader goes on reading later, which would hide a missing wakeup.
#[test]
fn a_seat_is_given_up_beside_a_posted_write() {
    let mut world = world(2, &[&[2], &[3]], &[&[1]], true);
    world.gifts = 1;
    world.ends_stay_open = true;
    assert!(explore(world) > 100);
}

#[test]
fn readers_close_with_seats_reserved() {
    let mut world = world(1, &[&[4], &[2]], &[&[2], &[1]], true);
    world.gifts = 2;
    assert!(explore(world) > 10_000);
}

#[test]
fn the_capacity_changes_with_seats_reserved() {
    for resizes in [vec![4], vec![1, 2]] {
        let mut world = world(2, &[&[4], &[3]], &[&[5]], false);
        world.resizes = resizes;
        world.gifts = 1;
        assert!(explore(world) > 1_000);
    }
}

#[test]
fn readers_claim_slots() {
    for leaves_early in [false, true] {
        let mut world = world(2, &[&[6], &[2]], &[&[2], &[3]], leaves_early);
        world.claims = 2;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn claims_and_signals() {
    let mut world = world(2, &[&[6]], &[&[2], &[2, 1]], false);
    world.claims = 1;
    world.signals = 1;
    world.ends_stay_open = true;
    assert!(explore(world) > 10_000);
}

#[test]
fn claims_and_seats() {
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
    for leaves_early in [false, true] {
        let mut world = world(2, &[&[5], &[2]], &[&[2], &[3]], leaves_early);
        world.windows = true;
        world.peeks = 2;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn peeks_commits_and_signals() {
    for limit in 1..=2 {
        let mut world = world(limit, &[&[3], &[2]], &[&[2], &[1]], true);
        world.windows = true;
        world.peeks = 1;
        world.gifts = 1;
        world.signals = 1;
        world.ends_stay_open = true;
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn peeks_claims_and_resizes() {
    for resizes in [vec![], vec![1, 4]] {
        let mut world = world(2, &[&[6]], &[&[2], &[4]], false);
        world.windows = true;
        world.peeks = 2;
        world.claims = 1;
        world.resizes = resizes;
        assert!(explore(world) > 1_000);
    }
}

/// All budgets at once. It takes some minutes.
#[test]
#[ignore = "long"]
fn all_budgets_at_once() {
    let mut world = world(2, &[&[7], &[1, 5]], &[&[1], &[3]], false);
    world.signals = 1;
    world.misses = 1;
    world.faults = 1;
    assert!(explore(world) > 1_000_000);
}
