// SPDX-License-Identifier: GPL-2.0-only

//! The counters of a pipe. They are changed under its inner lock.

use crate::zcore::{
    gift::HUGE_SIZE,
    outcome::{Miss, Outcome},
    PAGE_SIZE,
};
use kernel::fmt;

/// Counters of one side of a pipe, readers or writers, since the pipe was made.
///
/// Each side has a cache line of its own. Reader and writer run on different CPUs, and each message
/// would otherwise move a shared line from one to the other.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Side {
    /// Bytes transferred.
    pub(crate) bytes: u64,
    /// Bytes transferred directly. Only counted for writers.
    pub(crate) direct: u64,
    /// Calls that transferred at least one byte.
    pub(crate) calls: u64,
    /// Waits: of writers for a free slot, of readers for data.
    pub(crate) waits: u64,
    /// Times that a copy stopped short and the caller's memory was faulted in.
    pub(crate) faults: u64,
    /// Times that a write, or a read, was posted.
    pub(crate) posts: u64,
}

impl Side {
    /// Counts a call that transferred `bytes` bytes.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.calls += u64::from(bytes != 0);
    }
}

/// Counters of one pipe.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    /// Counters of the writers.
    pub(crate) write: Side,
    /// Counters of the readers.
    pub(crate) read: Side,
    /// Counters of the pulls.
    pub(crate) pull: DirectStats,
    /// Counters of the pushes.
    pub(crate) push: DirectStats,
    /// Huge pages that were gifted.
    pub(crate) gifts: u64,
    /// Those of them whose replacement had to be cleared.
    pub(crate) clears: u64,
    /// Huge pages that were moved into a reader's memory.
    pub(crate) moves: u64,
    /// Small pages that were gifted.
    pub(crate) small_gifts: u64,
    /// Small pages that were moved into a reader's memory.
    pub(crate) small_moves: u64,
    /// Frames that were committed, lent ones included.
    pub(crate) frames_sent: u64,
    /// Bytes in these frames.
    pub(crate) frame_bytes: u64,
    /// Frames that read windows have shown.
    pub(crate) frames_shown: u64,
    /// Pages of slots that went to a real pipe or a socket without a copy.
    pub(crate) pages_passed_on: u64,
}

/// Counters of the pulls or of the pushes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirectStats {
    /// Bytes copied.
    pub(crate) bytes: u64,
    /// Times that at least one byte was copied.
    pub(crate) copies: u64,
    /// Misses, by [`Miss`].
    misses: [u64; 3],
}

impl DirectStats {
    /// Counts one pull or push.
    pub(crate) fn count(&mut self, bytes: usize, outcome: Outcome) {
        self.bytes += bytes as u64;
        self.copies += u64::from(bytes != 0);
        if let Outcome::Missed(miss) = outcome {
            self.misses[match miss {
                Miss::Busy => 0,
                Miss::Mapping => 1,
                Miss::Page => 2,
            }] += 1;
        }
    }
}

/// The lines of `/proc/PID/fdinfo/N`, one for each counter.
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
            ("posted-writes", self.write.posts),
            ("posted-reads", self.read.posts),
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
            ("pages-passed-on", self.pages_passed_on),
        ] {
            writeln!(f, "zpipe-{name}:\t{value}")?;
        }
        Ok(())
    }
}
