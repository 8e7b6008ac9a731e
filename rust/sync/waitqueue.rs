// SPDX-License-Identifier: GPL-2.0-only

//! Wait queues with features that [`CondVar`](kernel::sync::CondVar) lacks:
//!
//! - The waiter tests its condition without a lock.
//! - Waiters can be exclusive or not.
//! - Wakeups name the event, so that epoll can filter them.
//! - If a signal interrupts a waiter, a wakeup goes to another waiter instead.
//!
//! An exclusive waiter may spin for a moment before it sleeps. [`Backoff`] decides when it does,
//! and the module parameter `spin_us` limits for how long.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h); the loop is that of
//! `___wait_event()`.

use super::Word;
use crate::{sys, zcore::backoff::Backoff};
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        LockClassKey,
    },
    task::{TASK_INTERRUPTIBLE, TASK_NORMAL, TASK_UNINTERRUPTIBLE},
    types::Opaque,
};

/// The event that a wakeup or a SIGIO announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A pipe has something to read.
    Input,
    /// A pipe can be written to.
    Output,
}

impl Event {
    /// The event as a mask of poll(2).
    fn mask(self) -> u32 {
        match self {
            Event::Input => sys::ZPIPE_POLL_INPUT,
            Event::Output => sys::ZPIPE_POLL_OUTPUT,
        }
    }
}

/// Creates a [`WaitQueue`] initialiser with the given name and a newly created lock class.
macro_rules! new_wait_queue {
    ($name:literal) => {
        $crate::sync::WaitQueue::new(kernel::c_str!($name), kernel::static_lock_class!())
    };
}
pub(crate) use new_wait_queue;

/// How long a task may spin, in nanoseconds.
static SPIN_NS: Word = Word::new(0);

/// The maximal time for which a task may spin, in microseconds, whatever the parameter says. A
/// sleep and a wakeup take some tens of microseconds, and a task that spins for longer keeps its
/// processor from idling.
const SPIN_US_MAX: u32 = 1000;

/// Sets for how many microseconds a task may spin before it sleeps; 0 turns spinning off.
///
/// Called once, before the first queue exists.
pub(crate) fn set_spin_us(us: u32) {
    SPIN_NS.write(u64::from(us.min(SPIN_US_MAX)) * 1000);
}

/// A `wait_queue_head_t`.
///
/// Change the state first, then wake. A waiter then either sees the new state when it tests its
/// condition, or is woken. The lock of the queue guarantees this. [`Self::wake_sync`] finds an
/// empty queue without that lock; then a memory barrier guarantees it.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    /// A packed [`Backoff`]: how successful spinning was on this queue lately. If two tasks write
    /// it at the same time, one update is lost, which does no harm.
    backoff: Word,
    /// The time that tasks have spent spinning, in nanoseconds, whether successful or not.
    spun: Atomic<u64>,
}

