// SPDX-License-Identifier: GPL-2.0-only

//! One slot of a pipe and its data: bytes of a page of the pipe's own, of a gifted huge page,
//! of gifted small pages, or of a frame of a window.

use crate::{
    frames::SentFrame,
    mm::{
        AddressSpace, BufferPage, Dest, Frame, HugeCredit, HugePage, SharedPage, SmallPages, Source,
    },
    zcore::PAGE_SIZE,
};
use core::mem::size_of;
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// How a read treats the data of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of a stream of bytes.
    Stream,
    /// A packet. One read consumes all of it, and drops what does not fit into the reader's buffer.
    Packet,
}

/// A used slot of a pipe.
///
/// Putting data in makes a new value, and the value is dropped when all its data has been read. So
/// no state of a slot remains for the next slot at the same position in the ring.
pub(crate) enum Slot {
    /// Data in a page of the pipe's own.
    Page(PageSlot),
    /// Data in a huge page, in small pages or in a frame. It is part of a stream, and no write
    /// appends to it.
    Large(KBox<LargeSlot>),
    /// Data in a page that was one of the pipe's own, and to which others in the kernel may have
    /// references now. No write appends to it, and the page is not used again.
    Shared(SharedSlot),
}

// A ring has many slots, and those that every message touches should lie close together.
const _: () = assert!(size_of::<Option<Slot>>() == 32);

impl Slot {
    /// A slot with the valid bytes of `page` from `offset` on.
    pub(crate) fn of_page(page: BufferPage, offset: usize, kind: Kind) -> Self {
        Slot::Page(PageSlot::new(page, offset, kind))
    }

    /// The number of bytes of data.
    pub(crate) fn len(&self) -> usize {
        match self {
            Slot::Page(slot) => slot.len(),
            Slot::Large(slot) => slot.len(),
            Slot::Shared(slot) => slot.len(),
        }
    }

    /// The number of bytes before the data in its page, huge page, small pages or frame.
    pub(crate) fn offset(&self) -> usize {
        match self {
            Slot::Page(slot) => slot.offset,
            Slot::Large(slot) => slot.offset,
            Slot::Shared(slot) => slot.offset.into(),
        }
    }

    /// Removes the first `bytes` bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        match self {
            Slot::Page(slot) => slot.consume(bytes),
            Slot::Large(slot) => slot.consume(bytes),
            Slot::Shared(slot) => slot.consume(bytes),
        }
    }

    /// How a read treats the data.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Slot::Page(slot) => slot.kind(),
            Slot::Large(_) => Kind::Stream,
            Slot::Shared(slot) => slot.kind,
        }
    }

    /// Copies the bytes behind the first `skip` to `dest`, and stops at the end of `dest` or where
    /// a page fault would be needed. Returns the number of copied bytes. They stay in the slot.
    ///
    /// Of a page of the pipe's own, or a shared one, it copies all those bytes or none. It copies
    /// none if `skip` is not 0.
    pub(crate) fn peek_atomic(&self, skip: usize, dest: &mut Dest<'_, '_>) -> usize {
        let bytes = self.len().saturating_sub(skip).min(dest.remaining());
        match self {
            Slot::Page(slot) if skip == 0 && slot.peek_atomic(bytes, dest) => bytes,
            Slot::Shared(slot) if skip == 0 && slot.peek_atomic(bytes, dest) => bytes,
            Slot::Page(_) | Slot::Shared(_) => 0,
            Slot::Large(slot) => slot.peek_atomic(skip, bytes, dest),
        }
    }

    /// The slot with its page shared, if that is one of the pipe's own.
    pub(crate) fn into_shared(self) -> Self {
        match self {
            Slot::Page(slot) => Slot::Shared(slot.into_shared()),
            other => other,
        }
    }

    /// The slot with its page as one of the pipe's own, if that is shared and nobody else refers to
    /// it any more.
    pub(crate) fn into_own(self) -> Self {
        match self {
            Slot::Shared(slot) => slot.into_own(),
            other => other,
        }
    }

    /// True if [`Self::append`] would succeed.
    pub(crate) fn can_append(&self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Page(slot), Slot::Page(other)) => slot.has_space_for(other),
            _ => false,
        }
    }

    /// Appends the bytes of `other` and returns true, if the bytes fit behind those of this slot.
    /// Both must be parts of a stream in pages of the pipe's own, and nothing of `other` may have
    /// been read.
    pub(crate) fn append(&mut self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Page(slot), Slot::Page(other)) => slot.append_slot(other),
            _ => false,
        }
    }

    /// The frame that holds the data, if the data is in a frame.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        match self {
            Slot::Page(_) | Slot::Shared(_) => None,
            Slot::Large(slot) => slot.frame(),
        }
    }

    /// The offset of the data in its frame, if the data is in a frame.
    pub(crate) fn frame_offset(&self) -> Option<usize> {
        self.frame().map(|_| self.offset())
    }

    /// The slot, if it is part of a stream in a page of the pipe's own.
    pub(crate) fn as_stream_page(&mut self) -> Option<&mut PageSlot> {
        match self {
            Slot::Page(slot) if slot.kind == Kind::Stream => Some(slot),
            _ => None,
        }
    }
}

