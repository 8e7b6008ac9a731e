// SPDX-License-Identifier: GPL-2.0-only

//! The two character devices: a region of numbers, one cdev for both, and a class for their nodes.
//!
//! They are no miscdevices: `misc_open()` holds the mutex of all misc devices across `->open()`,
//! and the open of a FIFO waits.
//!
//! Files can be opened as soon as the cdev is added. If loading the module failed after that, open
//! files would outlive it: `do_init_module()` frees a module that failed even if files hold it. So
//! the cdev is added last. There is only one, because the second of two might fail to be added.

use crate::{compat::THIS_MODULE, device, sync::CConst};
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    str::CStrExt,
};

/// The bits of a device number that hold the minor number.
const MINOR_MASK: u32 = (1 << 20) - 1;

/// The minor number of the FIFO, `/dev/zpipe`.
const FIFO: u32 = 0;
/// The minor number of the control device, `/dev/zpipe-control`.
const CONTROL: u32 = 1;
const MINORS: u32 = 2;

/// The operations of a file until [`open`] replaces them.
static OPS: CConst<bindings::file_operations> = CConst::new(bindings::file_operations {
    owner: THIS_MODULE.as_ptr(),
    open: Some(open),
    ..pin_init::zeroed()
});

/// Replaces the operations of a file by those of its device, and opens it, as `memory_open()` does.
///
/// # Safety
///
/// The VFS calls it with a file that is being opened with [`OPS`], and with the inode of the file.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The VFS passes a valid inode.
    let minor = unsafe { (*inode).i_rdev } & MINOR_MASK;
    let ops = match minor {
        FIFO => device::END_OPS.as_ptr(),
        CONTROL => device::CONTROL_OPS.as_ptr(),
        _ => return ENXIO.to_errno(),
    };

    // SAFETY: While the file is being opened, only we use it. It holds a reference to the owner of
    // its operations, and the owner of the new ones is the same. The new operations are static.
    let open = unsafe {
        (*file).f_op = ops;
        (*ops).open
    };
    match open {
        // SAFETY: The file is being opened with the operations that `open` is taken from, and the
        // arguments are those of the VFS.
        Some(open) => unsafe { open(inode, file) },
        None => 0,
    }
}

/// Sets the mode of a node. Everybody may open the control device, because it connects nobody with
/// anybody. The FIFO is a channel that its users share, so its mode is a module parameter.
///
/// # Safety
///
/// The driver core calls it with a valid device of the class. `mode` is null or valid.
unsafe extern "C" fn devnode(
    dev: *const bindings::device,
    mode: *mut bindings::umode_t,
) -> *mut c_char {
    if !mode.is_null() {
        // SAFETY: The driver core passes a valid device and, as was tested, a pointer to a mode.
        unsafe {
            *mode = if (*dev).devt & MINOR_MASK == CONTROL {
                0o666
            } else {
                // CAST: Nine bits.
                (crate::compat::parameter(&crate::module_parameters::mode) & 0o777)
                    as bindings::umode_t
            };
        }
    }
    core::ptr::null_mut()
}

/// A region of device numbers.
///
/// # Invariants
///
/// `first` is the first of [`MINORS`] numbers that were allocated together.
struct Region {
    first: bindings::dev_t,
}

impl Region {
    fn new() -> Result<Self> {
        let mut first = 0;

        // SAFETY: `first` is valid for a write. The name is copied.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, MINORS, c"zpipe".as_char_ptr())
        })?;
        // INVARIANT: The call was successful.
        Ok(Self { first })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants these numbers are allocated.
        unsafe { bindings::unregister_chrdev_region(self.first, MINORS) };
    }
}

/// The device class.
///
/// # Invariants
///
/// `ptr` was made by `class_create()` and is not yet destroyed.
struct Class {
    ptr: NonNull<bindings::class>,
}

impl Class {
    fn new() -> Result<Self> {
        // SAFETY: The name is static.
        let class = from_err_ptr(unsafe { bindings::class_create(c"zpipe".as_char_ptr()) })?;
        let ptr = NonNull::new(class).ok_or(ENOMEM)?;

        // SAFETY: The class is valid, and has no devices yet.
        unsafe { (*ptr.as_ptr()).devnode = Some(devnode) };
        // INVARIANT: `class_create()` returned it just now.
        Ok(Self { ptr })
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the class is valid. The driver core frees it after its
        // last use.
        unsafe { bindings::class_destroy(self.ptr.as_ptr()) };
    }
}

