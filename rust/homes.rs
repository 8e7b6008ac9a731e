// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages that go round.
//!
//! What takes the place of a page that is gifted need not be cleared if its bytes are no news to the
//! writer: it gave them to this pipe itself; or if a reader let the writers see them, and the writer
//! wants that. Such pages wait here. Whose they are is known by the address space, and by nothing
//! else: not by the user, and not by the pipe alone, whose writers need not trust each other.

use crate::{
    mm::{AddressSpace, Scratch},
    slot::{HugeSlot, HugeSlots, Origin},
    zcore::gift::Worth,
};
use kernel::prelude::*;

/// Huge pages of one pipe that wait to take the place of others, and what became of those before.
pub(crate) struct Homes {
    pages: [Option<KBox<HugeSlot>>; Self::MOST],
    /// For calls to come: one that gifts, one that moves.
    scratch: [Option<Scratch>; 2],
    /// When a page is worth taking that has none to replace it.
    pub(crate) worth: Worth,
}

/// What a writer says of the pages that take the place of others.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// What others have returned will do, too.
    pub(crate) any: bool,
    /// Nothing but zeros will do.
    pub(crate) clear: bool,
    /// Pages are to be taken though it may cost less to copy them.
    pub(crate) always: bool,
}

/// Who wants a page, and which.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The writer's address space.
    pub(crate) giver: &'a AddressSpace,
    /// What it says.
    pub(crate) terms: Terms,
}

impl Wanted<'_> {
    fn is(&self, slot: &HugeSlot) -> bool {
        !self.terms.clear
            && match slot.origin() {
                Origin::Given(giver) => giver.is(self.giver),
                Origin::Returned => self.terms.any,
                Origin::Nobody => false,
            }
    }
}

impl Homes {
    /// Pages that wait at most.
    const MOST: usize = 4;

    /// There are none.
    pub(crate) fn new() -> Self {
        Self {
            pages: [const { None }; Self::MOST],
            scratch: [None, None],
            worth: Worth::default(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    /// Whether there is a page for `wanted`.
    pub(crate) fn has(&self, wanted: Wanted<'_>) -> bool {
        self.pages.iter().flatten().any(|slot| wanted.is(slot))
    }

    /// Whether a page of zeros is worth it for `wanted`.
    pub(crate) fn may_clear(&self, wanted: Wanted<'_>) -> bool {
        wanted.terms.always || self.worth.may_clear()
    }

    /// Whether a page may be taken that one for `wanted` is to replace.
    pub(crate) fn can(&self, wanted: Wanted<'_>) -> bool {
        self.may_clear(wanted) || self.has(wanted)
    }

    /// Takes a page for `wanted` out.
    pub(crate) fn take(&mut self, wanted: Wanted<'_>) -> Option<KBox<HugeSlot>> {
        self.pages
            .iter_mut()
            .find_map(|place| place.take_if(|slot| wanted.is(slot)))
    }

    /// Takes what the last call has left, if anything.
    pub(crate) fn take_scratch(&mut self) -> Option<Scratch> {
        self.scratch.iter_mut().find_map(Option::take)
    }

    /// Keeps it for calls to come; gives it back if there is enough.
    pub(crate) fn put_scratch(&mut self, scratch: Scratch) -> Option<Scratch> {
        match self.scratch.iter_mut().find(|place| place.is_none()) {
            Some(place) => place.replace(scratch),
            None => Some(scratch),
        }
    }

    /// Puts a page in that was read; into `gone`, to be freed without the lock, if it is of no use.
    pub(crate) fn put(&mut self, slot: KBox<HugeSlot>, gone: &mut HugeSlots) {
        self.remove(gone, |slot| !slot.is_of_use());
        match self.pages.iter_mut().find(|place| place.is_none()) {
            Some(place) if slot.is_of_use() => *place = Some(slot),
            _ => gone.push(slot),
        }
    }

    /// Takes out what is of no use: everything, if there is nobody who writes.
    pub(crate) fn purge(&mut self, all: bool, gone: &mut HugeSlots) {
        self.remove(gone, |slot| all || !slot.is_of_use());
    }

    fn remove(&mut self, gone: &mut HugeSlots, which: impl Fn(&HugeSlot) -> bool) {
        for place in &mut self.pages {
            if let Some(slot) = place.take_if(|slot| which(slot)) {
                gone.push(slot);
            }
        }
    }
}

impl HugeSlot {
    /// Whether its page may take the place of another: those of an address space that came to its end
    /// are nobody's any more.
    fn is_of_use(&self) -> bool {
        self.can_go_round()
            && match self.origin() {
                Origin::Given(giver) => giver.is_used(),
                Origin::Returned => true,
                Origin::Nobody => false,
            }
    }
}
