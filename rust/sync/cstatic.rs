// SPDX-License-Identifier: GPL-2.0-only

//! Statics whose addresses are passed to C code.

use core::cell::UnsafeCell;

/// A mutable static whose address is passed to C code.
#[repr(transparent)]
pub(crate) struct CStatic<T>(UnsafeCell<T>);

// SAFETY: Safe code only gets the address of the value. Code that dereferences the address, in C or
// in Rust, has to follow the rules of the C API to which the value belongs.
unsafe impl<T> Sync for CStatic<T> {}

impl<T> CStatic<T> {
    /// Creates a static with this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The address of the value.
    pub(crate) const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

/// A constant static. It is in read-only memory, like a `const` object in C.
#[repr(transparent)]
pub(crate) struct CConst<T>(T);

// SAFETY: The value is constant, and Rust code only passes on its address.
unsafe impl<T> Sync for CConst<T> {}

impl<T> CConst<T> {
    /// Creates a static with this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The address of the value.
    pub(crate) const fn as_ptr(&self) -> *const T {
        &raw const self.0
    }
}
