// SPDX-License-Identifier: GPL-2.0-only

//! Wait queues with what [`CondVar`](kernel::sync::CondVar) lacks: a condition that is tested
//! without a lock, exclusive and other waiters, wakeups that name the event so that epoll can
//! filter them, and a wakeup that is passed on when its receiver is signalled instead.
//!
//! Who waits exclusively may spin for a moment before it sleeps: [`Backoff`] says when, the module's
//! parameter `spin_us` for how long.
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

/// What a wakeup is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is something to read.
    Input,
    /// There is room to write.
    Output,
}

impl Event {
    /// The event as poll's bits.
    fn mask(self) -> u32 {
        match self {
            Event::Input => sys::ZPIPE_POLL_INPUT,
            Event::Output => sys::ZPIPE_POLL_OUTPUT,
        }
    }
}

/// Creates a [`WaitQueue`] initialiser with the given name and a newly-created lock class.
macro_rules! new_wait_queue {
    ($name:literal) => {
        $crate::sync::WaitQueue::new(kernel::c_str!($name), kernel::static_lock_class!())
    };
}
pub(crate) use new_wait_queue;

/// Nanoseconds to spin for.
static SPIN_NS: Word = Word::new(0);

/// Microseconds that a task may spin at most, whatever the parameter says: to sleep and be woken
/// costs some tens, and who spins for longer keeps a processor from idling.
const SPIN_US_MOST: u32 = 1000;

/// Sets for how many microseconds who waits may spin, 0 for never. Once, before there is a queue.
pub(crate) fn set_spin_us(us: u32) {
    SPIN_NS.write(u64::from(us.min(SPIN_US_MOST)) * 1000);
}

/// A `wait_queue_head_t`.
///
/// Everything it is woken for must be visible before the wakeup: change the state, then wake. The
/// queue's own lock then makes sure that a waiter either sees the new state or gets the wakeup.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    /// How spinning has done here, a [`Backoff`]. Two who write it at once do no harm.
    backoff: Word,
    /// Nanoseconds that were spent spinning, successful or not.
    spun: Atomic<u64>,
}

// SAFETY: A wait queue head may be used on any thread.
unsafe impl Send for WaitQueue {}
// SAFETY: All that is done to the head from `&self` takes its lock.
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

    /// Microseconds that tasks spun here instead of sleeping, in all.
    pub(crate) fn spun_us(&self) -> u64 {
        self.spun.load(Relaxed) / 1000
    }

    /// Waits, until `ready` says so or a signal comes, which is `ERESTARTSYS`.
    ///
    /// Wakeups reach all waiters of this kind. Sleeps: call it without locks. `ready` is called
    /// with the task already marked as sleeping and must not sleep.
    pub(crate) fn wait(&self, ready: impl FnMut() -> bool) -> Result {
        self.wait_event(0, TASK_INTERRUPTIBLE, ready)?;
        Ok(())
    }

    /// As [`Self::wait`], but only a signal that kills ends it: as waiting for a mutex, which nobody sees.
    /// Only [`Self::wake_all`] wakes it.
    pub(crate) fn wait_killable(&self, ready: impl FnMut() -> bool) -> Result {
        // CAST: Bits of a task's state.
        let state = TASK_UNINTERRUPTIBLE | bindings::TASK_WAKEKILL as c_int;
        self.wait_event(0, state, ready)?;
        Ok(())
    }

    /// The same, but nothing else ends it: for what is over soon, whatever others do.
    pub(crate) fn wait_for_others(&self, ready: impl FnMut() -> bool) {
        // CAST: Bits of a task's state. Without signals it does not fail.
        let _ = self.wait_event(0, TASK_UNINTERRUPTIBLE as c_int, ready);
    }

    /// As [`Self::wait`], but a wakeup ends with the first waiter of this kind it wakes.
    ///
    /// Who returns `Ok` may have consumed a wakeup, and passes it on if something is left. Returns
    /// whether it slept: if not, others that wait may have been there before.
    ///
    /// May spin for a moment first, where that helped lately.
    pub(crate) fn wait_exclusive(&self, mut ready: impl FnMut() -> bool) -> Result<bool> {
        if ready() || self.spin(&mut ready) {
            return Ok(false);
        }
        self.wait_event(bindings::WQ_FLAG_EXCLUSIVE, TASK_INTERRUPTIBLE, ready)
    }

    /// Spins until `ready` says so; returns whether it did.
    fn spin(&self, ready: &mut impl FnMut() -> bool) -> bool {
        let limit = SPIN_NS.read();
        if limit == 0 || self.has_waiters() {
            return false;
        }

        let before = Backoff::unpack(self.backoff.read());
        let mut backoff = before;
        let mut done = false;
        if backoff.spins() {
            // SAFETY: No requirement.
            let since = unsafe { sys::zpipe_clock() };
            let mut tried = false;
            // SAFETY: There is a current task; no other requirement.
            while !done && unsafe { sys::zpipe_spin(since, limit) } {
                tried = true;
                done = ready();
            }
            // To have been in another's way says nothing of how long there was to wait.
            if tried {
                backoff.note(done);
                // SAFETY: No requirement.
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
        // SAFETY: `entry` is memory for an entry. It names the current task, which does not leave
        // this function before the entry is off the queue.
        unsafe { bindings::init_wait_entry(entry.get(), flags as c_int) };

        let result = loop {
            // SAFETY: Both are initialised; the entry stays where it is until `finish_wait()`.
            let signalled =
                unsafe { bindings::prepare_to_wait_event(self.head.get(), entry.get(), state) };
            if ready() {
                break Ok(slept);
            }
            if signalled != 0 {
                // It took the entry off the queue: a wakeup that came before was seen by `ready`,
                // one that comes now goes to somebody else.
                return Err(ERESTARTSYS);
            }
            // SAFETY: No lock is held that forbids sleeping, says the caller.
            unsafe { bindings::schedule() };
            slept = true;
        };
        // SAFETY: As for `prepare_to_wait_event()`.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        result
    }

    /// Wakes whoever waits for `event`: all that do not wait exclusively, and one that does.
    ///
    /// The current task hints that it is about to sleep, so that the other need not be sent to
    /// another CPU.
    pub(crate) fn wake_sync(&self, event: Event) {
        // SAFETY: The head is initialised.
        unsafe { sys::zpipe_wake_sync(self.head.get(), event.mask()) };
    }

    /// Wakes everybody, whatever they wait for.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The head is initialised, and there is no key.
        unsafe {
            bindings::__wake_up(self.head.get(), TASK_NORMAL, 0, ptr::null_mut());
        }
    }

    /// True if somebody is on the queue, pollers included; may be stale.
    pub(crate) fn has_waiters(&self) -> bool {
        // SAFETY: The head is initialised.
        unsafe { sys::zpipe_has_waiters(self.head.get()) }
    }
}
