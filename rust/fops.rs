// SPDX-License-Identifier: GPL-2.0-only

//! The operations of zpipe's files: from C's `struct file_operations` to a Rust trait. Thunks only.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

mod file;
mod mapping;
mod splice;

pub(crate) use file::{pipe_id, HeldFile, OpenFile, OpeningFile};

use crate::{
    mm::{Fault, Served},
    real_pipe::RealPipe,
    request::{Request, Splice},
    sync::{FasyncLists, WaitQueue},
    sys,
    zcore::state::Ready,
};
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    error::from_result,
    fs::File,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    seq_file::SeqFile,
    types::ForeignOwnable,
};

/// The maximum number of bytes of one call of the VFS.
pub(crate) const MAX_RW_COUNT: usize = 0x7fff_f000;

/// The operations on files of one kind. Each open file has a value of the type. It is dropped when
/// the file is released, in a context that may sleep.
#[vtable]
pub(crate) trait FileOperations: Sized + Send + Sync + 'static {
    /// Opens a file. May sleep.
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

    /// Reads at most `max` bytes into a real pipe that has a free slot; returns how many. May
    /// sleep, without the pipe's mutex.
    fn splice_read(
        &self,
        _file: &OpenFile<'_>,
        _request: Request<'_>,
        _to: &mut RealPipe<'_>,
        _max: usize,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// Writes at most `max` bytes of a real pipe; returns how many. May sleep, without the pipe's
    /// mutex.
    fn splice_write(
        &self,
        _file: &OpenFile<'_>,
        _request: Request<'_>,
        _from: &mut RealPipe<'_>,
        _max: usize,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// Registers the poller with wait queues, then reports what is ready. Does not sleep.
    fn poll(&self, _file: &OpenFile<'_>, _waiter: &Waiter<'_, Self>) -> Ready {
        Ready::default()
    }

    /// Serves a command. May sleep. Unknown commands fail with `ENOIOCTLCMD`.
    fn ioctl(&self, _file: &OpenFile<'_>, _cmd: u32, _arg: usize) -> Result<i32> {
        Err(ENOIOCTLCMD)
    }

    /// The lists on which the file is put to get SIGIO: on one for each side that it is open for.
    /// Called once for each file.
    fn fasync_lists(&self) -> Option<&FasyncLists> {
        None
    }

    /// Serves a page fault in a mapping of the file. The mmap_lock or the lock of the VMA is held
    /// for reading. May sleep, but accesses no user memory.
    fn fault(&self, _file: &OpenFile<'_>, _fault: &Fault<'_>) -> Served {
        Served::BUS
    }

    /// True if the first store to a page that was mapped by a load is a fault of its own. Called by
    /// mmap(2).
    fn watches_stores(&self) -> bool {
        false
    }

    /// Prints to `/proc/PID/fdinfo/N`. May sleep.
    fn show_fdinfo(&self, _seq: &SeqFile) {}
}

/// The private data of an open file of kind `T`.
///
/// # Invariants
///
/// `lists` is the result of [`FileOperations::fasync_lists`] on `this`. That function works for any
/// lifetime of `this`, so the pointer is valid until `this` is dropped. The file is on no other
/// lists.
pub(crate) struct Private<T> {
    this: T,
    lists: Option<NonNull<FasyncLists>>,
}

impl<T: FileOperations> Private<T> {
    /// The private data of a file whose operations are those of `this`. Sleeps. `ENOMEM`.
    pub(crate) fn new(this: T) -> Result<KBox<Self>> {
        // INVARIANT: There are no lists yet.
        let mut private = KBox::new(Self { this, lists: None }, GFP_KERNEL_ACCOUNT)?;

        // INVARIANT: `this` is in the box now. It is neither moved nor changed until it is dropped.
        private.lists = private.this.fasync_lists().map(NonNull::from);
        Ok(private)
    }

    /// The lists of the file.
    fn lists(&self) -> Option<&FasyncLists> {
        // SAFETY: They are valid by the type invariants, since `this` is not dropped yet.
        self.lists.map(|lists| unsafe { lists.as_ref() })
    }
}

/// A poller that can be put on wait queues.
///
/// # Invariants
///
/// `file` is an open file of kind `T`, whose private data contains `owner`. `table` is null or a
/// valid poll table.
pub(crate) struct Waiter<'a, T> {
    file: *mut bindings::file,
    table: *mut bindings::poll_table,
    owner: &'a T,
}

