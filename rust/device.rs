// SPDX-License-Identifier: GPL-2.0-only

//! From files to pipes: opens, reads and writes, polls, and commands.

mod splice;
mod transfer;

use crate::{
    compat,
    fops::{FileOperations, FileOps, OpenFile, OpeningFile, Waiter},
    mm::{has_frames, Dest, Frame, Source},
    pairfs::{FifoInode, MountPin},
    real_pipe::RealPipe,
    request::Request,
    sync::FasyncLists,
    table::PipeRef,
    trace,
    uapi::{self, UserStruct},
    window::{ReadWindow, WindowEnd, WriteWindow, READ_OPS, WRITE_OPS},
    zcore::state::{Access, Ready},
};
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

    /// True if the end is open for writing, or for reading.
    fn allows(&self, writes: bool) -> bool {
        if writes {
            self.access.write
        } else {
            self.access.read
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
        if !self.allows(writes) {
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
