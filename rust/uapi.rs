// SPDX-License-Identifier: GPL-2.0-only

//! The ABI of `include/uapi/linux/zpipe.h`, and how its structs cross over.

use crate::{sys, zcore::abi};
use core::mem::size_of;
use kernel::{
    prelude::*,
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice},
};

pub(crate) use sys::{
    zpipe_capacity as Capacity, zpipe_commit as Commit, zpipe_consume as Consume,
    zpipe_flags as Flags, zpipe_iovec as Range, zpipe_peek as Peek, zpipe_pipe2 as Pipe2,
    zpipe_reserve as Reserve, zpipe_transfer as Transfer, zpipe_view as View,
    zpipe_window as Window, ZPIPE_ALWAYS as ALWAYS, ZPIPE_ANY as ANY,
    ZPIPE_BUFFER_ONLY as BUFFER_ONLY, ZPIPE_CLEAR as CLEAR, ZPIPE_CMD_COMMIT as COMMIT,
    ZPIPE_CMD_CONSUME as CONSUME, ZPIPE_CMD_GET_CAPACITY as GET_CAPACITY,
    ZPIPE_CMD_GET_FLAGS as GET_FLAGS, ZPIPE_CMD_GIFT as GIFT, ZPIPE_CMD_MOVE as MOVE,
    ZPIPE_CMD_PEEK as PEEK, ZPIPE_CMD_PIPE2 as PIPE2, ZPIPE_CMD_RESERVE as RESERVE,
    ZPIPE_CMD_SET_CAPACITY as SET_CAPACITY, ZPIPE_CMD_SET_FLAGS as SET_FLAGS,
    ZPIPE_CMD_WINDOW as WINDOW, ZPIPE_FIONREAD as FIONREAD, ZPIPE_LEND as LEND, ZPIPE_MORE as MORE,
    ZPIPE_NONBLOCK as NONBLOCK, ZPIPE_REASON_BUFFER_ONLY as REASON_BUFFER_ONLY,
    ZPIPE_REASON_COST as REASON_COST, ZPIPE_REASON_KERNEL as REASON_KERNEL,
    ZPIPE_REASON_LIMIT as REASON_LIMIT, ZPIPE_REASON_MAPPING as REASON_MAPPING,
    ZPIPE_REASON_MEMORY as REASON_MEMORY, ZPIPE_REASON_PACKET as REASON_PACKET,
    ZPIPE_REASON_PART as REASON_PART, ZPIPE_REASON_PINNED as REASON_PINNED,
    ZPIPE_REASON_SMALL as REASON_SMALL, ZPIPE_REASON_WINDOW as REASON_WINDOW,
    ZPIPE_RETURN as RETURN, ZPIPE_SMALL as SMALL, ZPIPE_VIEW_PACKET as VIEW_PACKET,
    ZPIPE_WINDOW_LEND as WINDOW_LEND, ZPIPE_WINDOW_MOST as WINDOW_MOST,
    ZPIPE_WINDOW_READ as WINDOW_READ, ZPIPE_WINDOW_WRITE as WINDOW_WRITE,
};

