// SPDX-License-Identifier: GPL-2.0-only

//! The parameters of one read or write call.

use crate::slot::Kind;
use kernel::fs::{file::flags, File};

/// How a read call takes part in a splice to a real pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Splice {
    /// It is no splice.
    No,
    /// `copy_splice_read()` calls it and holds the mutex of the real pipe. The read fails with
    /// `EAGAIN` rather than wait for the end of another reader's claim.
    Copy,
    /// Likewise, but zpipe itself makes the call. The read leaves packets in the pipe.
    PassOn,
}

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
    /// How a read takes part in a splice.
    pub(crate) splice: Splice,
}

impl<'a> Request<'a> {
    /// A call without flags.
    pub(crate) fn of(file: &'a File) -> Self {
        Self {
            file,
            nowait: false,
            nosignal: false,
            kind: None,
            splice: Splice::No,
        }
    }

    /// A call that does not wait if `nowait`.
    pub(crate) fn of_call(file: &'a File, nowait: bool) -> Self {
        Self {
            nowait,
            ..Self::of(file)
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
