// SPDX-License-Identifier: GPL-2.0-only

//! Read windows: the file, its ioctl calls and the views that they return.
//!
//! To peek is to take slots out of the front of the pipe and to show their data in the window's
//! mappings. Their places in the ring are held. To consume is to take frames out of the page tables
//! and to let them go home. When the window is closed, the slots that are not consumed return to
//! the front of the ring.
//!
//! As for the locks, see [`window`](super). Only one call at a time peeks or consumes.

use super::{
    fifo::Fifo,
    shown::{Entry, Shown},
    WindowEnd,
};
use crate::{
    compat,
    fops::{FileOperations, OpenFile, OpeningFile},
    mm::{Fault, Frame, Served, UserPages},
    request::Request,
    slot::Slot,
    uapi::{self, UserStruct},
    zcore::PAGE_SIZE,
};
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::Mutex,
    transmute::AsBytes,
    uaccess::{UserPtr, UserSlice},
};

/// A read window.
pub(crate) struct ReadWindow {
    shown: Pin<KBox<Mutex<Shown>>>,
    /// The number of places for frames, without that of the area.
    places: usize,
    end: WindowEnd,
    _account: UserPages,
}

impl ReadWindow {
    /// A window that can show `frames` frames at once. Sleeps. Errors: `EPERM`, `ENOMEM`.
    pub(crate) fn new(end: WindowEnd, frames: usize) -> Result<Self> {
        let account = super::account(&end.pipe, 1 + Shown::OTHER_AREAS)?;
        let shown = Shown::new()?;
        let shown = KBox::pin_init(new_mutex!(shown, "zpipe::window"), GFP_KERNEL_ACCOUNT)?;

        end.pipe.open_window();
        Ok(Self {
            shown,
            places: frames,
            end,
            _account: account,
        })
    }

    /// Begins a call that peeks or consumes. `EBUSY` if another one is going on.
    fn begin(&self) -> Result<Call<'_>> {
        let list = self.shown.lock().list.take().ok_or(EBUSY)?;
        Ok(Call { window: self, list })
    }

    fn peek(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let (user, mut args) = UserStruct::read::<uapi::Peek>(arg)?;
        if args.flags & !(uapi::NONBLOCK | uapi::MORE) != 0
            || args.reserved != 0
            || args.nr_views == 0
        {
            return Err(EINVAL);
        }
        let end = self.end.file.as_open();
        let max = match usize::try_from(args.bytes) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(max) => max,
        };
        end.verify(false, max.min(Frame::SIZE))?;
        let mut call = self.begin()?;
        let consume = call.check_in_view(args.consume)?;
        // If the call is restarted, it must not consume the same bytes twice.
        args.consume = 0;
        user.write(&args)?;
        call.consume(file, consume);

        let request = Request::of_call(end.as_file(), args.flags & uapi::NONBLOCK != 0);
        args.copied = call.show_more(file, request, max, args.flags & uapi::MORE != 0)? as u64;
        let (views, bytes) = call.write_views(args.views, args.nr_views)?;
        args.nr_views = views;
        args.bytes = bytes;
        user.write(&args)
    }

    fn consume(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let (_, args) = UserStruct::read::<uapi::Consume>(arg)?;
        if args.flags != 0 {
            return Err(EINVAL);
        }
        let mut call = self.begin()?;
        let bytes = call.check_in_view(args.bytes)?;
        call.consume(file, bytes);
        Ok(())
    }
}

/// A call that peeks or consumes. The window has no other one meanwhile.
struct Call<'w> {
    window: &'w ReadWindow,
    list: KVec<Slot>,
}

