// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe_linux._native`: the ends of a pipe, and memory that can be given away.
//!
//! The Python part of the package pickles, and follows multiprocessing. This part makes the
//! system calls, without the lock of the interpreter, and knows the format of messages.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod block;
mod end;
mod io;
mod message;

use pyo3::prelude::*;
use std::{
    io::Error,
    os::fd::{FromRawFd, OwnedFd},
};

/// Makes a pipe and returns its read end and its write end. It is one of the kernel's own if the
/// module is not there, unless `require` is set.
#[pyfunction]
fn pair(py: Python<'_>, require: bool) -> PyResult<(end::End, end::End)> {
    let mut fds = match zpipe_uapi::pipe2(libc::O_CLOEXEC) {
        Ok(fds) => fds,
        Err(error) if require => return Err(io::error(py, error)),
        Err(_) => [-1; 2],
    };
    // SAFETY: It writes two numbers.
    if fds[0] < 0 && unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        let errno = Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(io::error(py, zpipe_uapi::sys::Errno(errno)));
    }
    // SAFETY: The descriptors are new, and ours.
    let [read, write] = fds.map(|fd| end::End::of(unsafe { OwnedFd::from_raw_fd(fd) }));
    Ok((read, write))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    end::count_generations().map_err(|errno| io::error(module.py(), errno))?;
    module.add_class::<block::Block>()?;
    module.add_class::<end::End>()?;
    module.add("BadMessage", module.py().get_type::<message::BadMessage>())?;
    module.add("MAX_BUFFERS", message::MAX_BUFFERS)?;
    module.add_function(wrap_pyfunction!(pair, module)?)
}
