// SPDX-License-Identifier: GPL-2.0-only

//! Write windows: memory of a pipe that a writer fills in place and then commits.
//!
//! A window is a file of its own, which is mapped. It consists of frames of 2 MiB; one is made when it is
//! touched. To commit one is to take it out of the window, and of all page tables, and to put it into the
//! pipe as a slot: from then on the writer cannot see or change it, and its next touch finds another frame.
//!
//! # Locks
//!
//! Outermost first: an mmap_lock, or the lock of a VMA, by who faults; the window's lock, a mutex; what the kernel
//! takes to change page tables, and the lock of a [`Home`]. A frame is mapped only under the window's lock, so
//! who has taken it out, and then out of the page tables, knows that it does not come back. Under it no
//! user memory is touched, no frame is allocated, and no pipe's lock is taken. Who needs a place in the pipe
//! takes a [`Seat`] first.

mod shown;

pub(crate) use shown::ReadWindow;

use crate::{
    compat,
    fops::{FileOperations, FileOps, HeldFile, OpenFile, OpeningFile},
    frames::{Home, SentFrame},
    gift::{Seat, What},
    mm::{may_exceed_user_pages, Fault, Frame, Served, Source, UserPages},
    pipe::{Request, FRAMES_MOST},
    slot::{HugeSlot, Kind},
    sync::killed,
    table::PipeRef,
    uapi::{self, UserStruct},
    zcore::{gift::Report, PAGE_SIZE},
};
use core::mem;
use kernel::{new_mutex, prelude::*, sync::Mutex};

/// Files that are write windows.
pub(crate) static WRITE_OPS: FileOps<WriteWindow> = FileOps::new(&compat::THIS_MODULE);
/// Files that are read windows.
pub(crate) static READ_OPS: FileOps<ReadWindow> = FileOps::new(&compat::THIS_MODULE);

/// What is at a place of a write window.
enum Place {
    /// Nothing: who touches it gets a frame.
    Empty,
    /// The writer's frame.
    Own(Frame),
    /// A frame that is in the pipe, too, so it is only mapped to be read.
    Lent(Frame),
}

/// The end of a pipe that a window was made from.
///
/// It stays open with the window. The pipe is dropped first: who has it holds its inode.
pub(crate) struct WindowEnd {
    pipe: PipeRef,
    file: HeldFile,
    /// It is a node's, with times to keep.
    node: bool,
}

impl WindowEnd {
    /// The end that is `file`, of `pipe`.
    pub(crate) fn new(pipe: PipeRef, file: &OpenFile<'_>, node: bool) -> Self {
        Self {
            pipe,
            file: HeldFile::of(file),
            node,
        }
    }

    fn request<'a>(&'a self, file: &'a OpenFile<'_>, nonblock: bool) -> Request<'a> {
        Request {
            nowait: nonblock,
            ..Request::of(file.as_file())
        }
    }
}

/// Counts `frames` frames to the current user, as pages in pipes. `EPERM` if that is too many.
fn account(pipe: &PipeRef, frames: usize) -> Result<UserPages> {
    let mut account = UserPages::of_current();
    // CAST: At most `WINDOW_MOST`.
    let all = account.set((frames * (Frame::SIZE / PAGE_SIZE)) as u32);

    if pipe.above_user(all) && !may_exceed_user_pages() {
        return Err(EPERM);
    }
    Ok(account)
}

/// A write window.
pub(crate) struct WriteWindow {
    home: kernel::sync::Arc<Home>,
    places: Pin<KBox<Mutex<KVec<Place>>>>,
    /// Frames there are.
    frames: usize,
    /// Frames may be lent.
    lends: bool,
    end: WindowEnd,
    _account: UserPages,
}

