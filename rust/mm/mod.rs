// SPDX-License-Identifier: GPL-2.0-only

//! Safe types around the kernel's memory management, as far as a pipe needs it.
//!
//! Nothing here knows what a pipe is.

mod account;
mod fault;
mod frame;
mod gift;
mod huge;
mod iter;
mod page;
mod remote;
mod small;
mod stock;

pub(crate) use account::{may_exceed_pipe_size, may_exceed_user_pages, UserPages};
pub(crate) use fault::{Fault, Served};
pub(crate) use frame::{has_frames, Frame};
pub(crate) use gift::{
    can_land, exchange, is_giftable, may_be_over, refuse_moves, AddressSpace, Scratch, TRIES,
};
pub(crate) use huge::{set_gifts_most, HugeCredit, HugePage};
pub(crate) use iter::{cut_copies, Dest, Ranges, Source};
pub(crate) use page::BufferPage;
pub(crate) use remote::{set_batch, Ended, Miss, RemoteDest, RemoteSource};
pub(crate) use small::{small_run, SmallPages};
pub(crate) use stock::PageStock;
