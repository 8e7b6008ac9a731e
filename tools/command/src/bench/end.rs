// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ways to pass messages, and both ends of each.

use super::{
    memory::{HUGE, Memory, Step},
    ring::Ring,
};
use crate::os::{self, Error};
use serde::{Serialize, Serializer};
use std::{
    ffi::c_int,
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd},
};
use zpipe::{
    GiftFlags, MoveFlags, PipeReader, PipeWriter,
    window::{ReadWindow, WriteWindow},
};

/// The capacity of the larger pipe.
const LARGE: c_int = 1 << 20;
/// The messages that a write window has space for: one is filled while readers have the other one.
pub const FRAMES: usize = 2;

/// Where the receiver's memory begins in a huge page, unless pages move there. The sender's begins
/// at 0. If both were the same, an emulator would have one entry of its TLB for both sides of a
/// copy, and fill it anew for each word.
const APART: usize = 37 * 4096;

/// A way to pass messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    Pipe,
    PipeLarge,
    Zpipe,
    Gift,
    Window,
    OtherMemory,
    Shared,
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Pipe,
        Self::PipeLarge,
        Self::Zpipe,
        Self::Gift,
        Self::Window,
        Self::OtherMemory,
        Self::Shared,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::PipeLarge => "pipe-1m",
            Self::Zpipe => "zpipe",
            Self::Gift => "zpipe-gift",
            Self::Window => "zpipe-window",
            Self::OtherMemory => "cma",
            Self::Shared => "shm",
        }
    }

    /// False for messages of sizes that this way would copy.
    pub fn takes(self, size: usize) -> bool {
        !matches!(self, Self::Gift | Self::Window) || size % HUGE == 0
    }

    /// Makes both ends, of which each process uses one.
    pub fn open(self, size: usize) -> Result<Ends, Error> {
        match self {
            Self::Pipe | Self::PipeLarge => {
                let fds = zpipe_uapi::sys::pipe()?;
                // SAFETY: The descriptors are new, and ours.
                let ends = unsafe {
                    (
                        PipeReader::from_raw_fd(fds[0]),
                        PipeWriter::from_raw_fd(fds[1]),
                    )
                };
                let ends = Ends::pipe(self, ends, size)?;
                if self == Self::PipeLarge {
                    // SAFETY: The command takes a number.
                    let set = unsafe { libc::fcntl(fds[1], libc::F_SETPIPE_SZ, LARGE) };
                    if set < 0 {
                        return Err(Error::last());
                    }
                }
                Ok(ends)
            }
            Self::Zpipe | Self::Gift | Self::Window => Ends::pipe(self, zpipe::pipe()?, size),
            Self::OtherMemory | Self::Shared => Ok(Ends {
                way: self,
                size,
                ends: None,
                ring: Some(Ring::new(size, self == Self::Shared)?),
                buffer: Memory::private(size + APART)?,
            }),
        }
    }
}

/// Both ends.
#[derive(Debug)]
pub struct Ends {
    way: Way,
    size: usize,
    ends: Option<(PipeReader, PipeWriter)>,
    ring: Option<Ring>,
    buffer: Memory,
}

impl Ends {
    fn pipe(way: Way, ends: (PipeReader, PipeWriter), size: usize) -> Result<Self, Error> {
        Ok(Self {
            way,
            size,
            ends: Some(ends),
            ring: None,
            buffer: Memory::private(size + APART)?,
        })
    }

    /// Makes the pages that this process uses present, which fork(2) would have shared.
    fn populate(&mut self, writer: bool) -> Result<(), Error> {
        let fills_ring = writer && self.ring.is_some();
        match &mut self.ring {
            Some(ring) if writer || self.way == Way::Shared => ring.populate()?,
            _ => (),
        }
        if fills_ring || self.way == Way::Window {
            return Ok(());
        }
        self.buffer.populate()
    }

    /// Keeps the end of the writer.
    pub fn writer(mut self) -> Result<Writer, Error> {
        self.populate(true)?;
        let end = self.ends.map(|(_, write)| write);
        let window = match (&end, self.way) {
            (Some(end), Way::Window) => Some(WriteWindow::new(end, FRAMES * self.size)?),
            _ => None,
        };
        Ok(Writer {
            way: self.way,
            size: self.size,
            end,
            ring: self.ring,
            buffer: self.buffer,
            window,
        })
    }

    /// Keeps the end of the reader.
    pub fn reader(mut self, writer: c_int, process: c_int) -> Result<Reader, Error> {
        self.populate(false)?;
        let end = self.ends.map(|(read, _)| read);
        let window = match (&end, self.way) {
            (Some(end), Way::Window) => Some(ReadWindow::new(end, FRAMES * self.size)?),
            _ => None,
        };
        Ok(Reader {
            way: self.way,
            size: self.size,
            end,
            ring: self.ring,
            buffer: self.buffer,
            window,
            writer,
            process,
        })
    }
}

