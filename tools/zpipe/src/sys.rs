// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of zpipe, and what kind of file a descriptor is.

use rustix::{
    fs::{FileType, Mode, OFlags, major, minor},
    ioctl::{Opcode, Updater},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

#[allow(missing_docs, non_camel_case_types, dead_code)]
#[rustfmt::skip]
pub(crate) mod bindings {
    include!("bindings.rs");
}

const CONTROL: &str = "/dev/zpipe-control";

/// The most slices that readv(2) and writev(2) take.
pub(crate) const IOV_MAX: usize = 1024;

/// The value of the first member of every struct.
pub(crate) const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// ioctl(2).
///
/// # Safety
///
/// The command must take a `T` and write to no other memory. If it changes other memory, that
/// must be sound.
pub(crate) unsafe fn ioctl<const COMMAND: Opcode, T>(
    fd: BorrowedFd<'_>,
    args: &mut T,
) -> io::Result<()> {
    #[cfg(test)]
    if let Some(answer) = crate::window::tests::answer(COMMAND, (&raw mut *args).cast()) {
        return answer;
    }
    // SAFETY: By this function's safety requirements.
    let command = unsafe { Updater::<COMMAND, T>::new(args) };
    // SAFETY: By this function's safety requirements.
    unsafe { rustix::ioctl::ioctl(fd, command)? };
    Ok(())
}

/// Makes a pair. `flags` are those of [`bindings::zpipe_pipe2`].
pub(crate) fn pipe2(flags: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    // O_NONBLOCK protects against another file at that path.
    let open = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let control = rustix::fs::open(CONTROL, open, Mode::empty())?;
    let mut args = bindings::zpipe_pipe2 {
        size: size::<bindings::zpipe_pipe2>(),
        flags,
        fds: [-1; 2],
    };
    // SAFETY: The command takes this struct.
    unsafe { ioctl::<{ bindings::PIPE2 }, _>(control.as_fd(), &mut args)? };
    let [read, write] = args.fds;
    // SAFETY: The descriptors are new, and ours.
    Ok(unsafe { (OwnedFd::from_raw_fd(read), OwnedFd::from_raw_fd(write)) })
}

/// Returns true if this is a descriptor of a zpipe: of a private pair, or of a device node.
///
/// It checks the type of the file. The number of a command may be another driver's, which
/// takes another struct.
pub(crate) fn is_zpipe(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return false;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {
            rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == bindings::SUPER_MAGIC)
        }
        // Nodes have minor number 0, the control device has minor number 1.
        FileType::CharacterDevice if minor(stat.st_rdev) == 0 => rustix::fs::stat(CONTROL)
            .is_ok_and(|control| {
                FileType::from_raw_mode(control.st_mode) == FileType::CharacterDevice
                    && minor(control.st_rdev) == 1
                    && major(control.st_rdev) == major(stat.st_rdev)
            }),
        _ => false,
    }
}
