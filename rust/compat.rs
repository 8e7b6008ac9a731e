// SPDX-License-Identifier: GPL-2.0-only

//! Where the kernel crate's API differs between the series zpipe is built for: the only file that
//! asks which one it is.
//!
//! Kbuild sets `zpipe_since_7_3` for Linux 7.3 and whatever comes after it, and one such name for
//! each series it lists. The rest of the module is written for the newest; what an older one lacks
//! or does otherwise is made up for here.

#[cfg(zpipe_since_7_3)]
mod since_7_3 {
    use kernel::{
        module_param::{ModuleParam, ModuleParamAccess},
        prelude::*,
        ModuleMetadata,
    };

    /// This module, as the owner of what the kernel calls.
    pub(crate) static THIS_MODULE: ThisModule = <crate::Zpipe as ModuleMetadata>::THIS_MODULE;

    /// What a parameter was set to when the module was loaded, or its default.
    pub(crate) fn parameter<T: ModuleParam + Copy>(access: &ModuleParamAccess<T>) -> T {
        access.value()
    }

    /// True if a poll of a file makes every write wake pollers of the read end from now on: in
    /// `pipe_poll()`, an edge-triggered one of a file that is open for reading.
    pub(crate) fn poll_wants_every_write(reads: bool, edge_triggered: bool) -> bool {
        reads && edge_triggered
    }

    /// No space for more.
    pub(crate) fn no_buffers() -> Error {
        ENOBUFS
    }

    /// It cannot be done on this kernel.
    pub(crate) fn not_supported() -> Error {
        EOPNOTSUPP
    }
}
#[cfg(zpipe_since_7_3)]
pub(crate) use since_7_3::{
    no_buffers, not_supported, parameter, poll_wants_every_write, THIS_MODULE,
};

/// Here `module!` puts a static into the crate's root, and a parameter is lent.
#[cfg(not(zpipe_since_7_3))]
mod until_7_2 {
    use kernel::{
        bindings,
        error::Error,
        module_param::{ModuleParam, ModuleParamAccess},
    };

    /// This module, as the owner of what the kernel calls.
    pub(crate) use crate::THIS_MODULE;

    /// What a parameter was set to when the module was loaded, or its default.
    pub(crate) fn parameter<T: ModuleParam + Copy>(access: &ModuleParamAccess<T>) -> T {
        *access.value()
    }

    /// True if a poll of a file makes every write wake pollers of the read end from now on: in
    /// `pipe_poll()`, every poll of either end.
    pub(crate) fn poll_wants_every_write(_reads: bool, _edge_triggered: bool) -> bool {
        true
    }

    /// No space for more. CAST: A small number.
    pub(crate) fn no_buffers() -> Error {
        Error::from_errno(-(bindings::ENOBUFS as i32))
    }

    /// It cannot be done on this kernel. CAST: As above.
    pub(crate) fn not_supported() -> Error {
        Error::from_errno(-(bindings::EOPNOTSUPP as i32))
    }
}
#[cfg(not(zpipe_since_7_3))]
pub(crate) use until_7_2::{
    no_buffers, not_supported, parameter, poll_wants_every_write, THIS_MODULE,
};
