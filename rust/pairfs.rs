// SPDX-License-Identifier: GPL-2.0-only

//! The pseudo file system on which private pairs live, as pipefs is for pipe(2).
//!
//! It is mounted, for the kernel alone, while there are pairs. Every descriptor of a pair, one
//! opened with O_PATH too, holds the mount, the mount holds the file system type, and that holds
//! this module. An anonymous inode would not: O_PATH takes no reference of the file operations.
//!
//! Sources: `fs/pipe.c` (`get_pipe_inode()`, `create_pipe_files()`), `fs/libfs.c`.

use crate::{
    fops::{pipe_id, set_private, FileOperations, FileOps, Private},
    pipe::PipeId,
    sync::{CConst, CStatic},
    sys,
    table::InodeKey,
};
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    fs::File,
    prelude::*,
    str::{as_char_ptr_in_const_context, CStrExt},
    sync::aref::ARef,
};

/// What statfs(2) says of a private pair. CAST: A u32 fits.
const MAGIC: usize = sys::ZPIPE_SUPER_MAGIC as usize;

/// Not a constant: the VFS keeps lists in it.
static FS_TYPE: CStatic<bindings::file_system_type> = CStatic::new(bindings::file_system_type {
    name: as_char_ptr_in_const_context(c"zpipefs"),
    init_fs_context: Some(init_fs_context),
    kill_sb: Some(bindings::kill_anon_super),
    owner: crate::compat::THIS_MODULE.as_ptr(),
    ..pin_init::zeroed()
});

static DENTRY_OPS: CConst<bindings::dentry_operations> = CConst::new(bindings::dentry_operations {
    d_dname: Some(sys::zpipe_dname),
    ..pin_init::zeroed()
});

/// The mount, while it is pinned. `simple_pin_fs()` and `simple_release_fs()` change it, under a
/// lock of theirs.
static MOUNT: CStatic<*mut bindings::vfsmount> = CStatic::new(ptr::null_mut());
static PINS: CStatic<c_int> = CStatic::new(0);

/// # Safety
///
/// Called by the VFS, with a new context of our type.
unsafe extern "C" fn init_fs_context(fc: *mut bindings::fs_context) -> c_int {
    // SAFETY: The kernel passes a new context of our type.
    let Some(ctx) = NonNull::new(unsafe { sys::init_pseudo(fc, MAGIC) }) else {
        return ENOMEM.to_errno();
    };

    // SAFETY: `init_pseudo()` made it for us to fill in.
    unsafe { (*ctx.as_ptr()).dops = DENTRY_OPS.as_ptr() };
    0
}

/// Keeps the file system mounted.
///
/// # Invariants
///
/// Stands for one successful `simple_pin_fs()`.
pub(crate) struct MountPin(());

impl MountPin {
    /// Mounts the file system if it is not. Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The statics are for these calls alone.
        to_result(unsafe {
            bindings::simple_pin_fs(FS_TYPE.as_ptr(), MOUNT.as_ptr(), PINS.as_ptr())
        })?;
        // INVARIANT: It was successful.
        Ok(Self(()))
    }

    fn mount(&self) -> *mut bindings::vfsmount {
        // SAFETY: While it is pinned, the mount does not change.
        unsafe { *MOUNT.as_ptr() }
    }
}

impl Drop for MountPin {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a pin to give back.
        unsafe { bindings::simple_release_fs(MOUNT.as_ptr(), PINS.as_ptr()) };
    }
}

/// A new inode: a FIFO that belongs to the current task.
///
/// # Invariants
///
/// `ptr` is valid, and one reference of it is ours.
pub(crate) struct FifoInode {
    ptr: NonNull<bindings::inode>,
    /// Dropped last: an inode must not outlive its file system.
    pin: MountPin,
}

impl FifoInode {
    /// Makes an inode whose files, when it is opened again, are of kind `T`. Sleeps.
    pub(crate) fn new<T: FileOperations>(ops: &'static FileOps<T>) -> Result<Self> {
        let pin = MountPin::new()?;
        // SAFETY: The mount is valid while it is pinned, and so is its super block.
        let inode = unsafe { bindings::new_inode((*pin.mount()).mnt_sb) };
        let ptr = NonNull::new(inode).ok_or(ENFILE)?;

        // SAFETY: The inode is new and ours; the operations live indefinitely.
        unsafe { sys::zpipe_init_fifo_inode(ptr.as_ptr(), ops.as_ptr()) };
        // INVARIANT: `new_inode()` gave us a reference.
        Ok(Self { ptr, pin })
    }

    /// The name of the inode.
    pub(crate) fn key(&self) -> InodeKey {
        InodeKey(self.ptr.as_ptr() as usize)
    }

    /// The inode's name for people.
    pub(crate) fn pipe_id(&self) -> PipeId {
        // SAFETY: Valid by the type invariants.
        unsafe { pipe_id(self.ptr.as_ptr()) }
    }

    /// Opens a file with `flags` that is `this`. Sleeps.
    pub(crate) fn open<T: FileOperations>(
        &self,
        ops: &'static FileOps<T>,
        flags: u32,
        this: T,
    ) -> Result<ARef<File>> {
        let private = Private::new(this)?;
        // SAFETY: The module is there, it runs.
        if !unsafe { bindings::try_module_get(crate::compat::THIS_MODULE.as_ptr()) } {
            return Err(ENODEV);
        }

        // SAFETY: The inode is valid; the reference is for the file's dentry.
        unsafe { bindings::ihold(self.ptr.as_ptr()) };
        // SAFETY: Inode and mount are valid; the module reference is for the operations.
        let file = from_err_ptr(unsafe {
            bindings::alloc_file_pseudo(
                self.ptr.as_ptr(),
                self.pin.mount(),
                c"".as_char_ptr(),
                flags as c_int,
                ops.as_ptr(),
            )
        });
        let file = match file {
            Ok(file) => file,
            Err(e) => {
                // SAFETY: Neither reference was taken.
                unsafe {
                    bindings::iput(self.ptr.as_ptr());
                    bindings::module_put(crate::compat::THIS_MODULE.as_ptr());
                }
                return Err(e);
            }
        };

        // SAFETY: The file is new, ours, and of kind `T`. It becomes the `ARef`'s.
        unsafe {
            sys::zpipe_open_pair(self.ptr.as_ptr(), file);
            set_private(file, private);
            Ok(ARef::from_raw(NonNull::new_unchecked(file.cast())))
        }
    }
}

impl Drop for FifoInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { bindings::iput(self.ptr.as_ptr()) };
    }
}
