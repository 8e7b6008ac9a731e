// SPDX-License-Identifier: GPL-2.0-only

//! From files to pipes: opens, reads and writes, polls, and commands.

use crate::{
    compat,
    fops::{FileOperations, FileOps, OpenFile, OpeningFile, Waiter, MAX_RW_COUNT},
    gift::Gift,
    homes::Terms,
    mm::{has_frames, Dest, Frame, Ranges, Source},
    other_file::OtherFile,
    pairfs::{FifoInode, MountPin},
    pipe::Pipe,
    read::Moves,
    real_pipe::RealPipe,
    request::Request,
    splice::{self, Progress, Side},
    sync::FasyncLists,
    table::PipeRef,
    trace,
    uapi::{self, UserStruct},
    window::{ReadWindow, WindowEnd, WriteWindow, READ_OPS, WRITE_OPS},
    zcore::{
        gift::Report,
        state::{Access, Ready},
    },
};
use core::ptr;
use kernel::{
    bindings,
    fs::file::{flags, FileDescriptorReservation},
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    seq_file::SeqFile,
    uaccess::{UserPtr, UserSlice},
};

/// The operations of files of pipes: of nodes, and of the ends of pairs.
pub(crate) static END_OPS: FileOps<End> = FileOps::new(&compat::THIS_MODULE);
/// The operations of files of `/dev/zpipe-control`.
pub(crate) static CONTROL_OPS: FileOps<Control> = FileOps::new(&compat::THIS_MODULE);

/// An end of a pipe: an open file that counts as a reader, as a writer, or as both.
///
/// It counts from when the value is made until it is dropped.
pub(crate) struct End {
    pipe: PipeRef,
    access: Access,
    /// True for a file of a node, whose access and modification times are kept. False for a pair.
    node: bool,
    /// If set, poll does not report a hang-up until the pipe's number of writers' opens differs
    /// from this. See [`Pipe::open_fifo`](crate::pipe::Pipe::open_fifo).
    unseen: Option<u32>,
}

impl End {
    /// Opens a file of a node. Waits for a partner unless `nonblock`.
    fn fifo(pipe: PipeRef, access: Access, nonblock: bool) -> Result<Self> {
        let unseen = pipe.open_fifo(access, nonblock)?;

        Ok(Self {
            pipe,
            access,
            node: true,
            unseen,
        })
    }

    /// Opens an end of a pair.
    fn pair(pipe: PipeRef, access: Access) -> Self {
        pipe.open_pair(access);
        Self {
            pipe,
            access,
            node: false,
            unseen: None,
        }
    }

    /// Reads, and updates the access time of a node.
    fn read_and_touch(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        dest: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let bytes = self.pipe.read(request, &mut Dest::new(dest))?;
        if self.node && bytes != 0 {
            file.accessed();
        }
        Ok(bytes)
    }

    /// Reads, and emits the tracepoint.
    #[cold]
    fn read_traced(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        dest: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let asked = dest.len();
        let result = self.read_and_touch(file, request, dest);
        trace::read(self.pipe.id(), asked, result);
        result
    }

    /// Writes, and updates the modification time of a node.
    fn write_and_touch(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let bytes = self.pipe.write(request, &mut Source::new(source))?;
        if self.node && bytes != 0 {
            file.modified()?;
        }
        Ok(bytes)
    }

