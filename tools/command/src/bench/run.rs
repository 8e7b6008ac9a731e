// SPDX-License-Identifier: MIT OR Apache-2.0

//! One measurement: a child writes messages for some time, and this process reads them.

use super::{
    end::{Ends, FRAMES, Reader, Way},
    memory::Step,
};
use crate::os::Error;
use std::{
    ffi::c_int,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// The first messages are not measured: gifts and windows find memory without pages.
const FIRST: u64 = FRAMES as u64 + 1;
/// The smallest number of messages.
const MESSAGES: u64 = FIRST + 3;
/// The word of each page, or of each cache line.
const STEPS: [Step; 2] = [Step(4096), Step(64)];

/// The child. Its status is 0, or the number of an error.
struct Child {
    pid: c_int,
    /// A descriptor of it, which poll(2) reports as readable when it has ended.
    process: OwnedFd,
    waited: bool,
}

impl Child {
    /// Runs `code` in a child.
    fn start(code: impl FnOnce() -> Result<(), Error>) -> Result<Self, Error> {
        // SAFETY: The command has one thread here.
        match unsafe { libc::fork() } {
            -1 => Err(Error::last()),
            0 => {
                // SAFETY: Nobody reads what it writes after the parent has ended.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let status = code().err().map_or(0, |error| error.0);
                // SAFETY: It has no safety requirements.
                unsafe { libc::_exit(status) }
            }
            pid => {
                // SAFETY: It makes a descriptor.
                let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
                if process < 0 {
                    let error = Error::last();
                    end(pid);
                    return Err(error);
                }
                // SAFETY: The descriptor is new, and ours.
                let process = unsafe { OwnedFd::from_raw_fd(process as c_int) };
                Ok(Self {
                    pid,
                    process,
                    waited: false,
                })
            }
        }
    }

    /// Waits for the end. Returns the error of the child, if it had one.
    fn wait(mut self) -> Result<(), Error> {
        self.waited = true;
        match wait(self.pid) {
            status if !libc::WIFEXITED(status) => Err(Error(libc::ECHILD)),
            status if libc::WEXITSTATUS(status) == 0 => Ok(()),
            status => Err(Error(libc::WEXITSTATUS(status))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            end(self.pid);
        }
    }
}

/// Waits for a child, and returns its wait status.
fn wait(pid: c_int) -> c_int {
    let mut status = -1;
    // SAFETY: It writes the status.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0
        && Error::last() == Error(libc::EINTR)
    {}
    status
}

/// Kills a child.
fn end(pid: c_int) {
    // SAFETY: It is our child, which was not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    wait(pid);
}

/// The child: writes messages until the time is over.
fn write(ends: Ends, time: Duration, step: Step) -> Result<(), Error> {
    let mut writer = ends.writer()?;
    let (mut sent, mut begun) = (0, Instant::now());
    while sent < MESSAGES || begun.elapsed() < time {
        writer.send(sent, step)?;
        sent += 1;
        if sent == FIRST {
            begun = Instant::now();
        }
    }
    writer.close(sent)
}

/// Reads all messages. Returns the number and the time of those that are measured.
fn read(reader: &mut Reader, step: Step) -> Result<(u64, Duration), Error> {
    let (mut received, mut begun) = (0, Instant::now());
    while reader.receive(received, step)? {
        received += 1;
        if received == FIRST {
            begun = Instant::now();
        }
    }
    match received {
        ..=FIRST => Err(Error(libc::EPIPE)),
        received => Ok((received - FIRST, begun.elapsed())),
    }
}

/// Measures messages of this size for this time, and returns the rate in bytes per second.
pub fn measure(way: Way, size: usize, time: Duration, touch: bool) -> Result<f64, Error> {
    let step = STEPS[usize::from(touch)];
    let ends = way.open(size)?;
    let mut ends = Some(ends);
    let child = Child::start(|| write(ends.take().ok_or(Error(libc::EINVAL))?, time, step))?;
    // Only the child has taken them from its own copy.
    let ends = ends.ok_or(Error(libc::EINVAL))?;
    let read = ends
        .reader(child.pid, child.process.as_raw_fd())
        .and_then(|mut reader| read(&mut reader, step));
    match read {
        Ok((messages, elapsed)) => {
            child.wait()?;
            Ok(messages as f64 * size as f64 / elapsed.as_secs_f64().max(1e-9))
        }
        // If the child ended first, its error is the reason.
        Err(Error(libc::EPIPE)) => Err(child.wait().err().unwrap_or(Error(libc::EPIPE))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ring::Ring, *};

    #[test]
    fn errors_of_a_child() {
        let failed = Child::start(|| Err(Error(libc::EPERM))).unwrap();
        assert_eq!(failed.wait(), Err(Error(libc::EPERM)));
        assert_eq!(Child::start(|| Ok(())).unwrap().wait(), Ok(()));
        let endless = Child::start(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let pid = endless.as_ref().unwrap().pid;
        drop(endless);
        // SAFETY: Signal 0 only asks.
        assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
    }

    #[test]
    fn a_writer_that_ends_early() {
        let ring = Ring::new(4096, true).unwrap();
        let child = Child::start(|| {
            ring.pass();
            Ok(())
        });
        let child = child.unwrap();
        let process = child.process.as_raw_fd();
        assert_eq!(ring.wait_full(0, process), Ok(true));
        assert_eq!(ring.wait_full(1, process), Err(Error(libc::EPIPE)));
    }

    #[test]
    fn a_measurement() {
        for way in [Way::Pipe, Way::PipeLarge, Way::OtherMemory, Way::Shared] {
            for size in [4096, 3 << 20] {
                let rate = measure(way, size, Duration::from_millis(5), size == 4096).unwrap();
                assert!(rate > 0.0, "{}", way.name());
            }
        }
    }
}
