// SPDX-License-Identifier: MIT OR Apache-2.0

//! The functions that this library replaces, and what else it uses of the C library.
//!
//! The functions of the next library are looked up when this one is loaded, since a later lookup
//! would not be safe in a signal handler. Before that (when another library is being loaded), a
//! call is the system call. It stays the system call if the lookup finds nothing, or the function
//! here: a program or library may have a dlsym(3) that calls the C library's. For that one, "next"
//! is the library after the caller.
//!
//! The library runs with any C library: GNU's of any age, and musl. So it is not linked with one,
//! and every name that it uses is a weak one without a version. `scripts/check preload` compares
//! these names with a list.

use crate::{errno, except, returned};
use core::{
    arch::asm,
    ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void},
    mem::transmute,
    ptr::{null, null_mut},
    sync::atomic::{AtomicI32, AtomicPtr, Ordering::Relaxed},
};
use libc::{iovec, off64_t, size_t, ssize_t};
use zpipe_uapi::sys;

/// Returns the address of a function or variable of the C library. Null if it has none of this
/// name.
macro_rules! weak {
    ($name:literal) => {{
        let address: *mut c_void;
        // SAFETY: It reads an entry of this library's table of addresses. The dynamic linker has
        // filled it before any code of the library runs.
        unsafe {
            asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(nostack, pure, preserves_flags, readonly),
            );
        }
        address
    }};
}

/// Returns the place of this thread's `errno`.
#[inline]
pub(crate) fn errno_place() -> *mut c_int {
    /// In a program without a C library nobody reads `errno`.
    static NOBODYS: AtomicI32 = AtomicI32::new(0);

    let function = weak!("__errno_location");
    if function.is_null() {
        return NOBODYS.as_ptr();
    }
    // SAFETY: This is the type of the function of this name.
    let function = unsafe { transmute::<*mut c_void, extern "C" fn() -> *mut c_int>(function) };
    function()
}

