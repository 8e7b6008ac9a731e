// SPDX-License-Identifier: GPL-2.0-only

//! The pages that one write has allocated.

use crate::mm::{BufferPage, PageStock};
use kernel::{
    alloc::{
        flags::{GFP_KERNEL_ACCOUNT, __GFP_NOWARN},
        AllocError,
    },
    prelude::*,
};

/// Empty pages that a write has allocated and not yet put into slots.
///
/// The write frees what is left when it ends, without the inner lock.
pub(super) struct WriteStock {
    /// [`None`] for the many writes that need no pages of their own.
    pages: Option<PageStock>,
    /// Pages beyond the size of `pages`, for a posted write that is withdrawn from a large pipe.
    more: KVec<BufferPage>,
}

impl WriteStock {
    /// No pages.
    pub(super) const fn new() -> Self {
        Self {
            pages: None,
            more: KVec::new(),
        }
    }

    /// The number of pages.
    pub(super) fn len(&self) -> usize {
        self.pages.as_ref().map_or(0, PageStock::len) + self.more.len()
    }

    /// Takes a page, if there is one.
    pub(super) fn take(&mut self) -> Option<BufferPage> {
        self.pages
            .as_mut()
            .and_then(PageStock::take)
            .or_else(|| self.more.pop())
    }

    /// Allocates pages until there are `pages`, as far as a [`PageStock`] holds so many. Sleeps:
    /// not under the inner lock.
    ///
    /// An allocation may fail. The write allocates a page that is still missing when it needs it.
    pub(super) fn fill(&mut self, pages: usize) {
        if pages != 0 {
            self.pages.get_or_insert_with(PageStock::new).fill(pages);
        }
    }

    /// As [`Self::fill`] with at least one page. `ENOMEM` if there is none afterwards.
    pub(super) fn fill_some(&mut self, pages: usize) -> Result {
        self.fill(1);
        self.fill(pages);
        match &self.pages {
            Some(stock) if stock.len() != 0 => Ok(()),
            _ => Err(ENOMEM),
        }
    }

    /// Allocates `missing` pages more. On failure it keeps those that it got. Sleeps: not under the
    /// inner lock.
    pub(super) fn add(&mut self, missing: usize) -> Result<(), AllocError> {
        let stock = self.pages.get_or_insert_with(PageStock::new);
        let before = stock.len();

        stock.fill(before + missing);
        let rest = missing - (stock.len() - before);
        // There may be many. A failure is handled, so the log need not report it.
        self.more.reserve(rest, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        for _ in 0..rest {
            let page = BufferPage::new().map_err(|_| AllocError)?;
            self.more.push(page, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// The pages that a later writer may use.
    pub(super) fn spare(&mut self) -> Option<&mut PageStock> {
        self.pages.as_mut()
    }
}
