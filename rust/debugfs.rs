// SPDX-License-Identifier: GPL-2.0-only

//! All pipes there are, in the file `zpipe/pipes` of debugfs.
//!
//! The kernel crate's own debugfs files have no owner: one that is open would not keep the module,
//! whose operations the release of it looks at.
//!
//! A pipe is found by the address of its inode, which stands for the position in the list. So what
//! lives for as long as the list is read is in it once, whatever comes and goes beside it; and
//! nothing is held while the reader's memory is written to.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use crate::{
    pipe::Pipe,
    sync::CConst,
    sys,
    table::{self, InodeKey},
};
use core::ptr;
use kernel::{
    bindings, prelude::*, seq_file::SeqFile, str::CStrExt, sync::Arc, types::ForeignOwnable,
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

/// # Safety
///
/// Called by the VFS, with a file that is opened.
unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The VFS opens the file. The operations live as long as the module, which it holds.
    unsafe { bindings::seq_open(file, LIST_OPS.as_ptr()) }
}

/// The pipe at `position` or the first behind it, as a foreign `Arc`, with `position` moved there;
/// null behind the last.
fn find(position: &mut bindings::loff_t) -> *mut c_void {
    // CAST: An address there and back.
    match table::next(InodeKey(*position as usize)) {
        Some((key, pipe)) => {
            *position = key.0 as bindings::loff_t;
            pipe.into_foreign()
        }
        None => ptr::null_mut(),
    }
}

/// # Safety
///
/// Called by seq_file, with a position of its own.
unsafe extern "C" fn start(
    _seq: *mut bindings::seq_file,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: The position is valid, and ours for this call.
    find(unsafe { &mut *position })
}

/// # Safety
///
/// Called by seq_file, with what `start` or `next` gave it and a position of its own.
unsafe extern "C" fn next(
    _seq: *mut bindings::seq_file,
    item: *mut c_void,
    position: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: It is not null, and seq_file forgets it. The position is valid, and ours for this
    // call.
    let position = unsafe {
        drop(<Arc<Pipe> as ForeignOwnable>::from_foreign(item));
        &mut *position
    };

    *position = position.wrapping_add(1);
    find(position)
}

/// # Safety
///
/// Called by seq_file, with what `start` or `next` gave it.
unsafe extern "C" fn show(seq: *mut bindings::seq_file, item: *mut c_void) -> c_int {
    // SAFETY: It is not null, and not given back before `next` or `stop`; the seq_file is ours for
    // this call.
    let (seq, pipe) = unsafe {
        (
            SeqFile::from_raw(seq),
            <Arc<Pipe> as ForeignOwnable>::borrow(item),
        )
    };

    pipe.show_listed(seq);
    0
}

/// # Safety
///
/// Called by seq_file, with what `start` or `next` gave it last.
unsafe extern "C" fn stop(_seq: *mut bindings::seq_file, item: *mut c_void) {
    if !item.is_null() {
        // SAFETY: It is not null, and seq_file forgets it.
        drop(unsafe { <Arc<Pipe> as ForeignOwnable>::from_foreign(item) });
    }
}

/// The directory in debugfs, removed when this is dropped.
///
/// # Invariants
///
/// `dir` is what `zpipe_debugfs()` returned.
pub(crate) struct Directory {
    dir: *mut bindings::dentry,
}

impl Directory {
    /// Makes the directory, if it can be. Sleeps.
    pub(crate) fn new() -> Self {
        // SAFETY: The names are copied. The operations live as long as the module, and this is
        // dropped before that ends.
        let dir = unsafe {
            sys::zpipe_debugfs(
                c"zpipe".as_char_ptr(),
                c"pipes".as_char_ptr(),
                FILE_OPS.as_ptr(),
            )
        };
        // INVARIANT: As the type says.
        Self { dir }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; an error is nothing to remove. Sleeps until nobody is in
        // an operation of the file any more.
        unsafe { sys::zpipe_debugfs_remove(self.dir) };
    }
}

// SAFETY: It is only kept, and dropped in any context that may sleep.
unsafe impl Send for Directory {}
// SAFETY: There is nothing to do with a reference.
unsafe impl Sync for Directory {}
