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
    range::bounds,
};
use rustix::io::Errno;
use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io::{self, IoSlice, Write},
    ops::RangeBounds,
    os::fd::{AsFd, AsRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    runtime::Handle,
    task::yield_now,
};

/// An end that could not be registered with the runtime, and why.
///
/// ```
/// use zpipe::tokio::{AsyncPipeReader, NotRegistered};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (reader, _writer) = zpipe::pipe()?;
/// match AsyncPipeReader::new(reader) {
///     Ok(reader) => println!("{reader:?} is ready for tasks"),
///     Err(NotRegistered { end, error, .. }) => println!("{error}: {end:?} is for threads only"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NotRegistered<End> {
    /// The end, unchanged.
    pub end: End,
    /// The reason.
    pub error: io::Error,
}

impl<End> fmt::Display for NotRegistered<End> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the end of a pipe was not registered: {}", self.error)
    }
}

// The message has that of `error`, so it is not the source.
impl<End: fmt::Debug> Error for NotRegistered<End> {}

impl<End> From<NotRegistered<End>> for io::Error {
    fn from(not: NotRegistered<End>) -> Self {
        not.error
    }
}

/// An end that is registered with a runtime.
#[derive(Debug)]
struct Registered<End> {
    /// It is dropped before the end, which owns the descriptor.
    fd: Option<AsyncFd<RawFd>>,
    end: End,
    interest: Interest,
    runtime: Handle,
}

/// Registers a descriptor.
///
/// # Safety
///
/// The result must be dropped before the descriptor is closed.
unsafe fn register(
    end: &impl AsRawFd,
    interest: Interest,
    runtime: &Handle,
) -> io::Result<AsyncFd<RawFd>> {
    let _guard = runtime.enter();
    // SAFETY: By this function's safety requirements. A number always returns itself.
    Ok(unsafe { AsyncFd::register_with_interest(end.as_raw_fd(), interest)? })
}

impl<End: AsRawFd> Registered<End> {
    fn new(
        end: End,
        interest: Interest,
        set_nonblocking: impl FnOnce(&End) -> io::Result<()>,
    ) -> Result<Self, NotRegistered<End>> {
        let runtime = Handle::current();
        // SAFETY: If it does not get into the struct, it is dropped here. As to the struct, see
        // `poll()`.
        let fd = unsafe { register(&end, interest, &runtime) };
        match fd.and_then(|fd| set_nonblocking(&end).map(|()| fd)) {
            Ok(fd) => Ok(Self {
                fd: Some(fd),
                end,
                interest,
                runtime,
            }),
            Err(error) => Err(NotRegistered { end, error }),
        }
    }

    fn into_inner(self) -> End {
        let Self { fd, end, .. } = self;
        drop(fd);
        end
    }

    /// Repeats a call whenever the end is ready, until it does not fail with `WouldBlock`.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut call: impl FnMut(&End) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let interest = self.interest;
        loop {
            let fd = match &mut self.fd {
                Some(fd) => fd,
                // SAFETY: The end owns the descriptor. This struct drops the registration first:
                // its fields are in this order, and `into_inner()` does so, too.
                none => none.insert(unsafe { register(&self.end, interest, &self.runtime)? }),
            };
            let mut ready = ready!(if interest.is_readable() {
                fd.poll_read_ready(context)
            } else {
                fd.poll_write_ready(context)
            })?;
            match call(&self.end) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let was = ready.ready();
                    ready.clear_ready();
                    if was.is_read_closed() || was.is_write_closed() {
                        // The other end was closed, and has been opened again. The runtime never
                        // forgets that it was closed: this end would always be ready.
                        self.fd = None;
                    }
                }
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Returns a range of a buffer. `EINVAL` if it has none.
fn part(buffer: &mut HugeBuffer, range: impl RangeBounds<usize>) -> io::Result<&mut [u8]> {
    let (start, len) = bounds(range, buffer.len()).ok_or(Errno::INVAL)?;
    Ok(&mut buffer[start..start + len])
}

/// The read end of a pipe.
///
/// Reads can be cancelled: no bytes are lost.
#[derive(Debug)]
pub struct AsyncPipeReader {
    end: Registered<PipeReader>,
}

impl AsyncPipeReader {
    /// Registers the end with the current runtime, and makes it non-blocking, with all its
    /// duplicates.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O.
    pub fn new(reader: PipeReader) -> Result<Self, NotRegistered<PipeReader>> {
        let set_nonblocking = |end: &PipeReader| end.set_nonblocking(true);
        let end = Registered::new(reader, Interest::READABLE, set_nonblocking)?;
        Ok(Self { end })
    }

    /// The end itself.
    pub fn get_ref(&self) -> &PipeReader {
        &self.end.end
    }

