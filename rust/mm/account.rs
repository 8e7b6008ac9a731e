// SPDX-License-Identifier: GPL-2.0-only

//! Pages counted to a user, together with those of real pipes.
//!
//! Sources: `account_pipe_buffers()` and `alloc_pipe_info()` in `fs/pipe.c`.

use crate::sys;
use core::ptr::NonNull;
use kernel::bindings;

/// Pages counted to the user who made this, in `user_struct.pipe_bufs`.
///
/// # Invariants
///
/// `user` is valid and one reference of it is ours; `pages` of its count are ours.
pub(crate) struct UserPages {
    user: NonNull<bindings::user_struct>,
    pages: u32,
}

// SAFETY: A user_struct is counted, and its count of pages atomic.
unsafe impl Send for UserPages {}
// SAFETY: As above.
unsafe impl Sync for UserPages {}

impl UserPages {
    /// Counts no pages yet, for the user of the current task.
    pub(crate) fn of_current() -> Self {
        // SAFETY: There is a current task, it has a user, and the result is not null.
        let user = unsafe { NonNull::new_unchecked(sys::zpipe_get_user()) };

        // INVARIANT: `zpipe_get_user` took a reference.
        Self { user, pages: 0 }
    }

    /// Counts `pages` pages from now on, in place of what it was; returns how many the user has
    /// in all, in real pipes too.
    pub(crate) fn set(&mut self, pages: u32) -> u64 {
        let more = i64::from(pages) - i64::from(self.pages);

        // INVARIANT: The user's count changes as ours does.
        self.pages = pages;
        // SAFETY: The user is valid by the type invariants. CAST: A long is an i64 here.
        let all = unsafe { sys::zpipe_account(self.user.as_ptr(), more as isize) };
        // The count is never less than ours, which is not negative.
        u64::try_from(all).unwrap_or(0)
    }

    /// How many pages are counted.
    pub(crate) fn get(&self) -> u32 {
        self.pages
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        self.set(0);
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { bindings::free_uid(self.user.as_ptr()) };
    }
}

/// Whether the current task may exceed the limit on the size of one pipe.
pub(crate) fn may_exceed_pipe_size() -> bool {
    // SAFETY: There is a current task; the capability is a valid one.
    unsafe { bindings::capable(bindings::CAP_SYS_RESOURCE as i32) }
}

/// Whether the current task may exceed the limits on all pipes of a user.
pub(crate) fn may_exceed_user_pages() -> bool {
    // SAFETY: As above.
    may_exceed_pipe_size() || unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as i32) }
}
