// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that can be gifted and moved.

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags},
};
use std::{
    fmt, io,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

/// The size and alignment of a huge page, 2 MiB.
pub const HUGE_PAGE: usize = 2 << 20;

/// Memory that consists of huge pages if the kernel has them: zeros at first, aligned to 2 MiB, and
/// a multiple of 2 MiB long.
///
/// It is for [`PipeWriter::gift`](crate::PipeWriter::gift) and
/// [`PipeReader::move_into`](crate::PipeReader::move_into). Only whole huge pages are gifted and
/// moved. The kernel allocates one at the first access.
///
/// A child of fork(2) shares all pages of its parent until one of them writes to a page. Shared
/// pages are copied.
///
/// ```
/// use zpipe::{HUGE_PAGE, HugeBuffer};
///
/// # fn main() -> std::io::Result<()> {
/// let mut buffer = HugeBuffer::new(1)?;
/// assert_eq!(buffer.len(), HUGE_PAGE);
/// buffer[..5].copy_from_slice(b"hello");
/// assert_eq!(&buffer[..6], b"hello\0");
/// # Ok(())
/// # }
/// ```
pub struct HugeBuffer {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: It owns its memory, as a Vec does.
unsafe impl Send for HugeBuffer {}
// SAFETY: As above. A shared reference only reads.
unsafe impl Sync for HugeBuffer {}

impl HugeBuffer {
    /// Maps at least `bytes` bytes, rounded up to whole huge pages.
    ///
    /// # Errors
    ///
    /// As mmap(2): EINVAL if `bytes` is 0, ENOMEM if there are not enough addresses.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let len = bytes.checked_next_multiple_of(HUGE_PAGE).unwrap_or(0);
        let mapped = len.checked_add(HUGE_PAGE).ok_or(Errno::NOMEM)?;
        if len == 0 {
            return Err(if bytes == 0 {
                Errno::INVAL
            } else {
                Errno::NOMEM
            }
            .into());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses an address at which nothing is mapped.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), mapped, access, MapFlags::PRIVATE)?
        };
        let before = start.addr().wrapping_neg() % HUGE_PAGE;
        // SAFETY: The offset is within the mapping.
        let base = unsafe { start.byte_add(before) };
        // SAFETY: The two ranges are of the new mapping, and outside of the part that is kept. It
        // only costs addresses if they stay mapped. The advice does not change any bytes, and it
        // may fail: then there are small pages.
        unsafe {
            if before != 0 {
                let _ = rustix::mm::munmap(start, before);
            }
            let _ = rustix::mm::munmap(base.byte_add(len), HUGE_PAGE - before);
            let _ = rustix::mm::madvise(base, len, Advice::LinuxHugepage);
        }
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Self { base, len }),
            None => Err(Errno::NOMEM.into()),
        }
    }
}

impl HugeBuffer {
    /// Gives the memory up: it stays mapped. [`HugeBuffer::from_raw`] takes it back.
    ///
    /// ```
    /// use zpipe::HugeBuffer;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let memory = HugeBuffer::new(1)?.leak();
    /// memory[0] = 1;
    /// // SAFETY: It is the memory of a buffer, and nothing refers to it.
    /// let buffer = unsafe { HugeBuffer::from_raw(memory.as_mut_ptr(), memory.len()) };
    /// assert_eq!(buffer[0], 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn leak(self) -> &'static mut [u8] {
        let buffer = ManuallyDrop::new(self);
        // SAFETY: The memory is initialized, and never unmapped. Nobody else has its address.
        unsafe { slice::from_raw_parts_mut(buffer.base.as_ptr(), buffer.len) }
    }

    /// Takes back memory that was given up.
    ///
    /// # Safety
    ///
    /// Address and length must be those that [`HugeBuffer::leak`] returned. Nothing may refer to
    /// the memory, and it must not be taken back twice.
    ///
    /// # Panics
    ///
    /// If the address is null.
    pub unsafe fn from_raw(base: *mut u8, len: usize) -> Self {
        let base = NonNull::new(base).expect("memory of a buffer");
        Self { base, len }
    }
}

impl Deref for HugeBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: The memory is mapped for as long as this exists, and initialized: the kernel
        // clears it. Nobody else has its address.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for HugeBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `deref()`. The borrow excludes other references.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for HugeBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for HugeBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for HugeBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HugeBuffer")
            .field("base", &self.base)
            .field("len", &self.len)
            .finish()
    }
}

impl Drop for HugeBuffer {
    fn drop(&mut self) {
        // SAFETY: We mapped it, and no reference outlives it. It cannot fail: nothing else is
        // mapped there.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_alignment() {
        for (bytes, pages) in [
            (1, 1),
            (HUGE_PAGE, 1),
            (HUGE_PAGE + 1, 2),
            (5 * HUGE_PAGE, 5),
        ] {
            let mut buffer = HugeBuffer::new(bytes).unwrap();
            assert_eq!(buffer.len(), pages * HUGE_PAGE);
            assert_eq!(buffer.as_ptr().addr() % HUGE_PAGE, 0);
            assert_eq!((buffer[0], buffer[buffer.len() - 1]), (0, 0));
            *buffer.last_mut().unwrap() = 1;
        }
    }

    #[test]
    fn impossible_sizes() {
        let error = |bytes| Errno::from_io_error(&HugeBuffer::new(bytes).unwrap_err());
        assert_eq!(error(0), Some(Errno::INVAL));
        for bytes in [usize::MAX, usize::MAX - HUGE_PAGE, usize::MAX / 2] {
            assert_eq!(error(bytes), Some(Errno::NOMEM));
        }
    }

    #[test]
    fn nothing_stays_mapped() {
        /// Pages of 4 KiB of this process.
        fn mapped() -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').next().unwrap().parse().unwrap()
        }
        let before = mapped();
        for _ in 0..4000 {
            HugeBuffer::new(1).unwrap();
        }
        // Other tests may map memory at the same time.
        assert!(mapped() < before + 4000 * HUGE_PAGE / 4096 / 4);
    }
}
