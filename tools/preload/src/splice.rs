// SPDX-License-Identifier: MIT OR Apache-2.0

//! splice(2), sendfile(2) and tee(2) with a zpipe, after the kernel has refused them. Commands
//! of the module transfer the bytes, which never pass through memory of this process.
//!
//! The kernel's own splice(2) serves a zpipe if the other side is a pipe of the kernel. Its
//! sendfile(2) serves a zpipe as output for most files. What is left is here:
//!
//! | from | to | how |
//! |---|---|---|
//! | zpipe | a file, a socket, another zpipe | `ZPIPE_IOC_SPLICE_TO` |
//! | a file, a socket | zpipe | `ZPIPE_IOC_SPLICE_FROM` |
//! | zpipe | zpipe, tee(2) | `ZPIPE_IOC_TEE` |
//! | zpipe | a pipe, tee(2) | `ZPIPE_IOC_TEE` to a pair, and splice(2) from there |
//! | a pipe | zpipe, tee(2) | tee(2) to a pipe, and splice(2) from there |
//!
//! The last two make a pipe for the time of the call. Bytes that it still holds at the end are
//! only copies, so nothing is lost: the tee was short.
//!
//! copy_file_range(2) needs no help. It refuses everything but regular files before it looks
//! further. Both kinds of pipes get EINVAL.

use crate::own::Own;
use core::ffi::{c_int, c_uint};
use libc::off64_t;
use zpipe_uapi::{
    MORE, NONBLOCK, is_zpipe, splice_from, splice_to,
    sys::{self, Errno, status_flags},
};

/// All flags that splice(2) and tee(2) accept.
pub(crate) const SPLICE_F_ALL: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

/// The kernel's MAX_RW_COUNT: the most bytes that one sendfile(2) transfers.
const MAX_RW_COUNT: usize = 0x7fff_f000;

/// A descriptor that is open, and not with O_PATH.
fn is_open(fd: c_int) -> bool {
    status_flags(fd).is_ok_and(|status| status & libc::O_PATH == 0)
}

