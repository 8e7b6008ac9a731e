// SPDX-License-Identifier: GPL-2.0-only

//! Words that are written under a lock and read without it.
//!
//! The kernel crate's atomics call a C function for every load and store, two dozen instructions
//! in all; `fs/pipe.c` has one, by READ_ONCE() and WRITE_ONCE(), and so has this.

use core::cell::UnsafeCell;

/// A word that is written under a lock and read without it.
///
/// There is no order between two words, and none but what locks and wait queues give.
pub(crate) struct Word(UnsafeCell<u64>);

// What follows needs it.
const _: () = assert!(usize::BITS == 64);

// SAFETY: On 64 bits an aligned u64 is loaded and stored whole, by volatile accesses, which are the
// kernel's READ_ONCE() and WRITE_ONCE() and may race in its memory model.
unsafe impl Sync for Word {}

impl Word {
    /// A word with this value.
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value it has or had a moment ago.
    #[inline]
    pub(crate) fn read(&self) -> u64 {
        // SAFETY: The word is valid; for races see `Sync`.
        unsafe { self.0.get().read_volatile() }
    }

    /// Changes the value. Not by two at once, or one is lost.
    #[inline]
    pub(crate) fn write(&self, value: u64) {
        // SAFETY: The word is valid; for races see `Sync`.
        unsafe { self.0.get().write_volatile(value) };
    }
}
