// SPDX-License-Identifier: GPL-2.0-only

//! Statics for C code.

use core::cell::UnsafeCell;

/// A static that belongs to C once a pointer to it has been handed over.
#[repr(transparent)]
pub(crate) struct CStatic<T>(UnsafeCell<T>);

// SAFETY: Rust code does nothing with the value but hand out its address; whoever uses that has to
// follow the C API's rules for it.
unsafe impl<T> Sync for CStatic<T> {}

impl<T> CStatic<T> {
    /// A static with this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Its address.
    pub(crate) const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

/// A static that nobody changes: it is in read-only memory, as what is `const` in C.
#[repr(transparent)]
pub(crate) struct CConst<T>(T);

// SAFETY: It is constant, and Rust code does nothing with it but hand out its address.
unsafe impl<T> Sync for CConst<T> {}

impl<T> CConst<T> {
    /// A static with this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Its address.
    pub(crate) const fn as_ptr(&self) -> *const T {
        &raw const self.0
    }
}
