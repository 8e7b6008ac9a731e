// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages and errors. Nothing here panics, whatever standard output and error are.

use std::{
    ffi::{CStr, c_char, c_int},
    fmt, io,
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
            written => bytes = &bytes[written as usize..],
        }
    }
    Ok(())
}

/// Writes a message to standard error. If that fails, nobody wants it.
pub fn say(message: impl fmt::Display) {
    write_all(
        libc::STDERR_FILENO,
        format!("zpipe: {message}\n").as_bytes(),
    )
    .ok();
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
