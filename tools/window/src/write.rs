// SPDX-License-Identifier: MIT OR Apache-2.0

//! The window of a writer.

use crate::sys::{Memory, bindings, errno, size};
use std::{
    io,
    ops::{Bound, Deref, DerefMut, RangeBounds},
    os::fd::AsFd,
};

/// A window that is filled and committed.
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
    /// It is rounded up to whole frames. The end may be closed afterwards.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is no zpipe, EBADF if it is not open for writing, EINVAL if `bytes` is 0 or
    /// too many, and others, see zpipe(4).
    pub fn new(end: impl AsFd, bytes: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let memory = Memory::new(end.as_fd(), bindings::ZPIPE_WINDOW_WRITE, bytes, access)?;
        Ok(Self::of(memory))
    }

    pub(crate) fn of(memory: Memory) -> Self {
        Self { memory, flags: 0 }
    }

    /// How many bytes the window has.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Whether commits fail with [`io::ErrorKind::WouldBlock`] where they would wait, whatever the
    /// end of the pipe is set to.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flags = if nonblocking {
            bindings::ZPIPE_NONBLOCK
        } else {
            0
        };
    }

    /// Has the memory of a range there, to be filled and committed.
    ///
    /// What it holds is what was stored there before or, in frames that were committed, zeros or
    /// bytes of any other frame that this window had.
    ///
    /// The bytes are out of reach once they are committed:
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// # let (_, write) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::WriteWindow::new(&write, zpipe_window::FRAME)?;
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
    /// # let (_, write) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::WriteWindow::new(&write, zpipe_window::FRAME)?;
    /// let mut reservation = window.reserve(..)?;
    /// let bytes = &mut reservation[..];
    /// reservation.commit()?;
    /// bytes[0] = 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Nor can there be two reservations at a time, which might overlap:
    ///
    /// ```compile_fail,E0499
    /// # fn main() -> std::io::Result<()> {
    /// # let (_, write) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::WriteWindow::new(&write, zpipe_window::FRAME)?;
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
    /// ENOMEM if there is no memory for it, EINVAL if it is no range of the window.
    pub fn reserve(&mut self, range: impl RangeBounds<usize>) -> io::Result<Reservation<'_>> {
        let (start, len) = bounds(range, self.memory.len()).ok_or_else(|| errno(libc::EINVAL))?;
        if len != 0 {
            let mut args = bindings::zpipe_reserve {
                size: size::<bindings::zpipe_reserve>(),
                flags: 0,
                offset: start as u64,
                bytes: len as u64,
            };
            // SAFETY: The command takes this struct, and we have the only reference.
            unsafe { self.memory.call(bindings::RESERVE, &mut args)? };
        }
        Ok(Reservation {
            window: self,
            start,
            len,
        })
    }

    /// Writes bytes that are in the window. They may be gone from there.
    fn commit(&mut self, start: usize, len: usize) -> io::Result<Committed> {
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
        // SAFETY: The command takes this struct, and we have the only reference.
        unsafe { self.memory.call(bindings::COMMIT, &mut args)? };
        Ok(Committed {
            done: args.done as usize,
            moved: args.moved as usize,
            copied: args.copied as usize,
        })
    }
}

/// Where a range begins and how long it is, if that is within `len`.
fn bounds(range: impl RangeBounds<usize>, len: usize) -> Option<(usize, usize)> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.checked_add(1)?,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    let bytes = end.checked_sub(start)?;
    (end <= len).then_some((start, bytes))
}

/// What became of bytes that were to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// How many were written, from the first on.
    pub done: usize,
    /// Of these, those in frames that left the window.
    pub moved: usize,
    /// Of these, those that were copied.
    pub copied: usize,
}

/// Memory of a [`WriteWindow`] that can be filled.
///
/// Dropped, it sends nothing, and the bytes stay in the window.
#[derive(Debug)]
#[must_use = "nothing is sent until it is committed"]
pub struct Reservation<'window> {
    window: &'window mut WriteWindow,
    start: usize,
    len: usize,
}

impl Reservation<'_> {
    /// Writes all of it: one write(2), which may be interrupted and may write less.
    ///
    /// What was not done, all of it after an error, is still in the window: reserve that range
    /// again, and commit it. The bytes of a frame of which at least half is committed leave the
    /// window, those of it that are not in this reservation too.
    ///
    /// # Errors
    ///
    /// As write(2).
    pub fn commit(self) -> io::Result<Committed> {
        self.window.commit(self.start, self.len)
    }

    /// Writes the first `bytes` bytes of it, as [`Reservation::commit`].
    ///
    /// # Errors
    ///
    /// As write(2), and EINVAL if there are not so many: nothing is written then.
    pub fn commit_first(self, bytes: usize) -> io::Result<Committed> {
        if bytes > self.len {
            return Err(errno(libc::EINVAL));
        }
        self.window.commit(self.start, bytes)
    }

    /// Writes all of it, also if that takes several writes or one is interrupted, as
    /// [`io::Write::write_all`] does.
    ///
    /// # Errors
    ///
    /// As write(2), but EINTR. How much was written before is not known then.
    pub fn commit_all(self) -> io::Result<Committed> {
        let mut all = Committed::default();
        while all.done < self.len {
            match self
                .window
                .commit(self.start + all.done, self.len - all.done)
            {
                Ok(Committed { done: 0, .. }) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => {
                    all.done += some.done;
                    all.moved += some.moved;
                    all.copied += some.copied;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: The range is reserved, so there is no fault. Only a commit takes it away, which
        // this borrow of the window excludes, as it does other references to it.
        unsafe { self.window.memory.slice(self.start, self.len) }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above; it is a write window.
        unsafe { self.window.memory.slice_mut(self.start, self.len) }
    }
}