    /// Serves `ZPIPE_IOC_GIFT`: a write that may take pages out of the writer's memory.
    fn gift(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let flags = uapi::CLEAR | uapi::ANY | uapi::ALWAYS | uapi::SMALL;
        let mut call = Transfer::begin(arg, flags, self.access.write)?;
        file.may_write(call.bytes())?;
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
    fn move_pages(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let mut call = Transfer::begin(arg, uapi::RETURN | uapi::SMALL, self.access.read)?;
        file.may_read(call.bytes())?;
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

    /// True if the end is open for writing, or for reading.
    fn allows(&self, writes: bool) -> bool {
        if writes {
            self.access.write
        } else {
            self.access.read
        }
    }

    /// Serves the commands that splice.
    fn splice(&self, file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result {
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
                let request = self.splice_request(file, &args);
                let progress = if writes {
                    file.may_write(max)?;
                    splice::from_file(&self.pipe, request, &other, &mut offset, max)
                } else {
                    file.may_read(max)?;
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
        if writes {
            file.may_write(max)?;
        } else {
            file.may_read(max)?;
        }
        let request = self.splice_request(file, args);
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

    fn splice_request<'a>(&self, file: &'a OpenFile<'_>, args: &uapi::Splice) -> Request<'a> {
        Request {
            nowait: args.flags & uapi::NONBLOCK != 0,
            ..Request::of(file.as_file())
        }
    }

    /// Serves `ZPIPE_IOC_WINDOW`: makes a window.
    fn window(&self, file: &OpenFile<'_>, arg: usize) -> Result {
        let (user, mut args) = UserStruct::read::<uapi::Window>(arg)?;
        let (writes, lends) = match args.flags {
            uapi::WINDOW_READ => (false, false),
            uapi::WINDOW_WRITE => (true, false),
            flags if flags == uapi::WINDOW_WRITE | uapi::WINDOW_LEND => (true, true),
            _ => return Err(EINVAL),
        };
        if args.reserved != 0 || args.bytes == 0 || args.bytes > uapi::WINDOW_MAX.into() {
            return Err(EINVAL);
        }
        let access = if writes {
            self.access.write
        } else {
            self.access.read
        };
        if !access {
            return Err(EBADF);
        }
        if !has_frames() {
            return Err(compat::not_supported());
        }

        // CAST: At most `WINDOW_MAX`.
        let frames = (args.bytes as usize).div_ceil(Frame::SIZE);
        let end = WindowEnd::new(self.pipe.clone(), file, self.node);
        let (window, frames) = if writes {
            let window = WriteWindow::new(end, frames, lends)?;
            (WRITE_OPS.new_window(window, true, frames)?, frames)
        } else {
            // One more than asked for is the area.
            let window = ReadWindow::new(end, frames)?;
            (READ_OPS.new_window(window, false, frames + 1)?, frames + 1)
        };
        let fd = FileDescriptorReservation::get_unused_fd_flags(bindings::O_CLOEXEC)?;
        // CAST: Descriptors are small.
        args.fd = fd.reserved_fd() as i32;
        args.bytes = (frames * Frame::SIZE) as u64;
        user.write(&args)?;
        fd.fd_install(window);
        Ok(())
    }

    /// Writes, and emits the tracepoint.
    #[cold]
    fn write_traced(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let asked = source.len();
        let result = self.write_and_touch(file, request, source);
        trace::write(self.pipe.id(), asked, result);
        result
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
        Request {
            nowait: self.has(uapi::NONBLOCK),
            ..Request::of(file.as_file())
        }
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

impl Drop for End {
    fn drop(&mut self) {
        self.pipe.close(self.access);
    }
}

#[vtable]
impl FileOperations for End {
    fn open(file: &OpeningFile<'_>) -> Result<Self> {
        let access = file.access();
        if !access.read && !access.write {
            return Err(EINVAL);
        }

        file.set_stream();
        let pipe = PipeRef::get(file.inode_key(), file.pipe_id())?;
        if file.is_fifo() {
            Ok(Self::pair(pipe, access))
        } else {
            Self::fifo(pipe, access, file.nonblock())
        }
    }

    fn read(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        dest: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        if trace::reads() {
            self.read_traced(file, request, dest)
        } else {
            self.read_and_touch(file, request, dest)
        }
    }

    fn write(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        if trace::writes() {
            self.write_traced(file, request, source)
        } else {
            self.write_and_touch(file, request, source)
        }
    }

    fn splice_read(
        &self,
        _file: &OpenFile<'_>,
        request: Request<'_>,
        to: &mut RealPipe<'_>,
        max: usize,
    ) -> Result<usize> {
        self.pipe.splice_to_real(request, to, max)
    }

    fn splice_write(
        &self,
        _file: &OpenFile<'_>,
        request: Request<'_>,
        from: &mut RealPipe<'_>,
        max: usize,
    ) -> Result<usize> {
        self.pipe.splice_from_real(request, from, max)
    }

    fn poll(&self, _file: &OpenFile<'_>, waiter: &Waiter<'_, Self>) -> Ready {
        if compat::poll_wants_every_write(self.access.read, waiter.is_edge_triggered()) {
            self.pipe.set_every_write_wakes();
        }
        // Register before the test: then a change in between wakes the poller.
        if self.access.read {
            waiter.watch(|end| &end.pipe.rd_wait);
        }
        if self.access.write {
            waiter.watch(|end| &end.pipe.wr_wait);
        }
        self.pipe.snapshot().ready(self.access, self.unseen)
    }

    fn ioctl(&self, file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result<i32> {
        match cmd {
            uapi::FIONREAD => {
                let bytes = self.pipe.lock().ring.bytes();

                // CAST: Above 4 GiB the upper bits are cut off, as in fs/pipe.c.
                UserSlice::new(UserPtr::from_addr(arg), size_of::<u32>())
                    .writer()
                    .write(&(bytes as u32))?;
                Ok(0)
            }
            uapi::GET_CAPACITY | uapi::SET_CAPACITY => {
                let (user, mut args) = UserStruct::read::<uapi::Capacity>(arg)?;
                if args.flags != 0 {
                    return Err(EINVAL);
                }
                if cmd == uapi::SET_CAPACITY {
                    self.pipe.set_capacity(args.bytes)?;
                }
                args.bytes = self.pipe.capacity();
                user.write(&args)?;
                Ok(0)
            }
            uapi::GET_FLAGS => {
                let (user, mut args) = UserStruct::read::<uapi::Flags>(arg)?;
                if args.flags & !uapi::BUFFER_ONLY != 0 {
                    return Err(EINVAL);
                }
                args.flags = if self.pipe.is_buffer_only() {
                    uapi::BUFFER_ONLY
                } else {
                    0
                };
                user.write(&args)?;
                Ok(0)
            }
            uapi::SET_FLAGS => {
                let (_, args) = UserStruct::read::<uapi::Flags>(arg)?;
                if args.flags & !uapi::BUFFER_ONLY != 0 {
                    return Err(EINVAL);
                }
                // A process that can only write must not be able to remove the reader's protection.
                if !self.access.read {
                    return Err(EBADF);
                }
                self.pipe.set_buffer_only(args.flags != 0);
                Ok(0)
            }
            uapi::SPLICE_TO | uapi::SPLICE_FROM | uapi::TEE => {
                self.splice(file, cmd, arg).map(|()| 0)
            }
            uapi::WINDOW => self.window(file, arg).map(|()| 0),
            uapi::GIFT => self.gift(file, arg).map(|()| 0),
            uapi::MOVE => self.move_pages(file, arg).map(|()| 0),
            _ => Err(ENOIOCTLCMD),
        }
    }

    fn fasync_lists(&self) -> Option<&FasyncLists> {
        Some(&self.pipe.fasync)
    }

    fn show_fdinfo(&self, seq: &SeqFile) {
        self.pipe.show(seq);
    }
}

/// A file of the control device. It has no state.
pub(crate) struct Control;

#[vtable]
impl FileOperations for Control {
    fn open(file: &OpeningFile<'_>) -> Result<Self> {
        file.set_stream();
        Ok(Self)
    }

    fn ioctl(&self, _file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result<i32> {
        match cmd {
            uapi::PIPE2 => pipe2(arg).map(|()| 0),
            _ => Err(ENOIOCTLCMD),
        }
    }
}

/// Makes a pair, as `do_pipe2()` does. Sleeps.
fn pipe2(arg: usize) -> Result {
    let (user, mut args) = UserStruct::read::<uapi::Pipe2>(arg)?;
    let of_files = flags::O_CLOEXEC | flags::O_NONBLOCK | flags::O_DIRECT;
    if args.flags & !(of_files | uapi::BUFFER_ONLY) != 0 {
        return Err(EINVAL);
    }

    let inode = FifoInode::new(&END_OPS)?;
    // The error is `ENFILE` for any reason, as in pipe(2).
    let pipe =
        PipeRef::new_pair(inode.key(), inode.pipe_id(), MountPin::new()?).map_err(|_| ENFILE)?;
    if args.flags & uapi::BUFFER_ONLY != 0 {
        pipe.set_buffer_only(true);
    }
    let read = End::pair(
        pipe.clone(),
        Access {
            read: true,
            write: false,
        },
    );
    let write = End::pair(
        pipe,
        Access {
            read: false,
            write: true,
        },
    );
    let nonblock = args.flags & flags::O_NONBLOCK;
    let packets = args.flags & flags::O_DIRECT;
    let read = inode.open(&END_OPS, flags::O_RDONLY | nonblock, read)?;
    let write = inode.open(&END_OPS, flags::O_WRONLY | nonblock | packets, write)?;

    let read_fd = FileDescriptorReservation::get_unused_fd_flags(args.flags & bindings::O_CLOEXEC)?;
    let write_fd =
        FileDescriptorReservation::get_unused_fd_flags(args.flags & bindings::O_CLOEXEC)?;
    // CAST: Descriptors are small.
    args.fds = [read_fd.reserved_fd() as i32, write_fd.reserved_fd() as i32];
    user.write(&args)?;
    read_fd.fd_install(read);
    write_fd.fd_install(write);
    Ok(())
}
