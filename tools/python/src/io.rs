// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls that wait without the lock of the interpreter, and can be interrupted.

use pyo3::{exceptions::PyOSError, ffi, prelude::*};
use std::mem;
use zpipe_uapi::{
    gift,
    sys::{self, Errno},
};

/// The `OSError` of an error number: of the subclass that Python has for it.
pub(crate) fn error(py: Python<'_>, Errno(errno): Errno) -> PyErr {
    let text = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (errno,)))
        .and_then(|text| text.extract::<String>());
    match text {
        Ok(text) => PyOSError::new_err((errno, text)),
        Err(error) => error,
    }
}

// PyO3 declares it without the unwinding.
unsafe extern "C-unwind" {
    fn PyEval_RestoreThread(state: *mut ffi::PyThreadState);
}

/// Stops the thread for ever when it is dropped.
struct Park;

impl Drop for Park {
    fn drop(&mut self) {
        loop {
            // SAFETY: It has no effect but to wait.
            unsafe { libc::pause() };
        }
    }
}

/// Makes a system call without the lock of the interpreter.
///
/// It is as [`Python::detach`], except when the interpreter ends meanwhile. CPython before 3.14
/// then ends the thread, by unwinding its stack. Frames of Rust cannot be unwound so, and the
/// process would abort. So the thread stops here, as it does with CPython 3.14.
fn detached<T>(_py: Python<'_>, call: impl FnOnce() -> T) -> T {
    // SAFETY: The thread has the lock, and gets it back before anything of Python is used.
    let state = unsafe { ffi::PyEval_SaveThread() };
    let got = call();
    let park = Park;
    // SAFETY: The state is that of this thread. If the call unwinds, `park` does not let it leave
    // this function, and no destructor runs before that of `park`.
    unsafe { PyEval_RestoreThread(state) };
    mem::forget(park);
    got
}

/// Makes a system call. After a signal it runs the handlers of Python, and tries again unless one
/// of them raised an exception.
fn interruptible(py: Python<'_>, call: impl Fn() -> Result<usize, Errno>) -> PyResult<usize> {
    loop {
        match detached(py, &call) {
            Ok(done) => return Ok(done),
            Err(Errno(libc::EINTR)) => py.check_signals()?,
            Err(errno) => return Err(error(py, errno)),
        }
    }
}

/// How bytes get to and from a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// They are copied once or twice: write(2), read(2).
    Plain,
    /// Whole huge pages change their owner, if the pipe is a zpipe.
    Pages,
}

/// Writes up to `len` bytes at the address `base`, and returns how many.
///
/// # Safety
///
/// With [`How::Pages`], the bytes of the memory may change.
pub(crate) unsafe fn write(
    py: Python<'_>,
    fd: i32,
    base: usize,
    len: usize,
    how: How,
) -> PyResult<usize> {
    // The reader moves what is given: see the format of messages.
    let flags = gift::ANY | gift::ALWAYS;
    interruptible(py, || match how {
        // SAFETY: The kernel only reads the memory, and checks the address.
        How::Plain => unsafe { sys::call(libc::SYS_write, [fd as usize, base, len]) },
        // SAFETY: By this function's safety requirements.
        How::Pages => unsafe { gift::gift(fd, base, len, flags) }.map(|sent| sent.done),
    })
}

/// Reads up to `len` bytes to the address `base`, and returns how many. 0 is the end of the data.
///
/// # Safety
///
/// The memory must be the caller's, for stores.
pub(crate) unsafe fn read(
    py: Python<'_>,
    fd: i32,
    base: usize,
    len: usize,
    how: How,
) -> PyResult<usize> {
    interruptible(py, || match how {
        // SAFETY: By this function's safety requirements.
        How::Plain => unsafe { sys::call(libc::SYS_read, [fd as usize, base, len]) },
        // SAFETY: By this function's safety requirements.
        How::Pages => unsafe { gift::take(fd, base, len, gift::RETURN) }.map(|got| got.done),
    })
}
