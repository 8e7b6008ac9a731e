// SPDX-License-Identifier: GPL-2.0-only

//! Files that want SIGIO.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h), source `fs/fcntl.c`. The lists of a
//! pipe are kept as `pipe_fasync()` in `fs/pipe.c` keeps them.

use super::Event;
use crate::zcore::state::Access;
use core::{cell::UnsafeCell, ptr};
use kernel::{bindings, error::Error, new_mutex, prelude::*, sync::Mutex};

/// A list of files with O_ASYNC set, to be told of events by a signal.
///
/// # Invariants
///
/// `head` is null or the head of a list that only `fasync_helper()` changes.
pub(crate) struct FasyncList {
    head: UnsafeCell<*mut bindings::fasync_struct>,
}

// SAFETY: `fasync_helper()` and `kill_fasync()` lock for themselves (fasync_lock, RCU).
unsafe impl Send for FasyncList {}
// SAFETY: As above.
unsafe impl Sync for FasyncList {}

impl FasyncList {
    /// An empty list.
    const fn new() -> Self {
        // INVARIANT: There is no list yet.
        Self {
            head: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// True if no file is on the list. A file that the caller alone still uses is not on a list
    /// that this says is empty.
    fn is_empty(&self) -> bool {
        // SAFETY: By the type invariants; whether it is null may be read at any time, as
        // `kill_fasync()` does.
        unsafe { self.head.get().read_volatile() }.is_null()
    }

    /// Puts `file` on the list, or takes it off; returns whether that changed anything. Sleeps.
    ///
    /// # Safety
    ///
    /// `file` is valid, and stays so for as long as it is on the list.
    unsafe fn update(&self, fd: i32, file: *mut bindings::file, on: bool) -> Result<bool> {
        // SAFETY: The caller vouches for the file, the type invariants for the list.
        let ret = unsafe { bindings::fasync_helper(fd, file, i32::from(on), self.head.get()) };

        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(ret > 0)
    }

    /// Sends SIGIO to whom it concerns. Does not sleep.
    pub(crate) fn tell(&self, event: Event) {
        // As `kill_fasync()` does first, but without the call.
        if self.is_empty() {
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

/// The two lists of a pipe.
///
/// A file that is open for reading and writing is on both lists or on none, and FASYNC in its flags
/// says which. The flag is one bit for two lists: so the lists are changed together, under a lock.
/// Without it, the flag could be clear for a file that is still on a list.
#[pin_data]
pub(crate) struct FasyncLists {
    /// Files open for reading.
    pub(crate) readers: FasyncList,
    /// Files open for writing.
    pub(crate) writers: FasyncList,
    /// Held while the lists are changed. Signals are sent without it.
    #[pin]
    update: Mutex<()>,
}

impl FasyncLists {
    /// Two empty lists.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            readers: FasyncList::new(),
            writers: FasyncList::new(),
            update <- new_mutex!((), "zpipe::fasync"),
        })
    }

    /// Puts `file`, which is open for `access`, on its lists or takes it off. Sleeps.
    ///
    /// `fd` is what SIGIO tells of the file. Error: `ENOMEM`; then nothing has changed.
    ///
    /// # Safety
    ///
    /// `file` is valid, and [`Self::remove`] is called for it before it is freed, after the last
    /// call of this function.
    pub(crate) unsafe fn update(
        &self,
        fd: i32,
        file: *mut bindings::file,
        access: Access,
        on: bool,
    ) -> Result {
        let _guard = self.update.lock();
        let mut added = false;

        if access.read {
            // SAFETY: Says the caller.
            added = unsafe { self.readers.update(fd, file, on)? };
        }
        if access.write {
            // SAFETY: Says the caller.
            let result = unsafe { self.writers.update(fd, file, on) };
            if result.is_err() && added {
                // Only an entry that this call made: one that was there has its counterpart.
                // SAFETY: Says the caller. It cannot fail.
                let _ = unsafe { self.readers.update(-1, file, false) };
            }
            result?;
        }
        Ok(())
    }

    /// Takes `file` off both lists, whatever its flags say. Sleeps.
    ///
    /// # Safety
    ///
    /// `file` is valid, and the caller is the last one to use it.
    pub(crate) unsafe fn remove(&self, file: *mut bindings::file) {
        // Nobody else can put the file on a list.
        if self.readers.is_empty() && self.writers.is_empty() {
            return;
        }

        let _guard = self.update.lock();
        for list in [&self.readers, &self.writers] {
            // SAFETY: The file is valid, says the caller. To take it off cannot fail.
            let _ = unsafe { list.update(-1, file, false) };
        }
    }
}
