// SPDX-License-Identifier: GPL-2.0-only

//! A file of zpipe during one call of the VFS, and a reference that holds it longer.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use crate::{
    id::{InodeKey, PipeId},
    sys,
    zcore::state::Access,
};
use core::{marker::PhantomData, ops::Deref, ptr};
use kernel::{bindings, error::to_result, fs::File, prelude::*, sync::aref::ARef};

/// A file during one call: it is open, being opened or being released.
///
/// # Invariants
///
/// `ptr` and the file's inode are valid for `'a`.
pub(crate) struct OpenFile<'a> {
    ptr: *mut bindings::file,
    _file: PhantomData<&'a File>,
}

impl OpenFile<'_> {
    /// Wraps a file.
    ///
    /// # Safety
    ///
    /// `ptr` is a valid file that has an inode, for as long as the result is used.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::file) -> Self {
        // INVARIANT: The caller guarantees it.
        Self {
            ptr,
            _file: PhantomData,
        }
    }

    /// The C struct.
    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.ptr
    }

    fn mode(&self) -> u32 {
        // SAFETY: The file is valid by the type invariants. The access bits of `f_mode` do not
        // change.
        unsafe { (*self.ptr).f_mode }
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: The file is valid by the type invariants. `f_inode` does not change.
        unsafe { (*self.ptr).f_inode }
    }

    /// The file as a type of the kernel crate.
    pub(crate) fn as_file(&self) -> &File {
        // SAFETY: The file is valid by the type invariants. Files of zpipe have no position, so
        // there is no `fdget_pos()` section for them.
        unsafe { File::from_raw_file(self.ptr) }
    }

    /// The directions that the file is open for.
    pub(crate) fn access(&self) -> Access {
        Access {
            read: self.mode() & sys::ZPIPE_FMODE_READ != 0,
            write: self.mode() & sys::ZPIPE_FMODE_WRITE != 0,
        }
    }

    /// True if O_NONBLOCK is set.
    pub(crate) fn nonblock(&self) -> bool {
        self.as_file().flags() & bindings::O_NONBLOCK != 0
    }

    /// The key of the file's inode in the pipe table.
    pub(crate) fn inode_key(&self) -> InodeKey {
        InodeKey(self.inode() as usize)
    }

    /// The name of the pipe for people.
    pub(crate) fn pipe_id(&self) -> PipeId {
        // SAFETY: The inode is valid by the type invariants.
        unsafe { pipe_id(self.inode()) }
    }

    /// True if the inode is a FIFO: that of a pair. A node is a character device.
    pub(crate) fn is_fifo(&self) -> bool {
        // SAFETY: The inode is valid by the type invariants. The type bits of `i_mode` do not
        // change.
        let mode = unsafe { (*self.inode()).i_mode };
        u32::from(mode) & bindings::S_IFMT == bindings::S_IFIFO
    }

    /// Updates the access time of the inode, as a read from a FIFO does. Sleeps.
    pub(crate) fn accessed(&self) {
        // SAFETY: The file is valid by the type invariants.
        unsafe { sys::zpipe_file_accessed(self.ptr) };
    }

    /// Asks security modules and fsnotify listeners whether `bytes` bytes may be written, or read,
    /// as writev(2) and readv(2) do. For no bytes, nobody is asked. Sleeps.
    pub(crate) fn verify(&self, writes: bool, bytes: usize) -> Result {
        // SAFETY: The file is valid by the type invariants. It has no position.
        to_result(unsafe { sys::zpipe_file_verify(self.ptr, writes, ptr::null(), bytes) })
    }

    /// Reports a read of `bytes` bytes that was not made by read(2): to fsnotify, and to the I/O
    /// accounting of the task. For a `node`, updates the access time, too. Sleeps.
    pub(crate) fn was_read(&self, bytes: usize, node: bool) {
        if bytes == 0 {
            return;
        }
        // SAFETY: The file is valid by the type invariants.
        unsafe { sys::zpipe_file_read(self.ptr, bytes) };
        if node {
            self.accessed();
        }
    }

    /// The same for a write that was not made by write(2). For a `node`, updates the modification
    /// time.
    pub(crate) fn was_written(&self, bytes: usize, node: bool) {
        if bytes == 0 {
            return;
        }
        // SAFETY: The file is valid by the type invariants.
        unsafe { sys::zpipe_file_wrote(self.ptr, bytes) };
        if node {
            // The bytes are written and the report is delivered. An error here would say that they
            // are not.
            let _ = self.modified();
        }
    }

    /// Updates the modification time of the inode, as a write to a FIFO does. Sleeps.
    pub(crate) fn modified(&self) -> Result {
        // SAFETY: The file is valid by the type invariants.
        to_result(unsafe { sys::zpipe_file_modified(self.ptr) })
    }
}

/// A file during [`FileOperations::open`](super::FileOperations::open).
///
/// # Invariants
///
/// No other task can use the file yet.
pub(crate) struct OpeningFile<'a>(OpenFile<'a>);

impl<'a> Deref for OpeningFile<'a> {
    type Target = OpenFile<'a>;

    fn deref(&self) -> &OpenFile<'a> {
        &self.0
    }
}

impl OpeningFile<'_> {
    /// Wraps a file that is being opened.
    ///
    /// # Safety
    ///
    /// As for [`OpenFile::from_raw`]. No other task can use the file as long as the result is used.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::file) -> Self {
        // SAFETY: The caller guarantees it.
        // INVARIANT: No other task can use the file, as the caller guarantees.
        Self(unsafe { OpenFile::from_raw(ptr) })
    }

    /// Makes the file a stream without a position, as each FIFO is.
    pub(crate) fn set_stream(&self) {
        // SAFETY: File and inode are valid by the type invariants, and no other task reads or
        // changes the file's mode.
        unsafe { sys::zpipe_open_stream(self.inode(), self.ptr) };
    }
}

/// A reference that keeps a file open.
pub(crate) struct HeldFile(ARef<File>);

impl HeldFile {
    /// Takes a reference to `file`.
    pub(crate) fn of(file: &OpenFile<'_>) -> Self {
        Self(ARef::from(file.as_file()))
    }

    /// The file.
    pub(crate) fn as_open(&self) -> OpenFile<'_> {
        // SAFETY: The file is open as long as `self` holds it, and has an inode.
        unsafe { OpenFile::from_raw(self.0.as_ptr()) }
    }
}

/// The name for people of the pipe that belongs to an inode.
///
/// # Safety
///
/// `inode` is valid.
pub(crate) unsafe fn pipe_id(inode: *const bindings::inode) -> PipeId {
    // SAFETY: The inode is valid, as the caller guarantees, so it has a super block. Its number
    // does not change.
    unsafe {
        PipeId {
            device: (*(*inode).i_sb).s_dev,
            inode: (*inode).i_ino,
        }
    }
}
