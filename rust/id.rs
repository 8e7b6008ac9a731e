// SPDX-License-Identifier: GPL-2.0-only

//! The two names of a pipe: one for people, one for the pipe table.

/// The name of a pipe for people: its inode, as fstat(2) reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipeId {
    /// The device number of the file system, in the kernel's encoding.
    pub(crate) device: u32,
    /// The inode number.
    pub(crate) inode: u64,
}

impl PipeId {
    /// Bits of a device number that hold the minor number.
    const MINOR_BITS: u32 = 20;

    /// The major and the minor number of the device.
    pub(crate) fn device(&self) -> (u32, u32) {
        let bits = Self::MINOR_BITS;
        (self.device >> bits, self.device & ((1 << bits) - 1))
    }
}

/// The name of a pipe in the pipe table: the address of its inode. It is never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeKey(pub(crate) usize);