/// A slot whose data is in a page of the pipe's own.
///
/// # Invariants
///
/// The data ends where the valid bytes of the page end, and begins at or before that offset.
pub(crate) struct PageSlot {
    page: BufferPage,
    offset: usize,
    kind: Kind,
}

impl PageSlot {
    fn new(page: BufferPage, offset: usize, kind: Kind) -> Self {
        // INVARIANT: The data ends where the valid bytes end, and begins at or before that offset.
        Self {
            offset: offset.min(page.valid()),
            page,
            kind,
        }
    }

    /// The offset in the page where the data ends.
    pub(crate) fn end(&self) -> usize {
        self.page.valid()
    }

    /// Appends `bytes` bytes of `source` without a page fault. If not all of them can be copied, it
    /// appends none, rewinds `source` and returns false.
    pub(crate) fn append_atomic(&mut self, bytes: usize, source: &mut Source<'_, '_>) -> bool {
        let copied = self.page.fill_atomic(self.page.valid(), bytes, source);

        if copied < bytes {
            source.rewind(copied);
        }
        copied == bytes
    }

    /// Appends the first `bytes` bytes of `page`.
    pub(crate) fn append_page(&mut self, bytes: usize, page: &BufferPage) {
        self.page.fill_from_page(self.page.valid(), bytes, page);
    }

    /// True if both slots are parts of a stream, nothing of `other` has been read, and its bytes
    /// fit behind those of this slot.
    fn has_space_for(&self, other: &Self) -> bool {
        self.kind == Kind::Stream
            && other.kind == Kind::Stream
            && other.offset == 0
            && self.page.valid() + other.len() <= PAGE_SIZE
    }

    /// Appends the bytes of another slot and returns true, if they fit.
    fn append_slot(&mut self, other: &Self) -> bool {
        let fits = self.has_space_for(other);
        if fits {
            self.append_page(other.len(), &other.page);
        }
        fits
    }

    fn into_shared(self) -> SharedSlot {
        // INVARIANT: Those of this slot are the same.
        // CAST: At most `PAGE_SIZE`.
        SharedSlot {
            page: self.page.into_shared(),
            offset: self.offset as u16,
            kind: self.kind,
        }
    }

    /// Returns the page, cleared for another use.
    pub(crate) fn into_page(self) -> BufferPage {
        let mut page = self.page;
        page.clear();
        page
    }
}

/// A slot whose data is in a shared page.
///
/// # Invariants
///
/// The data ends where the valid bytes of the page end, and begins at or before that offset.
pub(crate) struct SharedSlot {
    page: SharedPage,
    offset: u16,
    kind: Kind,
}

impl SharedSlot {
    fn into_own(self) -> Slot {
        let Self { page, offset, kind } = self;
        match page.into_own() {
            // INVARIANT: The valid bytes are the same.
            Ok(page) => Slot::Page(PageSlot {
                page,
                offset: offset.into(),
                kind,
            }),
            Err(page) => Slot::Shared(Self { page, offset, kind }),
        }
    }

    /// Another reference to the page, and the offset of the data in it.
    pub(crate) fn share(&self) -> (SharedPage, usize) {
        (self.page.share(), self.offset.into())
    }

    /// The page, and the offset of the data in it.
    pub(crate) fn into_parts(self) -> (SharedPage, usize) {
        (self.page, self.offset.into())
    }
}

/// What slots of single pages have in common: their own and shared ones.
pub(crate) trait SmallSlot {
    /// The number of bytes of data.
    fn len(&self) -> usize;

    /// How a read treats the data.
    fn kind(&self) -> Kind;

    /// Copies the first `bytes` bytes to `dest` without a page fault. If not all of them can be
    /// copied, it rewinds `dest` and returns false. In both cases the bytes stay in the slot until
    /// [`Self::consume`].
    fn peek_atomic(&self, bytes: usize, dest: &mut Dest<'_, '_>) -> bool {
        let copied = self.drain_atomic(bytes, dest);

        if copied < bytes {
            dest.rewind(copied);
        }
        copied == bytes
    }

