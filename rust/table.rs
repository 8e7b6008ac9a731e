// SPDX-License-Identifier: GPL-2.0-only

//! Which inode has which pipe.
//!
//! A pipe belongs to an inode, as with fifo(7), and lives from the first open to the last close.
//! A device node's inode has no room for it (`i_pipe` and `i_cdev` share a place), so pipes are
//! kept here, those of private pairs too.
//!
//! An inode is named by its address. That is unique: an entry exists only while some file, open or
//! being opened, holds the inode.

use crate::{
    pairfs::MountPin,
    pipe::{Pipe, PipeId},
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

/// The name of an inode: its address, never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeKey(pub(crate) usize);

/// The pipe of an inode that is open.
struct Entry {
    pipe: Arc<Pipe>,
    /// Files, those included that are being opened. At least one.
    files: usize,
    /// Keeps the pair file system mounted between pairs that live at the same time.
    _pin: Option<MountPin>,
}

type Tree = RBTree<InodeKey, Entry>;

global_lock! {
    // SAFETY: Only `init` and `table` use it: `init` initialises it before it does anything else with
    // it, and `table` asks whether that is done.
    unsafe(uninit) static TABLE: Mutex<Option<Tree>> = None;
}

/// How far the table is: [`NEW`], [`STARTED`] or [`READY`], in this order.
static PROGRESS: Atomic<u32> = Atomic::new(NEW);
const NEW: u32 = 0;
/// Somebody is in `init()`.
const STARTED: u32 = 1;
/// It is initialised, and has a tree.
const READY: u32 = 2;

/// Makes the table. Before that there is none. Sleeps. `EBUSY` if it was called before.
pub(crate) fn init() -> Result {
    if PROGRESS.cmpxchg(NEW, STARTED, Relaxed).is_err() {
        return Err(EBUSY);
    }

    // SAFETY: Nobody gets here twice, as was just made sure of.
    unsafe { TABLE.init() };
    *TABLE.lock() = Some(RBTree::new());
    PROGRESS.store(READY, Release);
    Ok(())
}

/// The table, locked. Sleeps. [`None`] if there is none.
fn table() -> Option<GlobalGuard<TABLE>> {
    (PROGRESS.load(Acquire) == READY).then(|| TABLE.lock())
}

/// The first pipe whose inode is `from` or has a higher address, and that address.
///
/// It may be closed meanwhile, and then lives until the caller drops it.
pub(crate) fn next(from: InodeKey) -> Option<(InodeKey, Arc<Pipe>)> {
    let table = table()?;
    let cursor = table.as_ref()?.cursor_lower_bound(&from)?;
    let (key, entry) = cursor.current();

    Some((*key, entry.pipe.clone()))
}

/// The pipe of an inode, counted once in its entry: for a file, open or being opened.
pub(crate) struct PipeRef {
    pipe: Arc<Pipe>,
    key: InodeKey,
}

impl PipeRef {
    /// The pipe of the inode `key`, made if there is none yet, with the name `id`. Sleeps.
    ///
    /// The caller holds the inode for as long as the reference lives.
    pub(crate) fn get(key: InodeKey, id: PipeId) -> Result<Self> {
        if let Some(found) = Self::find(key) {
            return Ok(found);
        }
        Self::insert(key, id, None)
    }

    /// A new pipe, with the name `id`, for the new inode `key` of a private pair. Sleeps.
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
            // Somebody else was faster.
            entry.files += 1;
            let pipe = entry.pipe.clone();
            drop(table);
            return Ok(Self { pipe, key });
        }
        let replaced = tree.insert(node);
        drop(table);
        // There was none, as was just seen; if there were, it must not be freed under the lock.
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
            // With the last file the data goes. It is freed without the lock.
            let last = tree.remove_node(&self.key);
            drop(table);
            drop(last);
        }
    }
}
