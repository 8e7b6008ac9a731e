// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls that do not change `errno` or the cancellation state of a thread, and
//! allocate nothing.
//!
//! They use rustix with its backend that makes system calls directly. [`call`] is for calls
//! with addresses from a caller in C. rustix accepts only valid memory, but the kernel has
//! to check these addresses.

use core::{
    arch::asm,
    ffi::{CStr, c_int, c_long},
    mem::MaybeUninit,
    slice,
};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    fs::{CWD, Mode, OFlags},
    io::DupFlags,
    ioctl::{BadOpcode, Updater},
    pipe::{PipeFlags, SpliceFlags},
};

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

/// Makes a system call.
///
/// # Safety
///
/// The effect of the call on this process must be sound. Addresses need not be valid: the
/// kernel checks them and returns EFAULT.
pub unsafe fn call<const N: usize>(number: c_long, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    let ret: isize;

    // SAFETY: These are the registers of a system call and those that it changes. Its
    // effect is sound by this function's safety requirements.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => ret,
            in("rdi") all[0], in("rsi") all[1], in("rdx") all[2],
            in("r10") all[3], in("r8") all[4], in("r9") all[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    match ret {
        -4095..=-1 => Err(Errno(-ret as c_int)),
        _ => Ok(ret as usize),
    }
}

/// Borrows a descriptor for the time of a call. EBADF if the number is negative.
fn borrow<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: It is not -1. rustix only passes the number to the kernel, which returns EBADF if it
    // is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// open(2).
///
/// # Errors
///
/// As open(2).
pub fn open(path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    let flags = OFlags::from_bits_retain(flags as u32);
    // openat(2), as the C library uses: filters of system calls may allow only this one.
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?.into_raw_fd())
}

/// Opens the file of a descriptor again.
///
/// # Errors
///
/// As open(2); ENOENT if /proc is not mounted.
pub fn open_again(fd: c_int, flags: c_int) -> Result<c_int, Errno> {
    borrow(fd)?;
    let mut path = *b"/proc/thread-self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let mut unit = 1;
    while fd / unit >= 10 {
        unit *= 10;
    }
    for place in &mut path[21..31] {
        *place = b'0' + (fd / unit % 10) as u8;
        unit /= 10;
        if unit == 0 {
            break;
        }
    }
    match CStr::from_bytes_until_nul(&path) {
        Ok(path) => open(path, flags),
        Err(_) => Err(Errno(libc::EBADF)),
    }
}

/// readlink(2).
///
/// # Errors
///
/// As readlink(2). ENAMETOOLONG if the buffer is too short.
pub fn read_link<'a>(path: &CStr, buffer: &'a mut [MaybeUninit<u8>]) -> Result<&'a [u8], Errno> {
    let start = buffer.as_mut_ptr();
    let args = [path.as_ptr() as usize, start as usize, buffer.len()];
    // SAFETY: It reads the path, and writes no more than the buffer holds.
    match unsafe { call(libc::SYS_readlink, args)? } {
        // SAFETY: The kernel has written so many bytes.
        bytes if bytes < buffer.len() => Ok(unsafe { slice::from_raw_parts(start.cast(), bytes) }),
        _ => Err(Errno(libc::ENAMETOOLONG)),
    }
}

/// close(2) of a descriptor that the caller owns. It ignores errors, unlike rustix.
pub fn close(fd: c_int) {
    // SAFETY: The caller gives the descriptor up.
    let _ = unsafe { call(libc::SYS_close, [fd as usize]) };
}

/// dup3(2) to a descriptor that the caller owns, or that is not open.
///
/// # Errors
///
/// As dup3(2).
pub fn dup3(from: c_int, to: c_int, flags: c_int) -> Result<(), Errno> {
    let from = borrow(from)?;
    borrow(to)?;
    // SAFETY: It is not -1. rustix only passes the number to the kernel, and `into_raw_fd()` below
    // prevents that it is closed here.
    let mut to = unsafe { OwnedFd::from_raw_fd(to) };
    let result = rustix::io::dup3(from, &mut to, DupFlags::from_bits_retain(flags as u32));
    let _ = to.into_raw_fd();
    Ok(result?)
}

