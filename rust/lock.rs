// SPDX-License-Identifier: GPL-2.0-only

//! What a pipe's inner lock protects, and what of it is visible without the lock.

use crate::{
    demand::Demand,
    homes::Homes,
    mm::{BufferPage, PageStock, UserPages},
    pipe::PipeId,
    ring::Ring,
    stats::Stats,
    sync::Word,
    zcore::{
        posted_read::{Ticket, WaitingReaders},
        state::{Access, Ends, Opens, Room, State},
    },
};
use core::ops::{Deref, DerefMut};
use kernel::{
    prelude::*,
    sync::lock::{mutex::MutexBackend, Guard},
};

/// The writers that wait for room.
#[derive(Clone, Copy, Default)]
pub(crate) struct WaitingWriters {
    /// How many wait; who was woken counts until it has the lock again.
    pub(crate) count: u32,
    /// How often one of them has written something; wraps.
    pub(crate) turns: u64,
}

/// What the inner lock protects.
///
/// What every message touches comes first, beside the lock itself: see [`Pipe`](crate::pipe::Pipe).
#[repr(C)]
pub(crate) struct Inner {
    /// The data.
    pub(crate) ring: Ring,
    /// A reader that waits, and where it wants its bytes.
    pub(crate) demand: Option<KBox<Demand>>,
    /// Pages that readers have emptied, for writers. With those in use never more than the slots.
    pub(crate) spare: PageStock,
    ends: Ends,
    opens: Opens,
    /// `ends` or `opens` is not yet published.
    unpublished: bool,
    /// Readers that wait for data; who was woken counts until it has the lock again.
    pub(crate) waiting_readers: WaitingReaders,
    /// Writers that wait for room, likewise.
    pub(crate) waiting_writers: WaitingWriters,
    /// A writer found no room since an offer stands, and did not wait.
    pub(crate) refused: bool,
    /// Nothing goes straight from one process to the other.
    pub(crate) buffer_only: bool,
    /// Read windows: they show what is in slots.
    pub(crate) windows: u32,
    /// The slots, counted to the user who made the pipe.
    pub(crate) account: UserPages,
    /// Huge pages that go round.
    pub(crate) homes: Homes,
    /// What has been done.
    pub(crate) stats: KBox<Stats>,
    /// Which pipe it is.
    pub(crate) id: PipeId,
}

impl Inner {
    /// An empty pipe that nobody has open. Sleeps.
    pub(crate) fn new(id: PipeId, ring: Ring, account: UserPages) -> Result<Self> {
        Ok(Self {
            ring,
            spare: PageStock::new(),
            account,
            ends: Ends::default(),
            opens: Opens::default(),
            unpublished: false,
            waiting_readers: WaitingReaders::default(),
            waiting_writers: WaitingWriters::default(),
            refused: false,
            buffer_only: false,
            windows: 0,
            homes: Homes::new(),
            stats: KBox::new(Stats::default(), GFP_KERNEL_ACCOUNT)?,
            demand: None,
            id,
        })
    }

    /// Whether anybody reads, or is about to.
    pub(crate) fn has_readers(&self) -> bool {
        self.ends.readers != 0
    }

    /// Whether anybody writes, or is about to.
    pub(crate) fn has_writers(&self) -> bool {
        self.ends.writers != 0
    }

    /// Counts a file in; says whether openers may have waited for it.
    pub(crate) fn count_in(&mut self, access: Access) -> bool {
        let first = (access.read && !self.has_readers()) || (access.write && !self.has_writers());

        self.ends.readers += u32::from(access.read);
        self.ends.writers += u32::from(access.write);
        self.opens.readers = self.opens.readers.wrapping_add(u32::from(access.read));
        self.opens.writers = self.opens.writers.wrapping_add(u32::from(access.write));
        self.unpublished = true;
        first
    }

    /// Counts a file out; says whether the others are left without a partner.
    pub(crate) fn count_out(&mut self, access: Access) -> bool {
        self.ends.readers -= u32::from(access.read);
        self.ends.writers -= u32::from(access.write);
        self.unpublished = true;
        self.has_readers() != self.has_writers()
    }

    /// How many pages may be kept for the next writer.
    fn spare_limit(&self) -> usize {
        self.ring.free()
    }

    /// Keeps an emptied page for the next writer, or frees it.
    pub(crate) fn recycle(&mut self, page: BufferPage) {
        if self.spare.len() < self.spare_limit() {
            // A full stock gives it back, and it is freed.
            let _ = self.spare.put(page);
        }
    }

    /// Keeps what `stock` has for the next writer, as far as there is room.
    pub(crate) fn restock(&mut self, stock: &mut PageStock) {
        while self.spare.len() < self.spare_limit().min(PageStock::MAX) {
            let Some(page) = stock.take() else { return };
            self.recycle(page);
        }
    }

    /// Frees pages that are no longer kept.
    pub(crate) fn trim(&mut self) {
        while self.spare.len() > self.spare_limit() {
            if self.spare.take().is_none() {
                return;
            }
        }
    }

    /// The counts, for who holds the lock.
    pub(crate) fn state(&self) -> State {
        State {
            room: self.room(),
            ends: self.ends,
            opens: self.opens,
        }
    }

