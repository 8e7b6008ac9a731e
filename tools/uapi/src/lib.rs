// SPDX-License-Identifier: GPL-2.0-only

//! The ABI of zpipe and the calls made of it.
//!
//! Everything here is what a signal handler or a child of vfork(2) may do: system calls, no
//! allocation, no lock, no `errno`.

#![no_std]

use core::ffi::{CStr, c_int, c_ulong};
use sys::Errno;

pub mod sys;

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, dead_code)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// The device that makes private pairs.
pub const CONTROL: &CStr = c"/dev/zpipe-control";

/// Makes a private pair as pipe2(2): the read end, then the write end, at the two lowest free
/// descriptors.
///
/// # Errors
///
/// Whatever opening the control device or its command say; pipe2(2) may still succeed.
pub fn pipe2(flags: c_int) -> Result<[c_int; 2], Errno> {
    // O_NONBLOCK is for whatever else might be at that path.
    let open = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let control = sys::open(CONTROL, open)?;
    let mut args = bindings::zpipe_pipe2 {
        size: size_of::<bindings::zpipe_pipe2>() as u32,
        flags: flags as u32,
        fds: [-1; 2],
    };
    // SAFETY: The command takes this struct.
    if let Err(error) = unsafe { sys::ioctl(control, bindings::PIPE2, &mut args) } {
        sys::close(control);
        return Err(error);
    }

    // The control device has the lowest descriptor, which is to be the read end's; all three are
    // ours, so nobody else's is ever in the way. Other threads may have shuffled them.
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

/// Is this an open descriptor of a zpipe: of a private pair, or of a device node?
///
/// It asks for what a file is, never for what it answers to a command, which might be another
/// driver's.
pub fn is_zpipe(fd: c_int) -> bool {
    let Ok(stat) = sys::fstat(fd) else {
        return false;
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => sys::fstatfs(fd).is_ok_and(|fs| fs.f_type == bindings::SUPER_MAGIC),
        // Nodes are minor 0, the control device is minor 1.
        libc::S_IFCHR if libc::minor(stat.st_rdev) == 0 => {
            sys::stat(CONTROL).is_ok_and(|control| {
                control.st_mode & libc::S_IFMT == libc::S_IFCHR
                    && libc::minor(control.st_rdev) == 1
                    && libc::major(control.st_rdev) == libc::major(stat.st_rdev)
            })
        }
        _ => false,
    }
}

fn capacity(fd: c_int, command: c_ulong, bytes: u64) -> Result<u64, Errno> {
    let mut args = bindings::zpipe_capacity {
        size: size_of::<bindings::zpipe_capacity>() as u32,
        flags: 0,
        bytes,
    };
    // SAFETY: Both commands take this struct.
    unsafe { sys::ioctl(fd, command, &mut args)? };
    Ok(args.bytes)
}

/// The capacity of a zpipe in bytes, as `F_GETPIPE_SZ`.
///
/// # Errors
///
/// EBADF of what is not open.
pub fn get_capacity(fd: c_int) -> Result<u64, Errno> {
    capacity(fd, bindings::GET_CAPACITY, 0)
}

/// Sets the capacity of a zpipe, as `F_SETPIPE_SZ`, and returns what it has become.
///
/// # Errors
///
/// As `F_SETPIPE_SZ`.
pub fn set_capacity(fd: c_int, bytes: u64) -> Result<u64, Errno> {
    capacity(fd, bindings::SET_CAPACITY, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_commands() {
        assert_eq!(bindings::PIPE2, 0xe900);
        assert_eq!(bindings::GET_CAPACITY, 0xe910);
        assert_eq!(bindings::SET_CAPACITY, 0xe911);
        assert_eq!(size_of::<bindings::zpipe_pipe2>(), 16);
        assert_eq!(size_of::<bindings::zpipe_capacity>(), 16);
    }

    #[test]
    fn calls_say_what_is_wrong() {
        assert_eq!(sys::dup3(-1, 5, 0), Err(Errno(libc::EBADF)));
        assert_eq!(sys::status_flags(-1), Err(Errno(libc::EBADF)));
        assert_eq!(sys::open(c"/nonexistent", 0), Err(Errno(libc::ENOENT)));
        assert!(sys::stat(c"/").is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR));
    }

    #[test]
    fn opened_again() {
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
    fn memory_is_there_and_empty() {
        let memory = sys::Memory::new(10000).unwrap();
        // SAFETY: That many bytes were mapped.
        let bytes = unsafe { core::slice::from_raw_parts(memory.base.cast::<u8>(), memory.len) };
        assert!(bytes.len() == 10000 && bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_is_no_zpipe() {
        let mut fds = [-1; 2];

        assert!(!is_zpipe(-1));
        // SAFETY: It writes two numbers.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        assert!(!is_zpipe(fds[0]) && !is_zpipe(fds[1]));
        fds.map(sys::close);
        let null = sys::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC).unwrap();
        assert!(!is_zpipe(null));
        sys::close(null);
    }
}