/// The end of the writer.
#[derive(Debug)]
pub struct Writer {
    way: Way,
    size: usize,
    end: Option<PipeWriter>,
    ring: Option<Ring>,
    buffer: Memory,
    window: Option<WriteWindow>,
}

impl Writer {
    /// Sends a message.
    pub fn send(&mut self, message: u64, step: Step) -> Result<(), Error> {
        let (size, position) = (self.size, message * self.size as u64);
        if let Some(ring) = &mut self.ring {
            ring.wait_free(message)?;
            step.stamp(ring.slot(message, size), position);
            ring.pass();
            return Ok(());
        }
        if let Some(window) = &mut self.window {
            let at = message as usize % FRAMES * size;
            let mut frame = window.reserve(at..at + size)?;
            step.stamp(&mut frame, position);
            frame.commit_all().map_err(io::Error::from)?;
            return Ok(());
        }
        let end = self.end.as_ref().ok_or(Error(libc::EBADF))?;
        let bytes = &mut self.buffer.bytes()[..size];
        step.stamp(bytes, position);
        if self.way != Way::Gift {
            return os::write_all(end.as_raw_fd(), bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = end.gift_from(rest, GiftFlags::ANY)?;
            rest = &mut rest[sent.done..];
        }
        Ok(())
    }

    /// Ends the data.
    pub fn close(self, messages: u64) -> Result<(), Error> {
        self.ring.map_or(Ok(()), |ring| ring.close(messages))
    }
}

/// The end of the reader.
#[derive(Debug)]
pub struct Reader {
    way: Way,
    size: usize,
    end: Option<PipeReader>,
    ring: Option<Ring>,
    buffer: Memory,
    window: Option<ReadWindow>,
    /// The process of the writer, and a descriptor of it.
    writer: c_int,
    process: c_int,
}

impl Reader {
    /// Receives a message. False at the end of the data.
    pub fn receive(&mut self, message: u64, step: Step) -> Result<bool, Error> {
        let position = message * self.size as u64;
        let start = if self.way == Way::Gift { 0 } else { APART };
        let memory = start..start + self.size;
        if let Some(ring) = &mut self.ring {
            if !ring.wait_full(message, self.process)? {
                return Ok(false);
            }
            let bytes = &mut self.buffer.bytes()[memory];
            match self.way {
                Way::Shared => bytes.copy_from_slice(ring.slot(message, self.size)),
                _ => read_other(self.writer, ring, message, bytes)?,
            }
            ring.release();
            step.check(bytes, position)?;
            return Ok(true);
        }
        if let Some(window) = &mut self.window {
            return look(window, self.size, position, step);
        }
        let mut end = self.end.as_ref().ok_or(Error(libc::EBADF))?;
        let bytes = &mut self.buffer.bytes()[memory];
        let mut done = 0;
        while done < bytes.len() {
            let rest = &mut bytes[done..];
            let read = match self.way {
                Way::Gift => end.move_to(rest, MoveFlags::RETURN)?.done,
                _ => end.read(rest)?,
            };
            match read {
                0 if done == 0 => return Ok(false),
                0 => return Err(Error(libc::EPIPE)),
                read => done += read,
            }
        }
        step.check(bytes, position)?;
        Ok(true)
    }
}

/// Copies a message from the memory of the writer, which is at the same address there.
fn read_other(writer: c_int, ring: &mut Ring, message: u64, bytes: &mut [u8]) -> Result<(), Error> {
    let slot = ring.slot(message, bytes.len());
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        let len = rest.len();
        let local = libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: len,
        };
        let remote = libc::iovec {
            iov_base: slot[done..].as_mut_ptr().cast(),
            iov_len: len,
        };
        // SAFETY: It writes only to the local range, which is valid.
        match unsafe {
            libc::process_vm_readv(writer, &raw const local, 1, &raw const remote, 1, 0)
        } {
            read @ 1.. => done += read as usize,
            0 => return Err(Error(libc::EFAULT)),
            _ => return Err(Error::last()),
        }
    }
    Ok(())
}

/// Looks at a message in the window, part by part.
fn look(window: &mut ReadWindow, size: usize, position: u64, step: Step) -> Result<bool, Error> {
    let mut done = 0;
    while done < size {
        let view = window.peek(size - done)?;
        if view.is_empty() {
            return if done == 0 {
                Ok(false)
            } else {
                Err(Error(libc::EPIPE))
            };
        }
        let mut seen = 0;
        for span in &view {
            step.check(span, position + (done + seen) as u64)?;
            seen += span.len();
        }
        view.consume_all()?;
        done += seen;
    }
    Ok(true)
}
