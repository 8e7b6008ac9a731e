// SPDX-License-Identifier: GPL-2.0-only

//! What has to be so when no step is possible any more.

use super::{
    process::{At, Job, Process, Queue, Wait},
    world::World,
};

impl World {
    /// Resets what no later step depends on, so that fewer states differ.
    pub(super) fn forget(&mut self) {
        for process in &mut self.processes {
            if !matches!(process.at, At::Enqueue | At::Check | At::Asleep) {
                process.queue = Queue::Readers;
            }
            if process.at == At::Finished {
                process.job = process.job.next(0);
                process.calls = &[];
                process.signal = false;
            }
            // Each hold of the lock begins with these.
            match &mut process.job {
                Job::Write { policy, .. } => policy.iter_mut().for_each(|p| p.resume(false)),
                Job::Read { policy, .. } | Job::SpliceTo { policy, .. } => policy.locked(0),
                Job::SpliceFrom { .. } => (),
            }
        }
    }

    /// True if the process waits for another file, which does not answer.
    fn waits_for_file(&self, process: &Process) -> bool {
        !self.answers && !process.signal && matches!(process.at, At::Offering | At::Filling)
    }

    /// Checks a state in which no step is possible any more: no process hangs, and no unit is lost.
    pub(super) fn check_end(&self) {
        let held = |p: &Process| p.held.clone();
        let held = self.processes.iter().flat_map(held).collect::<Vec<_>>();
        let in_slots = |writer| {
            let slots = self.slots.iter().chain(&held);
            slots.flatten().filter(|u| u.0 == writer).count()
        };
        for (who, process) in self.processes.iter().enumerate() {
            let sleeps = process.at == At::Asleep && !self.ready(who) && !process.killed;
            let waits = (self.ends_stay_open && sleeps) || self.waits_for_file(process);
            assert!(
                waits || process.at == At::Finished,
                "process {who} hangs: {self:#?}"
            );
            if !process.job.reads() && !waits {
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
            let sleeps =
                |p: &&Process| p.at == At::Asleep && p.queue == queue && p.wait == Wait::Exclusive;
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
        let reserved = |p: &Process| match p.job {
            Job::SpliceFrom { reserved, .. } if self.waits_for_file(p) => reserved,
            // Another slot stands for those that are held.
            _ => p.held.len().saturating_sub(1),
        };
        let reserved = self.processes.iter().map(reserved).sum::<usize>();
        assert_eq!(
            self.seats.limit() as usize + reserved,
            self.seats.slots() as usize,
            "a slot is left: {self:#?}"
        );
        assert_eq!(self.claimed, !held.is_empty(), "a claim is left: {self:#?}");
        let splices = |p: &&Process| {
            matches!(p.job, Job::SpliceTo { .. }) && (p.at == At::Asleep || self.waits_for_file(p))
        };
        assert_eq!(
            self.splices,
            self.processes.iter().filter(splices).count(),
            "the pipe stays slots-only: {self:#?}"
        );
        assert!(
            self.ends_stay_open || self.posted_read.is_none(),
            "a posted read is left: {self:#?}"
        );
    }
}