impl<T> Waiter<'_, T> {
    /// True if the poll asks for edges: by epoll with EPOLLET, or by a multishot poll of io_uring.
    /// False if there is no poll table, because the poller does not wait.
    pub(crate) fn is_edge_triggered(&self) -> bool {
        // SAFETY: By the type invariants the table is null or valid. Its key does not change during
        // the call.
        unsafe { self.table.as_ref() }.is_some_and(|table| table._key & sys::ZPIPE_POLL_EDGE != 0)
    }

    /// Puts the poller on a wait queue.
    ///
    /// `queue` works for any lifetime, so it can return only a queue that belongs to the private
    /// data or that the private data keeps alive.
    pub(crate) fn watch(&self, queue: for<'q> fn(&'q T) -> &'q WaitQueue) {
        let queue = queue(self.owner);

        // SAFETY: File and table are valid by the type invariants. The queue lives as long as the
        // private data, because `queue` derives it from that for an arbitrary lifetime. The private
        // data lives until release. By then no poller is on the queue: poll(2), select(2) and
        // io_uring hold the file. The items of epoll are removed by `eventpoll_release()`, which
        // `__fput()` calls before release.
        unsafe { bindings::poll_wait(self.file, queue.as_ptr(), self.table) };
    }
}

/// The `struct file_operations` for files of kind `T`.
///
/// # Invariants
///
/// `ops` contains the thunks for `T`, and its owner is this module.
pub(crate) struct FileOps<T> {
    ops: bindings::file_operations,
    _kind: PhantomData<fn() -> T>,
}

// SAFETY: The C struct is constant.
unsafe impl<T> Sync for FileOps<T> {}

impl<T: FileOperations> FileOps<T> {
    /// The operations, with `module` as their owner: an open file keeps the module loaded.
    pub(crate) const fn new(module: &ThisModule) -> Self {
        // INVARIANT: All functions below are the thunks for `T`, and the callers pass this module.
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
                splice_read: if T::HAS_SPLICE_READ {
                    Some(Self::splice_read)
                } else {
                    None
                },
                splice_write: if T::HAS_SPLICE_WRITE {
                    Some(Self::splice_write)
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

    /// The value of type `T` of a file. [`None`] if the file is of another kind.
    pub(crate) fn of<'a>(&self, file: &'a File) -> Option<&'a T> {
        let file = file.as_ptr();
        // SAFETY: The file is valid. Both members are set when it is opened and do not change then.
        let (ops, private) = unsafe { ((*file).f_op, (*file).private_data) };
        if ops != self.as_ptr() || private.is_null() {
            return None;
        }
        // SAFETY: By the type invariants `self` has the operations of files of kind `T`, so the
        // file is of that kind. It has private data, so it was opened. The reference to it keeps it
        // open.
        Some(unsafe { Self::borrow(file) })
    }

    /// The private data of a file.
    ///
    /// # Safety
    ///
    /// For `'a`, `file` is a file of kind `T` that was opened and is not yet released.
    unsafe fn private<'a>(file: *mut bindings::file) -> &'a Private<T> {
        // SAFETY: [`Self::open`] or the function that made the file stored a box of this type. Only
        // `release` takes it out.
        unsafe { <KBox<Private<T>> as ForeignOwnable>::borrow((*file).private_data) }
    }

    /// The value of type `T` of a file.
    ///
    /// # Safety
    ///
    /// As for [`Self::private`].
    unsafe fn borrow<'a>(file: *mut bindings::file) -> &'a T {
        // SAFETY: The caller guarantees it.
        &unsafe { Self::private(file) }.this
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `open`, for a file of kind `T`.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid file that it is opening. The file has no descriptor
            // yet.
            let opening = unsafe { OpeningFile::from_raw(file) };
            let this = T::open(&opening)?;
            let private = Private::new(this)?;

            // SAFETY: While the file is being opened, only we use it.
            unsafe { (*file).private_data = private.into_foreign() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `release`, for a file of kind `T`.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is of kind `T` and was opened. Nothing uses its private data any more.
        let private =
            unsafe { <KBox<Private<T>> as ForeignOwnable>::from_foreign((*file).private_data) };

        // The VFS has called `fasync` before, but only if FASYNC is set in the file's flags. The
        // file may be on a list without that.
        if let Some(lists) = private.lists() {
            // SAFETY: The file is valid, and nothing else uses it.
            unsafe { lists.remove(file) };
        }
        0
    }

    /// The value of type `T`, the file and the parameters of a read or write call.
    ///
    /// # Safety
    ///
    /// `kiocb` is valid for `'a`, and its file is of kind `T`.
    unsafe fn request<'a>(kiocb: *mut bindings::kiocb) -> (&'a T, OpenFile<'a>, Request<'a>) {
        // SAFETY: The kiocb is valid, as the caller guarantees.
        let (flags, file) = unsafe { ((*kiocb).ki_flags, (*kiocb).ki_filp) };
        // SAFETY: The kiocb holds its file, which is open and of kind `T`.
        let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };

