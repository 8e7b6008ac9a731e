// SPDX-License-Identifier: MIT OR Apache-2.0

//! One end of a pipe.

use crate::{
    io::{self, How},
    message,
};
use pyo3::{
    buffer::PyBuffer,
    exceptions::{PyOSError, PyRuntimeError},
    prelude::*,
    types::PyBytes,
};
use std::{
    mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use zpipe_uapi::sys::Errno;

/// The states of an end. From `BUSY` on, a thread of the process of a generation is in a call.
const IDLE: u32 = 0;
const BROKEN: u32 = 1;
const BUSY: u32 = 2;

/// How many calls of fork(2) lead from the process that loaded this library to this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The state of an end that a thread of this process uses.
fn busy() -> u32 {
    BUSY.saturating_add(GENERATION.load(Ordering::Relaxed))
}

/// Begins to count the generations.
pub(crate) fn count_generations() -> Result<(), Errno> {
    extern "C" fn forked() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: The function may run at any time. The interpreter never unloads this library.
    match unsafe { libc::pthread_atfork(None, None, Some(forked)) } {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

/// An end of a pipe. It owns the descriptor.
#[pyclass(frozen, module = "zpipe_linux._native")]
pub(crate) struct End {
    /// A thread that waits in a call keeps the descriptor open, so its number cannot become that of
    /// another file meanwhile.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    zpipe: bool,
    state: AtomicU32,
}

impl End {
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self {
            zpipe: zpipe_uapi::is_zpipe(fd.as_raw_fd()),
            fd: Mutex::new(Some(Arc::new(fd))),
            state: AtomicU32::new(IDLE),
        }
    }

    fn open(&self) -> PyResult<Arc<OwnedFd>> {
        let fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        fd.clone()
            .ok_or_else(|| PyOSError::new_err("handle is closed"))
    }

    /// Begins a message. Only one thread at a time can do so.
    fn begin(&self) -> PyResult<Turn<'_>> {
        let fd = self.open()?;
        match self
            .state
            .compare_exchange(IDLE, busy(), Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Ok(Turn {
                end: self,
                fd,
                partial: false,
            }),
            Err(BROKEN) => Err(PyOSError::new_err("an earlier message was interrupted")),
            Err(_) if self.inherited_call() => Err(PyOSError::new_err(
                "an earlier message was interrupted: a thread was in a call at the fork",
            )),
            Err(_) => Err(PyRuntimeError::new_err(
                "another thread uses this end of the connection",
            )),
        }
    }

    /// True if a thread of the parent was in a call when this process was forked. It has no thread
    /// here to end the call, and nobody knows how much of the message has passed.
    fn inherited_call(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state >= BUSY && state != busy()
    }
}

/// The transfer of one message. If it ends in the middle of the message, no other can follow.
pub(crate) struct Turn<'end> {
    end: &'end End,
    fd: Arc<OwnedFd>,
    partial: bool,
}

impl Turn<'_> {
    /// Writes all of the memory.
    ///
    /// # Safety
    ///
    /// The memory must not be unmapped meanwhile. With [`How::Pages`], its bytes may change.
    pub(crate) unsafe fn write(
        &mut self,
        py: Python<'_>,
        base: usize,
        len: usize,
        how: How,
    ) -> PyResult<()> {
        let mut done = 0;
        while done < len {
            // SAFETY: By this function's safety requirements.
            done += unsafe {
                io::write(
                    py,
                    self.fd.as_raw_fd(),
                    base + done,
                    len - done,
                    self.how(how),
                )?
            };
            self.partial = true;
            // A signal may have ended the call early.
            if done < len {
                py.check_signals()?;
            }
        }
        Ok(())
    }

    /// Fills the memory. Returns false if the data ends before the first byte of the message.
    ///
    /// # Safety
    ///
    /// The memory must be the caller's, for stores, until this returns.
    pub(crate) unsafe fn read(
        &mut self,
        py: Python<'_>,
        base: usize,
        len: usize,
        how: How,
    ) -> PyResult<bool> {
        let mut done = 0;
        while done < len {
            // SAFETY: By this function's safety requirements.
            match unsafe {
                io::read(
                    py,
                    self.fd.as_raw_fd(),
                    base + done,
                    len - done,
                    self.how(how),
                )?
            } {
                0 if !self.partial => return Ok(false),
                0 => return Err(PyOSError::new_err("got end of file during message")),
                got => done += got,
            }
            self.partial = true;
            if done < len {
                py.check_signals()?;
            }
        }
        Ok(true)
    }

    /// The message is complete.
    pub(crate) fn complete(&mut self) {
        self.partial = false;
    }

    fn how(&self, how: How) -> How {
        if self.end.zpipe { how } else { How::Plain }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let state = if self.partial { BROKEN } else { IDLE };
        self.end.state.store(state, Ordering::Release);
    }
}

#[pymethods]
impl End {
    /// Takes over a descriptor.
    #[new]
    fn new(py: Python<'_>, fd: i32) -> PyResult<Self> {
        // It also checks the number. A descriptor is not close-on-exec if a new program got it.
        // SAFETY: It changes a flag of a descriptor.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::error(py, Errno(libc::EBADF)));
        }
        // SAFETY: It is open. The caller gives it to us.
        Ok(Self::of(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn fileno(&self) -> PyResult<i32> {
        Ok(self.open()?.as_raw_fd())
    }

    fn close(&self) {
        let mut fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fd) = fd.take() else {
            return;
        };
        if self.inherited_call() {
            // The reference of that call is never dropped, and there is no call of this process.
            let number = fd.as_raw_fd();
            mem::forget(fd);
            // SAFETY: Nobody uses the descriptor any more. All references to it are lost.
            unsafe { libc::close(number) };
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.open().is_err()
    }

    /// True if nothing more can pass, since a message was interrupted.
    #[getter]
    fn interrupted(&self) -> bool {
        self.state.load(Ordering::Acquire) == BROKEN || self.inherited_call()
    }

    #[getter]
    fn is_zpipe(&self) -> bool {
        self.zpipe
    }

    /// Sends a message.
    fn send(
        &self,
        py: Python<'_>,
        data: PyBuffer<u8>,
        buffers: Vec<PyBuffer<u8>>,
        give: bool,
    ) -> PyResult<()> {
        message::send(py, &mut self.begin()?, &data, &buffers, give)
    }

    /// Receives a message: the data, and the buffers.
    #[pyo3(signature = (max_length, buffers))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        max_length: Option<usize>,
        buffers: bool,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<Bound<'py, PyAny>>)> {
        message::recv(py, &mut self.begin()?, max_length, buffers)
    }

    /// Receives a message into memory, and returns its length. If it is too long for that, returns
    /// it as an object.
    fn recv_into<'py>(&self, py: Python<'py>, buffer: PyBuffer<u8>) -> PyResult<Bound<'py, PyAny>> {
        message::recv_into(py, &mut self.begin()?, &buffer)
    }
}
