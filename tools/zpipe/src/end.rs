// SPDX-License-Identifier: MIT OR Apache-2.0

//! What both ends of a pipe have.

use crate::sys::{self, bindings, size};
use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
    ioctl::Opcode,
};
use std::{
    error::Error,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A descriptor of an end, and its kind.
#[derive(Debug)]
pub(crate) struct End {
    fd: OwnedFd,
    zpipe: bool,
}

impl End {
    /// Makes an end of any file.
    pub(crate) fn of(fd: OwnedFd) -> Self {
        let zpipe = sys::is_zpipe(fd.as_fd());
        Self { fd, zpipe }
    }

    /// Makes an end of a zpipe that is open for reading, or for writing. `other` is the access mode
    /// that does not suffice.
    pub(crate) fn of_zpipe(fd: OwnedFd, other: OFlags) -> Result<Self, Rejected> {
        let end = Self::of(fd);
        let error = match rustix::fs::fcntl_getfl(&end.fd) {
            Err(error) => error,
            _ if !end.zpipe => Errno::NOTTY,
            // A descriptor that is only a path says that it is open for reading.
            Ok(flags) if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == other => {
                Errno::BADF
            }
            Ok(_) => return Ok(end),
        };
        Err(Rejected {
            fd: end.fd,
            error: error.into(),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn is_zpipe(&self) -> bool {
        self.zpipe
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            zpipe: self.zpipe,
        })
    }

    /// Runs a command.
    ///
    /// # Safety
    ///
    /// The command must take a `T` and write to no other memory. If it changes other memory, that
    /// must be sound.
    pub(crate) unsafe fn call<const COMMAND: Opcode, T>(&self, args: &mut T) -> io::Result<()> {
        if !self.zpipe {
            return Err(Errno::NOTTY.into());
        }
        // SAFETY: By this function's safety requirements. It is a zpipe, so the number is not
        // another driver's.
        unsafe { sys::ioctl::<COMMAND, T>(self.fd(), args) }
    }

    pub(crate) fn capacity(&self) -> io::Result<usize> {
        if !self.zpipe {
            return Ok(rustix::pipe::fcntl_getpipe_size(self.fd())?);
        }
        self.capacity_command::<{ bindings::GET_CAPACITY }>(0)
    }

    pub(crate) fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        if !self.zpipe {
            return Ok(rustix::pipe::fcntl_setpipe_size(self.fd(), bytes)?);
        }
        self.capacity_command::<{ bindings::SET_CAPACITY }>(bytes)
    }

    fn capacity_command<const COMMAND: Opcode>(&self, bytes: usize) -> io::Result<usize> {
        let mut args = bindings::zpipe_capacity {
            size: size::<bindings::zpipe_capacity>(),
            flags: 0,
            bytes: bytes as u64,
        };
        // SAFETY: Both commands take this struct.
        unsafe { self.call::<COMMAND, _>(&mut args)? };
        Ok(args.bytes as usize)
    }

    fn flags_command<const COMMAND: Opcode>(&self, flags: u32) -> io::Result<u32> {
        let mut args = bindings::zpipe_flags {
            size: size::<bindings::zpipe_flags>(),
            flags,
        };
        // SAFETY: Both commands take this struct.
        unsafe { self.call::<COMMAND, _>(&mut args)? };
        Ok(args.flags)
    }

    /// The kernel's own pipes are always buffer-only.
    pub(crate) fn is_buffer_only(&self) -> io::Result<bool> {
        if !self.zpipe {
            let stat = rustix::fs::fstat(self.fd())?;
            let pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
            return pipe.then_some(true).ok_or(Errno::NOTTY.into());
        }
        let flags = self.flags_command::<{ bindings::GET_FLAGS }>(0)?;
        Ok(flags & bindings::ZPIPE_BUFFER_ONLY != 0)
    }

    pub(crate) fn set_buffer_only(&self, buffer_only: bool) -> io::Result<()> {
        let flags = if buffer_only {
            bindings::ZPIPE_BUFFER_ONLY
        } else {
            0
        };
        self.flags_command::<{ bindings::SET_FLAGS }>(flags)?;
        Ok(())
    }

    pub(crate) fn available(&self) -> io::Result<usize> {
        Ok(rustix::io::ioctl_fionread(self.fd())? as usize)
    }

    /// Adds or removes status flags of the descriptor.
    pub(crate) fn set_status(&self, flags: OFlags, on: bool) -> io::Result<()> {
        let mut status = rustix::fs::fcntl_getfl(self.fd())?;
        status.set(flags, on);
        rustix::fs::fcntl_setfl(self.fd(), status)?;
        Ok(())
    }
}

/// A descriptor that is not the end of a zpipe that was wanted, and why.
///
/// The error is ENOTTY if the descriptor is not a zpipe, and EBADF if it is not open for reading or
/// writing, as needed.
///
/// ```
/// use std::{fs::File, os::fd::OwnedFd};
/// use zpipe::PipeReader;
///
/// # fn main() -> std::io::Result<()> {
/// let null = OwnedFd::from(File::open("/dev/null")?);
/// let rejected = PipeReader::try_from(null).unwrap_err();
/// println!("/dev/null: {}", rejected.error());
/// let null: OwnedFd = rejected.into_fd();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Rejected {
    fd: OwnedFd,
    error: io::Error,
}

