// SPDX-License-Identifier: MIT OR Apache-2.0

//! Gifts and moves: memory that changes owner instead of being copied.

use crate::{
    HugeBuffer, PipeReader, PipeWriter,
    end::End,
    range::bounds,
    sys::{bindings, size},
};
use bitflags::bitflags;
use rustix::{io::Errno, ioctl::Opcode};
use std::{error::Error, fmt, io, ops::RangeBounds};

bitflags! {
    /// Options of [`PipeWriter::gift_with`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct GiftFlags: u32 {
        /// The memory that comes back may have bytes that a reader returned, see
        /// [`MoveFlags::RETURN`].
        const ANY = bindings::ZPIPE_ANY;
        /// The memory that comes back for gifted pages has only zeros.
        const CLEAR = bindings::ZPIPE_CLEAR;
        /// Pages are gifted even if it may cost less to copy them.
        const ALWAYS = bindings::ZPIPE_ALWAYS;
    }
}

bitflags! {
    /// Options of [`PipeReader::move_with`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MoveFlags: u32 {
        /// Writers may see the bytes that were in the buffer before. With [`GiftFlags::ANY`] at the
        /// writer, this is the fastest way: no page is cleared, and no byte is copied.
        const RETURN = bindings::ZPIPE_RETURN;
    }
}

/// Why bytes were copied, see `ZPIPE_REASON_PART` and so on in zpipe(4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Reason {
    /// The piece is not a whole, aligned page.
    Part = bindings::ZPIPE_REASON_PART,
    /// Pages of another size are there, or no pages. At the reader: the bytes were in no huge page.
    Small = bindings::ZPIPE_REASON_SMALL,
    /// Other processes have the page, too.
    Shared = bindings::ZPIPE_REASON_SHARED,
    /// The page has other references, for example by I/O.
    Pinned = bindings::ZPIPE_REASON_PINNED,
    /// The memory is not plain anonymous memory.
    Mapping = bindings::ZPIPE_REASON_MAPPING,
    /// Writes to the memory are tracked.
    Tracked = bindings::ZPIPE_REASON_TRACKED,
    /// The page is being swapped.
    Swap = bindings::ZPIPE_REASON_SWAP,
    /// The page is in memory that has to stay movable.
    Zone = bindings::ZPIPE_REASON_ZONE,
    /// The page has bad memory.
    Poison = bindings::ZPIPE_REASON_POISON,
    /// The kernel refused, or can move no pages.
    Kernel = bindings::ZPIPE_REASON_KERNEL,
    /// There is no memory for a replacement.
    Memory = bindings::ZPIPE_REASON_MEMORY,
    /// The pipe, or its user, has as many huge pages as it may.
    Limit = bindings::ZPIPE_REASON_LIMIT,
    /// The write end is in packet mode.
    Packet = bindings::ZPIPE_REASON_PACKET,
    /// A copy seems to cost less, see [`GiftFlags::ALWAYS`].
    Cost = bindings::ZPIPE_REASON_COST,
    /// The pipe is buffer-only.
    BufferOnly = bindings::ZPIPE_REASON_BUFFER_ONLY,
    /// The bytes are in a frame of a window, which only a read window shows without a copy.
    Window = bindings::ZPIPE_REASON_WINDOW,
}

/// All reasons: the number of each is its index.
const REASONS: [Reason; bindings::ZPIPE_REASONS as usize] = [
    Reason::Part,
    Reason::Small,
    Reason::Shared,
    Reason::Pinned,
    Reason::Mapping,
    Reason::Tracked,
    Reason::Swap,
    Reason::Zone,
    Reason::Poison,
    Reason::Kernel,
    Reason::Memory,
    Reason::Limit,
    Reason::Packet,
    Reason::Cost,
    Reason::BufferOnly,
    Reason::Window,
];

/// The reasons whose number of pieces is not 0.
pub(crate) fn reasons(why: &[u32]) -> impl Iterator<Item = (Reason, u32)> + '_ {
    let all = REASONS.into_iter().zip(why.iter().copied());
    all.filter(|&(_, pieces)| pieces != 0)
}

