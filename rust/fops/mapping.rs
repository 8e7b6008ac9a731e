// SPDX-License-Identifier: GPL-2.0-only

//! Files that are mapped: windows. Thunks only.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{FileOperations, FileOps, OpenFile, Private};
use crate::{
    mm::{Fault, Frame, Served},
    sys,
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    fs::File,
    prelude::*,
    sync::aref::ARef,
    types::ForeignOwnable,
};

/// A file that is kept open.
pub(crate) struct HeldFile(ARef<File>);

impl HeldFile {
    /// Keeps `file` open.
    pub(crate) fn of(file: &OpenFile<'_>) -> Self {
        Self(ARef::from(file.as_file()))
    }

    /// The file.
    pub(crate) fn as_open(&self) -> OpenFile<'_> {
        // SAFETY: It is open as long as we have it, and has an inode.
        unsafe { OpenFile::from_raw(self.0.as_ptr()) }
    }
}

impl OpenFile<'_> {
    /// Takes `count` frames from number `first` on out of all page tables. Who faults there waits for a lock that
    /// the caller holds, or it may come back. Sleeps.
    pub(crate) fn unmap(&self, first: usize, count: usize) {
        // CAST: A window is less than 2^31 bytes.
        let (at, bytes) = ((first * Frame::SIZE) as i64, (count * Frame::SIZE) as i64);
        if count != 0 {
            // SAFETY: Valid by the type invariants.
            unsafe { sys::zpipe_window_unmap(self.ptr, at, bytes) };
        }
    }
}

impl<T: FileOperations> FileOps<T> {
    /// What is done to a mapping.
    const VM_OPS: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
        ..pin_init::zeroed()
    };

    /// The same where the first store to what was only read is to be told.
    const VM_OPS_WATCHED: &'static bindings::vm_operations_struct =
        &bindings::vm_operations_struct {
            fault: Some(Self::fault),
            huge_fault: Some(Self::huge_fault),
            page_mkwrite: Some(Self::fault),
            ..pin_init::zeroed()
        };

    /// A new file of `frames` frames that is `this`, open for reading, and for writing if `writes`. Sleeps.
    pub(crate) fn new_window(
        &'static self,
        this: T,
        writes: bool,
        frames: usize,
    ) -> Result<ARef<File>> {
        let private = Private::new(this)?.into_foreign();
        // CAST: As in `unmap()`.
        let bytes = (frames * Frame::SIZE) as i64;
        // SAFETY: The operations live indefinitely, and are of this kind.
        let file = from_err_ptr(unsafe {
            sys::zpipe_window_file(self.as_ptr(), private.cast(), writes, bytes)
        });
        match file {
            // SAFETY: The file is new, and its reference ours.
            Ok(file) => Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast())) }),
            Err(e) => {
                // SAFETY: It was not taken.
                drop(unsafe { <KBox<Private<T>> as ForeignOwnable>::from_foreign(private) });
                Err(e)
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T` that is mapped.
    pub(super) unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The file is open and of kind `T`.
        let ops = if unsafe { Self::borrow(file) }.watches_stores() {
            Self::VM_OPS_WATCHED
        } else {
            Self::VM_OPS
        };

        // SAFETY: The VMA is being made, and its lock is held for writing; the operations are constant.
        match to_result(unsafe { sys::zpipe_window_map(vma, ops) }) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the kernel's memory management, with a fault in a mapping of a file of kind `T`.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The mapping was made by `mmap()`, and is there for the length of the call.
        let fault = unsafe { Fault::from_raw(vmf) };
        // SAFETY: It holds its file, which is of kind `T`.
        let (this, file) = unsafe {
            let file = fault.file();
            (Self::borrow(file), OpenFile::from_raw(file))
        };

        this.fault(&file, &fault).code()
    }

    /// # Safety
    ///
    /// As for [`Self::fault`].
    unsafe extern "C" fn huge_fault(
        vmf: *mut bindings::vm_fault,
        order: c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: Says the caller.
        if unsafe { sys::zpipe_fault_is_huge(vmf, order) } {
            // SAFETY: Says the caller.
            unsafe { Self::fault(vmf) }
        } else {
            Served::FALLBACK.code()
        }
    }
}
