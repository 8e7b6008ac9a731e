// SPDX-License-Identifier: GPL-2.0-only

//! The capacity of a pipe: its number of slots, and the limits on it.
//!
//! The rules are those of `round_pipe_size()`, `pipe_set_size()` and `alloc_pipe_info()`.

use super::PAGE_SIZE;

/// Slots of a new pipe, as `PIPE_DEF_BUFFERS`.
pub(crate) const DEFAULT_SLOTS: u32 = 16;

/// Slots of a new pipe of a user above the soft limit, as `PIPE_MIN_DEF_BUFFERS`.
const MIN_DEFAULT_SLOTS: u32 = 2;

/// The smallest number of slots that hold `bytes` bytes and is a power of two; at least 1.
///
/// [`None`] above 2^31 bytes, for which the caller returns `EINVAL`.
pub(crate) fn slots_for(bytes: u64) -> Option<u32> {
    if bytes > 1 << 31 {
        return None;
    }
    let pages = bytes.max(1).next_power_of_two() / PAGE_SIZE as u64;

    // CAST: At most 2^19.
    Some(pages.max(1) as u32)
}

/// The limits on pipes of unprivileged users, in slots.
///
/// The parameters of the kernel module set them. For the kernel's own pipes the limits are in
/// `/proc/sys/fs`: `pipe-max-size` in bytes, `pipe-user-pages-soft` and `pipe-user-pages-hard` in
/// pages, one for each slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of slots of one pipe; a power of two.
    pipe: u32,
    /// Soft limit on the slots of all pipes of a user; 0 for no limit. Above it new pipes are
    /// small, and no pipe may grow.
    user_soft: u64,
    /// Hard limit on the slots of all pipes of a user; 0 for no limit. Above it no pipe may be
    /// made, and no pipe may grow.
    user_hard: u64,
}

impl Limits {
    /// Limits of `pipe` bytes for one pipe, and of `user_soft` and `user_hard` slots for all pipes
    /// of a user.
    ///
    /// `pipe` is rounded as a capacity is. [`None`] if no pipe can have that capacity.
    pub(crate) fn new(pipe: u64, user_soft: u64, user_hard: u64) -> Option<Self> {
        Some(Self {
            pipe: slots_for(pipe)?,
            user_soft,
            user_hard,
        })
    }

    /// True if only privileged users may have a pipe of `slots` slots.
    pub(crate) fn above_pipe(&self, slots: u32) -> bool {
        slots > self.pipe
    }

    fn above_soft(&self, user_slots: u64) -> bool {
        self.user_soft != 0 && user_slots > self.user_soft
    }

    fn above_hard(&self, user_slots: u64) -> bool {
        self.user_hard != 0 && user_slots > self.user_hard
    }

    /// True if only privileged users may make a pipe grow so that all their pipes have `user_slots`
    /// slots.
    pub(crate) fn above_user(&self, user_slots: u64) -> bool {
        self.above_soft(user_slots) || self.above_hard(user_slots)
    }

    /// The number of slots of a new pipe. [`None`] if the hard limit forbids a new pipe.
    ///
    /// `count` charges the given number of slots to the user instead of the previous number, and
    /// returns the slots of all pipes of the user. `may_exceed_pipe` and `may_exceed_user` say
    /// whether the user is privileged. They are called only if the answer matters, because the
    /// kernel may record such a check as a use of privileges.
    pub(crate) fn slots_for_new(
        &self,
        may_exceed_pipe: impl Fn() -> bool,
        may_exceed_user: impl Fn() -> bool,
        mut count: impl FnMut(u32) -> u64,
    ) -> Option<u32> {
        let mut slots = DEFAULT_SLOTS;
        if self.above_pipe(slots) && !may_exceed_pipe() {
            slots = self.pipe;
        }

        let mut user_slots = count(slots);
        if self.above_soft(user_slots) && !may_exceed_user() {
            slots = MIN_DEFAULT_SLOTS;
            user_slots = count(slots);
        }
        if self.above_hard(user_slots) && !may_exceed_user() {
            return None;
        }
        Some(slots)
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_capacity))]
mod tests {
    use super::*;
    use core::cell::Cell;

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

    /// The slots of a new pipe whose user has `others` slots in other pipes, and the number last
    /// charged.
    fn new_pipe(limits: Limits, others: u64, privileged: bool) -> (Option<u32>, u32) {
        let mut counted = 0;
        let slots = limits.slots_for_new(
            || privileged,
            || privileged,
            |slots| {
                counted = slots;
                others + u64::from(slots)
            },
        );
        (slots, counted)
    }

    fn limits(pipe: u64, user_soft: u64, user_hard: u64) -> Limits {
        Limits::new(pipe, user_soft, user_hard).unwrap()
    }

    #[test]
    fn the_limit_of_a_pipe_is_rounded_up() {
        for (bytes, slots) in [(0, 1), (5000, 2), (1 << 20, 256), (1 << 31, 1 << 19)] {
            assert!(!limits(bytes, 0, 0).above_pipe(slots));
            assert!(limits(bytes, 0, 0).above_pipe(slots + 1));
        }
        assert!(Limits::new((1 << 31) + 1, 0, 0).is_none());
    }

    #[test]
    fn a_new_pipe_respects_the_limit_of_a_pipe() {
        assert_eq!(new_pipe(limits(8192, 0, 0), 0, false), (Some(2), 2));
        assert_eq!(new_pipe(limits(8192, 0, 0), 0, true), (Some(16), 16));
        assert_eq!(new_pipe(limits(65536, 0, 0), 0, false), (Some(16), 16));
    }

    #[test]
    fn the_soft_limit_shrinks_new_pipes_of_ordinary_users() {
        let soft = limits(1 << 20, 100, 0);
        assert_eq!(new_pipe(soft, 84, false), (Some(16), 16));
        assert_eq!(new_pipe(soft, 85, false), (Some(2), 2));
        assert_eq!(new_pipe(soft, 85, true), (Some(16), 16));
        assert_eq!(new_pipe(soft, 1000, false), (Some(2), 2));
    }

    #[test]
    fn the_hard_limit_refuses_new_pipes_of_ordinary_users() {
        let hard = limits(1 << 20, 0, 100);
        assert_eq!(new_pipe(hard, 84, false), (Some(16), 16));
        assert_eq!(new_pipe(hard, 85, false).0, None);
        assert_eq!(new_pipe(hard, 85, true), (Some(16), 16));
    }

    #[test]
    fn the_hard_limit_counts_slots_after_the_soft_one() {
        let both = limits(1 << 20, 50, 100);
        assert_eq!(new_pipe(both, 98, false), (Some(2), 2));
        assert_eq!(new_pipe(both, 99, false).0, None);
    }

    #[test]
    fn privileges_are_checked_only_above_the_limits() {
        let asked = Cell::new(false);
        let ask = || {
            asked.set(true);
            false
        };
        let both = limits(65536, 100, 100);
        assert_eq!(both.slots_for_new(ask, ask, |_| 100), Some(16));
        assert!(!asked.get());
        assert_eq!(both.slots_for_new(ask, ask, |_| 101), None);
        assert!(asked.get());
    }

    #[test]
    fn both_limits_apply_to_growing() {
        assert!(!limits(0, 0, 0).above_user(u64::MAX));
        for both in [limits(0, 100, 0), limits(0, 0, 100), limits(0, 100, 200)] {
            assert!(!both.above_user(100));
            assert!(both.above_user(101));
        }
    }
}
