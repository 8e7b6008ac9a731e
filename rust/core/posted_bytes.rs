// SPDX-License-Identifier: GPL-2.0-only

//! The rules of posted writes: their byte counts, and when an owner must withdraw or may post.
//!
//! A posted write is a blocked write from whose memory readers may copy. A pipe has at most one,
//! behind all used slots. While it is pullable, the pipe counts as full. To other tasks the pipe
//! looks like a pipe(2) whose writer has filled the slots and waits to write more. So the counts
//! say how many slots the bytes would use. A posted write that is not pullable, because all was
//! pulled or because it is closed, does not occupy the pipe. Other writers find free slots at once,
//! whether its owner has withdrawn it or not.
//!
//! The *owner* is the task that posted the write. It waits until one of these conditions holds:
//!
//! * It must withdraw the posted write ([`PostedBytes::must_withdraw`]), because
//!   - the rest fits into free slots, which is the point at which a write to a pipe(2) returns, or
//!     nothing is left, because readers have pulled all of it;
//!   - the posted write is closed: a reader missed, or the pipe became buffer-only or got a read
//!     window. Only the owner may fault in the page that was missed;
//!   - the posted write was recalled.
//! * No file is open for reading any more.
//! * The owner has a signal.
//!
//! [`State::owner_ready`](super::state::State::owner_ready) tests the first two. Then the owner
//! withdraws the posted write and goes on like any writer: it fills the slots that are free. Until
//! then it may extend the posted write by further resident memory.
//!
//! Writers share a pipe. While other writers wait, readers pull at most a *share* of one posted
//! write. Then the pipe recalls the posted write, and its owner queues behind the others
//! ([`Standing`]). Until the owner withdraws it, readers can pull the bytes that were announced at
//! the recall: as many as the free slots would hold. Readers of a pipe(2), too, could read what its
//! slots hold. After these bytes the posted write does not occupy the pipe.

use super::PAGE_SIZE;

/// The byte counts of a posted write. They change only under the inner lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PostedBytes {
    /// Bytes that are not pulled.
    left: usize,
    /// The slot offset of the next byte, less than a page.
    slot_offset: usize,
    /// Bytes pulled since the write was posted.
    pulled: usize,
    /// The maximum of bytes that readers may still pull. There is no limit until the recall.
    allowance: usize,
    /// Nothing can be pulled any more: a reader missed, or all bytes have to go through slots.
    closed: bool,
    /// The owner must withdraw the posted write, because of its share or the flags of its file.
    recalled: bool,
}

impl PostedBytes {
    /// The counts for a post of `bytes` bytes, of which the first one has the given slot offset.
    pub(crate) fn new(bytes: usize, slot_offset: usize) -> Self {
        Self {
            left: bytes,
            slot_offset: slot_offset % PAGE_SIZE,
            pulled: 0,
            allowance: usize::MAX,
            closed: false,
            recalled: false,
        }
    }

    /// Bytes that are not pulled, whether readers may pull them or not.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// The slot offset of the next byte.
    pub(crate) fn slot_offset(&self) -> usize {
        self.slot_offset
    }

    /// Bytes that readers may pull, unless the posted write is closed.
    pub(crate) fn available(&self) -> usize {
        self.left.min(self.allowance)
    }

    /// True if readers can pull something. Then the pipe counts as full.
    pub(crate) fn pullable(&self) -> bool {
        self.available() != 0 && !self.closed
    }

    /// The number of slots that the pullable bytes would use.
    pub(crate) fn slots(&self) -> usize {
        if self.pullable() {
            (self.slot_offset.saturating_add(self.available())).div_ceil(PAGE_SIZE)
        } else {
            0
        }
    }

    /// The number of slots that all bytes left would use.
    pub(crate) fn slots_left(&self) -> usize {
        if self.left == 0 {
            0
        } else {
            self.slot_offset
                .saturating_add(self.left)
                .div_ceil(PAGE_SIZE)
        }
    }

    /// True if the posted write is pullable and readers have pulled at least `share` bytes of it.
    pub(crate) fn share_is_used(&self, share: usize) -> bool {
        self.pullable() && self.pulled >= share
    }

    /// Bytes left that would fit into `free` slots.
    fn fitting(&self, free: usize) -> usize {
        let space = free
            .saturating_mul(PAGE_SIZE)
            .saturating_sub(self.slot_offset);
        self.left.min(space)
    }

    /// The announced bytes, which FIONREAD counts, if `free` slots are free.
    pub(crate) fn announced(&self, free: usize) -> usize {
        if self.pullable() {
            self.fitting(free).min(self.allowance)
        } else {
            0
        }
    }

