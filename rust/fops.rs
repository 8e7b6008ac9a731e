// SPDX-License-Identifier: GPL-2.0-only

//! From C's `struct file_operations` to a Rust trait. Thunks only.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

mod mapping;

pub(crate) use mapping::HeldFile;

use crate::{
    mm::{Fault, Served},
    pipe::{PipeId, Request},
    sync::{FasyncLists, WaitQueue},
    sys,
    table::InodeKey,
    zcore::state::{Access, Ready},
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    error::{from_result, to_result},
    fs::File,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    seq_file::SeqFile,
    types::ForeignOwnable,
};

/// What files of one kind do. A value of the type is kept for each open file; it is dropped when the
/// file is released, in a context that may sleep.
#[vtable]
pub(crate) trait FileOperations: Sized + Send + Sync + 'static {
    /// A file is being opened. May sleep.
    fn open(file: &OpeningFile<'_>) -> Result<Self>;

    /// Reads; returns how many bytes. May sleep.
    fn read(
        &self,
        _file: &OpenFile<'_>,
        _request: Request<'_>,
        _dest: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// Writes; returns how many bytes. May sleep.
    fn write(
        &self,
        _file: &OpenFile<'_>,
        _request: Request<'_>,
        _source: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// Registers with the queues that will be woken, then says what is ready. Does not sleep.
    fn poll(&self, _file: &OpenFile<'_>, _waiter: &Waiter<'_, Self>) -> Ready {
        Ready::default()
    }

    /// Serves a command. May sleep. `ENOIOCTLCMD` for one that is unknown.
    fn ioctl(&self, _file: &OpenFile<'_>, _cmd: u32, _arg: usize) -> Result<i32> {
        Err(ENOIOCTLCMD)
    }

    /// The lists that the file is put on, by what it is open for, to get SIGIO. Asked once.
    fn fasync_lists(&self) -> Option<&FasyncLists> {
        None
    }

    /// Serves a fault in a mapping. May sleep, but touches no user memory.
    fn fault(&self, _file: &OpenFile<'_>, _fault: &Fault<'_>) -> Served {
        Served::BUS
    }

    /// Whether the first store to what was only read is a fault. Asked when it is mapped.
    fn watches_stores(&self) -> bool {
        false
    }

    /// Prints to `/proc/PID/fdinfo/N`. May sleep.
    fn show_fdinfo(&self, _seq: &SeqFile) {}
}

/// A file that is open, being opened or being released, for the length of one call.
///
/// # Invariants
///
/// `ptr` and its inode are valid for `'a`.
pub(crate) struct OpenFile<'a> {
    ptr: *mut bindings::file,
    _file: PhantomData<&'a File>,
}

impl OpenFile<'_> {
    /// # Safety
    ///
    /// `ptr` is a valid file with an inode, for as long as the result is used.
    unsafe fn from_raw(ptr: *mut bindings::file) -> Self {
        // INVARIANT: Says the caller.
        Self {
            ptr,
            _file: PhantomData,
        }
    }

    fn mode(&self) -> u32 {
        // SAFETY: Valid by the type invariants; `f_mode`'s access bits do not change.
        unsafe { (*self.ptr).f_mode }
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: Valid by the type invariants; `f_inode` does not change.
        unsafe { (*self.ptr).f_inode }
    }

    /// The file, for the kernel crate.
    pub(crate) fn as_file(&self) -> &File {
        // SAFETY: Valid by the type invariants. A pipe's file has no position, so none is in use.
        unsafe { File::from_raw_file(self.ptr) }
    }

    /// What the file is open for.
    pub(crate) fn access(&self) -> Access {
        Access {
            read: self.mode() & sys::ZPIPE_FMODE_READ != 0,
            write: self.mode() & sys::ZPIPE_FMODE_WRITE != 0,
        }
    }

    /// Whether O_NONBLOCK is set.
    pub(crate) fn nonblock(&self) -> bool {
        self.as_file().flags() & bindings::O_NONBLOCK != 0
    }

    /// The name of the file's inode.
    pub(crate) fn inode_key(&self) -> InodeKey {
        InodeKey(self.inode() as usize)
    }

    /// The inode's name for people.
    pub(crate) fn pipe_id(&self) -> PipeId {
        // SAFETY: Valid by the type invariants.
        unsafe { pipe_id(self.inode()) }
    }

    /// Whether the inode is a FIFO: a private pair's, for device nodes are not.
    pub(crate) fn is_fifo(&self) -> bool {
        // SAFETY: Valid by the type invariants; the type bits of `i_mode` do not change.
        let mode = unsafe { (*self.inode()).i_mode };
        u32::from(mode) & bindings::S_IFMT == bindings::S_IFIFO
    }

    /// Notes the time of a read in the inode, as a FIFO's. Sleeps.
    pub(crate) fn accessed(&self) {
        // SAFETY: Valid by the type invariants.
        unsafe { sys::zpipe_file_accessed(self.ptr) };
    }

    /// Asks security modules, and who watches the file, about a read of `bytes` bytes, as readv(2) does,
    /// if there are any. Sleeps.
    pub(crate) fn may_read(&self, bytes: usize) -> Result {
        // SAFETY: Valid by the type invariants.
        to_result(unsafe { sys::zpipe_file_may_read(self.ptr, bytes) })
    }

    /// The same about a write.
    pub(crate) fn may_write(&self, bytes: usize) -> Result {
        // SAFETY: Valid by the type invariants.
        to_result(unsafe { sys::zpipe_file_may_write(self.ptr, bytes) })
    }

    /// Tells who watches the file, and who counts, of a read of `bytes` bytes that did not come by read(2).
    pub(crate) fn was_read(&self, bytes: usize) {
        // SAFETY: Valid by the type invariants.
        unsafe { sys::zpipe_file_read(self.ptr, bytes) };
    }

    /// Tells who watches the file, and who counts, of a write of `bytes` bytes that did not come by write(2).
    pub(crate) fn wrote(&self, bytes: usize) {
        // SAFETY: Valid by the type invariants.
        unsafe { sys::zpipe_file_wrote(self.ptr, bytes) };
    }

    /// Notes the time of a write in the inode, as a FIFO's. Sleeps.
    pub(crate) fn modified(&self) -> Result {
        // SAFETY: Valid by the type invariants.
        to_result(unsafe { sys::zpipe_file_modified(self.ptr) })
    }
}

