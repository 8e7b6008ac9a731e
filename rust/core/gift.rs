// SPDX-License-Identifier: GPL-2.0-only

//! How memory that is gifted is cut into pieces, and what is told of them.

use super::PAGE_SIZE;

/// Bytes of a huge page.
pub(crate) const HUGE_SIZE: usize = 512 * PAGE_SIZE;

/// The next piece of a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole huge page.
    Whole,
    /// So many bytes that are none: up to where one begins, or to the end.
    Part(usize),
}

/// The first piece of the `bytes` bytes at `at`; [`None`] if there are no bytes.
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
        // No whole one comes.
        Piece::Part(bytes)
    } else {
        Piece::Part(before)
    })
}

/// Of the `bytes` bytes at `at`, how many come before the first whole small page, and how many such pages
/// there are.
pub(crate) fn small_pages(at: usize, bytes: usize) -> (usize, usize) {
    let before = (at.wrapping_neg() % PAGE_SIZE).min(bytes);

    (before, (bytes - before) / PAGE_SIZE)
}

/// The reasons there can be, by their numbers in the ABI.
pub(crate) const REASONS: usize = 16;

/// What became of the pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Bytes of pages that were moved.
    pub(crate) moved: u64,
    /// Bytes that were copied.
    pub(crate) copied: u64,
    /// Pieces of at most a huge page that were copied, by the reason.
    pub(crate) why: [u32; REASONS],
}

impl Report {
    /// All bytes.
    pub(crate) fn done(&self) -> u64 {
        self.moved + self.copied
    }

    /// Pages of `bytes` bytes were moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// `bytes` bytes were copied, since a huge page could not be moved for this `reason`. Nothing is
    /// told of no bytes.
    pub(crate) fn copied(&mut self, bytes: usize, reason: usize) {
        // CAST: A range of memory has less than 2^48 bytes.
        let pieces = bytes.div_ceil(HUGE_SIZE) as u32;

        self.copied += bytes as u64;
        if let Some(count) = self.why.get_mut(reason) {
            *count = count.saturating_add(pieces);
        }
    }
}

/// What became of the last huge page of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// There was none.
    #[default]
    None,
    /// It is not read yet.
    Unread,
    /// It came into a reader's memory.
    Landed,
    /// It was copied.
    Copied,
}

/// When a huge page is worth taking.
///
/// To clear a page that takes its place costs most of what a copy does: it is worth it where readers
/// save the copy. Where they do not, pages that go round need no clearing, but there have to be some:
/// what they have saved pays for one more, now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Worth {
    last: Last,
    /// Pages that were not cleared, since one was that nobody landed.
    saved: u32,
}

impl Worth {
    /// Pages that went round for each one that is cleared for readers who copy.
    const PRICE: u32 = 8;

    /// Whether to take a page that one of zeros replaces, which is to be cleared for that.
    pub(crate) fn may_clear(self) -> bool {
        match self.last {
            Last::None | Last::Landed => true,
            Last::Unread | Last::Copied => self.saved >= Self::PRICE,
        }
    }

    /// A page was taken, and replaced by one of zeros.
    pub(crate) fn cleared(&mut self) {
        match self.last {
            Last::None => self.last = Last::Unread,
            Last::Landed => (),
            Last::Unread | Last::Copied => self.saved = 0,
        }
    }

    /// A page was taken, and replaced by one that went round.
    pub(crate) fn reused(&mut self) {
        self.saved = self.saved.saturating_add(1);
    }

    /// A page came into a reader's memory.
    pub(crate) fn landed(&mut self) {
        self.last = Last::Landed;
    }

    /// A page was copied to a reader's memory.
    pub(crate) fn copied(&mut self) {
        self.last = Last::Copied;
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_gift))]
mod tests {
    use super::*;

    const H: usize = HUGE_SIZE;

    /// The pieces of a range: how long each is, whole ones as 0.
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
    fn whole_pages_are_cut_out() {
        assert!(cut(H, 0, &[]));
        assert!(cut(H, H, &[0]));
        assert!(cut(3 * H, 2 * H, &[0, 0]));
        assert!(cut(H, 2 * H + 1, &[0, 0, 1]));
        assert!(cut(H - 1, H + 1, &[1, 0]));
        assert!(cut(H + 8, 3 * H, &[H - 8, 0, 0, 8]));
    }

    #[test]
    fn what_holds_no_whole_page_is_one_piece() {
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
    fn small_pages_are_cut_out() {
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
    fn one_page_is_tried() {
        let mut worth = Worth::default();
        assert!(worth.may_clear());
        worth.cleared();
        assert!(!worth.may_clear());
        worth.copied();
        assert!(!worth.may_clear());
        worth.landed();
        assert!(worth.may_clear());
        worth.cleared();
        assert!(worth.may_clear());
        worth.copied();
        assert!(!worth.may_clear());
    }

    #[test]
    fn what_goes_round_pays_for_one_more() {
        let mut worth = Worth::default();
        worth.cleared();
        worth.copied();
        for _ in 0..Worth::PRICE {
            assert!(!worth.may_clear());
            worth.reused();
        }
        assert!(worth.may_clear());
        worth.cleared();
        assert!(!worth.may_clear());
    }
}
