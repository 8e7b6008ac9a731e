// SPDX-License-Identifier: GPL-2.0-only

//! What a slot of a pipe holds: bytes of a page of the pipe's own, or of a huge page, or of many small
//! ones, that left a writer's memory, or of a frame of a window.

use crate::{
    frames::SentFrame,
    mm::{AddressSpace, BufferPage, Dest, Frame, HugeCredit, HugePage, SmallPages, Source},
    zcore::{merge::LastSlot, PAGE_SIZE},
};
use core::mem::size_of;
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// What a slot's data is to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of a stream of bytes.
    Stream,
    /// A packet: one read takes it, or as much of it as it has room for and drops the rest.
    Packet,
}

/// Data in a pipe.
///
/// A slot is made whole when data is put in, and dropped whole when it has been read: nothing of
/// it is left to the next that stands in its place.
pub(crate) enum Slot {
    /// In a page of the pipe's own.
    Page(PageSlot),
    /// In a huge page, or in many small ones: part of a stream, to which nothing is appended.
    Huge(KBox<HugeSlot>),
}

// A ring has many, and those that every message touches are to lie close together.
const _: () = assert!(size_of::<Option<Slot>>() == 32);

impl Slot {
    /// A slot with what is valid of `page` from `offset` on.
    pub(crate) fn of_page(page: BufferPage, offset: usize, kind: Kind) -> Self {
        Slot::Page(PageSlot::new(page, offset, kind))
    }

    /// Bytes of data.
    pub(crate) fn len(&self) -> usize {
        match self {
            Slot::Page(slot) => slot.len(),
            Slot::Huge(slot) => slot.len(),
        }
    }

    /// How many bytes of its page are gone.
    pub(crate) fn offset(&self) -> usize {
        match self {
            Slot::Page(slot) => slot.offset,
            Slot::Huge(slot) => slot.offset,
        }
    }

    /// Removes the first `bytes` bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        match self {
            Slot::Page(slot) => slot.consume(bytes),
            Slot::Huge(slot) => slot.consume(bytes),
        }
    }

    /// What the data is to readers.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Slot::Page(slot) => slot.kind(),
            Slot::Huge(_) => Kind::Stream,
        }
    }

    /// Copies the bytes behind the first `skip` to `dest`, as far as there is room and it goes without a
    /// fault; returns how many. They stay in the slot.
    pub(crate) fn peek_atomic(&self, skip: usize, dest: &mut Dest<'_, '_>) -> usize {
        let bytes = self.len().saturating_sub(skip).min(dest.remaining());
        match self {
            Slot::Page(slot) if skip == 0 && slot.peek_atomic(bytes, dest) => bytes,
            Slot::Page(_) => 0,
            Slot::Huge(slot) => slot.peek_atomic(skip, bytes, dest),
        }
    }

    /// Whether [`Self::append`] would.
    pub(crate) fn can_append(&self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Page(slot), Slot::Page(other)) => slot.has_room_for(other),
            _ => false,
        }
    }

    /// Appends the bytes of `other`, if both are parts of a stream in pages of the pipe's own and there is room
    /// behind those here; says whether.
    pub(crate) fn append(&mut self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Page(slot), Slot::Page(other)) => slot.append_slot(other),
            _ => false,
        }
    }

    /// The frame that it is in, if it is in one.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        match self {
            Slot::Page(_) => None,
            Slot::Huge(slot) => slot.frame(),
        }
    }

    /// Where in its frame its data begins, if it is in one.
    pub(crate) fn frame_offset(&self) -> Option<usize> {
        self.frame().map(|_| self.offset())
    }

    /// The slot, if what is in it is a part of a stream in a page of the pipe's own.
    pub(crate) fn as_stream_page(&mut self) -> Option<&mut PageSlot> {
        match self {
            Slot::Page(slot) if slot.kind == Kind::Stream => Some(slot),
            _ => None,
        }
    }
}

/// Bytes of a page of the pipe's own.
///
/// # Invariants
///
/// The data ends where what is valid of the page ends.
pub(crate) struct PageSlot {
    page: BufferPage,
    offset: usize,
    kind: Kind,
}

