// SPDX-License-Identifier: GPL-2.0-only

//! Real pipes: the kernel's own pipes, as one side of a splice.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h); sources:
//! `fs/splice.c` and `fs/pipe.c`

use crate::{
    mm::{Parts, SharedPage},
    slot::Kind,
    sys,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{bindings, error::to_result, prelude::*};

/// Pages of zpipe that are in real pipes. They keep the module loaded.
pub(crate) struct Pages;

impl Drop for Pages {
    /// Waits until the last of them is completely gone. Called when the module is unloaded. Sleeps.
    fn drop(&mut self) {
        // SAFETY: The module is being unloaded, so no such page is left.
        unsafe { sys::zpipe_splice_exit() };
    }
}

/// A real pipe whose mutex the current task holds.
///
/// The mutex is dropped while the task waits in a method, and taken again.
///
/// # Invariants
///
/// `ptr` is a valid pipe for `'a`, and not the target of a watch queue. The current task holds its
/// mutex, except inside the methods that say otherwise.
pub(crate) struct RealPipe<'a> {
    ptr: NonNull<bindings::pipe_inode_info>,
    /// The mutex is unlocked when the value is dropped.
    unlocks: bool,
    /// A slot was freed, so writers have to be woken.
    freed: bool,
    _pipe: PhantomData<&'a ()>,
}

impl<'a> RealPipe<'a> {
    /// Takes the mutex of `ptr`. Sleeps.
    ///
    /// # Safety
    ///
    /// `ptr` is a valid pipe for `'a`, which can be spliced. The current task does not hold its
    /// mutex.
    pub(crate) unsafe fn lock(ptr: NonNull<bindings::pipe_inode_info>) -> Self {
        // SAFETY: The caller guarantees that the pipe is valid.
        unsafe { sys::zpipe_real_lock(ptr.as_ptr()) };
        // INVARIANT: The task has the mutex now.
        Self {
            ptr,
            unlocks: true,
            freed: false,
            _pipe: PhantomData,
        }
    }

    /// Wraps a pipe whose mutex the caller holds, and keeps. `EINVAL` if nobody holds it.
    ///
    /// # Safety
    ///
    /// `ptr` is a valid pipe for `'a`, which can be spliced. If a task holds its mutex, it is the
    /// current one, which keeps it for `'a`.
    pub(crate) unsafe fn locked(ptr: NonNull<bindings::pipe_inode_info>) -> Result<Self> {
        // SAFETY: The caller guarantees that the pipe is valid.
        if !unsafe { sys::zpipe_real_is_locked(ptr.as_ptr()) } {
            return Err(EINVAL);
        }
        // INVARIANT: The caller guarantees it.
        Ok(Self {
            ptr,
            unlocks: false,
            freed: false,
            _pipe: PhantomData,
        })
    }

    /// True if a write from this pipe must not wait: it is the pipe that sendfile(2) uses inside
    /// the kernel, and some bytes have been transferred. `splice_file_to_pipe()` returns these,
    /// too.
    pub(crate) fn must_not_wait(&self) -> bool {
        // SAFETY: By the type invariants the pipe is valid and locked.
        unsafe {
            sys::zpipe_real_is_internal(self.ptr.as_ptr())
                && sys::zpipe_real_has_progress(self.ptr.as_ptr())
        }
    }