    /// True if all bytes left would fit into `free` slots.
    pub(crate) fn fits(&self, free: usize) -> bool {
        self.fitting(free) == self.left
    }

    /// True if the owner must withdraw the posted write, with `free` slots free.
    pub(crate) fn must_withdraw(&self, free: usize) -> bool {
        self.closed || self.recalled || self.fits(free)
    }

    /// True if a pull of the next `bytes` bytes would free a slot: they include the last byte of a
    /// slot, or the last byte left.
    pub(crate) fn frees_slot(&self, bytes: usize) -> bool {
        bytes != 0 && (self.slot_offset + bytes >= PAGE_SIZE || bytes >= self.left)
    }

    /// Counts `bytes` bytes as pulled, at most those left. They were copied already. So all of them
    /// count, even if fewer may be pulled by now.
    pub(crate) fn count_pulled(&mut self, bytes: usize) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.allowance = self.allowance.saturating_sub(bytes);
        self.pulled = self.pulled.saturating_add(bytes);
        self.slot_offset = (self.slot_offset + bytes) % PAGE_SIZE;
    }

    /// Posts up to `bytes` bytes more, behind the others. Returns how many: all or none.
    ///
    /// It adds none if the owner must withdraw the posted write, with `free` slots free. In that
    /// case readers may have found nothing to pull and wait for data, and nobody would wake them
    /// for more.
    pub(crate) fn extend(&mut self, bytes: usize, free: usize) -> usize {
        let bytes = if self.must_withdraw(free) { 0 } else { bytes };
        self.left += bytes;
        bytes
    }

    /// Of the next `bytes` bytes, the number in the last slot, if they do not fill that slot.
    pub(crate) fn partial_slot(&self, bytes: usize) -> usize {
        partial_slot(self.slot_offset, bytes)
    }

    /// True if nothing can be pulled any more: after a miss, or if all bytes have to go through
    /// slots.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes the posted write: readers can pull nothing until the owner has withdrawn it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Recalls the posted write. The owner may not extend it any more.
    ///
    /// Until the owner withdraws it, readers may pull the bytes that are announced now, with `free`
    /// slots free.
    pub(crate) fn recall(&mut self, free: usize) {
        self.allowance = self.allowance.min(self.fitting(free));
        self.recalled = true;
    }

    /// True if the posted write was recalled. There may be other reasons to withdraw it, too.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled
    }
}

/// The position of a large write among the writers that wait for a free slot. It decides whether
/// the write may post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// The write has just begun, or has withdrawn a posted write that was not recalled.
    New,
    /// The write has waited for a free slot, in the queue behind the writers that came before it.
    Served,
    /// Readers have pulled the share of the write, and other writers wait. The write may post again
    /// after another waiting writer has written something, or when no writer waits.
    ShareUsed,
}

impl Standing {
    /// True if the write may post. `waiting` counts the other writers that wait for a free slot or
    /// were refused one.
    pub(crate) fn allows_post(self, waiting: u32) -> bool {
        match self {
            Standing::New => waiting == 0,
            Standing::Served => true,
            Standing::ShareUsed => false,
        }
    }

    /// The standing of the write after a wait for a free slot. `waiting` other writers still wait.
    ///
    /// `queued` says that the write slept in the queue. A write that found a free slot without
    /// sleeping may have passed other writers. `others` says that another waiting writer has
    /// written something since this write withdrew its posted write.
    pub(crate) fn waited(self, waiting: u32, queued: bool, others: bool) -> Self {
        if waiting == 0 || (queued && (self != Standing::ShareUsed || others)) {
            Standing::Served
        } else {
            self
        }
    }

    /// The standing of a write that has just withdrawn `posted`.
    pub(crate) fn after(posted: &PostedBytes) -> Self {
        if posted.is_recalled() {
            Standing::ShareUsed
        } else {
            Standing::New
        }
    }
}

/// Of `bytes` bytes that begin at `slot_offset`, the number in the last slot, if they do not fill
/// that slot.
pub(crate) fn partial_slot(slot_offset: usize, bytes: usize) -> usize {
    ((slot_offset + bytes) % PAGE_SIZE).min(bytes)
}

#[cfg_attr(not(test), kernel::macros::kunit_tests(zpipe_core_posted_bytes))]
mod tests {
    use super::*;

