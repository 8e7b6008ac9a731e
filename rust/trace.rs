// SPDX-License-Identifier: GPL-2.0-only

//! The tracepoints of `rust/trace.h`, for Rust.
//!
//! One that is off costs a no-op in place, which the kernel makes a jump when somebody turns it
//! on. The kernel crate's `declare_trace!` does the same for tracepoints of its own bindings.

use crate::{
    mm::{Ended, Miss},
    pipe::PipeId,
    sys,
};
use kernel::prelude::*;

/// Whether somebody turned a tracepoint on.
#[cfg(CONFIG_TRACEPOINTS)]
macro_rules! is_on {
    ($tracepoint:ident) => {
        // SAFETY: The static is a tracepoint: C defines it.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                sys::$tracepoint,
                kernel::bindings::tracepoint,
                key
            )
        }
    };
}
#[cfg(not(CONFIG_TRACEPOINTS))]
macro_rules! is_on {
    ($tracepoint:ident) => {
        false
    };
}

/// Who waits, and who is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Readers, for data.
    Reader,
    /// Writers, for room.
    Writer,
    /// The writer whose memory is offered.
    Owner,
}

impl Who {
    fn number(self) -> u32 {
        match self {
            Who::Reader => sys::ZPIPE_READER,
            Who::Writer => sys::ZPIPE_WRITER,
            Who::Owner => sys::ZPIPE_OWNER,
        }
    }
}

/// What a call returns: bytes, or an error's negative number.
fn returned(result: Result<usize>) -> isize {
    match result {
        // CAST: At most MAX_RW_COUNT.
        Ok(bytes) => bytes as isize,
        // CAST: Small.
        Err(e) => e.to_errno() as isize,
    }
}

/// Whether reads are told of. To be asked before one: what [`read`] needs would otherwise be kept
/// for it, which costs more than all the rest.
#[inline(always)]
pub(crate) fn reads() -> bool {
    is_on!(__tracepoint_zpipe_read)
}

/// Whether writes are told of, likewise.
#[inline(always)]
pub(crate) fn writes() -> bool {
    is_on!(__tracepoint_zpipe_write)
}

/// A read of `asked` bytes is over.
#[cold]
pub(crate) fn read(pipe: &PipeId, asked: usize, result: Result<usize>) {
    // SAFETY: No requirement.
    unsafe { sys::zpipe_trace_read(pipe.device, pipe.inode, asked, returned(result)) };
}

/// A write of `asked` bytes is over.
#[cold]
pub(crate) fn write(pipe: &PipeId, asked: usize, result: Result<usize>) {
    // SAFETY: No requirement.
    unsafe { sys::zpipe_trace_write(pipe.device, pipe.inode, asked, returned(result)) };
}

/// `who` is about to wait.
#[inline(always)]
pub(crate) fn wait(pipe: &PipeId, who: Who) {
    #[cold]
    fn trace(pipe: &PipeId, who: Who) {
        // SAFETY: No requirement.
        unsafe { sys::zpipe_trace_wait(pipe.device, pipe.inode, who.number()) };
    }
    if is_on!(__tracepoint_zpipe_wait) {
        trace(pipe, who);
    }
}

/// `who` is about to be woken, if there is anybody.
#[inline(always)]
pub(crate) fn wake(pipe: &PipeId, who: Who) {
    #[cold]
    fn trace(pipe: &PipeId, who: Who) {
        // SAFETY: No requirement.
        unsafe { sys::zpipe_trace_wake(pipe.device, pipe.inode, who.number()) };
    }
    if is_on!(__tracepoint_zpipe_wake) {
        trace(pipe, who);
    }
}

/// A writer offers `bytes` bytes.
#[inline(always)]
pub(crate) fn offer(pipe: &PipeId, bytes: usize) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize) {
        // SAFETY: No requirement.
        unsafe { sys::zpipe_trace_offer(pipe.device, pipe.inode, bytes) };
    }
    if is_on!(__tracepoint_zpipe_offer) {
        trace(pipe, bytes);
    }
}

/// A reader took `bytes` bytes of a writer's memory.
#[inline(always)]
pub(crate) fn pull(pipe: &PipeId, bytes: usize, end: Ended) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize, end: Ended) {
        // SAFETY: No requirement.
        unsafe { sys::zpipe_trace_pull(pipe.device, pipe.inode, bytes, number(end)) };
    }
    if is_on!(__tracepoint_zpipe_pull) {
        trace(pipe, bytes, end);
    }
}

/// A writer put `bytes` bytes to a reader's memory.
#[inline(always)]
pub(crate) fn push(pipe: &PipeId, bytes: usize, end: Ended) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize, end: Ended) {
        // SAFETY: No requirement.
        unsafe { sys::zpipe_trace_push(pipe.device, pipe.inode, bytes, number(end)) };
    }
    if is_on!(__tracepoint_zpipe_push) {
        trace(pipe, bytes, end);
    }
}

/// Why a copy came to an end.
fn number(end: Ended) -> u32 {
    match end {
        Ended::All => sys::ZPIPE_COPY_ALL,
        Ended::Stopped => sys::ZPIPE_COPY_STOPPED,
        Ended::Missed(Miss::Busy) => sys::ZPIPE_COPY_BUSY,
        Ended::Missed(Miss::Mapping) => sys::ZPIPE_COPY_MAPPING,
        Ended::Missed(Miss::Page) => sys::ZPIPE_COPY_PAGE,
    }
}
