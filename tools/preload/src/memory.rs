// SPDX-License-Identifier: MIT OR Apache-2.0

//! vmsplice(2) on a zpipe, after the kernel has refused it: a write or a read, because the bytes
//! are in memory of this process anyway.
//!
//! It waits until the pipe has any free space (or data). Then it transfers as many bytes as fit
//! (or as the pipe holds) without waiting again: a program that fills a pipe in this way and then
//! empties it itself must not hang. If it can, it waits in write(2) or read(2), not in poll(2).
//! Only these two are restarted after a signal where they should be.
//!
//! All segments are one write. Only after a wait for space, a message above PIPE_BUF may be up to
//! three.
//!
//! `SPLICE_F_GIFT` has no effect. `ZPIPE_IOC_GIFT` takes pages away from the caller, who after
//! vmsplice(2) may still read them.
//!
//! One message is refused, so that its writer copies: see `is_fuse_header()`.

use crate::own::Own;
use core::ffi::{c_int, c_long};
use libc::{PIPE_BUF, iovec};
use zpipe_uapi::sys::{self, Errno, call, poll, status_flags};

/// The flag RWF_NOSIGNAL of <linux/fs.h>: no SIGPIPE.
const RWF_NOSIGNAL: c_int = 0x100;

/// Calls preadv2(2) or pwritev2(2) without an offset, because a pipe has none. The
/// addresses come from the caller. The kernel returns an error if they are invalid.
fn vector(
    number: c_long,
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    flags: c_int,
) -> Result<usize, Errno> {
    let nowhere = usize::MAX;
    let args = [
        fd as usize,
        iov as usize,
        segments,
        nowhere,
        nowhere,
        flags as usize,
    ];
    // SAFETY: It transfers bytes between the pipe and memory that the caller provides for
    // this.
    unsafe { call(number, args) }
}

/// Opens a zpipe again, with O_NONBLOCK and without O_DIRECT.
fn again(fd: c_int, access: c_int) -> Result<Own, Errno> {
    sys::open_again(fd, access | libc::O_NONBLOCK | libc::O_CLOEXEC).map(Own)
}

/// The write end of a zpipe.
struct Output {
    fd: c_int,
    /// The end opened again, with O_NONBLOCK. It is for ends without RWF_NOWAIT: that works only
    /// on files that pipe2(2) itself made, not on FIFOs, nor on pipes that were opened again. It
    /// is also for packet mode, where each write is a packet, but spliced pages are not packets.
    /// The caller's descriptor does not change.
    again: Option<Own>,
}

impl Output {
    fn new(fd: c_int, status: c_int) -> Result<Self, Errno> {
        let mut output = Self { fd, again: None };
        if status & libc::O_DIRECT != 0 {
            output.open_again()?;
        }
        Ok(output)
    }

    fn open_again(&mut self) -> Result<(), Errno> {
        match again(self.fd, libc::O_WRONLY) {
            Ok(own) => self.again = Some(own),
            // Without a reader, a FIFO cannot be opened, and each write fails.
            Err(Errno(libc::ENXIO)) => (),
            Err(_) => return Err(Errno(libc::EINVAL)),
        }
        Ok(())
    }

    /// Writes what fits, without waiting. EAGAIN if the pipe is full.
    fn write_now(
        &mut self,
        iov: *const iovec,
        segments: usize,
        flags: c_int,
    ) -> Result<usize, Errno> {
        if self.again.is_none() {
            match vector(
                libc::SYS_pwritev2,
                self.fd,
                iov,
                segments,
                flags | libc::RWF_NOWAIT,
            ) {
                Err(Errno(libc::EOPNOTSUPP)) => self.open_again()?,
                result => return result,
            }
        }
        let fd = self.again.as_ref().map_or(self.fd, |own| own.0);
        vector(libc::SYS_pwritev2, fd, iov, segments, flags)
    }

    /// Writes these segments. Waits until they fit, if they have at most PIPE_BUF bytes.
    fn write_later(&self, iov: *const iovec, segments: usize) -> Result<usize, Errno> {
        let Some(own) = &self.again else {
            return vector(libc::SYS_pwritev2, self.fd, iov, segments, 0);
        };
        sys::set_status_flags(own.0, 0)?;
        let result = vector(libc::SYS_pwritev2, own.0, iov, segments, 0);
        sys::set_status_flags(own.0, libc::O_NONBLOCK)?;
        result
    }

