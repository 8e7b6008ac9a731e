// SPDX-License-Identifier: GPL-2.0-only

//! The home of a write window's frames.
//!
//! After readers have read a committed frame, it returns to the home of its window. There it
//! replaces another frame that the window commits. It need not be cleared for that, because it
//! holds only bytes that were in this window. For the same reason it goes to no other window.

use crate::{mm::Frame, zcore::gift::FRAMES_MAX};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};

/// The home of the frames of one write window.
///
/// Its lock is a leaf lock. A task that puts a frame in holds neither a window's lock nor a pipe's
/// inner lock.
#[pin_data]
pub(crate) struct Home {
    #[pin]
    stock: SpinLock<Stock>,
}

struct Stock {
    /// Frames in the home. A frame that others still refer to cannot be used until it is alone.
    frames: KVec<Frame>,
    /// The number of frames that others still referred to when the home was full. The home dropped
    /// its reference to them, so they count as shared for as long as the window exists.
    untracked: usize,
    /// True while the window exists. A closed home keeps no frames.
    open: bool,
}

impl Stock {
    /// Puts a frame in. Returns a frame that the caller has to free without the lock, if any.
    fn put(&mut self, frame: Frame) -> Option<Frame> {
        let Err(frame) = self.frames.push_within_capacity(frame) else {
            return None;
        };
        let frame = frame.0;
        if !frame.is_alone() {
            // The home keeps a shared frame rather than an unshared one, so that it is counted.
            match self.frames.iter_mut().find(|frame| frame.is_alone()) {
                Some(alone) => return Some(core::mem::replace(alone, frame)),
                None => self.untracked += 1,
            }
        }
        Some(frame)
    }
}

impl Home {
    /// The maximum number of frames in the home.
    const MAX: usize = 24;

    /// The number of shared frames at which the window commits no more frames and copies instead.
    ///
    /// Shared frames are those that others still refer to. They are charged to the writer. They can
    /// be lent frames that are still in slots, and frames that readers have pinned.
    const SHARED_MAX: usize = FRAMES_MAX as usize + 4;

    /// An empty home. Sleeps.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let frames = KVec::with_capacity(Self::MAX, GFP_KERNEL_ACCOUNT)?;
        let stock = Stock {
            frames,
            untracked: 0,
            open: true,
        };

        Arc::pin_init(
            pin_init!(Self {
                stock <- new_spinlock!(stock, "zpipe::home"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Takes a frame out that nobody else refers to. It takes the one that came last, because more
    /// of that one is in the CPU's caches.
    pub(crate) fn take(&self) -> Option<Frame> {
        let frames = &mut self.stock.lock().frames;
        let index = frames.iter().rposition(Frame::is_alone)?;

        frames.remove(index).ok()
    }

    /// Puts a frame in. Frees it if the window does not exist any more. The caller must hold no
    /// lock of a window or a pipe.
    pub(crate) fn put(&self, frame: Frame) {
        let refused = {
            let stock = &mut *self.stock.lock();
            if stock.open {
                stock.put(frame)
            } else {
                Some(frame)
            }
        };
        // The frame is freed without the lock.
        drop(refused);
    }

    /// Puts a frame in that the caller allocated but did not need. Frees it if the home has enough
    /// frames.
    pub(crate) fn put_spare(&self, frame: Frame) {
        let enough = self.stock.lock().frames.len() >= FRAMES_MAX as usize;
        if !enough {
            self.put(frame);
        }
    }

    /// True if others still refer to so many frames of the window that it must not commit more.
    pub(crate) fn too_many_shared(&self) -> bool {
        let stock = self.stock.lock();
        let shared = stock.frames.iter().filter(|frame| !frame.is_alone());

        shared.count() + stock.untracked >= Self::SHARED_MAX
    }

    /// Frees all frames in the home. From now on it frees each frame that is put in, too.
    pub(crate) fn close(&self) {
        let frames = {
            let stock = &mut *self.stock.lock();
            stock.open = false;
            core::mem::take(&mut stock.frames)
        };
        drop(frames);
    }
}

/// A committed frame, as a slot holds it.
///
/// When it is dropped, the frame goes home. A lent frame does not, because the window still has it.
/// It must not be dropped while the lock of a window or a pipe is held.
pub(crate) struct SentFrame {
    frame: Option<Frame>,
    home: Option<Arc<Home>>,
}

impl SentFrame {
    /// Wraps a frame that nobody writes to any more. `home` is the home that it goes to, or
    /// [`None`] if the frame is lent.
    pub(crate) fn new(frame: Frame, home: Option<Arc<Home>>) -> Self {
        Self {
            frame: Some(frame),
            home,
        }
    }

    /// Clears all bytes except those from `from` to `to`. Does nothing to a lent frame.
    pub(crate) fn clear_around(&mut self, from: usize, to: usize) {
        if let (Some(frame), Some(_)) = (&mut self.frame, &self.home) {
            frame.clear_around(from, to);
        }
    }

    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }
}

impl Drop for SentFrame {
    fn drop(&mut self) {
        if let (Some(frame), Some(home)) = (self.frame.take(), &self.home) {
            home.put(frame);
        }
    }
}
