// SPDX-License-Identifier: GPL-2.0-only

//! Operations of files that can be mapped: windows. Thunks only.
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

impl OpenFile<'_> {
    /// Removes `count` frames, beginning with number `first`, from all page tables. Sleeps.
    ///
    /// A frame stays unmapped as long as the caller holds the lock under which fault handlers map
    /// frames. Without that lock a fault may map it again at once.
    pub(crate) fn unmap(&self, first: usize, count: usize) {
        // CAST: A window is smaller than 2^31 bytes.
        let (at, bytes) = ((first * Frame::SIZE) as i64, (count * Frame::SIZE) as i64);
        if count != 0 {
            // SAFETY: The file is valid by the type invariants.
            unsafe { sys::zpipe_window_unmap(self.as_ptr(), at, bytes) };
        }
    }
}

impl<T: FileOperations> FileOps<T> {
    /// The operations of a mapping.
    const VM_OPS: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
        ..pin_init::zeroed()
    };

    /// The operations of a mapping where the first store to a page that was mapped by a load is a
    /// fault of its own.
    const VM_OPS_WATCHED: &'static bindings::vm_operations_struct =
        &bindings::vm_operations_struct {
            fault: Some(Self::fault),
            huge_fault: Some(Self::huge_fault),
            page_mkwrite: Some(Self::fault),
            ..pin_init::zeroed()
        };

    /// Makes a file of `frames` frames. Its private data is `this`. It is open for reading, and for
    /// writing if `writes`. Sleeps.
    pub(crate) fn new_window(
        &'static self,
        this: T,
        writes: bool,
        frames: usize,
    ) -> Result<ARef<File>> {
        let private = Private::new(this)?.into_foreign();
        // CAST: As in `unmap()`.
        let bytes = (frames * Frame::SIZE) as i64;
        // SAFETY: The operations are static and of kind `T`, as the private data is.
        let file = from_err_ptr(unsafe {
            sys::zpipe_window_file(self.as_ptr(), private.cast(), writes, bytes)
        });
        match file {
            // SAFETY: The file is new and not null. Its reference becomes that of the `ARef`.
            Ok(file) => Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast())) }),
            Err(e) => {
                // SAFETY: The call failed, so the file did not take over the private data.
                drop(unsafe { <KBox<Private<T>> as ForeignOwnable>::from_foreign(private) });
                Err(e)
            }
        }
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `mmap`, for a file of kind `T`.
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

        // SAFETY: The VMA is being made, with its lock held for writing. The operations are
        // constant.
        match to_result(unsafe { sys::zpipe_window_map(vma, ops) }) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// The memory management calls it for a page fault in a mapping of a file of kind `T`.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The mapping was made by `mmap()`, and exists for the length of the call.
        let fault = unsafe { Fault::from_raw(vmf) };
        // SAFETY: The mapping holds its file, which is open and of kind `T`.
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
        // SAFETY: The caller guarantees that the fault is valid.
        if unsafe { sys::zpipe_fault_is_huge(vmf, order) } {
            // SAFETY: As above.
            unsafe { Self::fault(vmf) }
        } else {
            Served::FALLBACK.code()
        }
    }
}