    /// Copies the first `bytes` bytes to `dest`, and stops short instead of causing a page fault.
    /// Returns how many it copied.
    fn drain_atomic(&self, bytes: usize, dest: &mut Dest<'_, '_>) -> usize;

    /// Removes the first `bytes` bytes.
    fn consume(&mut self, bytes: usize);
}

impl SmallSlot for SharedSlot {
    fn len(&self) -> usize {
        self.page.valid() - usize::from(self.offset)
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn drain_atomic(&self, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        self.page.drain_atomic(self.offset.into(), bytes, dest)
    }

    fn consume(&mut self, bytes: usize) {
        // INVARIANT: The end of the data does not change, and `offset` does not pass it.
        // CAST: At most `PAGE_SIZE`.
        self.offset += bytes.min(self.len()) as u16;
    }
}

impl SmallSlot for PageSlot {
    fn len(&self) -> usize {
        self.page.valid() - self.offset
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn drain_atomic(&self, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        self.page.drain_atomic(self.offset, bytes, dest)
    }

    fn consume(&mut self, bytes: usize) {
        // INVARIANT: The end of the data does not change, and `offset` does not pass it.
        self.offset += bytes.min(self.len());
    }
}

/// The writers that may see the bytes of a huge page after it has been read.
pub(crate) enum Origin {
    /// None: the slot has no huge page.
    Nobody,
    /// Those in the address space that gifted the page to this pipe.
    Gifted(AddressSpace),
    /// All writers of the pipe: a reader returned its page for them.
    Returned,
}

/// The memory that holds the data of a [`LargeSlot`].
enum Body {
    Huge(HugePage),
    Small(SmallPages),
    Frame(SentFrame),
}

/// A slot whose data is in a huge page, in small pages or in a frame.
///
/// # Invariants
///
/// Small pages hold the bytes from `offset` to `end`. The pages before `offset` may have been moved
/// to a reader.
pub(crate) struct LargeSlot {
    /// [`None`] in a new slot, and while a reader has claimed the slot.
    body: Option<Body>,
    credit: Option<HugeCredit>,
    origin: Origin,
    offset: usize,
    end: usize,
    /// The next slot of a [`LargeSlots`] list.
    next: Option<KBox<LargeSlot>>,
}

impl LargeSlot {
    /// A slot without a page, which is charged to nobody so far. Sleeps.
    pub(crate) fn new() -> Result<KBox<Self>, AllocError> {
        // As for the page itself, a failed allocation is not reported in the kernel log.
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        KBox::new(
            Self {
                body: None,
                credit: None,
                origin: Origin::Nobody,
                offset: 0,
                end: HugePage::SIZE,
                next: None,
            },
            flags,
        )
    }

    /// The number of bytes of data.
    pub(crate) fn len(&self) -> usize {
        self.end - self.offset
    }

    /// The number of bytes before the data.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// True if the slot holds a huge page of which nothing has been read, and which no reader has
    /// claimed.
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == 0 && matches!(self.body, Some(Body::Huge(_)))
    }

    /// True if the slot holds a huge page, read in part or not, which no reader has claimed.
    pub(crate) fn is_huge(&self) -> bool {
        matches!(self.body, Some(Body::Huge(_)))
    }

    /// True if the slot holds small pages, and no reader has claimed them.
    pub(crate) fn is_small(&self) -> bool {
        matches!(self.body, Some(Body::Small(_)))
    }

