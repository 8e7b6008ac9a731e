// SPDX-License-Identifier: GPL-2.0-only

//! Decides when a task that has to wait spins for a short time before it sleeps.
//!
//! A sleep and the wakeup from it cost both sides more than most transfers. So a task spins first,
//! as long as its spins mostly succeed. After each spin without success, the next waits sleep at
//! once, and their number doubles. The idea is that of `halt_poll_ns` in `virt/kvm/kvm_main.c`.

/// How well spinning has worked on one wait queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Spins without success in a row, at most [`Self::MAX`].
    failures: u32,
    /// Number of next waits that sleep at once.
    skip: u32,
}

impl Backoff {
    /// The maximum of `failures`: then one wait in 2^6 spins.
    const MAX: u32 = 6;

    /// True if this wait is to spin first. Otherwise counts the wait as one that sleeps at once.
    pub(crate) fn spins(&mut self) -> bool {
        let spins = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        spins
    }

    /// Records whether a spin succeeded.
    pub(crate) fn note(&mut self, success: bool) {
        if success {
            *self = Self::default();
        } else {
            self.failures = (self.failures + 1).min(Self::MAX);
            self.skip = (1 << self.failures) - 1;
        }
    }

    /// Packs the fields into one word.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.failures) | u64::from(self.skip) << 32
    }

    /// Unpacks a word. The number of failures is limited, because `word` may come from anywhere.
    pub(crate) fn unpack(word: u64) -> Self {
        // CAST: Each field has 32 bits.
        Self {
            failures: (word as u32).min(Self::MAX),
            skip: (word >> 32) as u32,
        }
    }
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_backoff))]
mod tests {
    use super::*;

    /// Makes `waits` waits whose spins never succeed. Returns how many of them spin.
    fn failed_spins(backoff: &mut Backoff, waits: u32) -> u32 {
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
    fn each_wait_spins_while_spins_succeed() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.spins());
            backoff.note(true);
        }
    }

    #[test]
    fn failed_spins_make_spins_rarer() {
        let mut backoff = Backoff::default();
        // One spins at first. The next ones spin 2, 4, 8, 16, 32 and 64 waits later.
        assert_eq!(failed_spins(&mut backoff, 1 + 2 + 4 + 8 + 16 + 32), 6);
        assert_eq!(failed_spins(&mut backoff, 64 * 100), 100);
    }

    #[test]
    fn one_success_resets_the_backoff() {
        let mut backoff = Backoff::default();
        failed_spins(&mut backoff, 1000);
        assert!((0..64).any(|_| backoff.spins()));
        backoff.note(true);
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn pack_and_unpack_are_inverse() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            assert_eq!(Backoff::unpack(backoff.pack()), backoff);
            failed_spins(&mut backoff, 1);
        }
        // A word that `pack()` did not make is harmless.
        let mut odd = Backoff::unpack(u64::MAX);
        odd.note(false);
        assert_eq!(odd.failures, Backoff::MAX);
    }
}
