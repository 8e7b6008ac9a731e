// SPDX-License-Identifier: GPL-2.0-only

//! Lists of files whose owners get SIGIO.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h), source `fs/fcntl.c`. The two lists
//! of a pipe are updated as `pipe_fasync()` in `fs/pipe.c` does it.

use super::Event;
use crate::zcore::state::Access;
use core::{cell::UnsafeCell, ptr};
use kernel::{bindings, error::Error, new_mutex, prelude::*, sync::Mutex};

/// A list of files with O_ASYNC set. An event sends SIGIO to their owners.
///
/// # Invariants
///
/// `head` is null or the head of a list that only `fasync_helper()` changes.
pub(crate) struct FasyncList {
    head: UnsafeCell<*mut bindings::fasync_struct>,
}

// SAFETY: `fasync_helper()` and `kill_fasync()` do their own locking (fasync_lock, RCU).
unsafe impl Send for FasyncList {}
// SAFETY: As above.
unsafe impl Sync for FasyncList {}

impl FasyncList {
    /// Creates an empty list.
    const fn new() -> Self {
        // INVARIANT: Null is the head of an empty list.
        Self {
            head: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// True if no file is on the list.
    ///
    /// The result may be stale for files that others use. It is exact for a file that only the
    /// caller still uses, since nobody else can put that file on the list.
    fn is_empty(&self) -> bool {
        // SAFETY: The head is valid by the type invariants. It may be compared with null at any
        // time, as `kill_fasync()` does.
        unsafe { self.head.get().read_volatile() }.is_null()
    }

    /// Puts `file` on the list or takes it off; returns true if that changed the list. Sleeps.
    ///
    /// Error: `ENOMEM`, only when a file is put on the list.
    ///
    /// # Safety
    ///
    /// `file` is valid, and stays valid as long as it is on the list.
    unsafe fn update(&self, fd: i32, file: *mut bindings::file, on: bool) -> Result<bool> {
        // SAFETY: The caller guarantees that the file is valid, the type invariants that the list
        // is.
        let ret = unsafe { bindings::fasync_helper(fd, file, i32::from(on), self.head.get()) };

        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(ret > 0)
    }

    /// Sends SIGIO to the owners of the files on the list. Does not sleep.
    pub(crate) fn notify(&self, event: Event) {
        // `kill_fasync()` begins with the same test. This saves the call.
        if self.is_empty() {
            return;
        }
        let band = match event {
            Event::Input => bindings::POLL_IN,
            Event::Output => bindings::POLL_OUT,
        };

        // SAFETY: By the type invariants the list is valid. `kill_fasync()` walks it under RCU.
        unsafe { bindings::kill_fasync(self.head.get(), bindings::SIGIO as c_int, band as c_int) };
    }
}

/// The two lists of a pipe.
///
/// A file that is open for reading and writing is on both lists or on none. The FASYNC flag of the
/// file says which. This one flag describes two lists, so the lists are changed together, under a
/// lock. Without the lock the flag could be clear although the file is still on a list.
#[pin_data]
pub(crate) struct FasyncLists {
    /// Files open for reading.
    pub(crate) readers: FasyncList,
    /// Files open for writing.
    pub(crate) writers: FasyncList,
    /// Protects changes of the lists. Signals are sent without it.
    #[pin]
    update: Mutex<()>,
}

impl FasyncLists {
    /// Creates two empty lists.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            readers: FasyncList::new(),
            writers: FasyncList::new(),
            update <- new_mutex!((), "zpipe::fasync"),
        })
    }

    /// Puts `file`, which is open for `access`, on its lists or takes it off. Sleeps.
    ///
    /// SIGIO names the file as descriptor `fd`. Error: `ENOMEM`; the lists are unchanged then.
    ///
    /// # Safety
    ///
    /// `file` is valid. After the last call of this function for `file`, and before `file` is
    /// freed, [`Self::remove`] is called for it.
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
            // SAFETY: The caller guarantees that `file` is valid as long as it is on the list.
            added = unsafe { self.readers.update(fd, file, on)? };
        }
        if access.write {
            // SAFETY: As above.
            let result = unsafe { self.writers.update(fd, file, on) };
            if result.is_err() && added {
                // Undo only an entry that this call added. An older entry has its counterpart on
                // the other list.
                // SAFETY: The caller guarantees that `file` is valid. Removing it cannot fail.
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
    /// `file` is valid, and only the caller still uses it.
    pub(crate) unsafe fn remove(&self, file: *mut bindings::file) {
        // Only the caller still uses the file, so nobody puts it on a list after this test.
        if self.readers.is_empty() && self.writers.is_empty() {
            return;
        }

        let _guard = self.update.lock();
        for list in [&self.readers, &self.writers] {
            // SAFETY: The caller guarantees that the file is valid. Removing it cannot fail.
            let _ = unsafe { list.update(-1, file, false) };
        }
    }
}
