// SPDX-License-Identifier: GPL-2.0-only

//! The outcome of a direct transfer: why a pull or push ended.

/// The reason why a direct transfer could not access the memory of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Miss {
    /// Another task holds the mmap_lock of the owner's address space.
    Busy,
    /// The address is not mapped, or only the owner may access the mapping.
    Mapping,
    /// The page is not resident.
    Page,
}

/// The reason why a direct transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// All bytes that were asked for were copied.
    All,
    /// The next byte of the owner's memory could not be accessed.
    Missed(Miss),
    /// The copying task cannot access its own memory without a page fault, or it is being killed.
    Stopped,
}
