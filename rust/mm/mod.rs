// SPDX-License-Identifier: GPL-2.0-only

//! Safe types around those parts of the kernel's memory management that a pipe needs.
//!
//! None of them depends on a pipe's types.

mod account;
mod fault;
mod frame;
mod gift;
mod huge;
mod iter;
mod page;
mod parts;
mod remote;
mod small;
mod stock;

pub(crate) use account::{may_exceed_pipe_size, may_exceed_user_pages, UserPages};
pub(crate) use fault::{Fault, Served};
pub(crate) use frame::{has_frames, Frame};
pub(crate) use gift::{
    can_move_in, exchange, is_giftable, is_transient, refuse_moves, AddressSpace, Scratch, TRIES,
};
pub(crate) use huge::{set_gifts_max, HugeCredit, HugePage};
pub(crate) use iter::{cut_copies, Dest, Ranges, Source};
pub(crate) use page::{BufferPage, SharedPage};
pub(crate) use parts::Parts;
pub(crate) use remote::{set_batch, RemoteDest, RemoteSource};
pub(crate) use small::{small_run, SmallPages};
pub(crate) use stock::PageStock;
