// SPDX-License-Identifier: GPL-2.0-only

//! The home of a pipe's huge pages.
//!
//! A home keeps huge pages that become replacements for gifted pages without being cleared. A
//! writer may see the bytes of such a page for one of two reasons. Either it gifted them to this
//! pipe itself, or a reader returned the page for all writers and this writer accepts returned
//! pages.
//!
//! A gifted page belongs to an address space. The user is not enough to identify its owner. Nor is
//! the pipe, because the writers of a pipe need not trust each other.

use crate::{
    mm::{AddressSpace, Scratch},
    slot::{LargeSlot, LargeSlots, Origin},
    zcore::gift::CostPolicy,
};
use kernel::prelude::*;

/// The home of one pipe: huge pages that wait to become replacements, and the cost policy of gifts.
pub(crate) struct Homes {
    pages: [Option<KBox<LargeSlot>>; Self::MAX],
    /// Scratch memory for later calls: one that gifts and one that moves.
    scratch: [Option<Scratch>; 2],
    /// Decides whether a page is gifted although its replacement has to be cleared.
    pub(crate) cost: CostPolicy,
}

/// Which replacements a writer accepts. These are the flags of `ZPIPE_IOC_GIFT`.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// `ZPIPE_ANY`: the writer accepts pages that readers returned, too.
    pub(crate) any: bool,
    /// `ZPIPE_CLEAR`: the writer accepts cleared pages only.
    pub(crate) clear: bool,
    /// `ZPIPE_ALWAYS`: pages are gifted even if a copy may cost less.
    pub(crate) always: bool,
}

/// The kind of replacement that a writer needs.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) gifter: &'a AddressSpace,
    /// Which replacements the writer accepts.
    pub(crate) terms: Terms,
}

impl Wanted<'_> {
    fn accepts(&self, slot: &LargeSlot) -> bool {
        !self.terms.clear
            && match slot.origin() {
                Origin::Gifted(gifter) => gifter.is(self.gifter),
                Origin::Returned => self.terms.any,
                Origin::Nobody => false,
            }
    }
}

impl Homes {
    /// The maximum number of pages in the home.
    const MAX: usize = 4;

    /// An empty home.
    pub(crate) fn new() -> Self {
        Self {
            pages: [const { None }; Self::MAX],
            scratch: [None, None],
            cost: CostPolicy::default(),
        }
    }

    /// The number of pages in the home.
    pub(crate) fn len(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    /// True if the home has a page for `wanted`.
    pub(crate) fn has(&self, wanted: Wanted<'_>) -> bool {
        self.pages.iter().flatten().any(|slot| wanted.accepts(slot))
    }

    /// True if the replacement for `wanted` may be a cleared page: the cost policy allows it, or
    /// the writer asked for it.
    pub(crate) fn may_clear(&self, wanted: Wanted<'_>) -> bool {
        wanted.terms.always || self.cost.may_clear()
    }

    /// True if a page may be gifted for `wanted`, with a replacement from the home or a cleared
    /// one.
    pub(crate) fn can_replace(&self, wanted: Wanted<'_>) -> bool {
        self.may_clear(wanted) || self.has(wanted)
    }

    /// Takes a page for `wanted` out of the home.
    pub(crate) fn take(&mut self, wanted: Wanted<'_>) -> Option<KBox<LargeSlot>> {
        self.pages
            .iter_mut()
            .find_map(|entry| entry.take_if(|slot| wanted.accepts(slot)))
    }

    /// Takes scratch memory that an earlier call left, if there is any.
    pub(crate) fn take_scratch(&mut self) -> Option<Scratch> {
        self.scratch.iter_mut().find_map(Option::take)
    }

    /// Keeps scratch memory for later calls. Returns it if enough is kept already. The caller then
    /// frees it without the inner lock.
    pub(crate) fn put_scratch(&mut self, scratch: Scratch) -> Option<Scratch> {
        match self.scratch.iter_mut().find(|entry| entry.is_none()) {
            Some(entry) => entry.replace(scratch),
            None => Some(scratch),
        }
    }

    /// Puts in a page that was read. A page that cannot become a replacement is added to `gone`
    /// instead, to be freed without the inner lock. So is a page for which the home has no space,
    /// and each page in the home that cannot become a replacement any more.
    pub(crate) fn put(&mut self, slot: KBox<LargeSlot>, gone: &mut LargeSlots) {
        self.remove(gone, |slot| !slot.is_usable());
        match self.pages.iter_mut().find(|entry| entry.is_none()) {
            Some(entry) if slot.is_usable() => *entry = Some(slot),
            _ => gone.push(slot),
        }
    }

    /// Removes the pages that cannot become replacements any more, or all pages if `all` is set, as
    /// it is when no reader or no writer is left.
    pub(crate) fn purge(&mut self, all: bool, gone: &mut LargeSlots) {
        self.remove(gone, |slot| all || !slot.is_usable());
    }

    fn remove(&mut self, gone: &mut LargeSlots, which: impl Fn(&LargeSlot) -> bool) {
        for entry in &mut self.pages {
            if let Some(slot) = entry.take_if(|slot| which(slot)) {
                gone.push(slot);
            }
        }
    }
}

impl LargeSlot {
    /// True if the page may become a replacement. The pages of an address space that has come to
    /// its end belong to nobody any more.
    fn is_usable(&self) -> bool {
        self.is_reusable()
            && match self.origin() {
                Origin::Gifted(gifter) => gifter.is_used(),
                Origin::Returned => true,
                Origin::Nobody => false,
            }
    }
}
