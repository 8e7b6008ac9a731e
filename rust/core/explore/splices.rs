// SPDX-License-Identifier: GPL-2.0-only

//! Transfers to and from other files, beside readers and writers.

use super::{
    explore,
    process::{At, Job, Wait},
    world,
    world::World,
};

impl World {
    /// The process transfers to or from another file instead of reading or writing.
    fn splices(mut self, who: usize) -> Self {
        let process = &mut self.processes[who];
        process.job = match process.job {
            Job::Read { want, .. } => {
                let to = Job::SpliceTo {
                    policy: Default::default(),
                    done: 0,
                    want,
                    waits: None,
                    interrupted: false,
                    ended: false,
                };
                process.at = At::Begin;
                to
            }
            Job::Write { left, .. } => {
                // It waits for a free slot as `Pipe::wait_writable()`.
                process.wait = Wait::Shared;
                Job::SpliceFrom {
                    want: left,
                    reserved: 0,
                    interrupted: false,
                }
            }
            job => job,
        };
        self
    }

    /// The process waits in this way.
    fn waits(mut self, who: usize, wait: Wait) -> Self {
        self.processes[who].wait = wait;
        self
    }

    /// The other files take, or have, less than there could be, up to `count` times.
    fn short(mut self, count: usize) -> Self {
        self.short_transfers = count;
        self
    }

    /// No end is closed, so no wakeup of a close can hide that another one is missing.
    fn stays_open(mut self) -> Self {
        self.ends_stay_open = true;
        self
    }

    /// Signals may come, and `kills` fatal ones.
    fn signals(mut self, signals: usize, kills: usize) -> Self {
        (self.signals, self.kills) = (signals, kills);
        self
    }
}

#[test]
fn a_file_takes_slots() {
    for leaves_early in [false, true] {
        let world = world(2, &[&[4], &[1]], &[&[3], &[2]], leaves_early).splices(2);
        assert!(explore(world.short(1)) > 10_000);
    }
}

#[test]
fn a_file_takes_slots_and_nobody_closes() {
    for batch in 1..=2 {
        let mut world = world(2, &[&[3], &[2]], &[&[3], &[2]], false).splices(2);
        world.batch = batch;
        assert!(explore(world.short(1).stays_open()) > 10_000);
    }
}

#[test]
fn two_files_take_slots() {
    let world = world(2, &[&[5]], &[&[3], &[2], &[1]], true);
    let world = world.splices(1).splices(2);
    assert!(explore(world.short(1).stays_open()) > 100_000);
}

#[test]
fn a_task_that_holds_slots_is_killed() {
    let world = world(2, &[&[3], &[1]], &[&[3], &[2]], true).splices(2);
    assert!(explore(world.signals(0, 1).stays_open()) > 10_000);
}

#[test]
fn a_task_that_holds_slots_gets_a_signal() {
    let world = world(2, &[&[4]], &[&[3], &[2]], false).splices(1);
    assert!(explore(world.short(1).signals(1, 0).stays_open()) > 10_000);
}

#[test]
fn readers_that_wait_for_held_slots_are_killed() {
    let world = world(1, &[&[3]], &[&[2], &[1], &[1]], true).splices(1);
    assert!(explore(world.signals(0, 1).short(1).stays_open()) > 100_000);
}

#[test]
fn tasks_that_wait_to_hold_slots_are_killed() {
    let world = world(1, &[&[3]], &[&[2], &[1], &[1]], true);
    let world = world.splices(1).splices(2);
    assert!(explore(world.signals(0, 1).short(1).stays_open()) > 100_000);
}

/// Nobody waits for a file that does not answer, except its own task and readers. These can be
/// killed.
#[test]
fn a_file_does_not_answer() {
    for kills in 0..=1 {
        let mut world = world(2, &[&[3], &[4]], &[&[3], &[1], &[2]], true);
        world.answers = false;
        world = world.splices(0).splices(2).signals(0, kills).stays_open();
        assert!(explore(world) > 10_000);
    }
}

