// SPDX-License-Identifier: GPL-2.0-only

//! The rules of a pipe, as pure functions and values.
//!
//! Nothing in this module calls the kernel, takes a lock, sleeps or uses memory of others. The rest
//! of the kernel module applies these rules under the locks that it holds. On the host this module
//! is a crate of its own, which `tests/unit` tests.
//!
//! The rules are those of Linux 7.3, `fs/pipe.c`. Each file names the functions that it follows.

#![forbid(unsafe_code)]

pub(crate) mod abi;
pub(crate) mod backoff;
pub(crate) mod capacity;
#[cfg(test)]
mod explore;
pub(crate) mod gift;
pub(crate) mod merge;
pub(crate) mod outcome;
pub(crate) mod posted_bytes;
pub(crate) mod posted_space;
pub(crate) mod seats;
pub(crate) mod state;
pub(crate) mod wakeup;

/// Bytes of a page. This is the maximum for a slot that no gift and no window has filled.
pub(crate) const PAGE_SIZE: usize = 4096;
