// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pipe for bulk data between the processes of one machine: zpipe(4), a Linux kernel module.
//!
//! [`pair()`] makes a private pipe. The module [`window`] has memory of a pipe that a process maps:
//! whole frames of 2 MiB pass from a writer to a reader without a copy.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod sys;
pub mod window;

use std::{io, os::fd::OwnedFd};

/// Makes a private pipe and returns its read end and its write end, both close-on-exec.
///
/// # Errors
///
/// As pipe2(2), and as open(2) if zpipe is not loaded.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    sys::pair()
}
