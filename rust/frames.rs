// SPDX-License-Identifier: GPL-2.0-only

//! Frames of write windows that go round.
//!
//! A frame that was committed and read comes home to its window, and takes the place of another that is
//! committed. It need not be cleared for that: it holds what was in that window. It goes nowhere else.

use crate::{mm::Frame, pipe::FRAMES_MOST};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};

/// Where frames of one window wait.
///
/// Its lock is a leaf. Nobody holds the window's lock, or the pipe's, who puts a frame in.
#[pin_data]
pub(crate) struct Home {
    #[pin]
    stock: SpinLock<Stock>,
}

struct Stock {
    /// Some of them may still be held by who read them: these are no use yet.
    frames: KVec<Frame>,
    /// Frames that others had when there was no room for them: they are not known any more.
    lost: usize,
    /// The window is there.
    open: bool,
}

impl Stock {
    /// Puts a frame in; returns one that is to be freed.
    fn put(&mut self, frame: Frame) -> Option<Frame> {
        let Err(frame) = self.frames.push_within_capacity(frame) else {
            return None;
        };
        let frame = frame.0;
        if !frame.is_alone() {
            // It is to be remembered, rather than one that nobody has.
            match self.frames.iter_mut().find(|frame| frame.is_alone()) {
                Some(place) => return Some(core::mem::replace(place, frame)),
                None => self.lost += 1,
            }
        }
        Some(frame)
    }
}

impl Home {
    /// Frames that wait at most.
    const MOST: usize = 24;

    /// Frames that others hold, at most, before no others are sent, for they are charged to the writer: such as are
    /// in the pipe though they were lent, and such that readers pinned.
    const KEPT_MOST: usize = FRAMES_MOST as usize + 4;

    /// An empty one. Sleeps.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let frames = KVec::with_capacity(Self::MOST, GFP_KERNEL_ACCOUNT)?;
        let stock = Stock {
            frames,
            lost: 0,
            open: true,
        };

        Arc::pin_init(
            pin_init!(Self {
                stock <- new_spinlock!(stock, "zpipe::home"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Takes a frame out that nobody else has, the last that came: more of it is in the caches.
    pub(crate) fn take(&self) -> Option<Frame> {
        let frames = &mut self.stock.lock().frames;
        let index = frames.iter().rposition(Frame::is_alone)?;

        frames.remove(index).ok()
    }

    /// Puts a frame in; it is freed if the window is gone.
    pub(crate) fn put(&self, frame: Frame) {
        let refused = {
            let stock = &mut *self.stock.lock();
            if stock.open {
                stock.put(frame)
            } else {
                Some(frame)
            }
        };
        // Without the lock.
        drop(refused);
    }

    /// Puts a frame in that turned out not to be needed, unless there are enough.
    pub(crate) fn put_spare(&self, frame: Frame) {
        let enough = self.stock.lock().frames.len() >= FRAMES_MOST as usize;
        if !enough {
            self.put(frame);
        }
    }

    /// Whether others hold so many frames that no more are to be sent.
    pub(crate) fn is_crowded(&self) -> bool {
        let stock = self.stock.lock();
        let kept = stock.frames.iter().filter(|frame| !frame.is_alone());

        kept.count() + stock.lost >= Self::KEPT_MOST
    }

    /// Frees all there are, and all that come.
    pub(crate) fn close(&self) {
        let frames = {
            let stock = &mut *self.stock.lock();
            stock.open = false;
            core::mem::take(&mut stock.frames)
        };
        drop(frames);
    }
}

/// A frame that was committed. When it is done with it goes home, unless it is lent: then it is still in the
/// window. Not to be dropped with the lock of a window or a pipe held.
pub(crate) struct SentFrame {
    frame: Option<Frame>,
    home: Option<Arc<Home>>,
}

impl SentFrame {
    /// A frame that nobody writes to any more, and its home; [`None`] if it is lent.
    pub(crate) fn new(frame: Frame, home: Option<Arc<Home>>) -> Self {
        Self {
            frame: Some(frame),
            home,
        }
    }

    /// Makes zeros of all bytes but those from `from` to `to`: of a frame that is not lent.
    pub(crate) fn clear_around(&mut self, from: usize, to: usize) {
        if let (Some(frame), Some(_)) = (&mut self.frame, &self.home) {
            frame.clear_around(from, to);
        }
    }

    /// The frame.
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
