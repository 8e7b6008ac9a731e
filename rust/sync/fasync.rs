// SPDX-License-Identifier: GPL-2.0-only

//! Files that want SIGIO.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h), source `fs/fcntl.c`.

use super::Event;
use core::{cell::UnsafeCell, ptr};
use kernel::{bindings, error::to_result, fs::File, prelude::*};

/// A list of files with O_ASYNC set, to be told of events by a signal.
///
/// A file that is closed is taken off by the VFS, which calls `->fasync()` before `->release()`.
///
/// # Invariants
///
/// `head` is null or the head of a list that only `fasync_helper()` changes.
pub(crate) struct FasyncQueue {
    head: UnsafeCell<*mut bindings::fasync_struct>,
}

// SAFETY: `fasync_helper()` and `kill_fasync()` lock for themselves (fasync_lock, RCU).
unsafe impl Send for FasyncQueue {}
// SAFETY: As above.
unsafe impl Sync for FasyncQueue {}

impl FasyncQueue {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: There is no list yet.
        Self {
            head: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Puts `file` on the list, or takes it off. Sleeps.
    ///
    /// `fd` is what SIGIO tells of the file.
    pub(crate) fn update(&self, fd: i32, file: &File, on: bool) -> Result {
        // SAFETY: The file is valid for the call, and by the type invariants so is the list.
        to_result(unsafe {
            bindings::fasync_helper(fd, file.as_ptr(), i32::from(on), self.head.get())
        })
    }

    /// Sends SIGIO to whom it concerns. Does not sleep.
    pub(crate) fn tell(&self, event: Event) {
        // SAFETY: By the type invariants; whether it is null may be read at any time. As
        // `kill_fasync()` does first, but without the call.
        if unsafe { self.head.get().read_volatile() }.is_null() {
            return;
        }
        let band = match event {
            Event::Input => bindings::POLL_IN,
            Event::Output => bindings::POLL_OUT,
        };

        // SAFETY: By the type invariants the list is valid; `kill_fasync()` walks it under RCU.
        unsafe { bindings::kill_fasync(self.head.get(), bindings::SIGIO as c_int, band as c_int) };
    }
}
