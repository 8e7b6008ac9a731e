// SPDX-License-Identifier: GPL-2.0-only

//! A pipe: its ends, its lock, and who is woken when.
//!
//! The behaviour is that of Linux 7.3, `fs/pipe.c`. [`write`](crate::write) and
//! [`read`](crate::read) hold the two transfers.
//!
//! # Locks
//!
//! Outermost first; no lock is held while another line's is taken unless it stands below:
//!
//! 1. the pipe table, [`table`](crate::table): found, counted, dropped, listed one at a time; nothing
//!    else happens in it, and who lists a pipe has left it before the pipe's own lock is taken.
//! 2. a pipe's inner lock, the mutex in [`Pipe`]. Under it user memory is touched only with page
//!    faults disabled, no page is allocated and nothing takes an mmap_lock: it is held for copies,
//!    never for waits. Two pipes' locks are never held together.
//! 3. the kernel's own below it: wait queue locks, fasync locks.
//!
//! Above them all is the lock of an open file of debugfs, which the list of pipes is made under.
//!
//! Beside them, never with one of them held: the mmap_lock of the caller's own memory, taken by faults and
//! by gifts. Who needs a slot and an mmap_lock reserves the slot first, see [`gift`](crate::gift).
//!
//! The lock of a window stands below an mmap_lock, and above nothing of the above: who has it takes no pipe's
//! lock, see [`window`](crate::window).
//!
//! The lock of the SIGIO lists, [`FasyncLists`], is taken with none of these held. Under it memory is
//! allocated and the kernel's fasync locks are taken.
//!
//! What other tasks test without the lock, [`State`], is published before it is dropped, and who
//! waits for it is woken after that: see
//! [`Locked`].

use crate::{
    compat::parameter,
    lock::{Inner, Locked, Published},
    mm::{may_exceed_pipe_size, may_exceed_user_pages, UserPages},
    module_parameters,
    ring::Ring,
    slot::{HugeSlots, Kind, Slot},
    sync::{new_wait_queue, Event, FasyncLists, WaitQueue, Word},
    trace::{self, Who},
    zcore::{
        capacity::{slots_for, Limits},
        state::{Access, State},
        turn::Wakes,
        PAGE_SIZE,
    },
};
use kernel::{
    fs::{file::flags, File},
    new_mutex,
    prelude::*,
    seq_file::{seq_print, SeqFile},
    sync::{Arc, Mutex},
};

/// Huge pages in the slots of a pipe at most. They are charged to no memory cgroup, so they are few.
pub(crate) const HUGE_MOST: u64 = 4;

/// The same with frames of windows, which are charged to who made the window.
pub(crate) const FRAMES_MOST: u64 = 8;

/// The limits on pipes, as the module's parameters say. `EINVAL` if that makes no sense.
pub(crate) fn limits() -> Result<Limits> {
    Limits::new(
        parameter(&module_parameters::max_size).into(),
        parameter(&module_parameters::user_pages_soft),
        parameter(&module_parameters::user_pages_hard),
    )
    .ok_or(EINVAL)
}

/// How one call wants to be served.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The file, whose flags may change while the call waits.
    pub(crate) file: &'a File,
    /// RWF_NOWAIT.
    pub(crate) nowait: bool,
    /// RWF_NOSIGNAL: no SIGPIPE.
    pub(crate) nosignal: bool,
}

impl<'a> Request<'a> {
    /// A call without flags.
    pub(crate) fn of(file: &'a File) -> Self {
        Self {
            file,
            nowait: false,
            nosignal: false,
        }
    }

    /// Whether what is written may be left to readers, as things stand.
    pub(crate) fn may_offer(&self) -> bool {
        !self.nonblock() && self.kind() == Kind::Stream
    }

    /// Whether to fail with `EAGAIN` rather than wait, as things stand.
    pub(crate) fn nonblock(&self) -> bool {
        self.nowait || self.file.flags() & flags::O_NONBLOCK != 0
    }