        let request = Request {
            // SAFETY: The file is valid, as above. Files of zpipe have no position, so there is no
            // `fdget_pos()` section for them.
            file: unsafe { File::from_raw_file(file) },
            nowait: flags & sys::ZPIPE_IOCB_NOWAIT != 0,
            nosignal: flags & sys::ZPIPE_IOCB_NOSIGNAL != 0,
            kind: None,
            splice: Splice::No,
        };
        (this, open, request)
    }
    /// # Safety
    ///
    /// The VFS calls it with the arguments of `read_iter`, for a file of kind `T`.
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a valid kiocb.
        if unsafe { (*kiocb).ki_flags } & sys::ZPIPE_IOCB_DIRECT != 0 {
            // SAFETY: The arguments are those of this function.
            return unsafe { Self::read_direct(kiocb, iter) };
        }
        from_result(|| {
            // SAFETY: The VFS passes a valid kiocb of a file of kind `T`.
            let (this, file, request) = unsafe { Self::request(kiocb) };
            // SAFETY: The VFS passes a valid iterator that is a destination.
            let dest = unsafe { IovIterDest::from_raw(iter) };
            // CAST: It is at most the length of the iterator, which is at most MAX_RW_COUNT.
            this.read(&file, request, dest).map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `write_iter`, for a file of kind `T`.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The VFS passes a valid kiocb of a file of kind `T`.
            let (this, file, request) = unsafe { Self::request(kiocb) };
            // SAFETY: The VFS passes a valid iterator that is a source.
            let source = unsafe { IovIterSource::from_raw(iter) };

            // CAST: It is at most the length of the iterator, which is at most MAX_RW_COUNT.
            this.write(&file, request, source).map(|n| n as isize)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `poll`, for a file of kind `T`.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> bindings::__poll_t {
        // SAFETY: The file is open and of kind `T`.
        let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };
        // INVARIANT: `this` is in the private data of the file. The VFS passes a valid table or
        // null.
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
    /// The VFS calls it with the arguments of `unlocked_ioctl`, for a file of kind `T`.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        from_result(|| {
            // SAFETY: The file is open and of kind `T`.
            let (this, open) = unsafe { (Self::borrow(file), OpenFile::from_raw(file)) };

            // CAST: An int fits into a long.
            this.ioctl(&open, cmd, arg).map(|n| n as c_long)
        })
    }

    /// # Safety
    ///
    /// The VFS calls it with the arguments of `fasync`, for a file of kind `T`.
    unsafe extern "C" fn fasync(fd: c_int, file: *mut bindings::file, on: c_int) -> c_int {
        from_result(|| {
            // SAFETY: The file is of kind `T`. It is open, or the VFS is about to release it.
            let (private, open) = unsafe { (Self::private(file), OpenFile::from_raw(file)) };
            let lists = private.lists().ok_or(EINVAL)?;

            // SAFETY: The file is valid. `release` takes it off these lists. The VFS calls that
            // after the last call of this function, and before it frees the file.
            unsafe { lists.update(fd, file, open.access(), on != 0)? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// procfs calls it with the arguments of `show_fdinfo`, for a file of kind `T`.
    unsafe extern "C" fn show_fdinfo(seq: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The file is open and of kind `T`. The seq_file is valid, and nothing else uses it
        // during the call.
        let (this, seq) = unsafe { (Self::borrow(file), SeqFile::from_raw(seq)) };

        this.show_fdinfo(seq);
    }
}

/// Sets the private data of a file that was made and not opened.
///
/// # Safety
///
/// `file` is new, has the operations [`FileOps<T>`], and nothing else uses it yet.
pub(crate) unsafe fn set_private<T: FileOperations>(
    file: *mut bindings::file,
    private: KBox<Private<T>>,
) {
    // SAFETY: The file is valid and nothing else uses it, as the caller guarantees.
    unsafe { ptr::addr_of_mut!((*file).private_data).write(private.into_foreign()) };
}
