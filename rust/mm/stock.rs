// SPDX-License-Identifier: GPL-2.0-only

//! A small stock of empty pages.

use super::BufferPage;
use core::array;

/// Empty pages that were allocated in advance, so that no page is allocated under a lock.
#[repr(C)]
pub(crate) struct PageStock {
    len: usize,
    pages: [Option<BufferPage>; Self::MAX],
}

impl PageStock {
    /// The maximal number of pages in a stock.
    pub(crate) const MAX: usize = 16;

    /// Creates an empty stock.
    pub(crate) fn new() -> Self {
        Self {
            pages: array::from_fn(|_| None),
            len: 0,
        }
    }

    /// The number of pages in the stock.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes out the page that was put in last.
    pub(crate) fn take(&mut self) -> Option<BufferPage> {
        self.len = self.len.checked_sub(1)?;
        self.pages.get_mut(self.len)?.take()
    }

    /// Clears `page` and puts it in. A full stock returns it unchanged.
    pub(crate) fn put(&mut self, mut page: BufferPage) -> Result<(), BufferPage> {
        let Some(free) = self.pages.get_mut(self.len) else {
            return Err(page);
        };

        page.clear();
        *free = Some(page);
        self.len += 1;
        Ok(())
    }

    /// Allocates pages until the stock has `want` or [`Self::MAX`] of them, or an allocation fails.
    /// Sleeps.
    pub(crate) fn fill(&mut self, want: usize) {
        while self.len < want.min(Self::MAX) {
            let Ok(page) = BufferPage::new() else { return };
            // By the loop's condition the stock is not full.
            let _ = self.put(page);
        }
    }
}
