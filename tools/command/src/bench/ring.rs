// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages in memory that the reader copies itself: shared memory, or with process_vm_readv(2)
//! the writer's own. Two counters in shared memory say which slots are full, and which are free.
//! Only an end that has to wait, and one that has to wake the other, calls the kernel.

use super::memory::Memory;
use crate::os::Error;
use std::{
    ffi::c_int,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// How many bytes the slots have together, if messages are small.
const BYTES: usize = 1 << 20;
/// The largest number of slots. The smallest is 2: one is filled while the other one is copied.
const SLOTS: usize = 64;
/// How long a reader sleeps before it asks whether the writer still exists, in ns.
const SLEEP: i64 = 100_000_000;

/// A number that one end increases, and for which the other one waits, in a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
struct Count {
    value: AtomicU32,
    waiting: AtomicU32,
}

impl Count {
    fn increase(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.waiting.swap(0, Ordering::SeqCst) != 0 {
            // SAFETY: It only looks at the address.
            unsafe { libc::syscall(libc::SYS_futex, &self.value, libc::FUTEX_WAKE, 1) };
        }
    }

    /// Waits until the number is one of those. Fails when the other process has ended, if there is
    /// a descriptor of it.
    fn wait(&self, wanted: impl Fn(u32) -> bool, other: Option<c_int>) -> Result<(), Error> {
        loop {
            if wanted(self.value.load(Ordering::Acquire)) {
                return Ok(());
            }
            // The other end either sees this, or its number is seen here.
            self.waiting.store(1, Ordering::SeqCst);
            let value = self.value.load(Ordering::SeqCst);
            if wanted(value) {
                self.waiting.store(0, Ordering::Relaxed);
                return Ok(());
            }
            let woken = self.sleep(value)?;
            // What it did last counts.
            if !woken && other.is_some_and(has_ended) && !wanted(self.value.load(Ordering::Acquire))
            {
                return Err(Error(libc::EPIPE));
            }
        }
    }

    /// Sleeps while this is the number. False if nobody has woken it for a while.
    fn sleep(&self, value: u32) -> Result<bool, Error> {
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: SLEEP,
        };
        // SAFETY: It reads the number and the time.
        let slept =
            unsafe { libc::syscall(libc::SYS_futex, &self.value, libc::FUTEX_WAIT, value, &time) };
        match slept {
            0 => Ok(true),
            _ => match Error::last() {
                Error(libc::EAGAIN | libc::EINTR) => Ok(true),
                Error(libc::ETIMEDOUT) => Ok(false),
                error => Err(error),
            },
        }
    }
}

/// True if the process of a descriptor has ended.
fn has_ended(process: c_int) -> bool {
    let mut polled = libc::pollfd {
        fd: process,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: There is one struct.
    unsafe { libc::poll(ptr::from_mut(&mut polled), 1, 0) == 1 }
}

/// What both ends share. All zeros at first.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    /// The messages that the writer has passed, and 1 for the end of the data.
    full: Count,
    /// The messages that the reader has copied.
    free: Count,
    /// The number of messages and 1, when there will be no more, or 0.
    end: AtomicU64,
}

/// Both ends have it.
#[derive(Debug)]
pub struct Ring {
    shared: Memory,
    slots: usize,
    memory: Memory,
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
        Ok(Self {
            shared: Memory::shared(size_of::<Shared>())?,
            slots,
            memory,
        })
    }

    /// Makes the pages of the slots present in this process.
    pub fn populate(&mut self) -> Result<(), Error> {
        self.memory.populate()
    }

    fn shared(&self) -> &Shared {
        // SAFETY: The memory is aligned and large enough, zeros are valid, and it is accessed only
        // in this way.
        unsafe { &*self.shared.address().cast() }
    }

    /// Returns the bytes of a message's slot in the ring.
    pub fn slot(&mut self, message: u64, size: usize) -> &mut [u8] {
        let at = message as usize % self.slots * size;
        &mut self.memory.bytes()[at..at + size]
    }

    /// The writer: waits for a free slot for this message.
    pub fn wait_free(&self, message: u64) -> Result<(), Error> {
        let slots = self.slots as u32;
        let free = |copied| (message as u32).wrapping_sub(copied) < slots;
        self.shared().free.wait(free, None)
    }

    /// The writer: passes the slot on.
    pub fn pass(&self) {
        self.shared().full.increase();
    }

    /// The writer: there were this many messages. Waits until the reader has copied all of them,
    /// because it may need the writer's memory.
    pub fn close(&self, messages: u64) -> Result<(), Error> {
        let shared = self.shared();
        shared.end.store(messages + 1, Ordering::Release);
        shared.full.increase();
        shared.free.wait(|copied| copied == messages as u32, None)
    }

    /// The reader: waits for a message. False at the end of the data.
    pub fn wait_full(&self, message: u64, writer: c_int) -> Result<bool, Error> {
        let shared = self.shared();
        let full = |passed: u32| passed.wrapping_sub(message as u32) as i32 > 0;
        shared.full.wait(full, Some(writer))?;
        Ok(message + 1 != shared.end.load(Ordering::Acquire))
    }

    /// The reader: gives the slot back.
    pub fn release(&self) {
        self.shared().free.increase();
    }
}
