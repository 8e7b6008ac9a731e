// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which tasks sleep in a call that reads from a pipe or writes to one.
//!
//! /proc/PID/task/TID/syscall has the number and the arguments of the call. The kernel shows it
//! to those who may trace the process.

use crate::task::{stat, state};
use std::{
    ffi::{c_int, c_long},
    fs, io,
    path::Path,
};

/// The commands of zpipe that transfer bytes, without their type.
mod command {
    pub const TYPE: u64 = 0xe900;
    pub const GIFT: u64 = 0x20;
    pub const MOVE: u64 = 0x21;
    pub const SPLICE_TO: u64 = 0x28;
    pub const SPLICE_FROM: u64 = 0x29;
    pub const TEE: u64 = 0x2a;
}

/// A descriptor that a call may wait for: for data, or for free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Read,
    Write,
}

/// A task that sleeps in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub thread: c_int,
    pub fd: c_int,
    pub side: Side,
    pub call: &'static str,
}

/// Returns the descriptors that a call of this line of a syscall file may wait for.
fn descriptors(line: &str) -> Vec<(c_int, Side, &'static str)> {
    let mut words = line.split_whitespace();
    let Some(Ok(call)) = words.next().map(str::parse::<c_long>) else {
        // "running".
        return Vec::new();
    };
    let arguments: Vec<u64> = words
        .map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    // The kernel uses the low half of a register.
    let fd = |index: usize| {
        arguments
            .get(index)
            .map_or(-1, |word| *word as u32 as c_int)
    };
    use Side::{Read, Write};
    match call {
        libc::SYS_read => vec![(fd(0), Read, "read")],
        libc::SYS_readv => vec![(fd(0), Read, "readv")],
        libc::SYS_preadv2 => vec![(fd(0), Read, "preadv2")],
        libc::SYS_write => vec![(fd(0), Write, "write")],
        libc::SYS_writev => vec![(fd(0), Write, "writev")],
        libc::SYS_pwritev2 => vec![(fd(0), Write, "pwritev2")],
        libc::SYS_splice => vec![(fd(0), Read, "splice"), (fd(2), Write, "splice")],
        libc::SYS_sendfile => vec![(fd(1), Read, "sendfile"), (fd(0), Write, "sendfile")],
        libc::SYS_ioctl => {
            let command = arguments.get(1).copied().unwrap_or(0) & 0xffff_ffff;
            match command.wrapping_sub(command::TYPE) {
                command::GIFT => vec![(fd(0), Write, "ZPIPE_IOC_GIFT")],
                command::MOVE => vec![(fd(0), Read, "ZPIPE_IOC_MOVE")],
                command::SPLICE_TO => vec![(fd(0), Read, "ZPIPE_IOC_SPLICE_TO")],
                command::SPLICE_FROM => vec![(fd(0), Write, "ZPIPE_IOC_SPLICE_FROM")],
                command::TEE => vec![(fd(0), Read, "ZPIPE_IOC_TEE")],
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Returns the sleeping tasks of a process with this directory in /proc, once for each descriptor
/// that their call may wait for.
pub fn blocked(process: &Path) -> io::Result<Vec<Blocked>> {
    let mut blocked = Vec::new();
    for entry in fs::read_dir(process.join("task"))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !matches!(state(&stat(&entry.path())), "S" | "D") {
            continue;
        }
        match fs::read_to_string(entry.path().join("syscall")) {
            Ok(line) => {
                blocked.extend(
                    descriptors(&line)
                        .into_iter()
                        .map(|(fd, side, call)| Blocked {
                            thread,
                            fd,
                            side,
                            call,
                        }),
                );
            }
            // It has ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(blocked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{thread, time::Duration};

    #[test]
    fn calls_and_their_descriptors() {
        let read = format!(
            "{} 0x3 0x7ffe 0x1000 0x0 0x0 0x0 0x7ffd 0x7f00\n",
            libc::SYS_read
        );
        assert_eq!(descriptors(&read), [(3, Side::Read, "read")]);
        let splice = format!(
            "{} 0x4 0x0 0xffffffff00000005 0x0 0x10 0x0\n",
            libc::SYS_splice
        );
        assert_eq!(
            descriptors(&splice),
            [(4, Side::Read, "splice"), (5, Side::Write, "splice")]
        );
        let gift = format!("{} 0x6 0xe920 0x0", libc::SYS_ioctl);
        assert_eq!(descriptors(&gift), [(6, Side::Write, "ZPIPE_IOC_GIFT")]);
        for other in [
            "running",
            "",
            "-1 0x7ffd 0x7f00",
            "16 0x6 0x5401 0x0",
            "61 0x1",
        ] {
            assert_eq!(descriptors(other), [], "{other}");
        }
    }

    #[test]
    fn a_thread_that_reads_an_empty_pipe() {
        let [fd, write] = zpipe_uapi::sys::pipe().unwrap();
        let reader = thread::spawn(move || {
            let mut byte = 0_u8;
            // SAFETY: There is space for one byte.
            unsafe { libc::read(fd, (&raw mut byte).cast(), 1) }
        });
        let own = Path::new("/proc/self");
        let found = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            let all = blocked(own).unwrap();
            all.iter()
                .any(|one| (one.fd, one.side, one.call) == (fd, Side::Read, "read"))
        });
        zpipe_uapi::sys::close(write);
        assert_eq!(reader.join().unwrap(), 0);
        zpipe_uapi::sys::close(fd);
        assert!(found);
        assert!(blocked(Path::new("/nonexistent")).is_err());
    }
}