/// What a gift or a move did.
///
/// ```
/// use zpipe::{GiftFlags, Reason, Transfer};
///
/// # fn main() -> std::io::Result<()> {
/// let (_reader, writer) = zpipe::pipe()?;
/// let transfer: Transfer = writer.gift_from(&mut [1; 100], GiftFlags::empty())?;
/// assert_eq!((transfer.done, transfer.moved, transfer.copied), (100, 0, 100));
/// assert_eq!(transfer.reasons().collect::<Vec<_>>(), [(Reason::Part, 1)]);
/// assert_eq!(transfer.why()[Reason::Part as usize], 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfer {
    /// Number of bytes that were written or read.
    pub done: usize,
    /// Of these, bytes of pages that changed owner.
    pub moved: usize,
    /// Of these, bytes that were copied.
    pub copied: usize,
    why: [u32; bindings::ZPIPE_REASONS as usize],
}

impl Transfer {
    /// The number of copied pieces for each reason, as `why` of zpipe(4).
    pub fn why(&self) -> &[u32] {
        &self.why
    }

    /// The reasons why bytes were copied, with the number of pieces of at most 2 MiB for each. A
    /// pipe of the kernel's own gives no reasons.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u32)> + '_ {
        reasons(&self.why)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.moved += other.moved;
        self.copied += other.copied;
        for (sum, pieces) in self.why.iter_mut().zip(other.why) {
            *sum = sum.saturating_add(pieces);
        }
    }

    /// All bytes were copied, by a pipe of the kernel's own.
    fn copied(bytes: usize) -> Self {
        Self {
            done: bytes,
            copied: bytes,
            ..Self::default()
        }
    }
}

/// `ZPIPE_IOC_GIFT` or `ZPIPE_IOC_MOVE`.
fn transfer<const COMMAND: Opcode>(
    end: &End,
    memory: &mut [u8],
    flags: u32,
) -> io::Result<Transfer> {
    let iov = bindings::zpipe_iovec {
        base: memory.as_mut_ptr().expose_provenance() as u64,
        bytes: memory.len() as u64,
    };
    let mut args = bindings::zpipe_transfer {
        size: size::<bindings::zpipe_transfer>(),
        flags,
        iov: (&raw const iov).expose_provenance() as u64,
        iovcnt: 1,
        ..Default::default()
    };
    // SAFETY: Both commands take this struct, and read `iov`. They change no memory but the slice,
    // to which we have the only reference. After the call other pages may be there, which are
    // mapped in the same way and initialized.
    unsafe { end.call::<COMMAND, _>(&mut args)? };
    Ok(Transfer {
        done: args.done as usize,
        moved: args.moved as usize,
        copied: args.copied as usize,
        why: args.why,
    })
}

/// A buffer whose bytes were written, and what the gift did.
///
/// ```
/// use zpipe::{GiftFlags, Gifted, HugeBuffer};
///
/// # fn main() -> std::io::Result<()> {
/// let (_reader, writer) = zpipe::pipe()?;
/// let mut buffer = HugeBuffer::new(1)?;
/// for number in 1..=3 {
///     buffer[..1000].fill(number);
///     let gifted: Gifted = writer.gift_with(buffer, ..1000, GiftFlags::empty())?;
///     assert_eq!(gifted.transfer.done, 1000);
///     buffer = gifted.buffer;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Gifted {
    /// The buffer, for the next bytes. In gifted pages it has zeros, or bytes that this process
    /// gifted before. [`GiftFlags`] change that. Everything else is as it was.
    pub buffer: HugeBuffer,
    /// What was written.
    pub transfer: Transfer,
}

/// A gift that was not written, or only in part.
///
/// ```
/// use std::io::ErrorKind;
/// use zpipe::{GiftError, HugeBuffer};
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, writer) = zpipe::pipe()?;
/// drop(reader);
/// let error: GiftError = writer.gift(HugeBuffer::new(1)?).unwrap_err();
/// assert_eq!(error.error.kind(), ErrorKind::BrokenPipe);
/// assert_eq!(error.transfer.done, 0);
/// let _buffer = error.buffer;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct GiftError {
    /// The reason.
    pub error: io::Error,
    /// The buffer. The bytes that were not written are unchanged.
    pub buffer: HugeBuffer,
    /// What was written before the error: the first [`Transfer::done`] bytes of the range.
    pub transfer: Transfer,
}

impl fmt::Display for GiftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, error) = (self.transfer.done, &self.error);
        write!(f, "gift ended after {done} bytes: {error}")
    }
}

// The message has that of `error`, so it is not the source.
impl Error for GiftError {}

impl From<GiftError> for io::Error {
    fn from(error: GiftError) -> Self {
        error.error
    }
}

