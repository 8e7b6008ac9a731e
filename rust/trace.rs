// SPDX-License-Identifier: GPL-2.0-only

//! The tracepoints of `rust/trace.h`, for Rust.
//!
//! A tracepoint that is off costs a no-op in its caller. The kernel patches it into a jump when the
//! tracepoint is turned on. The kernel crate's `declare_trace!` does the same, but only for
//! tracepoints in its own bindings.

use crate::{
    id::PipeId,
    sys,
    zcore::outcome::{Miss, Outcome},
};
use kernel::prelude::*;

/// True if a tracepoint is on.
#[cfg(CONFIG_TRACEPOINTS)]
macro_rules! is_on {
    ($tracepoint:ident) => {
        // SAFETY: The static is a tracepoint that C defines.
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

/// The kind of task that waits or is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Readers, which wait for data.
    Reader,
    /// Writers, which wait for a free slot.
    Writer,
    /// The owner of the posted write.
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

/// The result of a system call: a number of bytes, or a negative error number.
fn returned(result: Result<usize>) -> isize {
    match result {
        // CAST: At most MAX_RW_COUNT.
        Ok(bytes) => bytes as isize,
        // CAST: Error numbers are small.
        Err(e) => e.to_errno() as isize,
    }
}

/// True if the tracepoint of reads is on. Test it before the read: otherwise each read would keep
/// the arguments of [`read`], which costs more than the tracepoint itself.
#[inline(always)]
pub(crate) fn reads() -> bool {
    is_on!(__tracepoint_zpipe_read)
}

/// True if the tracepoint of writes is on. Test it before the write, likewise.
#[inline(always)]
pub(crate) fn writes() -> bool {
    is_on!(__tracepoint_zpipe_write)
}

/// A read that asked for `asked` bytes has ended.
#[cold]
pub(crate) fn read(pipe: &PipeId, asked: usize, result: Result<usize>) {
    // SAFETY: It has no safety requirements.
    unsafe { sys::zpipe_trace_read(pipe.device, pipe.inode, asked, returned(result)) };
}

/// A write of `asked` bytes has ended.
#[cold]
pub(crate) fn write(pipe: &PipeId, asked: usize, result: Result<usize>) {
    // SAFETY: It has no safety requirements.
    unsafe { sys::zpipe_trace_write(pipe.device, pipe.inode, asked, returned(result)) };
}

/// A task of the kind `who` begins to wait.
#[inline(always)]
pub(crate) fn wait(pipe: &PipeId, who: Who) {
    #[cold]
    fn trace(pipe: &PipeId, who: Who) {
        // SAFETY: It has no safety requirements.
        unsafe { sys::zpipe_trace_wait(pipe.device, pipe.inode, who.number()) };
    }
    if is_on!(__tracepoint_zpipe_wait) {
        trace(pipe, who);
    }
}

/// Tasks of the kind `who` are about to be woken, if any wait.
#[inline(always)]
pub(crate) fn wake(pipe: &PipeId, who: Who) {
    #[cold]
    fn trace(pipe: &PipeId, who: Who) {
        // SAFETY: It has no safety requirements.
        unsafe { sys::zpipe_trace_wake(pipe.device, pipe.inode, who.number()) };
    }
    if is_on!(__tracepoint_zpipe_wake) {
        trace(pipe, who);
    }
}

/// A writer has posted `bytes` bytes.
#[inline(always)]
pub(crate) fn post(pipe: &PipeId, bytes: usize) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize) {
        // SAFETY: It has no safety requirements.
        unsafe { sys::zpipe_trace_post(pipe.device, pipe.inode, bytes) };
    }
    if is_on!(__tracepoint_zpipe_post) {
        trace(pipe, bytes);
    }
}

/// A reader has pulled `bytes` bytes.
#[inline(always)]
pub(crate) fn pull(pipe: &PipeId, bytes: usize, outcome: Outcome) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize, outcome: Outcome) {
        // SAFETY: It has no safety requirements.
        unsafe { sys::zpipe_trace_pull(pipe.device, pipe.inode, bytes, number(outcome)) };
    }
    if is_on!(__tracepoint_zpipe_pull) {
        trace(pipe, bytes, outcome);
    }
}

/// A writer has pushed `bytes` bytes.
#[inline(always)]
pub(crate) fn push(pipe: &PipeId, bytes: usize, outcome: Outcome) {
    #[cold]
    fn trace(pipe: &PipeId, bytes: usize, outcome: Outcome) {
        // SAFETY: It has no safety requirements.
        unsafe { sys::zpipe_trace_push(pipe.device, pipe.inode, bytes, number(outcome)) };
    }
    if is_on!(__tracepoint_zpipe_push) {
        trace(pipe, bytes, outcome);
    }
}

/// The number of an outcome in the trace.
fn number(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::All => sys::ZPIPE_COPY_ALL,
        Outcome::Stopped => sys::ZPIPE_COPY_STOPPED,
        Outcome::Missed(Miss::Busy) => sys::ZPIPE_COPY_BUSY,
        Outcome::Missed(Miss::Mapping) => sys::ZPIPE_COPY_MAPPING,
        Outcome::Missed(Miss::Page) => sys::ZPIPE_COPY_PAGE,
    }
}
