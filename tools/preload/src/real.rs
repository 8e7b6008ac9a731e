// SPDX-License-Identifier: MIT OR Apache-2.0

//! The functions that this library replaces. Those of the next library are looked up when
//! this one is loaded, since a later lookup would not be safe in a signal handler. Before
//! that (when another library is being loaded), a call is the system call.

use core::{
    ffi::{CStr, c_int, c_uint, c_ulong, c_void},
    mem::transmute,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};
use libc::{iovec, off64_t, size_t, ssize_t};

#[link(name = "c")]
unsafe extern "C" {
    // Another name of fcntl in the C library.
    fn __fcntl(fd: c_int, command: c_int, ...) -> c_int;
}

/// Calls fcntl(2).
///
/// # Safety
///
/// As the C library's.
#[inline]
pub(crate) unsafe fn fcntl(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
    // SAFETY: By this function's safety requirements.
    unsafe { __fcntl(fd, command, arg) }
}

type Name = AtomicPtr<c_void>;

static PIPE2: Name = AtomicPtr::new(null_mut());
static SENDFILE: Name = AtomicPtr::new(null_mut());
static SPLICE: Name = AtomicPtr::new(null_mut());
static TEE: Name = AtomicPtr::new(null_mut());
static VMSPLICE: Name = AtomicPtr::new(null_mut());

extern "C" fn find_all() {
    let find = |place: &Name, name: &CStr| {
        // SAFETY: The name is a C string.
        let function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        place.store(function, Relaxed);
    };
    find(&PIPE2, c"pipe2");
    find(&SENDFILE, c"sendfile");
    find(&SPLICE, c"splice");
    find(&TEE, c"tee");
    find(&VMSPLICE, c"vmsplice");
}

/// Called when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = find_all;

/// Defines a function that calls the one found by `find_all()`, or else the system call.
macro_rules! real {
    ($place:ident, $number:ident, $name:ident($($arg:ident: $type:ty),*) -> $ret:ty) => {
        /// # Safety
        ///
        /// As the C library's.
        pub(crate) unsafe fn $name($($arg: $type),*) -> $ret {
            type Function = unsafe extern "C" fn($($type),*) -> $ret;

            let found = $place.load(Relaxed);
            if found.is_null() {
                // SAFETY: By this function's safety requirements.
                return unsafe { libc::syscall(libc::$number, $($arg),*) as $ret };
            }
            // SAFETY: It is the function of this name, which has this type.
            let function = unsafe { transmute::<*mut c_void, Function>(found) };
            // SAFETY: By this function's safety requirements.
            unsafe { function($($arg),*) }
        }
    };
}

real!(PIPE2, SYS_pipe2, pipe2(fds: *mut c_int, flags: c_int) -> c_int);
real!(SENDFILE, SYS_sendfile,
    sendfile(out: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t);
real!(SPLICE, SYS_splice,
    splice(from: c_int, off_from: *mut off64_t, out: c_int, off_out: *mut off64_t,
        len: size_t, flags: c_uint) -> ssize_t);
real!(TEE, SYS_tee,
    tee(from: c_int, out: c_int, len: size_t, flags: c_uint) -> ssize_t);
real!(VMSPLICE, SYS_vmsplice,
    vmsplice(fd: c_int, iov: *const iovec, segments: size_t, flags: c_uint) -> ssize_t);
