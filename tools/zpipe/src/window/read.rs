// SPDX-License-Identifier: MIT OR Apache-2.0

//! The window of a reader.

use crate::{
    sys::{bindings, size},
    window::memory::Memory,
};
use rustix::{io::Errno, mm::ProtFlags};
use std::{io, iter::FusedIterator, os::fd::AsFd, slice, sync::Arc};

/// The initial number of spans for which there is space.
const SPANS: usize = 16;

/// A window that shows the bytes in the pipe.
///
/// It counts as a read end of the pipe until it is dropped. Bytes in view that were not
/// consumed then return to the pipe.
#[derive(Debug)]
pub struct ReadWindow {
    memory: Arc<Memory>,
    flags: u32,
    spans: Vec<bindings::zpipe_view>,
    /// The number of bytes that the last peek showed and that are not consumed.
    shown: usize,
}

impl ReadWindow {
    /// Makes a window at the read end of a pipe. It can show at least `bytes` bytes of
    /// frames at once.
    ///
    /// The end may be closed afterwards.
    ///
    /// # Errors
    ///
    /// ENOTTY if `end` is not a zpipe, EBADF if it is not open for reading, EINVAL if
    /// `bytes` is 0 or too large, and others, see zpipe(4).
    pub fn new(end: impl AsFd, bytes: usize) -> io::Result<Self> {
        let flags = bindings::ZPIPE_WINDOW_READ;
        let memory = Memory::new(end.as_fd(), flags, bytes, ProtFlags::READ)?;
        Ok(Self::of(memory))
    }

    pub(crate) fn of(memory: Memory) -> Self {
        Self {
            memory: Arc::new(memory),
            flags: 0,
            spans: vec![Default::default(); SPANS],
            shown: 0,
        }
    }

    /// The memory, for [`BytesWindow`](super::BytesWindow).
    #[cfg(feature = "bytes")]
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// [`BytesWindow`](super::BytesWindow) has consumed all bytes that the last peek showed.
    #[cfg(feature = "bytes")]
    pub(super) fn all_is_consumed(&mut self) {
        self.shown = 0;
    }

    /// Sets whether peeks fail with [`io::ErrorKind::WouldBlock`] instead of waiting. If
    /// true, they do so whatever the flags of the pipe's end are.
    ///
    /// A window cannot be polled. To wait for bytes, keep the pipe's end and poll(2) that one.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flags = if nonblocking {
            bindings::ZPIPE_NONBLOCK
        } else {
            0
        };
    }

    /// Shows at most about `most` bytes, or all that can be shown if `most` is 0.
    ///
    /// The view has all bytes that the window then shows. It starts with the bytes that were shown
    /// before and not consumed. If there are no bytes, it waits as read(2) does. At the end of the
    /// data the view is empty.
    ///
    /// Consumed bytes are no longer accessible:
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::ReadWindow::new(&read, zpipe::window::FRAME)?;
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
    /// # let (read, _) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::ReadWindow::new(&read, zpipe::window::FRAME)?;
    /// let view = window.peek(0)?;
    /// let first = view.iter().next();
    /// view.consume_all()?;
    /// println!("{first:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The bytes cannot outlive the view either, since they may be consumed through a later
    /// one:
    ///
    /// ```compile_fail,E0505
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::ReadWindow::new(&read, zpipe::window::FRAME)?;
    /// let view = window.peek(0)?;
    /// let first = view.iter().next();
    /// drop(view);
    /// println!("{first:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// And they are read-only:
    ///
    /// ```compile_fail,E0594
    /// # fn main() -> std::io::Result<()> {
    /// # let (read, _) = zpipe::pipe()?;
    /// # let mut window = zpipe::window::ReadWindow::new(&read, zpipe::window::FRAME)?;
    /// let view = window.peek(0)?;
    /// view.iter().next().unwrap()[0] = 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR.
    pub fn peek(&mut self, most: usize) -> io::Result<View<'_>> {
        self.show(most, 0)
    }

    /// Like [`ReadWindow::peek`], but waits for more bytes than were shown before and not
    /// consumed.
    ///
    /// `most` does not count the bytes that were shown before. The view does. At the end of the
    /// data it returns at once, and the view has no more bytes than before.
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::window::{FRAME, ReadWindow};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = zpipe::pipe()?;
    /// let mut window = ReadWindow::new(&reader, FRAME)?;
    /// writer.write_all(b"hel")?;
    /// assert_eq!(window.peek(0)?.len(), 3);
    /// writer.write_all(b"lo")?;
    /// assert_eq!(window.peek_more(0)?.len(), 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR. ENOBUFS if the window or the pipe has no space for more bytes
    /// until some are consumed. So a program that waits for a whole message must be ready to copy
    /// its start, and to consume that.
    pub fn peek_more(&mut self, most: usize) -> io::Result<View<'_>> {
        self.show(most, bindings::ZPIPE_MORE)
    }

    fn show(&mut self, most: usize, flags: u32) -> io::Result<View<'_>> {
        let (mut count, mut copied) = self.peek_once(most, flags)?;
        while count == self.spans.len() {
            // Other bytes may be in view, for which there was no space. MORE would not count them
            // as new, and wait. This call cannot wait, since bytes are in view. It asks for one
            // byte, which is there, and so brings nothing new.
            self.spans.resize_with(2 * count, Default::default);
            let (all, more) = self.peek_once(1, 0)?;
            (count, copied) = (all, copied + more);
        }
        let spans = self.spans[..count].iter();
        self.shown = spans.map(|span| span.bytes).sum::<u64>() as usize;
        Ok(View {
            window: self,
            count,
            copied,
        })
    }

    /// One call: shows at most as many spans as there is space for. Returns their number, and that
    /// of the bytes copied.
    fn peek_once(&mut self, most: usize, flags: u32) -> io::Result<(usize, usize)> {
        let mut args = bindings::zpipe_peek {
            size: size::<bindings::zpipe_peek>(),
            flags: self.flags | flags,
            views: self.spans.as_mut_ptr() as u64,
            nr_views: self.spans.len() as u32,
            bytes: most as u64,
            ..Default::default()
        };
        // SAFETY: The command takes this struct and writes to at most `nr_views` spans. We
        // have the only reference to the window.
        unsafe { self.memory.call::<{ bindings::PEEK }, _>(&mut args)? };
        Ok((args.nr_views as usize, args.copied as usize))
    }

    /// Consumes the first `bytes` bytes that the last peek showed, after its [`View`] is gone.
    ///
    /// [`View::consume`] does the same, if the view still exists.
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::window::{FRAME, ReadWindow};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = zpipe::pipe()?;
    /// let mut window = ReadWindow::new(&reader, FRAME)?;
    /// writer.write_all(b"hello")?;
    /// let seen = window.peek(0)?.len();
    /// window.consume(seen)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// EINVAL if fewer bytes were shown; nothing is consumed then.
    pub fn consume(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if bytes > self.shown {
            return Err(Errno::INVAL.into());
        }
        let mut args = bindings::zpipe_consume {
            size: size::<bindings::zpipe_consume>(),
            flags: 0,
            bytes: bytes as u64,
        };
        // SAFETY: The command takes this struct, and we have the only reference to the
        // window.
        unsafe { self.memory.call::<{ bindings::CONSUME }, _>(&mut args)? };
        self.shown -= bytes;
        Ok(())
    }
}

