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
use std::{marker::PhantomData, mem::ManuallyDrop, os::fd::AsRawFd};

mod sealed {
    /// Memory whose address does not change when its owner moves.
    pub trait Buffer {
        fn memory(&mut self) -> &mut [u8];
    }
}

/// Buffers that can be given to the kernel.
pub trait Buffer: sealed::Buffer {}

macro_rules! buffers {
    ($($buffer:ty),*) => {
        $(
            impl sealed::Buffer for $buffer {
                fn memory(&mut self) -> &mut [u8] {
                    self
                }
            }

            impl Buffer for $buffer {}
        )*
    };
}
buffers!(Vec<u8>, Box<[u8]>, HugeBuffer);

/// A buffer that the kernel uses, and a borrow of the pipe's end.
///
/// If it is dropped, the memory is never freed, since the kernel may still use it.
#[derive(Debug)]
#[must_use = "its memory is never freed if it is dropped"]
pub struct InFlight<'end, B> {
    buffer: ManuallyDrop<B>,
    end: PhantomData<&'end ()>,
}

impl<B> InFlight<'_, B> {
    /// Returns the buffer.
    ///
    /// # Safety
    ///
    /// The kernel must have completed the entry, or never have got it.
    pub unsafe fn complete(self) -> B {
        ManuallyDrop::into_inner(self.buffer)
    }
}

/// Pins a buffer and returns its address and length. An entry cannot have more bytes.
fn fix<B: Buffer>(buffer: B) -> (*mut u8, u32, ManuallyDrop<B>) {
    let mut buffer = ManuallyDrop::new(buffer);
    let memory = buffer.memory();
    let len = memory.len().try_into().unwrap_or(u32::MAX);
    (memory.as_mut_ptr(), len, buffer)
}

/// Makes an entry that reads to the buffer: one read(2).
///
/// [`InFlight`] must exist until the entry is complete.
pub fn read<B: Buffer>(reader: &PipeReader, buffer: B) -> (Entry, InFlight<'_, B>) {
    let (address, len, buffer) = fix(buffer);
    let entry = opcode::Read::new(Fd(reader.as_raw_fd()), address, len).offset(u64::MAX);
    let end = PhantomData;
    (entry.build(), InFlight { buffer, end })
}

/// Makes an entry that writes the buffer: one write(2).
///
/// [`InFlight`] must exist until the entry is complete.
pub fn write<B: Buffer>(writer: &PipeWriter, buffer: B) -> (Entry, InFlight<'_, B>) {
    let (address, len, buffer) = fix(buffer);
    let entry = opcode::Write::new(Fd(writer.as_raw_fd()), address, len).offset(u64::MAX);
    let end = PhantomData;
    (entry.build(), InFlight { buffer, end })
}
