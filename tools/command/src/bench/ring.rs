// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages in memory that the reader copies itself: shared memory, or with process_vm_readv(2)
//! the writer's own. Two event counters say which slots are full, and which are free.

use super::memory::Memory;
use crate::os::Error;
use std::{
    ffi::c_int,
    sync::atomic::{AtomicU64, Ordering},
};

/// How many bytes the slots have together, if messages are small.
const BYTES: usize = 1 << 20;
/// The largest number of slots. The smallest is 2: one is filled while the other one is copied.
const SLOTS: usize = 64;

/// Both ends have it.
#[derive(Debug)]
pub struct Ring {
    full: c_int,
    free: c_int,
    /// The number of messages when there will be no more, or `u64::MAX`. In shared memory.
    end: Memory,
    slots: usize,
    memory: Memory,
}

/// eventfd(2), as a semaphore.
fn semaphore(value: usize) -> Result<c_int, Error> {
    // SAFETY: It has no safety requirements.
    match unsafe { libc::eventfd(value as u32, libc::EFD_SEMAPHORE | libc::EFD_CLOEXEC) } {
        -1 => Err(Error::last()),
        fd => Ok(fd),
    }
}

fn post(fd: c_int) -> Result<(), Error> {
    let one = 1_u64;
    // SAFETY: It reads eight bytes.
    match unsafe { libc::write(fd, (&raw const one).cast(), 8) } {
        8 => Ok(()),
        _ => Err(Error::last()),
    }
}

/// Takes one, or waits. With a descriptor of the other process, it fails when that one has ended.
fn take(fd: c_int, other: Option<c_int>) -> Result<(), Error> {
    let of = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    if let Some(other) = other {
        let mut polled = [of(fd), of(other)];
        // SAFETY: There are two structs.
        while unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } < 0 {
            if Error::last() != Error(libc::EINTR) {
                return Err(Error::last());
            }
        }
        if polled[0].revents == 0 {
            return Err(Error(libc::EPIPE));
        }
    }
    let mut one = 0_u64;
    // SAFETY: It writes eight bytes.
    match unsafe { libc::read(fd, (&raw mut one).cast(), 8) } {
        8 => Ok(()),
        _ => Err(Error::last()),
    }
}

impl Ring {
    /// Makes a ring for messages of this size. Its memory is shared, or each process has its own.
    pub fn new(size: usize, shared: bool) -> Result<Self, Error> {
        let slots = (BYTES / size).clamp(2, SLOTS);
        let memory = if shared {
            Memory::shared(slots * size)?
        } else {
            Memory::private(slots * size)?
        };
        let ring = Self {
            full: semaphore(0)?,
            free: semaphore(slots)?,
            end: Memory::shared(8)?,
            slots,
            memory,
        };
        ring.end().store(u64::MAX, Ordering::Relaxed);
        Ok(ring)
    }

    fn end(&self) -> &AtomicU64 {
        // SAFETY: The memory is aligned, large enough, and accessed only in this way.
        unsafe { AtomicU64::from_ptr(self.end.address().cast()) }
    }

    /// Returns the bytes of a message's slot in the ring.
    pub fn slot(&mut self, message: u64, size: usize) -> &mut [u8] {
        let at = message as usize % self.slots * size;
        &mut self.memory.bytes()[at..at + size]
    }

    /// The writer: waits for a free slot.
    pub fn wait_free(&self) -> Result<(), Error> {
        take(self.free, None)
    }

    /// The writer: passes the slot on.
    pub fn pass(&self) -> Result<(), Error> {
        post(self.full)
    }

    /// The writer: there were this many messages. Waits until the reader has copied all of them,
    /// because it may need the writer's memory.
    pub fn close(&self, messages: u64) -> Result<(), Error> {
        self.end().store(messages, Ordering::Release);
        post(self.full)?;
        (0..self.slots).try_for_each(|_| take(self.free, None))
    }

    /// The reader: waits for a message. False at the end of the data.
    pub fn wait_full(&self, message: u64, writer: c_int) -> Result<bool, Error> {
        take(self.full, Some(writer))?;
        Ok(message < self.end().load(Ordering::Acquire))
    }

    /// The reader: gives the slot back.
    pub fn release(&self) -> Result<(), Error> {
        post(self.free)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        [self.full, self.free].map(zpipe_uapi::sys::close);
    }
}
