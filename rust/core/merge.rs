// SPDX-License-Identifier: GPL-2.0-only

//! Merging: which bytes of a write are appended to the last slot.
//!
//! A write fills new slots, each with at most a page. Its odd bytes are the exception: those beyond
//! whole pages. They come first, and are appended to the last slot if they fit there. The rule is
//! that of `anon_pipe_write()`.

use super::PAGE_SIZE;

/// The last used slot of a pipe, as merging sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSlot {
    /// Offset in the page of the slot where its data ends.
    pub(crate) end: usize,
    /// True if bytes may be appended: the slot is part of a stream, in a page of the pipe's own.
    pub(crate) mergeable: bool,
}

/// The number of bytes of a write of `total` bytes that are appended to the last slot.
///
/// They are the first bytes of the write. The number is not zero, and less than a page. [`None`] if
/// the write begins with a new slot. `last` is [`None`] if nothing can be appended, as in an empty
/// pipe.
pub(crate) fn merge_len(total: usize, last: Option<LastSlot>) -> Option<usize> {
    let odd = total % PAGE_SIZE;
    let last = last?;

    (odd != 0 && last.mergeable && last.end + odd <= PAGE_SIZE).then_some(odd)
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_merge))]
mod tests {
    use super::*;

    const fn at(end: usize) -> Option<LastSlot> {
        Some(LastSlot {
            end,
            mergeable: true,
        })
    }

    #[test]
    fn empty_pipe_never_merges() {
        assert_eq!(merge_len(1, None), None);
    }

    #[test]
    fn whole_pages_never_merge() {
        assert_eq!(merge_len(PAGE_SIZE, at(0)), None);
        assert_eq!(merge_len(4 * PAGE_SIZE, at(1)), None);
    }

    #[test]
    fn odd_bytes_merge_up_to_the_end_of_the_page() {
        assert_eq!(merge_len(1, at(PAGE_SIZE - 1)), Some(1));
        assert_eq!(merge_len(2, at(PAGE_SIZE - 1)), None);
        assert_eq!(merge_len(100, at(PAGE_SIZE)), None);
    }

    #[test]
    fn a_large_write_merges_its_odd_bytes_only() {
        assert_eq!(merge_len(3 * PAGE_SIZE + 17, at(4000)), Some(17));
    }

    #[test]
    fn nothing_is_appended_to_a_packet() {
        let packet = Some(LastSlot {
            end: 10,
            mergeable: false,
        });
        assert_eq!(merge_len(10, packet), None);
    }
}
