// SPDX-License-Identifier: GPL-2.0-only

//! What splice(2), sendfile(2) and vmsplice(2) do to a pipe, with copies.
//!
//! All three wait until there is any room (or data), and then take what fits (or is there)
//! without waiting again: a program that fills a pipe in that way and then empties it itself must
//! not hang. The waiting is a write(2) or read(2), and not a poll(2), because only those are
//! started again after a signal where they should be.

use core::ffi::{c_int, c_long, c_uint, c_void};
use libc::{PIPE_BUF, iovec, off64_t};
use zpipe_uapi::sys::{self, Errno, Memory, call, poll, status_flags};

pub(crate) const SPLICE_F_ALL: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

/// As much as a pipe of the usual size holds.
const CHUNK: usize = 64 << 10;

/// The kernel's MAX_RW_COUNT, what one read or write moves at most.
const MAX_RW_COUNT: usize = 0x7fff_f000;

/// Of <linux/fs.h>: no SIGPIPE.
const RWF_NOSIGNAL: c_int = 0x100;

/// preadv2(2) or pwritev2(2) at no offset, which a pipe has not. Addresses are the caller's, whom
/// the kernel tells if they are not valid.
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
    // SAFETY: It moves bytes between the pipe and memory that was given to us for that.
    unsafe { call(number, args) }
}

/// A descriptor that is ours.
struct Own(c_int);

impl Drop for Own {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

impl Own {
    /// Opens a pipe again that never waits. Only files that come straight from pipe2(2) know
    /// RWF_NOWAIT: not those of FIFOs, nor of pipes that were opened again.
    fn nonblock(fd: c_int, access: c_int) -> Result<Self, Errno> {
        Self::again(fd, access | libc::O_NONBLOCK)
    }

    fn again(fd: c_int, flags: c_int) -> Result<Self, Errno> {
        match sys::open_again(fd, flags | libc::O_CLOEXEC) {
            Ok(fd) => Ok(Self(fd)),
            Err(_) => Err(Errno(libc::EINVAL)),
        }
    }
}

/// What has been written, of one segment after the other.
struct Output {
    /// Where a write may wait.
    fd: c_int,
    /// Where a write does not wait, if not there with RWF_NOWAIT.
    quick: Option<Own>,
    /// What stands behind `fd`, if it is not the caller's.
    _own: Option<Own>,
    written: usize,
}

impl Output {
    /// Starts writing to a zpipe with these status flags.
    ///
    /// On a packet pipe a write is a packet and spliced pages are not: it is opened again without
    /// that, which leaves the caller's descriptor as it is.
    fn new(fd: c_int, status: c_int) -> Result<Self, Errno> {
        let own = if status & libc::O_DIRECT != 0 {
            Some(Own::again(fd, libc::O_WRONLY | status & libc::O_NONBLOCK)?)
        } else {
            None
        };
        Ok(Self {
            fd: own.as_ref().map_or(fd, |own| own.0),
            quick: None,
            _own: own,
            written: 0,
        })
    }

