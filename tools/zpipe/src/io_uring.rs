// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entries for io_uring(7). The module needs the feature `io-uring`.
//!
//! [`read()`] and [`write()`] make an entry for the crate `io_uring`, and keep the buffer until the
//! kernel has completed it.
//!
//! Reads through a ring copy gifted pages. To move them, wait with a poll entry for the pipe and
//! call [`PipeReader::move_into`].
//!
//! ```
//! use io_uring::IoUring;
//! use zpipe::io_uring::{read, write};
//!
//! # fn main() -> std::io::Result<()> {
//! let (reader, writer) = zpipe::pipe()?;
//! let mut ring = IoUring::new(2)?;
//! let (entry, sent) = write(&writer, b"hello".to_vec());
//! // SAFETY: `sent` keeps the buffer and the descriptor until the entry is complete.
//! unsafe { ring.submission().push(&entry.user_data(1)).unwrap() };
//! let (entry, received) = read(&reader, vec![0; 10]);
//! // SAFETY: As above.
//! unsafe { ring.submission().push(&entry.user_data(2)).unwrap() };
//! ring.submit_and_wait(2)?;
//!
//! let results = ring.completion().map(|entry| (entry.user_data(), entry.result()));
//! assert_eq!(results.collect::<Vec<_>>(), [(1, 5), (2, 5)]);
//! // SAFETY: The entries are complete.
//! let buffer = unsafe { sent.complete(); received.complete() };
//! assert_eq!(&buffer[..5], b"hello");
//! # Ok(())
//! # }
//! ```

use crate::{HugeBuffer, PipeReader, PipeWriter};
use io_uring::{opcode, squeue::Entry, types::Fd};
use std::{fmt, marker::PhantomData, mem::ManuallyDrop, os::fd::AsRawFd, ptr};

mod sealed {
    /// The memory of a buffer. Nothing owns it, and no reference to it exists.
    #[derive(Clone, Copy)]
    pub struct Raw {
        pub base: *mut u8,
        pub len: usize,
        pub capacity: usize,
    }

    /// Memory that can be given up and taken back.
    pub trait Buffer: Sized {
        fn into_raw(self) -> Raw;

        /// # Safety
        ///
        /// `raw` must be from `into_raw()`, must not be used again, and nothing may refer to the
        /// memory.
        unsafe fn from_raw(raw: Raw) -> Self;
    }
}
use sealed::Raw;

/// Buffers that can be given to the kernel.
pub trait Buffer: sealed::Buffer {}

impl Buffer for Vec<u8> {}

impl sealed::Buffer for Vec<u8> {
    fn into_raw(self) -> Raw {
        let mut buffer = ManuallyDrop::new(self);
        Raw {
            base: buffer.as_mut_ptr(),
            len: buffer.len(),
            capacity: buffer.capacity(),
        }
    }

    unsafe fn from_raw(raw: Raw) -> Self {
        // SAFETY: By this function's safety requirements. The kernel may have written to the first
        // `len` bytes, and any value is valid for a byte.
        unsafe { Vec::from_raw_parts(raw.base, raw.len, raw.capacity) }
    }
}

impl Buffer for Box<[u8]> {}

impl sealed::Buffer for Box<[u8]> {
    fn into_raw(self) -> Raw {
        let len = self.len();
        Raw {
            base: Box::into_raw(self).cast(),
            len,
            capacity: len,
        }
    }

    unsafe fn from_raw(raw: Raw) -> Self {
        // SAFETY: By this function's safety requirements.
        unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(raw.base, raw.len)) }
    }
}

impl Buffer for HugeBuffer {}

impl sealed::Buffer for HugeBuffer {
    fn into_raw(self) -> Raw {
        let memory = self.leak();
        Raw {
            base: memory.as_mut_ptr(),
            len: memory.len(),
            capacity: memory.len(),
        }
    }

