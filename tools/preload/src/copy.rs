// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replaces splice(2), sendfile(2) and vmsplice(2) on a pipe by copies.
//!
//! All three wait until the pipe has any free space (or data). Then they transfer as many
//! bytes as fit (or as the pipe holds) without waiting again: a program that fills a pipe
//! in this way and then empties it itself must not hang. They wait in write(2) or read(2),
//! not in poll(2). Only these two are restarted after a signal where they should be.

use core::ffi::{c_int, c_long, c_uint, c_void};
use libc::{PIPE_BUF, iovec, off64_t};
use zpipe_uapi::sys::{self, Errno, Memory, call, poll, status_flags};

pub(crate) const SPLICE_F_ALL: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

/// As many bytes as a pipe of the default capacity holds.
const CHUNK: usize = 64 << 10;

/// The kernel's MAX_RW_COUNT: the most bytes that one read or write transfers.
const MAX_RW_COUNT: usize = 0x7fff_f000;

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

/// A descriptor that this library owns.
struct Own(c_int);

impl Drop for Own {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

impl Own {
    /// Opens a pipe again with O_NONBLOCK. RWF_NOWAIT works only on files that pipe2(2)
    /// itself made. It does not work on those of FIFOs, nor on pipes that were opened
    /// again.
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

/// The progress of a write of several segments, one after another.
struct Output {
    /// The descriptor on which a write may wait.
    fd: c_int,
    /// A descriptor on which a write does not wait, if `fd` does not support RWF_NOWAIT.
    quick: Option<Own>,
    /// Owns `fd`, if that is not the caller's.
    _own: Option<Own>,
    written: usize,
}

impl Output {
    /// Starts writing to a zpipe with these status flags.
    ///
    /// On a packet pipe each write is a packet, but spliced pages are not packets. So such
    /// a pipe is opened again without O_DIRECT. The caller's descriptor does not change.
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

    /// Writes without waiting. Returns false if the pipe is full.
    ///
    /// A failure is the result of the whole call only if nothing was written before.
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

    /// Like `fill()`, but waits for free space for the first byte if `wait` is true.
    fn push(&mut self, base: *mut c_void, len: usize, wait: bool) -> Result<bool, Errno> {
        if !wait || self.written != 0 || len == 0 {
            return self.fill(base, len);
        }
        // So few bytes are written at once and completely, or the write waits.
        let short = len.min(PIPE_BUF);
        // SAFETY: It reads memory that the caller provides for this.
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
/// `iov` must be readable.
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
            // SAFETY: By this function's safety requirements.
            let segment = unsafe { iov.add(index).read_unaligned() };
            let len = segment.iov_len.min(MAX_RW_COUNT - output.written);
            result = output.push(segment.iov_base, len, wait);
            if result != Ok(true) {
                break;
            }
        }
        match result {
            Ok(_) => return Ok(output.written),
            // vmsplice(2) ignores O_NONBLOCK.
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

/// Replaces vmsplice(2) on a zpipe: reads or writes, depending on how the descriptor was
/// opened.
///
/// # Safety
///
/// `iov` must be readable.
pub(crate) unsafe fn memory(
    fd: c_int,
    iov: *const iovec,
    segments: usize,
    nonblock: bool,
) -> Result<usize, Errno> {
    if status_flags(fd)? & libc::O_ACCMODE == libc::O_RDONLY {
        read_memory(fd, iov, segments, nonblock)
    } else {
        // SAFETY: By this function's safety requirements.
        unsafe { write_memory(fd, iov, segments, nonblock) }
    }
}

/// Replaces splice(2) or sendfile(2) from a file to a zpipe. It waits for free space and
/// then copies as many bytes as fit. It fails with EINVAL unless the file can be read again
/// from the same offset, because not all bytes may fit.
///
/// # Safety
///
/// `offset` must be null, or readable and writable.
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
        // SAFETY: It takes only numbers.
        unsafe { call(libc::SYS_lseek, [from as usize, by, whence as usize]) }
    };
    let position = if offset.is_null() {
        seek(0, libc::SEEK_CUR)?
    } else {
        // SAFETY: By this function's safety requirements.
        unsafe { offset.read_unaligned() as usize }
    };

    let buffer = Memory::new(len.min(CHUNK))?;
    let args = [from as usize, buffer.base as usize, buffer.len, position];
    // SAFETY: It writes the bytes it reads to our buffer.
    let bytes = unsafe { call(libc::SYS_pread64, args)? };
    let mut output = Output::new(out, status)?;
    let wait = !nonblock && status & libc::O_NONBLOCK == 0;
    output.push(buffer.base, bytes, wait)?;

    let position = position + output.written;
    if offset.is_null() {
        // The bytes are in the pipe even if this fails. The kernel would ignore the
        // failure, too.
        let _ = seek(position, libc::SEEK_SET);
    } else {
        // SAFETY: By this function's safety requirements.
        unsafe { offset.write_unaligned(position as off64_t) };
    }
    Ok(output.written)
}
