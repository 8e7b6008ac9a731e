// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that consists of huge pages, so that it can be given away and moved in.

use pyo3::{
    exceptions::{PyMemoryError, PyOverflowError},
    ffi,
    prelude::*,
};
use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zpipe_uapi::gift::FRAME;

/// Most bytes of memory that wait for their next use.
const SPARE_MAX: usize = 64 << 20;

/// Live blocks: the address and the length of each.
static LIVE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// Memory of blocks that are gone.
///
/// A page that moves into such memory is exchanged for the page that is there, so nobody has to
/// clear one.
static SPARE: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

/// Takes one of the locks above. Only threads that have the lock of the interpreter do so, and
/// they keep it meanwhile. So none is held when a thread forks.
fn lock<'a, T>(_py: Python<'_>, what: &'a Mutex<T>) -> MutexGuard<'a, T> {
    // No function panics halfway in a change.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Private anonymous memory: whole huge pages, aligned to their size.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: It owns the memory, and any thread may unmap it.
unsafe impl Send for Mapping {}
// SAFETY: A shared reference gives nothing but the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes, a multiple of [`FRAME`]. Nothing is allocated before it is touched.
    fn new(bytes: usize) -> Option<Self> {
        let all = bytes.checked_add(FRAME)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: The kernel chooses an address at which nothing is mapped.
        let start = unsafe { libc::mmap(ptr::null_mut(), all, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let skip = start.addr().next_multiple_of(FRAME) - start.addr();
        // SAFETY: All is within the mapping, which is new. What is in front of the block and behind
        // it is unmapped, and nobody has its address.
        unsafe {
            let base = start.add(skip);
            if skip != 0 {
                libc::munmap(start.cast(), skip);
            }
            libc::munmap(base.add(bytes).cast(), FRAME - skip);
            libc::madvise(base.cast(), bytes, libc::MADV_HUGEPAGE);
            Some(Self {
                base: NonNull::new(base)?,
                bytes,
            })
        }
    }

    /// Sets whether a child of fork(2) gets zeros in place of the pages. Pages that it gets are
    /// shared with it, and cannot move.
    fn wipe_on_fork(&self, wipe: bool) {
        let advice = if wipe {
            libc::MADV_WIPEONFORK
        } else {
            libc::MADV_KEEPONFORK
        };
        // SAFETY: It is our mapping, and only children of fork(2) see the effect. They see it only
        // in memory that nobody uses.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, advice) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: We mapped it, and no block has it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Memory of `len` bytes, as a buffer of Python. It stays mapped as long as a buffer of it exists,
/// since each buffer has a reference to it.
#[pyclass(frozen, module = "zpipe_linux._native")]
pub(crate) struct Block {
    /// Not `None` until it is dropped.
    mapping: Option<Mapping>,
    len: usize,
}

impl Block {
    /// Makes a block of `len` bytes. They may have any value.
    pub(crate) fn of(py: Python<'_>, len: usize) -> PyResult<Self> {
        let bytes = len
            .max(1)
            .checked_next_multiple_of(FRAME)
            .filter(|bytes| *bytes <= isize::MAX as usize)
            .ok_or_else(|| PyOverflowError::new_err("too large for memory"))?;
        let mut spare = lock(py, &SPARE);
        let mapping = match spare.iter().rposition(|mapping| mapping.bytes == bytes) {
            Some(place) => {
                let mapping = spare.remove(place);
                mapping.wipe_on_fork(false);
                mapping
            }
            None => Mapping::new(bytes).ok_or_else(|| PyMemoryError::new_err(()))?,
        };
        drop(spare);
        let base = mapping.base.addr().get();
        lock(py, &LIVE).insert(base, len);
        Ok(Self {
            mapping: Some(mapping),
            len,
        })
    }

    /// The address of the memory, which is aligned to [`FRAME`].
    pub(crate) fn base(&self) -> *mut u8 {
        self.mapping
            .as_ref()
            .map_or(ptr::null_mut(), |mapping| mapping.base.as_ptr())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };
        Python::attach(|py| {
            lock(py, &LIVE).remove(&mapping.base.addr().get());
            let mut spare = lock(py, &SPARE);
            if mapping.bytes > SPARE_MAX {
                return;
            }
            // The oldest are dropped: sizes that are not used any more must not stay.
            let mut held = mapping.bytes + spare.iter().map(|other| other.bytes).sum::<usize>();
            let mut gone = 0;
            while held > SPARE_MAX {
                held -= spare[gone].bytes;
                gone += 1;
            }
            spare.drain(..gone);
            mapping.wipe_on_fork(true);
            spare.push(mapping);
        });
    }
}

#[pymethods]
impl Block {
    #[new]
    fn new(py: Python<'_>, bytes: usize) -> PyResult<Self> {
        Self::of(py, bytes)
    }

    /// # Safety
    ///
    /// Python calls it with a valid pointer.
    unsafe fn __getbuffer__(
        this: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (base, len) = (this.get().base(), this.get().len as isize);
        // SAFETY: `view` is valid. The memory is mapped until the block is dropped, and the view
        // gets a reference to the block.
        let ret = unsafe {
            ffi::PyBuffer_FillInfo(view, this.as_ptr(), base.cast::<c_void>(), len, 0, flags)
        };
        if ret != 0 {
            return Err(PyErr::fetch(this.py()));
        }
        Ok(())
    }
}

/// If the range is in one block, returns how many bytes of the block follow it: those that buffers
/// show, and those behind them up to the end of the last page.
pub(crate) fn behind(py: Python<'_>, base: usize, len: usize) -> Option<(usize, usize)> {
    let live = lock(py, &LIVE);
    let (start, bytes) = live.range(..=base).next_back()?;
    let shown = (start + bytes).checked_sub(base.checked_add(len)?)?;
    Some((shown, bytes.next_multiple_of(FRAME) - bytes))
}
