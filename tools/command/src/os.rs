// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages and errors. Nothing here panics, whatever standard output and error are.

use serde::Serialize;
use std::{
    ffi::{CStr, c_char, c_int},
    fmt, io,
    mem::MaybeUninit,
    ptr,
};
use zpipe_uapi::sys::Errno;

/// An error of the system, as strerror(3) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub c_int);

impl Error {
    /// Returns the error of the last call of the C library.
    pub fn last() -> Self {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        Self(error.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as c_char; 128];
        // SAFETY: The buffer has this length, of which one byte stays zero.
        unsafe { libc::strerror_r(self.0, text.as_mut_ptr(), text.len() - 1) };
        // SAFETY: The buffer ends with a zero.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) };
        f.write_str(&text.to_string_lossy())
    }
}

/// Writes all bytes.
pub fn write_all(fd: c_int, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        // SAFETY: The bytes are valid.
        match unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } {
            -1 if Error::last() == Error(libc::EINTR) => (),
            -1 => return Err(Error::last()),
            // It would be tried for ever.
            0 => return Err(Error(libc::ENOSPC)),
            written => bytes = &bytes[written as usize..],
        }
    }
    Ok(())
}

/// The signals that a write can send to its own process: for a pipe without reader, for a file at
/// its size limit, and for a terminal of another process group.
const OF_WRITES: [c_int; 3] = [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTTOU];

const NO_WAIT: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Writes all bytes, and takes back the signals that this caused. A signal that was pending before
/// stays pending.
fn write_without_signals(fd: c_int, bytes: &[u8]) -> Result<(), Error> {
    let set = |signals: &[c_int]| {
        let mut set = MaybeUninit::uninit();
        // SAFETY: The first call initializes the set, and the numbers are valid.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            set.assume_init()
        }
    };
    let pending = |signal: &c_int| {
        let mut pending = set(&[]);
        // SAFETY: The set is valid, and so is the number.
        unsafe {
            libc::sigpending(&raw mut pending);
            libc::sigismember(&raw const pending, *signal) == 1
        }
    };

    let (blocked, mut before) = (set(&OF_WRITES), set(&[]));
    // SAFETY: The sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) };
    let mut caused = OF_WRITES.to_vec();
    caused.retain(|signal| !pending(signal));
    let result = write_all(fd, bytes);
    for signal in caused {
        let signal = set(&[signal]);
        // SAFETY: The set and the time-out are valid, and the information is not wanted.
        while unsafe { libc::sigtimedwait(&raw const signal, ptr::null_mut(), &NO_WAIT) < 0 }
            && Error::last() == Error(libc::EINTR)
        {}
    }
    // SAFETY: The set is valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    result
}

/// Writes text to standard error. If that fails, nobody wants it: it has no other effect.
pub fn say_all(text: &str) {
    write_without_signals(libc::STDERR_FILENO, text.as_bytes()).ok();
}

/// Writes a message to standard error, with the name of the program.
pub fn say(message: impl fmt::Display) {
    say_all(&format!("zpipe: {message}\n"));
}

/// Writes to standard output. Returns the exit status: 0, or `failed` after a message.
pub fn print(text: &str, failed: u8) -> u8 {
    match write_all(libc::STDOUT_FILENO, text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("standard output: {error}"));
            failed
        }
    }
}

/// Writes a value as one line of JSON, as [`print()`].
pub fn print_json(value: &impl Serialize, failed: u8) -> u8 {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n"), failed),
        Err(error) => {
            say(error);
            failed
        }
    }
}

/// Closes standard output, which may report that what was written is lost. A descriptor that was
/// closed from the beginning fails, too.
pub fn close_output() -> Result<(), Error> {
    let fd = libc::STDOUT_FILENO;
    // SAFETY: It only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // occupy_standard_descriptors() opens with O_PATH.
    if flags == -1 || flags & libc::O_PATH != 0 {
        return Err(Error(libc::EBADF));
    }
    // SAFETY: The caller gives the descriptor up.
    match unsafe { libc::close(fd) } {
        // Linux has closed it.
        -1 if Error::last() != Error(libc::EINTR) => Err(Error::last()),
        _ => Ok(()),
    }
}

/// Opens something in place of each standard descriptor that is closed, which fails reads and
/// writes with EBADF. A file that is opened later does not take its place.
pub fn occupy_standard_descriptors() {
    for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: It only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: The path is a C string. The new descriptor is the lowest free one: this.
            unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    #[test]
    fn errors_have_the_names_of_the_system() {
        assert_eq!(Error(libc::ENOENT).to_string(), "No such file or directory");
        assert_eq!(Error(libc::EPERM).to_string(), "Operation not permitted");
        let none = std::fs::File::open("/nonexistent").unwrap_err();
        assert_eq!(Error::from(none), Error(libc::ENOENT));
    }

    #[test]
    fn a_full_device_is_an_error() {
        let full = std::fs::File::create("/dev/full").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&full);
        assert_eq!(write_all(fd, b"x"), Err(Error(libc::ENOSPC)));
        assert_eq!(write_all(fd, b""), Ok(()));
        assert_eq!(write_all(-1, b"x"), Err(Error(libc::EBADF)));
    }

    /// A pipe without reader, as a descriptor.
    fn broken_pipe() -> OwnedFd {
        let mut fds = [-1; 2];
        // SAFETY: The array has room for two descriptors, of which this owns both.
        let [_reader, writer] = unsafe {
            assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
            fds.map(|fd| OwnedFd::from_raw_fd(fd))
        };
        writer
    }

    /// Runs code in a child with one thread, and returns its wait status.
    fn in_child(code: impl FnOnce() -> bool) -> c_int {
        // SAFETY: The code only makes system calls, and ends the child.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = c_int::from(!code());
            // SAFETY: It has no safety requirements.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: The status is valid.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        status
    }

    #[test]
    fn a_broken_pipe_kills_nobody() {
        let writer = broken_pipe();
        let fd = writer.as_raw_fd();
        // SAFETY: The child only changes its own signals.
        let default = || unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let killed = in_child(|| {
            default();
            write_all(fd, b"x").is_err()
        });
        assert_eq!(killed, libc::SIGPIPE);
        let lives = in_child(|| {
            default();
            write_without_signals(fd, b"x") == Err(Error(libc::EPIPE))
        });
        assert_eq!(lives, 0);
    }

    #[test]
    fn a_signal_that_was_pending_stays() {
        let writer = broken_pipe();
        let fd = writer.as_raw_fd();
        let status = in_child(|| {
            let (mut set, mut after) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            // SAFETY: The sets are initialized before they are used.
            unsafe {
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::sigemptyset(set.as_mut_ptr());
                libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
                libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
                let pending = |after: &mut MaybeUninit<_>| {
                    libc::sigpending(after.as_mut_ptr());
                    libc::sigismember(after.as_ptr(), libc::SIGPIPE) == 1
                };
                let failed = write_without_signals(fd, b"x").is_err();
                let taken_back = !pending(&mut after);
                libc::raise(libc::SIGPIPE);
                failed
                    && taken_back
                    && write_without_signals(fd, b"x").is_err()
                    && pending(&mut after)
            }
        });
        assert_eq!(status, 0);
    }
}
