// SPDX-License-Identifier: GPL-2.0-only

//! A pipe: its ends, its lock, and who is woken when.
//!
//! The behaviour is that of Linux 7.2, `fs/pipe.c`. [`write`](crate::write) and
//! [`read`](crate::read) hold the two transfers.
//!
//! # Locks
//!
//! Outermost first; no lock is held while another line's is taken unless it stands below:
//!
//! 1. the pipe table, [`table`](crate::table): found, counted, dropped; nothing else happens in it.
//! 2. a pipe's inner lock, the mutex in [`Pipe`]. Under it user memory is touched only with page
//!    faults disabled, no page is allocated and nothing takes an mmap_lock: it is held for copies,
//!    never for waits. Two pipes' locks are never held together.
//! 3. the kernel's own below it: wait queue locks, fasync locks.
//!
//! What other tasks test without the lock, [`State`], is published before it is dropped, and who
//! waits for it is woken after that: see [`Locked`].

use crate::{
    mm::{may_exceed_pipe_size, may_exceed_user_pages, BufferPage, PageStock, UserPages},
    ring::Ring,
    stats::Stats,
    sync::{new_wait_queue, Event, FasyncQueue, WaitQueue},
    zcore::{
        capacity::{above_pipe_limit, above_user_limit, slots_for, slots_for_new, DEFAULT_SLOTS},
        state::{Access, State},
        PAGE_SIZE,
    },
};
use core::ops::{Deref, DerefMut};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        lock::{mutex::MutexBackend, Guard},
        Arc, Mutex,
    },
};

/// How one call wants to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Fail with `EAGAIN` rather than wait: O_NONBLOCK, or RWF_NOWAIT.
    pub(crate) nonblock: bool,
    /// What is written are packets: O_DIRECT.
    pub(crate) packets: bool,
    /// No SIGPIPE: RWF_NOSIGNAL.
    pub(crate) nosignal: bool,
}

/// What the inner lock protects.
pub(crate) struct Inner {
    /// The data.
    pub(crate) ring: Ring,
    /// Pages that readers have emptied, for writers. With those in use never more than the slots.
    pub(crate) spare: PageStock,
    /// The slots, counted to the user who made the pipe.
    account: UserPages,
    /// What has been done.
    pub(crate) stats: Stats,
    readers: u32,
    writers: u32,
    reader_opens: u32,
    writer_opens: u32,
}

impl Inner {
    /// How many pages may be kept for the next writer.
    fn spare_limit(&self) -> usize {
        // CAST: A u32 fits.
        (self.ring.slots() - self.ring.used()) as usize
    }

    /// Keeps an emptied page for the next writer, or frees it.
    pub(crate) fn recycle(&mut self, page: BufferPage) {
        if self.spare.len() < self.spare_limit() {
            // A full stock gives it back, and it is freed.
            let _ = self.spare.put(page);
        }
    }

    /// Frees pages that are no longer kept.
    fn trim(&mut self) {
        while self.spare.len() > self.spare_limit() {
            if self.spare.take().is_none() {
                return;
            }
        }
    }

    /// Keeps what `stock` has for the next writer, as far as there is room.
    pub(crate) fn restock(&mut self, stock: &mut PageStock) {
        while self.spare.len() < self.spare_limit().min(PageStock::MAX) {
            let Some(page) = stock.take() else { return };
            self.recycle(page);
        }
    }

    /// Whether anybody reads, or is about to.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers != 0
    }

    /// Whether anybody writes, or is about to.
    pub(crate) fn has_writers(&self) -> bool {
        self.writers != 0
    }

    fn state(&self) -> State {
        State {
            used: self.ring.used(),
            limit: self.ring.slots(),
            readers: self.readers,
            writers: self.writers,
            reader_opens: self.reader_opens,
            writer_opens: self.writer_opens,
        }
    }
}

