// SPDX-License-Identifier: MIT OR Apache-2.0

//! The window of a reader.

use crate::sys::{Memory, bindings, errno, size};
use std::{io, iter::FusedIterator, os::fd::AsFd, slice};

/// How many spans there is room for at first.
const SPANS: usize = 16;

/// A window that shows what is in the pipe.
///
/// It counts as a read end of the pipe until it is dropped. What it showed and was not consumed
/// goes back into the pipe then.
#[derive(Debug)]
pub struct ReadWindow {
    memory: Memory,
    flags: u32,
    spans: Vec<bindings::zpipe_view>,
}

impl ReadWindow {
    /// Makes a window at the read end of a pipe that shows at least `bytes` bytes of frames at
    /// once.
    ///
    /// The end may be closed afterwards.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is no zpipe, EBADF if it is not open for reading, EINVAL if `bytes` is 0 or
    /// too many, and others, see zpipe(4).
    pub fn new(end: impl AsFd, bytes: usize) -> io::Result<Self> {
        let flags = bindings::ZPIPE_WINDOW_READ;
        let memory = Memory::new(end.as_fd(), flags, bytes, libc::PROT_READ)?;
        Ok(Self::of(memory))
    }

    pub(crate) fn of(memory: Memory) -> Self {
        Self {
            memory,
            flags: 0,
            spans: vec![Default::default(); SPANS],
        }
    }

    /// Whether peeks fail with [`io::ErrorKind::WouldBlock`] where they would wait, whatever the
    /// end of the pipe is set to.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flags = if nonblocking {
            bindings::ZPIPE_NONBLOCK
        } else {
            0
        };
    }

    /// Shows about `most` bytes at most, or all that can be shown if that is 0.
    ///
    /// What was shown before and is not consumed comes first. If there is nothing to show, it
    /// waits as read(2) does; at the end of the data the view is empty.
    ///
    /// The bytes are out of reach once they are consumed:
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::ReadWindow::new(&read, zpipe_window::FRAME)?;
    /// let view = window.peek(0)?;
    /// let first = view.iter().next();
    /// println!("{first:?}");
    /// view.consume_all()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0505
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::ReadWindow::new(&read, zpipe_window::FRAME)?;
    /// let view = window.peek(0)?;
    /// let first = view.iter().next();
    /// view.consume_all()?;
    /// println!("{first:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Nor can they be kept for longer than the view, since a later one may be consumed:
    ///
    /// ```compile_fail,E0505
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::ReadWindow::new(&read, zpipe_window::FRAME)?;
    /// let view = window.peek(0)?;
    /// let first = view.iter().next();
    /// drop(view);
    /// println!("{first:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// And nothing can be stored to them:
    ///
    /// ```compile_fail,E0594
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe_window::pair()?;
    /// # let mut window = zpipe_window::ReadWindow::new(&read, zpipe_window::FRAME)?;
    /// let view = window.peek(0)?;
    /// view.iter().next().unwrap()[0] = 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2): EINTR, too.
    pub fn peek(&mut self, most: usize) -> io::Result<View<'_>> {
        self.show(most, 0)
    }

    /// As [`ReadWindow::peek`], but waits for more than was shown before and is not consumed.
    ///
    /// At the end of the data the view has no more than before.
    ///
    /// # Errors
    ///
    /// As read(2): EINTR, too.
    pub fn peek_more(&mut self, most: usize) -> io::Result<View<'_>> {
        self.show(most, bindings::ZPIPE_MORE)
    }

    fn show(&mut self, most: usize, flags: u32) -> io::Result<View<'_>> {
        let mut args = bindings::zpipe_peek {
            size: size::<bindings::zpipe_peek>(),
            flags: self.flags | flags,
            views: self.spans.as_mut_ptr() as u64,
            nr_views: self.spans.len() as u32,
            bytes: most as u64,
            ..Default::default()
        };
        // SAFETY: The command takes this struct, and writes to as many of the spans as there are;
        // we have the only reference to the window.
        unsafe { self.memory.call(bindings::PEEK, &mut args)? };

        let count = args.nr_views as usize;
        let len = self.spans[..count]
            .iter()
            .map(|span| span.bytes)
            .sum::<u64>() as usize;
        if count == self.spans.len() {
            // There may have been more of them: the next peek has room.
            self.spans.resize_with(2 * count, Default::default);
        }
        Ok(View {
            window: self,
            count,
            len,
            copied: args.copied as usize,
        })
    }

    fn consume(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut args = bindings::zpipe_consume {
            size: size::<bindings::zpipe_consume>(),
            flags: 0,
            bytes: bytes as u64,
        };
        // SAFETY: The command takes this struct, and we have the only reference to the window.
        unsafe { self.memory.call(bindings::CONSUME, &mut args) }
    }
}

/// Bytes that a [`ReadWindow`] shows: spans, in the order of the pipe.
///
/// Dropped, it consumes nothing: the next peek shows the same bytes, and what there is behind
/// them.
#[derive(Debug)]
#[must_use = "nothing is read until it is consumed"]
pub struct View<'window> {
    window: &'window mut ReadWindow,
    count: usize,
    len: usize,
    copied: usize,
}

impl View<'_> {
    /// How many bytes there are in all spans.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The end of the data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes this peek copied to show them.
    pub fn copied(&self) -> usize {
        self.copied
    }

    /// The spans, one after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            memory: &self.window.memory,
            spans: self.spans().iter(),
        }
    }

    /// Whether span `number` is a packet or what is left of it, see `O_DIRECT` of pipe(2).
    ///
    /// # Panics
    ///
    /// If there is no such span.
    pub fn is_packet(&self, number: usize) -> bool {
        self.spans()[number].flags & bindings::ZPIPE_VIEW_PACKET != 0
    }

    fn spans(&self) -> &[bindings::zpipe_view] {
        &self.window.spans[..self.count]
    }

    /// Reads the first `bytes` bytes: they are gone from the pipe.
    ///
    /// # Errors
    ///
    /// EINVAL if there are not so many; nothing is consumed then.
    pub fn consume(self, bytes: usize) -> io::Result<()> {
        if bytes > self.len {
            return Err(errno(libc::EINVAL));
        }
        self.window.consume(bytes)
    }

    /// Reads all of them.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn consume_all(self) -> io::Result<()> {
        self.window.consume(self.len)
    }
}

impl<'view> IntoIterator for &'view View<'_> {
    type Item = &'view [u8];
    type IntoIter = Iter<'view>;

    fn into_iter(self) -> Iter<'view> {
        self.iter()
    }
}

/// The spans of a [`View`].
#[derive(Clone, Debug)]
pub struct Iter<'view> {
    memory: &'view Memory,
    spans: slice::Iter<'view, bindings::zpipe_view>,
}

impl<'view> Iterator for Iter<'view> {
    type Item = &'view [u8];

    fn next(&mut self) -> Option<&'view [u8]> {
        let span = self.spans.next()?;
        // SAFETY: What is in view is there and does not change until it is consumed or shown
        // anew, which the borrow of the window excludes.
        Some(unsafe { self.memory.slice(span.offset as usize, span.bytes as usize) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}
