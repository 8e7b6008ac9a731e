// SPDX-License-Identifier: GPL-2.0-only

//! `libzpipe_preload.so`: for a program that is started with it in `LD_PRELOAD`, pipe(2) and
//! pipe2(2) make private pairs of zpipe, and the calls that are for pipes alone work on them as
//! far as they can. docs/zpipe-preload.7 says what that means to a user.
//!
//! The functions here stand before the C library's in every program, also in signal handlers,
//! children of vfork(2) and threads that are being cancelled. So they keep no state, allocate
//! nothing, take no lock, and change `errno` only where they fail. What they do not care for they pass on, and they look at a descriptor only
//! after the kernel refused it: programs that use no pipes pay nothing.
//!
//! It has no part of Rust's own runtime, so that it loads nothing else with it. A thread that is
//! cancelled in the C library's function unwinds over ours, which have nothing to drop then. That
//! takes no more than the unwind tables that every function here has; "C-unwind" would have the
//! compiler put an abort in the way.

#![no_std]

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
compile_error!("this is for x86-64 and the GNU C library");

mod copy;
mod real;

use core::ffi::{c_int, c_uint, c_ulong};
use libc::{iovec, off64_t, size_t, ssize_t};
use zpipe_uapi::{is_zpipe, sys, sys::Errno};

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: It may always be called.
    unsafe { libc::abort() }
}

/// This thread's `errno`.
fn errno() -> c_int {
    // SAFETY: It always points to this thread's own.
    unsafe { *libc::__errno_location() }
}

/// What a call returns: -1 with `errno` for an error, which otherwise is what it was `before`.
fn returned(result: Result<usize, Errno>, before: c_int) -> ssize_t {
    let (ret, errno) = match result {
        Ok(ret) => (ret as ssize_t, before),
        Err(Errno(error)) => (-1, error),
    };
    // SAFETY: It always points to this thread's own.
    unsafe { *libc::__errno_location() = errno };
    ret
}

/// pipe(2).
///
/// # Safety
///
/// As the C library's: `fds` has room for two, or is no valid address at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pipe(fds: *mut c_int) -> c_int {
    // SAFETY: The caller's promise.
    unsafe { pipe2(fds, 0) }
}

/// pipe2(2).
///
/// Whatever goes wrong, the kernel's own pipe is what there is instead, and it is the kernel that
/// says what is wrong: so that two free descriptors are enough, and every error is pipe2(2)'s.
///
/// # Safety
///
/// As the C library's: `fds` has room for two, or is no valid address at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pipe2(fds: *mut c_int, flags: c_int) -> c_int {
    let known = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT;
    if flags & !known == 0 && !fds.is_null() {
        if let Ok(pair) = zpipe_uapi::pipe2(flags) {
            // A bad address is an error and no crash. The kernel finds out, with a call that only
            // writes eight bytes there.
            let probe = [
                libc::SIG_BLOCK as usize,
                0,
                fds as usize,
                size_of_val(&pair),
            ];
            // SAFETY: The caller's promise; no signal is blocked by it.
            if unsafe { sys::call(libc::SYS_rt_sigprocmask, probe) }.is_ok() {
                // SAFETY: The kernel could write there.
                unsafe { fds.cast::<[c_int; 2]>().write_unaligned(pair) };
                return 0;
            }
            pair.map(sys::close);
        }
    }
    // SAFETY: The caller's promise.
    unsafe { real::pipe2(fds, flags) }
}

/// fcntl(2). Its third argument is a number or a pointer, or not there at all; on this machine
/// all of them come in the same register.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    if command == libc::F_GETPIPE_SZ || command == libc::F_SETPIPE_SZ {
        // SAFETY: The caller's promise.
        return unsafe { capacity(fd, command, arg) };
    }
    // SAFETY: The caller's promise.
    unsafe { real::fcntl(fd, command, arg) }
}

/// fcntl(2), by its other name.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    // SAFETY: The caller's promise.
    unsafe { fcntl(fd, command, arg) }
}

/// # Safety
///
/// As fcntl's.
#[cold]
unsafe fn capacity(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    let before = errno();
    // SAFETY: The caller's promise.
    let ret = unsafe { real::fcntl(fd, command, arg) };
    if ret != -1 || errno() != libc::EBADF || !is_zpipe(fd) {
        return ret;
    }
    let bytes = if command == libc::F_SETPIPE_SZ {
        // The kernel takes no more of it either.
        zpipe_uapi::set_capacity(fd, (arg as u32).into())
    } else {
        zpipe_uapi::get_capacity(fd)
    };
    // fcntl(2) returns an int.
    returned(bytes.map(|bytes| bytes as usize), before) as c_int
}

/// sendfile(2): from a file to a zpipe it copies.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(
    out: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    let before = errno();
    // SAFETY: The caller's promise.
    let ret = unsafe { real::sendfile(out, from, offset, count) };
    if ret != -1 || errno() != libc::EINVAL || !is_zpipe(out) {
        return ret;
    }
    // SAFETY: The kernel has read `offset` before it refused the descriptors.
    let moved = unsafe { copy::from_file(from, offset, out, count, false) };
    returned(moved, before)
}

/// sendfile(2), by its other name.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(
    out: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: The caller's promise.
    unsafe { sendfile(out, from, offset, count) }
}

/// splice(2): from a file to a zpipe it copies; anything else with a zpipe stays EINVAL, because
/// what was taken out of a pipe could not be put back if the other side did not take it.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    off_from: *mut off64_t,
    out: c_int,
    off_out: *mut off64_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    let before = errno();
    // SAFETY: The caller's promise.
    let ret = unsafe { real::splice(from, off_from, out, off_out, len, flags) };
    if ret != -1 || errno() != libc::EINVAL || flags & !copy::SPLICE_F_ALL != 0 {
        return ret;
    }
    // A pipe has no offset.
    if (!off_out.is_null() && is_zpipe(out)) || (!off_from.is_null() && is_zpipe(from)) {
        return returned(Err(Errno(libc::ESPIPE)), before);
    }
    if !is_zpipe(out) {
        return ret;
    }
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    // SAFETY: The kernel has read `off_from` before it refused the descriptors.
    let moved = unsafe { copy::from_file(from, off_from, out, len, nonblock) };
    returned(moved, before)
}

/// vmsplice(2): it copies, in both directions.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmsplice(
    fd: c_int,
    iov: *const iovec,
    segments: size_t,
    flags: c_uint,
) -> ssize_t {
    let before = errno();
    // SAFETY: The caller's promise.
    let ret = unsafe { real::vmsplice(fd, iov, segments, flags) };
    if ret != -1 || errno() != libc::EBADF || !is_zpipe(fd) {
        return ret;
    }
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    // SAFETY: The kernel has read the segments before it refused the descriptor.
    let moved = unsafe { copy::memory(fd, iov, segments, nonblock) };
    returned(moved, before)
}
