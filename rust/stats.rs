// SPDX-License-Identifier: GPL-2.0-only

//! What a pipe has done, counted under its inner lock.

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
        ] {
            writeln!(f, "zpipe-{name}:\t{value}")?;
        }
        Ok(())
    }
}
