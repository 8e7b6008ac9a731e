// SPDX-License-Identifier: MIT OR Apache-2.0

//! The window of a writer.

use crate::{
    Reason,
    range::bounds,
    sys::{bindings, size},
    transfer::reasons,
    window::memory::Memory,
};
use rustix::{io::Errno, mm::ProtFlags};
use std::{
    error::Error,
    fmt, io,
    ops::{Deref, DerefMut, RangeBounds},
    os::fd::AsFd,
};

/// A window that a writer fills and commits.
///
/// It counts as a write end of the pipe until it is dropped.
#[derive(Debug)]
pub struct WriteWindow {
    memory: Memory,
    flags: u32,
}

impl WriteWindow {
    /// Makes a window of at least `bytes` bytes at the write end of a pipe.
    ///
    /// `bytes` is rounded up to whole frames. The end may be closed afterwards.
    ///
    /// # Errors
    ///
    /// ENOTTY if `end` is not a zpipe, EBADF if it is not open for writing, EINVAL if
    /// `bytes` is 0 or too large, and others, see zpipe(4).
    pub fn new(end: impl AsFd, bytes: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let memory = Memory::new(end.as_fd(), bindings::ZPIPE_WINDOW_WRITE, bytes, access)?;
        Ok(Self::of(memory))
    }

    pub(crate) fn of(memory: Memory) -> Self {
        Self { memory, flags: 0 }
    }

    /// The size of the window in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Sets whether commits fail with [`io::ErrorKind::WouldBlock`] instead of waiting. If
    /// true, they do so whatever the flags of the pipe's end are.
    ///
    /// A window cannot be polled. To wait for space, keep the pipe's end and poll(2) that one.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flags = if nonblocking {
            bindings::ZPIPE_NONBLOCK
        } else {
            0
        };
    }

    /// Allocates the memory of a range, so that the caller can fill and commit it.
    ///
    /// The range holds the bytes that were stored there before. In frames that were
    /// committed it holds zeros, or bytes of any other frame that this window had.
    ///
    /// Committed bytes are no longer accessible:
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// # let (_, write) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::WriteWindow::new(&write, zpipe::window::FRAME)?;
    /// let mut reservation = window.reserve(..)?;
    /// let bytes = &mut reservation[..];
    /// bytes[0] = 1;
    /// reservation.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0505
    /// # fn main() -> std::io::Result<()> {
    /// # let (_, write) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::WriteWindow::new(&write, zpipe::window::FRAME)?;
    /// let mut reservation = window.reserve(..)?;
    /// let bytes = &mut reservation[..];
    /// reservation.commit()?;
    /// bytes[0] = 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Two reservations cannot exist at the same time, since they might overlap:
    ///
    /// ```compile_fail,E0499
    /// # fn main() -> std::io::Result<()> {
    /// # let (_, write) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::WriteWindow::new(&write, zpipe::window::FRAME)?;
    /// let mut one = window.reserve(..)?;
    /// let mut other = window.reserve(..)?;
    /// one[0] = 1;
    /// other[0] = 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no memory for the range, EINVAL if the window has no such range.
    pub fn reserve(&mut self, range: impl RangeBounds<usize>) -> io::Result<Reservation<'_>> {
        let (start, len) = bounds(range, self.memory.len()).ok_or(Errno::INVAL)?;
        if len != 0 {
            let mut args = bindings::zpipe_reserve {
                size: size::<bindings::zpipe_reserve>(),
                flags: 0,
                offset: start as u64,
                bytes: len as u64,
            };
            // SAFETY: The command takes this struct, and we have the only reference to the
            // window.
            unsafe { self.memory.call::<{ bindings::RESERVE }, _>(&mut args)? };
        }
        Ok(Reservation {
            window: self,
            start,
            len,
        })
    }

    /// Commits a range that was reserved before, after its [`Reservation`] is gone.
    ///
    /// [`Reservation::commit`] does the same, if the reservation still exists.
    ///
    /// ```
    /// use std::io::Read;
    /// use zpipe::window::{FRAME, WriteWindow};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (mut reader, writer) = zpipe::pipe()?;
    /// let mut window = WriteWindow::new(&writer, FRAME)?;
    /// window.reserve(..5)?.copy_from_slice(b"hello");
    /// assert_eq!(window.commit(..5)?.done, 5);
    /// let mut bytes = [0; 5];
    /// reader.read_exact(&mut bytes)?;
    /// assert_eq!(&bytes, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As write(2). EINVAL if the window has no such range.
    pub fn commit(&mut self, range: impl RangeBounds<usize>) -> io::Result<Committed> {
        let (start, len) = bounds(range, self.memory.len()).ok_or(Errno::INVAL)?;
        self.commit_bytes(start, len)
    }

    /// Commits bytes of the window. Whole frames may leave the window.
    fn commit_bytes(&mut self, start: usize, len: usize) -> io::Result<Committed> {
        if len == 0 {
            return Ok(Committed::default());
        }
        let mut args = bindings::zpipe_commit {
            size: size::<bindings::zpipe_commit>(),
            flags: self.flags,
            offset: start as u64,
            bytes: len as u64,
            ..Default::default()
        };
        // SAFETY: The command takes this struct, and we have the only reference to the
        // window.
        unsafe { self.memory.call::<{ bindings::COMMIT }, _>(&mut args)? };
        Ok(Committed {
            done: args.done as usize,
            moved: args.moved as usize,
            copied: args.copied as usize,
            why: args.why,
        })
    }
}

