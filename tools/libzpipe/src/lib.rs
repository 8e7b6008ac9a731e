// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crate `zpipe` for programs in C: libzpipe, see libzpipe(3). scripts/libzpipe builds it with
//! cargo-c, which makes the header from the functions of this crate and their comments.
//!
//! # Safety
//!
//! The exported functions require what functions in C usually require. The comments of the types
//! and functions, which get into the header, and libzpipe(3) say so to programs:
//!
//! - A pointer is valid for what the function stores or reads there. It may be null only if the
//!   comment says so.
//! - Memory that is gifted or moved is accessible, and nobody else accesses it during the call.
//! - A window was made by this library and not freed, and no other thread uses it at the same time.
//! - Nothing refers to bytes of a window that were committed or consumed, or to memory that was
//!   freed.

// The comments are for programs in C. All requirements are above.
#![allow(clippy::missing_safety_doc)]

mod memory;
mod pipe;
mod window;

use libc::{c_int, ssize_t};
use std::io;

/// Sets `errno` of the calling thread.
fn set_errno(error: &io::Error) {
    // Errors that are not of the system cannot occur here.
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: It is the address of the calling thread's number.
    unsafe { *libc::__errno_location() = number };
}

/// Returns 0, or -1 with `errno` set.
fn status(result: io::Result<()>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            set_errno(&error);
            -1
        }
    }
}

/// Returns a number, or -1 with `errno` set.
fn count(result: io::Result<usize>) -> ssize_t {
    match result {
        // BOUNDS: No call transfers more than isize::MAX bytes.
        Ok(bytes) => bytes as ssize_t,
        Err(error) => {
            set_errno(&error);
            -1
        }
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}
