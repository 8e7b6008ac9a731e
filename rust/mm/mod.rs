// SPDX-License-Identifier: GPL-2.0-only

//! Safe types around the kernel's memory management, as far as a pipe needs it.
//!
//! Nothing here knows what a pipe is.

mod account;
mod iter;
mod page;
mod remote;
mod stock;

pub(crate) use account::{may_exceed_pipe_size, may_exceed_user_pages, UserPages};
pub(crate) use iter::{cut_copies, Dest, Source};
pub(crate) use page::BufferPage;
pub(crate) use remote::{set_batch, Ended, Miss, RemoteDest, RemoteSource};
pub(crate) use stock::PageStock;
