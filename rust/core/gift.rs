// SPDX-License-Identifier: GPL-2.0-only

//! Rules of gifts and moves: how memory is split into pieces, what is reported, and when a gift
//! costs less than a copy.

use super::PAGE_SIZE;

/// Bytes of a huge page.
pub(crate) const HUGE_SIZE: usize = 512 * PAGE_SIZE;

/// A gift may enter a pipe that has fewer huge pages and frames than this. The limit is small,
/// because gifts are charged to no memory cgroup.
pub(crate) const HUGE_MAX: u64 = 4;

/// A committed frame may enter a pipe that has fewer huge pages and frames than this. Frames are
/// charged to the memory cgroup of the task that allocated them.
pub(crate) const FRAMES_MAX: u64 = 8;

/// A piece of the memory that a writer gifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole, aligned huge page.
    Whole,
    /// This number of bytes that contain no whole huge page. They end where a whole huge page
    /// begins, or at the end of the memory.
    Part(usize),
}

/// The first piece of the `bytes` bytes at address `at`. [`None`] if `bytes` is 0.
pub(crate) fn next_piece(at: usize, bytes: usize) -> Option<Piece> {
    if bytes == 0 {
        return None;
    }
    let before = at.wrapping_neg() % HUGE_SIZE;

    Some(if before == 0 && bytes >= HUGE_SIZE {
        Piece::Whole
    } else if before == 0 || bytes <= before {
        Piece::Part(bytes)
    } else if bytes - before < HUGE_SIZE {
        // No whole huge page follows.
        Piece::Part(bytes)
    } else {
        Piece::Part(before)
    })
}

/// Finds the whole 4 KiB pages in the `bytes` bytes at address `at`.
///
/// Returns the number of bytes before the first such page, and the number of such pages.
pub(crate) fn small_pages(at: usize, bytes: usize) -> (usize, usize) {
    let before = (at.wrapping_neg() % PAGE_SIZE).min(bytes);

    (before, (bytes - before) / PAGE_SIZE)
}

/// The number of reasons for a copy. The ABI numbers the reasons.
pub(crate) const REASONS: usize = 16;

/// The report of a call that gifts or moves pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Bytes of pages that were gifted or moved.
    pub(crate) moved: u64,
    /// Bytes that were copied.
    pub(crate) copied: u64,
    /// For each reason, the number of copied pieces of at most one huge page.
    pub(crate) why: [u32; REASONS],
}

impl Report {
    /// Bytes that were transferred in all.
    pub(crate) fn done(&self) -> u64 {
        self.moved + self.copied
    }

    /// Counts `bytes` bytes of pages that were gifted or moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// Counts `bytes` bytes that were copied because of `reason`. Zero bytes count as no piece.
    pub(crate) fn copied(&mut self, bytes: usize, reason: usize) {
        // CAST: One call transfers at most MAX_RW_COUNT bytes, so the pieces are few.
        let pieces = bytes.div_ceil(HUGE_SIZE) as u32;

        self.copied += bytes as u64;
        if let Some(count) = self.why.get_mut(reason) {
            *count = count.saturating_add(pieces);
        }
    }
}

/// How the last huge page of a pipe was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// No huge page was gifted yet.
    #[default]
    None,
    /// No reader has read it yet.
    Unread,
    /// A reader moved it.
    Moved,
    /// A reader copied from it.
    Copied,
}

/// Decides whether a gift that needs a cleared replacement costs less than a copy.
///
/// To clear a replacement costs most of what a copy costs. The gift costs less if the reader then
/// moves the page and so saves the copy. If readers copy, gifts cost less only with replacements
/// that need not be cleared. Such a replacement is a page that was gifted before, so some pages
/// have to be gifted first. Therefore each [`Self::PRICE`] gifts without clearing allow one gift
/// with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CostPolicy {
    last: Last,
    /// Gifts without clearing since a replacement was last cleared for readers that copy.
    saved: u32,
}

impl CostPolicy {
    /// The number of gifts without clearing that allow one cleared replacement, if readers copy.
    const PRICE: u32 = 8;

    /// True if a page may be gifted whose replacement has to be cleared first.
    pub(crate) fn may_clear(self) -> bool {
        match self.last {
            Last::None | Last::Moved => true,
            Last::Unread | Last::Copied => self.saved >= Self::PRICE,
        }
    }

    /// Counts a gift whose replacement was cleared.
    pub(crate) fn cleared(&mut self) {
        match self.last {
            Last::None => self.last = Last::Unread,
            Last::Moved => (),
            Last::Unread | Last::Copied => self.saved = 0,
        }
    }

