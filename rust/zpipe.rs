// SPDX-License-Identifier: GPL-2.0-only

//! zpipe: a pipe for bulk data between the processes of one machine.
//!
//! ```text
//! uapi <- device -> pipe, read, write -> ring -> {mm, sync} -> sys
//!            |-> pairfs -> fops
//! chrdev -> device: what opens a file
//! debugfs -> table; trace: called where there is something to tell
//! zcore: pure logic; imports nothing, anything may import it
//! ```

use kernel::prelude::*;

mod chrdev;
mod compat;
mod debugfs;
mod demand;
mod device;
mod direct;
mod fops;
mod frames;
mod gift;
mod homes;
mod lock;
mod mm;
mod pairfs;
mod pipe;
mod read;
mod ring;
mod slot;
mod stats;
mod sync;
mod sys;
mod table;
mod trace;
mod uapi;
mod window;
mod write;
#[path = "core/mod.rs"]
mod zcore;

const _: () = assert!(zcore::PAGE_SIZE == kernel::page::PAGE_SIZE);

module! {
    type: Zpipe,
    name: "zpipe",
    authors: ["zpipe developers"],
    description: "A pipe for bulk data between processes",
    license: "GPL",
    params: {
        mode: i32 {
            default: 0o660,
            description: "Mode of /dev/zpipe",
        },
        max_size: u32 {
            default: 1048576,
            description: "Bytes up to which anybody may grow a pipe, as /proc/sys/fs/pipe-max-size",
        },
        user_pages_soft: u64 {
            default: 16384,
            description: "Pages in pipes of a user above which new ones are small and none may grow, 0: no limit",
        },
        user_pages_hard: u64 {
            default: 0,
            description: "Pages in pipes of a user above which there are no new ones, 0: no limit",
        },
        spin_us: u32 {
            default: 50,
            description: "Microseconds that a reader or writer may spin before it sleeps",
        },
        direct_min: u32 {
            default: 131072,
            description: "Bytes from which on a transfer that waits goes straight between the processes",
        },
        direct_most: u32 {
            default: 2097152,
            description: "Bytes copied straight between two processes at most in one call",
        },
        direct_batch: u32 {
            default: 64,
            description: "Pages of another process held at a time while they are copied, at most 64",
        },
        gifts_most: u32 {
            default: 0,
            description: "Huge pages in all pipes at most, 0: a 64th of memory",
        },
        refuse_moves: u8 {
            default: 0,
            description: "For tests: refuse to move huge pages before (1), in the middle (2) or at the end (3)",
        },
        cut_copies: u8 {
            default: 0,
            description: "For tests: cut about half of the copies short, as a page fault would (1), or all to nothing (2)",
        },
    },
}

/// What the module has registered. Dropping it takes it away, in the order of the members.
struct Zpipe {
    _directory: debugfs::Directory,
    _devices: chrdev::Devices,
}

impl kernel::Module for Zpipe {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pipe::limits()?;
        table::init()?;
        direct::set_limits(
            compat::parameter(&module_parameters::direct_min),
            compat::parameter(&module_parameters::direct_most),
        );
        mm::set_batch(compat::parameter(&module_parameters::direct_batch));
        sync::set_spin_us(compat::parameter(&module_parameters::spin_us));
        mm::set_gifts_most(compat::parameter(&module_parameters::gifts_most));
        mm::refuse_moves(compat::parameter(&module_parameters::refuse_moves));
        mm::cut_copies(compat::parameter(&module_parameters::cut_copies));

        // From here on files are opened, and nothing may fail: they would outlive the module.
        let devices = chrdev::Devices::new()?;
        Ok(Self {
            _directory: debugfs::Directory::new(),
            _devices: devices,
        })
    }
}
