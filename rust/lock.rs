// SPDX-License-Identifier: GPL-2.0-only

//! The state that a pipe's inner lock protects, and the snapshot of it that is read without the
//! lock.

use crate::{
    homes::Homes,
    id::PipeId,
    mm::{BufferPage, PageStock, UserPages},
    posted_read::PostedRead,
    ring::Ring,
    stats::Stats,
    sync::Word,
    zcore::{
        posted_space::{Ticket, WaitingReaders},
        state::{Access, Ends, Occupancy, Opens, State},
        wakeup::WakesAll,
    },
};
use core::ops::{Deref, DerefMut};
use kernel::{
    prelude::*,
    sync::lock::{mutex::MutexBackend, Guard},
};

/// The writers that wait for a free slot.
#[derive(Clone, Copy, Default)]
pub(crate) struct WaitingWriters {
    /// The number of writers that wait. A writer that was woken counts until it has the lock again.
    pub(crate) count: u32,
    /// The number of times that one of them has written something after its wait. Wraps.
    pub(crate) progress: u64,
}

impl WaitingWriters {
    /// Counts a writer that has written something after a wait.
    pub(crate) fn made_progress(&mut self) {
        self.progress = self.progress.wrapping_add(1);
    }
}

/// The state that the inner lock protects.
///
/// The fields that every message changes come first, close to the lock itself: see
/// [`Pipe`](crate::pipe::Pipe).
#[repr(C)]
pub(crate) struct Inner {
    /// The slots, and the posted write.
    pub(crate) ring: Ring,
    /// The posted read.
    pub(crate) posted_read: Option<KBox<PostedRead>>,
    /// Empty pages for the next writer, most of them from slots that were read. A page is added
    /// only while there are fewer pages here than free slots.
    pub(crate) spare: PageStock,
    ends: Ends,
    opens: Opens,
    /// True if `ends` or `opens` have changed since the snapshot was updated.
    ends_changed: bool,
    /// Readers that wait for data. A reader that was woken counts until it has the lock again.
    pub(crate) waiting_readers: WaitingReaders,
    /// Writers that wait for a free slot.
    pub(crate) waiting_writers: WaitingWriters,
    /// True if a writer got `EAGAIN` for want of a free slot since a write was posted last.
    pub(crate) refused: bool,
    /// The reserved slots that are no seats: see [`Pipe::reserve`](crate::pipe::Pipe::reserve).
    pub(crate) reserved_pages: u32,
    /// True if the pipe is buffer-only.
    pub(crate) buffer_only: bool,
    /// The number of read windows. They show slots only.
    pub(crate) windows: u32,
    /// The number of commands that read slots for another file. They take slots only.
    pub(crate) splices: u32,
    /// The slots of the pipe, counted to the user who made it.
    pub(crate) account: UserPages,
    /// The homes of huge pages.
    pub(crate) homes: Homes,
    /// The counters.
    pub(crate) stats: KBox<Stats>,
    /// The name of the pipe for people.
    pub(crate) id: PipeId,
}

impl Inner {
    /// The state of an empty pipe that no file has open. Sleeps. `ENOMEM`.
    pub(crate) fn new(id: PipeId, ring: Ring, account: UserPages) -> Result<Self> {
        Ok(Self {
            ring,
            spare: PageStock::new(),
            account,
            ends: Ends::default(),
            opens: Opens::default(),
            ends_changed: false,
            waiting_readers: WaitingReaders::default(),
            waiting_writers: WaitingWriters::default(),
            refused: false,
            reserved_pages: 0,
            buffer_only: false,
            windows: 0,
            splices: 0,
            homes: Homes::new(),
            stats: KBox::new(Stats::default(), GFP_KERNEL_ACCOUNT)?,
            posted_read: None,
            id,
        })
    }

    /// The number of seats, the slots that writers have reserved for huge pages.
    pub(crate) fn seats(&self) -> u32 {
        self.ring.reserved() - self.reserved_pages
    }

    /// True if a file is open for reading. Files whose open still waits count, too.
    pub(crate) fn has_readers(&self) -> bool {
        self.ends.readers != 0
    }

    /// True if a file is open for writing, likewise.
    pub(crate) fn has_writers(&self) -> bool {
        self.ends.writers != 0
    }