    /// Takes the end out of the runtime. It is still non-blocking.
    ///
    /// ```
    /// use zpipe::{PipeReader, tokio::AsyncPipeReader};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = zpipe::pipe()?;
    /// let reader = AsyncPipeReader::new(reader)?;
    /// assert_eq!(reader.get_ref().available()?, 0);
    /// let reader: PipeReader = reader.into_inner();
    /// reader.set_nonblocking(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_inner(self) -> PipeReader {
        self.end.into_inner()
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
    /// let mut reader = AsyncPipeReader::new(reader)?;
    /// let mut writer = AsyncPipeWriter::new(writer)?;
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
        &mut self,
        buffer: &mut HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: MoveFlags,
    ) -> io::Result<Transfer> {
        let memory = part(buffer, range)?;
        if memory.is_empty() {
            return Ok(Transfer::default());
        }
        let mut read = |reader: &PipeReader| reader.try_move_to(memory, flags);
        poll_fn(|context| self.end.poll(context, &mut read)).await
    }
}

impl AsyncRead for AsyncPipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // SAFETY: read(2) never makes initialized bytes uninitialized.
        let space = unsafe { buffer.unfilled_mut() };
        let read = |reader: &PipeReader| {
            let (bytes, _) = rustix::io::read(reader.as_fd(), &mut *space)?;
            Ok(bytes.len())
        };
        let bytes = ready!(self.end.poll(context, read))?;
        // SAFETY: The kernel has written so many bytes.
        unsafe { buffer.assume_init(bytes) };
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

/// The write end of a pipe.
///
/// One write, also one [`gift_from`](Self::gift_from), can be cancelled: then nothing was written.
/// Futures that write more, such as [`gift_with`](Self::gift_with) or `write_all`, cannot: how much
/// they have written is lost with them.
#[derive(Debug)]
pub struct AsyncPipeWriter {
    end: Registered<PipeWriter>,
}

impl AsyncPipeWriter {
    /// Registers the end with the current runtime, and makes it non-blocking, with all its
    /// duplicates.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    ///
    /// # Panics
    ///
    /// Outside of a runtime with I/O.
    pub fn new(writer: PipeWriter) -> Result<Self, NotRegistered<PipeWriter>> {
        let set_nonblocking = |end: &PipeWriter| end.set_nonblocking(true);
        let end = Registered::new(writer, Interest::WRITABLE, set_nonblocking)?;
        Ok(Self { end })
    }

    /// The end itself.
    pub fn get_ref(&self) -> &PipeWriter {
        &self.end.end
    }

    /// Takes the end out of the runtime. It is still non-blocking. See
    /// [`AsyncPipeReader::into_inner`] for an example.
    pub fn into_inner(self) -> PipeWriter {
        self.end.into_inner()
    }

    /// Writes a range of a buffer: one write(2), which may write less. Huge pages in it may be
    /// gifted, see [`PipeWriter::gift_from`]. It waits if the pipe is full, and can be cancelled.
    ///
    /// ```
    /// use zpipe::tokio::AsyncPipeWriter;
    /// use zpipe::{GiftFlags, HugeBuffer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (_reader, writer) = zpipe::pipe()?;
    /// let mut writer = AsyncPipeWriter::new(writer)?;
    /// let mut buffer = HugeBuffer::new(1)?;
    /// let (mut done, all) = (0, 5000);
    /// while done < all {
    ///     done += writer.gift_from(&mut buffer, done..all, GiftFlags::empty()).await?.done;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As write(2). EINVAL if the buffer has no such range.
    pub async fn gift_from(
        &mut self,
        buffer: &mut HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: GiftFlags,
    ) -> io::Result<Transfer> {
        let memory = part(buffer, range)?;
        if memory.is_empty() {
            return Ok(Transfer::default());
        }
        let mut write = |writer: &PipeWriter| writer.try_gift_from(memory, flags);
        poll_fn(|context| self.end.poll(context, &mut write)).await
    }

    /// See [`PipeWriter::gift_with`], and [`AsyncPipeReader::move_with`] for an example. Other
    /// tasks run between the parts of a large gift.
    ///
    /// It cannot be cancelled: the buffer would be lost, and part of it may have been written. Use
    /// [`gift_from`](Self::gift_from) then.
    ///
    /// # Errors
    ///
    /// As write(2). EINVAL if the buffer has no such range.
    pub async fn gift_with(
        &mut self,
        mut buffer: HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: GiftFlags,
    ) -> Result<Gifted, GiftError> {
        let mut transfer = Transfer::default();
        match self
            .gift_all(&mut buffer, range, flags, &mut transfer)
            .await
        {
            Ok(()) => Ok(Gifted { buffer, transfer }),
            Err(error) => Err(GiftError {
                error,
                buffer,
                transfer,
            }),
        }
    }

    async fn gift_all(
        &mut self,
        buffer: &mut HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: GiftFlags,
        all: &mut Transfer,
    ) -> io::Result<()> {
        let (start, len) = bounds(range, buffer.len()).ok_or(Errno::INVAL)?;
        while all.done < len {
            let rest = start + all.done..start + len;
            let some = self.gift_from(buffer, rest, flags).await?;
            if some.done == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            all.add(&some);
            // With a fast reader, the loop would never wait.
            if all.done < len {
                yield_now().await;
            }
        }
        Ok(())
    }
}

impl AsyncWrite for AsyncPipeWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.end.poll(context, |mut writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |mut writer: &PipeWriter| writer.write_vectored(slices);
        self.end.poll(context, write)
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