/// Calls `dlsym(RTLD_NEXT, name)`. Null if there is no dlsym: before glibc 2.34, programs that are
/// not linked with libdl have none.
fn next(name: &CStr) -> *mut c_void {
    type Function = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

    let dlsym = weak!("dlsym");
    if dlsym.is_null() {
        return null_mut();
    }
    // SAFETY: This is the type of the function of this name.
    let dlsym = unsafe { transmute::<*mut c_void, Function>(dlsym) };
    // SAFETY: The name is a C string.
    unsafe { dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// Returns the path of the program as it was passed to execve(2), or null.
fn started_as() -> *const c_char {
    type Function = extern "C" fn(c_ulong) -> c_ulong;

    let getauxval = weak!("getauxval");
    if getauxval.is_null() {
        return null();
    }
    // SAFETY: This is the type of the function of this name.
    let getauxval = unsafe { transmute::<*mut c_void, Function>(getauxval) };
    getauxval(libc::AT_EXECFN) as *const c_char
}

/// Returns the environment when the library is being loaded. `passed` is the third argument of its
/// initialiser.
///
/// GNU's C library passes it, and its variable may still be unset. musl passes nothing, but has set
/// its variable.
fn environment(passed: *const *const c_char) -> *const *const c_char {
    if !weak!("gnu_get_libc_version").is_null() {
        return passed;
    }
    let variable = weak!("environ").cast::<*const *const c_char>();
    if variable.is_null() {
        return null();
    }
    // SAFETY: This is the type of the variable of this name. No other thread runs yet.
    unsafe { variable.read() }
}

type Name = AtomicPtr<c_void>;

static FCNTL: Name = AtomicPtr::new(null_mut());
static FCNTL64: Name = AtomicPtr::new(null_mut());
static PIPE: Name = AtomicPtr::new(null_mut());
static PIPE2: Name = AtomicPtr::new(null_mut());
static SENDFILE: Name = AtomicPtr::new(null_mut());
static SENDFILE64: Name = AtomicPtr::new(null_mut());
static SPLICE: Name = AtomicPtr::new(null_mut());
static TEE: Name = AtomicPtr::new(null_mut());
static VMSPLICE: Name = AtomicPtr::new(null_mut());

type Initialiser = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Called when the library is loaded. `envp` is valid only with GNU's C library.
extern "C" fn load(_argc: c_int, _argv: *const *const c_char, envp: *const *const c_char) {
    for (place, name, own) in [
        (&FCNTL, c"fcntl", crate::fcntl as *const ()),
        (&FCNTL64, c"fcntl64", crate::fcntl64 as *const ()),
        (&PIPE, c"pipe", crate::pipe as *const ()),
        (&PIPE2, c"pipe2", crate::pipe2 as *const ()),
        (&SENDFILE, c"sendfile", crate::sendfile as *const ()),
        (&SENDFILE64, c"sendfile64", crate::sendfile64 as *const ()),
        (&SPLICE, c"splice", crate::splice as *const ()),
        (&TEE, c"tee", crate::tee as *const ()),
        (&VMSPLICE, c"vmsplice", crate::vmsplice as *const ()),
    ] {
        let found = next(name);
        if found.cast_const().cast() != own {
            place.store(found, Relaxed);
        }
    }
    // SAFETY: Both are null, or the C library's.
    unsafe { except::load(environment(envp), started_as()) };
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: Initialiser = load;

/// Makes a system call, and sets `errno`.
///
/// # Safety
///
/// As [`sys::call`].
#[cold]
#[inline(never)]
unsafe fn system_call<const N: usize>(number: c_long, args: [usize; N]) -> ssize_t {
    let before = errno();
    // SAFETY: By this function's safety requirements.
    returned(unsafe { sys::call(number, args) }, before)
}

/// Makes the system call of fcntl(2), and sets `errno`.
///
/// The result of `F_GETOWN` is negative for a process group, as an error is. `F_GETOWN_EX` tells
/// them apart. C libraries do the same.
///
/// # Safety
///
/// As [`sys::call`].
#[cold]
#[inline(never)]
unsafe fn system_fcntl([fd, command, arg]: [usize; 3]) -> ssize_t {
    // Of the kernel's uapi/asm-generic/fcntl.h.
    const F_GETOWN_EX: usize = 16;
    const F_OWNER_PGRP: c_int = 2;
    /// `struct f_owner_ex`.
    #[repr(C)]
    struct Owner {
        kind: c_int,
        pid: c_int,
    }

    if command as c_int != libc::F_GETOWN {
        // SAFETY: By this function's safety requirements.
        return unsafe { system_call(libc::SYS_fcntl, [fd, command, arg]) };
    }
    let before = errno();
    let mut owner = Owner { kind: 0, pid: 0 };
    let args = [fd, F_GETOWN_EX, (&raw mut owner) as usize];
    // SAFETY: The kernel writes to the structure of this command.
    let result = unsafe { sys::call(libc::SYS_fcntl, args) };
    let sign = if owner.kind == F_OWNER_PGRP { -1 } else { 1 };
    returned(result.map(|_| (sign * owner.pid) as usize), before)
}

/// Defines a function that calls the one found by `load()`, or else the system call.
macro_rules! real {
    ($place:ident, $number:ident, $name:ident $args:tt -> $ret:ty) => {
        real!($place, |args| system_call(libc::$number, args), $name $args -> $ret);
    };
    ($place:ident, |$args:ident| $system:expr, $name:ident($($arg:ident: $type:ty),*)
        -> $ret:ty) => {
        /// # Safety
        ///
        /// As the C library's.
        #[inline]
        pub(crate) unsafe fn $name($($arg: $type),*) -> $ret {
            type Function = unsafe extern "C" fn($($type),*) -> $ret;

            let found = $place.load(Relaxed);
            if found.is_null() {
                let $args = [$($arg as usize),*];
                // SAFETY: By this function's safety requirements.
                return unsafe { $system } as $ret;
            }
            // SAFETY: It is the function of this name, which has this type.
            let function = unsafe { transmute::<*mut c_void, Function>(found) };
            // SAFETY: By this function's safety requirements.
            unsafe { function($($arg),*) }
        }
    };
}

// Its third argument is a variable one. On this machine that is passed as any other.
real!(FCNTL, |args| system_fcntl(args),
    fcntl(fd: c_int, command: c_int, arg: c_ulong) -> c_int);
real!(FCNTL64, |args| system_fcntl(args),
    fcntl64(fd: c_int, command: c_int, arg: c_ulong) -> c_int);
real!(PIPE, SYS_pipe, pipe(fds: *mut c_int) -> c_int);
real!(PIPE2, SYS_pipe2, pipe2(fds: *mut c_int, flags: c_int) -> c_int);
real!(SENDFILE, SYS_sendfile,
    sendfile(out: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t);
real!(SENDFILE64, SYS_sendfile,
    sendfile64(out: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t);
real!(SPLICE, SYS_splice,
    splice(from: c_int, off_from: *mut off64_t, out: c_int, off_out: *mut off64_t,
        len: size_t, flags: c_uint) -> ssize_t);
real!(TEE, SYS_tee,
    tee(from: c_int, out: c_int, len: size_t, flags: c_uint) -> ssize_t);
real!(VMSPLICE, SYS_vmsplice,
    vmsplice(fd: c_int, iov: *const iovec, segments: size_t, flags: c_uint) -> ssize_t);
