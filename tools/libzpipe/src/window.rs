// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows.

use crate::{count, invalid, memory::zpipe_report, pipe::borrow, set_errno, status};
use libc::{c_int, c_uint, c_void, iovec, size_t, ssize_t};
use std::{io, ptr};
use zpipe::{
    window::{ReadWindow, WriteWindow},
    PipeReader, PipeWriter,
};

/// Flags of the header.
const NONBLOCK: c_uint = 0x1;
const MORE: c_uint = 0x80;

/// A window that a writer fills and commits.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct zpipe_write_window(WriteWindow);

/// A window that shows the bytes in the pipe.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct zpipe_read_window(ReadWindow);

/// Moves a window to the heap. Returns null with `errno` set if there is none.
fn boxed<T>(result: io::Result<T>) -> *mut T {
    match result {
        Ok(window) => Box::into_raw(Box::new(window)),
        Err(error) => {
            set_errno(&error);
            ptr::null_mut()
        }
    }
}

/// Makes a window of at least so many bytes at the write end of a zpipe. The
/// window is a write end itself. Returns NULL with errno set on failure.
#[no_mangle]
pub extern "C" fn zpipe_window_write_new(fd: c_int, bytes: size_t) -> *mut zpipe_write_window {
    let window = borrow::<PipeWriter>(fd).and_then(|end| WriteWindow::new(&*end, bytes));
    boxed(window.map(zpipe_write_window))
}

/// The size of the window in bytes.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_capacity(window: *const zpipe_write_window) -> size_t {
    // SAFETY: By this function's safety requirements.
    unsafe { &*window }.0.capacity()
}

/// Allocates the memory of a range of the window, so that it can be filled.
/// Returns its address, or NULL with errno set.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_reserve(
    window: *mut zpipe_write_window,
    offset: size_t,
    bytes: size_t,
) -> *mut c_void {
    // SAFETY: By this function's safety requirements.
    let window = &mut unsafe { &mut *window }.0;
    let range = offset..offset.saturating_add(bytes);
    match window.reserve(range) {
        Ok(mut reservation) => reservation.as_mut_ptr().cast(),
        Err(error) => {
            set_errno(&error);
            ptr::null_mut()
        }
    }
}

/// Writes a range of the window to the pipe, as write(2) does. Whole frames of
/// 2 MiB leave the window without a copy; reserve the range again before it is
/// filled again. Flags: ZPIPE_NONBLOCK. Returns the number of bytes written, or
/// -1 with errno set. The report may be NULL.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_commit(
    window: *mut zpipe_write_window,
    offset: size_t,
    bytes: size_t,
    flags: c_uint,
    report: *mut zpipe_report,
) -> ssize_t {
    // SAFETY: By this function's safety requirements.
    let window = &mut unsafe { &mut *window }.0;
    if flags & !NONBLOCK != 0 {
        return count(Err(invalid()));
    }
    window.set_nonblocking(flags & NONBLOCK != 0);
    count(
        window
            .commit(offset..offset.saturating_add(bytes))
            .map(|committed| {
                if !report.is_null() {
                    let all = zpipe_report {
                        moved: committed.moved as u64,
                        copied: committed.copied as u64,
                        why: *committed.why(),
                    };
                    // SAFETY: By this function's safety requirements.
                    unsafe { report.write(all) };
                }
                committed.done
            }),
    )
}

/// Closes the window. NULL is ignored.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_write_free(window: *mut zpipe_write_window) {
    if !window.is_null() {
        // SAFETY: By this function's safety requirements.
        drop(unsafe { Box::from_raw(window) });
    }
}

/// Makes a window at the read end of a zpipe. It can show so many bytes of
/// frames. The window is a read end itself. Returns NULL with errno set on
/// failure.
#[no_mangle]
pub extern "C" fn zpipe_window_read_new(fd: c_int, bytes: size_t) -> *mut zpipe_read_window {
    let window = borrow::<PipeReader>(fd).and_then(|end| ReadWindow::new(&*end, bytes));
    boxed(window.map(zpipe_read_window))
}

/// Shows at most about so many bytes of the pipe, or all if the number is 0. It
/// stores up to nr ranges of memory, in the order of the pipe. They are valid
/// until they are consumed, or until the next peek. Waits as read(2) does. Flags:
/// ZPIPE_NONBLOCK, and ZPIPE_MORE to wait for more bytes than the last peek has
/// shown. Returns the number of ranges, 0 at the end of the data, or -1 with
/// errno set.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_peek(
    window: *mut zpipe_read_window,
    spans: *mut iovec,
    nr: c_int,
    most: size_t,
    flags: c_uint,
) -> c_int {
    // SAFETY: By this function's safety requirements.
    let window = &mut unsafe { &mut *window }.0;
    if flags & !(NONBLOCK | MORE) != 0 || nr <= 0 || spans.is_null() {
        return status(Err(invalid()));
    }
    window.set_nonblocking(flags & NONBLOCK != 0);
    let view = if flags & MORE != 0 {
        window.peek_more(most)
    } else {
        window.peek(most)
    };
    match view {
        Ok(view) => {
            let shown = view.iter().take(nr as usize).enumerate();
            let stored = shown.map(|(place, span)| {
                let range = iovec {
                    iov_base: span.as_ptr().cast_mut().cast(),
                    iov_len: span.len(),
                };
                // SAFETY: By this function's safety requirements.
                unsafe { spans.add(place).write(range) };
            });
            stored.count() as c_int
        }
        Err(error) => {
            set_errno(&error);
            -1
        }
    }
}

/// Removes the first bytes that the last peek has shown from the pipe. Returns 0,
/// or -1 with errno set.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_consume(
    window: *mut zpipe_read_window,
    bytes: size_t,
) -> c_int {
    // SAFETY: By this function's safety requirements.
    status(unsafe { &mut *window }.0.consume(bytes))
}

/// Closes the window. Bytes that were not consumed return to the pipe. NULL is
/// ignored.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_read_free(window: *mut zpipe_read_window) {
    if !window.is_null() {
        // SAFETY: By this function's safety requirements.
        drop(unsafe { Box::from_raw(window) });
    }
}
