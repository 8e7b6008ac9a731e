// SPDX-License-Identifier: GPL-2.0-only

//! Files and sockets, as the other side of a splice.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h); source: `fs/splice.c`

use crate::{real_pipe::InternalPipe, sys};
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

    /// Asks security modules and fsnotify listeners whether `max` bytes may be written at `at`, or
    /// read. Sleeps.
    pub(crate) fn verify(&self, writes: bool, at: i64, max: usize) -> Result {
        // SAFETY: The file is valid, and so is the pointer to the position.
        to_result(unsafe { sys::zpipe_file_verify(self.0.as_ptr(), writes, &at, max) })
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

    /// Begins to write to the file. Waits as long as its file system is frozen. Sleeps. The caller
    /// has called [`Self::verify`].
    pub(crate) fn start_write(&self) -> FileWriter<'_> {
        // SAFETY: The file is valid and open for writing: [`Self::check`].
        unsafe { sys::zpipe_file_start_write(self.0.as_ptr()) };
        FileWriter(self)
    }

    /// Reads at most `max` bytes from the file at `at` into `to`, and advances `at`. Returns the
    /// number of bytes. Sleeps, maybe until another process acts.
    pub(crate) fn splice_read(
        &self,
        to: &mut InternalPipe,
        at: &mut i64,
        max: usize,
        flags: u32,
    ) -> Result<usize> {
        // SAFETY: As in [`Self::splice_write`].
        bytes(unsafe { sys::zpipe_file_splice_read(self.0.as_ptr(), to.as_raw(), at, max, flags) })
    }
}

/// A file that is being written to. Its file system cannot be frozen meanwhile.
pub(crate) struct FileWriter<'f>(&'f OtherFile);

impl FileWriter<'_> {
    /// Writes at most `max` bytes of `from` to the file at `at`, and advances that. What the file
    /// takes is removed from `from`. Returns the number of bytes. Sleeps, maybe until another
    /// process acts.
    pub(crate) fn splice_write(
        &self,
        from: &mut InternalPipe,
        at: &mut i64,
        max: usize,
        flags: u32,
    ) -> Result<usize> {
        let file = self.0 .0.as_ptr();
        // SAFETY: File and pipe are valid, and nobody else uses the pipe.
        bytes(unsafe { sys::zpipe_file_splice_write(file, from.as_raw(), at, max, flags) })
    }
}

impl Drop for FileWriter<'_> {
    fn drop(&mut self) {
        // SAFETY: It was begun when the value was made, by the same task.
        unsafe { sys::zpipe_file_end_write(self.0 .0.as_ptr()) };
    }
}
