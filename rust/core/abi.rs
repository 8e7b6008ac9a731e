// SPDX-License-Identifier: GPL-2.0-only

//! Sizes of extensible structs: which ones are accepted, and how a struct of that size is read.
//!
//! The rules are those of `copy_struct_from_user()` and of openat2(2).

use super::PAGE_SIZE;

/// The layout of a struct in user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes to copy. If this is less than the kernel module's struct, the rest of that struct is
    /// zero.
    pub(crate) copy: usize,
    /// Bytes after the copied ones. They must be zero, else the call fails with `E2BIG`.
    pub(crate) tail: usize,
}

/// The reason why a size is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSize {
    /// Shorter than the struct when it was first published: `EINVAL`.
    TooShort,
    /// Longer than a page: `E2BIG`.
    TooLong,
}

/// Returns the layout of a struct that has `size` bytes according to user space.
///
/// `first` is the size of the struct when it was first published, `known` its size now.
pub(crate) fn layout(size: usize, first: usize, known: usize) -> Result<Layout, BadSize> {
    if size < first {
        Err(BadSize::TooShort)
    } else if size > PAGE_SIZE {
        Err(BadSize::TooLong)
    } else {
        Ok(Layout {
            copy: size.min(known),
            tail: size.saturating_sub(known),
        })
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_abi))]
mod tests {
    use super::*;

    #[test]
    fn the_exact_size_is_copied() {
        assert_eq!(layout(16, 16, 16), Ok(Layout { copy: 16, tail: 0 }));
    }

    #[test]
    fn an_older_struct_is_copied_whole() {
        assert_eq!(layout(16, 16, 24), Ok(Layout { copy: 16, tail: 0 }));
    }

    #[test]
    fn a_newer_struct_has_a_tail_to_check() {
        assert_eq!(layout(40, 16, 24), Ok(Layout { copy: 24, tail: 16 }));
    }

    #[test]
    fn too_short_and_too_long_sizes_are_refused() {
        assert_eq!(layout(15, 16, 24), Err(BadSize::TooShort));
        assert_eq!(layout(0, 16, 24), Err(BadSize::TooShort));
        assert_eq!(layout(PAGE_SIZE + 1, 16, 24), Err(BadSize::TooLong));
        assert!(layout(PAGE_SIZE, 16, 24).is_ok());
    }
}
