// SPDX-License-Identifier: GPL-2.0-only

//! zpipe: a pipe for bulk data between the processes of one machine.
//!
//! # Layers
//!
//! The modules, lowest layer first. A module imports only from modules in lower layers:
//!
//! ```text
//! zcore                       pure rules, without the kernel
//! sys, compat, id, stats      C functions, kernel series, names of pipes, counters
//! sync, uapi, trace           waiting and signals, structs of the ABI, tracepoints
//! mm, direct                  memory management, limits on direct transfers
//! frames, posted_read         homes of frames, posted reads
//! slot                        a slot
//! request, homes              parameters of a call, homes of huge pages
//! real_pipe                   real pipes
//! other_file                  files on the other side of a splice
//! posted_write                posted writes
//! ring                        the slots in order
//! lock, fops                  the inner lock and the snapshot, file operations
//! pipe, pairfs                a pipe, the file system of pairs
//! read, write, table          read calls, write calls, the pipe table
//! gift, splice                gifts, commands that splice
//! window                      windows
//! device                      from files to pipes
//! chrdev, debugfs             device nodes, the list of all pipes
//! zpipe                       this file
//! ```
//!
//! `scripts/layers` checks this list. It exempts what [`module!`] puts into this file: the module
//! and its parameters.

use kernel::prelude::*;

mod chrdev;
mod compat;
mod debugfs;
mod device;
mod direct;
mod fops;
mod frames;
mod gift;
mod homes;
mod id;
mod lock;
mod mm;
mod other_file;
mod pairfs;
mod pipe;
mod posted_read;
mod posted_write;
mod read;
mod real_pipe;
mod request;
mod ring;
mod slot;
mod splice;
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
            description: "Maximum bytes of an unprivileged user's pipe, as fs.pipe-max-size",
        },
        user_pages_soft: u64 {
            default: 16384,
            description: "User pipe pages above which pipes are small and cannot grow, 0: no limit",
        },
        user_pages_hard: u64 {
            default: 0,
            description: "Pages in a user's pipes above which no pipe is made, 0: no limit",
        },
        spin_us: u32 {
            default: 50,
            description: "Maximum microseconds that a task spins before it sleeps",
        },
        direct_min: u32 {
            default: 131072,
            description: "Minimum bytes for which a blocked read or write is posted",
        },
        direct_max: u32 {
            default: 2097152,
            description: "Maximum bytes that one call transfers directly",
        },
        direct_batch: u32 {
            default: 64,
            description: "Pages of another process held at a time for a copy, at most 64",
        },
        gifts_max: u32 {
            default: 0,
            description: "Maximum huge pages in all pipes, 0: 1/64 of memory",
        },
        refuse_moves: u8 {
            default: 0,
            description: "For tests: refuse gifts and moves at the start (1), middle (2), end (3)",
        },
        cut_copies: u8 {
            default: 0,
            description: "For tests: cut half of all copies short (1), or cut all to 0 bytes (2)",
        },
    },
}

/// Everything that the module has registered. Dropping it unregisters that, in the order of the
/// fields.
struct Zpipe {
    _directory: debugfs::Directory,
    _devices: chrdev::Devices,
    _pages: real_pipe::Pages,
}

impl kernel::Module for Zpipe {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pipe::limits()?;
        table::init()?;
        direct::set_limits(
            compat::parameter(&module_parameters::direct_min),
            compat::parameter(&module_parameters::direct_max),
        );
        mm::set_batch(compat::parameter(&module_parameters::direct_batch));
        sync::set_spin_us(compat::parameter(&module_parameters::spin_us));
        mm::set_gifts_max(compat::parameter(&module_parameters::gifts_max));
        mm::refuse_moves(compat::parameter(&module_parameters::refuse_moves));
        mm::cut_copies(compat::parameter(&module_parameters::cut_copies));

        // From here on files can be opened, so nothing may fail: open files would outlive the
        // module.
        let devices = chrdev::Devices::new()?;
        Ok(Self {
            _directory: debugfs::Directory::new(),
            _devices: devices,
            _pages: real_pipe::Pages,
        })
    }
}
