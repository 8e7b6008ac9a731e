// SPDX-License-Identifier: MIT OR Apache-2.0

//! `libzpipe_preload.so`: a library for `LD_PRELOAD`. In a program that is started with it,
//! pipe(2) and pipe2(2) make private pairs of zpipe. The calls that are for pipes only work
//! on these pairs as far as possible. docs/zpipe-preload.7 describes the effects for users.
//!
//! The functions here replace the C library's in any program, also in signal handlers, in
//! children of vfork(2) and in threads that are being cancelled. So they keep no state after
//! the library is loaded, allocate nothing, take no lock, and change `errno` only if they
//! fail. They pass on all calls that they do not handle. They look at a descriptor only after
//! the kernel has refused it, so programs without pipes pay nothing.
//!
//! The library does not contain Rust's runtime, and it is not linked with a C library: see
//! real.rs. So it loads no other library, and works with GNU's C library and with musl. A thread
//! that is cancelled in a function of the C library unwinds over the functions here, which have
//! nothing to drop then. This needs only the unwind tables, which every function here has.
//! With "C-unwind" the compiler would insert an abort.

#![no_std]

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
compile_error!("this is for x86-64, and built with the GNU C library");

#[cfg(test)]
extern crate std;

mod except;
mod memory;
mod own;
mod real;
mod splice;

use core::ffi::{c_int, c_uint, c_ulong};
use libc::{iovec, off64_t, size_t, ssize_t};
use zpipe_uapi::{is_zpipe, sys, sys::Errno};

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: An invalid instruction ends the process.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// Returns this thread's `errno`.
fn errno() -> c_int {
    // SAFETY: The pointer is valid and points to this thread's own.
    unsafe { *real::errno_place() }
}

/// Converts a result to a return value. An error is -1 with `errno` set; otherwise `errno`
/// is restored to `before`.
fn returned(result: Result<usize, Errno>, before: c_int) -> ssize_t {
    let (ret, errno) = match result {
        Ok(ret) => (ret as ssize_t, before),
        Err(Errno(error)) => (-1, error),
    };
    // SAFETY: The pointer is valid and points to this thread's own.
    unsafe { *real::errno_place() = errno };
    ret
}

// The functions with names of the C library do not call each other. A program may have functions of
// its own with these names, which can be quite different ones.

/// Makes a private pair. Returns false if it must be the kernel's pipe, also after any failure. So
/// two free descriptors are enough, and all errors are those of pipe2(2).
///
/// # Safety
///
/// As the C library's: `fds` has space for two descriptors, or is not a valid address at
/// all.
unsafe fn made(fds: *mut c_int, flags: c_int) -> bool {
    let known = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT;
    if flags & !known != 0 || fds.is_null() || except::is_excepted() {
        return false;
    }
    let Ok(pair) = zpipe_uapi::pipe2(flags) else {
        return false;
    };
    // A bad address must cause an error, not a crash.
    // SAFETY: By this function's safety requirements.
    if unsafe { splice::store(fds.cast::<[c_int; 2]>(), pair) }.is_ok() {
        return true;
    }
    pair.map(sys::close);
    false
}

/// Replaces pipe(2).
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pipe(fds: *mut c_int) -> c_int {
    // SAFETY: By this function's safety requirements.
    if unsafe { made(fds, 0) } {
        return 0;
    }
    // SAFETY: By this function's safety requirements.
    unsafe { real::pipe(fds) }
}

/// Replaces pipe2(2).
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pipe2(fds: *mut c_int, flags: c_int) -> c_int {
    // SAFETY: By this function's safety requirements.
    if unsafe { made(fds, flags) } {
        return 0;
    }
    // SAFETY: By this function's safety requirements.
    unsafe { real::pipe2(fds, flags) }
}

/// The type of fcntl(2). The third argument is a number, a pointer, or missing. On this
/// machine it is in the same register in all cases.
type Fcntl = unsafe fn(c_int, c_int, c_ulong) -> c_int;

/// Replaces fcntl(2).
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    // SAFETY: By this function's safety requirements.
    unsafe { control(real::fcntl, fd, command, arg) }
}

