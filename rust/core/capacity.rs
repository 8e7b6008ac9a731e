// SPDX-License-Identifier: GPL-2.0-only

//! How many slots a pipe has.
//!
//! It follows `round_pipe_size()`, `pipe_set_size()` and `alloc_pipe_info()`.

use super::PAGE_SIZE;

/// Slots of a new pipe, `PIPE_DEF_BUFFERS`.
pub(crate) const DEFAULT_SLOTS: u32 = 16;

/// Slots of a new pipe of a user who has too many already, `PIPE_MIN_DEF_BUFFERS`.
const MIN_DEFAULT_SLOTS: u32 = 2;

/// Bytes up to which anybody may grow a pipe, the default of `/proc/sys/fs/pipe-max-size`.
const MAX_UNPRIVILEGED: u64 = 1 << 20;

/// Slots in all pipes of a user from which on new pipes are small, the default of
/// `/proc/sys/fs/pipe-user-pages-soft`.
const USER_SLOTS_SOFT: u64 = DEFAULT_SLOTS as u64 * 1024;

/// The number of slots that hold at least `bytes` bytes.
///
/// At least one, a power of two. [`None`] above 2^31 bytes, which is `EINVAL`.
pub(crate) fn slots_for(bytes: u64) -> Option<u32> {
    if bytes > 1 << 31 {
        return None;
    }
    let pages = bytes.max(1).next_power_of_two() / PAGE_SIZE as u64;

    // At most 2^19, so the cast keeps the value.
    Some(pages.max(1) as u32)
}

/// Whether so many slots in one pipe are for the privileged only.
pub(crate) fn above_pipe_limit(slots: u32) -> bool {
    u64::from(slots) * PAGE_SIZE as u64 > MAX_UNPRIVILEGED
}

/// Whether so many slots in all pipes of a user are for the privileged only.
pub(crate) fn above_user_limit(user_slots: u64) -> bool {
    user_slots > USER_SLOTS_SOFT
}

/// The number of slots of a new pipe.
///
/// `user_slots` is what the user's pipes have in all, the new one at its default included.
pub(crate) fn slots_for_new(user_slots: u64, privileged: bool) -> u32 {
    if above_user_limit(user_slots) && !privileged {
        MIN_DEFAULT_SLOTS
    } else {
        DEFAULT_SLOTS
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_capacity))]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_a_power_of_two_pages() {
        for (bytes, slots) in [
            (0, 1),
            (1, 1),
            (4096, 1),
            (4097, 2),
            (3 * 4096, 4),
            (65536, 16),
            (65537, 32),
            (1 << 20, 256),
            (1 << 31, 1 << 19),
        ] {
            assert_eq!((bytes, slots_for(bytes)), (bytes, Some(slots)));
        }
    }

    #[test]
    fn sizes_above_two_gib_are_refused() {
        assert_eq!(slots_for((1 << 31) + 1), None);
        assert_eq!(slots_for(u64::MAX), None);
    }

    #[test]
    fn a_mebibyte_is_for_everybody() {
        assert!(!above_pipe_limit(256));
        assert!(above_pipe_limit(512));
    }

    #[test]
    fn the_soft_limit_shrinks_new_pipes_of_ordinary_users() {
        assert_eq!(slots_for_new(USER_SLOTS_SOFT, false), DEFAULT_SLOTS);
        assert_eq!(slots_for_new(USER_SLOTS_SOFT + 1, false), MIN_DEFAULT_SLOTS);
        assert_eq!(slots_for_new(USER_SLOTS_SOFT + 1, true), DEFAULT_SLOTS);
    }
}
