// SPDX-License-Identifier: GPL-2.0-only

//! The two character devices: a region of numbers, a cdev each, and a class that names the nodes.
//!
//! Not a miscdevice: `misc_open()` holds a mutex of all of them across `->open()`, and a FIFO's
//! open waits.

use crate::{
    fops::{FileOperations, FileOps},
    sync::CStatic,
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    str::{as_char_ptr_in_const_context, CStrExt},
    types::Opaque,
};

/// Bits of a device number that are the minor.
const MINOR_MASK: u32 = (1 << 20) - 1;

/// Minor of the FIFO, `/dev/zpipe`.
const FIFO: u32 = 0;
/// Minor of the control device, `/dev/zpipe-control`.
const CONTROL: u32 = 1;
const MINORS: u32 = 2;

static CLASS: CStatic<bindings::class> = CStatic::new(bindings::class {
    name: as_char_ptr_in_const_context(c"zpipe"),
    devnode: Some(devnode),
    ..pin_init::zeroed()
});

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
/// [`CLASS`] is registered.
struct Class(());

impl Class {
    fn new() -> Result<Self> {
        // SAFETY: The static is for these calls alone.
        to_result(unsafe { bindings::class_register(CLASS.as_ptr()) })?;
        // INVARIANT: It was successful.
        Ok(Self(()))
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::class_unregister(CLASS.as_ptr()) };
    }
}

/// A cdev: from now on the device number can be opened.
#[pin_data(PinnedDrop)]
struct Cdev {
    #[pin]
    cdev: Opaque<bindings::cdev>,
}

impl Cdev {
    fn new<T: FileOperations>(
        ops: &'static FileOps<T>,
        number: bindings::dev_t,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cdev <- Opaque::try_ffi_init(move |slot: *mut bindings::cdev| {
                // SAFETY: The slot is memory for a cdev, and stays where it is.
                unsafe {
                    bindings::cdev_init(slot, ops.as_ptr());
                    (*slot).owner = crate::compat::THIS_MODULE.as_ptr();
                    to_result(bindings::cdev_add(slot, number, 1))
                }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Cdev {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It was added. Inodes that know it forget it, and no open can be under way: that
        // holds the module, which is being unloaded or failed to load.
        unsafe { bindings::cdev_del(self.cdev.get()) };
    }
}

// SAFETY: It is only kept, and dropped in any context that may sleep.
unsafe impl Send for Cdev {}
// SAFETY: There is nothing to do with a reference.
unsafe impl Sync for Cdev {}

/// A node in `/dev`.
///
/// # Invariants
///
/// A device of the class with this number exists.
struct Node {
    number: bindings::dev_t,
}

impl Node {
    fn new(_class: &Class, number: bindings::dev_t, name: &'static CStr) -> Result<Self> {
        // SAFETY: The class is registered. The format takes one string.
        from_err_ptr(unsafe {
            bindings::device_create(
                CLASS.as_ptr(),
                core::ptr::null_mut(),
                number,
                core::ptr::null_mut(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;
        // INVARIANT: It was successful.
        Ok(Self { number })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the class outlives its nodes, see `Devices`.
        unsafe { bindings::device_destroy(CLASS.as_ptr(), self.number) };
    }
}

/// The devices, registered. Dropping it takes them away, in the order of the members.
pub(crate) struct Devices {
    _fifo_node: Node,
    _control_node: Node,
    _class: Class,
    _fifo: Pin<KBox<Cdev>>,
    _control: Pin<KBox<Cdev>>,
    _region: Region,
}

impl Devices {
    /// Registers both devices. Sleeps. They can be opened before this returns.
    pub(crate) fn new<F: FileOperations, C: FileOperations>(
        fifo_ops: &'static FileOps<F>,
        control_ops: &'static FileOps<C>,
    ) -> Result<Self> {
        let region = Region::new()?;
        let fifo = KBox::pin_init(Cdev::new(fifo_ops, region.first + FIFO), GFP_KERNEL)?;
        let control = KBox::pin_init(Cdev::new(control_ops, region.first + CONTROL), GFP_KERNEL)?;
        let class = Class::new()?;

        Ok(Self {
            _fifo_node: Node::new(&class, region.first + FIFO, c"zpipe")?,
            _control_node: Node::new(&class, region.first + CONTROL, c"zpipe-control")?,
            _class: class,
            _fifo: fifo,
            _control: control,
            _region: region,
        })
    }
}
