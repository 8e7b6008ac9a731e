// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system calls, and the memory of a window.

use rustix::fs::{major, minor};
use std::{
    ffi::{c_int, c_ulong, c_void},
    fs::{self, OpenOptions},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    ptr::{self, NonNull},
};

#[allow(missing_docs, non_camel_case_types, dead_code)]
pub(crate) mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

const CONTROL: &str = "/dev/zpipe-control";

/// The value of the first member of every struct.
pub(crate) const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

pub(crate) fn errno(number: c_int) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// ioctl(2).
///
/// # Safety
///
/// The command must take a `T` and write to no other memory. Its effect on the memory of a
/// window must be sound.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, command: c_ulong, args: &mut T) -> io::Result<()> {
    #[cfg(test)]
    if let Some(answer) = crate::window::tests::answer(command, (&raw mut *args).cast()) {
        return answer;
    }
    // SAFETY: By this function's safety requirements.
    match unsafe { libc::ioctl(fd.as_raw_fd(), command, &raw mut *args) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// See [`crate::pair`].
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    let mut args = bindings::zpipe_pipe2 {
        size: size::<bindings::zpipe_pipe2>(),
        flags: libc::O_CLOEXEC as u32,
        fds: [-1; 2],
    };
    // SAFETY: The command takes this struct, and no window exists yet.
    unsafe { ioctl(control.as_fd(), bindings::PIPE2, &mut args)? };
    let [read, write] = args.fds;
    // SAFETY: The descriptors are new, and ours.
    Ok(unsafe { (OwnedFd::from_raw_fd(read), OwnedFd::from_raw_fd(write)) })
}

/// Returns true if this is a descriptor of a zpipe: of a private pair, or of a device node.
///
/// It checks the type of the file. The number of a command may be another driver's, which
/// takes another struct.
fn is_zpipe(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: It writes such a struct.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), fs.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The call succeeded, so it wrote the struct.
    if unsafe { fs.assume_init() }.f_type == bindings::SUPER_MAGIC {
        return Ok(true);
    }
    // Nodes have minor number 0, the control device has minor number 1.
    let file = fs::File::from(fd.try_clone_to_owned()?).metadata()?;
    Ok(file.file_type().is_char_device()
        && minor(file.rdev()) == 0
        && fs::metadata(CONTROL).is_ok_and(|control| {
            control.file_type().is_char_device()
                && minor(control.rdev()) == 1
                && major(control.rdev()) == major(file.rdev())
        }))
}

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
        access: c_int,
    ) -> io::Result<Self> {
        if !is_zpipe(end)? {
            return Err(errno(libc::ENOTTY));
        }
        let mut args = bindings::zpipe_window {
            size: size::<bindings::zpipe_window>(),
            flags,
            bytes: bytes as u64,
            fd: -1,
            reserved: 0,
        };
        // SAFETY: It is a zpipe. The command takes this struct and makes a new window.
        unsafe { ioctl(end, bindings::WINDOW, &mut args)? };
        // SAFETY: The descriptor is new, and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(args.fd) };
        Self::map(fd, args.bytes as usize, access)
    }

    /// Maps `len` bytes of a descriptor.
    pub(crate) fn map(fd: OwnedFd, len: usize, access: c_int) -> io::Result<Self> {
        let (anywhere, shared) = (ptr::null_mut(), libc::MAP_SHARED);
        // SAFETY: The kernel chooses an address at which nothing is mapped.
        let base = unsafe { libc::mmap(anywhere, len, access, shared, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Self { fd, base, len }),
            None => Err(errno(libc::EINVAL)),
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
    pub(crate) unsafe fn call<T>(&self, command: c_ulong, args: &mut T) -> io::Result<()> {
        // SAFETY: By this function's safety requirements.
        unsafe { ioctl(self.fd.as_fd(), command, args) }
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
        // SAFETY: We mapped it, and no slice outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}