impl PageSlot {
    fn new(page: BufferPage, offset: usize, kind: Kind) -> Self {
        // INVARIANT: The data ends where what is valid ends, and begins before that or there.
        Self {
            offset: offset.min(page.valid()),
            page,
            kind,
        }
    }

    /// Bytes of data.
    pub(crate) fn len(&self) -> usize {
        self.page.valid() - self.offset
    }

    /// What the data is to readers.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What it says about being appended to, as the last slot.
    pub(crate) fn as_last(&self) -> LastSlot {
        LastSlot {
            end: self.page.valid(),
            mergeable: self.kind == Kind::Stream,
        }
    }

    /// Appends `bytes` bytes of `source`, without a fault. When not all of them come, none is
    /// appended, and the source is as it was.
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

    /// Whether both are parts of a stream, and there is room behind this one for the other.
    fn has_room_for(&self, other: &Self) -> bool {
        self.kind == Kind::Stream
            && other.kind == Kind::Stream
            && other.offset == 0
            && self.page.valid() + other.len() <= PAGE_SIZE
    }

    /// Appends the bytes of another slot, if there is room; says whether.
    fn append_slot(&mut self, other: &Self) -> bool {
        let fits = self.has_room_for(other);
        if fits {
            self.append_page(other.len(), &other.page);
        }
        fits
    }

    /// Copies the first `bytes` bytes to `dest`, without a fault. When not all of them arrive,
    /// `dest` is as it was. They stay in the slot either way, until [`Self::consume`].
    pub(crate) fn peek_atomic(&self, bytes: usize, dest: &mut Dest<'_, '_>) -> bool {
        let copied = self.page.drain_atomic(self.offset, bytes, dest);

        if copied < bytes {
            dest.rewind(copied);
        }
        copied == bytes
    }

    /// Removes the first `bytes` bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        // INVARIANT: The end stays.
        self.offset += bytes.min(self.len());
    }

    /// Gives the page back, for another use.
    pub(crate) fn into_page(self) -> BufferPage {
        let mut page = self.page;
        page.clear();
        page
    }
}

/// Whose bytes are in a huge page, once it is read.
pub(crate) enum Origin {
    /// Nobody's: there is no page.
    Nobody,
    /// Those that a writer's address space gave to this pipe.
    Given(AddressSpace),
    /// A reader's, who lets the pipe's writers see them.
    Returned,
}

/// What left a writer's memory, or its window.
enum Body {
    Huge(HugePage),
    Small(SmallPages),
    Frame(SentFrame),
}

/// Bytes of a huge page, or of at most as many in small ones.
///
/// # Invariants
///
/// Small pages hold the bytes up to `end`; those up to `offset` may be gone.
pub(crate) struct HugeSlot {
    /// [`None`] while a reader tries to land it.
    body: Option<Body>,
    credit: Option<HugeCredit>,
    origin: Origin,
    offset: usize,
    end: usize,
    /// The next one on a list.
    next: Option<KBox<HugeSlot>>,
}

impl HugeSlot {
    /// A slot for a page: so far there is none, and it is counted to nobody. Sleeps.
    pub(crate) fn new() -> Result<KBox<Self>, AllocError> {
        // Without a word in the log, as the page itself.
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

    /// Bytes of data.
    pub(crate) fn len(&self) -> usize {
        self.end - self.offset
    }

    /// How many bytes are gone.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether it is a huge page, nothing of it is read, and nobody tries to land it.
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == 0 && matches!(self.body, Some(Body::Huge(_)))
    }

    /// Whether it is a huge page, whatever of it is read.
    pub(crate) fn is_huge(&self) -> bool {
        matches!(self.body, Some(Body::Huge(_)))
    }

    /// Whether it is in small pages.
    pub(crate) fn is_small(&self) -> bool {
        matches!(self.body, Some(Body::Small(_)))
    }

