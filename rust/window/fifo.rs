// SPDX-License-Identifier: GPL-2.0-only

//! A queue in a ring buffer of fixed size.

use kernel::prelude::*;

/// A queue that is allocated once, for a maximum number of items.
pub(super) struct Fifo<T> {
    pub(super) items: KVec<Option<T>>,
    pub(super) first: usize,
    pub(super) len: usize,
}

impl<T> Fifo<T> {
    pub(super) fn new(space: usize) -> Result<Self> {
        let mut items = KVec::with_capacity(space, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..space {
            items.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self {
            items,
            first: 0,
            len: 0,
        })
    }

    pub(super) fn space(&self) -> usize {
        self.items.len() - self.len
    }

    fn index(&self, number: usize) -> usize {
        (self.first + number) % self.items.len().max(1)
    }

    /// Adds `item` at the end. If the queue is full, `item` is dropped; callers check for space
    /// before.
    pub(super) fn push(&mut self, item: T) {
        let index = self.index(self.len);
        if self.space() != 0 {
            if let Some(free) = self.items.get_mut(index) {
                *free = Some(item);
                self.len += 1;
            }
        }
    }

    pub(super) fn first(&mut self) -> Option<&mut T> {
        self.get(0)
    }

    pub(super) fn last(&mut self) -> Option<&mut T> {
        self.get(self.len.checked_sub(1)?)
    }

    /// The item that has `number` items before it.
    pub(super) fn get(&mut self, number: usize) -> Option<&mut T> {
        if number >= self.len {
            // The index would wrap to an item at the front.
            return None;
        }
        let index = self.index(number);
        self.items.get_mut(index)?.as_mut()
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let index = self.index(0);
        let item = self.items.get_mut(index)?.take()?;
        self.first = self.index(1);
        self.len -= 1;
        Some(item)
    }

    pub(super) fn pop_last(&mut self) -> Option<T> {
        let index = self.index(self.len.checked_sub(1)?);
        let item = self.items.get_mut(index)?.take()?;
        self.len -= 1;
        Some(item)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|number| self.items.get(self.index(number))?.as_ref())
    }
}