    unsafe fn from_raw(raw: Raw) -> Self {
        // SAFETY: By this function's safety requirements.
        unsafe { HugeBuffer::from_raw(raw.base, raw.len) }
    }
}

/// A buffer that the kernel uses, and a borrow of the pipe's end.
///
/// ```
/// use io_uring::IoUring;
/// use std::io;
/// use zpipe::PipeWriter;
/// use zpipe::io_uring::{Buffer, InFlight, write};
///
/// /// Writes a buffer once, and returns it with the result.
/// fn write_one<B: Buffer>(writer: &PipeWriter, buffer: B) -> io::Result<(B, i32)> {
///     let mut ring = IoUring::new(1)?;
///     let (entry, sent): (_, InFlight<'_, B>) = write(writer, buffer);
///     // SAFETY: `sent` keeps the buffer. The descriptor stays open until the ring is gone.
///     unsafe { ring.submission().push(&entry).expect("the ring has space") };
///     let result = loop {
///         ring.submit_and_wait(1)?;
///         // A signal may have ended the wait.
///         if let Some(completion) = ring.completion().next() {
///             break completion.result();
///         }
///     };
///     // SAFETY: The ring had one entry, which is complete.
///     Ok((unsafe { sent.complete() }, result))
/// }
///
/// # fn main() -> io::Result<()> {
/// let (_reader, writer) = zpipe::pipe()?;
/// assert_eq!(write_one(&writer, vec![1; 100])?, (vec![1; 100], 100));
/// # Ok(())
/// # }
/// ```
///
/// If it is dropped, the memory is never freed, since the kernel may still use it.
#[must_use = "its memory is never freed if it is dropped"]
pub struct InFlight<'end, B> {
    raw: Raw,
    owner: PhantomData<(&'end (), B)>,
}

// SAFETY: It only keeps the buffer, and cannot access it before it is given back.
unsafe impl<B: Send> Send for InFlight<'_, B> {}
// SAFETY: A shared reference shows only the address and the length.
unsafe impl<B> Sync for InFlight<'_, B> {}

impl<B: Buffer> InFlight<'_, B> {
    fn of(buffer: B) -> Self {
        Self {
            raw: buffer.into_raw(),
            owner: PhantomData,
        }
    }

    /// The number of bytes of the entry, which cannot have more.
    fn len(&self) -> u32 {
        self.raw.len.try_into().unwrap_or(u32::MAX)
    }

    /// Returns the buffer.
    ///
    /// # Safety
    ///
    /// The kernel must have completed the entry, or never have got it.
    pub unsafe fn complete(self) -> B {
        // SAFETY: It is from `of()`. The kernel no longer uses the memory, as this function
        // requires, and nobody else has its address.
        unsafe { B::from_raw(self.raw) }
    }
}

// The kernel may write to the memory, so this must not read it.
impl<B> fmt::Debug for InFlight<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("base", &self.raw.base)
            .field("len", &self.raw.len)
            .finish()
    }
}

/// Makes an entry that reads to the buffer: one read(2).
///
/// [`InFlight`] must exist until the entry is complete.
pub fn read<B: Buffer>(reader: &PipeReader, buffer: B) -> (Entry, InFlight<'_, B>) {
    let buffer = InFlight::of(buffer);
    let end = Fd(reader.as_raw_fd());
    let entry = opcode::Read::new(end, buffer.raw.base, buffer.len()).offset(u64::MAX);
    (entry.build(), buffer)
}

/// Makes an entry that writes the buffer: one write(2).
///
/// [`InFlight`] must exist until the entry is complete.
pub fn write<B: Buffer>(writer: &PipeWriter, buffer: B) -> (Entry, InFlight<'_, B>) {
    let buffer = InFlight::of(buffer);
    let end = Fd(writer.as_raw_fd());
    let entry = opcode::Write::new(end, buffer.raw.base, buffer.len()).offset(u64::MAX);
    (entry.build(), buffer)
}
