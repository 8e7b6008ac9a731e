// SPDX-License-Identifier: MIT OR Apache-2.0

//! Descriptors that this library owns, for the time of one call.

use core::ffi::c_int;
use zpipe_uapi::sys;

/// A descriptor that is closed when it is dropped.
pub(crate) struct Own(pub(crate) c_int);

impl Drop for Own {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}
