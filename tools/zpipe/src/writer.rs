// SPDX-License-Identifier: MIT OR Apache-2.0

//! The write end.

use crate::{
    Builder,
    end::{End, end},
};
use rustix::fs::OFlags;
use std::{
    io::{self, IoSlice, Write},
    path::Path,
};

/// The write end of a pipe.
///
/// A write to a pipe that has no reader fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe), unless the program handles SIGPIPE itself.
///
/// ```
/// use std::io::{ErrorKind, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, mut writer) = zpipe::pipe()?;
/// writer.write_all(b"hello")?;
/// drop(reader);
/// let error = writer.write(b"nobody reads this").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BrokenPipe);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PipeWriter {
    pub(crate) end: End,
}

end!(PipeWriter, OFlags::RDONLY);

impl PipeWriter {
    /// Opens a node such as `/dev/zpipe` for writing. As for a FIFO, it waits for a reader. See
    /// [`PipeReader::open`](crate::PipeReader::open) for an example.
    ///
    /// # Errors
    ///
    /// As open(2). ENOTTY if it is not a zpipe.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Builder::new().open_writer(path)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.end.fd(), bytes)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let most = slices.len().min(crate::sys::IOV_MAX);
        Ok(rustix::io::writev(self.end.fd(), &slices[..most])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