// SAFETY: A wait queue head may be used on any thread.
unsafe impl Send for WaitQueue {}
// SAFETY: All functions that change the head from `&self` take its lock. The test for waiters reads
// it without the lock, which the C API allows.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// Constructs a new wait queue initialiser.
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid while the closure is called, and `name` and `key` live
            // indefinitely.
            head <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            backoff: Word::new(0),
            spun: Atomic::new(0),
        })
    }

    /// The C wait queue head, for `poll_wait()`.
    pub(crate) fn as_ptr(&self) -> *mut bindings::wait_queue_head {
        self.head.get()
    }

    /// The total time that tasks have spent spinning on this queue, in microseconds.
    pub(crate) fn spun_us(&self) -> u64 {
        self.spun.load(Relaxed) / 1000
    }

    /// Waits until `ready` returns true. Error: `ERESTARTSYS`, if a signal comes first.
    ///
    /// The wait is not exclusive: each wakeup reaches all such waiters. Sleeps: call it without
    /// locks. `ready` is called after the task has been marked as sleeping, so it must not sleep.
    pub(crate) fn wait(&self, ready: impl FnMut() -> bool) -> Result {
        self.wait_event(0, TASK_INTERRUPTIBLE, ready)?;
        Ok(())
    }

    /// As [`Self::wait`], but only a fatal signal interrupts it. Like a wait for a mutex, this is
    /// not visible to user space.
    ///
    /// Only [`Self::wake_all`] wakes this waiter.
    pub(crate) fn wait_killable(&self, ready: impl FnMut() -> bool) -> Result {
        // CAST: These are bits of a task's state.
        let state = TASK_UNINTERRUPTIBLE | bindings::TASK_WAKEKILL as c_int;
        self.wait_event(0, state, ready)?;
        Ok(())
    }

    /// As [`Self::wait_killable`], but no signal interrupts it. It is for a wait that ends when the
    /// kernel has done some work, and that no other user of the pipe can delay.
    pub(crate) fn wait_for_others(&self, ready: impl FnMut() -> bool) {
        // CAST: These are bits of a task's state. A wait that no signal interrupts cannot fail.
        let _ = self.wait_event(0, TASK_UNINTERRUPTIBLE as c_int, ready);
    }

    /// As [`Self::wait`], but exclusive: each wakeup reaches only one such waiter.
    ///
    /// A caller that gets `Ok` may have used up a wakeup. If it leaves something for others, it
    /// must wake the next one. `Ok(false)` means that it did not sleep; then other waiters may have
    /// come before it.
    ///
    /// The task may spin for a moment first, if spinning was successful lately.
    pub(crate) fn wait_exclusive(&self, mut ready: impl FnMut() -> bool) -> Result<bool> {
        if ready() || self.spin(&mut ready) {
            return Ok(false);
        }
        self.wait_event(bindings::WQ_FLAG_EXCLUSIVE, TASK_INTERRUPTIBLE, ready)
    }

    /// Spins until `ready` returns true or the time is over; returns true in the first case.
    ///
    /// It does not spin if spinning is off, if the queue has waiters, or if the [`Backoff`] says
    /// so.
    fn spin(&self, ready: &mut impl FnMut() -> bool) -> bool {
        let limit = SPIN_NS.read();
        if limit == 0 || self.has_waiters() {
            return false;
        }

        let before = Backoff::unpack(self.backoff.read());
        let mut backoff = before;
        let mut done = false;
        if backoff.spins() {
            // SAFETY: The function has no requirements.
            let since = unsafe { sys::zpipe_clock() };
            let mut tried = false;
            // SAFETY: There is a current task. The function has no other requirements.
            while !done && unsafe { sys::zpipe_may_spin(since, limit) } {
                tried = true;
                done = ready();
            }
            // The task may have to stop before its first test, for a signal or for another task.
            // That does not show how long the wait would have been.
            if tried {
                backoff.note(done);
                // SAFETY: The function has no requirements.
                let now = unsafe { sys::zpipe_clock() };
                self.spun.fetch_add(now.saturating_sub(since), Relaxed);
            }
        }
        if backoff != before {
            self.backoff.write(backoff.pack());
        }
        done
    }

    fn wait_event(
        &self,
        flags: u32,
        state: c_int,
        mut ready: impl FnMut() -> bool,
    ) -> Result<bool> {
        let mut slept = false;
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: `entry` is memory for an entry. The entry names the current task, which does not
        // leave this function before the entry is off the queue.
        unsafe { bindings::init_wait_entry(entry.get(), flags as c_int) };

        let result = loop {
            // SAFETY: Both are initialised. The entry stays at its address until `finish_wait()`.
            let signalled =
                unsafe { bindings::prepare_to_wait_event(self.head.get(), entry.get(), state) };
            if ready() {
                break Ok(slept);
            }
            if signalled != 0 {
                // `prepare_to_wait_event()` took the entry off the queue. `ready` has seen the
                // effect of each earlier wakeup; a later one goes to another waiter.
                return Err(ERESTARTSYS);
            }
            // SAFETY: The caller holds no lock under which sleeping is forbidden.
            unsafe { bindings::schedule() };
            slept = true;
        };
        // SAFETY: As for `prepare_to_wait_event()`.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        result
    }

    /// Wakes the waiters for `event` that a signal may interrupt: all that are not exclusive, and
    /// one that is.
    ///
    /// This is a "sync" wakeup: it tells the scheduler that the current task is about to sleep. So
    /// the woken task need not be moved to another CPU.
    pub(crate) fn wake_sync(&self, event: Event) {
        // SAFETY: The head is initialised.
        unsafe { sys::zpipe_wake_sync(self.head.get(), event.mask()) };
    }

    /// Wakes all waiters, for whatever event they wait.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The head is initialised. The key may be null.
        unsafe {
            bindings::__wake_up(self.head.get(), TASK_NORMAL, 0, ptr::null_mut());
        }
    }

    /// True if the queue has waiters, pollers included. Read without the lock; may be stale.
    pub(crate) fn has_waiters(&self) -> bool {
        // SAFETY: The head is initialised.
        unsafe { sys::zpipe_has_waiters(self.head.get()) }
    }
}
