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
}
#[cfg(zpipe_since_7_3)]
pub(crate) use since_7_3::{parameter, THIS_MODULE};

/// Here `module!` puts a static into the crate's root, and a parameter is lent.
#[cfg(not(zpipe_since_7_3))]
mod until_7_2 {
    use kernel::module_param::{ModuleParam, ModuleParamAccess};

    /// This module, as the owner of what the kernel calls.
    pub(crate) use crate::THIS_MODULE;

    /// What a parameter was set to when the module was loaded, or its default.
    pub(crate) fn parameter<T: ModuleParam + Copy>(access: &ModuleParamAccess<T>) -> T {
        *access.value()
    }
}
#[cfg(not(zpipe_since_7_3))]
pub(crate) use until_7_2::{parameter, THIS_MODULE};
