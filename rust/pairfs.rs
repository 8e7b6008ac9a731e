// SPDX-License-Identifier: GPL-2.0-only

//! The pseudo file system of pairs, as pipefs is for pipe(2).
//!
//! It is mounted, for the kernel only, while there are pairs. Each descriptor of a pair holds the
//! mount, even one that was opened with O_PATH. The mount holds the file system type, and that
//! holds the module. With an anonymous inode an O_PATH descriptor would not keep the module loaded,
//! because it takes no reference to the owner of the file operations.
//!
//! Sources: `fs/pipe.c` (`get_pipe_inode()`, `create_pipe_files()`), `fs/libfs.c`.

use crate::{
    fops::{pipe_id, set_private, FileOperations, FileOps, Private},
    id::InodeKey,
    id::PipeId,
    sync::{CConst, CStatic},
    sys,
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

/// The `f_type` that statfs(2) reports for a pair. CAST: A u32 fits.
const MAGIC: usize = sys::ZPIPE_SUPER_MAGIC as usize;

/// The type of the file system. It is not constant, because the VFS links super blocks into it.
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

/// The mount, while it is pinned, and the number of pins. Only `simple_pin_fs()` and
/// `simple_release_fs()` change them, under a lock of their own.
static MOUNT: CStatic<*mut bindings::vfsmount> = CStatic::new(ptr::null_mut());
static PINS: CStatic<c_int> = CStatic::new(0);

/// Sets up the context of a mount.
///
/// # Safety
///
/// The VFS calls it with a new context for a mount of [`FS_TYPE`].
unsafe extern "C" fn init_fs_context(fc: *mut bindings::fs_context) -> c_int {
    // SAFETY: The VFS passes a new context for a mount of our type.
    let Some(ctx) = NonNull::new(unsafe { sys::init_pseudo(fc, MAGIC) }) else {
        return ENOMEM.to_errno();
    };

    // SAFETY: `init_pseudo()` allocated it for the caller to fill in, and nothing else uses it yet.
    unsafe { (*ctx.as_ptr()).dops = DENTRY_OPS.as_ptr() };
    0
}

/// A pin that keeps the file system mounted.
///
/// # Invariants
///
/// Each value stands for one successful call of `simple_pin_fs()`.
pub(crate) struct MountPin(());

impl MountPin {
    /// Pins the file system, and mounts it if it is not mounted. Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: All three statics live as long as the module. No other function changes `MOUNT`
        // and `PINS`, and these two lock against each other.
        to_result(unsafe {
            bindings::simple_pin_fs(FS_TYPE.as_ptr(), MOUNT.as_ptr(), PINS.as_ptr())
        })?;
        // INVARIANT: The call was successful.
        Ok(Self(()))
    }

    fn mount(&self) -> *mut bindings::vfsmount {
        // SAFETY: The static is valid. It does not change while there is a pin, and `self` is one.
        unsafe { *MOUNT.as_ptr() }
    }
}

impl Drop for MountPin {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a pin to release.
        unsafe { bindings::simple_release_fs(MOUNT.as_ptr(), PINS.as_ptr()) };
    }
}

/// The inode of a pair: a FIFO that belongs to the user of the current task.
///
/// # Invariants
///
/// `ptr` is valid, and one reference to it is ours.
pub(crate) struct FifoInode {
    ptr: NonNull<bindings::inode>,
    /// Dropped after the inode: an inode must not outlive its file system.
    pin: MountPin,
}

impl FifoInode {
    /// Makes an inode. Files that are opened through it later, by `/proc/PID/fd`, are of kind `T`.
    /// Sleeps.
    ///
    /// Errors: `ENFILE` (no memory for an inode), or those of `simple_pin_fs()`.
    pub(crate) fn new<T: FileOperations>(ops: &'static FileOps<T>) -> Result<Self> {
        let pin = MountPin::new()?;
        // SAFETY: The mount is valid while it is pinned, and so is its super block.
        let inode = unsafe { bindings::new_inode((*pin.mount()).mnt_sb) };
        let ptr = NonNull::new(inode).ok_or(ENFILE)?;

        // SAFETY: The inode is new and only we use it. The operations are static.
        unsafe { sys::zpipe_init_fifo_inode(ptr.as_ptr(), ops.as_ptr()) };
        // INVARIANT: `new_inode()` returned the inode with one reference.
        Ok(Self { ptr, pin })
    }

    /// The key of the inode in the pipe table.
    pub(crate) fn key(&self) -> InodeKey {
        InodeKey(self.ptr.as_ptr() as usize)
    }

    /// The name of the pipe for people.
    pub(crate) fn pipe_id(&self) -> PipeId {
        // SAFETY: The inode is valid by the type invariants, and has a super block.
        unsafe { pipe_id(self.ptr.as_ptr()) }
    }

    /// Opens a file of kind `T` on the inode, with `flags`. Its private data is `this`. Sleeps.
    pub(crate) fn open<T: FileOperations>(
        &self,
        ops: &'static FileOps<T>,
        flags: u32,
        this: T,
    ) -> Result<ARef<File>> {
        let private = Private::new(this)?;
        // SAFETY: Code of the module runs, so the module is valid.
        if !unsafe { bindings::try_module_get(crate::compat::THIS_MODULE.as_ptr()) } {
            return Err(ENODEV);
        }

        // SAFETY: The inode is valid by the type invariants. The new reference is for the dentry of
        // the file.
        unsafe { bindings::ihold(self.ptr.as_ptr()) };
        // SAFETY: The inode is valid by the type invariants, the mount because it is pinned, and
        // the operations are static. The file takes over the reference to the inode and, as the
        // owner of its operations, that to the module.
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
                // SAFETY: The call failed, so it took over neither of the two references.
                unsafe {
                    bindings::iput(self.ptr.as_ptr());
                    bindings::module_put(crate::compat::THIS_MODULE.as_ptr());
                }
                return Err(e);
            }
        };

        // SAFETY: The file is new, only we use it, and it has the operations of kind `T`. It is not
        // null. Its reference becomes that of the `ARef`.
        unsafe {
            sys::zpipe_open_pair(self.ptr.as_ptr(), file);
            set_private(file, private);
            Ok(ARef::from_raw(NonNull::new_unchecked(file.cast())))
        }
    }
}

impl Drop for FifoInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to drop.
        unsafe { bindings::iput(self.ptr.as_ptr()) };
    }
}
