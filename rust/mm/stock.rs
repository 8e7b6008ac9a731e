// SPDX-License-Identifier: GPL-2.0-only

//! A few pages in reserve.

use super::BufferPage;
use core::array;

/// Empty pages set aside, so that none need be allocated under a lock.
#[repr(C)]
pub(crate) struct PageStock {
    len: usize,
    pages: [Option<BufferPage>; Self::MAX],
}

impl PageStock {
    /// Pages a stock holds at most.
    pub(crate) const MAX: usize = 16;

    /// An empty stock.
    pub(crate) fn new() -> Self {
        Self {
            pages: array::from_fn(|_| None),
            len: 0,
        }
    }

    /// Pages in the stock.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes a page out, the one put in last.
    pub(crate) fn take(&mut self) -> Option<BufferPage> {
        self.len = self.len.checked_sub(1)?;
        self.pages.get_mut(self.len)?.take()
    }

    /// Puts a page in, emptied. A full stock gives it back.
    pub(crate) fn put(&mut self, mut page: BufferPage) -> Result<(), BufferPage> {
        let Some(free) = self.pages.get_mut(self.len) else {
            return Err(page);
        };

        page.clear();
        *free = Some(page);
        self.len += 1;
        Ok(())
    }

    /// Allocates until there are `want` pages, or [`Self::MAX`], or none is to be had. Sleeps.
    pub(crate) fn fill(&mut self, want: usize) {
        while self.len < want.min(Self::MAX) {
            let Ok(page) = BufferPage::new() else { return };
            // There is room, says the loop's condition.
            let _ = self.put(page);
        }
    }
}
