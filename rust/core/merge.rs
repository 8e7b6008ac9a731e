// SPDX-License-Identifier: GPL-2.0-only

//! Where the first bytes of a write go.
//!
//! A pipe has slots, not bytes: a write fills new slots of a page each, except that the odd bytes
//! of a write, those beyond whole pages, are appended to the last slot when they fit. It follows
//! `anon_pipe_write()`.

use super::PAGE_SIZE;

/// What the last slot of a pipe says about being appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSlot {
    /// Offset in its page of the first byte behind its data.
    pub(crate) end: usize,
    /// Whether it may be appended to. A packet and a page that is not the pipe's own may not.
    pub(crate) mergeable: bool,
}

/// How many bytes, from the front, of a write of `total` bytes are appended to the last slot.
///
/// [`None`] when the write starts with a new slot. `last` is [`None`] for an empty pipe. Never
/// zero and always less than a page.
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
    fn packets_are_left_alone() {
        let packet = Some(LastSlot {
            end: 10,
            mergeable: false,
        });
        assert_eq!(merge_len(10, packet), None);
    }
}