    /// Counts a file that is opened. Returns the wakeups to issue without the lock.
    pub(crate) fn count_in(&mut self, access: Access) -> WakesAll {
        let wakes = WakesAll::opened(self.ends, access);

        self.ends.readers += u32::from(access.read);
        self.ends.writers += u32::from(access.write);
        self.opens.readers = self.opens.readers.wrapping_add(u32::from(access.read));
        self.opens.writers = self.opens.writers.wrapping_add(u32::from(access.write));
        self.ends_changed = true;
        wakes
    }

    /// Counts a file that is closed. Returns the wakeups to issue without the lock.
    pub(crate) fn count_out(&mut self, access: Access) -> WakesAll {
        self.ends.readers -= u32::from(access.read);
        self.ends.writers -= u32::from(access.write);
        self.ends_changed = true;
        WakesAll::closed(self.ends)
    }

    /// The number of pages up to which one may be kept for the next writer.
    fn spare_limit(&self) -> usize {
        self.ring.free()
    }

    /// True if another page may be kept for the next writer.
    pub(crate) fn wants_spare(&self) -> bool {
        self.spare.len() < self.spare_limit().min(PageStock::MAX)
    }

    /// Keeps an emptied page for the next writer, or frees it.
    pub(crate) fn recycle(&mut self, page: BufferPage) {
        if self.spare.len() < self.spare_limit() {
            // A full stock returns the page, and it is freed here.
            let _ = self.spare.put(page);
        }
    }

    /// Keeps pages of `stock` for the next writer, as many as may be kept.
    pub(crate) fn restock(&mut self, stock: &mut PageStock) {
        while self.wants_spare() {
            let Some(page) = stock.take() else { return };
            self.recycle(page);
        }
    }

    /// Frees the pages above the limit, after that has shrunk.
    pub(crate) fn trim(&mut self) {
        while self.spare.len() > self.spare_limit() {
            if self.spare.take().is_none() {
                return;
            }
        }
    }

    /// The state from which the snapshot is made.
    pub(crate) fn state(&self) -> State {
        State {
            occupancy: self.occupancy(),
            ends: self.ends,
            opens: self.opens,
        }
    }

    /// [`Self::occupancy`], packed into a word. Every message calls it, nearly always with nothing
    /// posted.
    #[inline(always)]
    fn packed_occupancy(&self) -> u64 {
        if self.ring.is_posted() || self.posted_read.is_some() {
            return self.packed_with_posted();
        }
        self.counts().pack()
    }

    #[cold]
    #[inline(never)]
    fn packed_with_posted(&self) -> u64 {
        self.occupancy().pack()
    }

    /// The number of writers that a write may not overtake by posting: those that wait for a free
    /// slot and those that were refused one.
    pub(crate) fn writers_to_respect(&self) -> u32 {
        self.waiting_writers.count + u32::from(self.refused)
    }

    /// Recalls the posted write if readers have used its share and another writer waits for a free
    /// slot or was refused one. Writers that only poll for a free slot are not counted here, so
    /// `pollers_wait` says whether there are any.
    ///
    /// Returns true if it recalled the posted write: then the owner has to be woken.
    pub(crate) fn recall_used_share(&mut self, pollers_wait: impl FnOnce() -> bool) -> bool {
        self.ring.is_posted()
            && (self.waiting_writers.count != 0 || self.refused || pollers_wait())
            && self.ring.recall_used_share()
    }

    /// Begins the wait of a reader, behind those that wait already. It posts `posted_read`, unless
    /// another read is posted or `posted_read` was already served.
    ///
    /// Returns the reader's ticket, and whether its read is posted.
    pub(crate) fn begin_reader_wait(
        &mut self,
        posted_read: &mut Option<KBox<PostedRead>>,
    ) -> (Ticket, bool) {
        let posts = self.posted_read.is_none()
            && posted_read.as_deref().is_some_and(PostedRead::is_unserved);
        if posts {
            self.posted_read = posted_read.take();
            self.stats.read.posts += 1;
        }
        let rules = self.posted_read.as_deref_mut().filter(|_| posts);
        let ticket = self.waiting_readers.enter(rules.map(PostedRead::space));
        (ticket, posts)
    }

