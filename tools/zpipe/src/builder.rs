// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pipes with flags.

use crate::{
    PipeReader, PipeWriter,
    end::End,
    sys::{self, bindings},
};
use rustix::{
    fs::{Mode, OFlags},
    pipe::PipeFlags,
};
use std::{io, os::fd::OwnedFd, path::Path};

/// Makes pipes with flags and a capacity, and opens nodes. All descriptors are close-on-exec.
///
/// ```
/// use std::io::{ErrorKind, Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (mut reader, mut writer) = zpipe::Builder::new()
///     .nonblocking(true)
///     .packets(true)
///     .capacity(1 << 20)
///     .pipe()?;
/// assert_eq!(writer.capacity()?, 1 << 20);
/// writer.write_all(b"one")?;
/// writer.write_all(b"two")?;
/// let mut bytes = [0; 100];
/// assert_eq!(reader.read(&mut bytes)?, 3);
/// assert_eq!(reader.read(&mut bytes)?, 3);
/// assert_eq!(reader.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    nonblocking: bool,
    packets: bool,
    buffer_only: bool,
    capacity: Option<usize>,
}

impl Builder {
    /// A pipe without flags and with the default capacity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting (`O_NONBLOCK`).
    pub fn nonblocking(&mut self, nonblocking: bool) -> &mut Self {
        self.nonblocking = nonblocking;
        self
    }

    /// Each write is a packet, and each read reads one (`O_DIRECT`, see pipe(2)).
    pub fn packets(&mut self, packets: bool) -> &mut Self {
        self.packets = packets;
        self
    }

    /// All bytes pass through memory of the pipe itself (`ZPIPE_BUFFER_ONLY`). It is for readers
    /// that do not trust their writers.
    ///
    /// Of a node, only [`Builder::open_reader`] can set it.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = zpipe::Builder::new().buffer_only(true).pipe()?;
    /// assert!(reader.is_buffer_only()?);
    /// reader.set_buffer_only(false)?;
    /// assert!(!reader.is_buffer_only()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn buffer_only(&mut self, buffer_only: bool) -> &mut Self {
        self.buffer_only = buffer_only;
        self
    }

    /// The capacity in bytes. It is rounded up to a power of two pages.
    pub fn capacity(&mut self, bytes: usize) -> &mut Self {
        self.capacity = Some(bytes);
        self
    }

    /// Makes a private pipe.
    ///
    /// # Errors
    ///
    /// As pipe2(2), as open(2) of `/dev/zpipe-control` if zpipe is not loaded, and as
    /// [`PipeReader::set_capacity`].
    pub fn pipe(&self) -> io::Result<(PipeReader, PipeWriter)> {
        self.ends(self.zpipe()?)
    }

    /// Makes a private pipe with zpipe, or else one of the kernel's own. See
    /// [`pipe_or_std`](crate::pipe_or_std).
    ///
    /// # Errors
    ///
    /// As pipe2(2), and as [`PipeReader::set_capacity`].
    pub fn pipe_or_std(&self) -> io::Result<(PipeReader, PipeWriter)> {
        match self.zpipe() {
            Ok(fds) => self.ends(fds),
            Err(_) => self.ends(rustix::pipe::pipe_with(self.pipe_flags())?),
        }
    }

    fn zpipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let mut flags = self.pipe_flags().bits();
        if self.buffer_only {
            flags |= bindings::ZPIPE_BUFFER_ONLY;
        }
        sys::pipe2(flags)
    }

    fn pipe_flags(&self) -> PipeFlags {
        let mut flags = PipeFlags::CLOEXEC;
        flags.set(PipeFlags::NONBLOCK, self.nonblocking);
        flags.set(PipeFlags::DIRECT, self.packets);
        flags
    }

    fn ends(&self, (read, write): (OwnedFd, OwnedFd)) -> io::Result<(PipeReader, PipeWriter)> {
        let (read, write) = (End::of(read), End::of(write));
        if let Some(bytes) = self.capacity {
            read.set_capacity(bytes)?;
        }
        Ok((PipeReader { end: read }, PipeWriter { end: write }))
    }

    /// Opens a node for reading. If it may wait, it waits for a writer.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut builder = zpipe::Builder::new();
    /// builder.nonblocking(true);
    /// let reader = builder.open_reader("/dev/zpipe")?;
    /// // There is a reader: otherwise this would fail.
    /// let writer = builder.open_writer("/dev/zpipe")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As open(2), and as [`PipeReader::set_capacity`]. ENOTTY if it is not a zpipe.
    pub fn open_reader(&self, path: impl AsRef<Path>) -> io::Result<PipeReader> {
        let reader = PipeReader::try_from(self.open(path.as_ref(), OFlags::RDONLY)?)?;
        if self.buffer_only {
            reader.set_buffer_only(true)?;
        }
        self.set_up(&reader.end)?;
        Ok(reader)
    }

    /// Opens a node for writing. If it may wait, it waits for a reader. See
    /// [`Builder::open_reader`] for an example.
    ///
    /// # Errors
    ///
    /// As open(2): ENXIO if there is no reader and it must not wait. As
    /// [`PipeReader::set_capacity`]. ENOTTY if it is not a zpipe. EBADF if the pipe should be
    /// buffer-only, which only a reader can set.
    pub fn open_writer(&self, path: impl AsRef<Path>) -> io::Result<PipeWriter> {
        if self.buffer_only {
            return Err(rustix::io::Errno::BADF.into());
        }
        let writer = PipeWriter::try_from(self.open(path.as_ref(), OFlags::WRONLY)?)?;
        self.set_up(&writer.end)?;
        Ok(writer)
    }

    fn open(&self, path: &Path, mut flags: OFlags) -> io::Result<OwnedFd> {
        flags |= OFlags::CLOEXEC | OFlags::NOCTTY;
        flags.set(OFlags::NONBLOCK, self.nonblocking);
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn set_up(&self, end: &End) -> io::Result<()> {
        if self.packets {
            end.set_status(OFlags::DIRECT, true)?;
        }
        if let Some(bytes) = self.capacity {
            end.set_capacity(bytes)?;
        }
        Ok(())
    }
}