/// [`State`] for whoever does not hold the lock.
///
/// Each number is a true one, but they may be of different moments.
struct Published {
    used: Atomic<u32>,
    limit: Atomic<u32>,
    readers: Atomic<u32>,
    writers: Atomic<u32>,
    reader_opens: Atomic<u32>,
    writer_opens: Atomic<u32>,
    spare: Atomic<u32>,
}

impl Published {
    fn new(state: State) -> Self {
        Self {
            used: Atomic::new(state.used),
            limit: Atomic::new(state.limit),
            readers: Atomic::new(state.readers),
            writers: Atomic::new(state.writers),
            reader_opens: Atomic::new(state.reader_opens),
            writer_opens: Atomic::new(state.writer_opens),
            spare: Atomic::new(0),
        }
    }

    fn store(&self, state: State, spare: u32) {
        self.used.store(state.used, Relaxed);
        self.limit.store(state.limit, Relaxed);
        self.readers.store(state.readers, Relaxed);
        self.writers.store(state.writers, Relaxed);
        self.reader_opens.store(state.reader_opens, Relaxed);
        self.writer_opens.store(state.writer_opens, Relaxed);
        self.spare.store(spare, Relaxed);
    }

    fn load(&self) -> State {
        State {
            used: self.used.load(Relaxed),
            limit: self.limit.load(Relaxed),
            readers: self.readers.load(Relaxed),
            writers: self.writers.load(Relaxed),
            reader_opens: self.reader_opens.load(Relaxed),
            writer_opens: self.writer_opens.load(Relaxed),
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
        // CAST: At most `PageStock::MAX`.
        self.published
            .store(self.inner.state(), self.inner.spare.len() as u32);
    }
}

/// A pipe.
#[pin_data]
pub(crate) struct Pipe {
    #[pin]
    inner: Mutex<Inner>,
    published: Published,
    /// Somebody polled. From then on every write wakes, as epoll's edges want it.
    polled: Atomic<bool>,
    /// Where readers wait for data, and openers for their partner.
    #[pin]
    pub(crate) rd_wait: WaitQueue,
    /// Where writers wait for room.
    #[pin]
    pub(crate) wr_wait: WaitQueue,
    /// Readers that want SIGIO.
    pub(crate) rd_fasync: FasyncQueue,
    /// Writers that want SIGIO.
    pub(crate) wr_fasync: FasyncQueue,
}

impl Pipe {
    /// A pipe that nobody has open yet. Sleeps.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mut account = UserPages::of_current();
        let slots = slots_for_new(account.set(DEFAULT_SLOTS), may_exceed_user_pages());
        account.set(slots);

        let inner = Inner {
            ring: Ring::new(slots)?,
            account,
            spare: PageStock::new(),
            stats: Stats::default(),
            readers: 0,
            writers: 0,
            reader_opens: 0,
            writer_opens: 0,
        };

