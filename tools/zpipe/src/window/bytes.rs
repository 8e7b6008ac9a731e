// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes of a read window that outlive the borrow of it.

use crate::{
    sys::{bindings, size},
    window::{ReadWindow, memory::Memory},
};
use bytes::Bytes;
use rustix::io::Errno;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A read window whose spans are [`Bytes`]: they can be cloned, sliced, and sent to other threads,
/// all without a copy. It needs the feature `bytes`.
///
/// Dropping the last clone of a span consumes it. A pipe is consumed in order: a span that is
/// dropped before an earlier one stays in the pipe until the earlier one is dropped, too. A span
/// that is never dropped is never consumed, and its memory stays valid.
///
/// The window can show more bytes only when all spans of the last peek are dropped, because the
/// kernel may then put bytes somewhere else. So copy what has to be kept for long. The window is
/// gone when it and all spans are dropped.
///
/// ```
/// use bytes::Bytes;
/// use std::{io::Write, thread};
/// use zpipe::window::{BytesWindow, FRAME, ReadWindow, WriteWindow};
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, writer) = zpipe::pipe()?;
/// let mut writer = WriteWindow::new(&writer, FRAME)?;
/// let mut frame = writer.reserve(..)?;
/// frame.fill(7);
/// frame.commit_all()?;
///
/// let mut window = BytesWindow::from(ReadWindow::new(&reader, FRAME)?);
/// let spans = window.peek(0)?;
/// let first: Bytes = spans[0].slice(..1000);
/// drop(spans);
/// // The rest of the frame stays, too, until this is dropped.
/// let sum = thread::spawn(move || first.iter().map(|&byte| u32::from(byte)).sum::<u32>());
/// assert_eq!(sum.join().unwrap(), 7000);
/// # Ok::<(), std::io::Error>(())
/// # }
/// ```
#[derive(Debug)]
pub struct BytesWindow {
    window: ReadWindow,
    held: Arc<Held>,
}

/// The bytes in view of the window.
#[derive(Debug)]
struct Held {
    memory: Arc<Memory>,
    spans: Mutex<Spans>,
}

/// The spans that are not consumed, in order.
#[derive(Debug, Default)]
struct Spans {
    /// The number of the first one.
    first: u64,
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    len: usize,
    dropped: bool,
}

impl From<ReadWindow> for BytesWindow {
    fn from(window: ReadWindow) -> Self {
        let held = Arc::new(Held {
            memory: Arc::clone(window.memory()),
            spans: Mutex::default(),
        });
        Self { window, held }
    }
}

impl BytesWindow {
    /// See [`ReadWindow::set_nonblocking`].
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.window.set_nonblocking(nonblocking);
    }

    /// Shows at most about `most` bytes, or all that can be shown if `most` is 0.
    ///
    /// If there are no bytes, it waits as read(2) does. At the end of the data there are no spans.
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR. EBUSY if a span of an earlier peek still exists. So there is no
    /// `peek_more`: nothing is left to which bytes could be added.
    pub fn peek(&mut self, most: usize) -> io::Result<Vec<Bytes>> {
        // If a panic interrupts this, the lock must be dropped before the owners, which take it.
        let mut shown = Vec::new();
        let mut spans = self.held.lock();
        spans.consume(&self.held.memory)?;
        if !spans.spans.is_empty() {
            return Err(Errno::BUSY.into());
        }
        self.window.all_is_consumed();
        let view = self.window.peek(most)?;
        for (place, span) in view.places().zip(&view) {
            let len = span.len();
            let number = spans.first + spans.spans.len() as u64;
            spans.spans.push_back(Span {
                len,
                dropped: false,
            });
            shown.push(Owner {
                held: Arc::clone(&self.held),
                number,
                place,
                len,
            });
        }
        // Making a `Bytes` may panic. Its owner is dropped then, which takes the lock.
        drop(spans);
        Ok(shown.into_iter().map(Bytes::from_owner).collect())
    }

    /// Returns the window.
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::window::{BytesWindow, FRAME, ReadWindow};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = zpipe::pipe()?;
    /// writer.write_all(b"hello")?;
    /// let mut window = BytesWindow::from(ReadWindow::new(&reader, FRAME)?);
    /// let span = window.peek(0)?.remove(0);
    /// let window = window.into_inner().unwrap_err();
    /// drop(span);
    /// let _window: ReadWindow = window.into_inner().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// This window again, if a span still exists or could not be consumed.
    pub fn into_inner(mut self) -> Result<ReadWindow, Self> {
        let mut spans = self.held.lock();
        let consumed = spans.consume(&self.held.memory).is_ok() && spans.spans.is_empty();
        drop(spans);
        if !consumed {
            return Err(self);
        }
        self.window.all_is_consumed();
        Ok(self.window)
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Spans> {
        // The list is right at every moment at which something could panic.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spans {
    /// Consumes the first spans as far as they are dropped.
    fn consume(&mut self, memory: &Memory) -> io::Result<()> {
        let count = self.spans.iter().take_while(|span| span.dropped).count();
        if count == 0 {
            return Ok(());
        }
        let bytes = self.spans.range(..count).map(|span| span.len as u64).sum();
        let mut args = bindings::zpipe_consume {
            size: size::<bindings::zpipe_consume>(),
            flags: 0,
            bytes,
        };
        // SAFETY: The command takes this struct. It removes the memory of the first bytes in view
        // only. These spans are dropped, so there is no reference to them.
        unsafe { memory.call::<{ bindings::CONSUME }, _>(&mut args)? };
        self.spans.drain(..count);
        self.first += count as u64;
        Ok(())
    }
}

/// A span, owned by all its [`Bytes`].
struct Owner {
    held: Arc<Held>,
    number: u64,
    place: usize,
    len: usize,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: Bytes in view are mapped and do not change until they are consumed or shown
        // again. Neither happens as long as this owner exists: its span is in the list and not
        // marked as dropped. The list has the only access to the window's commands.
        unsafe { self.held.memory.slice(self.place, self.len) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut spans = self.held.lock();
        let index = (self.number - spans.first) as usize;
        spans.spans[index].dropped = true;
        // The next peek tries again and returns the error.
        let _ = spans.consume(&self.held.memory);
    }
}