/// Bytes that a [`ReadWindow`] shows: spans, in the order of the pipe.
///
/// Dropping a view consumes nothing: the next peek shows the same bytes, and those behind
/// them.
///
/// ```
/// use std::io::Write;
/// use zpipe::window::{FRAME, Iter, ReadWindow, View};
///
/// /// The length of the first line.
/// fn line(spans: Iter<'_>) -> Option<usize> {
///     let newline = spans.flatten().position(|&byte| byte == b'\n')?;
///     Some(newline + 1)
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, mut writer) = zpipe::pipe()?;
/// writer.write_all(b"one\ntw")?;
/// let mut window = ReadWindow::new(&reader, FRAME)?;
/// let view: View<'_> = window.peek(0)?;
/// // They are in no frame.
/// assert_eq!(view.copied(), 6);
/// let end = line(view.iter()).unwrap();
/// view.consume(end)?;
/// assert_eq!(window.peek(0)?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is read until it is consumed"]
pub struct View<'window> {
    window: &'window mut ReadWindow,
    count: usize,
    copied: usize,
}

impl View<'_> {
    /// The number of bytes in all spans.
    pub fn len(&self) -> usize {
        self.window.shown
    }

    /// True at the end of the data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes that this peek copied to show them.
    pub fn copied(&self) -> usize {
        self.copied
    }

    /// Iterates over the spans, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            memory: &self.window.memory,
            spans: self.spans().iter(),
        }
    }

    /// True if span `number` is a packet, or the rest of one. See `O_DIRECT` in pipe(2).
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::window::{FRAME, ReadWindow};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = zpipe::Builder::new().packets(true).pipe()?;
    /// writer.write_all(b"one")?;
    /// writer.write_all(b"other")?;
    /// let mut window = ReadWindow::new(&reader, FRAME)?;
    /// let view = window.peek(0)?;
    /// assert_eq!(view.iter().map(<[u8]>::len).collect::<Vec<_>>(), [3, 5]);
    /// assert!(view.is_packet(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no such span.
    pub fn is_packet(&self, number: usize) -> bool {
        self.spans()[number].flags & bindings::ZPIPE_VIEW_PACKET != 0
    }

    /// The offsets of the spans in the window, in order.
    #[cfg(feature = "bytes")]
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.spans().iter().map(|span| span.offset as usize)
    }

    fn spans(&self) -> &[bindings::zpipe_view] {
        &self.window.spans[..self.count]
    }

    /// Consumes the first `bytes` bytes: removes them from the pipe.
    ///
    /// # Errors
    ///
    /// EINVAL if the view has fewer bytes; nothing is consumed then.
    pub fn consume(self, bytes: usize) -> io::Result<()> {
        self.window.consume(bytes)
    }

    /// Consumes all bytes of the view.
    ///
    /// # Errors
    ///
    /// None is known.
    pub fn consume_all(self) -> io::Result<()> {
        self.window.consume(self.len())
    }
}

impl<'view> IntoIterator for &'view View<'_> {
    type Item = &'view [u8];
    type IntoIter = Iter<'view>;

    fn into_iter(self) -> Iter<'view> {
        self.iter()
    }
}

/// Iterator over the spans of a [`View`].
#[derive(Clone, Debug)]
pub struct Iter<'view> {
    memory: &'view Memory,
    spans: slice::Iter<'view, bindings::zpipe_view>,
}

impl<'view> Iterator for Iter<'view> {
    type Item = &'view [u8];

    fn next(&mut self) -> Option<&'view [u8]> {
        let span = self.spans.next()?;
        // SAFETY: Bytes in view are mapped and do not change until they are consumed or
        // shown again. The borrow of the window excludes both.
        Some(unsafe { self.memory.slice(span.offset as usize, span.bytes as usize) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}
