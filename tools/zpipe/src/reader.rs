// SPDX-License-Identifier: MIT OR Apache-2.0

//! The read end.

use crate::{
    Builder,
    end::{End, end},
};
use rustix::fs::OFlags;
use std::{
    io::{self, IoSliceMut, Read},
    path::Path,
};

/// The read end of a pipe.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, mut writer) = zpipe::pipe()?;
/// writer.write_all(b"one\ntwo\n")?;
/// assert_eq!(reader.available()?, 8);
/// drop(writer);
/// let lines = BufReader::new(reader).lines().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(lines, ["one", "two"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PipeReader {
    pub(crate) end: End,
}

end!(PipeReader, OFlags::WRONLY);

impl PipeReader {
    /// Opens a node such as `/dev/zpipe` for reading. As for a FIFO, it waits for a writer.
    ///
    /// ```
    /// use std::{io::{self, Read, Write}, thread};
    /// use zpipe::{PipeReader, PipeWriter};
    ///
    /// # fn main() -> io::Result<()> {
    /// let writer = thread::spawn(|| PipeWriter::open("/dev/zpipe")?.write_all(b"hello"));
    /// let mut reader = PipeReader::open("/dev/zpipe")?;
    /// assert_eq!(io::read_to_string(&mut reader)?, "hello");
    /// writer.join().unwrap()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As open(2). ENOTTY if it is not a zpipe.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Builder::new().open_reader(path)
    }

    /// Sets whether all bytes have to pass through memory of the pipe itself. See
    /// [`Builder::buffer_only`].
    ///
    /// # Errors
    ///
    /// ENOTTY for a pipe of the kernel's own, which always does so.
    pub fn set_buffer_only(&self, buffer_only: bool) -> io::Result<()> {
        self.end.set_buffer_only(buffer_only)
    }
}

impl Read for &PipeReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.end.fd(), bytes)?)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let most = slices.len().min(crate::sys::IOV_MAX);
        Ok(rustix::io::readv(self.end.fd(), &mut slices[..most])?)
    }
}

impl Read for PipeReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self).read(bytes)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(slices)
    }
}