    #[test]
    fn a_post_that_fits_must_be_withdrawn() {
        let posted = PostedBytes::new(3 * PAGE_SIZE, 0);
        assert!(!posted.must_withdraw(2));
        assert!(posted.must_withdraw(3));
        assert_eq!(posted.announced(2), 2 * PAGE_SIZE);
        assert_eq!(posted.announced(16), 3 * PAGE_SIZE);
    }

    #[test]
    fn a_recalled_post_is_still_pullable() {
        let mut posted = PostedBytes::new(3 * PAGE_SIZE, 0);
        assert!(!posted.is_recalled());
        posted.recall(1);
        assert!(
            posted.must_withdraw(1)
                && posted.pullable()
                && !posted.is_closed()
                && posted.is_recalled()
        );
    }

    #[test]
    fn a_post_is_pullable_until_all_is_pulled() {
        let mut posted = PostedBytes::new(2 * PAGE_SIZE, 0);
        assert!(posted.pullable());
        posted.count_pulled(2 * PAGE_SIZE - 1);
        assert!(posted.pullable());
        posted.count_pulled(1);
        assert!(!posted.pullable() && posted.must_withdraw(0));
    }

    #[test]
    fn slots_include_the_slot_offset() {
        let mut posted = PostedBytes::new(3 * PAGE_SIZE, 0);
        assert_eq!(posted.slots(), 3);
        posted.count_pulled(1);
        assert_eq!(posted.slots(), 3);
        posted.count_pulled(PAGE_SIZE - 1);
        assert_eq!(posted.slots(), 2);
        posted.count_pulled(2 * PAGE_SIZE);
        assert_eq!(posted.slots(), 0);
        assert_eq!(PostedBytes::new(2, PAGE_SIZE - 1).slots(), 2);
        assert_eq!(PostedBytes::new(0, PAGE_SIZE - 1).slots(), 0);
        assert_eq!(PostedBytes::new(0, PAGE_SIZE - 1).slots_left(), 0);
        assert_eq!(PostedBytes::new(2, PAGE_SIZE - 1).slots_left(), 2);
    }

    #[test]
    fn pulled_bytes_use_the_share() {
        let mut posted = PostedBytes::new(4 * PAGE_SIZE, 0);
        assert!(!posted.share_is_used(PAGE_SIZE));
        posted.count_pulled(PAGE_SIZE - 1);
        assert!(!posted.share_is_used(PAGE_SIZE));
        posted.count_pulled(1);
        assert!(posted.share_is_used(PAGE_SIZE));
        posted.count_pulled(posted.available());
        assert!(!posted.share_is_used(PAGE_SIZE));
    }

    #[test]
    fn only_announced_bytes_remain_after_a_recall() {
        let mut posted = PostedBytes::new(9 * PAGE_SIZE, 0);
        posted.count_pulled(1);
        posted.recall(2);
        posted.recall(3);
        assert!(posted.is_recalled() && posted.must_withdraw(2) && posted.pullable());
        assert_eq!(posted.announced(2), 2 * PAGE_SIZE - 1);
        assert_eq!(posted.announced(16), 2 * PAGE_SIZE - 1);
        assert_eq!(posted.slots(), 2);
        assert_eq!(posted.available(), 2 * PAGE_SIZE - 1);
        posted.count_pulled(2 * PAGE_SIZE - 1);
        assert!(!posted.pullable() && posted.must_withdraw(16));
        // The owner still has to write the rest, which begins with a new slot.
        assert_eq!((posted.left(), posted.slot_offset()), (7 * PAGE_SIZE, 0));
        assert_eq!((posted.slots(), posted.announced(16)), (0, 0));
        assert_eq!(posted.slots_left(), 7);
    }

    #[test]
    fn a_pull_beyond_the_allowance_counts() {
        let mut posted = PostedBytes::new(9 * PAGE_SIZE, 0);
        posted.recall(2);
        posted.count_pulled(5 * PAGE_SIZE);
        assert_eq!((posted.left(), posted.available()), (4 * PAGE_SIZE, 0));
    }

    #[test]
    fn a_slot_is_freed_by_its_last_byte() {
        let posted = PostedBytes::new(2 * PAGE_SIZE, 100);
        assert!(!posted.frees_slot(0) && !posted.frees_slot(PAGE_SIZE - 101));
        assert!(posted.frees_slot(PAGE_SIZE - 100));
        assert!(
            !PostedBytes::new(100, 0).frees_slot(99) && PostedBytes::new(100, 0).frees_slot(100)
        );
        assert!(!PostedBytes::new(0, 0).frees_slot(0));
    }

