// SPDX-License-Identifier: GPL-2.0-only

//! A pipe: opening and closing, wakeups, capacity, and what it prints about itself.
//!
//! The behaviour is that of `fs/pipe.c` of Linux 7.3. Reads are in [`read`](crate::read), writes in
//! [`write`](crate::write).
//!
//! # Lock order
//!
//! Outermost first. Each entry says under which locks of this list a task may take the lock. Under
//! any other lock of the list it must not take it.
//!
//! 1. The mutex of an open seq_file: `zpipe/pipes` in debugfs, or `/proc/PID/fdinfo/N`. seq_file
//!    holds it over calls of [`debugfs`](crate::debugfs) and [`Pipe::show`]. Taken under none.
//! 2. The mmap_lock of the current task's own memory, or the lock of a VMA. Page faults, gifts,
//!    moves, mmap(2) of windows and the search for resident memory take it. Taken under 1, where
//!    seq_file copies to the reader, or none.
//! 3. The mutex of a real pipe, see `real_pipe.rs`. Taken under none, by the caller of
//!    `->splice_read` or by `->splice_write`. Under it pages are allocated, and the inner lock is
//!    taken. No user memory is accessed under it.
//! 4. The mutex of a window, see [`window`](crate::window). Taken under 2, by a page fault in the
//!    window, or none. Under it frames are mapped and unmapped. No user memory is accessed under
//!    it, and no frame is allocated. The kernel may allocate page tables.
//! 5. The mutex of the [pipe table](crate::table). Taken under 1 or none. Under it pipes are looked
//!    up, counted, inserted and removed. They are made and freed without it.
//! 6. The inner lock, the mutex in [`Pipe`]. Taken under 1, 3 or none, so a task never holds those
//!    of two pipes.
//! 7. The mmap_lock of the owner of a posted write or read, for reading, see below. Taken under 6,
//!    and only tried.
//! 8. The spinlock of a [`Home`](crate::frames::Home). Taken under 1, 2 or none.
//! 9. The mutex of the SIGIO lists, in [`FasyncLists`]. Taken under none. Memory is allocated under
//!    it. SIGIO is sent without it.
//! 10. Locks of the kernel: of wait queues and the scheduler under 6, of page tables under 2, 4 and
//!     7, of fasync lists under 9.
//!
//! # The inner lock
//!
//! A task holds it for copies that cannot fault, never to wait for another task:
//!
//! - User memory is accessed only with page faults disabled.
//! - No memory is allocated. Pages may be freed; larger objects are freed after the lock is
//!   dropped.
//! - A direct transfer looks up pages of the owner's memory under that memory's mmap_lock. It only
//!   tries to take it (`mmap_read_trylock()`), and drops it before it copies. If it cannot take it,
//!   the transfer misses. See `mm/remote.rs`.
//! - Only two functions wake tasks under it. [`Locked::wake_pushed`] wakes the owner of a posted
//!   read after a push. [`Pipe::end_claim`] wakes the readers that wait for the end of a claim. All
//!   other wakeups are collected under it and issued after it.
//!
//! Other tasks test the [snapshot](Snapshot) without the lock. It is updated before the lock is
//! dropped and before a task that waits for a change is woken, see [`Locked`].
//!
//! # Seats and claims
//!
//! A gift needs a slot and the mmap_lock, and so does a move. The inner lock is not held while a
//! task takes the mmap_lock. So the task first reserves the slot: the writer by a seat, the reader
//! by a claim. See [`gift`](crate::gift) and `read/moves.rs`.
//!
//! A splice claims the first slots, too, and reserves free ones: see [`splice`](crate::splice).
//!
//! Seats and claims are no locks, but other tasks wait until they end. A task that has one for a
//! page may take the inner lock, or the mutex of its window. It only tries to take an mmap_lock,
//! and does not fault. It waits for no pipe and for no user of one. What the kernel does to
//! exchange a page takes time, though: it may wait for all processors (`lru_add_drain_all()`), for
//! locks of the reverse map, or for the memory of a page table.

