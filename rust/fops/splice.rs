// SPDX-License-Identifier: GPL-2.0-only

//! The operations `->splice_read()` and `->splice_write()`, and reads for a splice. Thunks only.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h); source: `fs/splice.c`

use super::{FileOperations, FileOps, OpenFile, MAX_RW_COUNT};
use crate::{
    real_pipe::RealPipe,
    request::{Request, Splice},
    sys,
};
use core::ptr::NonNull;
use kernel::{bindings, error::from_result, iov::IovIterDest, prelude::*};

impl<T: FileOperations> FileOps<T> {
    /// Reads from a file with O_DIRECT. `copy_splice_read()` does that with the mutex of a real
    /// pipe held, and then the read must not wait.
    ///
    /// # Safety
    ///
    /// As for [`Self::read_iter`].
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn read_direct(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The VFS passes a valid kiocb of a file of kind `T`.
            let (this, file, mut request) = unsafe { Self::request(kiocb) };
            // SAFETY: Both are valid, as the caller guarantees.
            if unsafe { sys::zpipe_is_splice_copy(kiocb, iter) } {
                request.nowait = true;
                request.splice = Splice::Copy;
            }
            // SAFETY: The VFS passes a valid iterator that is a destination.
            let dest = unsafe { IovIterDest::from_raw(iter) };

            // CAST: It is at most the length of the iterator, which is at most MAX_RW_COUNT.
            this.read(&file, request, dest).map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `splice_read`, for a file of kind `T`. The current
    /// task holds the mutex of `pipe`.
    pub(super) unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        _pos: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        from_result(|| {
            // SAFETY: The file is open and of kind `T`.
            let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };
            let pipe = NonNull::new(pipe).ok_or(EINVAL)?;
            // SAFETY: The VFS passes a valid pipe that can be spliced. The caller holds its mutex
            // during the call. `splice_direct_to_actor()` does not, but refuses files without a
            // position, as all those of zpipe are.
            let mut to = unsafe { RealPipe::locked(pipe) }?;
            let nowait = flags & sys::ZPIPE_SPLICE_F_NONBLOCK != 0;
            let request = Request::of_call(open.as_file(), nowait);
            // CAST: It is at most MAX_RW_COUNT.
            this.splice_read(&open, request, &mut to, len)
                .map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `splice_write`, for a file of kind `T`. The current
    /// task does not hold the mutex of `pipe`.
    pub(super) unsafe extern "C" fn splice_write(
        pipe: *mut bindings::pipe_inode_info,
        file: *mut bindings::file,
        _pos: *mut bindings::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        from_result(|| {
            // SAFETY: The file is open and of kind `T`.
            let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };
            let pipe = NonNull::new(pipe).ok_or(EINVAL)?;
            // SAFETY: The VFS passes a valid pipe that can be spliced, and the current task does
            // not hold its mutex.
            let mut from = unsafe { RealPipe::lock(pipe) };
            let nowait = flags & sys::ZPIPE_SPLICE_F_NONBLOCK != 0 || from.must_not_wait();
            let request = Request::of_call(open.as_file(), nowait);
            // The result of splice(2) may be cut off above this, as for write(2).
            let max = len.min(MAX_RW_COUNT);
            // CAST: It is at most MAX_RW_COUNT.
            this.splice_write(&open, request, &mut from, max)
                .map(|n| n as isize)
        })
    }
}
