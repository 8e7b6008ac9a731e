// SPDX-License-Identifier: GPL-2.0-only

//! The rules of a pipe, as pure functions and values.
//!
//! Nothing here knows the kernel, takes a lock, sleeps or touches memory it was not given: what can
//! be said about a pipe without doing anything to it is said here, once. The module calls it from
//! inside the kernel; on the host it is a crate of its own, tested by `tests/unit`.
//!
//! The rules are those of Linux 7.3, `fs/pipe.c`; each file names the function it follows.

#![forbid(unsafe_code)]

pub(crate) mod abi;
pub(crate) mod backoff;
pub(crate) mod capacity;
#[cfg(test)]
mod explore;
pub(crate) mod gift;
pub(crate) mod merge;
pub(crate) mod offer;
pub(crate) mod posted_read;
pub(crate) mod seats;
pub(crate) mod state;
pub(crate) mod turn;

/// Bytes in a page, and in a full slot.
pub(crate) const PAGE_SIZE: usize = 4096;