use crate::{
    compat::parameter,
    id::PipeId,
    lock::{Inner, Locked, Snapshot},
    mm::{may_exceed_pipe_size, may_exceed_user_pages, UserPages},
    module_parameters,
    ring::Ring,
    slot::{LargeSlots, Slot},
    sync::{new_wait_queue, Event, FasyncLists, WaitQueue, Word},
    trace::{self, Who},
    zcore::{
        capacity::{slots_for, Limits},
        state::{Access, State},
        wakeup::{Wakes, WakesAll},
        PAGE_SIZE,
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::{seq_print, SeqFile},
    sync::{Arc, Mutex},
};

/// The limits on pipes from the module parameters. `EINVAL` if no pipe can be as large as
/// `max_size`.
pub(crate) fn limits() -> Result<Limits> {
    Limits::new(
        parameter(&module_parameters::max_size).into(),
        parameter(&module_parameters::user_pages_soft),
        parameter(&module_parameters::user_pages_hard),
    )
    .ok_or(EINVAL)
}

/// A pipe.
///
/// The reader and the writer run on different CPUs. Each cache line that both of them change costs
/// as much as a small message. So the snapshot, the lock and the indices of the ring share one
/// line.
#[pin_data]
#[repr(C, align(64))]
pub(crate) struct Pipe {
    snapshot: Snapshot,
    #[pin]
    inner: Mutex<Inner>,
    /// Readers that wait for data, and openers that wait for their partner.
    #[pin]
    pub(crate) rd_wait: WaitQueue,
    /// Writers that wait for a free slot.
    #[pin]
    pub(crate) wr_wait: WaitQueue,
    /// The owner of the posted write.
    #[pin]
    pub(crate) owner_wait: WaitQueue,
    /// Readers that wait for the end of another reader's claim, as for the mutex of a pipe(2).
    #[pin]
    pub(crate) claim_wait: WaitQueue,
    /// Files that get SIGIO.
    #[pin]
    pub(crate) fasync: FasyncLists,
    /// The value of [`Pipe::every_write_wakes`].
    every_write_wakes: Word,
    /// A copy of [`Inner::buffer_only`] that tasks read without the lock.
    buffer_only: Word,
    /// A copy of [`Inner::slots_only_users`], likewise.
    slots_only_users: Word,
    /// The number of slots that hold a huge page, small pages or a frame, in the ring or in view,
    /// and of seats. Changed under the lock.
    huge: Word,
    /// Not 0 while a reader has a claim on the first slot. Changed under the lock.
    pub(crate) claimed: Word,
    /// The name of the pipe for people.
    id: PipeId,
}

impl Pipe {
    /// A pipe that no file has open yet. Sleeps.
    ///
    /// Errors: `ENOMEM`, also if the user has too many pages in pipes. `EINVAL` as for [`limits`].
    pub(crate) fn new(id: PipeId) -> Result<Arc<Self>> {
        let mut account = UserPages::of_current();
        let slots = limits()?
            .slots_for_new(may_exceed_pipe_size, may_exceed_user_pages, |slots| {
                account.set(slots)
            })
            .ok_or(ENOMEM)?;

        let inner = Inner::new(id, Ring::new(slots)?, account)?;

        Arc::pin_init(
            pin_init!(Self {
                snapshot: Snapshot::new(&inner),
                inner <- new_mutex!(inner, "zpipe::inner"),
                rd_wait <- new_wait_queue!("zpipe::rd_wait"),
                wr_wait <- new_wait_queue!("zpipe::wr_wait"),
                owner_wait <- new_wait_queue!("zpipe::owner_wait"),
                claim_wait <- new_wait_queue!("zpipe::claim_wait"),
                fasync <- FasyncLists::new(),
                every_write_wakes: Word::new(0),
                buffer_only: Word::new(0),
                slots_only_users: Word::new(0),
                huge: Word::new(0),
                claimed: Word::new(0),
                id,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The name of the pipe for people.
    pub(crate) fn id(&self) -> &PipeId {
        &self.id
    }

    /// Takes the inner lock. Sleeps, but never longer than other tasks copy under it.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked::new(&self.snapshot, self.inner.lock())
    }

    /// Reads the snapshot, without the lock. It may be stale, and its words may be of different
    /// moments.
    pub(crate) fn snapshot(&self) -> State {
        self.snapshot.load()
    }

    /// True if every write wakes tasks that poll the read end, even if the pipe was not empty.
    /// Edge-triggered epoll relies on that; in `fs/pipe.c` it is `pseudo_edgetrigger`.
    pub(crate) fn every_write_wakes(&self) -> bool {
        self.every_write_wakes.read() != 0
    }

    /// Makes every write wake pollers from now on. Nothing turns it off again.
    pub(crate) fn set_every_write_wakes(&self) {
        if !self.every_write_wakes() {
            self.every_write_wakes.write(1);
        }
    }

    /// Opens the pipe as a FIFO, see fifo(7) and `fifo_open()`.
    ///
    /// Sleeps until the other side is open, too, unless `nonblock`. An open for reading and writing
    /// does not wait.
    ///
    /// A non-blocking open for reading only, without a writer, returns [`Some`]: the number of
    /// times that the pipe was opened for writing so far. Until that number changes, poll does not
    /// report the hang-up. All other opens return [`None`].
    ///
    /// Errors: `ENXIO` (a non-blocking open for writing only, without a reader), `ERESTARTSYS` (a
    /// signal).
    pub(crate) fn open_fifo(&self, access: Access, nonblock: bool) -> Result<Option<u32>> {
        let (state, unseen) = {
            let mut inner = self.lock();

            if access.write && !access.read && nonblock && !inner.has_readers() {
                return Err(ENXIO);
            }
            let wakes = inner.count_in(access);
            let state = inner.state();
            drop(inner);

            self.wake_all(wakes);
            let unseen = access.read && !access.write && state.ends.writers == 0 && nonblock;
            (state, unseen)
        };
        if unseen {
            return Ok(Some(state.opens.writers));
        }

        let waited = if access.read && !access.write && state.ends.writers == 0 {
            self.rd_wait
                .wait(|| self.snapshot().opens.writers != state.opens.writers)
        } else if access.write && !access.read && state.ends.readers == 0 {
            self.rd_wait
                .wait(|| self.snapshot().opens.readers != state.opens.readers)
        } else {
            Ok(())
        };
        if let Err(e) = waited {
            self.close(access);
            return Err(e);
        }
        Ok(None)
    }

    /// Opens an end of a pair. It does not wait for a partner, and cannot fail.
    pub(crate) fn open_pair(&self, access: Access) {
        let wakes = self.lock().count_in(access);

        self.wake_all(wakes);
    }

    /// Issues the wakeups of one reader or writer. The inner lock must be dropped.
    ///
    /// At most call sites the compiler knows some of the wakeups to be off, so it is inlined.
    #[inline(always)]
    pub(crate) fn wake(&self, wakes: Wakes) {
        if wakes.owner {
            trace::wake(&self.id, Who::Owner);
            self.owner_wait.wake_sync(Event::Output);
        }
        if wakes.reader {
            trace::wake(&self.id, Who::Reader);
            self.rd_wait.wake_sync(Event::Input);
        }
        if wakes.sigio_readers {
            self.fasync.readers.notify(Event::Input);
        }
        if wakes.writer {
            trace::wake(&self.id, Who::Writer);
            self.wr_wait.wake_sync(Event::Output);
        }
        if wakes.sigio_writers {
            self.fasync.writers.notify(Event::Output);
        }
    }

    /// Wakes all tasks on the wait queues that `wakes` names. The inner lock must be dropped.
    fn wake_all(&self, wakes: WakesAll) {
        if wakes.readers {
            self.rd_wait.wake_all();
        }
        if wakes.writers {
            self.wr_wait.wake_all();
        }
        if wakes.owner {
            self.owner_wait.wake_all();
        }
        if wakes.sigio {
            self.fasync.readers.notify(Event::Input);
            self.fasync.writers.notify(Event::Output);
        }
    }

    /// Ends the claim of a reader and wakes the readers that wait for its end. The caller holds the
    /// lock.
    pub(crate) fn end_claim(&self, locked: &Locked<'_>) {
        self.claimed.write(0);
        locked.update_snapshot();
        self.claim_wait.wake_all();
    }

    /// The number of slots that hold a huge page, small pages or a frame, and of seats. It may be
    /// stale without the lock.
    pub(crate) fn huge(&self) -> u64 {
        self.huge.read()
    }

    /// Sets the number of [`Self::huge`]. The caller holds the lock.
    pub(crate) fn set_huge(&self, _locked: &Locked<'_>, pages: u64) {
        self.huge.write(pages);
    }

    /// True if a user with `all` pages in pipes may not have more of them. The current task's
    /// capabilities may lift that limit.
    pub(crate) fn above_user(&self, all: u64) -> bool {
        limits().is_ok_and(|limits| limits.above_user(all)) && !may_exceed_user_pages()
    }

    /// True if the pipe is buffer-only: it makes no direct transfers. It may be stale without the
    /// lock.
    pub(crate) fn is_buffer_only(&self) -> bool {
        self.buffer_only.read() != 0
    }

    /// Makes the pipe buffer-only, or ends that. Sleeps, but only for the lock.
    ///
    /// If it becomes buffer-only, the posted write is closed: its bytes are no longer announced
    /// until its owner has put them into slots.
    pub(crate) fn set_buffer_only(&self, on: bool) {
        let mut inner = self.lock();
        inner.buffer_only = on;
        let closed = inner.enforce_slots_only();
        self.buffer_only.write(on.into());
        drop(inner);

        self.wake_all(WakesAll::buffer_only(on));
        self.wake(Wakes::closed(closed));
    }

    /// True if all bytes go through slots, see [`Inner::slots_only`]. It may be stale without the
    /// lock.
    pub(crate) fn is_slots_only(&self) -> bool {
        self.is_buffer_only() || self.slots_only_users.read() != 0
    }

    /// Counts a read window that is opened. A read window shows slots only, so all bytes go through
    /// slots from now on. Sleeps, but only for the lock.
    pub(crate) fn open_window(&self) {
        self.begin_slots_only(|inner| inner.windows += 1);
    }

    /// Counts a command that reads slots for another file, until [`Self::end_splice`]. All bytes go
    /// through slots from now on. Returns true if it closed a posted write, whose owner is about to
    /// put bytes into slots. Sleeps, but only for the lock.
    pub(crate) fn begin_splice(&self) -> bool {
        self.begin_slots_only(|inner| inner.splices += 1)
    }

    /// Ends [`Self::begin_splice`].
    pub(crate) fn end_splice(&self) {
        let mut inner = self.lock();
        inner.splices -= 1;
        self.slots_only_users.write(inner.slots_only_users().into());
    }

    fn begin_slots_only(&self, count: impl FnOnce(&mut Inner)) -> bool {
        let mut inner = self.lock();
        count(&mut inner);
        self.slots_only_users.write(inner.slots_only_users().into());
        let closed = inner.enforce_slots_only();
        drop(inner);
        self.wake(Wakes::closed(closed));
        closed
    }

    /// Counts a read window that is closed. The slots that it had in view return to the front of
    /// the ring: `slots` yields them, the last one first.
    ///
    /// Sleeps for the lock. If there are slots, also until the claim of another reader has ended.
    pub(crate) fn close_window(&self, slots: impl Iterator<Item = Slot>) {
        let mut any = false;
        let mut slots = slots.peekable();
        let mut inner = loop {
            let inner = self.lock();
            if self.claimed.read() == 0 || slots.peek().is_none() {
                break inner;
            }
            // A reader has a claim on the first slot. No slot may get in front of that one. The
            // claim ends when the kernel has exchanged a page: no user of the pipe can delay that.
            // It is not the claim of a splice, because those are refused while there are windows.
            drop(inner);
            self.claim_wait.wait_for_others(|| self.claimed.read() == 0);
        };
        for slot in slots {
            any = true;
            inner.ring.return_held(slot);
        }
        inner.windows -= 1;
        self.slots_only_users.write(inner.slots_only_users().into());
        drop(inner);
        self.wake(Wakes::returned(any));
    }

    /// The capacity in bytes. Sleeps, but only for the lock.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.lock().ring.slots()) * PAGE_SIZE as u64
    }

    /// Sets the capacity to at least `bytes` bytes, rounded up as `F_SETPIPE_SZ` does. Sleeps.
    ///
    /// Errors: `EINVAL` (too large), `EPERM` (above the limits of an unprivileged user), `EBUSY`
    /// (the slots in use do not fit), `ENOMEM`.
    pub(crate) fn set_capacity(&self, bytes: u64) -> Result {
        let limits = limits()?;
        let slots = slots_for(bytes).ok_or(EINVAL)?;
        let grows = |inner: &Inner| slots > inner.ring.slots();

        if limits.above_pipe(slots) && grows(&self.lock()) && !may_exceed_pipe_size() {
            return Err(EPERM);
        }
        let ring = Ring::new(slots)?;

        let mut inner = self.lock();
        // The pipe may have become smaller since the check without the lock.
        if limits.above_pipe(slots) && grows(&inner) && !may_exceed_pipe_size() {
            return Err(EPERM);
        }
        let before = inner.account.get();
        let all = inner.account.set(slots);
        if limits.above_user(all) && grows(&inner) && !may_exceed_user_pages() {
            inner.account.set(before);
            return Err(EPERM);
        }
        let grows = grows(&inner);
        let (result, unused) = match inner.ring.resize_into(ring) {
            Ok(old) => (Ok(()), old),
            Err(new) => {
                inner.account.set(before);
                (Err(EBUSY), new)
            }
        };
        inner.trim();
        // A pipe(2) writer would have filled the new slots. Here the posted write announces more
        // bytes.
        let refilled = result.is_ok() && grows && inner.ring.has_pullable();
        drop(inner);
        // There may be many slots, so they are freed without the lock.
        drop(unused);
        if result.is_ok() {
            self.wake(Wakes::resized(refilled));
        }
        result
    }

    /// Closes an end that was opened with `access`.
    pub(crate) fn close(&self, access: Access) {
        let mut gone = LargeSlots::new();
        let mut scratch = [None, None];
        let wakes = {
            let mut inner = self.lock();
            let wakes = inner.count_out(access);
            let nobody = !inner.has_readers() || !inner.has_writers();
            inner.homes.purge(nobody, &mut gone);
            if nobody {
                scratch = [inner.homes.take_scratch(), inner.homes.take_scratch()];
            }
            wakes
        };
        // All of it is freed without the lock.
        drop(scratch);
        gone.free();

        self.wake_all(wakes);
    }

    /// Prints the state and the counters, for `/proc/PID/fdinfo/N`. Sleeps, but only for the lock.
    pub(crate) fn show(&self, seq: &SeqFile) {
        let (state, slots, bytes, homes, stats) = {
            let inner = self.lock();
            let (ring, homes) = (&inner.ring, inner.homes.len());
            (
                inner.state(),
                ring.slots(),
                ring.bytes(),
                homes,
                *inner.stats,
            )
        };

        seq_print!(seq, "zpipe-slots:\t{}/{}\n", state.occupancy.used, slots);
        seq_print!(seq, "zpipe-buffered:\t{}\n", bytes);
        seq_print!(
            seq,
            "zpipe-buffer-only:\t{}\n",
            u32::from(self.is_buffer_only())
        );
        seq_print!(seq, "zpipe-readers:\t{}\n", state.ends.readers);
        seq_print!(seq, "zpipe-writers:\t{}\n", state.ends.writers);
        seq_print!(seq, "zpipe-homes:\t{}\n", homes);
        seq_print!(seq, "{}", stats);
        let write = self.wr_wait.spun_us() + self.owner_wait.spun_us();
        seq_print!(seq, "zpipe-spun-us-write:\t{}\n", write);
        seq_print!(seq, "zpipe-spun-us-read:\t{}\n", self.rd_wait.spun_us());
    }

    /// As [`Self::show`], after the name of the pipe, for a file with an inode of its own.
    pub(crate) fn show_named(&self, seq: &SeqFile) {
        let (major, minor) = self.id.device();

        seq_print!(seq, "zpipe-inode:\t{}\n", self.id.inode);
        seq_print!(seq, "zpipe-device:\t{}:{}\n", major, minor);
        self.show(seq);
    }
}
