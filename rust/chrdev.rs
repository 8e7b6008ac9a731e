// SPDX-License-Identifier: GPL-2.0-only

//! The two character devices: a region of numbers, one cdev for both, and a class that names the
//! nodes.
//!
//! Not a miscdevice: `misc_open()` holds a mutex of all of them across `->open()`, and a FIFO's
//! open waits.
//!
//! From when the cdev is added, files can be opened. If loading the module failed after that, they
//! would outlive it: `do_init_module()` frees a module that failed, whoever holds it. So the cdev
//! is added last, and it is one: two could be added by halves.

use crate::{compat::THIS_MODULE, device, sync::CConst};
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    str::CStrExt,
};

/// Bits of a device number that are the minor.
const MINOR_MASK: u32 = (1 << 20) - 1;

/// Minor of the FIFO, `/dev/zpipe`.
const FIFO: u32 = 0;
/// Minor of the control device, `/dev/zpipe-control`.
const CONTROL: u32 = 1;
const MINORS: u32 = 2;

/// The operations that a file has when `open` is called, and no longer.
static OPS: CConst<bindings::file_operations> = CConst::new(bindings::file_operations {
    owner: THIS_MODULE.as_ptr(),
    open: Some(open),
    ..pin_init::zeroed()
});

/// Opens a file with the operations of its device, as `memory_open()` does.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened with [`OPS`], and its inode.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The VFS passes a valid inode.
    let minor = unsafe { (*inode).i_rdev } & MINOR_MASK;
    let ops = match minor {
        FIFO => device::END_OPS.as_ptr(),
        CONTROL => device::CONTROL_OPS.as_ptr(),
        _ => return ENXIO.to_errno(),
    };

    // SAFETY: While it is opened, the file is ours. It holds the owner of its operations, which is
    // the same as before. The operations are static.
    let open = unsafe {
        (*file).f_op = ops;
        (*ops).open
    };
    match open {
        // SAFETY: The file is being opened with the operations that this is one of.
        Some(open) => unsafe { open(inode, file) },
        None => 0,
    }
}

/// Sets the mode of a node: the FIFO is a shared channel, the control device joins nothing.
///
/// # Safety
///
/// Called by the driver core, with a valid device of the class.
unsafe extern "C" fn devnode(
    dev: *const bindings::device,
    mode: *mut bindings::umode_t,
) -> *mut c_char {
    if !mode.is_null() {
        // SAFETY: The driver core passes a valid device and, as was seen, a place for the mode.
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
/// `first` begins an allocated region of [`MINORS`] numbers.
struct Region {
    first: bindings::dev_t,
}

impl Region {
    fn new() -> Result<Self> {
        let mut first = 0;

        // SAFETY: `first` is written to, the name is copied.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, MINORS, c"zpipe".as_char_ptr())
        })?;
        // INVARIANT: It was successful.
        Ok(Self { first })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::unregister_chrdev_region(self.first, MINORS) };
    }
}

/// The device class.
///
/// # Invariants
///
/// `ptr` is what `class_create()` made.
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
        // INVARIANT: As was just seen.
        Ok(Self { ptr })
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The driver core frees it when nobody uses it any more.
        unsafe { bindings::class_destroy(self.ptr.as_ptr()) };
    }
}

/// A node in `/dev`.
///
/// # Invariants
///
/// A device of this class and number exists.
struct Node {
    class: NonNull<bindings::class>,
    number: bindings::dev_t,
}

impl Node {
    fn new(class: &Class, number: bindings::dev_t, name: &'static CStr) -> Result<Self> {
        // SAFETY: The class is valid. The format takes one string.
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
        // INVARIANT: It was successful.
        Ok(Self {
            class: class.ptr,
            number,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the class outlives its nodes, see `Devices`.
        unsafe { bindings::device_destroy(self.class.as_ptr(), self.number) };
    }
}

/// The cdev: as long as there is one, the devices can be opened.
///
/// # Invariants
///
/// `ptr` is what `cdev_alloc()` made and `cdev_add()` added.
struct Cdev {
    ptr: NonNull<bindings::cdev>,
}

impl Cdev {
    /// Adds a cdev for all numbers of the region.
    fn new(region: &Region) -> Result<Self> {
        // SAFETY: No requirement.
        let ptr = NonNull::new(unsafe { bindings::cdev_alloc() }).ok_or(ENOMEM)?;
        let cdev = ptr.as_ptr();

        // SAFETY: The cdev is new and ours, and what it points to is static. The module's kobject
        // is valid until the module is freed, which waits for the kobject's last reference. So the
        // cdev, which names the module, does not outlive it, however late a cdev is released.
        let result = to_result(unsafe {
            (*cdev).ops = OPS.as_ptr();
            (*cdev).owner = THIS_MODULE.as_ptr();
            bindings::cdev_set_parent(cdev, &raw mut (*THIS_MODULE.as_ptr()).mkobj.kobj);
            bindings::cdev_add(cdev, region.first, MINORS)
        });
        if let Err(e) = result {
            // SAFETY: The cdev is still ours. Its parent was not referenced, and is not to be put
            // when the cdev is released.
            unsafe {
                (*cdev).kobj.parent = ptr::null_mut();
                bindings::kobject_put(&raw mut (*cdev).kobj);
            }
            return Err(e);
        }
        // INVARIANT: It was successful.
        Ok(Self { ptr })
    }
}

impl Drop for Cdev {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. No open can be under way: that holds the module, which is
        // being unloaded. Inodes that know the cdev forget it when it is released.
        unsafe { bindings::cdev_del(self.ptr.as_ptr()) };
    }
}

/// The devices, registered. Dropping it takes them away, in the order of the members.
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
    /// They can be opened before this returns: what is done after it must not fail.
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

// SAFETY: It is only kept, and dropped in any context that may sleep.
unsafe impl Send for Devices {}
// SAFETY: There is nothing to do with a reference.
unsafe impl Sync for Devices {}