    #[test]
    fn standing_decides_who_may_post() {
        assert!(Standing::New.allows_post(0) && !Standing::New.allows_post(1));
        assert!(Standing::Served.allows_post(9));
        assert!(!Standing::ShareUsed.allows_post(0));

        // A writer that did not sleep in the queue may have passed others.
        assert_eq!(Standing::New.waited(1, false, true), Standing::New);
        assert_eq!(Standing::New.waited(1, true, false), Standing::Served);
        assert_eq!(Standing::New.waited(0, false, false), Standing::Served);
        // A writer whose share was used posts again after another writer has written.
        assert_eq!(
            Standing::ShareUsed.waited(1, true, false),
            Standing::ShareUsed
        );
        assert_eq!(Standing::ShareUsed.waited(1, true, true), Standing::Served);
        assert_eq!(
            Standing::ShareUsed.waited(1, false, true),
            Standing::ShareUsed
        );
        assert_eq!(
            Standing::ShareUsed.waited(0, false, false),
            Standing::Served
        );

        let mut posted = PostedBytes::new(PAGE_SIZE, 0);
        assert_eq!(Standing::after(&posted), Standing::New);
        posted.recall(9);
        assert_eq!(Standing::after(&posted), Standing::ShareUsed);
    }

    #[test]
    fn an_extension_comes_behind() {
        let mut posted = PostedBytes::new(2 * PAGE_SIZE, 0);
        posted.count_pulled(1);
        assert_eq!(posted.extend(3 * PAGE_SIZE, 1), 3 * PAGE_SIZE);
        assert_eq!(
            (posted.left(), posted.slot_offset()),
            (5 * PAGE_SIZE - 1, 1)
        );
        assert!(!posted.fits(4) && posted.fits(5));
    }

    #[test]
    fn a_post_to_withdraw_is_not_extended() {
        let mut posted = PostedBytes::new(2 * PAGE_SIZE, 0);
        assert_eq!(posted.extend(PAGE_SIZE, 2), 0);
        posted.count_pulled(usize::MAX);
        assert_eq!(posted.extend(PAGE_SIZE, 0), 0);
        assert_eq!(posted.left(), 0);
    }

    #[test]
    fn a_partly_pulled_slot_still_counts() {
        let mut posted = PostedBytes::new(3 * PAGE_SIZE, 0);
        posted.count_pulled(1);
        // 4095, 4096 and 4096 bytes: three slots.
        assert_eq!(
            (posted.left(), posted.slot_offset()),
            (3 * PAGE_SIZE - 1, 1)
        );
        assert!(!posted.fits(2));
        assert_eq!(posted.announced(2), 2 * PAGE_SIZE - 1);
        posted.count_pulled(PAGE_SIZE - 1);
        assert!(posted.fits(2));
        assert_eq!(posted.slot_offset(), 0);
    }

    #[test]
    fn partial_slot_counts_bytes_of_an_incomplete_slot() {
        let posted = PostedBytes::new(3 * PAGE_SIZE, PAGE_SIZE - 10);
        assert_eq!(posted.partial_slot(9), 9);
        assert_eq!(posted.partial_slot(10), 0);
        assert_eq!(posted.partial_slot(11), 1);
        assert_eq!(posted.partial_slot(10 + PAGE_SIZE), 0);
    }

    #[test]
    fn all_bytes_can_be_pulled_at_once() {
        let mut posted = PostedBytes::new(PAGE_SIZE, 0);
        assert_eq!(posted.available(), PAGE_SIZE);
        posted.count_pulled(PAGE_SIZE);
        assert_eq!(posted.left(), 0);
        assert!(!posted.pullable());
        assert!(posted.must_withdraw(0));
    }

    #[test]
    fn a_missed_post_is_not_pullable() {
        let mut posted = PostedBytes::new(9 * PAGE_SIZE, 0);
        assert!(posted.pullable() && !posted.must_withdraw(1));
        posted.close();
        assert!(!posted.pullable() && posted.must_withdraw(1));
        assert_eq!((posted.left(), posted.announced(16)), (9 * PAGE_SIZE, 0));
        assert_eq!(posted.slots(), 0);
    }

    #[test]
    fn nothing_is_announced_without_free_slots() {
        let posted = PostedBytes::new(2 * PAGE_SIZE, 7);
        assert_eq!(posted.announced(0), 0);
        assert_eq!(posted.announced(usize::MAX), 2 * PAGE_SIZE);
        assert_eq!(PostedBytes::new(1, PAGE_SIZE).slot_offset(), 0);
    }
}
