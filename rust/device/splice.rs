// SPDX-License-Identifier: GPL-2.0-only

//! The commands that splice: arguments, checks and results.

use super::{End, END_OPS};
use crate::{
    fops::{OpenFile, MAX_RW_COUNT},
    other_file::OtherFile,
    pipe::Pipe,
    request::Request,
    splice::{self, Progress, Side},
    uapi::{self, UserStruct},
};
use core::ptr;
use kernel::prelude::*;

impl End {
    /// Serves the commands that splice.
    pub(super) fn splice(&self, file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result {
        let (user, mut args) = UserStruct::read::<uapi::Splice>(arg)?;
        let known = match cmd {
            uapi::SPLICE_TO => uapi::SPLICE_AT | uapi::SPLICE_MORE,
            uapi::SPLICE_FROM => uapi::SPLICE_AT,
            _ => 0,
        };
        let at = args.flags & uapi::SPLICE_AT != 0;
        let mut offset = i64::try_from(args.offset).map_err(|_| EINVAL)?;
        if args.flags & !(known | uapi::NONBLOCK) != 0 || (!at && offset != 0) {
            return Err(EINVAL);
        }
        let writes = cmd == uapi::SPLICE_FROM;
        if !self.allows(writes) {
            return Err(EBADF);
        }
        // The result is written back after the transfer. If that is not possible, fail before it.
        // The members do not change yet: a call that a signal interrupts may be restarted.
        user.write(&args)?;
        let max = usize::try_from(args.bytes).map_or(MAX_RW_COUNT, |max| max.min(MAX_RW_COUNT));
        if max == 0 {
            return Ok(());
        }
        let other = OtherFile::get(args.fd)?;
        let progress = match END_OPS.of(other.as_file()) {
            Some(end) => self.splice_pipe(file, cmd, &args, max, end, &other)?,
            None if cmd == uapi::TEE || other.is_fifo() => return Err(EINVAL),
            None => {
                if let Err(e) = other.check(!writes, at) {
                    args.side = uapi::SIDE_FILE;
                    let _ = user.write(&args);
                    return Err(e);
                }
                if !at {
                    offset = other.position();
                }
                let request = Request::of_call(file.as_file(), args.flags & uapi::NONBLOCK != 0);
                file.verify(writes, max)?;
                let progress = if writes {
                    splice::from_file(&self.pipe, request, &other, &mut offset, max)
                } else {
                    let more = args.flags & uapi::SPLICE_MORE != 0;
                    splice::to_file(&self.pipe, request, &other, &mut offset, max, more)
                };
                if !at && (progress.done != 0 || progress.error.is_none()) {
                    other.set_position(offset);
                }
                progress
            }
        };

        let Progress { done, side, error } = progress;
        args.side = match side {
            None => 0,
            Some(Side::Pipe) => uapi::SIDE_PIPE,
            Some(Side::File) => uapi::SIDE_FILE,
        };
        if let Some(error) = error.filter(|_| done == 0) {
            // The error matters more than a failure to say from which side it is.
            let _ = user.write(&args);
            return Err(error);
        }
        if writes {
            file.was_written(done, false);
        } else if cmd == uapi::SPLICE_TO {
            file.was_read(done, false);
        }
        args.bytes = done as u64;
        if at {
            args.offset = offset as u64;
        }
        user.write(&args)
    }

    /// Serves a command that splices with another end of zpipe. Errors here are those of arguments.
    fn splice_pipe(
        &self,
        file: &OpenFile<'_>,
        cmd: u32,
        args: &uapi::Splice,
        max: usize,
        end: &End,
        other: &OtherFile,
    ) -> Result<Progress> {
        let writes = cmd == uapi::SPLICE_FROM;
        if !end.allows(!writes) {
            return Err(EBADF);
        }
        if args.flags & uapi::SPLICE_AT != 0 || ptr::eq::<Pipe>(&*self.pipe, &*end.pipe) {
            return Err(EINVAL);
        }
        other.verify(!writes, 0, max)?;
        file.verify(writes, max)?;
        let request = Request::of_call(file.as_file(), args.flags & uapi::NONBLOCK != 0);
        let other = Request::of(other.as_file());
        // O_NONBLOCK of either end counts, as in `do_splice()` and `do_tee()`.
        let nowait = request.nonblock() || other.nonblock();
        let request = Request { nowait, ..request };
        let other = Request { nowait, ..other };
        Ok(match cmd {
            uapi::SPLICE_TO => splice::to_pipe(&self.pipe, request, &end.pipe, other, max),
            uapi::TEE => splice::tee(&self.pipe, request, &end.pipe, other, max),
            _ => splice::to_pipe(&end.pipe, other, &self.pipe, request, max).swap(),
        })
    }
}
