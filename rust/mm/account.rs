// SPDX-License-Identifier: GPL-2.0-only

//! Accounting of a pipe's pages to a user, in the same counter as the pages of pipe(2).
//!
//! The limits on these counts are those of `fs/pipe.c`. Sources: `account_pipe_buffers()` and
//! `alloc_pipe_info()` in `fs/pipe.c`.

use crate::sys;
use core::ptr::NonNull;
use kernel::bindings;

/// A number of pages that are counted in `user_struct.pipe_bufs` of the user who created this
/// object.
///
/// # Invariants
///
/// * `user` is valid, and this object owns one reference to it.
/// * `pages` of the pages in `user`'s count belong to this object.
pub(crate) struct UserPages {
    user: NonNull<bindings::user_struct>,
    pages: u32,
}

// SAFETY: A `user_struct` has a reference count and may be used on any thread. Its page count is
// atomic.
unsafe impl Send for UserPages {}
// SAFETY: As above.
unsafe impl Sync for UserPages {}

impl UserPages {
    /// Creates an account of no pages, for the user of the current task.
    pub(crate) fn of_current() -> Self {
        // SAFETY: There is a current task, and every task has a user. So the result is not null.
        let user = unsafe { NonNull::new_unchecked(sys::zpipe_get_user()) };

        // INVARIANT: `zpipe_get_user` took a reference. No pages are counted yet.
        Self { user, pages: 0 }
    }

    /// Replaces the counted number of pages by `pages`.
    ///
    /// Returns how many pages the user has in all, including those in pipes of pipe(2).
    pub(crate) fn set(&mut self, pages: u32) -> u64 {
        let more = i64::from(pages) - i64::from(self.pages);

        // INVARIANT: The call below changes the user's count by the same difference.
        self.pages = pages;
        // SAFETY: The user is valid by the type invariants.
        // CAST: A `long` has 64 bits here.
        let all = unsafe { sys::zpipe_account(self.user.as_ptr(), more as isize) };
        // The user's count includes the pages counted here, so it is not negative.
        u64::try_from(all).unwrap_or(0)
    }

    /// The number of counted pages.
    pub(crate) fn get(&self) -> u32 {
        self.pages
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        self.set(0);
        // SAFETY: By the type invariants this object owns a reference, which it gives up here.
        unsafe { bindings::free_uid(self.user.as_ptr()) };
    }
}

/// True if the current task may exceed the limit on the size of one pipe.
pub(crate) fn may_exceed_pipe_size() -> bool {
    // SAFETY: There is a current task, and `CAP_SYS_RESOURCE` is a valid capability.
    unsafe { bindings::capable(bindings::CAP_SYS_RESOURCE as i32) }
}

/// True if the current task may exceed the limits on all pipes of a user, as
/// `pipe_is_unprivileged_user()` in `fs/pipe.c` decides it.
pub(crate) fn may_exceed_user_pages() -> bool {
    // SAFETY: As above, for `CAP_SYS_ADMIN`.
    may_exceed_pipe_size() || unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as i32) }
}