#[test]
fn held_slots_and_direct_transfers() {
    let world = world(2, &[&[5], &[3]], &[&[3], &[4, 4]], true).splices(2);
    assert!(explore(world.short(1).stays_open()) > 100_000);
}

/// The owner of the posted write may be killed, too.
#[test]
fn a_posted_write_is_closed_by_a_task_that_is_killed() {
    let world = world(1, &[&[4]], &[&[2], &[3]], true).splices(1);
    assert!(explore(world.signals(0, 1).short(1).stays_open()) > 10_000);
}

#[test]
fn held_slots_and_readers_that_do_not_wait() {
    for wait in [Wait::Never, Wait::Shared] {
        let world = world(2, &[&[4]], &[&[3], &[1, 1], &[1]], true).splices(1);
        assert!(explore(world.waits(2, wait).short(1).stays_open()) > 10_000);
    }
}

#[test]
fn a_transfer_does_not_wait() {
    let world = world(2, &[&[4, 1]], &[&[3, 3], &[3]], true).splices(1);
    assert!(explore(world.waits(1, Wait::Never).short(1).stays_open()) > 1_000);
}

#[test]
fn the_capacity_changes_with_slots_held() {
    for resizes in [vec![4], vec![1, 2]] {
        let mut world = world(2, &[&[4]], &[&[3], &[1]], false).splices(1);
        world.resizes = resizes;
        assert!(explore(world.short(1)) > 10_000);
    }
}

#[test]
fn a_file_fills_slots() {
    for leaves_early in [false, true] {
        let world = world(2, &[&[3, 1], &[3]], &[&[2], &[3]], leaves_early).splices(0);
        assert!(explore(world.short(1)) > 100_000);
    }
}

#[test]
fn a_file_fills_slots_and_nobody_closes() {
    let world = world(2, &[&[4, 1], &[3]], &[&[2], &[1]], true).splices(0);
    assert!(explore(world.short(1).stays_open()) > 10_000);
}

/// No reader goes on reading later, which would hide a missing wakeup.
#[test]
fn slots_are_released_beside_a_posted_write() {
    for limit in 2..=3 {
        let world = world(limit, &[&[4], &[3, 1]], &[&[1]], true).splices(0);
        assert!(explore(world.short(1).stays_open()) > 1_000);
    }
}

#[test]
fn tasks_with_reserved_slots_are_killed() {
    let world = world(2, &[&[3], &[2], &[1]], &[&[2]], true).splices(0);
    assert!(explore(world.signals(0, 1).stays_open()) > 10_000);
}

#[test]
fn tasks_with_reserved_slots_get_signals() {
    let world = world(2, &[&[3], &[3]], &[&[2]], true).splices(0);
    assert!(explore(world.signals(1, 1).short(1).stays_open()) > 10_000);
}

#[test]
fn writers_that_do_not_wait_find_slots_reserved() {
    for wait in [Wait::Never, Wait::Shared] {
        let world = world(2, &[&[3], &[2, 1], &[3]], &[&[2]], true).splices(0);
        assert!(explore(world.waits(1, wait).short(1).stays_open()) > 10_000);
    }
}

#[test]
fn files_on_both_sides() {
    for resizes in [vec![], vec![1, 4]] {
        let mut world = world(2, &[&[3, 2]], &[&[3], &[2]], false);
        world.resizes = resizes;
        assert!(explore(world.splices(0).splices(1).short(1)) > 10_000);
    }
}

#[test]
fn real_pipes_on_both_sides() {
    let world = world(2, &[&[5], &[3, 1]], &[&[2], &[3]], false);
    let world = world.waits(1, Wait::Shared).waits(3, Wait::Shared);
    assert!(explore(world.signals(1, 0).stays_open()) > 100_000);
}

/// It takes some minutes.
#[test]
#[ignore = "long"]
fn files_on_both_sides_of_others() {
    let mut world = world(2, &[&[3], &[4]], &[&[3], &[2]], false);
    world.resizes = vec![1, 4];
    assert!(explore(world.splices(0).splices(2).short(1)) > 1_000_000);
}