    /// What is written to the file, as things stand.
    pub(crate) fn kind(&self) -> Kind {
        if self.file.flags() & flags::O_DIRECT != 0 {
            Kind::Packet
        } else {
            Kind::Stream
        }
    }
}

/// Which pipe it is, for people: its inode, as fstat(2) tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipeId {
    /// The device of its file system, as the kernel has it.
    pub(crate) device: u32,
    /// The number.
    pub(crate) inode: u64,
}

impl PipeId {
    /// Bits of a device number that are the minor.
    const MINOR_BITS: u32 = 20;

    /// The device's major and minor number.
    fn device(&self) -> (u32, u32) {
        let bits = Self::MINOR_BITS;
        (self.device >> bits, self.device & ((1 << bits) - 1))
    }
}

/// A pipe.
///
/// Reader and writer run on different CPUs, and every cache line that both change costs as much as
/// a small message: so what is published, the lock and the ring's indices lie together in one.
#[pin_data]
#[repr(C, align(64))]
pub(crate) struct Pipe {
    published: Published,
    #[pin]
    inner: Mutex<Inner>,
    /// Where readers wait for data, and openers for their partner.
    #[pin]
    pub(crate) rd_wait: WaitQueue,
    /// Where writers wait for room.
    #[pin]
    pub(crate) wr_wait: WaitQueue,
    /// Where the one writer waits whose memory is offered.
    #[pin]
    pub(crate) offer_wait: WaitQueue,
    /// Where readers wait while another one tries to land a huge page, as for the mutex of a pipe(2).
    #[pin]
    pub(crate) claim_wait: WaitQueue,
    /// Readers and writers that want SIGIO.
    #[pin]
    pub(crate) fasync: FasyncLists,
    /// Every write wakes who polls the read end, whether the pipe was empty or not.
    every_write_wakes: Word,
    /// The lockless copy of what the lock protects, for who would prepare a direct transfer.
    buffer_only: Word,
    /// The same of whether read windows are there.
    windows: Word,
    /// Huge pages in slots, or on their way there: written under the lock.
    huge: Word,
    /// A reader tries to land the page in the first slot: written under the lock.
    pub(crate) claimed: Word,
    /// Which one it is.
    id: PipeId,
}

impl Pipe {
    /// A pipe that nobody has open yet. Sleeps. `ENOMEM` also if the user has too many.
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
                published: Published::new(&inner),
                inner <- new_mutex!(inner, "zpipe::inner"),
                rd_wait <- new_wait_queue!("zpipe::rd_wait"),
                wr_wait <- new_wait_queue!("zpipe::wr_wait"),
                offer_wait <- new_wait_queue!("zpipe::offer_wait"),
                claim_wait <- new_wait_queue!("zpipe::claim_wait"),
                fasync <- FasyncLists::new(),
                every_write_wakes: Word::new(0),
                buffer_only: Word::new(0),
                windows: Word::new(0),
                huge: Word::new(0),
                claimed: Word::new(0),
                id,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Which one it is.
    pub(crate) fn id(&self) -> &PipeId {
        &self.id
    }