        Arc::pin_init(
            pin_init!(Self {
                published: Published::new(inner.state()),
                inner <- new_mutex!(inner, "zpipe::inner"),
                polled: Atomic::new(false),
                rd_wait <- new_wait_queue!("zpipe::rd_wait"),
                wr_wait <- new_wait_queue!("zpipe::wr_wait"),
                rd_fasync: FasyncQueue::new(),
                wr_fasync: FasyncQueue::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Takes the inner lock. Sleeps, but never for longer than copies take.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked {
            published: &self.published,
            inner: self.inner.lock(),
        }
    }

    /// What is so at about this moment, without the lock.
    pub(crate) fn state(&self) -> State {
        self.published.load()
    }

    /// How many spare pages a writer can hope for, without the lock.
    pub(crate) fn spare_hint(&self) -> usize {
        self.published.spare.load(Relaxed) as usize
    }

    /// Whether anybody ever polled.
    pub(crate) fn polled(&self) -> bool {
        self.polled.load(Relaxed)
    }

    /// Notes that somebody polls.
    pub(crate) fn set_polled(&self) {
        if !self.polled() {
            self.polled.store(true, Relaxed);
        }
    }

    /// Opens the pipe as a FIFO, with all the waiting of fifo(7).
    ///
    /// Sleeps until there is a partner, unless `nonblock` or a signal (`ERESTARTSYS`). A lone
    /// writer that would not wait gets `ENXIO`. Returns the number of writers' opens so far when
    /// there was no writer and hanging up is not to be reported before one came.
    pub(crate) fn open_fifo(&self, access: Access, nonblock: bool) -> Result<Option<u32>> {
        let (state, unseen) = {
            let mut inner = self.lock();

            if access.write && !access.read && nonblock && !inner.has_readers() {
                return Err(ENXIO);
            }
            let first = inner.count_in(access);
            let state = inner.state();
            drop(inner);

            if first {
                self.rd_wait.wake_all();
            }
            (
                state,
                access.read && !access.write && state.writers == 0 && nonblock,
            )
        };
        if unseen {
            return Ok(Some(state.writer_opens));
        }

        let waited = if access.read && !access.write && state.writers == 0 {
            self.rd_wait
                .wait(|| self.state().writer_opens != state.writer_opens)
        } else if access.write && !access.read && state.readers == 0 {
            self.rd_wait
                .wait(|| self.state().reader_opens != state.reader_opens)
        } else {
            Ok(())
        };
        if let Err(e) = waited {
            self.close(access);
            return Err(e);
        }
        Ok(None)
    }

    /// Opens an end of a private pipe. Never waits, and never fails.
    pub(crate) fn open_pair(&self, access: Access) {
        let first = self.lock().count_in(access);

        if first {
            self.rd_wait.wake_all();
        }
    }

    /// The capacity in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.state().limit) * PAGE_SIZE as u64
    }

    /// Makes the capacity at least `bytes` bytes, as `F_SETPIPE_SZ` does. Sleeps.
    ///
    /// Errors: `EINVAL` (too large), `EPERM` (above what the user may have), `EBUSY` (more data
    /// than would fit), `ENOMEM`.
    pub(crate) fn set_capacity(&self, bytes: u64) -> Result {
        let slots = slots_for(bytes).ok_or(EINVAL)?;
        let grows = |inner: &Inner| slots > inner.ring.slots();

        if above_pipe_limit(slots) && grows(&self.lock()) && !may_exceed_pipe_size() {
            return Err(EPERM);
        }
        let ring = Ring::new(slots)?;

        let mut inner = self.lock();
        let before = inner.account.get();
        let all = inner.account.set(slots);
        if above_user_limit(all) && grows(&inner) && !may_exceed_user_pages() {
            inner.account.set(before);
            return Err(EPERM);
        }
        let Ok(old) = inner.ring.move_to(ring) else {
            inner.account.set(before);
            return Err(EBUSY);
        };
        inner.trim();
        drop(inner);
        drop(old);
        // There may be room now.
        self.wr_wait.wake_sync(Event::Output);
        Ok(())
    }

    /// Closes what was opened with `access`.
    pub(crate) fn close(&self, access: Access) {
        let mut inner = self.lock();

        inner.readers -= u32::from(access.read);
        inner.writers -= u32::from(access.write);
        let lone = inner.has_readers() != inner.has_writers();
        drop(inner);

        // The last of one side, while the other is still there.
        if lone {
            self.rd_wait.wake_all();
            self.wr_wait.wake_all();
            self.rd_fasync.tell(Event::Input);
            self.wr_fasync.tell(Event::Output);
        }
    }
}

impl Inner {
    /// Counts a file in; says whether openers may have waited for it.
    fn count_in(&mut self, access: Access) -> bool {
        let first = (access.read && self.readers == 0) || (access.write && self.writers == 0);

        self.readers += u32::from(access.read);
        self.writers += u32::from(access.write);
        self.reader_opens = self.reader_opens.wrapping_add(u32::from(access.read));
        self.writer_opens = self.writer_opens.wrapping_add(u32::from(access.write));
        first
    }
}
