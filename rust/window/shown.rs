// SPDX-License-Identifier: GPL-2.0-only

//! Read windows: what is in the pipe, without a copy where it came in a frame.
//!
//! To peek is to take slots out of the front of the pipe, whose places are held, and to let the window's
//! mappings show them: each frame at a place of its own, and everything else, copied, one after the other in the
//! *area*, a frame of the window's own. To consume is to take frames out of the page tables again, and to let
//! them go home. What is not consumed when the window is closed goes back to the front.
//!
//! Locks: see [`window`](super). One call at a time peeks or consumes.

use super::WindowEnd;
use crate::{
    compat,
    fops::{FileOperations, OpenFile, OpeningFile},
    mm::{Fault, Frame, Served, UserPages},
    pipe::Request,
    slot::{Kind, Slot},
    uapi::{self, UserStruct},
    zcore::PAGE_SIZE,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    transmute::AsBytes,
    uaccess::{UserPtr, UserSlice},
};

/// A slot that the window shows.
struct Entry {
    slot: Slot,
    /// Where in the window its next byte is.
    at: usize,
    /// Bytes that are shown: not all if there was no room for the rest, or it could not be copied.
    shown: usize,
}

/// What a read window shows. Place 0 of it is the area.
///
/// Of the entries the first `full` are shown in full, perhaps a part of the next, and nothing of those behind it.
/// What is copied of them lies in the area in one piece, which ends at `area_used`.
struct Shown {
    entries: Fifo<Entry>,
    full: usize,
    /// Bytes in view.
    bytes: usize,
    area: Frame,
    area_used: usize,
    /// Areas that were used before, which others may still refer to.
    other_areas: [Option<Frame>; Self::OTHER_AREAS],
    /// Where the next frame goes, if that place is free.
    next_place: usize,
    /// For slots on their way in or out: nobody peeks, or consumes, as long as it is here.
    list: Option<KVec<Slot>>,
}

/// A queue with room for so many.
struct Fifo<T> {
    places: KVec<Option<T>>,
    first: usize,
    len: usize,
}

impl<T> Fifo<T> {
    fn new(room: usize) -> Result<Self> {
        let mut places = KVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..room {
            places.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self {
            places,
            first: 0,
            len: 0,
        })
    }

    fn room(&self) -> usize {
        self.places.len() - self.len
    }

    fn index(&self, number: usize) -> usize {
        (self.first + number) % self.places.len().max(1)
    }

    /// Puts `item` behind the others; there is room, or it is dropped.
    fn push(&mut self, item: T) {
        let index = self.index(self.len);
        if self.room() != 0 {
            if let Some(place) = self.places.get_mut(index) {
                *place = Some(item);
                self.len += 1;
            }
        }
    }

    fn first(&mut self) -> Option<&mut T> {
        self.get(0)
    }

    fn last(&mut self) -> Option<&mut T> {
        self.get(self.len.checked_sub(1)?)
    }

    /// The one with so many before it.
    fn get(&mut self, number: usize) -> Option<&mut T> {
        if number >= self.len {
            // It would come round to the first.
            return None;
        }
        let index = self.index(number);
        self.places.get_mut(index)?.as_mut()
    }

    fn pop(&mut self) -> Option<T> {
        let index = self.index(0);
        let item = self.places.get_mut(index)?.take()?;
        self.first = self.index(1);
        self.len -= 1;
        Some(item)
    }

    fn pop_last(&mut self) -> Option<T> {
        let index = self.index(self.len.checked_sub(1)?);
        let item = self.places.get_mut(index)?.take()?;
        self.len -= 1;
        Some(item)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|number| self.places.get(self.index(number))?.as_ref())
    }
}

impl Entry {
    /// Whether it is copied to the area.
    fn is_copied(&self) -> bool {
        self.slot.frame().is_none()
    }

    fn view(&self) -> uapi::View {
        uapi::View {
            offset: self.at as u64,
            bytes: self.shown as u64,
            flags: match self.slot.kind() {
                Kind::Packet => uapi::VIEW_PACKET,
                Kind::Stream => 0,
            },
            reserved: 0,
        }
    }
}

/// What else there is room for.
struct Room {
    /// Slots.
    slots: usize,
    /// Bytes in the area.
    area: usize,
    /// Places for frames.
    places: usize,
    /// Bytes that are wanted.
    bytes: usize,
}