    /// Takes the inner lock. Sleeps, but never for longer than copies take.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked::new(&self.published, self.inner.lock())
    }

    /// What is so at about this moment, without the lock.
    pub(crate) fn state(&self) -> State {
        self.published.load()
    }

    /// True if every write wakes who polls the read end, and not only one to an empty pipe: edges of
    /// epoll have always been so.
    pub(crate) fn every_write_wakes(&self) -> bool {
        self.every_write_wakes.read() != 0
    }

    /// Makes it so, for good.
    pub(crate) fn set_every_write_wakes(&self) {
        if !self.every_write_wakes() {
            self.every_write_wakes.write(1);
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
            let unseen = access.read && !access.write && state.ends.writers == 0 && nonblock;
            (state, unseen)
        };
        if unseen {
            return Ok(Some(state.opens.writers));
        }

        let waited = if access.read && !access.write && state.ends.writers == 0 {
            self.rd_wait
                .wait(|| self.state().opens.writers != state.opens.writers)
        } else if access.write && !access.read && state.ends.readers == 0 {
            self.rd_wait
                .wait(|| self.state().opens.readers != state.opens.readers)
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

    /// Wakes whom a reader or writer owes it, with the lock dropped.
    ///
    /// Where it is inlined, most of it is known not to be owed.
    #[inline(always)]
    pub(crate) fn wake(&self, wakes: Wakes) {
        if wakes.owner {
            trace::wake(&self.id, Who::Owner);
            self.offer_wait.wake_sync(Event::Output);
        }
        if wakes.reader {
            trace::wake(&self.id, Who::Reader);
            self.rd_wait.wake_sync(Event::Input);
        }
        if wakes.input {
            self.fasync.readers.tell(Event::Input);
        }
        if wakes.writer {
            trace::wake(&self.id, Who::Writer);
            self.wr_wait.wake_sync(Event::Output);
        }
        if wakes.output {
            self.fasync.writers.tell(Event::Output);
        }
    }

    /// How many huge pages are in slots, or on their way there; may be stale without the lock.
    pub(crate) fn huge(&self) -> u64 {
        self.huge.read()
    }

    /// Says how many, with the lock held.
    pub(crate) fn set_huge(&self, _locked: &Locked<'_>, pages: u64) {
        self.huge.write(pages);
    }

    /// Whether a user who has `all` pages in pipes has too many to gift more.
    pub(crate) fn above_user(&self, all: u64) -> bool {
        limits().is_ok_and(|limits| limits.above_user(all)) && !may_exceed_user_pages()
    }

    /// True if nothing goes straight from one process to the other. May be stale without the lock,
    /// under which it is changed.
    pub(crate) fn is_buffer_only(&self) -> bool {
        self.buffer_only.read() != 0
    }

    /// Lets data through slots only from now on, or no longer. Sleeps, but only for the lock.
    ///
    /// What waits in a writer's memory is not announced any more when this returns, until the
    /// writer has put it into slots.
    pub(crate) fn set_buffer_only(&self, on: bool) {
        let mut inner = self.lock();
        inner.buffer_only = on;
        let called = inner.keep_to_slots();
        self.buffer_only.write(on.into());
        drop(inner);

        // Nobody waits to gift any more.
        if on {
            self.wr_wait.wake_all();
        }

        self.tell_of_recall(called);
    }

    /// Wakes the owner of an offer, if it was `called` back, and whom that was in the way of.
    fn tell_of_recall(&self, called: bool) {
        if called {
            self.wake(Wakes {
                owner: true,
                writer: true,
                output: true,
                ..Wakes::default()
            });
        }
    }

    /// True if data goes through slots only, by a flag or for read windows. May be stale without the lock,
    /// under which it is changed.
    pub(crate) fn is_slots_only(&self) -> bool {
        self.is_buffer_only() || self.windows.read() != 0
    }

    /// Counts a read window in: it shows slots only, so data goes through these from now on. Sleeps, but only
    /// for the lock.
    pub(crate) fn open_window(&self) {
        let mut inner = self.lock();
        inner.windows += 1;
        self.windows.write(inner.windows.into());
        let called = inner.keep_to_slots();
        drop(inner);
        self.tell_of_recall(called);
    }

    /// Counts a read window out. What it had in view comes back to the front, the last of `slots` first.
    /// Sleeps, but only for the lock.
    pub(crate) fn close_window(&self, slots: impl Iterator<Item = Slot>) {
        let mut any = false;
        let mut inner = loop {
            let inner = self.lock();
            if self.claimed.read() == 0 {
                break inner;
            }
            // A reader lands the first slot just now, for which it waits for nobody: nothing may come before
            // that meanwhile.
            drop(inner);
            self.claim_wait.wait_for_others(|| self.claimed.read() == 0);
        };
        for slot in slots {
            any = true;
            inner.ring.give_back(slot);
        }
        inner.windows -= 1;
        self.windows.write(inner.windows.into());
        drop(inner);
        if any {
            self.wake(Wakes {
                reader: true,
                input: true,
                ..Wakes::default()
            });
        }
    }

    /// The capacity in bytes. Sleeps, but only for the lock.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.lock().ring.slots()) * PAGE_SIZE as u64
    }

    /// Makes the capacity at least `bytes` bytes, as `F_SETPIPE_SZ` does. Sleeps.
    ///
    /// Errors: `EINVAL` (too large), `EPERM` (above what the user may have), `EBUSY` (more data
    /// than would fit), `ENOMEM`.
    pub(crate) fn set_capacity(&self, bytes: u64) -> Result {
        let limits = limits()?;
        let slots = slots_for(bytes).ok_or(EINVAL)?;
        let grows = |inner: &Inner| slots > inner.ring.slots();

        if limits.above_pipe(slots) && grows(&self.lock()) && !may_exceed_pipe_size() {
            return Err(EPERM);
        }
        let ring = Ring::new(slots)?;

        let mut inner = self.lock();
        // The pipe may have been made smaller meanwhile.
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
        let (result, unused) = match inner.ring.move_to(ring) {
            Ok(old) => (Ok(()), old),
            Err(new) => {
                inner.account.set(before);
                (Err(EBUSY), new)
            }
        };
        inner.trim();
        // A writer that waits would have filled the new slots.
        let refilled = result.is_ok() && grows && inner.ring.is_occupied();
        drop(inner);
        // Places may be many, and are freed without the lock.
        drop(unused);
        // There may be room now.
        if result.is_ok() {
            self.offer_wait.wake_sync(Event::Output);
            self.wr_wait.wake_sync(Event::Output);
        }
        if refilled {
            self.fasync.readers.tell(Event::Input);
        }
        result
    }

    /// Closes what was opened with `access`.
    pub(crate) fn close(&self, access: Access) {
        let mut gone = HugeSlots::new();
        let mut scratch = [None, None];
        let lone = {
            let mut inner = self.lock();
            let lone = inner.count_out(access);
            let nobody = !inner.has_readers() || !inner.has_writers();
            inner.homes.purge(nobody, &mut gone);
            if nobody {
                scratch = [inner.homes.take_scratch(), inner.homes.take_scratch()];
            }
            lone
        };
        // All of it is freed without the lock.
        drop(scratch);
        gone.free();

        // The last of one side, while the other is still there.
        if lone {
            self.rd_wait.wake_all();
            self.wr_wait.wake_all();
            self.offer_wait.wake_all();
            self.fasync.readers.tell(Event::Input);
            self.fasync.writers.tell(Event::Output);
        }
    }

    /// Prints state and counters: `/proc/PID/fdinfo/N`. Sleeps, but only for the lock.
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

        seq_print!(seq, "zpipe-slots:\t{}/{}\n", state.room.used, slots);
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
        let write = self.wr_wait.spun_us() + self.offer_wait.spun_us();
        seq_print!(seq, "zpipe-spun-us-write:\t{}\n", write);
        seq_print!(seq, "zpipe-spun-us-read:\t{}\n", self.rd_wait.spun_us());
    }

    /// The same in a list of pipes: which one it is, and an empty line at the end.
    pub(crate) fn show_listed(&self, seq: &SeqFile) {
        let (major, minor) = self.id.device();

        seq_print!(seq, "zpipe-inode:\t{}\n", self.id.inode);
        seq_print!(seq, "zpipe-device:\t{}:{}\n", major, minor);
        self.show(seq);
        seq_print!(seq, "\n");
    }
}
