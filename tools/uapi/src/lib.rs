// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ABI of zpipe, and calls that use it.
//!
//! All functions are safe in signal handlers and in children of vfork(2): they make system
//! calls, allocate nothing, take no lock, and do not change `errno`.

#![no_std]

use core::ffi::{CStr, c_int};
use rustix::fs::{FileType, major, minor};
use sys::Errno;

pub mod gift;
pub mod sys;

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, dead_code)]
#[rustfmt::skip]
mod bindings {
    include!("../../zpipe/src/bindings.rs");
}

/// The device that makes private pairs.
pub const CONTROL: &CStr = c"/dev/zpipe-control";

/// Makes a private pair as pipe2(2) does: the read end, then the write end, at the two
/// lowest free descriptors.
///
/// # Errors
///
/// Those of opening the control device and of its command. pipe2(2) may still succeed.
pub fn pipe2(flags: c_int) -> Result<[c_int; 2], Errno> {
    // O_NONBLOCK protects against another file at that path.
    let open = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let control = sys::open(CONTROL, open)?;
    let mut args = bindings::zpipe_pipe2 {
        size: size_of::<bindings::zpipe_pipe2>() as u32,
        flags: flags as u32,
        fds: [-1; 2],
    };
    // SAFETY: The command takes this struct.
    if let Err(error) = unsafe { sys::ioctl::<{ bindings::PIPE2 }, _>(control, &mut args) } {
        sys::close(control);
        return Err(error);
    }

    // The control device has the lowest descriptor, which the read end must get. All three
    // descriptors are ours, so nothing of others is closed. Other threads may have changed
    // their order.
    let [read, write] = args.fds;
    if control > read || control > write {
        sys::close(control);
        return Ok(args.fds);
    }
    let cloexec = flags & libc::O_CLOEXEC;
    let mut moved = sys::dup3(read, control, cloexec);
    if moved.is_ok() && write > read {
        moved = sys::dup3(write, read, cloexec);
    }
    if let Err(error) = moved {
        [control, read, write].map(sys::close);
        return Err(error);
    }
    sys::close(read.max(write));
    Ok([control, read.min(write)])
}

/// Returns true if this is an open descriptor of a zpipe: of a private pair, or of a device
/// node.
///
/// It checks the type of the file. It does not try a command, which might be another
/// driver's.
pub fn is_zpipe(fd: c_int) -> bool {
    let Ok(stat) = sys::fstat(fd) else {
        return false;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => sys::fstatfs(fd).is_ok_and(|fs| fs.f_type == bindings::SUPER_MAGIC),
        // Nodes have minor number 0, the control device has minor number 1.
        FileType::CharacterDevice if minor(stat.st_rdev) == 0 => {
            sys::stat(CONTROL).is_ok_and(|control| {
                FileType::from_raw_mode(control.st_mode) == FileType::CharacterDevice
                    && minor(control.st_rdev) == 1
                    && major(control.st_rdev) == major(stat.st_rdev)
            })
        }
        _ => false,
    }
}

fn capacity<const COMMAND: u32>(fd: c_int, bytes: u64) -> Result<u64, Errno> {
    let mut args = bindings::zpipe_capacity {
        size: size_of::<bindings::zpipe_capacity>() as u32,
        flags: 0,
        bytes,
    };
    // SAFETY: Both commands take this struct.
    unsafe { sys::ioctl::<COMMAND, _>(fd, &mut args)? };
    Ok(args.bytes)
}

/// Returns the capacity of a zpipe in bytes, as `F_GETPIPE_SZ`. Ask [`is_zpipe`] first: the command
/// of another driver with this number may do anything.
///
/// # Errors
///
/// EBADF if the descriptor is not open.
pub fn get_capacity(fd: c_int) -> Result<u64, Errno> {
    capacity::<{ bindings::GET_CAPACITY }>(fd, 0)
}

/// Sets the capacity of a zpipe, as `F_SETPIPE_SZ`, and returns the new one. Ask [`is_zpipe`]
/// first, as for [`get_capacity`].
///
/// # Errors
///
/// As `F_SETPIPE_SZ`.
pub fn set_capacity(fd: c_int, bytes: u64) -> Result<u64, Errno> {
    capacity::<{ bindings::SET_CAPACITY }>(fd, bytes)
}

/// A flag of the commands that transfer bytes: do not wait for data or free space.
pub const NONBLOCK: u32 = bindings::ZPIPE_NONBLOCK;

/// A flag of [`splice_to`]: more bytes will follow soon.
pub const MORE: u32 = bindings::ZPIPE_SPLICE_MORE;

fn transfer<const COMMAND: u32>(
    end: c_int,
    other: c_int,
    offset: Option<&mut u64>,
    bytes: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let at = if offset.is_some() {
        bindings::ZPIPE_SPLICE_AT
    } else {
        0
    };
    let mut args = bindings::zpipe_splice {
        size: size_of::<bindings::zpipe_splice>() as u32,
        flags: flags | at,
        fd: other,
        side: 0,
        offset: offset.as_deref().copied().unwrap_or(0),
        bytes: bytes as u64,
    };
    // SAFETY: All three commands take this struct.
    unsafe { sys::ioctl::<COMMAND, _>(end, &mut args)? };
    if let Some(offset) = offset {
        *offset = args.offset;
    }
    Ok(args.bytes as usize)
}