    /// The frame that holds the data, if the data is in a frame.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        match &self.body {
            Some(Body::Frame(sent)) => sent.frame(),
            _ => None,
        }
    }

    /// Puts a committed frame in. Its bytes from `from` to `to` are the data.
    pub(crate) fn put_frame(&mut self, sent: SentFrame, from: usize, to: usize) {
        self.end = to.min(Frame::SIZE);
        self.offset = from.min(self.end);
        self.body = Some(Body::Frame(sent));
    }

    /// Takes the frame out, if the slot holds one. The frame goes home when the result is dropped.
    pub(crate) fn take_frame(&mut self) -> Option<SentFrame> {
        match self.body.take() {
            Some(Body::Frame(sent)) => Some(sent),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Makes a slot without data stand for `bytes` bytes that a reader has claimed.
    pub(crate) fn stand_for(&mut self, bytes: usize) {
        if self.body.is_none() {
            self.offset = 0;
            self.end = bytes;
        }
    }

    /// True if a reader has claimed the slot. Nobody else can read this slot then, or those behind
    /// it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.body.is_none()
    }

    /// Takes the huge page out, to move it to a reader or because the slot is in no pipe.
    pub(crate) fn take_page(&mut self) -> Option<HugePage> {
        match self.body.take() {
            Some(Body::Huge(page)) => Some(page),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Puts `page` in. All of it is data.
    pub(crate) fn put_page(&mut self, page: HugePage) {
        self.body = Some(Body::Huge(page));
        self.offset = 0;
        self.end = HugePage::SIZE;
    }

    /// Takes the small pages out, to move some of them to a reader.
    pub(crate) fn take_small(&mut self) -> Option<SmallPages> {
        match self.body.take() {
            Some(Body::Small(pages)) => Some(pages),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Puts `pages` in. All of them are data.
    pub(crate) fn fill_small(&mut self, pages: SmallPages) {
        self.offset = 0;
        // INVARIANT: `end` is the number of bytes that the pages hold.
        self.end = pages.len() * PAGE_SIZE;
        self.body = Some(Body::Small(pages));
    }

    /// Puts small pages back that were claimed. The first `moved_in` pages of the data were moved
    /// to the reader.
    pub(crate) fn put_small(&mut self, pages: SmallPages, moved_in: usize) {
        // INVARIANT: Only pages before the new `offset` were moved to the reader.
        self.offset = self.end.min(self.offset + moved_in * PAGE_SIZE);
        self.body = Some(Body::Small(pages));
    }

    /// Charges the slot to the user that made `credit`.
    pub(crate) fn set_credit(&mut self, credit: HugeCredit) {
        self.credit = Some(credit);
    }

    /// The writers that may see the bytes of the page.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sets the writers that may see the bytes of the page.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// True if the slot holds a huge page that can become a replacement: it is not charged to a
    /// memory cgroup and has no bad memory.
    pub(crate) fn is_reusable(&self) -> bool {
        matches!(&self.body, Some(Body::Huge(page)) if page.fits())
    }

    /// The number of bytes up to the next multiple of 4 KiB, or up to the end of the data. A read
    /// makes progress only if it copies so many.
    pub(crate) fn part(&self) -> usize {
        self.len().min(PAGE_SIZE - self.offset % PAGE_SIZE)
    }

    /// Copies `bytes` bytes behind the first `skip` to `dest`, and stops at the end of the data or
    /// where a page fault would be needed. Returns the number of copied bytes. They stay in the
    /// slot.
    fn peek_atomic(&self, skip: usize, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        let skip = skip.min(self.len());
        let (from, bytes) = (self.offset + skip, bytes.min(self.len() - skip));
        match &self.body {
            Some(Body::Huge(page)) => page.drain_atomic(from, bytes, dest),
            Some(Body::Small(pages)) => pages.drain_atomic(from, bytes, dest),
            Some(Body::Frame(sent)) => sent
                .frame()
                .map_or(0, |frame| frame.drain_atomic(from, bytes, dest)),
            None => 0,
        }
    }

    /// Removes the first `bytes` bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        // INVARIANT: Small pages still hold the bytes from the new `offset` on.
        self.offset += bytes.min(self.len());
    }

    /// Copies the first `bytes` bytes to `dest` without a page fault, and removes those that were
    /// delivered. Returns how many were.
    ///
    /// If the copy stops short, the slot delivers bytes up to a multiple of 4 KiB only, and rewinds
    /// `dest` to that point.
    pub(crate) fn consume_atomic(&mut self, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        let bytes = bytes.min(self.len());
        let copied = self.peek_atomic(0, bytes, dest);
        let whole = if copied < bytes {
            // The end of the last 4 KiB that was copied in full.
            let end = (self.offset + copied) / PAGE_SIZE * PAGE_SIZE;
            end.saturating_sub(self.offset)
        } else {
            copied
        };

        dest.rewind(copied - whole);
        self.offset += whole;
        whole
    }
}

/// A list of slots that are out of the pipe, to be freed when no lock is held.
pub(crate) struct LargeSlots(Option<KBox<LargeSlot>>);

impl LargeSlots {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// True if the list is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Frees the slots. The caller must hold no lock.
    pub(crate) fn free(&mut self) {
        // A loop, because a recursive drop of the list could overflow the kernel stack.
        while let Some(mut slot) = self.0.take() {
            self.0 = slot.next.take();
        }
    }

    /// Adds a slot. Allocates nothing.
    pub(crate) fn push(&mut self, mut slot: KBox<LargeSlot>) {
        slot.next = self.0.take();
        self.0 = Some(slot);
    }
}

impl Drop for LargeSlots {
    fn drop(&mut self) {
        self.free();
    }
}
