// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ranges of memory.

use std::ops::{Bound, RangeBounds};

/// Returns the start and the length of a range, if it is within `len`.
pub(crate) fn bounds(range: impl RangeBounds<usize>, len: usize) -> Option<(usize, usize)> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.checked_add(1)?,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    let bytes = end.checked_sub(start)?;
    (end <= len).then_some((start, bytes))
}
