// SPDX-License-Identifier: GPL-2.0-only

//! Words of 64 bits that are read without a lock, and that most writers write under one.
//!
//! The kernel crate's atomics call a C function for every load and store, which takes two dozen
//! instructions in all. `fs/pipe.c` needs one instruction, with READ_ONCE() and WRITE_ONCE(). So
//! does this module.

use core::cell::UnsafeCell;

/// A 64-bit word that is read without a lock.
///
/// Accesses to it are not ordered, not even to two such words, except by locks and wait queues.
pub(crate) struct Word(UnsafeCell<u64>);

// The `Sync` implementation below relies on this.
const _: () = assert!(usize::BITS == 64);

// SAFETY: On 64-bit machines an aligned `u64` is loaded and stored as a whole. The accesses are
// volatile: they are the kernel's READ_ONCE() and WRITE_ONCE(), which may race in its memory model.
unsafe impl Sync for Word {}

impl Word {
    /// Creates a word with this value.
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads the value. It may be stale.
    #[inline]
    pub(crate) fn read(&self) -> u64 {
        // SAFETY: The word is valid. See `Sync` for data races.
        unsafe { self.0.get().read_volatile() }
    }

    /// Stores a value. The callers must not store at the same time, or one of the values is lost.
    #[inline]
    pub(crate) fn write(&self, value: u64) {
        // SAFETY: The word is valid. See `Sync` for data races.
        unsafe { self.0.get().write_volatile(value) };
    }
}
