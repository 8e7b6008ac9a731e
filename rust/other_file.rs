// SPDX-License-Identifier: GPL-2.0-only

//! Files and sockets, as the other side of a splice.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/net.h`](srctree/include/linux/net.h)

use crate::{
    mm::{BufferPage, Parts},
    sys,
};
use kernel::{
    error::to_result,
    fs::{File, LocalFile},
    prelude::*,
    sync::aref::ARef,
};

/// A file that a descriptor of the current process refers to. It stays open as long as the value
/// exists.
pub(crate) struct OtherFile(ARef<File>);

/// Converts the result of a C function that returns a number of bytes or a negative error.
fn bytes(result: isize) -> Result<usize> {
    // CAST: An error number is small.
    usize::try_from(result).map_err(|_| Error::from_errno(result as c_int))
}

impl OtherFile {
    /// The file of a descriptor. `EBADF` if there is none, or if it has O_PATH.
    ///
    /// The caller is an ioctl call.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        let file = LocalFile::fget(u32::try_from(fd).map_err(|_| EBADF)?)?;
        // SAFETY: An ioctl call does not use the position of a file, so there is no `fdget_pos()`
        // section on this thread.
        Ok(Self(unsafe { LocalFile::assume_no_fdget_pos(file) }))
    }

    /// The file as a type of the kernel crate.
    pub(crate) fn as_file(&self) -> &File {
        &self.0
    }

    /// Checks whether the file can be written to, or read from, at its own position, or, with `at`,
    /// at another. Errors: `EBADF`, `EINVAL`.
    pub(crate) fn check(&self, writes: bool, at: bool) -> Result {
        // SAFETY: The file is valid. The function only reads its mode and flags.
        to_result(unsafe { sys::zpipe_file_check(self.0.as_ptr(), writes, at) })
    }

    /// True if the inode is a FIFO.
    pub(crate) fn is_fifo(&self) -> bool {
        // SAFETY: The file is valid, and so is its inode.
        unsafe { sys::zpipe_file_is_fifo(self.0.as_ptr()) }
    }

    /// True if the file is a socket.
    pub(crate) fn is_socket(&self) -> bool {
        // SAFETY: The file is valid.
        unsafe { sys::zpipe_file_is_socket(self.0.as_ptr()) }
    }

    /// Asks security modules whether `max` bytes may be written. [`Self::write`] asks itself.
    pub(crate) fn may_write(&self, max: usize) -> Result {
        // SAFETY: The file is valid.
        to_result(unsafe { sys::zpipe_file_may_write(self.0.as_ptr(), max) })
    }

    /// The position of the file.
    pub(crate) fn position(&self) -> i64 {
        // SAFETY: The file is valid. As in splice(2), another thread may change the position.
        unsafe { sys::zpipe_file_pos(self.0.as_ptr()) }
    }

    /// Sets the position of the file.
    pub(crate) fn set_position(&self, at: i64) {
        // SAFETY: As in [`Self::position`].
        unsafe { sys::zpipe_file_set_pos(self.0.as_ptr(), at) };
    }

    /// Writes `parts` to the file at `at`, and advances that. Returns the number of bytes. Sleeps,
    /// maybe until another process acts.
    pub(crate) fn write(&self, parts: &Parts<'_>, at: &mut i64) -> Result<usize> {
        let (vecs, n) = parts.as_raw();
        // SAFETY: The file is valid. `vecs` has `n` ranges with so many bytes, which stay valid
        // and initialised during the call. The write is synchronous, so nobody reads them later.
        bytes(unsafe { sys::zpipe_file_write(self.0.as_ptr(), vecs, n, parts.bytes(), at) })
    }

    /// Sends `parts` to the socket. Returns the number of bytes. Sleeps, maybe until the peer acts.
    ///
    /// With `pages`, the socket may keep references to the pages: each of them is shared.
    pub(crate) fn send(&self, parts: &Parts<'_>, pages: bool, more: bool) -> Result<usize> {
        let (vecs, n) = parts.as_raw();
        let file = self.0.as_ptr();
        // SAFETY: As in [`Self::write`]. If the socket keeps references to pages, these are shared
        // as the caller guarantees: then nobody writes to them any more.
        bytes(unsafe { sys::zpipe_file_send(file, vecs, n, parts.bytes(), pages, more) })
    }

    /// Reads at most `max` bytes from the file at `at` into `pages`, and advances `at`. Returns the
    /// number of bytes. With `nonblock`, a socket does not wait. Sleeps, maybe until another
    /// process acts.
    pub(crate) fn read(
        &self,
        pages: &mut [BufferPage],
        max: usize,
        at: &mut i64,
        nonblock: bool,
    ) -> Result<usize> {
        BufferPage::fill_all(pages, max, |dest| {
            let file = self.0.as_ptr();
            // SAFETY: The file and the iterator are valid. The read is synchronous.
            bytes(unsafe { sys::zpipe_file_read_iter(file, dest.as_raw(), at, nonblock) })
        })
    }
}