    /// [`Self::room`] in one word: for every message, nearly always with nothing but counts.
    #[inline(always)]
    fn packed_room(&self) -> u64 {
        if self.ring.is_offered() || self.demand.is_some() {
            return self.packed_rendezvous();
        }
        self.counts().pack()
    }

    #[cold]
    #[inline(never)]
    fn packed_rendezvous(&self) -> u64 {
        self.room().pack()
    }

    /// Calls the owner of an offer back if it had its share and others may wait for room; `others`
    /// says whether there are any that are not counted here. Says whether the owner is to be woken.
    pub(crate) fn recall_spent(&mut self, others: impl FnOnce() -> bool) -> bool {
        self.ring.is_offered()
            && (self.waiting_writers.count != 0 || self.refused || others())
            && self.ring.recall_spent()
    }

    /// A reader begins to wait, behind the others. It posts `demand` where it may: one read is
    /// posted at a time. Returns its place, and whether it posted.
    pub(crate) fn begin_reader_wait(
        &mut self,
        demand: &mut Option<KBox<Demand>>,
    ) -> (Ticket, bool) {
        let posts = self.demand.is_none() && demand.as_deref().is_some_and(Demand::is_unserved);
        if posts {
            self.demand = demand.take();
            self.stats.read.offers += 1;
        }
        let rules = self.demand.as_deref_mut().filter(|_| posts);
        let ticket = self.waiting_readers.enter(rules.map(Demand::rules));
        (ticket, posts)
    }

    /// The reader with `ticket` waits no more; takes back what it posted, if it `posted`.
    pub(crate) fn end_reader_wait(&mut self, ticket: Ticket, posted: bool) -> Option<KBox<Demand>> {
        let own = if posted { self.demand.take() } else { None };
        let others = self.demand.as_deref_mut().map(Demand::rules);

        self.waiting_readers.leave(ticket, others);
        own
    }

    /// Whether all data goes through slots.
    pub(crate) fn slots_only(&self) -> bool {
        self.buffer_only || self.windows != 0
    }

    /// Lets data through slots only, if that is what is wanted by now.
    ///
    /// What stands in a writer's memory is out of reach at once: its owner buffers it. Says whether
    /// there was any: then the owner is to be woken, and there may be room for others.
    pub(crate) fn keep_to_slots(&mut self) -> bool {
        let only = self.slots_only();
        match self.ring.direct() {
            Some(direct) if only => {
                direct.miss();
                true
            }
            _ => false,
        }
    }

    /// Whether there is a demand of which that can be said.
    fn demanded(&self, what: impl FnOnce(&Demand) -> bool) -> bool {
        self.demand.as_deref().is_some_and(what)
    }

    fn room(&self) -> Room {
        Room {
            offer: self.ring.offered(),
            pushed: self.demanded(|demand| demand.filled() != 0),
            demanded: self.demanded(Demand::is_open),
            ..self.counts()
        }
    }

    #[inline(always)]
    fn counts(&self) -> Room {
        Room {
            used: self.ring.used(),
            limit: self.ring.limit(),
            // CAST: At most `PageStock::MAX`.
            spare: self.spare.len() as u32,
            ..Room::default()
        }
    }
}

/// [`State`] for who does not hold the lock.
///
/// Each word was true at some moment; they may be of different moments.
#[repr(C)]
pub(crate) struct Published {
    room: Word,
    ends: Word,
    opens: Word,
}

impl Published {
    /// Publishes the state of a new pipe.
    pub(crate) fn new(inner: &Inner) -> Self {
        Self {
            room: Word::new(inner.room().pack()),
            ends: Word::new(inner.ends.pack()),
            opens: Word::new(inner.opens.pack()),
        }
    }

    /// What is so at about this moment.
    pub(crate) fn load(&self) -> State {
        State {
            room: Room::unpack(self.room.read()),
            ends: Ends::unpack(self.ends.read()),
            opens: Opens::unpack(self.opens.read()),
        }
    }
}

/// The inner lock, held.
///
/// Dropping it publishes the state and unlocks, in this order; wake after that, never before: a
/// task woken too early would find the old state and go back to sleep.
pub(crate) struct Locked<'a> {
    published: &'a Published,
    inner: Guard<'a, Inner, MutexBackend>,
}

impl<'a> Locked<'a> {
    /// Wraps the guard of the lock whose state goes to `published`.
    pub(crate) fn new(published: &'a Published, inner: Guard<'a, Inner, MutexBackend>) -> Self {
        Self { published, inner }
    }

    /// Wakes the reader that was pushed to, and nobody else; the lock should soon be dropped, since the
    /// reader takes it.
    pub(crate) fn wake_pushed(&self) {
        self.publish_room();
        if let Some(demand) = &self.inner.demand {
            demand.wake_reader();
        }
    }

    /// Publishes what slots there are, with the lock still to be held for a while: who looks now
    /// need not go to sleep only to be woken.
    #[inline(always)]
    pub(crate) fn publish_room(&self) {
        self.published.room.write(self.inner.packed_room());
    }
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.publish_room();
        // Opens and closes are rare.
        if self.inner.unpublished {
            self.published.ends.write(self.inner.ends.pack());
            self.published.opens.write(self.inner.opens.pack());
            self.inner.unpublished = false;
        }
    }
}