impl WriteWindow {
    /// One of `frames` frames, all of which are empty. Sleeps. Errors: `EPERM`, `ENOMEM`.
    pub(crate) fn new(end: WindowEnd, frames: usize, lends: bool) -> Result<Self> {
        // CAST: A small number. So many are in the pipe, or on their way home.
        let account = account(&end.pipe, frames + FRAMES_MOST as usize)?;
        let mut places = KVec::with_capacity(frames, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..frames {
            places.push(Place::Empty, GFP_KERNEL_ACCOUNT)?;
        }

        Ok(Self {
            home: Home::new()?,
            places: KBox::pin_init(new_mutex!(places, "zpipe::window"), GFP_KERNEL_ACCOUNT)?,
            frames,
            lends,
            end,
            _account: account,
        })
    }

    /// A frame for an empty place.
    fn spare(&self) -> Option<Frame> {
        self.home.take().or_else(Frame::new)
    }

    /// Calls `with` with what is at the place of number `index`, a frame in any case. Takes the window's
    /// lock. Sleeps. [`None`] if there is no such place, or no memory for a frame.
    fn with_frame<R>(&self, index: usize, with: impl FnOnce(&mut Place) -> R) -> Option<R> {
        let mut spare = None;
        let result = loop {
            let mut places = self.places.lock();
            let place = places.get_mut(index)?;
            if let Place::Empty = place {
                match spare.take() {
                    Some(frame) => *place = Place::Own(frame),
                    None => {
                        drop(places);
                        spare = Some(self.spare()?);
                        continue;
                    }
                }
            }
            break with(place);
        };
        // Another thread was faster.
        if let Some(frame) = spare {
            self.home.put_spare(frame);
        }
        Some(result)
    }

    /// Makes the frame at `index` the writer's own if it is lent: by a copy, if it still is in the pipe. Says
    /// whether nothing came in between. Sleeps. [`None`] if there is no memory for that.
    fn unlend(&self, file: &OpenFile<'_>, index: usize) -> Option<bool> {
        // A frame that was lent, and a copy of it.
        let mut made: Option<(Frame, Frame)> = None;
        loop {
            let lent = {
                let mut places = self.places.lock();
                let Some(place) = places.get_mut(index) else {
                    return Some(true);
                };
                let frame = match mem::replace(place, Place::Empty) {
                    Place::Lent(frame) => frame,
                    other => {
                        *place = other;
                        return Some(true);
                    }
                };
                file.unmap(index, 1);
                match made.take() {
                    // Nobody could store to it meanwhile.
                    Some((of, copy)) if of.is(&frame) => {
                        *place = Place::Own(copy);
                        drop(places);
                        drop(of);
                        // It is of use again when nobody has it any more.
                        self.home.put(frame);
                        return Some(true);
                    }
                    // Another was lent there.
                    Some(_) => {
                        *place = Place::Lent(frame);
                        return Some(false);
                    }
                    None if frame.is_alone() => {
                        *place = Place::Own(frame);
                        return Some(true);
                    }
                    None => (),
                }
                let lent = frame.share();
                *place = Place::Lent(frame);
                lent
            };
            let copy = match self.home.take() {
                Some(mut frame) => frame.take_bytes(&lent, 0, Frame::SIZE).then_some(frame)?,
                None => lent.copy()?,
            };
            made = Some((lent, copy));
        }
    }

    /// Takes the frame at `index` out, for a slot in which the bytes from `from` to `to` are data; or says
    /// why not. It stays there, too, if it is lent. Sleeps.
    fn take_out(
        &self,
        file: &OpenFile<'_>,
        index: usize,
        whole: bool,
        lend: bool,
    ) -> Result<SentFrame, u32> {
        let home = self.home.clone();
        let mut places = self.places.lock();
        let place = places.get_mut(index).ok_or(uapi::REASON_SMALL)?;

        match mem::replace(place, Place::Empty) {
            Place::Own(frame) => {
                file.unmap(index, 1);
                if !frame.is_alone() {
                    *place = Place::Own(frame);
                    return Err(uapi::REASON_PINNED);
                }
                if !lend {
                    return Ok(SentFrame::new(frame, Some(home)));
                }
                let shared = frame.share();
                *place = Place::Lent(frame);
                Ok(SentFrame::new(shared, None))
            }
            // Readers may look at all of it.
            Place::Lent(frame) if !whole => {
                *place = Place::Lent(frame);
                Err(uapi::REASON_PART)
            }
            // Nobody could store to it since it was lent.
            Place::Lent(frame) if lend => {
                let shared = frame.share();
                *place = Place::Lent(frame);
                Ok(SentFrame::new(shared, None))
            }
            Place::Lent(frame) => {
                file.unmap(index, 1);
                Ok(SentFrame::new(frame, Some(home)))
            }
            // Another thread has committed it just now.
            Place::Empty => Err(uapi::REASON_SMALL),
        }
    }

    /// Why a piece is copied, as far as can be told beforehand.
    fn refusal(&self, request: Request<'_>, piece: &Piece, lend: bool) -> Option<u32> {
        let bytes = piece.bytes();
        if 2 * bytes < Frame::SIZE || (lend && bytes != Frame::SIZE) {
            Some(uapi::REASON_PART)
        } else if request.kind() == Kind::Packet {
            Some(uapi::REASON_PACKET)
        } else if self.home.is_crowded() {
            Some(uapi::REASON_PINNED)
        } else {
            None
        }
    }

    /// Has the frame of `piece` leave the window, and be in the pipe; or says why its bytes are to be copied.
    /// Waits as a write.
    fn send(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        piece: &Piece,
        lend: bool,
    ) -> Result<Result<(), u32>> {
        let Ok(mut slot) = HugeSlot::new() else {
            return Ok(Err(uapi::REASON_MEMORY));
        };
        // What was never touched is to be sent, too.
        if self.with_frame(piece.index, |_| ()).is_none() {
            return Ok(Err(uapi::REASON_MEMORY));
        }
        let seat = match Seat::wait(&self.end.pipe, request, What::Frame)? {
            Ok(seat) => seat,
            // CAST: A small number.
            Err(why) => return Ok(Err(why as u32)),
        };
        let whole = piece.bytes() == Frame::SIZE;
        match self.take_out(file, piece.index, whole, lend) {
            Ok(mut sent) => {
                sent.clear_around(piece.from, piece.to);
                slot.put_frame(sent, piece.from, piece.to);
                seat.fill(slot);
                Ok(Ok(()))
            }
            Err(why) => {
                seat.give_up();
                Ok(Err(why))
            }
        }
    }

    /// Writes `parts`, which lie one after the other, as one write(2) does, and empties them. What was written
    /// is added to `report`. Says whether all of it went.
    fn copy(
        &self,
        request: Request<'_>,
        parts: &mut KVec<(Piece, u32)>,
        report: &mut Report,
    ) -> Result<bool> {
        let Some((first, _)) = parts.first() else {
            return Ok(true);
        };
        let from = first.from;
        let mut bytes = 0;
        let mut frames = KVec::with_capacity(parts.len(), GFP_KERNEL_ACCOUNT)?;
        for (piece, _) in parts.iter() {
            let frame = self.with_frame(piece.index, |place| match place {
                Place::Own(frame) | Place::Lent(frame) => Some(frame.share()),
                Place::Empty => None,
            });
            match frame.flatten() {
                Some(frame) => frames.push(frame, GFP_KERNEL_ACCOUNT)?,
                // There is no memory for the next: as far as it goes.
                None if bytes != 0 => break,
                None => return Err(ENOMEM),
            }
            bytes += piece.bytes();
        }

        let mut left = Frame::read_all(&frames, from, bytes, |source: &mut Source<'_, '_>| {
            self.end.pipe.write(request, source)
        })??;
        let all = left == bytes && frames.len() == parts.len();
        for (piece, why) in parts.drain_all() {
            let copied = piece.bytes().min(left);
            left -= copied;
            report.copied(copied, why as usize);
        }
        Ok(all)
    }

    /// Writes `bytes` bytes from `offset` on until something comes in between; what was written is in
    /// `report`. Sleeps, and fails, as a write.
    fn write(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        (offset, bytes): (usize, usize),
        lend: bool,
        report: &mut Report,
    ) -> Result {
        let end = offset + bytes;
        let mut at = offset;
        // What is to be copied before anything else.
        let mut parts = KVec::new();

        while at < end {
            // Much may go without a wait.
            if killed() {
                return Err(ERESTARTSYS);
            }
            let piece = Piece::first_of(at, end);
            at += piece.bytes();
            let why = match self.refusal(request, &piece, lend) {
                Some(why) => why,
                None => {
                    if !self.copy(request, &mut parts, report)? {
                        return Ok(());
                    }
                    match self.send(file, request, &piece, lend)? {
                        Ok(()) => {
                            report.moved(piece.bytes());
                            continue;
                        }
                        Err(why) => why,
                    }
                }
            };
            parts.push((piece, why), GFP_KERNEL_ACCOUNT)?;
        }
        self.copy(request, &mut parts, report)?;
        Ok(())
    }

    /// The range of a call, if there is one.
    fn range(&self, offset: u64, bytes: u64) -> Result<(usize, usize)> {
        let end = offset.checked_add(bytes).ok_or(EINVAL)?;
        if end > (self.frames * Frame::SIZE) as u64 {
            return Err(EINVAL);
        }
        // CAST: Both are at most as large as the window.
        Ok((offset as usize, bytes as usize))
    }

    fn reserve(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let (_, args) = UserStruct::read::<uapi::Reserve>(arg)?;
        if args.flags != 0 {
            return Err(EINVAL);
        }
        let (offset, bytes) = self.range(args.offset, args.bytes)?;
        let (first, last) = (offset / Frame::SIZE, (offset + bytes).div_ceil(Frame::SIZE));

        for index in first..last {
            if killed() {
                return Err(ERESTARTSYS);
            }
            self.with_frame(index, |_| ()).ok_or(ENOMEM)?;
            while self.lends && !self.unlend(file, index).ok_or(ENOMEM)? {
                if killed() {
                    return Err(ERESTARTSYS);
                }
            }
        }
        Ok(())
    }

    fn commit(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let (user, mut args) = UserStruct::read::<uapi::Commit>(arg)?;
        let lend = args.flags & uapi::LEND != 0;
        if args.flags & !(uapi::LEND | uapi::NONBLOCK) != 0 || (lend && !self.lends) {
            return Err(EINVAL);
        }
        let range = self.range(args.offset, args.bytes)?;
        // Where what happens is to be told has to be writable before it happens.
        user.write(&args)?;
        let end = self.end.file.as_open();
        end.may_write(range.1)?;

        let mut report = Report::default();
        let request = self.end.request(&end, args.flags & uapi::NONBLOCK != 0);
        let result = self.write(file, request, range, lend, &mut report);
        if report.done() == 0 {
            result?;
        }
        args.done = report.done();
        args.moved = report.moved;
        args.copied = report.copied;
        args.why = report.why;
        user.write(&args)?;
        if report.done() != 0 {
            // CAST: At most the size of the window.
            end.wrote(report.done() as usize);
            if self.end.node {
                // It is written, and told: that must not look as if it were not.
                let _ = end.modified();
            }
        }
        Ok(())
    }
}

/// A part of a frame.
struct Piece {
    index: usize,
    /// Where in the frame it begins and ends.
    from: usize,
    to: usize,
}

impl Piece {
    /// The first of the bytes of a window from `at` to `end`, which are some.
    fn first_of(at: usize, end: usize) -> Self {
        let index = at / Frame::SIZE;
        let start = index * Frame::SIZE;

        Self {
            index,
            from: at - start,
            to: Frame::SIZE.min(end - start),
        }
    }

