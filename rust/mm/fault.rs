// SPDX-License-Identifier: GPL-2.0-only

//! Page faults in mappings of our files.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::Frame;
use crate::sys;
use core::marker::PhantomData;
use kernel::{bindings, page::PAGE_SIZE};

/// How a fault was served, for the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Served(bindings::vm_fault_t);

impl Served {
    /// There is nothing to be had there: SIGBUS.
    pub(crate) const BUS: Self = Self(sys::ZPIPE_FAULT_SIGBUS);
    /// Something came in between: it is to be tried again.
    pub(crate) const AGAIN: Self = Self(sys::ZPIPE_FAULT_NOPAGE);
    /// It is to be tried page by page.
    pub(crate) const FALLBACK: Self = Self(sys::ZPIPE_FAULT_FALLBACK);

    /// What the kernel wants to be told.
    pub(crate) fn code(self) -> bindings::vm_fault_t {
        self.0
    }
}

/// A fault in a mapping of one of our files, for the length of a call.
///
/// The mmap_lock, or the lock of the VMA, is held for reading.
///
/// # Invariants
///
/// `vmf` is valid for `'a`, of a mapping that [`zpipe_window_map`](sys::zpipe_window_map) made.
pub(crate) struct Fault<'a> {
    vmf: *mut bindings::vm_fault,
    _vmf: PhantomData<&'a bindings::vm_fault>,
}

impl Fault<'_> {
    /// # Safety
    ///
    /// What the type invariants say of `vmf` holds as long as the result is used.
    pub(crate) unsafe fn from_raw(vmf: *mut bindings::vm_fault) -> Self {
        // INVARIANT: Says the caller.
        Self {
            vmf,
            _vmf: PhantomData,
        }
    }

    /// The number of the frame in the file that the address is in.
    pub(crate) fn frame(&self) -> usize {
        // SAFETY: Valid by the type invariants.
        let pgoff = unsafe { sys::zpipe_fault_pgoff(self.vmf) };
        pgoff / (Frame::SIZE / PAGE_SIZE)
    }

    /// Whether somebody stores there.
    pub(crate) fn writes(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        unsafe { sys::zpipe_fault_writes(self.vmf) }
    }

    /// Whether it is the first store to a small page that is mapped: then the kernel holds a reference to that.
    pub(crate) fn is_of_mapped_page(&self) -> bool {
        // SAFETY: Valid by the type invariants.
        unsafe { sys::zpipe_fault_is_mkwrite(self.vmf) }
    }

    /// The file that is mapped.
    pub(crate) fn file(&self) -> *mut bindings::file {
        // SAFETY: Valid by the type invariants; the mapping holds its file.
        unsafe { sys::zpipe_fault_file(self.vmf) }
    }

    /// Maps `frame` there, for writing if `write` and else as the mapping has it. What is mapped there already
    /// is this frame, or nothing.
    pub(crate) fn place(&self, frame: &Frame, write: bool) -> Served {
        // SAFETY: Both are valid; by the type invariants it is a mapping for such folios.
        Served(unsafe { sys::zpipe_frame_place(self.vmf, frame.as_ptr(), write) })
    }
}
