// SPDX-License-Identifier: GPL-2.0-only

//! From files to pipes: opens, calls and commands.

use crate::{
    fops::{FileOperations, FileOps, OpenFile, OpeningFile, Waiter},
    mm::{Dest, Source},
    pairfs::{FifoInode, MountPin},
    pipe::Request,
    sync::FasyncLists,
    table::PipeRef,
    trace,
    uapi::{self, UserStruct},
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

/// Files of pipes: of `/dev/zpipe` and the ends of private pairs.
pub(crate) static END_OPS: FileOps<End> = FileOps::new(&crate::compat::THIS_MODULE);
/// Files of `/dev/zpipe-control`.
pub(crate) static CONTROL_OPS: FileOps<Control> = FileOps::new(&crate::compat::THIS_MODULE);

/// An open end of a pipe, or both ends in one.
///
/// It counts as a reader, a writer or both from when it is made until it is dropped.
pub(crate) struct End {
    pipe: PipeRef,
    access: Access,
    /// It is a node's, with times to keep, not a private pair's.
    node: bool,
    /// The number of writers' opens when this was opened, if hanging up is not to be reported
    /// before there is another one.
    unseen: Option<u32>,
}

impl End {
    /// Opens a FIFO. Waits for a partner unless `nonblock`.
    fn fifo(pipe: PipeRef, access: Access, nonblock: bool) -> Result<Self> {
        let unseen = pipe.open_fifo(access, nonblock)?;

        Ok(Self {
            pipe,
            access,
            node: true,
            unseen,
        })
    }

    /// Opens an end of a private pair.
    fn pair(pipe: PipeRef, access: Access) -> Self {
        pipe.open_pair(access);
        Self {
            pipe,
            access,
            node: false,
            unseen: None,
        }
    }

    /// Reads, and keeps the node's times.
    fn take(
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

    /// Reads, and tells of it.
    #[cold]
    fn take_traced(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        dest: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let asked = dest.len();
        let result = self.take(file, request, dest);
        trace::read(self.pipe.id(), asked, result);
        result
    }

    /// Writes, and keeps the node's times.
    fn give(
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

    /// Writes, and tells of it.
    #[cold]
    fn give_traced(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let asked = source.len();
        let result = self.give(file, request, source);
        trace::write(self.pipe.id(), asked, result);
        result
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
            self.take_traced(file, request, dest)
        } else {
            self.take(file, request, dest)
        }
    }

    fn write(
        &self,
        file: &OpenFile<'_>,
        request: Request<'_>,
        source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        if trace::writes() {
            self.give_traced(file, request, source)
        } else {
            self.give(file, request, source)
        }
    }

    fn poll(&self, _file: &OpenFile<'_>, waiter: &Waiter<'_, Self>) -> Ready {
        self.pipe.set_polled();
        // First register, then look: what changes in between wakes.
        if self.access.read {
            waiter.watch(|end| &end.pipe.rd_wait);
        }
        if self.access.write {
            waiter.watch(|end| &end.pipe.wr_wait);
        }
        self.pipe.state().ready(self.access, self.unseen)
    }

    fn ioctl(&self, _file: &OpenFile<'_>, cmd: u32, arg: usize) -> Result<i32> {
        match cmd {
            uapi::FIONREAD => {
                let bytes = self.pipe.lock().ring.bytes();

                // CAST: As in fs/pipe.c, a pipe of more than 4 GiB is not counted right.
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

/// A file of the control device. It knows nothing.
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

/// Makes a private pair, as `do_pipe2()` does. Sleeps.
fn pipe2(arg: usize) -> Result {
    let (user, mut args) = UserStruct::read::<uapi::Pipe2>(arg)?;
    if args.flags & !(flags::O_CLOEXEC | flags::O_NONBLOCK | flags::O_DIRECT) != 0 {
        return Err(EINVAL);
    }

    let inode = FifoInode::new(&END_OPS)?;
    // As for pipe(2), whatever keeps it from having a pipe.
    let pipe =
        PipeRef::new_pair(inode.key(), inode.pipe_id(), MountPin::new()?).map_err(|_| ENFILE)?;
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
