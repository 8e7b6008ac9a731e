// SPDX-License-Identifier: GPL-2.0-only

//! What a pipe has done, counted under its inner lock.

use kernel::fmt;

/// Counters of one pipe, since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    /// Bytes written.
    pub(crate) bytes_written: u64,
    /// Bytes read.
    pub(crate) bytes_read: u64,
    /// Calls that wrote something.
    pub(crate) writes: u64,
    /// Calls that read something.
    pub(crate) reads: u64,
    /// Waits of writers for room.
    pub(crate) write_waits: u64,
    /// Waits of readers for data.
    pub(crate) read_waits: u64,
    /// Times a copy stopped short since the writer's memory had to be faulted in.
    pub(crate) write_faults: u64,
    /// Times a copy stopped short since the reader's memory had to be faulted in.
    pub(crate) read_faults: u64,
}

impl Stats {
    /// Counts a call that wrote `bytes` bytes.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.bytes_written += bytes as u64;
        self.writes += u64::from(bytes != 0);
    }

    /// Counts a call that read `bytes` bytes.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.bytes_read += bytes as u64;
        self.reads += u64::from(bytes != 0);
    }
}

/// As in `/proc/PID/fdinfo/N`: a line each.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("bytes-written", self.bytes_written),
            ("bytes-read", self.bytes_read),
            ("writes", self.writes),
            ("reads", self.reads),
            ("write-waits", self.write_waits),
            ("read-waits", self.read_waits),
            ("write-faults", self.write_faults),
            ("read-faults", self.read_faults),
        ] {
            writeln!(f, "zpipe-{name}:\t{value}")?;
        }
        Ok(())
    }
}
