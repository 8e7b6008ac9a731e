// SPDX-License-Identifier: GPL-2.0-only

//! Merging: which bytes of a write are appended to the last slot.
//!
//! A write fills new slots, each with at most a page. Its odd bytes are the exception: those beyond
//! whole pages. They come first, and are appended to the last slot if they fit there. The rule is
//! that of `anon_pipe_write()`.

use super::PAGE_SIZE;

/// The number of bytes of a write of `total` bytes that are appended to the last slot.
///
/// They are the first bytes of the write. The number is not zero, and less than a page. [`None`] if
/// the write begins with a new slot. `last` is the offset in the page of the last slot where its
/// data ends. It is [`None`] if nothing can be appended, as in an empty pipe, or to a packet.
pub(crate) fn merge_len(total: usize, last: Option<usize>) -> Option<usize> {
    let odd = total % PAGE_SIZE;
    let end = last?;

    (odd != 0 && end + odd <= PAGE_SIZE).then_some(odd)
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_merge))]
mod tests {
    use super::*;

    #[test]
    fn empty_pipe_never_merges() {
        assert_eq!(merge_len(1, None), None);
    }

    #[test]
    fn whole_pages_never_merge() {
        assert_eq!(merge_len(PAGE_SIZE, Some(0)), None);
        assert_eq!(merge_len(4 * PAGE_SIZE, Some(1)), None);
    }

    #[test]
    fn odd_bytes_merge_up_to_the_end_of_the_page() {
        assert_eq!(merge_len(1, Some(PAGE_SIZE - 1)), Some(1));
        assert_eq!(merge_len(2, Some(PAGE_SIZE - 1)), None);
        assert_eq!(merge_len(100, Some(PAGE_SIZE)), None);
    }

    #[test]
    fn a_large_write_merges_its_odd_bytes_only() {
        assert_eq!(merge_len(3 * PAGE_SIZE + 17, Some(4000)), Some(17));
    }
}
