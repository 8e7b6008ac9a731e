// SPDX-License-Identifier: GPL-2.0-only

//! The limits on direct transfers: the module parameters `direct_min` and `direct_max`.

use crate::{sync::Word, zcore::PAGE_SIZE};

/// The value of [`min_bytes`].
static MIN_BYTES: Word = Word::new(0);

/// The value of [`max_bytes`].
static MAX_BYTES: Word = Word::new(0);

/// Sets both limits, in bytes. Called once, before any pipe exists.
pub(crate) fn set_limits(min: u32, max: u32) {
    MIN_BYTES.write(u64::from(min).max(PAGE_SIZE as u64 + 1));
    MAX_BYTES.write(u64::from(max).clamp(PAGE_SIZE as u64, 16 << 20));
}

/// The minimum number of bytes that a task posts. For less, a second copy costs less than posting.
///
/// It is more than PIPE_BUF, because writes of at most PIPE_BUF bytes are atomic.
pub(crate) fn min_bytes() -> usize {
    // CAST: Of a u32.
    MIN_BYTES.read() as usize
}

/// The maximum number of bytes that one call transfers directly. Other tasks wait for the inner
/// lock meanwhile.
pub(crate) fn max_bytes() -> usize {
    // CAST: Of a u32.
    MAX_BYTES.read() as usize
}