    fn bytes(&self) -> usize {
        self.to - self.from
    }
}

impl Drop for WriteWindow {
    fn drop(&mut self) {
        self.home.close();
    }
}

#[vtable]
impl FileOperations for WriteWindow {
    fn open(_file: &OpeningFile<'_>) -> Result<Self> {
        Err(ENXIO)
    }

    fn ioctl(&self, file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result<i32> {
        match cmd {
            uapi::RESERVE => self.reserve(file, arg).map(|()| 0),
            uapi::COMMIT => self.commit(file, arg).map(|()| 0),
            _ => Err(ENOIOCTLCMD),
        }
    }

    fn fault(&self, file: &OpenFile<'_>, fault: &Fault<'_>) -> Served {
        let (index, writes) = (fault.frame(), fault.writes());
        if fault.is_of_mapped_page() {
            // With the reference that it has for us the frame is not alone. Without a mapping it comes again.
            file.unmap(index, 1);
            return Served::AGAIN;
        }
        if self.lends && writes {
            match self.unlend(file, index) {
                Some(true) => (),
                // Signals are looked at first.
                Some(false) => return Served::AGAIN,
                None => return Served::BUS,
            }
        }
        self.with_frame(index, |place| match place {
            Place::Own(frame) => fault.place(frame, writes || !self.lends),
            Place::Lent(frame) if !writes => fault.place(frame, false),
            // It was lent again just now.
            Place::Lent(_) | Place::Empty => Served::AGAIN,
        })
        .unwrap_or(Served::BUS)
    }

    fn watches_stores(&self) -> bool {
        self.lends
    }
}
