// SPDX-License-Identifier: GPL-2.0-only

//! Write windows: memory of the kernel module that a writer fills in place and then commits.
//!
//! A window is a file of its own, which a process maps. It consists of frames of 2 MiB, each of
//! which is allocated when it is touched first. To commit a frame is to take it out of the window
//! and out of all page tables, and to put it into the pipe as a slot. From then on the writer
//! cannot see or change it. When the writer touches that place again, it gets another frame.
//!
//! # Locks
//!
//! Outermost first:
//!
//! 1. the mmap_lock or the lock of a VMA, which a page fault holds;
//! 2. the window's lock, a mutex;
//! 3. the locks that the kernel takes to change page tables.
//!
//! The lock of a [`Home`] is taken without the window's lock.
//!
//! A frame is mapped only under the window's lock. So a task that has taken a frame out of its
//! place, and then out of the page tables, knows that nobody maps the frame again.
//!
//! A task that holds the window's lock touches no user memory, allocates no frame and takes no
//! pipe's inner lock. A task that needs a slot takes a [`Seat`] before it takes the window's lock.

mod fifo;
mod peek;
mod shown;

pub(crate) use peek::ReadWindow;

use crate::{
    compat,
    fops::{FileOperations, FileOps, HeldFile, OpenFile, OpeningFile},
    frames::{Home, SentFrame},
    gift::{Payload, Seat},
    mm::{may_exceed_user_pages, Fault, Frame, Served, Source, UserPages},
    request::Request,
    slot::{Kind, LargeSlot},
    sync::killed,
    table::PipeRef,
    uapi::{self, UserStruct},
    zcore::{
        gift::{Report, FRAMES_MAX},
        PAGE_SIZE,
    },
};
use core::mem;
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{Arc, Mutex},
};

/// The operations of files that are write windows.
pub(crate) static WRITE_OPS: FileOps<WriteWindow> = FileOps::new(&compat::THIS_MODULE);
/// The operations of files that are read windows.
pub(crate) static READ_OPS: FileOps<ReadWindow> = FileOps::new(&compat::THIS_MODULE);

/// The contents of one place of a write window.
enum Place {
    /// No frame. The first touch of the place allocates one.
    Empty,
    /// A frame that belongs to the writer alone.
    Own(Frame),
    /// A frame that a slot refers to as well. So it is mapped read-only.
    Lent(Frame),
}

impl Place {
    /// Puts `frame` into this place as a lent frame, and returns a reference to it for a slot.
    fn lend(&mut self, frame: Frame) -> SentFrame {
        let shared = frame.share();
        *self = Self::Lent(frame);
        SentFrame::new(shared, None)
    }
}

/// The end of a pipe that a window was made from. It stays open as long as the window exists.
///
/// `pipe` must be dropped before `file`, because the file holds the inode that identifies the pipe.
pub(crate) struct WindowEnd {
    pipe: PipeRef,
    file: HeldFile,
    /// The end belongs to a node, so the inode's times have to be kept.
    node: bool,
}

impl WindowEnd {
    /// The end of `pipe` that is open as `file`.
    pub(crate) fn new(pipe: PipeRef, file: &OpenFile<'_>, node: bool) -> Self {
        Self {
            pipe,
            file: HeldFile::of(file),
            node,
        }
    }
}

/// Charges `frames` frames to the current user, as pages in pipes. `EPERM` if the user has too
/// many.
fn account(pipe: &PipeRef, frames: usize) -> Result<UserPages> {
    let mut account = UserPages::of_current();
    // CAST: At most the pages of `WINDOW_MAX` bytes and of `FRAMES_MAX` frames.
    let all = account.set((frames * (Frame::SIZE / PAGE_SIZE)) as u32);

    if pipe.above_user(all) && !may_exceed_user_pages() {
        return Err(EPERM);
    }
    Ok(account)
}

/// A write window.
pub(crate) struct WriteWindow {
    home: Arc<Home>,
    places: Pin<KBox<Mutex<KVec<Place>>>>,
    /// The number of places.
    frames: usize,
    /// `ZPIPE_WINDOW_LEND`: frames may be lent.
    lends: bool,
    end: WindowEnd,
    _account: UserPages,
}