/// A file that is being opened, for the length of [`FileOperations::open`].
///
/// # Invariants
///
/// Nobody else has the file yet.
pub(crate) struct OpeningFile<'a>(OpenFile<'a>);

impl<'a> Deref for OpeningFile<'a> {
    type Target = OpenFile<'a>;

    fn deref(&self) -> &OpenFile<'a> {
        &self.0
    }
}

impl OpeningFile<'_> {
    /// Makes the file a stream, without a position, as every FIFO's.
    pub(crate) fn set_stream(&self) {
        // SAFETY: Valid by the type invariants, and nobody else reads or changes its mode.
        unsafe { sys::zpipe_open_stream(self.inode(), self.ptr) };
    }
}

/// The private data of an open file of kind `T`.
///
/// # Invariants
///
/// `lists` is what [`FileOperations::fasync_lists`] gave out of `this`: for any lifetime at all, so
/// it is valid until `this` is dropped. The file is on no other lists.
pub(crate) struct Private<T> {
    this: T,
    lists: Option<NonNull<FasyncLists>>,
}

impl<T: FileOperations> Private<T> {
    /// The private data of a file that is `this`. Sleeps.
    pub(crate) fn new(this: T) -> Result<KBox<Self>> {
        // INVARIANT: No lists.
        let mut private = KBox::new(Self { this, lists: None }, GFP_KERNEL_ACCOUNT)?;

        // INVARIANT: `this` is in its place now, and nobody gets to change it there.
        private.lists = private.this.fasync_lists().map(NonNull::from);
        Ok(private)
    }

    /// The file's lists.
    fn lists(&self) -> Option<&FasyncLists> {
        // SAFETY: Valid by the type invariants: `this` lives.
        self.lists.map(|lists| unsafe { lists.as_ref() })
    }
}

/// Who polls, to be put on wait queues.
///
/// # Invariants
///
/// `file` is an open file of kind `T` that is `owner`; `table` is null or a valid poll table.
pub(crate) struct Waiter<'a, T> {
    file: *mut bindings::file,
    table: *mut bindings::poll_table,
    owner: &'a T,
}

