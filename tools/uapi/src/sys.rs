// SPDX-License-Identifier: GPL-2.0-only

//! System calls, without what the C library's do beside: they are no points of thread
//! cancellation, and leave `errno` alone.

use core::{
    arch::asm,
    ffi::{CStr, c_int, c_long, c_ulong, c_void},
    mem::zeroed,
};

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

/// Makes a system call.
///
/// # Safety
///
/// What the call does with its arguments must be sound. That addresses are valid is no part of
/// it: those that are not are EFAULT.
pub unsafe fn call<const N: usize>(number: c_long, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    let ret: isize;

    // SAFETY: These are the registers of a system call, and those it changes; the caller answers
    // for the rest.
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

/// A descriptor as an argument.
fn arg(fd: c_int) -> usize {
    fd as usize
}

/// open(2).
///
/// # Errors
///
/// As open(2).
pub fn open(path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    let args = [
        arg(libc::AT_FDCWD),
        path.as_ptr() as usize,
        flags as usize,
        0,
    ];
    // SAFETY: It only reads the path.
    Ok(unsafe { call(libc::SYS_openat, args)? } as c_int)
}

/// Opens what a descriptor is open on, anew.
///
/// # Errors
///
/// As open(2); ENOENT where there is no /proc.
pub fn open_again(fd: c_int, flags: c_int) -> Result<c_int, Errno> {
    let mut path = *b"/proc/thread-self/fd/0000000000\0";
    let mut rest = fd;
    for digit in path.iter_mut().rev().skip(1).take(10) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Numbers there have no zeroes in front.
    let zeroes = path[21..30]
        .iter()
        .take_while(|digit| **digit == b'0')
        .count();
    path.copy_within(21 + zeroes.., 21);
    match CStr::from_bytes_until_nul(&path) {
        Ok(path) => open(path, flags),
        Err(_) => Err(Errno(libc::EBADF)),
    }
}

/// close(2) of a descriptor that is ours.
pub fn close(fd: c_int) {
    // SAFETY: Only numbers; whose the descriptor is, is the caller's business.
    let _ = unsafe { call(libc::SYS_close, [arg(fd)]) };
}

/// dup3(2), onto a descriptor that is ours.
///
/// # Errors
///
/// As dup3(2).
pub fn dup3(from: c_int, to: c_int, flags: c_int) -> Result<(), Errno> {
    // SAFETY: As close().
    unsafe { call(libc::SYS_dup3, [arg(from), arg(to), flags as usize]) }.map(drop)
}

/// ioctl(2).
///
/// # Safety
///
/// The command reads and writes no more than `args`.
///
/// # Errors
///
/// As ioctl(2).
pub unsafe fn ioctl<T>(fd: c_int, command: c_ulong, args: &mut T) -> Result<(), Errno> {
    let args = [arg(fd), command as usize, &raw mut *args as usize];
    // SAFETY: The caller's promise.
    unsafe { call(libc::SYS_ioctl, args) }.map(drop)
}

/// fstat(2).
///
/// # Errors
///
/// As fstat(2).
pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    // SAFETY: All zeroes are a value of this type.
    let mut stat: libc::stat = unsafe { zeroed() };
    // SAFETY: It writes such a struct.
    unsafe { call(libc::SYS_fstat, [arg(fd), &raw mut stat as usize])? };
    Ok(stat)
}

/// stat(2).
///
/// # Errors
///
/// As stat(2).
pub fn stat(path: &CStr) -> Result<libc::stat, Errno> {
    // SAFETY: All zeroes are a value of this type.
    let mut stat: libc::stat = unsafe { zeroed() };
    let args = [path.as_ptr() as usize, &raw mut stat as usize];
    // SAFETY: It reads the path and writes such a struct.
    unsafe { call(libc::SYS_stat, args)? };
    Ok(stat)
}

/// fstatfs(2).
///
/// # Errors
///
/// As fstatfs(2).
pub fn fstatfs(fd: c_int) -> Result<libc::statfs, Errno> {
    // SAFETY: All zeroes are a value of this type.
    let mut stat: libc::statfs = unsafe { zeroed() };
    // SAFETY: It writes such a struct.
    unsafe { call(libc::SYS_fstatfs, [arg(fd), &raw mut stat as usize])? };
    Ok(stat)
}

/// `F_GETFL` of fcntl(2).
///
/// # Errors
///
/// As fcntl(2).
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: Only numbers.
    Ok(unsafe { call(libc::SYS_fcntl, [arg(fd), libc::F_GETFL as usize])? } as c_int)
}

/// poll(2) of one descriptor, without a limit.
///
/// # Errors
///
/// As poll(2).
pub fn poll(fd: c_int, events: i16) -> Result<(), Errno> {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: It reads and writes one such struct.
    unsafe { call(libc::SYS_poll, [&raw mut poll as usize, 1, usize::MAX]) }.map(drop)
}

/// New memory, all zeroes.
pub struct Memory {
    /// Where it is.
    pub base: *mut c_void,
    /// How many bytes.
    pub len: usize,
}

impl Memory {
    /// Maps `len` bytes.
    ///
    /// # Errors
    ///
    /// As mmap(2).
    pub fn new(len: usize) -> Result<Self, Errno> {
        let access = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let kind = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        // SAFETY: It maps where nothing is yet.
        let base = unsafe { call(libc::SYS_mmap, [0, len, access, kind, usize::MAX, 0])? };
        Ok(Self {
            base: base as *mut c_void,
            len,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: We mapped it.
        let _ = unsafe { call(libc::SYS_munmap, [self.base as usize, self.len]) };
    }
}