impl Rejected {
    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Why it was rejected.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such end of a zpipe: {}", self.error)
    }
}

// The message has that of `error`, so it is not the source.
impl Error for Rejected {}

impl From<Rejected> for io::Error {
    fn from(rejected: Rejected) -> Self {
        rejected.error
    }
}

/// Implements what both ends have. `$other` is the access mode that does not suffice.
macro_rules! end {
    ($end:ident, $other:expr) => {
        impl $end {
            /// Duplicates the descriptor. The new one refers to the same end of the same pipe.
            ///
            /// ```
            /// use std::io::Write;
            ///
            /// # fn main() -> std::io::Result<()> {
            /// let (reader, writer) = zpipe::pipe()?;
            /// let (other_reader, other_writer) = (reader.try_clone()?, writer.try_clone()?);
            /// drop((reader, writer));
            /// (&other_writer).write_all(b"hello")?;
            /// assert_eq!(other_reader.available()?, 5);
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As dup(2).
            pub fn try_clone(&self) -> ::std::io::Result<Self> {
                self.end.try_clone().map(|end| Self { end })
            }

            /// True for a zpipe, false for a pipe of the kernel's own.
            pub fn is_zpipe(&self) -> bool {
                self.end.is_zpipe()
            }

            /// The capacity of the pipe in bytes.
            ///
            /// # Errors
            ///
            /// None is known for a pipe.
            pub fn capacity(&self) -> ::std::io::Result<usize> {
                self.end.capacity()
            }

            /// Sets the capacity to at least `bytes` bytes, and returns it.
            ///
            /// ```
            /// # fn main() -> std::io::Result<()> {
            /// let (reader, writer) = zpipe::pipe()?;
            /// assert_eq!(writer.set_capacity(100_000)?, 1 << 17);
            /// assert_eq!(reader.capacity()?, 1 << 17);
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As `F_SETPIPE_SZ` of fcntl(2): EPERM above the limit for unprivileged users, EBUSY
            /// if the pipe holds more data.
            pub fn set_capacity(&self, bytes: usize) -> ::std::io::Result<usize> {
                self.end.set_capacity(bytes)
            }

            /// The number of bytes that can be read now: `FIONREAD` of ioctl(2).
            ///
            /// # Errors
            ///
            /// None is known for a pipe.
            pub fn available(&self) -> ::std::io::Result<usize> {
                self.end.available()
            }

            /// Sets whether calls fail with [`WouldBlock`](::std::io::ErrorKind::WouldBlock)
            /// instead of waiting. It holds for all duplicates of the descriptor.
            ///
            /// # Errors
            ///
            /// None is known for a pipe.
            pub fn set_nonblocking(&self, nonblocking: bool) -> ::std::io::Result<()> {
                // Unlike fcntl(2), it cannot undo a change of another flag at the same time.
                Ok(::rustix::io::ioctl_fionbio(self.end.fd(), nonblocking)?)
            }

            /// True if all bytes pass through memory of the pipe itself. See
            /// [`Builder::buffer_only`](crate::Builder::buffer_only).
            ///
            /// # Errors
            ///
            /// None is known for a pipe.
            pub fn is_buffer_only(&self) -> ::std::io::Result<bool> {
                self.end.is_buffer_only()
            }
        }

        impl ::std::os::fd::AsFd for $end {
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.end.fd()
            }
        }

        impl ::std::os::fd::AsRawFd for $end {
            fn as_raw_fd(&self) -> ::std::os::fd::RawFd {
                ::std::os::fd::AsRawFd::as_raw_fd(&self.end.fd())
            }
        }

        impl ::std::os::fd::IntoRawFd for $end {
            fn into_raw_fd(self) -> ::std::os::fd::RawFd {
                ::std::os::fd::IntoRawFd::into_raw_fd(self.end.into_fd())
            }
        }

        /// It does not check what the descriptor refers to. See [`TryFrom<OwnedFd>`].
        impl ::std::os::fd::FromRawFd for $end {
            unsafe fn from_raw_fd(fd: ::std::os::fd::RawFd) -> Self {
                // SAFETY: The caller owns the descriptor, as this function's contract requires.
                let fd = unsafe { ::std::os::fd::FromRawFd::from_raw_fd(fd) };
                Self {
                    end: $crate::end::End::of(fd),
                }
            }
        }

        impl From<$end> for ::std::os::fd::OwnedFd {
            fn from(end: $end) -> Self {
                end.end.into_fd()
            }
        }

        impl From<$end> for ::std::process::Stdio {
            fn from(end: $end) -> Self {
                ::std::os::fd::OwnedFd::from(end).into()
            }
        }

        /// Accepts an end of a zpipe only.
        impl TryFrom<::std::os::fd::OwnedFd> for $end {
            type Error = $crate::Rejected;

            fn try_from(fd: ::std::os::fd::OwnedFd) -> Result<Self, $crate::Rejected> {
                $crate::end::End::of_zpipe(fd, $other).map(|end| Self { end })
            }
        }
    };
}
pub(crate) use end;