/// The result of a commit.
///
/// ```
/// use zpipe::Reason;
/// use zpipe::window::{Committed, FRAME, WriteWindow};
///
/// # fn main() -> std::io::Result<()> {
/// let (_reader, writer) = zpipe::pipe()?;
/// let mut window = WriteWindow::new(&writer, FRAME)?;
/// let committed: Committed = window.reserve(..100)?.commit()?;
/// assert_eq!((committed.moved, committed.copied), (0, 100));
/// assert_eq!(committed.reasons().collect::<Vec<_>>(), [(Reason::Part, 1)]);
/// assert_eq!(committed.why()[Reason::Part as usize], 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Number of bytes that were written, from the first one on.
    pub done: usize,
    /// Of these, bytes of frames that left the window.
    pub moved: usize,
    /// Of these, bytes that were copied.
    pub copied: usize,
    why: [u32; bindings::ZPIPE_REASONS as usize],
}

impl Committed {
    /// The number of copied pieces for each [`Reason`], as `why` of zpipe(4).
    pub fn why(&self) -> &[u32] {
        &self.why
    }

    /// The reasons why bytes were copied, with the number of pieces for each.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u32)> + '_ {
        reasons(&self.why)
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.moved += other.moved;
        self.copied += other.copied;
        for (sum, pieces) in self.why.iter_mut().zip(other.why) {
            *sum = sum.saturating_add(pieces);
        }
    }
}

/// A reservation that [`Reservation::commit_all`] did not write, or only in part.
///
/// ```
/// use std::io::ErrorKind;
/// use zpipe::window::{FRAME, WriteWindow};
///
/// # fn main() -> std::io::Result<()> {
/// let (_reader, writer) = zpipe::Builder::new().capacity(1 << 16).pipe()?;
/// let mut window = WriteWindow::new(&writer, FRAME)?;
/// window.set_nonblocking(true);
/// // A small part of a frame is copied, and needs space.
/// let error = window.reserve(..100_000)?.commit_all().unwrap_err();
/// assert_eq!(error.error.kind(), ErrorKind::WouldBlock);
/// let rest = error.committed.done..100_000;
/// assert_eq!(rest.len(), 100_000 - (1 << 16));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitError {
    /// The reason.
    pub error: io::Error,
    /// What was written before the error: the first [`Committed::done`] bytes of the reservation.
    pub committed: Committed,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, error) = (self.committed.done, &self.error);
        write!(f, "commit ended after {done} bytes: {error}")
    }
}

// The message has that of `error`, so it is not the source.
impl Error for CommitError {}

impl From<CommitError> for io::Error {
    fn from(error: CommitError) -> Self {
        error.error
    }
}

/// Memory of a [`WriteWindow`] that can be filled.
///
/// Dropping a reservation sends nothing, and the bytes stay in the window.
///
/// ```
/// use zpipe::window::{FRAME, Reservation, WriteWindow};
///
/// # fn main() -> std::io::Result<()> {
/// let (_reader, writer) = zpipe::pipe()?;
/// let mut window = WriteWindow::new(&writer, FRAME)?;
/// let mut space: Reservation<'_> = window.reserve(..)?;
/// let bytes = b"less than there is space for";
/// space[..bytes.len()].copy_from_slice(bytes);
/// assert_eq!(space.commit_first(bytes.len())?.done, bytes.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is sent until it is committed"]
pub struct Reservation<'window> {
    window: &'window mut WriteWindow,
    start: usize,
    len: usize,
}

impl Reservation<'_> {
    /// Commits all of it: one write(2), which may be interrupted and may write less.
    ///
    /// Bytes that were not written stay in the window, after an error all of them. To write
    /// them, reserve that range again and commit it. A frame of which at least half is
    /// committed leaves the window. Then its bytes outside of this reservation leave the
    /// window, too.
    ///
    /// # Errors
    ///
    /// As write(2).
    pub fn commit(self) -> io::Result<Committed> {
        self.window.commit_bytes(self.start, self.len)
    }

    /// Commits the first `bytes` bytes of it, as [`Reservation::commit`].
    ///
    /// # Errors
    ///
    /// As write(2). EINVAL if the reservation has fewer bytes; nothing is written then.
    pub fn commit_first(self, bytes: usize) -> io::Result<Committed> {
        if bytes > self.len {
            return Err(Errno::INVAL.into());
        }
        self.window.commit_bytes(self.start, bytes)
    }

    /// Commits all of it. It goes on after a short or interrupted write, as
    /// [`io::Write::write_all`] does.
    ///
    /// # Errors
    ///
    /// As write(2), except EINTR. The error says how much was written before.
    pub fn commit_all(self) -> Result<Committed, CommitError> {
        let mut all = Committed::default();
        while all.done < self.len {
            let (start, rest) = (self.start + all.done, self.len - all.done);
            let error = match self.window.commit_bytes(start, rest) {
                Ok(Committed { done: 0, .. }) => io::ErrorKind::WriteZero.into(),
                Ok(some) => {
                    all.add(&some);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            return Err(CommitError {
                error,
                committed: all,
            });
        }
        Ok(all)
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: The range is reserved, so an access does not fault. Only a commit removes
        // the memory. The borrow of the window excludes that, and other references to it.
        unsafe { self.window.memory.slice(self.start, self.len) }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `deref()`. And it is a write window.
        unsafe { self.window.memory.slice_mut(self.start, self.len) }
    }
}
