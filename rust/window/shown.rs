// SPDX-License-Identifier: GPL-2.0-only

//! The part of a pipe that a read window has in view.
//!
//! A frame is mapped at a place of its own. The bytes of all other slots are copied, one after the
//! other, to the *area*, the frame at the first place. Consuming takes frames out of the page
//! tables again and hands over the emptied slots.
//!
//! The caller holds the window's lock: see [`window`](super).

use super::fifo::Fifo;
use crate::{
    fops::OpenFile,
    mm::Frame,
    slot::{Kind, Slot},
    uapi,
};
use kernel::prelude::*;

/// A slot that the window has taken out of the ring.
pub(super) struct Entry {
    pub(super) slot: Slot,
    /// The offset in the window of its first byte that is not consumed.
    at: usize,
    /// The number of its bytes in view. It is less than the slot holds if the area has no space for
    /// all of them, or if they could not be copied.
    pub(super) shown: usize,
}

/// The slots of a read window. The area is the frame at place 0.
///
/// All bytes of the first `complete` entries are in view, perhaps some of the next entry, and none
/// of those behind it. The copied bytes in view are contiguous in the area and end at `area_used`.
pub(super) struct Shown {
    pub(super) entries: Fifo<Entry>,
    pub(super) complete: usize,
    /// Bytes in view.
    pub(super) bytes: usize,
    area: Frame,
    pub(super) area_used: usize,
    /// Former areas, to which others may still refer.
    other_areas: [Option<Frame>; Self::OTHER_AREAS],
    /// The place for the next frame. The caller checks that the window has a free place.
    next_place: usize,
    /// Memory for slots on their way into the window or out of it. A call takes it out while it
    /// peeks or consumes, so that there is only one such call at a time.
    pub(super) list: Option<KVec<Slot>>,
}

impl Entry {
    /// True if the bytes are copied to the area.
    fn is_copied(&self) -> bool {
        self.slot.frame().is_none()
    }

