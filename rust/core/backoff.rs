// SPDX-License-Identifier: GPL-2.0-only

//! When a task that has to wait looks around for a moment before it goes to sleep.
//!
//! A sleep and the wakeup out of it cost both sides more than most transfers. So who waits spins
//! first, for a short time, as long as that mostly succeeds; where the other side is slower than
//! that, it is tried ever less often. The idea is that of `halt_poll_ns` in `virt/kvm/kvm_main.c`.

/// How a place to wait has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Spins in a row that were in vain, at most [`Self::MOST`].
    failures: u32,
    /// Waits that still go to sleep at once.
    skip: u32,
}

impl Backoff {
    /// After so many failures in a row, one wait in 2^6 spins.
    const MOST: u32 = 6;

    /// Whether this wait is to spin first; counts it if not.
    pub(crate) fn spins(&mut self) -> bool {
        let spins = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        spins
    }

    /// Notes what came of a spin.
    pub(crate) fn note(&mut self, success: bool) {
        if success {
            *self = Self::default();
        } else {
            self.failures = (self.failures + 1).min(Self::MOST);
            self.skip = (1 << self.failures) - 1;
        }
    }

    /// In one word.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.failures) | u64::from(self.skip) << 32
    }

    /// Out of one word.
    pub(crate) fn unpack(word: u64) -> Self {
        // CAST: Of 32 bits each.
        Self {
            failures: (word as u32).min(Self::MOST),
            skip: (word >> 32) as u32,
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_backoff))]
mod tests {
    use super::*;

    /// Of `waits` waits, how many spin if none of it helps.
    fn spins_in_vain(backoff: &mut Backoff, waits: u32) -> u32 {
        let mut spins = 0;
        for _ in 0..waits {
            if backoff.spins() {
                backoff.note(false);
                spins += 1;
            }
        }
        spins
    }

    #[test]
    fn success_spins_each_time() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.spins());
            backoff.note(true);
        }
    }

    #[test]
    fn failure_spins_ever_less_often() {
        let mut backoff = Backoff::default();
        // 1 and then each 2, 4, 8, 16, 32, 64 waits later.
        assert_eq!(spins_in_vain(&mut backoff, 1 + 2 + 4 + 8 + 16 + 32), 6);
        assert_eq!(spins_in_vain(&mut backoff, 64 * 100), 100);
    }

    #[test]
    fn one_success_forgives_all() {
        let mut backoff = Backoff::default();
        spins_in_vain(&mut backoff, 1000);
        assert!((0..64).any(|_| backoff.spins()));
        backoff.note(true);
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn packs() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            assert_eq!(Backoff::unpack(backoff.pack()), backoff);
            spins_in_vain(&mut backoff, 1);
        }
        // A word that nobody packed does no harm.
        let mut odd = Backoff::unpack(u64::MAX);
        odd.note(false);
        assert_eq!(odd.failures, Backoff::MOST);
    }
}