/// Stores a value at an address that a caller in C gave for this. EFAULT if it is not valid: the
/// kernel checks it with a call that only writes eight bytes there.
///
/// # Safety
///
/// If the address is valid, it has space for the value.
pub(crate) unsafe fn store<T>(place: *mut T, value: T) -> Result<(), Errno> {
    const { assert!(size_of::<T>() == 8) };
    let probe = [libc::SIG_BLOCK as usize, 0, place as usize, size_of::<T>()];
    // SAFETY: By this function's safety requirements; the call blocks no signal.
    unsafe { sys::call(libc::SYS_rt_sigprocmask, probe)? };
    // SAFETY: The kernel could write there.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Calls a command with the offset of a caller, which may be missing. Stores the new offset.
///
/// An older module does not know the command. Then the call stays refused.
///
/// # Safety
///
/// `place` must be null, or readable; if it is writable, then for an offset.
unsafe fn with_offset(
    place: *mut off64_t,
    command: impl FnOnce(Option<&mut u64>) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let result = if place.is_null() {
        command(None)
    } else {
        // SAFETY: By this function's safety requirements.
        let mut offset = unsafe { place.read_unaligned() } as u64;
        let result = command(Some(&mut offset));
        if result.is_ok() {
            // SAFETY: By this function's safety requirements.
            unsafe { store(place, offset as off64_t)? };
        }
        result
    };
    known(result)
}

/// The result of a command. If the module does not know it, the call stays refused.
fn known(result: Result<usize, Errno>) -> Result<usize, Errno> {
    match result {
        Err(Errno(libc::ENOTTY)) => Err(Errno(libc::EINVAL)),
        result => result,
    }
}

/// Replaces splice(2), which failed with `refused`. That stays the result if there is nothing to
/// do here.
///
/// # Safety
///
/// After EINVAL, the offsets must be null, or readable; if they are writable, then for an offset.
pub(crate) unsafe fn splice(
    from: c_int,
    off_from: *mut off64_t,
    out: c_int,
    off_out: *mut off64_t,
    len: usize,
    flags: c_uint,
    refused: Errno,
) -> Result<usize, Errno> {
    if refused != Errno(libc::EINVAL) && off_from.is_null() && off_out.is_null() {
        return Err(refused);
    }
    let (from_zpipe, out_zpipe) = (is_zpipe(from), is_zpipe(out));
    // A pipe has no offset. splice(2) checks this as soon as it knows that both are open.
    if (from_zpipe && !off_from.is_null()) || (out_zpipe && !off_out.is_null()) {
        let open = is_open(from) && is_open(out);
        return Err(if open { Errno(libc::ESPIPE) } else { refused });
    }
    if refused != Errno(libc::EINVAL) {
        return Err(refused);
    }

    // As rw_verify_area() of the kernel, which looks at files only.
    if len > isize::MAX as usize && !(from_zpipe && out_zpipe) {
        return Err(refused);
    }

    let mut command = 0;
    if flags & libc::SPLICE_F_NONBLOCK != 0 {
        command |= NONBLOCK;
    }
    let mut to = from_zpipe;
    if from_zpipe && out_zpipe {
        // Between two pipes, O_NONBLOCK of either one counts for both, and O_APPEND does not
        // matter. The commands look at O_APPEND of the other file, as splice(2) does.
        let (status_from, status_out) = (status_flags(from)?, status_flags(out)?);
        if (status_from | status_out) & libc::O_NONBLOCK != 0 {
            command |= NONBLOCK;
        }
        to = status_out & libc::O_APPEND == 0;
    }
    if to {
        if flags & libc::SPLICE_F_MORE != 0 {
            command |= MORE;
        }
        // SAFETY: By this function's safety requirements.
        unsafe { with_offset(off_out, |at| splice_to(from, out, at, len, command)) }
    } else if out_zpipe {
        // SAFETY: By this function's safety requirements.
        unsafe { with_offset(off_from, |at| splice_from(out, from, at, len, command)) }
    } else {
        Err(refused)
    }
}

/// Replaces sendfile(2), which failed with EINVAL.
///
/// The kernel's refuses input without a position, such as a socket, and an output with O_APPEND.
/// It accepts both if the output is a pipe. Input from a pipe is refused, unless it is empty.
///
/// # Safety
///
/// `offset` must be null, or readable; if it is writable, then for an offset.
pub(crate) unsafe fn sendfile(
    out: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: usize,
) -> Result<usize, Errno> {
    if !is_zpipe(out) || (count != 0 && is_zpipe(from)) {
        return Err(Errno(libc::EINVAL));
    }
    let count = count.min(MAX_RW_COUNT);
    // SAFETY: By this function's safety requirements.
    unsafe { with_offset(offset, |at| splice_from(out, from, at, count, 0)) }
}

/// Replaces tee(2), which failed with EINVAL.
pub(crate) fn tee(from: c_int, out: c_int, len: usize, flags: c_uint) -> Result<usize, Errno> {
    let refused = Errno(libc::EINVAL);
    let (from_zpipe, out_zpipe) = (is_zpipe(from), is_zpipe(out));
    if !from_zpipe && !out_zpipe {
        return Err(refused);
    }
    let status = status_flags(from)? | status_flags(out)?;
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0 || status & libc::O_NONBLOCK != 0;
    let command = if nonblock { NONBLOCK } else { 0 };

    if from_zpipe && out_zpipe {
        return known(zpipe_uapi::tee(from, out, len, command));
    }
    if !sys::is_pipe(if from_zpipe { out } else { from }) {
        return Err(refused);
    }
    // If there is no pipe to be had, the program can still read and write.
    let made = if from_zpipe {
        zpipe_uapi::pipe2(libc::O_CLOEXEC)
    } else {
        sys::pipe()
    };
    let [read, write] = made.map_err(|_| refused)?.map(Own);
    let bytes = if from_zpipe {
        known(zpipe_uapi::tee(from, write.0, len, command))?
    } else {
        sys::tee(from, write.0, len, nonblock)?
    };
    if bytes == 0 {
        return Ok(0);
    }
    sys::splice(read.0, out, bytes, nonblock)
}