impl PipeWriter {
    /// Writes a buffer. Its huge pages may leave this process without a copy.
    ///
    /// It writes all bytes, as [`write_all`](std::io::Write::write_all), and takes the buffer by
    /// value because its bytes may be gone afterwards. [`Gifted::buffer`] gives the memory back:
    /// reuse it, since the kernel then need not clear new pages.
    ///
    /// ```
    /// use std::{io, thread};
    /// use zpipe::{HUGE_PAGE, HugeBuffer};
    ///
    /// # fn main() -> io::Result<()> {
    /// let (reader, writer) = zpipe::pipe()?;
    /// let writer = thread::spawn(move || -> io::Result<()> {
    ///     let mut buffer = HugeBuffer::new(HUGE_PAGE)?;
    ///     for number in 1..=3 {
    ///         buffer.fill(number);
    ///         let gifted = writer.gift(buffer)?;
    ///         println!("{} bytes moved", gifted.transfer.moved);
    ///         for (reason, pieces) in gifted.transfer.reasons() {
    ///             println!("{pieces} pieces copied: {reason:?}");
    ///         }
    ///         buffer = gifted.buffer;
    ///     }
    ///     Ok(())
    /// });
    /// let mut buffer = HugeBuffer::new(HUGE_PAGE)?;
    /// let mut sum = 0;
    /// loop {
    ///     let moved = reader.move_into(&mut buffer)?;
    ///     if moved.done == 0 {
    ///         break;
    ///     }
    ///     sum += buffer[..moved.done].iter().map(|&byte| usize::from(byte)).sum::<usize>();
    /// }
    /// assert_eq!(sum, (1 + 2 + 3) * HUGE_PAGE);
    /// writer.join().unwrap()
    /// # }
    /// ```
    ///
    /// After an error the buffer is still there, and the call can be repeated for the rest:
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use zpipe::{GiftFlags, HUGE_PAGE, HugeBuffer};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, writer) = zpipe::Builder::new().nonblocking(true).pipe()?;
    /// let mut buffer = HugeBuffer::new(8 * HUGE_PAGE)?;
    /// buffer.fill(1);
    /// let mut rest = 0;
    /// while let Err(error) = writer.gift_with(buffer, rest.., GiftFlags::empty()) {
    ///     assert_eq!(error.error.kind(), ErrorKind::WouldBlock);
    ///     rest += error.transfer.done;
    ///     buffer = error.buffer;
    ///     // Waiting with poll(2) would be better.
    ///     reader.move_into(&mut HugeBuffer::new(8 * HUGE_PAGE)?)?;
    /// }
    /// assert!(rest > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As write(2), except EINTR.
    pub fn gift(&self, buffer: HugeBuffer) -> Result<Gifted, GiftError> {
        self.gift_with(buffer, .., GiftFlags::empty())
    }

    /// Like [`PipeWriter::gift`], for a range of the buffer and with options.
    ///
    /// # Errors
    ///
    /// As write(2), except EINTR. EINVAL if the buffer has no such range.
    pub fn gift_with(
        &self,
        mut buffer: HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: GiftFlags,
    ) -> Result<Gifted, GiftError> {
        let mut all = Transfer::default();
        match self.gift_all(&mut buffer, range, flags, &mut all) {
            Ok(()) => Ok(Gifted {
                buffer,
                transfer: all,
            }),
            Err(error) => Err(GiftError {
                error,
                buffer,
                transfer: all,
            }),
        }
    }

    /// Writes any memory of the caller: one write(2), which may be interrupted and may write less.
    ///
    /// Whole huge pages in it may be gifted. The bytes that were written may then be replaced, as
    /// those of [`Gifted::buffer`]. The others are unchanged.
    ///
    /// ```
    /// use std::io::Read;
    /// use zpipe::{GiftFlags, Reason};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (mut reader, writer) = zpipe::pipe()?;
    /// let mut memory = *b"too small to be gifted";
    /// let transfer = writer.gift_from(&mut memory, GiftFlags::empty())?;
    /// assert_eq!((transfer.moved, transfer.copied), (0, memory.len()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As write(2), including EINTR.
    pub fn gift_from(&self, memory: &mut [u8], flags: GiftFlags) -> io::Result<Transfer> {
        self.gift_bits(memory, flags.bits())
    }

    /// Like [`PipeWriter::gift_from`], but never waits. A pipe of the kernel's own waits if
    /// `O_NONBLOCK` is not set.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_gift_from(
        &self,
        memory: &mut [u8],
        flags: GiftFlags,
    ) -> io::Result<Transfer> {
        self.gift_bits(memory, flags.bits() | bindings::ZPIPE_NONBLOCK)
    }

    fn gift_bits(&self, memory: &mut [u8], flags: u32) -> io::Result<Transfer> {
        if self.is_zpipe() {
            return transfer::<{ bindings::GIFT }>(&self.end, memory, flags);
        }
        Ok(Transfer::copied(rustix::io::write(self.end.fd(), memory)?))
    }

    /// Continues after the bytes in `all`, and adds what it writes.
    fn gift_all(
        &self,
        buffer: &mut [u8],
        range: impl RangeBounds<usize>,
        flags: GiftFlags,
        all: &mut Transfer,
    ) -> io::Result<()> {
        let (start, len) = bounds(range, buffer.len()).ok_or(Errno::INVAL)?;
        while all.done < len {
            let rest = &mut buffer[start + all.done..start + len];
            let result = self.gift_from(rest, flags);
            match result {
                Ok(Transfer { done: 0, .. }) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => all.add(&some),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl PipeReader {
    /// Reads to the start of a buffer, at most until it is full. Gifted huge pages may become its
    /// memory without a copy. See [`PipeWriter::gift`] for an example.
    ///
    /// It is one read(2), which may read less. At the end of the data it reads no bytes.
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR.
    pub fn move_into(&self, buffer: &mut HugeBuffer) -> io::Result<Transfer> {
        self.move_with(buffer, .., MoveFlags::empty())
    }

    /// Like [`PipeReader::move_into`], to a range of the buffer and with options.
    ///
    /// A huge page is only moved to a range that begins at a multiple of 2 MiB:
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::{GiftFlags, HUGE_PAGE, HugeBuffer, MoveFlags, Reason};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, writer) = zpipe::pipe()?;
    /// let mut buffer = HugeBuffer::new(HUGE_PAGE)?;
    /// buffer.fill(1);
    /// writer.gift_with(buffer, ..100, GiftFlags::ANY)?;
    ///
    /// let mut buffer = HugeBuffer::new(2 * HUGE_PAGE)?;
    /// let moved = reader.move_with(&mut buffer, 1..10, MoveFlags::RETURN)?;
    /// assert_eq!((moved.done, moved.copied), (9, 9));
    /// assert_eq!(buffer[..11], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR. EINVAL if the buffer has no such range.
    pub fn move_with(
        &self,
        buffer: &mut HugeBuffer,
        range: impl RangeBounds<usize>,
        flags: MoveFlags,
    ) -> io::Result<Transfer> {
        let (start, len) = bounds(range, buffer.len()).ok_or(Errno::INVAL)?;
        self.move_to(&mut buffer[start..start + len], flags)
    }

    /// Reads to any memory of the caller: one read(2), which may read less. Gifted huge pages may
    /// replace whole huge pages of it.
    ///
    /// ```
    /// use std::io::Write;
    /// use zpipe::MoveFlags;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = zpipe::pipe()?;
    /// writer.write_all(b"hello")?;
    /// let mut memory = [0; 10];
    /// let transfer = reader.move_to(&mut memory, MoveFlags::empty())?;
    /// assert_eq!((transfer.moved, transfer.copied), (0, 5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As read(2), including EINTR.
    pub fn move_to(&self, memory: &mut [u8], flags: MoveFlags) -> io::Result<Transfer> {
        self.move_bits(memory, flags.bits())
    }

    /// Like [`PipeReader::move_to`], but never waits. A pipe of the kernel's own waits if
    /// `O_NONBLOCK` is not set.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_move_to(&self, memory: &mut [u8], flags: MoveFlags) -> io::Result<Transfer> {
        self.move_bits(memory, flags.bits() | bindings::ZPIPE_NONBLOCK)
    }

    fn move_bits(&self, memory: &mut [u8], flags: u32) -> io::Result<Transfer> {
        if self.is_zpipe() {
            return transfer::<{ bindings::MOVE }>(&self.end, memory, flags);
        }
        Ok(Transfer::copied(rustix::io::read(self.end.fd(), memory)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_reasons() {
        for (number, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
        assert_eq!(size_of::<bindings::zpipe_transfer>(), 112);
    }

    #[test]
    fn sums_of_transfers() {
        let mut sum = Transfer::copied(3);
        let mut why = [0; 16];
        (why[0], why[15]) = (1, 2);
        let other = Transfer {
            done: 10,
            moved: 4,
            copied: 6,
            why,
        };
        assert!(sum.reasons().next().is_none());
        sum.add(&other);
        sum.add(&other);
        assert_eq!((sum.done, sum.moved, sum.copied), (23, 8, 15));
        let reasons = sum.reasons().collect::<Vec<_>>();
        assert_eq!(reasons, [(Reason::Part, 2), (Reason::Window, 4)]);
    }
}