/// Replaces the other name of fcntl(2).
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    // SAFETY: By this function's safety requirements.
    unsafe { control(real::fcntl64, fd, command, arg) }
}

/// Calls `real`, unless the command is one for the capacity.
///
/// # Safety
///
/// As fcntl's.
#[inline]
unsafe fn control(real: Fcntl, fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    if command == libc::F_GETPIPE_SZ || command == libc::F_SETPIPE_SZ {
        // SAFETY: By this function's safety requirements.
        return unsafe { capacity(real, fd, command, arg) };
    }
    // SAFETY: By this function's safety requirements.
    unsafe { real(fd, command, arg) }
}

/// Gets or sets the capacity.
///
/// # Safety
///
/// As fcntl's.
#[cold]
unsafe fn capacity(real: Fcntl, fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    let before = errno();
    // SAFETY: By this function's safety requirements.
    let ret = unsafe { real(fd, command, arg) };
    if ret != -1 || errno() != libc::EBADF || !is_zpipe(fd) {
        return ret;
    }
    let bytes = if command == libc::F_SETPIPE_SZ {
        // The kernel ignores the upper bits, too.
        zpipe_uapi::set_capacity(fd, (arg as u32).into())
    } else {
        zpipe_uapi::get_capacity(fd)
    };
    // fcntl(2) returns an int.
    returned(bytes.map(|bytes| bytes as usize), before) as c_int
}

/// The type of sendfile(2).
type Sendfile = unsafe fn(c_int, c_int, *mut off64_t, size_t) -> ssize_t;

/// Replaces sendfile(2).
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
    // SAFETY: By this function's safety requirements.
    unsafe { send(real::sendfile, out, from, offset, count) }
}

/// Replaces the other name of sendfile(2).
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
    // SAFETY: By this function's safety requirements.
    unsafe { send(real::sendfile64, out, from, offset, count) }
}

/// Calls `real`. Where the kernel refuses, a command of the module does it.
///
/// # Safety
///
/// As sendfile's.
#[inline]
unsafe fn send(
    real: Sendfile,
    out: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    let before = errno();
    // SAFETY: By this function's safety requirements.
    let ret = unsafe { real(out, from, offset, count) };
    if ret != -1 || errno() != libc::EINVAL {
        return ret;
    }
    // SAFETY: The kernel read `offset` before it refused the descriptors.
    let moved = unsafe { splice::sendfile(out, from, offset, count) };
    returned(moved, before)
}

/// Replaces splice(2): where the kernel refuses, a command of the module does it.
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
    // SAFETY: By this function's safety requirements.
    let ret = unsafe { real::splice(from, off_from, out, off_out, len, flags) };
    let refused = matches!(errno(), libc::EINVAL | libc::EBADF | libc::EFAULT);
    if ret != -1 || !refused || flags & !splice::SPLICE_F_ALL != 0 {
        return ret;
    }
    let refused = Errno(errno());
    // SAFETY: The kernel read the offsets before it refused the descriptors with EINVAL.
    let moved = unsafe { splice::splice(from, off_from, out, off_out, len, flags, refused) };
    returned(moved, before)
}

/// Replaces tee(2): where the kernel refuses, a command of the module does it.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tee(from: c_int, out: c_int, len: size_t, flags: c_uint) -> ssize_t {
    let before = errno();
    // SAFETY: By this function's safety requirements.
    let ret = unsafe { real::tee(from, out, len, flags) };
    if ret != -1 || errno() != libc::EINVAL || flags & !splice::SPLICE_F_ALL != 0 {
        return ret;
    }
    returned(splice::tee(from, out, len, flags), before)
}

/// Replaces vmsplice(2): copies, in both directions.
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
    // SAFETY: By this function's safety requirements.
    let ret = unsafe { real::vmsplice(fd, iov, segments, flags) };
    if ret != -1 || errno() != libc::EBADF || !is_zpipe(fd) {
        return ret;
    }
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    // SAFETY: The kernel read the segments before it refused the descriptor, unless that is O_PATH.
    let moved = unsafe { memory::vmsplice(fd, iov, segments, nonblock) };
    returned(moved, before)
}
