// SPDX-License-Identifier: GPL-2.0-only

//! Which sizes of an extensible struct are taken, and how.
//!
//! The rules are those of `copy_struct_from_user()` and of openat2(2).

use super::PAGE_SIZE;

/// How a struct from user space is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes to copy; what the kernel knows beyond them is zero.
    pub(crate) copy: usize,
    /// Bytes behind them that must be zero, else `E2BIG`.
    pub(crate) tail: usize,
}

/// Why a size is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSize {
    /// Shorter than the struct was when first published: `EINVAL`.
    TooShort,
    /// Longer than a page: `E2BIG`.
    TooLong,
}

/// How to read a struct whose user says it has `size` bytes.
///
/// `first` is the size it had when first published, `known` the one it has now.
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
    fn an_older_struct_is_copied_as_far_as_it_goes() {
        assert_eq!(layout(16, 16, 24), Ok(Layout { copy: 16, tail: 0 }));
    }

    #[test]
    fn a_newer_struct_has_a_tail_to_check() {
        assert_eq!(layout(40, 16, 24), Ok(Layout { copy: 24, tail: 16 }));
    }

    #[test]
    fn sizes_outside_are_refused() {
        assert_eq!(layout(15, 16, 24), Err(BadSize::TooShort));
        assert_eq!(layout(0, 16, 24), Err(BadSize::TooShort));
        assert_eq!(layout(PAGE_SIZE + 1, 16, 24), Err(BadSize::TooLong));
        assert!(layout(PAGE_SIZE, 16, 24).is_ok());
    }
}
