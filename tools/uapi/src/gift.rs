// SPDX-License-Identifier: MIT OR Apache-2.0

//! Gifts and moves: writes that may take huge pages of the caller away, and reads that may put
//! such pages into the caller's memory.

use crate::{bindings, sys, sys::Errno};
use core::ffi::c_int;

/// A flag of [`gift`]: what takes the place of a page may have bytes that a reader returned.
pub const ANY: u32 = bindings::ZPIPE_ANY;

/// A flag of [`gift`]: let pages leave even if a copy may cost less. A copy costs more if the
/// reader uses [`take`].
pub const ALWAYS: u32 = bindings::ZPIPE_ALWAYS;

/// A flag of [`take`]: writers may see what was in the caller's page.
pub const RETURN: u32 = bindings::ZPIPE_RETURN;

/// The size and the alignment of a huge page.
pub const FRAME: usize = bindings::ZPIPE_FRAME as usize;

/// What a gift or a move did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes that were written or read.
    pub done: usize,
    /// Of these, bytes in pages that changed their owner.
    pub moved: usize,
}

/// Both commands.
///
/// # Safety
///
/// As the command requires.
unsafe fn transfer<const COMMAND: u32>(
    end: c_int,
    base: usize,
    bytes: usize,
    flags: u32,
) -> Result<Transferred, Errno> {
    let range = bindings::zpipe_iovec {
        base: base as u64,
        bytes: bytes as u64,
    };
    let mut args = bindings::zpipe_transfer {
        size: size_of::<bindings::zpipe_transfer>() as u32,
        flags,
        iov: (&raw const range).addr() as u64,
        iovcnt: 1,
        reserved: 0,
        done: 0,
        moved: 0,
        copied: 0,
        why: [0; 16],
    };
    // SAFETY: Both commands take this struct. The rest holds by this function's safety
    // requirements.
    unsafe { sys::ioctl::<COMMAND, _>(end, &mut args)? };
    Ok(Transferred {
        done: args.done as usize,
        moved: args.moved as usize,
    })
}

/// Writes `bytes` bytes at the address `base`, as write(2). Whole huge pages may leave; then the
/// memory has zeros, or other bytes that were in gifted pages. Ask [`crate::is_zpipe`] first, as
/// for [`crate::get_capacity`].
///
/// # Errors
///
/// As write(2). ENOTTY if the module is too old for it.
///
/// # Safety
///
/// The memory must allow that its bytes change: nobody may have a shared reference to it. The
/// address need not be valid: the kernel checks it.
pub unsafe fn gift(
    end: c_int,
    base: usize,
    bytes: usize,
    flags: u32,
) -> Result<Transferred, Errno> {
    // SAFETY: By this function's safety requirements.
    unsafe { transfer::<{ bindings::GIFT }>(end, base, bytes, flags) }
}

/// Reads at most `bytes` bytes to the address `base`, as read(2). It is `ZPIPE_IOC_MOVE`: whole
/// huge pages may come without a copy. Ask [`crate::is_zpipe`] first, as for
/// [`crate::get_capacity`].
///
/// # Errors
///
/// As read(2). ENOTTY if the module is too old for it.
///
/// # Safety
///
/// The memory must be for stores of the caller, to which nobody else has a reference. The address
/// need not be valid: the kernel checks it.
pub unsafe fn take(
    end: c_int,
    base: usize,
    bytes: usize,
    flags: u32,
) -> Result<Transferred, Errno> {
    // SAFETY: By this function's safety requirements.
    unsafe { transfer::<{ bindings::MOVE }>(end, base, bytes, flags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_commands() {
        assert_eq!(bindings::GIFT, 0xe920);
        assert_eq!(bindings::MOVE, 0xe921);
        assert_eq!(size_of::<bindings::zpipe_transfer>(), 112);
        assert_eq!(FRAME, 2 << 20);
    }

    #[test]
    fn closed_descriptors_are_errors() {
        // SAFETY: Nothing is transferred.
        assert_eq!(unsafe { gift(-1, 0, 1, 0) }, Err(Errno(libc::EBADF)));
        // SAFETY: Nothing is transferred.
        assert_eq!(unsafe { take(-1, 0, 1, 0) }, Err(Errno(libc::EBADF)));
    }
}
