// SPDX-License-Identifier: GPL-2.0-only

//! The commands `ZPIPE_IOC_GIFT` and `ZPIPE_IOC_MOVE`: arguments, checks and reports.

use super::End;
use crate::{
    fops::{OpenFile, MAX_RW_COUNT},
    gift::Gift,
    homes::Terms,
    mm::Ranges,
    read::Moves,
    request::Request,
    uapi::{self, UserStruct},
    zcore::gift::Report,
};
use kernel::prelude::*;

impl End {
    /// Serves `ZPIPE_IOC_GIFT`: a write that may take pages out of the writer's memory.
    pub(super) fn gift(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let flags = uapi::CLEAR | uapi::ANY | uapi::ALWAYS | uapi::SMALL;
        let mut call = Transfer::begin(arg, flags, self.access.write)?;
        file.verify(true, call.bytes())?;
        let terms = Terms {
            any: call.has(uapi::ANY),
            clear: call.has(uapi::CLEAR),
            always: call.has(uapi::ALWAYS),
        };
        let mut gift = Gift::new(&self.pipe, call.request(file), terms, call.has(uapi::SMALL));
        let result = gift.write(call.ranges());

        let report = gift.report;
        call.end(&report, result)?;
        // CAST: At most MAX_RW_COUNT.
        file.was_written(report.done() as usize, self.node);
        Ok(())
    }

    /// Serves `ZPIPE_IOC_MOVE`: a read that may replace pages of the reader's memory.
    pub(super) fn move_pages(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let mut call = Transfer::begin(arg, uapi::RETURN | uapi::SMALL, self.access.read)?;
        file.verify(false, call.bytes())?;
        let request = call.request(file);
        let mut to = Ranges::new();
        for (at, bytes) in call.ranges() {
            to.push(at, bytes)?;
        }
        let mut moves = Moves::new(true, call.has(uapi::RETURN), call.has(uapi::SMALL));
        let result = to.fill(|dest| match dest.remaining() {
            0 => Ok(0),
            total => self.pipe.read_on(request, total, dest, &mut moves),
        });

        let done = *result.as_ref().unwrap_or(&0);
        call.end(&moves.report(done), result.map(|_| ()))?;
        file.was_read(done, self.node);
        Ok(())
    }
}

/// The argument of `ZPIPE_IOC_GIFT` or `ZPIPE_IOC_MOVE`.
struct Transfer {
    user: UserStruct,
    args: uapi::Transfer,
    ranges: KVec<(usize, usize)>,
}

impl Transfer {
    /// Reads the argument of a command that knows `flags` beside `ZPIPE_NONBLOCK`. `access` says
    /// whether the end is open for the command's direction.
    ///
    /// Errors: `EFAULT`, `EINVAL`, `E2BIG`, `EBADF`, `ENOMEM`.
    fn begin(arg: usize, flags: u32, access: bool) -> Result<Self> {
        let (user, args) = UserStruct::read::<uapi::Transfer>(arg)?;
        if args.flags & !(flags | uapi::NONBLOCK) != 0 || args.reserved != 0 {
            return Err(EINVAL);
        }
        if !access {
            return Err(EBADF);
        }
        let ranges = uapi::ranges(args.iov, args.iovcnt)?;
        // The report is written back after the transfer. If that is not possible, fail before the
        // transfer.
        user.write(&args)?;
        Ok(Self { user, args, ranges })
    }

    fn has(&self, flag: u32) -> bool {
        self.args.flags & flag != 0
    }

    fn request<'a>(&self, file: &'a OpenFile<'_>) -> Request<'a> {
        Request::of_call(file.as_file(), self.has(uapi::NONBLOCK))
    }

    /// The addresses and lengths, cut off at MAX_RW_COUNT bytes, as by readv(2) and writev(2).
    fn ranges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut left = MAX_RW_COUNT;
        self.ranges.iter().map(move |(at, bytes)| {
            let bytes = (*bytes).min(left);
            left -= bytes;
            (*at, bytes)
        })
    }

    /// The number of bytes asked for.
    fn bytes(&self) -> usize {
        self.ranges().map(|(_, bytes)| bytes).sum()
    }

    /// Writes the report back. If nothing was transferred, returns the error of `result` instead.
    fn end(&mut self, report: &Report, result: Result) -> Result {
        if report.done() == 0 {
            result?;
        }
        self.args.done = report.done();
        self.args.moved = report.moved;
        self.args.copied = report.copied;
        self.args.why = report.why;
        self.user.write(&self.args)
    }
}