    /// Calls `wait` without the mutex. Sleeps.
    pub(crate) fn unlocked<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        self.wake_writers();
        // SAFETY: The pipe is valid and the task holds the mutex by the type invariants.
        unsafe { sys::zpipe_real_unlock(self.ptr.as_ptr()) };
        let result = wait();
        // SAFETY: The pipe is valid by the type invariants, and the task does not hold the mutex.
        unsafe { sys::zpipe_real_lock(self.ptr.as_ptr()) };
        result
    }

    /// The number of free slots.
    pub(crate) fn free(&self) -> usize {
        // SAFETY: By the type invariants the pipe is valid and locked.
        unsafe { sys::zpipe_real_free(self.ptr.as_ptr()) }
    }

    /// Waits until a slot is free, without the mutex. Sleeps.
    ///
    /// Errors: `EPIPE` (no reader is left; with SIGPIPE), `EAGAIN` (it has to wait and is
    /// `nonblock`), `ERESTARTSYS`.
    pub(crate) fn wait_for_space(&mut self, nonblock: bool) -> Result {
        // SAFETY: By the type invariants the pipe is valid and locked.
        to_result(unsafe { sys::zpipe_real_wait_for_space(self.ptr.as_ptr(), nonblock) })
    }

    /// Waits for data, without the mutex. Returns false at the end of the data. Sleeps.
    ///
    /// Errors: `EAGAIN` (it has to wait and is `nonblock`), `ERESTARTSYS`.
    pub(crate) fn wait_for_data(&mut self, nonblock: bool) -> Result<bool> {
        // SAFETY: By the type invariants the pipe is valid and locked.
        match unsafe { sys::zpipe_real_wait_for_data(self.ptr.as_ptr(), nonblock) } {
            data @ 0.. => Ok(data != 0),
            error => Err(Error::from_errno(error)),
        }
    }

    /// Puts at most `bytes` valid bytes of `page` from `offset` on into a free slot, without a
    /// copy. Returns how many. The page is freed when nobody in the kernel refers to it any more.
    ///
    /// The caller makes sure that there is a free slot and a byte; else nothing happens.
    pub(crate) fn push(
        &mut self,
        page: SharedPage,
        offset: usize,
        bytes: usize,
        kind: Kind,
    ) -> usize {
        let bytes = bytes.min(page.valid().saturating_sub(offset));
        if bytes == 0 || self.free() == 0 {
            return 0;
        }
        let page = page.into_raw();
        // SAFETY: By the type invariants the pipe is valid and locked, and it has a free slot. The
        // function takes over the reference. The bytes are initialised, and nobody writes to them.
        unsafe {
            let packet = kind == Kind::Packet;
            sys::zpipe_real_push(self.ptr.as_ptr(), page.as_ptr(), offset, bytes, packet);
        }
        bytes
    }

    /// Passes bytes from the front of the pipe to `write`: at most `max`, all of them of a stream
    /// or of one packet. `write` returns how many it has taken, and they are removed.
    ///
    /// Returns that number, or 0 if the next bytes are not there any more because their file was
    /// truncated. It may wait for a disk. Other errors: those of `write`, and of the file that the
    /// bytes come from.
    pub(crate) fn feed(
        &mut self,
        max: usize,
        write: impl FnOnce(&Parts<'_>, Kind) -> Result<usize>,
    ) -> Result<usize> {
        let mut parts = Parts::new();
        let (mut bytes, mut packet) = (0, false);
        // SAFETY: By the type invariants the pipe is valid and locked. The ranges are those of
        // buffers of the pipe, which stay where they are as long as the mutex is held: until the
        // end of this function. User space may write to pages that belong to a file, and no Rust
        // code borrows their bytes.
        let n = unsafe {
            parts.fill_raw(|vecs, space| {
                let ptr = self.ptr.as_ptr();
                let n = sys::zpipe_real_peek(ptr, max, vecs, space, &mut bytes, &mut packet);
                (n, bytes)
            })
        };
        match n {
            0 => return Ok(0),
            1.. => (),
            // CAST: An error number is small.
            error => return Err(Error::from_errno(error as c_int)),
        }
        let kind = if packet { Kind::Packet } else { Kind::Stream };
        let taken = write(&parts, kind)?.min(bytes);
        // SAFETY: By the type invariants the pipe is valid and locked.
        self.freed |= unsafe { sys::zpipe_real_consume(self.ptr.as_ptr(), taken) };
        Ok(taken)
    }

    /// Wakes writers, if a slot was freed.
    fn wake_writers(&mut self) {
        if core::mem::take(&mut self.freed) {
            // SAFETY: By the type invariants the pipe is valid.
            unsafe { sys::zpipe_real_wake_writers(self.ptr.as_ptr()) };
        }
    }
}

impl Drop for RealPipe<'_> {
    fn drop(&mut self) {
        self.wake_writers();
        if self.unlocks {
            // SAFETY: The task holds the mutex by the type invariants.
            unsafe { sys::zpipe_real_unlock(self.ptr.as_ptr()) };
        }
    }
}

/// A real pipe that belongs to no file, and so to one call: as the one that sendfile(2) uses.
///
/// # Invariants
///
/// `ptr` was made by `zpipe_internal_new()`, and this object owns it.
pub(crate) struct InternalPipe {
    ptr: NonNull<bindings::pipe_inode_info>,
}

impl InternalPipe {
    /// An empty pipe of `slots` slots, at least one. Sleeps. `ENOMEM`.
    pub(crate) fn new(slots: usize) -> Result<Self> {
        // SAFETY: The function has no requirements.
        let ptr = NonNull::new(unsafe { sys::zpipe_internal_new(slots.max(1)) }).ok_or(ENOMEM)?;
        // INVARIANT: It was just made.
        Ok(Self { ptr })
    }

    /// The pipe as one whose mutex is held: nobody else can use it.
    pub(crate) fn as_real(&mut self) -> RealPipe<'_> {
        // INVARIANT: The pipe is valid as long as `self` is borrowed. No other task has it, which
        // is as if this one held its mutex.
        RealPipe {
            ptr: self.ptr,
            unlocks: false,
            freed: false,
            _pipe: PhantomData,
        }
    }

    /// The pipe, for C functions that read or write it.
    pub(crate) fn as_raw(&mut self) -> *mut bindings::pipe_inode_info {
        self.ptr.as_ptr()
    }

    /// Removes all bytes. Returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        // SAFETY: The pipe is valid by the type invariants.
        unsafe { sys::zpipe_internal_clear(self.ptr.as_ptr()) }
    }
}

impl Drop for InternalPipe {
    fn drop(&mut self) {
        // SAFETY: This object owns the pipe.
        unsafe { sys::zpipe_internal_free(self.ptr.as_ptr()) };
    }
}
