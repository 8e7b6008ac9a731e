// SPDX-License-Identifier: GPL-2.0-only

//! What a pipe has done, counted under its inner lock.

use crate::{
    mm::{Ended, Miss},
    zcore::{gift::HUGE_SIZE, PAGE_SIZE},
};
use kernel::fmt;

/// Counters of one side of a pipe, since it was made.
///
/// Each side has a cache line of its own: reader and writer run on different CPUs, and would
/// otherwise take it from each other with every message.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Side {
    /// Bytes moved.
    pub(crate) bytes: u64,
    /// Of those that write: bytes that went straight from one process to the other.
    pub(crate) direct: u64,
    /// Calls that moved some.
    pub(crate) calls: u64,
    /// Waits: of writers for room, of readers for data.
    pub(crate) waits: u64,
    /// Times a copy stopped short since the caller's memory had to be faulted in.
    pub(crate) faults: u64,
    /// Times their memory was there for the other side: offers and demands.
    pub(crate) offers: u64,
}

impl Side {
    /// Counts a call that moved `bytes` bytes.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.calls += u64::from(bytes != 0);
    }
}

/// Counters of one pipe.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    /// Of those that write.
    pub(crate) write: Side,
    /// Of those that read.
    pub(crate) read: Side,
    /// Readers that took straight from a writer's memory.
    pub(crate) pull: Direct,
    /// Writers that put straight into a reader's memory.
    pub(crate) push: Direct,
    /// Huge pages that left a writer's memory.
    pub(crate) gifts: u64,
    /// Of these, such that a page of zeros replaced, which was cleared for that.
    pub(crate) clears: u64,
    /// Huge pages that came into a reader's memory.
    pub(crate) moves: u64,
    /// Small pages that left a writer's memory.
    pub(crate) small_gifts: u64,
    /// Small pages that came into a reader's memory.
    pub(crate) small_moves: u64,
    /// Frames that left write windows, or were lent.
    pub(crate) frames_sent: u64,
    /// Bytes in them.
    pub(crate) frame_bytes: u64,
    /// Frames that read windows showed.
    pub(crate) frames_shown: u64,
}

/// Counters of one way to copy straight from one process to the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Direct {
    /// Bytes copied.
    pub(crate) bytes: u64,
    /// Times some were.
    pub(crate) copies: u64,
    /// Times the other's memory could not be had, by [`Miss`].
    misses: [u64; 3],
}

impl Direct {
    /// Counts what came of a copy.
    pub(crate) fn moved(&mut self, bytes: usize, end: Ended) {
        self.bytes += bytes as u64;
        self.copies += u64::from(bytes != 0);
        if let Ended::Missed(miss) = end {
            self.misses[match miss {
                Miss::Busy => 0,
                Miss::Mapping => 1,
                Miss::Page => 2,
            }] += 1;
        }
    }
}

/// As in `/proc/PID/fdinfo/N`: a line each.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gifted = self.gifts * HUGE_SIZE as u64 + self.small_gifts * PAGE_SIZE as u64;
        for (name, value) in [
            ("bytes-written", self.write.bytes),
            ("bytes-read", self.read.bytes),
            (
                "bytes-buffered",
                self.write.bytes - self.write.direct - gifted - self.frame_bytes,
            ),
            ("writes", self.write.calls),
            ("reads", self.read.calls),
            ("write-waits", self.write.waits),
            ("read-waits", self.read.waits),
            ("write-faults", self.write.faults),
            ("read-faults", self.read.faults),
            ("offers", self.write.offers),
            ("demands", self.read.offers),
            ("bytes-pulled", self.pull.bytes),
            ("pulls", self.pull.copies),
            ("pull-misses-busy", self.pull.misses[0]),
            ("pull-misses-mapping", self.pull.misses[1]),
            ("pull-misses-page", self.pull.misses[2]),
            ("bytes-pushed", self.push.bytes),
            ("pushes", self.push.copies),
            ("push-misses-busy", self.push.misses[0]),
            ("push-misses-mapping", self.push.misses[1]),
            ("push-misses-page", self.push.misses[2]),
            ("gifts", self.gifts),
            ("gift-clears", self.clears),
            ("moves", self.moves),
            ("small-gifts", self.small_gifts),
            ("small-moves", self.small_moves),
            ("frames-sent", self.frames_sent),
            ("frames-shown", self.frames_shown),
        ] {
            writeln!(f, "zpipe-{name}:\t{value}")?;
        }
        Ok(())
    }
}