impl<T> Waiter<'_, T> {
    /// True if the poller asks for edges: epoll with EPOLLET, a multishot poll of io_uring. False if
    /// nobody is to be woken.
    pub(crate) fn is_edge_triggered(&self) -> bool {
        // SAFETY: By the type invariants the table is null or valid; its key does not change.
        unsafe { self.table.as_ref() }.is_some_and(|table| table._key & sys::ZPIPE_POLL_EDGE != 0)
    }

    /// Has the poller woken by a queue of the file's own.
    ///
    /// `queue` may only go from the private data to what it holds: for any lifetime at all.
    pub(crate) fn watch(&self, queue: for<'q> fn(&'q T) -> &'q WaitQueue) {
        let queue = queue(self.owner);

        // SAFETY: File and table are valid by the type invariants. The queue lives as long as the
        // private data, which is what `queue` was derived from for an arbitrary lifetime. That is
        // until release; and pollers are off the queue by then: poll and select hold the file,
        // epoll's items go in `eventpoll_release()`, which the VFS calls first, and io_uring
        // holds the file too.
        unsafe { bindings::poll_wait(self.file, queue.as_ptr(), self.table) };
    }
}

/// The `struct file_operations` for files of kind `T`.
///
/// # Invariants
///
/// `ops` has the thunks for `T`, and the owner is this module.
pub(crate) struct FileOps<T> {
    ops: bindings::file_operations,
    _kind: PhantomData<fn() -> T>,
}

// SAFETY: The C struct is constant.
unsafe impl<T> Sync for FileOps<T> {}

impl<T: FileOperations> FileOps<T> {
    /// The operations, owned by `module`: an open file keeps it loaded.
    pub(crate) const fn new(module: &ThisModule) -> Self {
        // INVARIANT: As the type says.
        Self {
            ops: bindings::file_operations {
                owner: module.as_ptr(),
                open: Some(Self::open),
                release: Some(Self::release),
                read_iter: if T::HAS_READ {
                    Some(Self::read_iter)
                } else {
                    None
                },
                write_iter: if T::HAS_WRITE {
                    Some(Self::write_iter)
                } else {
                    None
                },
                poll: if T::HAS_POLL { Some(Self::poll) } else { None },
                unlocked_ioctl: if T::HAS_IOCTL {
                    Some(Self::ioctl)
                } else {
                    None
                },
                compat_ioctl: if T::HAS_IOCTL {
                    bindings::compat_ptr_ioctl
                } else {
                    None
                },
                mmap: if T::HAS_FAULT { Some(Self::mmap) } else { None },
                get_unmapped_area: if T::HAS_FAULT {
                    Some(sys::zpipe_window_area)
                } else {
                    None
                },
                fasync: if T::HAS_FASYNC_LISTS {
                    Some(Self::fasync)
                } else {
                    None
                },
                show_fdinfo: if T::HAS_SHOW_FDINFO {
                    Some(Self::show_fdinfo)
                } else {
                    None
                },
                ..pin_init::zeroed()
            },
            _kind: PhantomData,
        }
    }

    /// The C struct.
    pub(crate) const fn as_ptr(&self) -> *const bindings::file_operations {
        &raw const self.ops
    }

