// SPDX-License-Identifier: GPL-2.0-only

//! Signals to and of the current task.

use crate::sys;
use kernel::{bindings, prelude::*};

/// Sends SIGPIPE to the current task, as a write without a reader does.
pub(crate) fn raise_sigpipe() {
    // SAFETY: `current` is valid for the duration of the call; the signal is a valid one, and 0
    // says that it comes from user space.
    unsafe { bindings::send_sig(bindings::SIGPIPE as c_int, current!().as_ptr(), 0) };
}

/// Whether the current task is about to be killed, so that what it asked for need not be finished.
pub(crate) fn killed() -> bool {
    // SAFETY: There is a current task; no other requirement.
    unsafe { sys::zpipe_fatal_signal_pending() }
}
