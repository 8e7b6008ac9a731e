// SPDX-License-Identifier: GPL-2.0-only

//! Differences between the kernel series that zpipe supports, in the Rust API and in `fs/pipe.c`.
//! No other Rust file depends on the kernel version.
//!
//! Kbuild sets `zpipe_since_7_3` for Linux 7.3 and later, and one such name for each series that it
//! lists. The other files are written for the newest series. This one supplies what an older one
//! lacks or does differently.

#[cfg(zpipe_since_7_3)]
mod since_7_3 {
    use kernel::{
        module_param::{ModuleParam, ModuleParamAccess},
        prelude::*,
        ModuleMetadata,
    };

    /// The `struct module` of the kernel module, the owner in operation tables.
    pub(crate) static THIS_MODULE: ThisModule = <crate::Zpipe as ModuleMetadata>::THIS_MODULE;

    /// The value of a module parameter as set when the module was loaded, or its default.
    pub(crate) fn parameter<T: ModuleParam + Copy>(access: &ModuleParamAccess<T>) -> T {
        access.value()
    }

    /// True if from this poll on every write has to wake the pollers of the read end.
    ///
    /// In `pipe_poll()` of this series, that is an edge-triggered poll of a file that is open for
    /// reading.
    pub(crate) fn poll_wants_every_write(reads: bool, edge_triggered: bool) -> bool {
        reads && edge_triggered
    }

    /// The error `ENOBUFS`: no space for more.
    pub(crate) fn no_buffers() -> Error {
        ENOBUFS
    }

    /// The error `EOPNOTSUPP`: this kernel does not support the operation.
    pub(crate) fn not_supported() -> Error {
        EOPNOTSUPP
    }
}
#[cfg(zpipe_since_7_3)]
pub(crate) use since_7_3::{
    no_buffers, not_supported, parameter, poll_wants_every_write, THIS_MODULE,
};

/// In this series `module!` puts the static `THIS_MODULE` into the crate's root, and
/// `ModuleParamAccess::value()` returns a reference. The two errors have no names in the kernel
/// crate.
#[cfg(not(zpipe_since_7_3))]
mod until_7_2 {
    use kernel::{
        bindings,
        error::Error,
        module_param::{ModuleParam, ModuleParamAccess},
    };

    /// The `struct module` of the kernel module, the owner in operation tables.
    pub(crate) use crate::THIS_MODULE;

    /// The value of a module parameter as set when the module was loaded, or its default.
    pub(crate) fn parameter<T: ModuleParam + Copy>(access: &ModuleParamAccess<T>) -> T {
        *access.value()
    }

    /// True if from this poll on every write has to wake the pollers of the read end.
    ///
    /// In `pipe_poll()` of this series, that is every poll of either end.
    pub(crate) fn poll_wants_every_write(_reads: bool, _edge_triggered: bool) -> bool {
        true
    }

    /// The error `ENOBUFS`: no space for more.
    /// CAST: An error number is small.
    pub(crate) fn no_buffers() -> Error {
        Error::from_errno(-(bindings::ENOBUFS as i32))
    }

    /// The error `EOPNOTSUPP`: this kernel does not support the operation.
    /// CAST: As above.
    pub(crate) fn not_supported() -> Error {
        Error::from_errno(-(bindings::EOPNOTSUPP as i32))
    }
}
#[cfg(not(zpipe_since_7_3))]
pub(crate) use until_7_2::{
    no_buffers, not_supported, parameter, poll_wants_every_write, THIS_MODULE,
};