impl Call<'_> {
    /// Checks that `bytes` bytes are in view. `EINVAL` if not.
    fn check_in_view(&self, bytes: u64) -> Result<usize> {
        let bytes = usize::try_from(bytes).map_err(|_| EINVAL)?;
        if bytes > self.window.shown.lock().bytes {
            return Err(EINVAL);
        }
        Ok(bytes)
    }

    /// Consumes `bytes` bytes, which are in view.
    fn consume(&mut self, file: &OpenFile<'_>, bytes: usize) {
        let end = &self.window.end;
        if bytes == 0 {
            return;
        }
        self.window
            .shown
            .lock()
            .consume(bytes, file, &mut self.list);
        end.pipe.consumed(bytes, &mut self.list);

        end.file.as_open().was_read(bytes, end.node);
    }

    /// Replaces the area, if it is used up and another one can be had. `ENOMEM` if the area has no
    /// space left and nothing is in view.
    fn make_area_space(&self, file: &OpenFile<'_>) -> Result {
        let (other, may_be_new, is_full) = {
            let shown = &mut *self.window.shown.lock();
            if !shown.must_replace_area() {
                return Ok(());
            }
            let (other, may_be_new) = shown.other_area();
            let is_full = shown.bytes == 0 && Frame::SIZE - shown.area_used < PAGE_SIZE;
            (other, may_be_new, is_full)
        };
        // A process that keeps references to all former areas gets no new one.
        match other.or_else(|| if may_be_new { Frame::new() } else { None }) {
            Some(area) => self.window.shown.lock().replace_area(area, file),
            None if is_full => return Err(ENOMEM),
            None => (),
        }
        Ok(())
    }

    /// Brings slots into view until `max` bytes are in view, or with `more`, `max` bytes beyond
    /// those that already are. It takes only slots that are in the pipe by then. It waits for data
    /// if nothing is in view, or if `more` is set and nothing new is. Returns the number of copied
    /// bytes.
    ///
    /// Errors, without any new byte in view: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `ENOBUFS` (nothing
    /// can be added to the view), `EFAULT` (bad memory).
    fn show_more(
        &mut self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        max: usize,
        more: bool,
    ) -> Result<usize> {
        let window = self.window;
        self.make_area_space(file)?;
        let (before, mut budget, rest) = {
            let shown = &mut *window.shown.lock();
            let rest = shown.show();
            if shown.complete != shown.entries.len {
                return match (shown.bytes, rest) {
                    (0, _) => Err(EFAULT),
                    (_, 0) if more => Err(compat::no_buffers()),
                    _ => Ok(rest),
                };
            }
            let wanted = if more {
                max
            } else {
                max.saturating_sub(shown.bytes)
            };
            (shown.bytes, shown.budget(window.places, wanted), rest)
        };
        let waits = before == 0 || (more && rest == 0);
        let pipe = &window.end.pipe;
        let (list, mut no_claim) = (&mut self.list, None);
        pipe.hold(request, waits, before != 0, list, &mut no_claim, |slot| {
            budget.admits(slot)
        })?;

        let mut merged = 0;
        let mut copied = rest;
        let is_bad = {
            let shown = &mut *window.shown.lock();
            for slot in self.list.drain_all() {
                let bytes = slot.len();
                if shown.merge(&slot) {
                    copied += bytes;
                    merged += 1;
                } else {
                    shown.push(slot, window.places);
                    copied += shown.show();
                }
            }
            shown.bytes == 0 && shown.entries.len != 0
        };
        if merged != 0 {
            pipe.merged(merged);
        }
        if is_bad {
            // No byte of the first slot could be copied.
            return Err(EFAULT);
        }
        Ok(copied)
    }

    /// Writes the bytes in view to a user array of `max` views. Returns the number of views that it
    /// wrote, and of the bytes in them. Stream data that is contiguous in the window is one view.
    /// Sleeps and faults.
    fn write_views(&self, to: u64, max: u32) -> Result<(u32, u64)> {
        let at = UserPtr::from_addr(usize::try_from(to).map_err(|_| EFAULT)?);
        let max = (max as usize).min(Shown::MAX);
        let mut writer = UserSlice::new(at, max * size_of::<uapi::View>()).writer();
        let (mut written, mut bytes) = (0, 0);
        let mut number = 0;

        while written < max {
            // The lock is dropped before views are written, since that may fault. The entries stay
            // as they are, because this call excludes others that peek or consume.
            let mut views = Views::default();
            number = views.fill(&self.window.shown.lock().entries, number);
            for view in views.iter().take(max - written) {
                writer.write_slice(view.as_bytes())?;
                written += 1;
                bytes += view.bytes;
            }
            if !views.is_full() {
                break;
            }
        }
        // CAST: At most `MAX`.
        Ok((written as u32, bytes))
    }
}

/// A few views, collected under the window's lock.
#[derive(Default)]
struct Views {
    views: [Option<uapi::View>; Self::MAX],
    len: usize,
}

impl Views {
    const MAX: usize = 16;

    /// Adds views of the entries from `number` on, as long as there is space. Returns the number of
    /// the first entry that was not added.
    fn fill(&mut self, entries: &Fifo<Entry>, mut number: usize) -> usize {
        for entry in entries.iter().skip(number) {
            if entry.shown != 0 && !self.add(entry.view()) {
                break;
            }
            number += 1;
        }
        number
    }

    /// Adds a view, or extends the last one by it. Returns false if there is no space.
    fn add(&mut self, view: uapi::View) -> bool {
        let last = self.len.checked_sub(1);
        if let Some(Some(last)) = last.and_then(|last| self.views.get_mut(last)) {
            if last.offset + last.bytes == view.offset && last.flags | view.flags == 0 {
                last.bytes += view.bytes;
                return true;
            }
        }
        match self.views.get_mut(self.len) {
            Some(next) => {
                *next = Some(view);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &uapi::View> {
        self.views.iter().flatten()
    }

    fn is_full(&self) -> bool {
        self.len == Self::MAX
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let list = core::mem::take(&mut self.list);
        self.window.shown.lock().list = Some(list);
    }
}

impl Drop for ReadWindow {
    fn drop(&mut self) {
        let mut entries = {
            let mut shown = self.shown.lock();
            core::mem::replace(
                &mut shown.entries,
                Fifo {
                    items: KVec::new(),
                    first: 0,
                    len: 0,
                },
            )
        };
        let last_first = core::iter::from_fn(|| entries.pop_last()).map(|entry| entry.slot);
        self.end.pipe.close_window(last_first);
    }
}

#[vtable]
impl FileOperations for ReadWindow {
    fn open(_file: &OpeningFile<'_>) -> Result<Self> {
        Err(ENXIO)
    }

    fn ioctl(&self, file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result<i32> {
        match cmd {
            uapi::PEEK => self.peek(file, arg).map(|()| 0),
            uapi::CONSUME => self.consume(file, arg).map(|()| 0),
            _ => Err(ENOIOCTLCMD),
        }
    }

    fn fault(&self, _file: &OpenFile<'_>, fault: &Fault<'_>) -> Served {
        let shown = self.shown.lock();
        match shown.frame(fault.frame()) {
            Some(frame) => fault.place(frame, false),
            None => Served::BUS,
        }
    }

    fn show_fdinfo(&self, seq: &SeqFile) {
        self.end.pipe.show_named(seq);
    }
}