/// A struct of the ABI: its first member is a u32, its size.
pub(crate) trait Extensible: FromBytes + AsBytes {
    /// The size it had when first published.
    const FIRST: usize;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Pipe2 {}
// SAFETY: As above.
unsafe impl AsBytes for Pipe2 {}
const _: () = assert!(size_of::<Pipe2>() == 16);

impl Extensible for Pipe2 {
    const FIRST: usize = 16;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Capacity {}
// SAFETY: As above.
unsafe impl AsBytes for Capacity {}
const _: () = assert!(size_of::<Capacity>() == 16);

impl Extensible for Capacity {
    const FIRST: usize = 16;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Flags {}
// SAFETY: As above.
unsafe impl AsBytes for Flags {}
const _: () = assert!(size_of::<Flags>() == 8);

impl Extensible for Flags {
    const FIRST: usize = 8;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Transfer {}
// SAFETY: As above.
unsafe impl AsBytes for Transfer {}
const _: () = assert!(size_of::<Transfer>() == 112);

impl Extensible for Transfer {
    const FIRST: usize = 112;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Window {}
// SAFETY: As above.
unsafe impl AsBytes for Window {}
const _: () = assert!(size_of::<Window>() == 24);

impl Extensible for Window {
    const FIRST: usize = 24;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Reserve {}
// SAFETY: As above.
unsafe impl AsBytes for Reserve {}
const _: () = assert!(size_of::<Reserve>() == 24);

impl Extensible for Reserve {
    const FIRST: usize = 24;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Commit {}
// SAFETY: As above.
unsafe impl AsBytes for Commit {}
const _: () = assert!(size_of::<Commit>() == 112);

impl Extensible for Commit {
    const FIRST: usize = 112;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Peek {}
// SAFETY: As above.
unsafe impl AsBytes for Peek {}
const _: () = assert!(size_of::<Peek>() == 48);

impl Extensible for Peek {
    const FIRST: usize = 48;
}

// SAFETY: Integers only, without padding: see the assertions.
unsafe impl FromBytes for Consume {}
// SAFETY: As above.
unsafe impl AsBytes for Consume {}
const _: () = assert!(size_of::<Consume>() == 16);

impl Extensible for Consume {
    const FIRST: usize = 16;
}

// SAFETY: Integers only, without padding: see the assertion.
unsafe impl AsBytes for View {}
const _: () = assert!(size_of::<View>() == 24);

// SAFETY: Integers only, without padding: see the assertion.
unsafe impl FromBytes for Range {}
const _: () = assert!(size_of::<Range>() == 16);

/// The ranges of memory that a call names, at most [`RANGES_MOST`]: addresses and lengths. Sleeps.
///
/// Errors: `EINVAL` (too many), `EFAULT`, `ENOMEM`.
pub(crate) fn ranges(arg: u64, count: u32) -> Result<KVec<(usize, usize)>> {
    if count > RANGES_MOST {
        return Err(EINVAL);
    }
    let count = count as usize;
    let mut ranges = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    let address = UserPtr::from_addr(usize::try_from(arg).map_err(|_| EFAULT)?);
    let mut reader = UserSlice::new(address, count * size_of::<Range>()).reader();

    for _ in 0..count {
        let range = reader.read::<Range>()?;
        let at = usize::try_from(range.base).map_err(|_| EFAULT)?;
        // As readv(2) has it.
        let bytes = isize::try_from(range.bytes)
            .map_err(|_| EINVAL)?
            .unsigned_abs();

        // As by readv(2) before anything is done.
        // SAFETY: It compares numbers.
        if !unsafe { sys::zpipe_access_ok(at, bytes) } {
            return Err(EFAULT);
        }
        ranges.push((at, bytes), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(ranges)
}

/// As many as UIO_MAXIOV.
const RANGES_MOST: u32 = 1024;

/// A struct of the ABI in the memory of the current process.
pub(crate) struct UserStruct {
    ptr: UserPtr,
    /// What its user says.
    size: usize,
}

impl UserStruct {
    /// Reads the struct at `arg`. Sleeps.
    ///
    /// Errors: `EFAULT`, `EINVAL` (too short), `E2BIG` (too long, or more than the kernel knows).
    pub(crate) fn read<T: Extensible>(arg: usize) -> Result<(Self, T)> {
        let ptr = UserPtr::from_addr(arg);
        let size = UserSlice::new(ptr, size_of::<u32>())
            .reader()
            .read::<u32>()? as usize;
        let layout = abi::layout(size, T::FIRST, size_of::<T>()).map_err(|e| match e {
            abi::BadSize::TooShort => EINVAL,
            abi::BadSize::TooLong => E2BIG,
        })?;

        let mut reader = UserSlice::new(ptr, size).reader();
        let mut bytes = [0u8; 128];
        let known = bytes.get_mut(..size_of::<T>()).ok_or(EINVAL)?;
        reader.read_slice(known.get_mut(..layout.copy).ok_or(EINVAL)?)?;
        let value = T::from_bytes_copy(known).ok_or(EINVAL)?;

        let mut tail = layout.tail;
        while tail != 0 {
            let chunk = bytes.len().min(tail);
            let chunk = bytes.get_mut(..chunk).ok_or(EINVAL)?;
            reader.read_slice(chunk)?;
            if chunk.iter().any(|&b| b != 0) {
                return Err(E2BIG);
            }
            tail -= chunk.len();
        }
        Ok((Self { ptr, size }, value))
    }

    /// Writes the struct back, as far as its user knows it. Sleeps.
    pub(crate) fn write<T: Extensible>(&self, value: &T) -> Result {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..self.size.min(bytes.len())).ok_or(EINVAL)?;

        UserSlice::new(self.ptr, bytes.len())
            .writer()
            .write_slice(bytes)
    }
}
