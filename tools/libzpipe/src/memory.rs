// SPDX-License-Identifier: MIT OR Apache-2.0

//! Gifts and moves.

use crate::{count, invalid, pipe::borrow, set_errno};
use libc::{c_int, c_uint, c_void, size_t, ssize_t};
use std::{io, ptr, slice};
use zpipe::{GiftFlags, HugeBuffer, MoveFlags, PipeReader, PipeWriter, Transfer, HUGE_PAGE};

/// What a call did with the bytes.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct zpipe_report {
    /// Number of bytes that changed owner without a copy.
    pub moved: u64,
    /// Number of bytes that were copied.
    pub copied: u64,
    /// Number of copied pieces for each reason, see ZPIPE_REASON_PART. Only the
    /// first ZPIPE_REASONS have a meaning; the others are 0.
    pub why: [u32; 32],
}

/// Stores a report if there is a place for it.
///
/// # Safety
///
/// `report` must be null or have space for a report.
pub(crate) unsafe fn write(report: *mut zpipe_report, moved: usize, copied: usize, why: &[u32]) {
    if report.is_null() {
        return;
    }
    let mut all = zpipe_report {
        moved: moved as u64,
        copied: copied as u64,
        why: [0; 32],
    };
    for (place, pieces) in all.why.iter_mut().zip(why) {
        *place = *pieces;
    }
    // SAFETY: By this function's safety requirements.
    unsafe { report.write(all) };
}

/// Borrows the caller's memory.
///
/// # Safety
///
/// It must be accessible, and nobody else may access it.
unsafe fn memory<'a>(buf: *mut c_void, len: size_t) -> io::Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if buf.is_null() || isize::try_from(len).is_err() {
        return Err(invalid());
    }
    // SAFETY: By this function's safety requirements. Any value is valid for a byte.
    Ok(unsafe { slice::from_raw_parts_mut(buf.cast(), len) })
}

/// Stores the report, and returns the number of bytes.
///
/// # Safety
///
/// `report` must be null or have space for a report.
unsafe fn store(result: io::Result<Transfer>, report: *mut zpipe_report) -> ssize_t {
    count(result.map(|transfer| {
        // SAFETY: By this function's safety requirements.
        unsafe { write(report, transfer.moved, transfer.copied, transfer.why()) };
        transfer.done
    }))
}

/// Writes memory as write(2) does. Whole huge pages of 2 MiB, aligned to 2 MiB,
/// may leave the caller's memory without a copy. Then other bytes are there.
/// Flags: ZPIPE_ANY, ZPIPE_CLEAR and ZPIPE_ALWAYS. Returns the number of bytes
/// written, or -1 with errno set. The report may be NULL. Each call first looks
/// at what the descriptor is, with fstat(2) and fstatfs(2).
#[no_mangle]
pub unsafe extern "C" fn zpipe_gift(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_uint,
    report: *mut zpipe_report,
) -> ssize_t {
    let gift = || {
        let flags = GiftFlags::from_bits(flags).ok_or_else(invalid)?;
        // SAFETY: By this function's safety requirements.
        let memory = unsafe { memory(buf, len)? };
        borrow::<PipeWriter>(fd)?.gift_from(memory, flags)
    };
    // SAFETY: By this function's safety requirements.
    unsafe { store(gift(), report) }
}

/// Reads to memory as read(2) does. Gifted pages may replace whole huge pages of
/// the caller without a copy. Flags: ZPIPE_RETURN. Returns the number of bytes
/// read, 0 at the end of the data, or -1 with errno set. The report may be NULL.
/// Each call first looks at what the descriptor is, as zpipe_gift().
#[no_mangle]
pub unsafe extern "C" fn zpipe_move(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_uint,
    report: *mut zpipe_report,
) -> ssize_t {
    let take = || {
        let flags = MoveFlags::from_bits(flags).ok_or_else(invalid)?;
        // SAFETY: By this function's safety requirements.
        let memory = unsafe { memory(buf, len)? };
        borrow::<PipeReader>(fd)?.move_to(memory, flags)
    };
    // SAFETY: By this function's safety requirements.
    unsafe { store(take(), report) }
}

/// Allocates zeroed memory for gifts and moves: aligned to 2 MiB, and rounded up
/// to a multiple of 2 MiB. Returns NULL with errno set on failure.
#[no_mangle]
pub extern "C" fn zpipe_buffer_new(bytes: size_t) -> *mut c_void {
    match HugeBuffer::new(bytes) {
        Ok(buffer) => buffer.leak().as_mut_ptr().cast(),
        Err(error) => {
            set_errno(&error);
            ptr::null_mut()
        }
    }
}

/// Frees memory that zpipe_buffer_new() has allocated with this size. NULL is
/// ignored. With a size that cannot have been allocated, nothing is freed, and
/// errno is EINVAL.
#[no_mangle]
pub unsafe extern "C" fn zpipe_buffer_free(buf: *mut c_void, bytes: size_t) {
    if buf.is_null() {
        return;
    }
    match bytes.checked_next_multiple_of(HUGE_PAGE) {
        None | Some(0) => set_errno(&invalid()),
        // SAFETY: By this function's safety requirements. The size was rounded in the same way.
        Some(len) => drop(unsafe { HugeBuffer::from_raw(buf.cast(), len) }),
    }
}
