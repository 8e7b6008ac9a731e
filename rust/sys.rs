// SPDX-License-Identifier: GPL-2.0-only

//! FFI declarations that the kernel crate's bindings lack, generated from `rust/bindings.h`.
//!
//! Only the modules that wrap C code may use them: [`mm`](crate::mm), [`sync`](crate::sync),
//! [`uapi`](crate::uapi), [`fops`](crate::fops), [`chrdev`](crate::chrdev),
//! [`pairfs`](crate::pairfs), [`debugfs`](crate::debugfs), [`trace`](crate::trace).

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    dead_code,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

include!(env!("ZPIPE_BINDINGS"));
