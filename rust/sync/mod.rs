// SPDX-License-Identifier: GPL-2.0-only

//! Safe types for waiting, waking and signals, where the kernel crate does not have them yet.

mod cstatic;
mod fasync;
mod signal;
mod waitqueue;
mod word;

pub(crate) use cstatic::{CConst, CStatic};
pub(crate) use fasync::FasyncLists;
pub(crate) use signal::{killed, raise_sigpipe};
pub(crate) use waitqueue::{new_wait_queue, set_spin_us, Event, WaitQueue};
pub(crate) use word::Word;
