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
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const BROKEN: u8 = 2;

/// An end of a pipe. It owns the descriptor.
#[pyclass(frozen, module = "zpipe_linux._native")]
pub(crate) struct End {
    /// A thread that waits in a call keeps the descriptor open, so its number cannot become that of
    /// another file meanwhile.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    zpipe: bool,
    state: AtomicU8,
}

impl End {
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self {
            zpipe: zpipe_uapi::is_zpipe(fd.as_raw_fd()),
            fd: Mutex::new(Some(Arc::new(fd))),
            state: AtomicU8::new(IDLE),
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
            .compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Ok(Turn {
                end: self,
                fd,
                partial: false,
            }),
            Err(BUSY) => Err(PyRuntimeError::new_err(
                "another thread uses this end of the connection",
            )),
            Err(_) => Err(PyOSError::new_err("an earlier message was interrupted")),
        }
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
            return Err(io::error(py, zpipe_uapi::sys::Errno(libc::EBADF)));
        }
        // SAFETY: It is open. The caller gives it to us.
        Ok(Self::of(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn fileno(&self) -> PyResult<i32> {
        Ok(self.open()?.as_raw_fd())
    }

    fn close(&self) {
        let mut fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        fd.take();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.open().is_err()
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