impl WriteWindow {
    /// A window of `frames` places, all of which are empty. Sleeps. Errors: `EPERM`, `ENOMEM`.
    pub(crate) fn new(end: WindowEnd, frames: usize, lends: bool) -> Result<Self> {
        // CAST: A small number. `FRAMES_MAX` more frames can be in the pipe or on their way home.
        let account = account(&end.pipe, frames + FRAMES_MAX as usize)?;
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

    /// A frame for an empty place: one from the home, or a new one.
    fn new_frame(&self) -> Option<Frame> {
        self.home.take().or_else(Frame::new)
    }

    /// Calls `with` with the place of number `index`, under the window's lock. If the place is
    /// empty, it gets a frame first. Sleeps. [`None`] if there is no such place, or no memory for a
    /// frame.
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
                        spare = Some(self.new_frame()?);
                        continue;
                    }
                }
            }
            break with(place);
        };
        // Another thread has filled the place meanwhile.
        if let Some(frame) = spare {
            self.home.put_spare(frame);
        }
        Some(result)
    }

    /// Makes a lent frame at `index` the writer's own. If a slot still refers to the frame, a copy
    /// takes its place. Sleeps.
    ///
    /// Returns false if another frame was lent at this place meanwhile, so that the caller has to
    /// try again. Returns [`None`] if there is no memory for a copy, or bad memory in the frame.
    fn unlend(&self, file: &OpenFile<'_>, index: usize) -> Option<bool> {
        // A lent frame, and the copy of it that was made without the lock.
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
                    // Nobody could store to the frame since it was copied. The reference in `made`
                    // kept it from being alone, so it stayed lent.
                    Some((of, copy)) if of.is(&frame) => {
                        *place = Place::Own(copy);
                        drop(places);
                        drop(of);
                        // The home can use the frame again when nobody else refers to it.
                        self.home.put(frame);
                        return Some(true);
                    }
                    // Another frame was lent at this place meanwhile.
                    Some(other) => {
                        *place = Place::Lent(frame);
                        // These frames are freed without the lock.
                        drop(places);
                        drop(other);
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

    /// Takes the frame at `index` out of the window, for a slot. If `lend` is set, the window keeps
    /// the frame, too. `whole` says that all of the frame is committed. The error is the reason to
    /// copy it. Sleeps.
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
                Ok(place.lend(frame))
            }
            // Readers may see all bytes of a frame, and those of a lent frame cannot be cleared.
            Place::Lent(frame) if !whole => {
                *place = Place::Lent(frame);
                Err(uapi::REASON_PART)
            }
            // Nobody could store to the frame since it was lent, so it can be lent again as it is.
            Place::Lent(frame) if lend => Ok(place.lend(frame)),
            Place::Lent(frame) => {
                file.unmap(index, 1);
                Ok(SentFrame::new(frame, Some(home)))
            }
            // Another thread has committed the frame meanwhile.
            Place::Empty => Err(uapi::REASON_SMALL),
        }
    }

    /// Checks, as far as possible without a seat, whether a piece has to be copied. Returns the
    /// reason.
    fn refusal(&self, request: Request<'_>, piece: &Piece, lend: bool) -> Option<u32> {
        let bytes = piece.bytes();
        if 2 * bytes < Frame::SIZE || (lend && bytes != Frame::SIZE) {
            Some(uapi::REASON_PART)
        } else if request.kind() == Kind::Packet {
            Some(uapi::REASON_PACKET)
        } else if self.home.too_many_shared() {
            Some(uapi::REASON_PINNED)
        } else {
            None
        }
    }

    /// Commits the frame of `piece`. It waits for a seat as a write waits for a free slot. The
    /// inner error is the reason to copy the bytes of the piece.
    fn commit_frame(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        piece: &Piece,
        lend: bool,
    ) -> Result<Result<(), u32>> {
        let Ok(mut slot) = LargeSlot::new() else {
            return Ok(Err(uapi::REASON_MEMORY));
        };
        // A place that was never touched is committed with a new frame.
        if self.with_frame(piece.index, |_| ()).is_none() {
            return Ok(Err(uapi::REASON_MEMORY));
        }
        let seat = match Seat::wait(&self.end.pipe, request, Payload::Frame)? {
            Ok(seat) => seat,
            // CAST: Reasons are small numbers.
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

    /// Writes `parts`, which follow each other without a gap, as one write(2) would, and empties
    /// the vector. Adds the written bytes to `report`. Returns true if all were written.
    fn copy_pieces(
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
                // There is no memory for the next frame. The pieces before it are written.
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

    /// Commits `bytes` bytes from `offset` on. It may stop before the end, for example after a
    /// partial copy. `report` has the bytes that were written. Sleeps as a write, and has the same
    /// errors.
    fn commit_range(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        (offset, bytes): (usize, usize),
        lend: bool,
        report: &mut Report,
    ) -> Result {
        let end = offset + bytes;
        let mut at = offset;
        // Pieces that have to be copied before anything that follows them is committed.
        let mut parts = KVec::new();

        while at < end {
            // Only waits look for signals, and many frames may be committed without a wait.
            if killed() {
                return Err(ERESTARTSYS);
            }
            let piece = Piece::first_of(at, end);
            at += piece.bytes();
            let why = match self.refusal(request, &piece, lend) {
                Some(why) => why,
                None => {
                    if !self.copy_pieces(request, &mut parts, report)? {
                        return Ok(());
                    }
                    match self.commit_frame(file, request, &piece, lend)? {
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
        self.copy_pieces(request, &mut parts, report)?;
        Ok(())
    }

    /// Checks the range of a call. `EINVAL` if it is not within the window.
    fn range(&self, offset: u64, bytes: u64) -> Result<(usize, usize)> {
        let end = offset.checked_add(bytes).ok_or(EINVAL)?;
        if end > (self.frames * Frame::SIZE) as u64 {
            return Err(EINVAL);
        }
        // CAST: Both are at most the size of the window.
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
        // The result must be writable before anything is committed.
        user.write(&args)?;
        let end = self.end.file.as_open();
        end.verify(true, range.1)?;

        let mut report = Report::default();
        let request = Request::of_call(end.as_file(), args.flags & uapi::NONBLOCK != 0);
        let result = self.commit_range(file, request, range, lend, &mut report);
        if report.done() == 0 {
            result?;
        }
        args.done = report.done();
        args.moved = report.moved;
        args.copied = report.copied;
        args.why = report.why;
        user.write(&args)?;
        // CAST: At most the size of the window.
        end.was_written(report.done() as usize, self.end.node);
        Ok(())
    }
}

/// The part of one frame that a commit writes.
struct Piece {
    index: usize,
    /// The offsets in the frame at which it begins and ends.
    from: usize,
    to: usize,
}

impl Piece {
    /// The first piece of the bytes of a window from `at` to `end`. There is at least one byte.
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
            // This is the first store to a small page that is mapped read-only. The kernel holds a
            // reference to the page for this call, so its frame is not alone, and would be copied
            // if it is lent. Without the mapping the store faults again, and without such a
            // reference.
            file.unmap(index, 1);
            return Served::AGAIN;
        }
        if self.lends && writes {
            match self.unlend(file, index) {
                Some(true) => (),
                // The kernel looks for signals before the store faults again.
                Some(false) => return Served::AGAIN,
                None => return Served::BUS,
            }
        }
        self.with_frame(index, |place| match place {
            Place::Own(frame) => fault.place(frame, writes || !self.lends),
            Place::Lent(frame) if !writes => fault.place(frame, false),
            // The frame was lent or committed again meanwhile.
            Place::Lent(_) | Place::Empty => Served::AGAIN,
        })
        .unwrap_or(Served::BUS)
    }

    fn watches_stores(&self) -> bool {
        self.lends
    }

    fn show_fdinfo(&self, seq: &SeqFile) {
        self.end.pipe.show_named(seq);
    }
}
