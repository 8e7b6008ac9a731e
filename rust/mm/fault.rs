// SPDX-License-Identifier: GPL-2.0-only

//! Page faults in mappings of windows.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::Frame;
use crate::sys;
use core::marker::PhantomData;
use kernel::{bindings, page::PAGE_SIZE};

/// The result of a fault handler.
#[derive(Clone, Copy)]
pub(crate) struct Served(bindings::vm_fault_t);

impl Served {
    /// No frame can be mapped at the address. The task gets SIGBUS.
    pub(crate) const BUS: Self = Self(sys::ZPIPE_FAULT_SIGBUS);
    /// The handler mapped nothing, because something changed meanwhile. The task repeats the
    /// access.
    pub(crate) const AGAIN: Self = Self(sys::ZPIPE_FAULT_NOPAGE);
    /// The fault cannot be served with a huge page. The kernel calls the handler for a small page.
    pub(crate) const FALLBACK: Self = Self(sys::ZPIPE_FAULT_FALLBACK);

    /// The result as the kernel's `vm_fault_t`.
    pub(crate) fn code(self) -> bindings::vm_fault_t {
        self.0
    }
}

/// A page fault in a mapping of a window, for the length of one call of its handler.
///
/// The kernel holds the mmap_lock or the lock of the VMA for reading.
///
/// # Invariants
///
/// `vmf` is valid for `'a`. It belongs to a mapping that
/// [`zpipe_window_map`](sys::zpipe_window_map) set up.
pub(crate) struct Fault<'a> {
    vmf: *mut bindings::vm_fault,
    _vmf: PhantomData<&'a bindings::vm_fault>,
}

impl Fault<'_> {
    /// Wraps the kernel's description of a fault.
    ///
    /// # Safety
    ///
    /// The type invariants hold for `vmf` as long as the result is used.
    pub(crate) unsafe fn from_raw(vmf: *mut bindings::vm_fault) -> Self {
        // INVARIANT: The caller guarantees it.
        Self {
            vmf,
            _vmf: PhantomData,
        }
    }

    /// The index of the place that contains the faulting address.
    pub(crate) fn frame(&self) -> usize {
        // SAFETY: `vmf` is valid by the type invariants.
        let pgoff = unsafe { sys::zpipe_fault_pgoff(self.vmf) };
        pgoff / (Frame::SIZE / PAGE_SIZE)
    }

    /// True if the access was a store.
    pub(crate) fn writes(&self) -> bool {
        // SAFETY: `vmf` is valid by the type invariants.
        unsafe { sys::zpipe_fault_writes(self.vmf) }
    }

    /// True if this is the first store to a small page that is already mapped (`page_mkwrite`).
    ///
    /// The kernel then holds a reference to that page during the call.
    pub(crate) fn is_of_mapped_page(&self) -> bool {
        // SAFETY: `vmf` is valid by the type invariants.
        unsafe { sys::zpipe_fault_is_mkwrite(self.vmf) }
    }

    /// The file that is mapped.
    pub(crate) fn file(&self) -> *mut bindings::file {
        // SAFETY: `vmf` is valid by the type invariants. The mapping holds a reference to its file.
        unsafe { sys::zpipe_fault_file(self.vmf) }
    }

    /// Maps `frame`, or the small page of it that contains the faulting address.
    ///
    /// The mapping is writable if `write`. Otherwise it has the default protection of the VMA. The
    /// caller ensures that either nothing or this same frame is mapped there already.
    pub(crate) fn place(&self, frame: &Frame, write: bool) -> Served {
        // SAFETY: `vmf` is valid by the type invariants, and so is the folio of `frame`. The
        // invariants also say that `zpipe_window_map` set up the mapping, so it may contain such
        // folios.
        Served(unsafe { sys::zpipe_frame_place(self.vmf, frame.as_ptr(), write) })
    }
}
