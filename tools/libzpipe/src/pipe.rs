// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pipes.

use crate::{invalid, status};
use libc::{c_int, c_uint};
use rustix::pipe::PipeFlags;
use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{FromRawFd, IntoRawFd, RawFd},
};
use zpipe::{Builder, PipeReader, PipeWriter};

/// `ZPIPE_BUFFER_ONLY` of the header.
const BUFFER_ONLY: c_uint = 0x8000_0000;

/// Borrows a descriptor of the caller as an end of a pipe.
pub(crate) fn borrow<End: FromRawFd>(fd: RawFd) -> io::Result<ManuallyDrop<End>> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: It is not -1. It is never closed here. The calls of the end fail with EBADF if it is
    // not open.
    Ok(ManuallyDrop::new(unsafe { End::from_raw_fd(fd) }))
}

fn make(
    flags: c_uint,
    make: impl FnOnce(&Builder) -> io::Result<(PipeReader, PipeWriter)>,
) -> io::Result<[c_int; 2]> {
    let known = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
    if flags & !(known.bits() | BUFFER_ONLY) != 0 {
        return Err(invalid());
    }
    let known = PipeFlags::from_bits_retain(flags);
    let (read, write) = make(
        Builder::new()
            .nonblocking(known.contains(PipeFlags::NONBLOCK))
            .packets(known.contains(PipeFlags::DIRECT))
            .buffer_only(flags & BUFFER_ONLY != 0),
    )?;
    let fds = [read.into_raw_fd(), write.into_raw_fd()];
    if !known.contains(PipeFlags::CLOEXEC) {
        for fd in fds {
            // SAFETY: It is an open descriptor.
            unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        }
    }
    Ok(fds)
}

/// Stores both descriptors.
///
/// # Safety
///
/// `fds` must have space for two numbers.
unsafe fn store(result: io::Result<[c_int; 2]>, fds: *mut c_int) -> c_int {
    status(result.map(|made| {
        // SAFETY: By this function's safety requirements.
        unsafe { fds.cast::<[c_int; 2]>().write(made) };
    }))
}

/// Makes a private pipe as pipe2(2) does: the read end, then the write end.
/// Flags: O_CLOEXEC, O_NONBLOCK, O_DIRECT and ZPIPE_BUFFER_ONLY.
/// Returns 0, or -1 with errno set.
#[no_mangle]
pub unsafe extern "C" fn zpipe_pipe2(fds: *mut c_int, flags: c_uint) -> c_int {
    // SAFETY: By this function's safety requirements.
    unsafe { store(make(flags, Builder::pipe), fds) }
}

/// As zpipe_pipe2(), but makes a pipe of the kernel's own if zpipe cannot make
/// one, for example because it is not loaded.
#[no_mangle]
pub unsafe extern "C" fn zpipe_or_pipe2(fds: *mut c_int, flags: c_uint) -> c_int {
    // SAFETY: By this function's safety requirements.
    unsafe { store(make(flags, Builder::pipe_or_std), fds) }
}

/// Returns 1 if the descriptor is an end of a zpipe, and 0 if it is anything
/// else, or not open.
#[no_mangle]
pub extern "C" fn zpipe_is_zpipe(fd: c_int) -> c_int {
    borrow::<PipeReader>(fd)
        .is_ok_and(|end| end.is_zpipe())
        .into()
}
