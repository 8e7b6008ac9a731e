// SPDX-License-Identifier: GPL-2.0-only

//! The parameters of one read or write call.

use crate::slot::Kind;
use kernel::fs::{file::flags, File};

/// The parameters of one read or write call.
///
/// The flags of the file may change while the call waits, so each method reads them again.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The file that was called.
    pub(crate) file: &'a File,
    /// The call has RWF_NOWAIT.
    pub(crate) nowait: bool,
    /// The call has RWF_NOSIGNAL: it sends no SIGPIPE.
    pub(crate) nosignal: bool,
    /// The kind of the slots that a write fills. If [`None`], the flags of the file decide.
    pub(crate) kind: Option<Kind>,
    /// The caller holds the mutex of a real pipe. A read fails with `EAGAIN` rather than wait for
    /// the end of another reader's claim. It leaves packets in the pipe.
    pub(crate) holds_lock: bool,
}

impl<'a> Request<'a> {
    /// A call without flags.
    pub(crate) fn of(file: &'a File) -> Self {
        Self {
            file,
            nowait: false,
            nosignal: false,
            kind: None,
            holds_lock: false,
        }
    }

    /// True if the call may post its write: it may sleep, and it writes a stream.
    pub(crate) fn may_block_stream(&self) -> bool {
        !self.nonblock() && self.kind() == Kind::Stream
    }

    /// True if the call fails with `EAGAIN` instead of sleeping.
    pub(crate) fn nonblock(&self) -> bool {
        self.nowait || self.file.flags() & flags::O_NONBLOCK != 0
    }

    /// The kind of the slots that a write fills: packets if the file has O_DIRECT, unless the call
    /// says otherwise.
    pub(crate) fn kind(&self) -> Kind {
        if let Some(kind) = self.kind {
            kind
        } else if self.file.flags() & flags::O_DIRECT != 0 {
            Kind::Packet
        } else {
            Kind::Stream
        }
    }
}