impl Room {
    /// Whether there is room for `slot`; then there is less.
    fn takes(&mut self, slot: &Slot) -> bool {
        let bytes = slot.len();
        let (room, needs, least) = match slot {
            Slot::Huge(slot) if slot.frame().is_some() => (&mut self.places, 1, 1),
            // A part of it can be shown.
            Slot::Huge(_) => (&mut self.area, bytes, 1),
            Slot::Page(_) => (&mut self.area, bytes, bytes),
        };
        let takes = self.bytes != 0 && self.slots != 0 && *room >= least;
        if takes {
            self.slots -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if *room < needs {
                // Nothing is shown behind a part.
                self.slots = 0;
            }
            *room = room.saturating_sub(needs);
        }
        takes
    }
}

impl Shown {
    /// Slots that are in view at most: as many small ones as the area has room for if they are full.
    const MOST: usize = 520;

    /// Times that a slot is copied: it comes short where memory is bad, or where tests cut it.
    const TRIES: usize = 64;

    /// Areas beside the one in use, at most.
    const OTHER_AREAS: usize = 3;

    fn new() -> Result<Self> {
        Ok(Self {
            entries: Fifo::new(Self::MOST)?,
            bytes: 0,
            area: Frame::new().ok_or(ENOMEM)?,
            area_used: 0,
            full: 0,
            other_areas: [const { None }; Self::OTHER_AREAS],
            next_place: 1,
            list: Some(KVec::with_capacity(Self::MOST, GFP_KERNEL_ACCOUNT)?),
        })
    }

    /// The frame that is at a place.
    fn frame(&self, place: usize) -> Option<&Frame> {
        if place == 0 {
            return Some(&self.area);
        }
        let mut entries = self.entries.iter();
        entries.find_map(|entry| {
            entry
                .slot
                .frame()
                .filter(|_| entry.at / Frame::SIZE == place)
        })
    }

    /// Where in the area what is in view begins; [`None`] if there is nothing.
    fn area_start(&self) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.is_copied() && entry.shown != 0)
            .map(|entry| entry.at)
    }

    /// Whether the area is to be replaced, or may be used from its start on.
    fn area_is_worn(&mut self) -> bool {
        match self.area_start() {
            None if self.area_used == 0 => false,
            None if self.area.is_mapped_only() => {
                self.area_used = 0;
                false
            }
            // Who still refers to what was in it keeps that; there may be room behind it.
            None => 2 * self.area_used > Frame::SIZE,
            // What is in view is to be copied: not for nothing.
            Some(start) => 2 * self.area_used > Frame::SIZE && 2 * start > self.area_used,
        }
    }

    /// An area that was used before and that nobody refers to; or [`None`] in place of one, and whether there may
    /// be a new one.
    fn other_area(&mut self) -> (Option<Frame>, bool) {
        let mut areas = self.other_areas.iter_mut();
        let area = areas.find_map(|area| area.take_if(|area| area.is_alone()));

        (area, self.other_areas.iter().any(Option::is_none))
    }

    /// Goes on with another area, which has what is in view of this one; unless that has bad memory.
    fn replace_area(&mut self, mut area: Frame, file: &OpenFile<'_>) {
        let start = self.area_start().unwrap_or(self.area_used);

        if area.take_bytes(&self.area, start, self.area_used) {
            file.unmap(0, 1);
            core::mem::swap(&mut self.area, &mut area);
            self.area_used -= start;
            for entry in self.entries.iter_mut() {
                if entry.is_copied() && entry.shown != 0 {
                    entry.at -= start;
                }
            }
        }
        // There is room for it.
        if let Some(place) = self.other_areas.iter_mut().find(|place| place.is_none()) {
            *place = Some(area);
        }
    }

    /// What there is room for, if the window has `places` places for frames, and `bytes` bytes are wanted.
    fn room(&self, places: usize, bytes: usize) -> Room {
        let frames = self.entries.iter().filter(|entry| !entry.is_copied());
        Room {
            slots: self.entries.room(),
            area: Frame::SIZE - self.area_used,
            places: places - frames.count().min(places),
            bytes,
        }
    }

    /// Puts `slot` behind the others, of which nothing is shown yet.
    fn push(&mut self, slot: Slot, places: usize) {
        let mut at = 0;
        if let Some(frame) = slot.frame_offset() {
            at = self.next_place * Frame::SIZE + frame;
            self.next_place = self.next_place % places + 1;
        }
        self.entries.push(Entry { slot, at, shown: 0 });
    }

    /// Adds the bytes of `slot` to the last one, and shows them, if these would have been one if they had not been
    /// taken out in between; says whether. Then the slot is empty.
    fn merge(&mut self, slot: &Slot) -> bool {
        if self.full != self.entries.len {
            return false;
        }
        let Some(last) = self.entries.last() else {
            return false;
        };
        if !last.slot.can_append(slot) {
            return false;
        }
        let end = last.at + last.shown;
        let (area, at) = (&self.area, self.area_used);
        let shows = |_| {
            let copied = area.write(at, slot.len(), |dest| slot.peek_atomic(0, dest));
            copied == slot.len()
        };
        let shown = last.is_copied() && end == at && (0..Self::TRIES).any(shows);
        if !shown || !last.slot.append(slot) {
            return false;
        }
        last.shown += slot.len();
        self.area_used += slot.len();
        self.bytes += slot.len();
        true
    }

    /// Shows what is not shown yet, as far as possible. Returns how many bytes were copied for that.
    fn show(&mut self) -> usize {
        let before = self.area_used;

        while let Some(entry) = self.entries.get(self.full) {
            let len = entry.slot.len();
            if !entry.is_copied() {
                entry.shown = len;
                self.bytes += len;
            } else {
                if entry.shown == 0 {
                    entry.at = self.area_used;
                }
                for _ in 0..Self::TRIES {
                    let left = len - entry.shown;
                    let copied = self.area.write(self.area_used, left, |dest| {
                        entry.slot.peek_atomic(entry.shown, dest)
                    });
                    self.area_used += copied;
                    self.bytes += copied;
                    entry.shown += copied;
                    if copied == left {
                        break;
                    }
                }
                if entry.shown != len {
                    break;
                }
            }
            self.full += 1;
        }
        self.area_used - before
    }

    /// Removes the first `bytes` bytes, which are in view. Slots of which nothing is left go to `gone`, and
    /// their frames leave the page tables.
    fn consume(&mut self, mut bytes: usize, file: &OpenFile<'_>, gone: &mut KVec<Slot>) {
        let mut run = Run { first: 0, count: 0 };

        self.bytes -= bytes;
        while let Some(entry) = self.entries.first() {
            let step = bytes.min(entry.shown);
            bytes -= step;
            entry.slot.consume(step);
            entry.at += step;
            entry.shown -= step;
            if entry.slot.len() != 0 {
                break;
            }
            if entry.slot.frame().is_some() {
                // Where it ends is the next place.
                run.add((entry.at - 1) / Frame::SIZE, file);
            }
            if let Some(entry) = self.entries.pop() {
                self.full -= 1;
                // There is room for all.
                let _ = gone.push_within_capacity(entry.slot);
            }
        }
        run.end(file);
    }
}