/// ioctl(2) with the command `NUMBER`.
///
/// # Safety
///
/// The command must take a `T`. What else it reads and writes must be sound.
///
/// # Errors
///
/// As ioctl(2).
pub unsafe fn ioctl<const NUMBER: u32, T>(fd: c_int, args: &mut T) -> Result<(), Errno> {
    // SAFETY: By this function's safety requirements.
    let command = unsafe { Updater::<BadOpcode<NUMBER>, T>::new(args) };
    // SAFETY: By this function's safety requirements.
    unsafe { rustix::ioctl::ioctl(borrow(fd)?, command)? };
    Ok(())
}

/// fstat(2).
///
/// # Errors
///
/// As fstat(2).
pub fn fstat(fd: c_int) -> Result<rustix::fs::Stat, Errno> {
    Ok(rustix::fs::fstat(borrow(fd)?)?)
}

/// stat(2).
///
/// # Errors
///
/// As stat(2).
pub fn stat(path: &CStr) -> Result<rustix::fs::Stat, Errno> {
    Ok(rustix::fs::stat(path)?)
}

/// fstatfs(2).
///
/// # Errors
///
/// As fstatfs(2).
pub fn fstatfs(fd: c_int) -> Result<rustix::fs::StatFs, Errno> {
    Ok(rustix::fs::fstatfs(borrow(fd)?)?)
}

/// `F_GETFL` of fcntl(2).
///
/// # Errors
///
/// As fcntl(2).
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    Ok(rustix::fs::fcntl_getfl(borrow(fd)?)?.bits() as c_int)
}

/// `F_SETFL` of fcntl(2).
///
/// # Errors
///
/// As fcntl(2).
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    let flags = OFlags::from_bits_retain(flags as u32);
    Ok(rustix::fs::fcntl_setfl(borrow(fd)?, flags)?)
}

/// Makes a pipe of the kernel: the read end, then the write end. Both have `O_CLOEXEC`.
///
/// # Errors
///
/// As pipe2(2).
pub fn pipe() -> Result<[c_int; 2], Errno> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok([read, write].map(IntoRawFd::into_raw_fd))
}

/// Returns true if this is an open descriptor of a pipe or FIFO of the kernel's own.
pub fn is_pipe(fd: c_int) -> bool {
    borrow(fd).is_ok_and(|fd| rustix::pipe::fcntl_getpipe_size(fd).is_ok())
}

fn splice_flags(nonblock: bool) -> SpliceFlags {
    if nonblock {
        SpliceFlags::NONBLOCK
    } else {
        SpliceFlags::empty()
    }
}

/// splice(2) without offsets.
///
/// # Errors
///
/// As splice(2).
pub fn splice(from: c_int, out: c_int, len: usize, nonblock: bool) -> Result<usize, Errno> {
    let (from, out) = (borrow(from)?, borrow(out)?);
    let flags = splice_flags(nonblock);
    Ok(rustix::pipe::splice(from, None, out, None, len, flags)?)
}

/// tee(2).
///
/// # Errors
///
/// As tee(2).
pub fn tee(from: c_int, out: c_int, len: usize, nonblock: bool) -> Result<usize, Errno> {
    let (from, out) = (borrow(from)?, borrow(out)?);
    Ok(rustix::pipe::tee(from, out, len, splice_flags(nonblock))?)
}

/// poll(2) of one descriptor, without a time limit.
///
/// # Errors
///
/// As poll(2).
pub fn poll(fd: c_int, events: i16) -> Result<(), Errno> {
    let fd = borrow(fd)?;
    let events = PollFlags::from_bits_retain(events as u16);
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, events)], -1)?;
    Ok(())
}
