// SPDX-License-Identifier: MIT OR Apache-2.0

//! The memory of a window.

use crate::sys::{self, bindings, size};
use rustix::{
    io::Errno,
    ioctl::Opcode,
    mm::{MapFlags, ProtFlags},
};
use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
};

/// A window: its descriptor and its mapping.
#[derive(Debug)]
pub(crate) struct Memory {
    fd: OwnedFd,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: It owns the mapping. Any thread may use it and unmap it.
unsafe impl Send for Memory {}
// SAFETY: A shared reference gives access to the memory only through unsafe functions.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes a window. `flags` is one of `ZPIPE_WINDOW_*`, `access` is that of mmap(2).
    pub(crate) fn new(
        end: BorrowedFd<'_>,
        flags: u32,
        bytes: usize,
        access: ProtFlags,
    ) -> io::Result<Self> {
        if !sys::is_zpipe(end) {
            // EBADF if it is not open: the C library cannot know.
            rustix::fs::fstat(end)?;
            return Err(Errno::NOTTY.into());
        }
        let mut args = bindings::zpipe_window {
            size: size::<bindings::zpipe_window>(),
            flags,
            bytes: bytes as u64,
            fd: -1,
            reserved: 0,
        };
        // SAFETY: It is a zpipe. The command takes this struct and makes a new window.
        unsafe { sys::ioctl::<{ bindings::WINDOW }, _>(end, &mut args)? };
        // SAFETY: The descriptor is new, and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(args.fd) };
        Self::map(fd, args.bytes as usize, access)
    }

    /// Maps `len` bytes of a descriptor.
    pub(crate) fn map(fd: OwnedFd, len: usize, access: ProtFlags) -> io::Result<Self> {
        let anywhere = ptr::null_mut();
        // SAFETY: The kernel chooses an address at which nothing is mapped.
        let base = unsafe { rustix::mm::mmap(anywhere, len, access, MapFlags::SHARED, &fd, 0)? };
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Self { fd, base, len }),
            None => Err(Errno::INVAL.into()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Runs a command of the window.
    ///
    /// # Safety
    ///
    /// The command must take a `T`. It must write to no other memory except that of the
    /// window, to which no reference may exist.
    pub(crate) unsafe fn call<const COMMAND: Opcode, T>(&self, args: &mut T) -> io::Result<()> {
        // SAFETY: By this function's safety requirements.
        unsafe { sys::ioctl::<COMMAND, T>(self.fd.as_fd(), args) }
    }

    fn contains(&self, start: usize, len: usize) -> bool {
        start.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Returns bytes of the window.
    ///
    /// # Safety
    ///
    /// As long as the slice is used, the bytes must be accessible without a fault, and must
    /// not change.
    ///
    /// # Panics
    ///
    /// If the window has no such range.
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &[u8] {
        assert!(self.contains(start, len), "no range of the window");
        // SAFETY: The bytes are in the mapping, and any value is valid for a byte. The rest
        // holds by this function's safety requirements.
        unsafe { std::slice::from_raw_parts(self.base.add(start).as_ptr(), len) }
    }

    /// Returns bytes of the window, for stores.
    ///
    /// # Safety
    ///
    /// As long as the slice is used, the bytes must be accessible without a fault, and
    /// nobody else may access them. The window must be mapped for writing.
    ///
    /// # Panics
    ///
    /// If the window has no such range.
    pub(crate) unsafe fn slice_mut(&mut self, start: usize, len: usize) -> &mut [u8] {
        assert!(self.contains(start, len), "no range of the window");
        // SAFETY: As in `slice()`.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start).as_ptr(), len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: We mapped it, and no slice outlives it. It cannot fail: the range is a whole
        // mapping.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}