    /// Waits for free space for the first byte, and writes what fits.
    ///
    /// # Safety
    ///
    /// `iov` must be readable.
    unsafe fn wait_and_write(
        &mut self,
        iov: *const iovec,
        segments: usize,
    ) -> Result<usize, Errno> {
        // SAFETY: By this function's safety requirements.
        let segment = |index: usize| unsafe { iov.add(index).read_unaligned() };
        let lengths = (0..segments).map(|index| segment(index).iov_len);
        if lengths.fold(0, usize::saturating_add) <= PIPE_BUF {
            return self.write_later(iov, segments);
        }
        let Some(first) = (0..segments).find(|index| segment(*index).iov_len != 0) else {
            return Ok(0);
        };

        // So few bytes are written at once and completely, or the write waits.
        let whole = segment(first);
        let mut head = whole;
        head.iov_len = whole.iov_len.min(PIPE_BUF);
        let mut written = self.write_later(&head, 1)?;
        if written < head.iov_len {
            return Ok(written);
        }
        // A failure is the result only if nothing was written before.
        let rest = iovec {
            iov_base: whole.iov_base.wrapping_byte_add(written),
            iov_len: whole.iov_len - written,
        };
        if rest.iov_len != 0 {
            written += self.write_now(&rest, 1, RWF_NOSIGNAL).unwrap_or(0);
        }
        if written == whole.iov_len && first + 1 < segments {
            let others = iov.wrapping_add(first + 1);
            let result = self.write_now(others, segments - first - 1, RWF_NOSIGNAL);
            written += result.unwrap_or(0);
        }
        Ok(written)
    }
}

/// Whether segments look like the header of a FUSE reply, as libfuse puts it into a pipe in front
/// of spliced data.
///
/// libfuse changes the length in it afterwards, in its own memory, if the data turn out to be
/// shorter. With a pipe of the kernel, which refers to that memory, the change shows. From a zpipe
/// the kernel would get a header with the wrong length, and the file system would fail. If
/// vmsplice(2) fails instead, libfuse sends the reply with writev(2).
///
/// # Safety
///
/// `iov` must be readable.
unsafe fn is_fuse_header(status: c_int, iov: *const iovec, segments: usize) -> bool {
    /// The size of `struct fuse_out_header` of <linux/fuse.h>.
    const HEADER: usize = 16;

    if status & libc::O_NONBLOCK == 0 || segments == 0 {
        return false;
    }
    // SAFETY: By this function's safety requirements.
    let first = unsafe { iov.read_unaligned() };
    first.iov_len == HEADER
}

/// Writes the segments to a zpipe with these status flags.
///
/// # Safety
///
/// `iov` must be readable.
unsafe fn write_memory(
    fd: c_int,
    status: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    // SAFETY: By this function's safety requirements.
    if nonblock && unsafe { is_fuse_header(status, iov, segments) } {
        return Err(Errno(libc::EINVAL));
    }
    let mut output = Output::new(fd, status)?;
    loop {
        match output.write_now(iov, segments, 0) {
            Err(Errno(libc::EAGAIN)) if nonblock => return Err(Errno(libc::EAGAIN)),
            // vmsplice(2) ignores O_NONBLOCK.
            Err(Errno(libc::EAGAIN)) if status & libc::O_NONBLOCK != 0 => {
                poll(fd, libc::POLLOUT)?;
            }
            // SAFETY: By this function's safety requirements.
            Err(Errno(libc::EAGAIN)) => return unsafe { output.wait_and_write(iov, segments) },
            result => return result,
        }
    }
}

/// Reads from a zpipe into the segments.
fn read_memory(
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    let flags = if nonblock { libc::RWF_NOWAIT } else { 0 };
    loop {
        match vector(libc::SYS_preadv2, fd, iov, segments, flags) {
            // vmsplice(2) ignores O_NONBLOCK.
            Err(Errno(libc::EAGAIN)) if !nonblock => poll(fd, libc::POLLIN)?,
            Err(Errno(libc::EOPNOTSUPP)) if nonblock => {
                let own = again(fd, libc::O_RDONLY).map_err(|_| Errno(libc::EINVAL))?;
                return vector(libc::SYS_preadv2, own.0, iov, segments, 0);
            }
            result => return result,
        }
    }
}

/// Replaces vmsplice(2) on a zpipe: reads or writes, depending on how the descriptor was
/// opened.
///
/// # Safety
///
/// `iov` must be readable, unless the descriptor was opened with O_PATH.
pub(crate) unsafe fn vmsplice(
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    let status = status_flags(fd)?;
    // O_PATH has the access mode O_RDONLY.
    if status & libc::O_ACCMODE == libc::O_RDONLY {
        read_memory(fd, iov, segments, nonblock)
    } else {
        // SAFETY: By this function's safety requirements.
        unsafe { write_memory(fd, status, iov, segments, nonblock) }
    }
}