    /// # Safety
    ///
    /// `file` is a file of kind `T`, opened and not yet released, for `'a`.
    unsafe fn private<'a>(file: *mut bindings::file) -> &'a Private<T> {
        // SAFETY: `open`, or who made the file, stored a box of this type, that `release` takes.
        unsafe { <KBox<Private<T>> as ForeignOwnable>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// As for [`Self::private`].
    unsafe fn borrow<'a>(file: *mut bindings::file) -> &'a T {
        // SAFETY: Says the caller.
        &unsafe { Self::private(file) }.this
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T` that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The VFS opens the file.
            let opened = unsafe { OpenFile::from_raw(file) };
            // INVARIANT: It has no descriptor yet.
            let this = T::open(&OpeningFile(opened))?;
            let private = Private::new(this)?;

            // SAFETY: While it is opened, the file is ours.
            unsafe { (*file).private_data = private.into_foreign() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T` that is released.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is of kind `T` and was opened; nobody else uses it any more.
        let private =
            unsafe { <KBox<Private<T>> as ForeignOwnable>::from_foreign((*file).private_data) };

        // The VFS has called `fasync`, but only if the file's flags say that it is on a list.
        if let Some(lists) = private.lists() {
            // SAFETY: The file is valid, and nobody else uses it.
            unsafe { lists.remove(file) };
        }
        0
    }

    /// # Safety
    ///
    /// `kiocb` is valid for `'a`, and its file of kind `T`.
    unsafe fn request<'a>(kiocb: *mut bindings::kiocb) -> (&'a T, OpenFile<'a>, Request<'a>) {
        // SAFETY: Valid, says the caller.
        let (flags, file) = unsafe { ((*kiocb).ki_flags, (*kiocb).ki_filp) };
        // SAFETY: The kiocb holds its file, which is open and of kind `T`.
        let (this, file) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };

        let request = Request {
            // SAFETY: As above. A pipe's file has no position, so none is in use.
            file: unsafe { File::from_raw_file(file.ptr) },
            nowait: flags & sys::ZPIPE_IOCB_NOWAIT != 0,
            nosignal: flags & sys::ZPIPE_IOCB_NOSIGNAL != 0,
        };
        (this, file, request)
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The VFS passes a valid kiocb of a file of kind `T`.
            let (this, file, request) = unsafe { Self::request(kiocb) };
            // SAFETY: It passes a valid iterator to write to.
            let dest = unsafe { IovIterDest::from_raw(iter) };

            // CAST: At most as long as the iterator, which is at most MAX_RW_COUNT.
            this.read(&file, request, dest).map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The VFS passes a valid kiocb of a file of kind `T`.
            let (this, file, request) = unsafe { Self::request(kiocb) };
            // SAFETY: It passes a valid iterator to read from.
            let source = unsafe { IovIterSource::from_raw(iter) };

            // CAST: At most as long as the iterator, which is at most MAX_RW_COUNT.
            this.write(&file, request, source).map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> bindings::__poll_t {
        // SAFETY: The file is open and of kind `T`.
        let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };
        // INVARIANT: The file's private data is `this`; the table is what the VFS passes.
        let waiter = Waiter {
            file,
            table,
            owner: this,
        };
        let ready = this.poll(&open, &waiter);

        [
            (ready.input, sys::ZPIPE_POLL_INPUT),
            (ready.output, sys::ZPIPE_POLL_OUTPUT),
            (ready.hang_up, sys::ZPIPE_POLL_HUP),
            (ready.error, sys::ZPIPE_POLL_ERR),
        ]
        .into_iter()
        .fold(0, |mask, (on, bits)| if on { mask | bits } else { mask })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        from_result(|| {
            // SAFETY: The file is open and of kind `T`.
            let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };

            // CAST: An int fits a long.
            this.ioctl(&open, cmd, arg).map(|n| n as c_long)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn fasync(fd: c_int, file: *mut bindings::file, on: c_int) -> c_int {
        from_result(|| {
            // SAFETY: The file is of kind `T`, and open, or being released by the VFS.
            let (private, open) = unsafe { (Self::private(file), OpenFile::from_raw(file)) };
            let lists = private.lists().ok_or(EINVAL)?;

            // SAFETY: The file is valid. `release` takes it off these lists, and the VFS calls that
            // last, before it frees the file.
            unsafe { lists.update(fd, file, open.access(), on != 0)? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to an operation of a file of kind `T`.
    unsafe extern "C" fn show_fdinfo(seq: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The file is open and of kind `T`; the seq_file is ours for this call.
        let (this, seq) = unsafe { (Self::borrow(file), SeqFile::from_raw(seq)) };

        this.show_fdinfo(seq);
    }
}

/// The name of an inode for people.
///
/// # Safety
///
/// `inode` is valid.
pub(crate) unsafe fn pipe_id(inode: *const bindings::inode) -> PipeId {
    // SAFETY: Valid, says the caller; the number does not change, and there is a super block.
    unsafe {
        PipeId {
            device: (*(*inode).i_sb).s_dev,
            inode: (*inode).i_ino,
        }
    }
}

/// Sets the private data of a file that was made rather than opened.
///
/// # Safety
///
/// `file` is new, has the operations [`FileOps<T>`], and nobody else has it yet.
pub(crate) unsafe fn set_private<T: FileOperations>(
    file: *mut bindings::file,
    private: KBox<Private<T>>,
) {
    // SAFETY: Says the caller.
    unsafe { ptr::addr_of_mut!((*file).private_data).write(private.into_foreign()) };
}