    /// Ends the wait of the reader with `ticket`. If its read was `posted`, withdraws and returns
    /// that.
    pub(crate) fn end_reader_wait(
        &mut self,
        ticket: Ticket,
        posted: bool,
    ) -> Option<KBox<PostedRead>> {
        let own = if posted {
            self.posted_read.take()
        } else {
            None
        };
        let others = self.posted_read.as_deref_mut().map(PostedRead::space);

        self.waiting_readers.leave(ticket, others);
        own
    }

    /// True if all bytes go through slots: the pipe is buffer-only, has read windows, or a command
    /// reads slots for another file.
    pub(crate) fn slots_only(&self) -> bool {
        self.buffer_only || self.slots_only_users() != 0
    }

    /// The number of windows and commands that need all bytes to go through slots.
    pub(crate) fn slots_only_users(&self) -> u32 {
        self.windows + self.splices
    }

    /// If all bytes have to go through slots, closes the posted write. Its bytes are then no longer
    /// announced, and its owner buffers them.
    ///
    /// Returns true if there was a posted write: then its owner has to be woken, and other writers
    /// may find a free slot.
    pub(crate) fn enforce_slots_only(&mut self) -> bool {
        let only = self.slots_only();
        match self.ring.posted_write() {
            Some(posted) if only => {
                posted.close();
                true
            }
            _ => false,
        }
    }

    /// True if a read is posted and satisfies `what`.
    fn posted_read_is(&self, what: impl FnOnce(&PostedRead) -> bool) -> bool {
        self.posted_read.as_deref().is_some_and(what)
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            posted: self.ring.posted_state(),
            pushed: self.posted_read_is(|posted_read| posted_read.pushed() != 0),
            pushable: self.posted_read_is(PostedRead::is_open),
            ..self.counts()
        }
    }

    #[inline(always)]
    fn counts(&self) -> Occupancy {
        Occupancy {
            used: self.ring.used(),
            limit: self.ring.limit(),
            // CAST: At most `PageStock::MAX`.
            spare: self.spare.len() as u32,
            ..Occupancy::default()
        }
    }
}

/// The [`State`] that is read without the lock.
///
/// Each word was right at some moment; the words may be of different moments.
#[repr(C)]
pub(crate) struct Snapshot {
    occupancy: Word,
    ends: Word,
    opens: Word,
}

impl Snapshot {
    /// The snapshot of a new pipe.
    pub(crate) fn new(inner: &Inner) -> Self {
        Self {
            occupancy: Word::new(inner.occupancy().pack()),
            ends: Word::new(inner.ends.pack()),
            opens: Word::new(inner.opens.pack()),
        }
    }

    /// Reads the snapshot. It may be stale.
    pub(crate) fn load(&self) -> State {
        State {
            occupancy: Occupancy::unpack(self.occupancy.read()),
            ends: Ends::unpack(self.ends.read()),
            opens: Opens::unpack(self.opens.read()),
        }
    }
}

/// The guard of the inner lock.
///
/// When it is dropped, it updates the snapshot and then unlocks. A task that is woken before the
/// update tests the old snapshot and goes back to sleep. So wake tasks after the drop, or at least
/// after [`Self::update_snapshot`].
pub(crate) struct Locked<'a> {
    snapshot: &'a Snapshot,
    inner: Guard<'a, Inner, MutexBackend>,
}

impl<'a> Locked<'a> {
    /// Wraps the guard `inner` of the lock whose snapshot is `snapshot`.
    pub(crate) fn new(snapshot: &'a Snapshot, inner: Guard<'a, Inner, MutexBackend>) -> Self {
        Self { snapshot, inner }
    }

    /// Wakes the owner of the posted read after a push, and no other task. The owner needs the
    /// lock, so drop it soon.
    pub(crate) fn wake_pushed(&self) {
        self.update_snapshot();
        if let Some(posted_read) = &self.inner.posted_read {
            posted_read.wake_owner();
        }
    }

    /// Updates the occupancy in the snapshot while the lock stays held. A task that tests it now
    /// waits for the lock, which takes less time than to sleep and be woken.
    #[inline(always)]
    pub(crate) fn update_snapshot(&self) {
        self.snapshot.occupancy.write(self.inner.packed_occupancy());
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
        self.update_snapshot();
        // Opens and closes are rare.
        if self.inner.ends_changed {
            self.snapshot.ends.write(self.inner.ends.pack());
            self.snapshot.opens.write(self.inner.opens.pack());
            self.inner.ends_changed = false;
        }
    }
}
