// SPDX-License-Identifier: GPL-2.0-only

//! The list of all pipes: the file `zpipe/pipes` in debugfs.
//!
//! The kernel crate has debugfs files, too, but they have no owner. An open one would not keep the
//! module loaded, and its release would use operations that are gone.
//!
//! The position in the list is the address of a pipe's inode. So a pipe that exists during the
//! whole listing is listed exactly once, even if other pipes come and go. No lock of a pipe is held
//! while seq_file copies to the reader's memory.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use crate::{id::InodeKey, pipe::Pipe, sync::CConst, sys, table};
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    seq_file::{seq_print, SeqFile},
    str::CStrExt,
    sync::Arc,
    types::ForeignOwnable,
};

static FILE_OPS: CConst<bindings::file_operations> = CConst::new(bindings::file_operations {
    owner: crate::compat::THIS_MODULE.as_ptr(),
    open: Some(open),
    read: Some(bindings::seq_read),
    llseek: Some(bindings::seq_lseek),
    release: Some(bindings::seq_release),
    ..pin_init::zeroed()
});

static LIST_OPS: CConst<bindings::seq_operations> = CConst::new(bindings::seq_operations {
    start: Some(start),
    next: Some(next),
    show: Some(show),
    stop: Some(stop),
});

/// Opens the file.
///
/// # Safety
///
/// The VFS calls it with a file that is being opened.
unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The VFS opens the file. The operations live as long as the module, which the file
    // holds.
    unsafe { bindings::seq_open(file, LIST_OPS.as_ptr()) }
}

/// The first pipe at `position` or behind, as a foreign `Arc`. Sets `position` to that of the pipe.
/// Null if there is none.
fn find(position: &mut bindings::loff_t) -> *mut c_void {
    // CAST: Both have 64 bits, so an address that becomes a position and an address again is the
    // same.
    match table::next(InodeKey(*position as usize)) {
        Some((key, pipe)) => {
            *position = key.0 as bindings::loff_t;
            pipe.into_foreign()
        }
        None => ptr::null_mut(),
    }
}

/// Begins a part of the listing at `position`.
///
/// # Safety
///
/// seq_file calls it with a position of its own.
unsafe extern "C" fn start(
    _seq: *mut bindings::seq_file,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: The position is valid, and nothing else uses it during the call.
    find(unsafe { &mut *position })
}

/// Goes on to the next pipe.
///
/// # Safety
///
/// seq_file calls it with the item that `start` or `next` returned last and a position of its own.
unsafe extern "C" fn next(
    _seq: *mut bindings::seq_file,
    item: *mut c_void,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: seq_file passes an item that is not null, and does not use it again. The position is
    // valid, and nothing else uses it during the call.
    let position = unsafe {
        drop(<Arc<Pipe> as ForeignOwnable>::from_foreign(item));
        &mut *position
    };

    *position = position.wrapping_add(1);
    find(position)
}

/// Prints a pipe.
///
/// # Safety
///
/// seq_file calls it with an item that `start` or `next` returned.
unsafe extern "C" fn show(seq: *mut bindings::seq_file, item: *mut c_void) -> c_int {
    // SAFETY: The item is not null, and stays valid until `next` or `stop` takes it. The seq_file
    // is valid, and nothing else uses it during the call.
    let (seq, pipe) = unsafe {
        (
            SeqFile::from_raw(seq),
            <Arc<Pipe> as ForeignOwnable>::borrow(item),
        )
    };

    pipe.show_named(seq);
    seq_print!(seq, "\n");
    0
}

/// Ends a part of the listing.
///
/// # Safety
///
/// seq_file calls it with the item that `start` or `next` returned last.
unsafe extern "C" fn stop(_seq: *mut bindings::seq_file, item: *mut c_void) {
    if !item.is_null() {
        // SAFETY: The item is not null, and seq_file does not use it again.
        drop(unsafe { <Arc<Pipe> as ForeignOwnable>::from_foreign(item) });
    }
}

/// The directory in debugfs. Dropping it removes it.
///
/// # Invariants
///
/// `dir` is what `zpipe_debugfs()` returned.
pub(crate) struct Directory {
    dir: *mut bindings::dentry,
}

impl Directory {
    /// Makes the directory and the file. If that fails, there is none. Sleeps.
    pub(crate) fn new() -> Self {
        // SAFETY: The names are copied. The operations live as long as the module, and the
        // directory is dropped before the module is unloaded.
        let dir = unsafe {
            sys::zpipe_debugfs(
                c"zpipe".as_char_ptr(),
                c"pipes".as_char_ptr(),
                FILE_OPS.as_ptr(),
            )
        };
        // INVARIANT: `zpipe_debugfs()` returned `dir`.
        Self { dir }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `dir` is an entry or an error, and to remove an error does
        // nothing. It sleeps until no operation of the file is running.
        unsafe { sys::zpipe_debugfs_remove(self.dir) };
    }
}

// SAFETY: Nothing is done with it except dropping it, which may be done by any task that may sleep.
unsafe impl Send for Directory {}
// SAFETY: Nothing can be done with a shared reference.
unsafe impl Sync for Directory {}
