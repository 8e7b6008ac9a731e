// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ends of pipes for tokio. The module needs the feature `tokio`.
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use zpipe::tokio::{AsyncPipeReader, AsyncPipeWriter};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (reader, writer) = zpipe::pipe()?;
//! let mut reader = AsyncPipeReader::new(reader)?;
//! let mut writer = AsyncPipeWriter::new(writer)?;
//! let task = tokio::spawn(async move { writer.write_all(&[1; 1 << 20]).await });
//! let mut bytes = Vec::new();
//! reader.read_to_end(&mut bytes).await?;
//! assert_eq!(bytes, [1; 1 << 20]);
//! task.await?
//! # }
//! ```

use crate::{
    GiftError, GiftFlags, Gifted, HugeBuffer, MoveFlags, PipeReader, PipeWriter, Transfer,
};
use std::{
    io::{self, IoSlice, Write},
    ops::RangeBounds,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// The read end of a pipe.
///
/// Reads can be cancelled: no bytes are lost.
#[derive(Debug)]
pub struct AsyncPipeReader {
    fd: AsyncFd<PipeReader>,
}

impl AsyncPipeReader {
    /// Makes the end non-blocking, with all its duplicates, and registers it with the runtime.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O.
    pub fn new(reader: PipeReader) -> io::Result<Self> {
        reader.set_nonblocking(true)?;
        // SAFETY: The end owns its descriptor, and only gives it up when it is consumed.
        let fd = unsafe { AsyncFd::register_with_interest(reader, Interest::READABLE)? };
        Ok(Self { fd })
    }

    /// The end itself.
    pub fn get_ref(&self) -> &PipeReader {
        self.fd.get_ref()
    }

    /// Takes the end out of the runtime. It is still non-blocking.
    pub fn into_inner(self) -> PipeReader {
        self.fd.into_inner()
    }

    /// See [`PipeReader::move_with`]. It waits if the pipe is empty, and can be cancelled.
    ///
    /// ```
    /// use zpipe::{GiftFlags, HUGE_PAGE, HugeBuffer, MoveFlags};
    /// use zpipe::tokio::{AsyncPipeReader, AsyncPipeWriter};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (reader, writer) = zpipe::pipe()?;
    /// let reader = AsyncPipeReader::new(reader)?;
    /// let writer = AsyncPipeWriter::new(writer)?;
    /// let mut buffer = HugeBuffer::new(HUGE_PAGE)?;
    /// buffer.fill(3);
    /// let gift = tokio::spawn(async move { writer.gift_with(buffer, .., GiftFlags::ANY).await });
    /// let mut buffer = HugeBuffer::new(HUGE_PAGE)?;
    /// let mut bytes = 0;
    /// while bytes < HUGE_PAGE {
    ///     bytes += reader.move_with(&mut buffer, bytes.., MoveFlags::RETURN).await?.done;
    /// }
    /// assert_eq!(buffer[HUGE_PAGE - 1], 3);
    /// gift.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2). EINVAL if the buffer has no such range.
    pub async fn move_with(
        &self,
        buffer: &mut HugeBuffer,
        range: impl RangeBounds<usize> + Clone,
        flags: MoveFlags,
    ) -> io::Result<Transfer> {
        let read =
            |reader: &PipeReader| uninterrupted(|| reader.move_with(buffer, range.clone(), flags));
        self.fd.async_io(Interest::READABLE, read).await
    }
}

impl AsyncRead for AsyncPipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(context))?;
            // SAFETY: read(2) never makes initialized bytes uninitialized.
            let space = unsafe { buffer.unfilled_mut() };
            let read = |fd: &AsyncFd<PipeReader>| {
                uninterrupted(|| {
                    let (bytes, _) = rustix::io::read(fd.get_ref().as_fd(), &mut *space)?;
                    Ok(bytes.len())
                })
            };
            if let Ok(result) = ready.try_io(read) {
                let bytes = result?;
                // SAFETY: The kernel has written so many bytes.
                unsafe { buffer.assume_init(bytes) };
                buffer.advance(bytes);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The write end of a pipe.
///
/// Writes can be cancelled: either all bytes that a write reports were written, or none.
#[derive(Debug)]
pub struct AsyncPipeWriter {
    fd: AsyncFd<PipeWriter>,
}

impl AsyncPipeWriter {
    /// Makes the end non-blocking, with all its duplicates, and registers it with the runtime.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O.
    pub fn new(writer: PipeWriter) -> io::Result<Self> {
        writer.set_nonblocking(true)?;
        // SAFETY: The end owns its descriptor, and only gives it up when it is consumed.
        let fd = unsafe { AsyncFd::register_with_interest(writer, Interest::WRITABLE)? };
        Ok(Self { fd })
    }

    /// The end itself.
    pub fn get_ref(&self) -> &PipeWriter {
        self.fd.get_ref()
    }

    /// Takes the end out of the runtime. It is still non-blocking.
    pub fn into_inner(self) -> PipeWriter {
        self.fd.into_inner()
    }

    /// See [`PipeWriter::gift_with`], and [`AsyncPipeReader::move_with`] for an example.
    ///
    /// If it is cancelled, the buffer is lost, and part of it may have been written.
    ///
    /// # Errors
    ///
    /// As write(2), except EAGAIN. EINVAL if the buffer has no such range.
    pub async fn gift_with(
        &self,
        mut buffer: HugeBuffer,
        range: impl RangeBounds<usize> + Clone,
        flags: GiftFlags,
    ) -> Result<Gifted, GiftError> {
        let mut transfer = Transfer::default();
        let write =
            |writer: &PipeWriter| writer.gift_all(&mut buffer, range.clone(), flags, &mut transfer);
        match self.fd.async_io(Interest::WRITABLE, write).await {
            Ok(()) => Ok(Gifted { buffer, transfer }),
            Err(error) => Err(GiftError {
                error,
                buffer,
                transfer,
            }),
        }
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&PipeWriter) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_write_ready(context))?;
            let once = |fd: &AsyncFd<PipeWriter>| uninterrupted(|| write(fd.get_ref()));
            if let Ok(result) = ready.try_io(once) {
                return Poll::Ready(result);
            }
        }
    }
}

impl AsyncWrite for AsyncPipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |mut writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |mut writer| writer.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Dropping the writer ends the data, and nothing else does.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result,
        }
    }
}