/// Places one after the other that are to be unmapped.
struct Run {
    first: usize,
    count: usize,
}

impl Run {
    fn add(&mut self, place: usize, file: &OpenFile<'_>) {
        if place != self.first + self.count {
            self.end(file);
            self.first = place;
        }
        self.count += 1;
    }

    fn end(&mut self, file: &OpenFile<'_>) {
        file.unmap(self.first, self.count);
        self.count = 0;
    }
}

/// A read window.
pub(crate) struct ReadWindow {
    shown: Pin<KBox<Mutex<Shown>>>,
    /// Places for frames.
    places: usize,
    end: WindowEnd,
    _account: UserPages,
}

impl ReadWindow {
    /// One that shows so many frames at once. Sleeps. Errors: `EPERM`, `ENOMEM`.
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

    /// Begins a call. `EBUSY` if another is not at its end.
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
        let most = match usize::try_from(args.bytes) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(most) => most,
        };
        end.may_read(most.min(Frame::SIZE))?;
        let mut call = self.begin()?;
        let consume = call.in_view(args.consume)?;
        // A call that is restarted must not do so twice.
        args.consume = 0;
        user.write(&args)?;
        call.consume(file, consume);

        let request = self.end.request(&end, args.flags & uapi::NONBLOCK != 0);
        args.copied = call.claim(file, request, most, args.flags & uapi::MORE != 0)? as u64;
        let (views, bytes) = call.tell(args.views, args.nr_views)?;
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
        let bytes = call.in_view(args.bytes)?;
        call.consume(file, bytes);
        Ok(())
    }
}

/// A call that peeks, or consumes: nobody else does.
struct Call<'w> {
    window: &'w ReadWindow,
    list: KVec<Slot>,
}

