// SPDX-License-Identifier: GPL-2.0-only

//! What a pipe has done, counted under its inner lock.

use crate::mm::{Miss, Pulled};
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
    /// Calls that moved some.
    pub(crate) calls: u64,
    /// Waits: of writers for room, of readers for data.
    pub(crate) waits: u64,
    /// Times a copy stopped short since the caller's memory had to be faulted in.
    pub(crate) faults: u64,
    /// Of those that write: times the memory was offered.
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
    /// Bytes that readers took straight from a writer's memory.
    pub(crate) pulled: u64,
    /// Times they could not, by [`Miss`].
    pub(crate) misses: [u64; 3],
}

impl Stats {
    /// Counts what came of a pull.
    pub(crate) fn pulled(&mut self, bytes: usize, end: Pulled) {
        self.pulled += bytes as u64;
        if let Pulled::Missed(miss) = end {
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
        for (name, value) in [
            ("bytes-written", self.write.bytes),
            ("bytes-read", self.read.bytes),
            ("writes", self.write.calls),
            ("reads", self.read.calls),
            ("write-waits", self.write.waits),
            ("read-waits", self.read.waits),
            ("write-faults", self.write.faults),
            ("read-faults", self.read.faults),
            ("offers", self.write.offers),
            ("bytes-pulled", self.pulled),
            ("misses-busy", self.misses[0]),
            ("misses-mapping", self.misses[1]),
            ("misses-page", self.misses[2]),
        ] {
            writeln!(f, "zpipe-{name}:\t{value}")?;
        }
        Ok(())
    }
}
