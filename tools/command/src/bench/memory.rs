// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory of messages, and what is written there.

use crate::os::Error;
use std::{ffi::c_int, ptr};

/// The size of a huge page, and of a frame of a window.
pub const HUGE: usize = 2 << 20;

/// Which bytes of a message both ends access: a word at each multiple of this.
#[derive(Clone, Copy, Debug)]
pub struct Step(pub usize);

impl Step {
    /// The word at a position of the stream, which the reader expects. It differs between pages and
    /// from the content of fresh memory.
    fn word(position: u64) -> u64 {
        (position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Writes the words of a message, which begins at this position of the stream.
    pub fn stamp(self, bytes: &mut [u8], position: u64) {
        for at in (0..bytes.len()).step_by(self.0) {
            let word = Self::word(position + at as u64).to_ne_bytes();
            bytes[at..at + word.len()].copy_from_slice(&word);
        }
    }

    /// Checks the words in a part of the stream. The part begins with one.
    pub fn check(self, bytes: &[u8], position: u64) -> Result<(), Error> {
        let mut differences = 0;
        for at in (0..bytes.len()).step_by(self.0) {
            let word = Self::word(position + at as u64).to_ne_bytes();
            differences |= u8::from(bytes[at..at + word.len()] != word);
        }
        // The reader got other bytes than the writer sent.
        if differences == 0 {
            Ok(())
        } else {
            Err(Error(libc::EBADMSG))
        }
    }
}

/// Memory that begins at a multiple of 2 MiB.
#[derive(Debug)]
pub struct Memory {
    /// The mapping, which is larger.
    map: *mut u8,
    mapped: usize,
    base: *mut u8,
    len: usize,
}

impl Memory {
    /// Private memory, of huge pages if the kernel has them.
    pub fn private(len: usize) -> Result<Self, Error> {
        Self::new(len, libc::MAP_PRIVATE)
    }

    /// Memory that children share, of huge pages if the kernel has them for such memory.
    pub fn shared(len: usize) -> Result<Self, Error> {
        Self::new(len, libc::MAP_SHARED)
    }

    /// Makes all pages present, so that measurements do not contain page faults. Before Linux 5.14
    /// they do.
    pub fn populate(&mut self) -> Result<(), Error> {
        // SAFETY: It is part of our mapping, and the advice does not change its content.
        match unsafe { libc::madvise(self.base.cast(), self.len, libc::MADV_POPULATE_WRITE) } {
            0 => Ok(()),
            _ => match Error::last() {
                Error(libc::EINVAL) => Ok(()),
                error => Err(error),
            },
        }
    }

    fn new(len: usize, flags: c_int) -> Result<Self, Error> {
        let mapped = len.next_multiple_of(HUGE) + HUGE;
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            flags | libc::MAP_ANONYMOUS,
        );
        // SAFETY: The kernel chooses an address at which nothing is mapped.
        let map = unsafe { libc::mmap(ptr::null_mut(), mapped, access, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(Error::last());
        }
        let map: *mut u8 = map.cast();
        let base = map.wrapping_add(map.align_offset(HUGE));
        // Only an advice: with other pages it is slower.
        // SAFETY: It is part of our mapping, and the advice does not change its content.
        unsafe { libc::madvise(base.cast(), len.next_multiple_of(HUGE), libc::MADV_HUGEPAGE) };
        Ok(Self {
            map,
            mapped,
            base,
            len,
        })
    }

    pub fn address(&self) -> *mut u8 {
        self.base
    }

    /// The bytes. Of shared memory, nobody else may write them meanwhile.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: They are in the mapping, any value is valid, and only this reference exists in
        // this process. Ends of a ring use only slots that are theirs.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: We mapped it, and no reference outlives it.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_noticed() {
        let mut memory = Memory::private(3 * 4096).unwrap();
        assert_eq!(memory.address() as usize % HUGE, 0);
        for step in [Step(4096), Step(64)] {
            let position = 7 * 4096;
            step.stamp(memory.bytes(), position);
            assert_eq!(step.check(memory.bytes(), position), Ok(()));
            assert_eq!(step.check(&memory.bytes()[4096..], position + 4096), Ok(()));
            assert_eq!(
                step.check(memory.bytes(), position + 4096),
                Err(Error(libc::EBADMSG))
            );
            memory.bytes()[8192] ^= 1;
            assert_eq!(
                step.check(memory.bytes(), position),
                Err(Error(libc::EBADMSG))
            );
        }
    }
}