    /// Writes without waiting; false when there is no more room.
    ///
    /// Failing is the result of the whole only if nothing was written before.
    fn fill(&mut self, base: *mut c_void, len: usize) -> Result<bool, Errno> {
        if len == 0 {
            return Ok(true);
        }
        match self.try_fill(base, len) {
            Ok(bytes) => {
                self.written += bytes;
                Ok(bytes == len)
            }
            Err(_) if self.written != 0 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_fill(&mut self, base: *mut c_void, len: usize) -> Result<usize, Errno> {
        let iov = iovec {
            iov_base: base,
            iov_len: len,
        };
        let signal = if self.written == 0 { 0 } else { RWF_NOSIGNAL };

        if self.quick.is_none() {
            let flags = signal | libc::RWF_NOWAIT;
            match vector(libc::SYS_pwritev2, self.fd, &iov, 1, flags) {
                Err(Errno(libc::EOPNOTSUPP)) => (),
                result => return result,
            }
            self.quick = Some(Own::nonblock(self.fd, libc::O_WRONLY)?);
        }
        let fd = self.quick.as_ref().map_or(self.fd, |quick| quick.0);
        vector(libc::SYS_pwritev2, fd, &iov, 1, signal)
    }

    /// The same, but waits for room for the first byte if `wait`.
    fn push(&mut self, base: *mut c_void, len: usize, wait: bool) -> Result<bool, Errno> {
        if !wait || self.written != 0 || len == 0 {
            return self.fill(base, len);
        }
        // What is this short goes in at once and whole, or waits.
        let short = len.min(PIPE_BUF);
        // SAFETY: It reads memory that was given to us for that.
        let bytes = unsafe { call(libc::SYS_write, [self.fd as usize, base as usize, short])? };
        self.written += bytes;
        if bytes != short {
            return Ok(false);
        }
        self.fill(base.wrapping_byte_add(short), len - short)
    }
}

/// Writes the segments to a zpipe.
///
/// # Safety
///
/// `iov` can be read.
unsafe fn write_memory(
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    let status = status_flags(fd)?;
    let wait = !nonblock && status & libc::O_NONBLOCK == 0;
    loop {
        let mut output = Output::new(fd, status)?;
        let mut result = Ok(true);
        for index in 0..segments {
            // SAFETY: The caller's promise.
            let segment = unsafe { iov.add(index).read_unaligned() };
            let len = segment.iov_len.min(MAX_RW_COUNT - output.written);
            result = output.push(segment.iov_base, len, wait);
            if result != Ok(true) {
                break;
            }
        }
        match result {
            Ok(_) => return Ok(output.written),
            // vmsplice(2) does not look at O_NONBLOCK.
            Err(Errno(libc::EAGAIN)) if !nonblock => poll(fd, libc::POLLOUT)?,
            Err(error) => return Err(error),
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
            Err(Errno(libc::EAGAIN)) if !nonblock => poll(fd, libc::POLLIN)?,
            Err(Errno(libc::EOPNOTSUPP)) if nonblock => {
                let quick = Own::nonblock(fd, libc::O_RDONLY)?;
                return vector(libc::SYS_preadv2, quick.0, iov, segments, 0);
            }
            result => return result,
        }
    }
}

/// vmsplice(2) of a zpipe, by which way the descriptor was opened.
///
/// # Safety
///
/// `iov` can be read.
pub(crate) unsafe fn memory(
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    if status_flags(fd)? & libc::O_ACCMODE == libc::O_RDONLY {
        read_memory(fd, iov, segments, nonblock)
    } else {
        // SAFETY: The caller's promise.
        unsafe { write_memory(fd, iov, segments, nonblock) }
    }
}

/// splice(2) or sendfile(2) from a file to a zpipe: as much as there is room for, once there is
/// any. Only from what can be read again if it does not fit, else EINVAL.
///
/// # Safety
///
/// `offset` is null or can be read and written.
pub(crate) unsafe fn from_file(
    from: c_int,
    offset: *mut off64_t,
    out: c_int,
    len: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    let kind = sys::fstat(from)?.st_mode & libc::S_IFMT;
    let status = status_flags(out)?;
    if !matches!(kind, libc::S_IFREG | libc::S_IFBLK) || status & libc::O_ACCMODE == libc::O_RDONLY
    {
        return Err(Errno(libc::EINVAL));
    }
    let seek = |by: usize, whence: c_int| {
        // SAFETY: Only numbers.
        unsafe { call(libc::SYS_lseek, [from as usize, by, whence as usize]) }
    };
    let position = if offset.is_null() {
        seek(0, libc::SEEK_CUR)?
    } else {
        // SAFETY: The caller's promise.
        unsafe { offset.read_unaligned() as usize }
    };

    let buffer = Memory::new(len.min(CHUNK))?;
    let args = [from as usize, buffer.base as usize, buffer.len, position];
    // SAFETY: It writes what it reads to our buffer.
    let bytes = unsafe { call(libc::SYS_pread64, args)? };
    let mut output = Output::new(out, status)?;
    let wait = !nonblock && status & libc::O_NONBLOCK == 0;
    output.push(buffer.base, bytes, wait)?;

    let position = position + output.written;
    if offset.is_null() {
        // What was read is not taken back if this fails; the kernel would not look.
        let _ = seek(position, libc::SEEK_SET);
    } else {
        // SAFETY: The caller's promise.
        unsafe { offset.write_unaligned(position as off64_t) };
    }
    Ok(output.written)
}