    pub(super) fn view(&self) -> uapi::View {
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

/// The limits on the slots that one call may add.
pub(super) struct Budget {
    /// Free entries.
    slots: usize,
    /// Bytes that the area has space for.
    area: usize,
    /// Free places for frames.
    places: usize,
    /// Bytes that the call still wants.
    bytes: usize,
}

impl Budget {
    /// True if `slot` may be added. In that case it is subtracted from the limits.
    pub(super) fn admits(&mut self, slot: &Slot) -> bool {
        let bytes = slot.len();
        let (space, needs, min) = match slot {
            Slot::Large(slot) if slot.frame().is_some() => (&mut self.places, 1, 1),
            // A part of a huge page or of small pages may be shown.
            Slot::Large(_) => (&mut self.area, bytes, 1),
            Slot::Page(_) | Slot::Shared(_) => (&mut self.area, bytes, bytes),
        };
        let admits = self.bytes != 0 && self.slots != 0 && *space >= min;
        if admits {
            self.slots -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if *space < needs {
                // Nothing can be in view behind a slot that is shown in part.
                self.slots = 0;
            }
            *space = space.saturating_sub(needs);
        }
        admits
    }
}

impl Shown {
    /// The maximum number of slots: 512 full pages, for which the area has space, and eight frames.
    pub(super) const MAX: usize = 520;

    /// The maximum number of attempts to copy a slot. A copy stops short at bad memory, or in tests
    /// that cut copies.
    const TRIES: usize = 64;

    /// The maximum number of former areas.
    pub(super) const OTHER_AREAS: usize = 3;

    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            entries: Fifo::new(Self::MAX)?,
            bytes: 0,
            area: Frame::new().ok_or(ENOMEM)?,
            area_used: 0,
            complete: 0,
            other_areas: [const { None }; Self::OTHER_AREAS],
            next_place: 1,
            list: Some(KVec::with_capacity(Self::MAX, GFP_KERNEL_ACCOUNT)?),
        })
    }

    /// The frame at a place.
    pub(super) fn frame(&self, place: usize) -> Option<&Frame> {
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

    /// The offset of the first byte in the area that is in view; [`None`] if there is none.
    fn area_start(&self) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.is_copied() && entry.shown != 0)
            .map(|entry| entry.at)
    }

    /// True if the area should be replaced by another. If none of it is in view and only page
    /// tables refer to it, the area is used from its start again instead.
    pub(super) fn must_replace_area(&mut self) -> bool {
        match self.area_start() {
            None if self.area_used == 0 => false,
            None if self.area.is_mapped_only() => {
                self.area_used = 0;
                false
            }
            // Somebody still refers to the area, so its old bytes must not be overwritten. The rest
            // of the area can still be used.
            None => 2 * self.area_used > Frame::SIZE,
            // The bytes in view have to be copied to the new area. That is done only if they are
            // less than half of the used bytes.
            Some(start) => 2 * self.area_used > Frame::SIZE && 2 * start > self.area_used,
        }
    }

    /// Takes out a former area to which nobody refers any more, if there is one. The second value
    /// is true if a new area may be allocated.
    pub(super) fn other_area(&mut self) -> (Option<Frame>, bool) {
        let mut areas = self.other_areas.iter_mut();
        let area = areas.find_map(|area| area.take_if(|area| area.is_alone()));

        (area, self.other_areas.iter().any(Option::is_none))
    }

    /// Replaces the area by `area`, and copies the bytes in view to it. The old area becomes a
    /// former one. If there is bad memory in the bytes, the window keeps its area, and `area`
    /// becomes a former one instead.
    pub(super) fn replace_area(&mut self, mut area: Frame, file: &OpenFile<'_>) {
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
        // The caller made sure that there is a free entry.
        if let Some(entry) = self.other_areas.iter_mut().find(|entry| entry.is_none()) {
            *entry = Some(area);
        }
    }

    /// The limits on what may be added, for a window with `places` places for frames, if the call
    /// wants `bytes` bytes.
    pub(super) fn budget(&self, places: usize, bytes: usize) -> Budget {
        let frames = self.entries.iter().filter(|entry| !entry.is_copied());
        Budget {
            slots: self.entries.space(),
            area: Frame::SIZE - self.area_used,
            places: places - frames.count().min(places),
            bytes,
        }
    }

    /// Adds `slot` behind the others. None of its bytes are in view yet. A frame gets the next of
    /// the `places` places.
    pub(super) fn push(&mut self, slot: Slot, places: usize) {
        let mut at = 0;
        if let Some(frame) = slot.frame_offset() {
            at = self.next_place * Frame::SIZE + frame;
            self.next_place = self.next_place % places + 1;
        }
        self.entries.push(Entry { slot, at, shown: 0 });
    }

    /// Appends the bytes of `slot` to the last entry, brings them into view and returns true. It
    /// does so only if the bytes would have been appended to that slot if the slot had stayed in
    /// the ring.
    ///
    /// The caller then drops `slot` and releases its place in the ring.
    pub(super) fn merge(&mut self, slot: &Slot) -> bool {
        if self.complete != self.entries.len {
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

    /// Brings as many bytes of the entries into view as possible. Returns how many it copied for
    /// that.
    pub(super) fn show(&mut self) -> usize {
        let before = self.area_used;

        while let Some(entry) = self.entries.get(self.complete) {
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
            self.complete += 1;
        }
        self.area_used - before
    }

    /// Consumes the first `bytes` bytes in view. Adds the slots that are empty then to `gone`, and
    /// takes their frames out of the page tables.
    pub(super) fn consume(&mut self, mut bytes: usize, file: &OpenFile<'_>, gone: &mut KVec<Slot>) {
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
                // After a full frame `at` is the start of the next place.
                run.add((entry.at - 1) / Frame::SIZE, file);
            }
            if let Some(entry) = self.entries.pop() {
                self.complete -= 1;
                // There is space for as many slots as there can be entries.
                let _ = gone.push_within_capacity(entry.slot);
            }
        }
        run.end(file);
    }
}

/// A run of adjacent places that are to be unmapped together.
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