    /// The frame that it is in, if it is in one.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        match &self.body {
            Some(Body::Frame(sent)) => sent.frame(),
            _ => None,
        }
    }

    /// Puts a frame in, of which the bytes between the two offsets are data.
    pub(crate) fn put_frame(&mut self, sent: SentFrame, from: usize, to: usize) {
        self.end = to.min(Frame::SIZE);
        self.offset = from.min(self.end);
        self.body = Some(Body::Frame(sent));
    }

    /// Takes its frame out, if it is in one: that goes home when it is dropped.
    pub(crate) fn take_frame(&mut self) -> Option<SentFrame> {
        match self.body.take() {
            Some(Body::Frame(sent)) => Some(sent),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Whether a reader tries to land it: then nobody else reads it, nor what is behind it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.body.is_none()
    }

    /// Takes the huge page out: to land it, or when the slot is in no pipe.
    pub(crate) fn take_page(&mut self) -> Option<HugePage> {
        match self.body.take() {
            Some(Body::Huge(page)) => Some(page),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Puts `page` in, all of which is data.
    pub(crate) fn put_page(&mut self, page: HugePage) {
        self.body = Some(Body::Huge(page));
        self.offset = 0;
        self.end = HugePage::SIZE;
    }

    /// Takes the small pages out, to land some of them.
    pub(crate) fn take_small(&mut self) -> Option<SmallPages> {
        match self.body.take() {
            Some(Body::Small(pages)) => Some(pages),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// Puts `pages` in, all of which are data.
    pub(crate) fn fill_small(&mut self, pages: SmallPages) {
        self.offset = 0;
        // INVARIANT: That is what they hold.
        self.end = pages.len() * PAGE_SIZE;
        self.body = Some(Body::Small(pages));
    }

    /// Puts small pages back that were taken out, of which so many, the next, have landed.
    pub(crate) fn put_small(&mut self, pages: SmallPages, landed: usize) {
        // INVARIANT: Those may be gone.
        self.offset = self.end.min(self.offset + landed * PAGE_SIZE);
        self.body = Some(Body::Small(pages));
    }

    /// Counts it to a user.
    pub(crate) fn set_credit(&mut self, credit: HugeCredit) {
        self.credit = Some(credit);
    }

    /// Whose bytes are in it.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Says whose bytes are in it.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Whether its page may take the place of another: it is there, charged to nobody, and not bad memory.
    pub(crate) fn can_go_round(&self) -> bool {
        matches!(&self.body, Some(Body::Huge(page)) if page.fits())
    }

    /// Bytes up to the end of the next 4 KiB of it, or of its data: what has to arrive together.
    pub(crate) fn part(&self) -> usize {
        self.len().min(PAGE_SIZE - self.offset % PAGE_SIZE)
    }

    /// Copies `bytes` bytes behind the first `skip` to `dest`, as far as they are there and it goes without
    /// a fault; returns how many. They stay in the slot.
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
        // INVARIANT: Small pages may be there though their bytes are gone.
        self.offset += bytes.min(self.len());
    }

    /// Moves the first `bytes` bytes to `dest`, without a fault; returns how many. Where the copy
    /// stops short, only whole 4 KiB count, and `dest` is as if the others had not been copied.
    pub(crate) fn consume_atomic(&mut self, bytes: usize, dest: &mut Dest<'_, '_>) -> usize {
        let bytes = bytes.min(self.len());
        let copied = self.peek_atomic(0, bytes, dest);
        let whole = if copied < bytes {
            // The end of the last 4 KiB that arrived.
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

/// Huge pages that are done with, to be freed when no lock is held.
pub(crate) struct HugeSlots(Option<KBox<HugeSlot>>);

impl HugeSlots {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Frees them. Not with a lock held.
    pub(crate) fn free(&mut self) {
        // Not one inside the other: the stack is short.
        while let Some(mut slot) = self.0.take() {
            self.0 = slot.next.take();
        }
    }

    /// Puts one in. It allocates nothing.
    pub(crate) fn push(&mut self, mut slot: KBox<HugeSlot>) {
        slot.next = self.0.take();
        self.0 = Some(slot);
    }
}

impl Drop for HugeSlots {
    fn drop(&mut self) {
        self.free();
    }
}