/// A node in `/dev`.
///
/// # Invariants
///
/// A device with this class and number exists.
struct Node {
    class: NonNull<bindings::class>,
    number: bindings::dev_t,
}

impl Node {
    fn new(class: &Class, number: bindings::dev_t, name: &'static CStr) -> Result<Self> {
        // SAFETY: The class is valid. The format takes one string, and there is one.
        from_err_ptr(unsafe {
            bindings::device_create(
                class.ptr.as_ptr(),
                ptr::null_mut(),
                number,
                ptr::null_mut(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;
        // INVARIANT: The call was successful.
        Ok(Self {
            class: class.ptr,
            number,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device exists. The class is destroyed after its nodes,
        // see [`Devices`].
        unsafe { bindings::device_destroy(self.class.as_ptr(), self.number) };
    }
}

/// The cdev: while it exists, the devices can be opened.
///
/// # Invariants
///
/// `ptr` was made by `cdev_alloc()` and added by `cdev_add()`.
struct Cdev {
    ptr: NonNull<bindings::cdev>,
}

impl Cdev {
    /// Adds a cdev for all numbers of the region.
    fn new(region: &Region) -> Result<Self> {
        // SAFETY: It has no safety requirements.
        let ptr = NonNull::new(unsafe { bindings::cdev_alloc() }).ok_or(ENOMEM)?;
        let cdev = ptr.as_ptr();

        // SAFETY: The cdev is new and only we use it; all that it is made to point to is static. It
        // takes a reference to the kobject of the module, and the module is not freed before the
        // last such reference is dropped. So the cdev, which points to the module, does not outlive
        // it, however late it is freed.
        let result = to_result(unsafe {
            (*cdev).ops = OPS.as_ptr();
            (*cdev).owner = THIS_MODULE.as_ptr();
            bindings::cdev_set_parent(cdev, &raw mut (*THIS_MODULE.as_ptr()).mkobj.kobj);
            bindings::cdev_add(cdev, region.first, MINORS)
        });
        if let Err(e) = result {
            // SAFETY: The cdev was not added, so only we use it. `cdev_add()` took no reference to
            // the parent. So the parent is removed, or else the release of the cdev would drop a
            // reference that it does not have.
            unsafe {
                (*cdev).kobj.parent = ptr::null_mut();
                bindings::kobject_put(&raw mut (*cdev).kobj);
            }
            return Err(e);
        }
        // INVARIANT: Both calls were successful.
        Ok(Self { ptr })
    }
}

impl Drop for Cdev {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the cdev was added. No open is running, because a file
        // that is being opened holds the module, and the module is being unloaded. Inodes that
        // point to the cdev are reset when it is released.
        unsafe { bindings::cdev_del(self.ptr.as_ptr()) };
    }
}

/// The registered devices. Dropping them unregisters them, in the order of the fields.
pub(crate) struct Devices {
    _cdev: Cdev,
    _fifo_node: Node,
    _control_node: Node,
    _class: Class,
    _region: Region,
}

impl Devices {
    /// Registers both devices. Sleeps.
    ///
    /// Files may be opened before this returns, so the caller must not fail after it.
    pub(crate) fn new() -> Result<Self> {
        let region = Region::new()?;
        let class = Class::new()?;
        let fifo_node = Node::new(&class, region.first + FIFO, c"zpipe")?;
        let control_node = Node::new(&class, region.first + CONTROL, c"zpipe-control")?;

        Ok(Self {
            _cdev: Cdev::new(&region)?,
            _fifo_node: fifo_node,
            _control_node: control_node,
            _class: class,
            _region: region,
        })
    }
}

// SAFETY: Nothing is done with it except dropping it, which may be done by any task that may sleep.
unsafe impl Send for Devices {}
// SAFETY: Nothing can be done with a shared reference.
unsafe impl Sync for Devices {}
