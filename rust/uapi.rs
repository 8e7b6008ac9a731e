// SPDX-License-Identifier: GPL-2.0-only

//! The ABI of `include/uapi/linux/zpipe.h`, and how its structs are copied from and to user space.

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
    zpipe_reserve as Reserve, zpipe_splice as Splice, zpipe_transfer as Transfer,
    zpipe_view as View, zpipe_window as Window, ZPIPE_ALWAYS as ALWAYS, ZPIPE_ANY as ANY,
    ZPIPE_BUFFER_ONLY as BUFFER_ONLY, ZPIPE_CLEAR as CLEAR, ZPIPE_CMD_COMMIT as COMMIT,
    ZPIPE_CMD_CONSUME as CONSUME, ZPIPE_CMD_GET_CAPACITY as GET_CAPACITY,
    ZPIPE_CMD_GET_FLAGS as GET_FLAGS, ZPIPE_CMD_GIFT as GIFT, ZPIPE_CMD_MOVE as MOVE,
    ZPIPE_CMD_PEEK as PEEK, ZPIPE_CMD_PIPE2 as PIPE2, ZPIPE_CMD_RESERVE as RESERVE,
    ZPIPE_CMD_SET_CAPACITY as SET_CAPACITY, ZPIPE_CMD_SET_FLAGS as SET_FLAGS,
    ZPIPE_CMD_SPLICE_FROM as SPLICE_FROM, ZPIPE_CMD_SPLICE_TO as SPLICE_TO, ZPIPE_CMD_TEE as TEE,
    ZPIPE_CMD_WINDOW as WINDOW, ZPIPE_FIONREAD as FIONREAD, ZPIPE_LEND as LEND, ZPIPE_MORE as MORE,
    ZPIPE_NONBLOCK as NONBLOCK, ZPIPE_REASON_BUFFER_ONLY as REASON_BUFFER_ONLY,
    ZPIPE_REASON_COST as REASON_COST, ZPIPE_REASON_KERNEL as REASON_KERNEL,
    ZPIPE_REASON_LIMIT as REASON_LIMIT, ZPIPE_REASON_MAPPING as REASON_MAPPING,
    ZPIPE_REASON_MEMORY as REASON_MEMORY, ZPIPE_REASON_PACKET as REASON_PACKET,
    ZPIPE_REASON_PART as REASON_PART, ZPIPE_REASON_PINNED as REASON_PINNED,
    ZPIPE_REASON_SMALL as REASON_SMALL, ZPIPE_REASON_WINDOW as REASON_WINDOW,
    ZPIPE_RETURN as RETURN, ZPIPE_SIDE_FILE as SIDE_FILE, ZPIPE_SIDE_PIPE as SIDE_PIPE,
    ZPIPE_SMALL as SMALL, ZPIPE_SPLICE_AT as SPLICE_AT, ZPIPE_SPLICE_MORE as SPLICE_MORE,
    ZPIPE_VIEW_PACKET as VIEW_PACKET, ZPIPE_WINDOW_LEND as WINDOW_LEND,
    ZPIPE_WINDOW_MAX as WINDOW_MAX, ZPIPE_WINDOW_READ as WINDOW_READ,
    ZPIPE_WINDOW_WRITE as WINDOW_WRITE,
};

/// An extensible struct of the ABI. Its first member is a u32 with the struct's size.
pub(crate) trait Extensible: FromBytes + AsBytes {
    /// The size of the struct in bytes when it was first published.
    const FIRST: usize;
}

/// Implements [`Extensible`] for structs of the ABI. The arguments are each struct's size now and
/// its size when first published.
macro_rules! extensible {
    ($($name:ident: $size:literal, first $first:literal;)*) => {$(
        // SAFETY: The struct has only integers and no padding; see the assertion on its size.
        unsafe impl FromBytes for $name {}
        // SAFETY: As above.
        unsafe impl AsBytes for $name {}
        const _: () = assert!(size_of::<$name>() == $size);

        impl Extensible for $name {
            const FIRST: usize = $first;
        }
    )*};
}

extensible! {
    Pipe2: 16, first 16;
    Capacity: 16, first 16;
    Flags: 8, first 8;
    Transfer: 112, first 112;
    Splice: 32, first 32;
    Window: 24, first 24;
    Reserve: 24, first 24;
    Commit: 112, first 112;
    Peek: 48, first 48;
    Consume: 16, first 16;
}

// SAFETY: The struct has only integers and no padding; see the assertion on its size.
unsafe impl AsBytes for View {}
const _: () = assert!(size_of::<View>() == 24);

// SAFETY: The struct has only integers and no padding; see the assertion on its size.
unsafe impl FromBytes for Range {}
const _: () = assert!(size_of::<Range>() == 16);

/// Reads an array of `count` memory ranges at `arg`, at most [`RANGES_MAX`], as addresses and
/// lengths. Sleeps.
///
/// Errors: `EINVAL` (too many, or a length above `isize::MAX`), `EFAULT` (the array cannot be read,
/// or a range is not in user space), `ENOMEM`.
pub(crate) fn ranges(arg: u64, count: u32) -> Result<KVec<(usize, usize)>> {
    if count > RANGES_MAX {
        return Err(EINVAL);
    }
    let count = count as usize;
    let mut ranges = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    let address = UserPtr::from_addr(usize::try_from(arg).map_err(|_| EFAULT)?);
    let mut reader = UserSlice::new(address, count * size_of::<Range>()).reader();

    for _ in 0..count {
        let range = reader.read::<Range>()?;
        let at = usize::try_from(range.base).map_err(|_| EFAULT)?;
        // The same limit on a length as in readv(2).
        let bytes = isize::try_from(range.bytes)
            .map_err(|_| EINVAL)?
            .unsigned_abs();

        // As in readv(2), all addresses are checked before anything is transferred.
        // SAFETY: The function only compares numbers.
        if !unsafe { sys::zpipe_access_ok(at, bytes) } {
            return Err(EFAULT);
        }
        ranges.push((at, bytes), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(ranges)
}

/// The same number as UIO_MAXIOV.
const RANGES_MAX: u32 = 1024;

/// A struct of the ABI in the memory of the current process.
pub(crate) struct UserStruct {
    ptr: UserPtr,
    /// The size that the caller gave, in bytes.
    size: usize,
}

impl UserStruct {
    /// Reads the struct at `arg`. Members that the caller's struct lacks are 0. Sleeps.
    ///
    /// Errors: `EFAULT`; `EINVAL` if the struct is too short; `E2BIG` if it is longer than a page,
    /// or if bytes behind the known members are not 0.
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

    /// Writes the struct back, but no more than the caller's size. Sleeps.
    ///
    /// Error: `EFAULT`.
    pub(crate) fn write<T: Extensible>(&self, value: &T) -> Result {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..self.size.min(bytes.len())).ok_or(EINVAL)?;

        UserSlice::new(self.ptr, bytes.len())
            .writer()
            .write_slice(bytes)
    }
}