impl Call<'_> {
    /// So many bytes, if they are in view.
    fn in_view(&self, bytes: u64) -> Result<usize> {
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

        let opened = end.file.as_open();
        opened.was_read(bytes);
        if end.node {
            opened.accessed();
        }
    }

    /// Has an area with room for more, if that is possible. `ENOMEM` if there is none at all.
    fn clean_area(&self, file: &OpenFile<'_>) -> Result {
        let (other, may_be_new, is_full) = {
            let shown = &mut *self.window.shown.lock();
            if !shown.area_is_worn() {
                return Ok(());
            }
            let (other, may_be_new) = shown.other_area();
            let is_full = shown.bytes == 0 && Frame::SIZE - shown.area_used < PAGE_SIZE;
            (other, may_be_new, is_full)
        };
        // Who makes the kernel keep all of them gets no more.
        match other.or_else(|| if may_be_new { Frame::new() } else { None }) {
            Some(area) => self.window.shown.lock().replace_area(area, file),
            None if is_full => return Err(ENOMEM),
            None => (),
        }
        Ok(())
    }

    /// Takes slots out of the pipe until at least `most` bytes are in view, as far as there are any; waits for
    /// some if none are in view, or if `more` are wanted than are. Returns how many bytes were copied.
    ///
    /// Errors, with nothing taken out: `EAGAIN`, `ERESTARTSYS`, `ENOMEM`, `ENOBUFS` (there is no room for more),
    /// `EFAULT` (bad memory).
    fn claim(
        &mut self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        most: usize,
        more: bool,
    ) -> Result<usize> {
        let window = self.window;
        self.clean_area(file)?;
        let (before, mut room, rest) = {
            let shown = &mut *window.shown.lock();
            let rest = shown.show();
            if shown.full != shown.entries.len {
                return match (shown.bytes, rest) {
                    (0, _) => Err(EFAULT),
                    (_, 0) if more => Err(compat::no_buffers()),
                    _ => Ok(rest),
                };
            }
            let wanted = if more {
                most
            } else {
                most.saturating_sub(shown.bytes)
            };
            (shown.bytes, shown.room(window.places, wanted), rest)
        };
        let waits = before == 0 || (more && rest == 0);
        let pipe = &window.end.pipe;
        pipe.claim(request, waits, before != 0, &mut self.list, |slot| {
            room.takes(slot)
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
            // Nothing of what there is could be copied.
            return Err(EFAULT);
        }
        Ok(copied)
    }

    /// Writes what is in view to an array of `most` views; returns how many, and the bytes in them. What lies one
    /// after the other is one view. Sleeps, and faults.
    fn tell(&self, to: u64, most: u32) -> Result<(u32, u64)> {
        let at = UserPtr::from_addr(usize::try_from(to).map_err(|_| EFAULT)?);
        let most = (most as usize).min(Shown::MOST);
        let mut writer = UserSlice::new(at, most * size_of::<uapi::View>()).writer();
        let (mut told, mut bytes) = (0, 0);
        let mut number = 0;

        while told < most {
            // Some at a time: others may fault meanwhile, but nobody else changes it.
            let mut views = Views::default();
            number = views.fill(&self.window.shown.lock().entries, number);
            for view in views.iter().take(most - told) {
                writer.write_slice(view.as_bytes())?;
                told += 1;
                bytes += view.bytes;
            }
            if !views.is_full() {
                break;
            }
        }
        // CAST: At most `MOST`.
        Ok((told as u32, bytes))
    }
}

/// Some views.
#[derive(Default)]
struct Views {
    views: [Option<uapi::View>; Self::MOST],
    len: usize,
}

impl Views {
    const MOST: usize = 16;

    /// Adds those of entries from `number` on, until there is no room; returns which is the next.
    fn fill(&mut self, entries: &Fifo<Entry>, mut number: usize) -> usize {
        for entry in entries.iter().skip(number) {
            if entry.shown != 0 && !self.add(entry.view()) {
                break;
            }
            number += 1;
        }
        number
    }

    /// Adds one to the last, or behind it, if there is room.
    fn add(&mut self, view: uapi::View) -> bool {
        let last = self.len.checked_sub(1);
        if let Some(Some(last)) = last.and_then(|last| self.views.get_mut(last)) {
            if last.offset + last.bytes == view.offset && last.flags | view.flags == 0 {
                last.bytes += view.bytes;
                return true;
            }
        }
        match self.views.get_mut(self.len) {
            Some(place) => {
                *place = Some(view);
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
        self.len == Self::MOST
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
                    places: KVec::new(),
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
}