    /// Counts a gift whose replacement did not have to be cleared.
    pub(crate) fn reused(&mut self) {
        self.saved = self.saved.saturating_add(1);
    }

    /// Records that a reader moved a page.
    pub(crate) fn moved_in(&mut self) {
        self.last = Last::Moved;
    }

    /// Records that a reader copied from a page.
    pub(crate) fn copied(&mut self) {
        self.last = Last::Copied;
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_gift))]
mod tests {
    use super::*;

    const H: usize = HUGE_SIZE;

    /// True if the range is split into `pieces`: their lengths, with 0 for a whole huge page.
    fn cut(mut at: usize, mut bytes: usize, pieces: &[usize]) -> bool {
        for piece in pieces {
            let step = match next_piece(at, bytes) {
                Some(Piece::Whole) if *piece == 0 => H,
                Some(Piece::Part(part)) if part == *piece => part,
                _ => return false,
            };
            at += step;
            bytes -= step;
        }
        next_piece(at, bytes).is_none()
    }

    #[test]
    fn whole_huge_pages_are_found() {
        assert!(cut(H, 0, &[]));
        assert!(cut(H, H, &[0]));
        assert!(cut(3 * H, 2 * H, &[0, 0]));
        assert!(cut(H, 2 * H + 1, &[0, 0, 1]));
        assert!(cut(H - 1, H + 1, &[1, 0]));
        assert!(cut(H + 8, 3 * H, &[H - 8, 0, 0, 8]));
    }

    #[test]
    fn memory_without_a_whole_page_is_one_piece() {
        assert!(cut(H, H - 1, &[H - 1]));
        assert!(cut(H + 1, H, &[H]));
        assert!(cut(H - 1, H, &[H]));
        assert!(cut(H + 1, 2 * H - 2, &[2 * H - 2]));
        assert!(cut(H + 1, 2 * H - 1, &[H - 1, 0]));
    }

    #[test]
    fn the_last_addresses_do_not_wrap() {
        assert_eq!(next_piece(usize::MAX - 7, 8), Some(Piece::Part(8)));
        assert_eq!(next_piece(0, H), Some(Piece::Whole));
    }

    #[test]
    fn whole_small_pages_are_found() {
        const P: usize = PAGE_SIZE;
        assert_eq!(small_pages(P, 0), (0, 0));
        assert_eq!(small_pages(P, P - 1), (0, 0));
        assert_eq!(small_pages(P, P), (0, 1));
        assert_eq!(small_pages(P - 1, P), (1, 0));
        assert_eq!(small_pages(P - 1, P + 1), (1, 1));
        assert_eq!(small_pages(1, P - 2), (P - 2, 0));
        assert_eq!(small_pages(1, 3 * P), (P - 1, 2));
        assert_eq!(small_pages(usize::MAX, 1), (1, 0));
    }

    #[test]
    fn a_report_counts_pieces() {
        let mut report = Report::default();
        report.moved(H);
        report.copied(1, 0);
        report.copied(0, 1);
        report.copied(2 * H + 1, 2);
        assert_eq!(report.moved, H as u64);
        assert_eq!(report.copied, 2 * H as u64 + 2);
        assert_eq!(report.done(), 3 * H as u64 + 2);
        assert_eq!(report.why[..4], [1, 0, 3, 0]);
    }

    #[test]
    fn one_page_is_gifted_to_see_how_it_is_read() {
        let mut cost = CostPolicy::default();
        assert!(cost.may_clear());
        cost.cleared();
        assert!(!cost.may_clear());
        cost.copied();
        assert!(!cost.may_clear());
        cost.moved_in();
        assert!(cost.may_clear());
        cost.cleared();
        assert!(cost.may_clear());
        cost.copied();
        assert!(!cost.may_clear());
    }

    #[test]
    fn reused_pages_pay_for_one_cleared_page() {
        let mut cost = CostPolicy::default();
        cost.cleared();
        cost.copied();
        for _ in 0..CostPolicy::PRICE {
            assert!(!cost.may_clear());
            cost.reused();
        }
        assert!(cost.may_clear());
        cost.cleared();
        assert!(!cost.may_clear());
    }

    #[test]
    fn gifts_leave_space_for_frames() {
        // Both limits count huge pages and frames.
        assert_eq!(HUGE_MAX.max(FRAMES_MAX), FRAMES_MAX);
    }
}