/// Transfers at most `bytes` bytes from a zpipe to a file, and returns their number. With an
/// offset, it writes there, and moves the offset on. Ask [`is_zpipe`] first, as for
/// [`get_capacity`].
///
/// # Errors
///
/// As splice(2). ENOTTY if the module is too old for it.
pub fn splice_to(
    end: c_int,
    file: c_int,
    offset: Option<&mut u64>,
    bytes: usize,
    flags: u32,
) -> Result<usize, Errno> {
    transfer::<{ bindings::SPLICE_TO }>(end, file, offset, bytes, flags)
}

/// Transfers at most `bytes` bytes from a file to a zpipe, and returns their number. With an
/// offset, it reads from there, and moves the offset on. Ask [`is_zpipe`] first, as for
/// [`get_capacity`].
///
/// # Errors
///
/// As splice(2). ENOTTY if the module is too old for it.
pub fn splice_from(
    end: c_int,
    file: c_int,
    offset: Option<&mut u64>,
    bytes: usize,
    flags: u32,
) -> Result<usize, Errno> {
    transfer::<{ bindings::SPLICE_FROM }>(end, file, offset, bytes, flags)
}

/// Copies at most `bytes` bytes from a zpipe to another one, and returns their number. It
/// removes none. Ask [`is_zpipe`] first, as for [`get_capacity`].
///
/// # Errors
///
/// As tee(2). ENOTTY if the module is too old for it.
pub fn tee(end: c_int, other: c_int, bytes: usize, flags: u32) -> Result<usize, Errno> {
    transfer::<{ bindings::TEE }>(end, other, None, bytes, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_commands() {
        assert_eq!(bindings::PIPE2, 0xe900);
        assert_eq!(bindings::GET_CAPACITY, 0xe910);
        assert_eq!(bindings::SET_CAPACITY, 0xe911);
        assert_eq!(bindings::SPLICE_TO, 0xe928);
        assert_eq!(bindings::SPLICE_FROM, 0xe929);
        assert_eq!(bindings::TEE, 0xe92a);
        assert_eq!(size_of::<bindings::zpipe_pipe2>(), 16);
        assert_eq!(size_of::<bindings::zpipe_capacity>(), 16);
        assert_eq!(size_of::<bindings::zpipe_splice>(), 32);
    }

    #[test]
    fn calls_return_errors() {
        assert_eq!(sys::dup3(-1, 5, 0), Err(Errno(libc::EBADF)));
        assert_eq!(sys::status_flags(-1), Err(Errno(libc::EBADF)));
        assert_eq!(sys::open(c"/nonexistent", 0), Err(Errno(libc::ENOENT)));
        let root = sys::stat(c"/").unwrap();
        assert_eq!(FileType::from_raw_mode(root.st_mode), FileType::Directory);
    }

    #[test]
    fn open_again_opens_the_same_file() {
        let null = sys::open(c"/dev/null", libc::O_RDONLY | libc::O_CLOEXEC).unwrap();
        for fd in [40, 123, 1000] {
            sys::dup3(null, fd, libc::O_CLOEXEC).unwrap();
            let again = sys::open_again(fd, libc::O_WRONLY | libc::O_CLOEXEC).unwrap();
            let flags = sys::status_flags(again).unwrap();
            assert_eq!(flags & libc::O_ACCMODE, libc::O_WRONLY);
            sys::close(again);
            sys::close(fd);
        }
        assert_eq!(sys::open_again(c_int::MAX, 0), Err(Errno(libc::ENOENT)));
    }

    #[test]
    fn transfers_between_pipes_of_the_kernel() {
        let [read, write] = sys::pipe().unwrap();
        let [again, out] = sys::pipe().unwrap();

        assert!(sys::is_pipe(read) && sys::is_pipe(write));
        assert_eq!(sys::tee(read, out, 10, true), Err(Errno(libc::EAGAIN)));
        let args = [write as usize, c"hello".as_ptr() as usize, 5];
        // SAFETY: It reads five bytes.
        assert_eq!(unsafe { sys::call(libc::SYS_write, args) }, Ok(5));
        assert_eq!(sys::tee(read, out, 3, true), Ok(3));
        assert_eq!(sys::splice(read, out, 10, false), Ok(5));
        assert_eq!(sys::splice(again, write, 10, false), Ok(8));
        sys::set_status_flags(read, libc::O_NONBLOCK).unwrap();
        let flags = sys::status_flags(read).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
        [read, write, again, out].map(sys::close);
    }

    #[test]
    fn other_files_are_no_zpipes() {
        let mut fds = [-1; 2];

        assert!(!is_zpipe(-1));
        // SAFETY: It writes two numbers.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        assert!(!is_zpipe(fds[0]) && !is_zpipe(fds[1]));
        fds.map(sys::close);
        let null = sys::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC).unwrap();
        assert!(!is_zpipe(null) && !sys::is_pipe(null) && !sys::is_pipe(-1));
        sys::close(null);
    }
}
