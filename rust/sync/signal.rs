// SPDX-License-Identifier: GPL-2.0-only

//! Signals sent to, or pending for, the current task.

use crate::sys;
use kernel::{bindings, prelude::*};

/// Sends SIGPIPE to the current task, as pipe(2) does for a write when no reader is left.
pub(crate) fn raise_sigpipe() {
    // SAFETY: `current` is valid during the call, and SIGPIPE is a valid signal. The 0 marks it as
    // a signal from user space.
    unsafe { bindings::send_sig(bindings::SIGPIPE as c_int, current!().as_ptr(), 0) };
}

/// True if a fatal signal is pending for the current task, so that it may abandon its call.
pub(crate) fn killed() -> bool {
    // SAFETY: There is a current task. The function has no other requirements.
    unsafe { sys::zpipe_fatal_signal_pending() }
}
