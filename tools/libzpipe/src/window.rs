// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows.

use crate::{
    count, invalid,
    memory::{write, zpipe_report},
    pipe::borrow,
    set_errno, status,
};
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
///
/// One thread at a time may use it. Bytes that were committed belong to the
/// reader: from then on, nothing may refer to them. A child of fork(2) inherits
/// no memory of a window: it must not use it, and must not free it. The pipe
/// keeps this end as long as the child has the descriptor. So make windows after
/// fork(2), or call execve(2) in the child. A window cannot be polled: keep the
/// descriptor of the end, and poll that one.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct zpipe_write_window(WriteWindow);

/// A window that shows the bytes in the pipe. Bytes that were consumed are gone:
/// from then on, nothing may refer to them. Otherwise as zpipe_write_window.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct zpipe_read_window {
    window: ReadWindow,
    /// The bytes of the ranges that the caller has got, as far as they are not consumed.
    shown: usize,
    /// The bytes in view behind them, for which the caller had no ranges.
    hidden: usize,
}

impl zpipe_read_window {
    /// See [`zpipe_window_peek`]. Gives the ranges to `store`, and returns their number.
    fn peek(
        &mut self,
        nr: usize,
        most: usize,
        more: bool,
        store: impl FnMut((usize, &[u8])),
    ) -> io::Result<usize> {
        let before = self.shown;
        let view = if !more {
            self.window.peek(most)?
        } else if self.hidden == 0 {
            self.window.peek_more(most)?
        } else {
            // There is more already. The kernel would wait, since for it these bytes are not new.
            let all = before.saturating_add(most);
            self.window.peek(if most == 0 { 0 } else { all })?
        };
        let fits = view.iter().take(nr).map(<[u8]>::len).sum::<usize>();
        if more && fits <= before && fits < view.len() {
            self.hidden = view.len() - before;
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        (self.shown, self.hidden) = (fits, view.len() - fits);
        view.iter().take(nr).enumerate().for_each(store);
        Ok(view.iter().len().min(nr))
    }

    fn consume(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > self.shown {
            return Err(invalid());
        }
        self.window.consume(bytes)?;
        self.shown -= bytes;
        Ok(())
    }
}

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
/// Returns its address, or NULL with errno set. The range has the bytes that were
/// stored there before, or where a frame was committed, zeros or bytes of any
/// other frame that the window had.
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

/// Writes a range of the window to the pipe, as write(2) does. A frame of 2 MiB
/// leaves the window without a copy if at least half of it is in the range. Its
/// bytes outside of the range are then lost. All other bytes are copied, and stay
/// in the window. Nothing may refer to committed bytes; reserve the range again
/// before it is filled again. Flags: ZPIPE_NONBLOCK. Returns the number of bytes
/// written, which may be less than requested: the rest stays in the window.
/// Returns -1 with errno set on failure. The report may be NULL.
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
                // SAFETY: By this function's safety requirements.
                unsafe { write(report, committed.moved, committed.copied, committed.why()) };
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
    boxed(window.map(|window| zpipe_read_window {
        window,
        shown: 0,
        hidden: 0,
    }))
}

/// Shows at most about so many bytes of the pipe, or all if the number is 0. It
/// stores up to nr ranges of memory, in the order of the pipe. They are valid
/// until they are consumed, or until the next peek, also one that fails. Bytes
/// that were shown and not consumed come first. Waits as read(2) does if there are
/// no bytes. Flags: ZPIPE_NONBLOCK, and ZPIPE_MORE to wait for more bytes than the
/// last peek has stored. Returns the number of ranges, 0 if there are no bytes at
/// the end of the data, or -1 with errno set.
///
/// With ZPIPE_MORE, the number of bytes does not count those that were shown
/// before. At the end of the data, it returns the same ranges again without
/// waiting: a caller that does not notice that loops for ever. It fails with
/// ENOBUFS if the window, the pipe or the array has no space for more until some
/// bytes are consumed. A message may be larger than that space, so be ready to
/// copy its start and to consume that.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_peek(
    window: *mut zpipe_read_window,
    spans: *mut iovec,
    nr: c_int,
    most: size_t,
    flags: c_uint,
) -> c_int {
    // SAFETY: By this function's safety requirements.
    let window = unsafe { &mut *window };
    if flags & !(NONBLOCK | MORE) != 0 || nr <= 0 || spans.is_null() {
        return status(Err(invalid()));
    }
    window.window.set_nonblocking(flags & NONBLOCK != 0);
    let stored = window.peek(nr as usize, most, flags & MORE != 0, |(place, span)| {
        let range = iovec {
            iov_base: span.as_ptr().cast_mut().cast(),
            iov_len: span.len(),
        };
        // SAFETY: By this function's safety requirements.
        unsafe { spans.add(place).write(range) };
    });
    match stored {
        // CAST: At most `nr`.
        Ok(stored) => stored as c_int,
        Err(error) => status(Err(error)),
    }
}

/// Removes bytes from the pipe: the first of those that the last peek has stored
/// and that are not consumed. Returns 0, or -1 with errno set, for example EINVAL
/// if these are fewer.
#[no_mangle]
pub unsafe extern "C" fn zpipe_window_consume(
    window: *mut zpipe_read_window,
    bytes: size_t,
) -> c_int {
    // SAFETY: By this function's safety requirements.
    status(unsafe { &mut *window }.consume(bytes))
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
