// SPDX-License-Identifier: GPL-2.0-only

//! The pipe table: it maps inodes to pipes.
//!
//! A pipe belongs to an inode, as with fifo(7). It lives from the first open to the last close. The
//! inode of a device node has no space for a pointer to a pipe, because `i_pipe` and `i_cdev` are
//! in one union. So the table holds all pipes, those of pairs too.
//!
//! The key of an entry is the address of the inode. It is unique, because an entry exists only
//! while the inode is held: by a file that is open or being opened, or by `pipe2()` while it makes
//! a pair.

use crate::{
    id::{InodeKey, PipeId},
    pairfs::MountPin,
    pipe::Pipe,
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        global_lock, Arc, GlobalGuard,
    },
};

/// An entry: the pipe of one inode.
struct Entry {
    pipe: Arc<Pipe>,
    /// The number of files that are open or being opened, and of windows. At least one.
    files: usize,
    /// Of a pair: keeps the file system of pairs mounted. Otherwise each pair would mount it anew.
    _pin: Option<MountPin>,
}

type Tree = RBTree<InodeKey, Entry>;

global_lock! {
    // SAFETY: Only `init` and `table` use it. `init` initialises it before it uses it otherwise,
    // and `table` tests first whether `init` has returned.
    unsafe(uninit) static TABLE: Mutex<Option<Tree>> = None;
}

/// The state of the table: [`NEW`], then [`STARTED`], then [`READY`].
static PROGRESS: Atomic<u32> = Atomic::new(NEW);
const NEW: u32 = 0;
/// `init()` is running.
const STARTED: u32 = 1;
/// The mutex is initialised, and the tree exists.
const READY: u32 = 2;

/// Makes the table. Sleeps. `EBUSY` if it was called before.
pub(crate) fn init() -> Result {
    if PROGRESS.cmpxchg(NEW, STARTED, Relaxed).is_err() {
        return Err(EBUSY);
    }

    // SAFETY: The exchange above succeeds only once, so this is called only once.
    unsafe { TABLE.init() };
    *TABLE.lock() = Some(RBTree::new());
    PROGRESS.store(READY, Release);
    Ok(())
}

/// Locks the table. Sleeps. [`None`] before [`init()`] has returned.
fn table() -> Option<GlobalGuard<TABLE>> {
    (PROGRESS.load(Acquire) == READY).then(|| TABLE.lock())
}

/// The entry with the lowest inode address that is at least `from`: that address, and its pipe.
///
/// The pipe may be closed meanwhile. It is then freed when the caller drops it.
pub(crate) fn next(from: InodeKey) -> Option<(InodeKey, Arc<Pipe>)> {
    let table = table()?;
    let cursor = table.as_ref()?.cursor_lower_bound(&from)?;
    let (key, entry) = cursor.current();

    Some((*key, entry.pipe.clone()))
}

/// A reference to the pipe of an inode, counted in its entry. Each file that is open or being
/// opened has one.
pub(crate) struct PipeRef {
    pipe: Arc<Pipe>,
    key: InodeKey,
}

impl PipeRef {
    /// The pipe of the inode `key`. If there is none yet, makes one with the name `id`. Sleeps.
    ///
    /// The caller holds the inode for as long as the reference lives.
    pub(crate) fn get(key: InodeKey, id: PipeId) -> Result<Self> {
        if let Some(found) = Self::find(key) {
            return Ok(found);
        }
        Self::insert(key, id, None)
    }

    /// Makes a pipe with the name `id` for the new inode `key` of a pair. Sleeps.
    ///
    /// The caller holds the inode for as long as the reference lives.
    pub(crate) fn new_pair(key: InodeKey, id: PipeId, pin: MountPin) -> Result<Self> {
        Self::insert(key, id, Some(pin))
    }

    fn find(key: InodeKey) -> Option<Self> {
        let mut table = table()?;
        let entry = table.as_mut()?.get_mut(&key)?;

        entry.files += 1;
        Some(Self {
            pipe: entry.pipe.clone(),
            key,
        })
    }

    fn insert(key: InodeKey, id: PipeId, pin: Option<MountPin>) -> Result<Self> {
        let pipe = Pipe::new(id)?;
        let entry = Entry {
            pipe: pipe.clone(),
            files: 1,
            _pin: pin,
        };
        let node = RBTreeNode::new(key, entry, GFP_KERNEL_ACCOUNT)?;

        let mut table = table().ok_or(ENODEV)?;
        let tree = table.as_mut().ok_or(ENODEV)?;
        if let Some(entry) = tree.get_mut(&key) {
            // Another task has inserted a pipe meanwhile.
            entry.files += 1;
            let pipe = entry.pipe.clone();
            drop(table);
            return Ok(Self { pipe, key });
        }
        let replaced = tree.insert(node);
        drop(table);
        // There was no entry, as the test above shows. If there was one, it must not be freed under
        // the lock.
        drop(replaced);
        Ok(Self { pipe, key })
    }
}

impl Clone for PipeRef {
    fn clone(&self) -> Self {
        if let Some(mut table) = table() {
            if let Some(entry) = table.as_mut().and_then(|tree| tree.get_mut(&self.key)) {
                entry.files += 1;
            }
        }
        Self {
            pipe: self.pipe.clone(),
            key: self.key,
        }
    }
}

impl Deref for PipeRef {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.pipe
    }
}

impl Drop for PipeRef {
    fn drop(&mut self) {
        let Some(mut table) = table() else { return };
        let Some(tree) = table.as_mut() else { return };
        let Some(entry) = tree.get_mut(&self.key) else {
            return;
        };

        entry.files -= 1;
        if entry.files == 0 {
            // The last file is gone, so the pipe and its bytes are freed: without the lock.
            let last = tree.remove_node(&self.key);
            drop(table);
            drop(last);
        }
    }
}
