// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pipes of this machine: which processes hold which of them, and their state and counters.
//!
//! It reads /proc, so an ordinary user sees the own processes. Root sees all, and also the pipes
//! of the module's own list that no process has a descriptor of.

use crate::{
    counters::value,
    escape::{one_word, printable},
    files::{self, Descriptor},
    mounts::Mounts,
    os::Error,
    task::{can_have_files, live_task, stat},
};
use std::{
    collections::{BTreeMap, HashSet},
    ffi::{CString, c_int},
    fs, io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// The module's list of pipes. Only root can read it.
const LIST: &str = "/sys/kernel/debug/zpipe/pipes";
/// What links to a window in /proc look like.
const WINDOW: &str = "anon_inode:[zpipe-window]";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pair,
    Node,
    /// A pipe of the module's list, without a descriptor that could be seen.
    Pipe,
    Window,
    Control,
    /// The module's list of pipes.
    List,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Node => "node",
            Self::Pipe => "pipe",
            Self::Window => "window",
            Self::Control => "control",
            Self::List => "list",
        }
    }
}

/// The name of a pipe or another file: the device and inode numbers. Pairs all have the same
/// device.
pub type Id = (Kind, u64, u64);

/// One line: a descriptor or a mapping of a file.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: Id,
    pub end: &'static str,
    pub slots: String,
    pub bytes: String,
    pub pid: Option<c_int>,
    /// A thread of the process that has the descriptor.
    pub thread: c_int,
    /// None for a mapping.
    pub fd: Option<c_int>,
    pub command: String,
    /// The path of a node, or the pipe of a window.
    pub path: String,
    /// What the kernel says about the descriptor: the text of its file in fdinfo.
    pub info: String,
}

/// The directions of open flags.
fn end(flags: c_int) -> &'static str {
    match flags & libc::O_ACCMODE {
        _ if flags & libc::O_PATH != 0 => "path",
        libc::O_RDONLY => "read",
        libc::O_WRONLY => "write",
        _ => "both",
    }
}

/// The device of a file system, an inode, and of a character device its number.
pub type Numbers = (u64, u64, Option<(u32, u32)>);

/// Returns the numbers of the file at a path. Follows links.
///
/// It does not ask the server of a network file system, which may not answer.
pub fn numbers(path: &Path) -> Option<Numbers> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    let (flags, mask) = (libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE | libc::STATX_INO);
    // SAFETY: The path is a C string, and the call writes to `stat` if it succeeds.
    let stat = unsafe {
        if libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            mask,
            stat.as_mut_ptr(),
        ) != 0
        {
            return None;
        }
        stat.assume_init()
    };
    let mode = libc::mode_t::from(stat.stx_mode);
    let device = (mode & libc::S_IFMT == libc::S_IFCHR)
        .then_some((stat.stx_rdev_major, stat.stx_rdev_minor));
    let on = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Some((on, stat.stx_ino, device))
}

/// Returns what the descriptor behind this entry of /proc/PID/fd is, if it may be one of zpipe.
fn kind(entry: &Path, link: &Path, major: u32) -> Option<Kind> {
    let text = link.to_str().unwrap_or_default();
    if text.starts_with("zpipe:[") {
        return Some(Kind::Pair);
    } else if text == WINDOW {
        return Some(Kind::Window);
    } else if !link.starts_with("/") {
        return None;
    } else if link.ends_with("zpipe/pipes") {
        return Some(Kind::List);
    }
    match numbers(entry)?.2? {
        (number, 0) if number == major => Some(Kind::Node),
        (number, 1) if number == major => Some(Kind::Control),
        _ => None,
    }
}

/// What was seen of all processes.
#[derive(Default)]
pub struct Seen {
    pub rows: Vec<Row>,
    /// Processes whose descriptors this user may not see, or not all of them.
    pub hidden: usize,
    mounts: Mounts,
}

impl Seen {
    /// Looks at all processes and, as root, at the module's list. The ends of a pipe are
    /// neighbours.
    pub fn all(major: u32) -> Result<Self, Error> {
        let mut seen = Self::processes(major)?;
        if let Ok(list) = fs::read_to_string(LIST) {
            seen.listed(&list);
        }
        seen.sort();
        Ok(seen)
    }

    /// Looks at all processes.
    fn processes(major: u32) -> Result<Self, Error> {
        let mut seen = Self::default();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            if let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                seen.process(&entry.path(), pid, major);
            }
        }
        Ok(seen)
    }

    /// Looks at one process. It may end meanwhile, and then has no descriptors.
    fn process(&mut self, dir: &Path, pid: c_int, major: u32) {
        let (task, thread) = live_task(dir, pid);
        let first = self.rows.len();
        let mut denied = false;
        let mut note = |error: io::Error| denied |= error.raw_os_error() == Some(libc::EACCES);
        if let Err(error) = self.descriptors(&task, (pid, thread), major, &mut note) {
            note(error);
        }
        match fs::read(task.join("maps")) {
            Ok(maps) => self.mappings(&String::from_utf8_lossy(&maps), (pid, thread)),
            Err(error) => note(error),
        }
        self.hidden += usize::from(denied && can_have_files(&stat(&task)));
        if self.rows.len() > first {
            let command = fs::read(dir.join("comm")).unwrap_or_default();
            let command = one_word(String::from_utf8_lossy(&command).trim_end());
            for row in &mut self.rows[first..] {
                row.command.clone_from(&command);
            }
        }
    }

    /// Looks at the descriptors of a process and thread with this directory. Calls `note` with
    /// the errors of single ones.
    fn descriptors(
        &mut self,
        task: &Path,
        numbers: (c_int, c_int),
        major: u32,
        note: &mut impl FnMut(io::Error),
    ) -> io::Result<()> {
        for entry in fs::read_dir(task.join("fd"))? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(fd) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let link = match fs::read_link(&path) {
                Ok(link) => link,
                Err(error) => {
                    note(error);
                    continue;
                }
            };
            let Some(kind) = kind(&path, &link, major) else {
                continue;
            };
            let info = fs::read_to_string(task.join("fdinfo").join(&name)).unwrap_or_default();
            if let Some((on, inode)) = self.numbers(kind, &path, task, &info) {
                self.rows
                    .push(row((kind, on, inode), numbers, fd, &link, &info));
            }
        }
        Ok(())
    }

    /// Returns the device and inode behind the entry of a descriptor, as the module's list has
    /// them. None if it is of no file of the module.
    fn numbers(&mut self, kind: Kind, entry: &Path, task: &Path, info: &str) -> Option<(u64, u64)> {
        let number = |name| value(info, name)?.parse().ok();
        let file = number("mnt_id").zip(number("ino"));
        let mount = match kind {
            Kind::Pair | Kind::Window => None,
            _ => file.and_then(|file: (u64, u64)| self.mounts.find(file.0, task)),
        };
        match (kind, mount, file) {
            (Kind::List, Some(mount), _) if mount.kind != "debugfs" => None,
            (_, Some(mount), Some((_, inode))) => Some((mount.device, inode)),
            (Kind::List, ..) => None,
            // Private pipes have no mount that processes see. That of a node may be gone.
            _ => numbers(entry).map(|(on, inode, _)| (on, inode)),
        }
    }

    /// Adds a line for each window among the mappings of a process.
    fn mappings(&mut self, maps: &str, (pid, thread): (c_int, c_int)) {
        let windows = windows_in(maps);
        self.rows
            .extend(windows.into_iter().map(|(inode, end)| Row {
                id: (Kind::Window, 0, inode),
                end,
                slots: "-".into(),
                bytes: "-".into(),
                pid: Some(pid),
                thread,
                fd: None,
                command: String::new(),
                path: String::new(),
                info: String::new(),
            }));
    }

    /// Adds the pipes of the module's list that have no line yet.
    fn listed(&mut self, list: &str) {
        let known: HashSet<_> = self.rows.iter().map(|row| (row.id.1, row.id.2)).collect();
        for entry in list.split("\n\n") {
            let Some(id) = listed_id(entry) else {
                continue;
            };
            if !known.contains(&id) {
                self.rows.push(Row {
                    id: (Kind::Pipe, id.0, id.1),
                    end: "-",
                    slots: state(entry, "zpipe-slots"),
                    bytes: state(entry, "zpipe-buffered"),
                    pid: None,
                    thread: -1,
                    fd: None,
                    command: "-".into(),
                    path: String::new(),
                    info: entry.into(),
                });
            }
        }
    }

    /// Sorts the lines: the ends of a pipe are neighbours.
    fn sort(&mut self) {
        // The numbers of the inodes of windows are unique without the device.
        for row in &mut self.rows {
            if row.id.0 == Kind::Window {
                row.id.1 = 0;
            }
        }
        self.rows
            .sort_by_key(|row| (row.id, row.end, row.pid, row.fd));
    }

    /// Counts the references to the module that these lines explain: those of open files, and one
    /// of the file system of pairs. A file may have several descriptors and mappings.
    pub fn explained(&self) -> usize {
        let mut files: BTreeMap<Id, Vec<Descriptor>> = BTreeMap::new();
        for row in &self.rows {
            let holds = row.end != "path" && row.pid.is_some();
            let found = holds.then(|| files.entry(row.id).or_default());
            if let (Some(found), Some(fd)) = (found, row.fd) {
                found.push((row.thread, fd));
            }
        }
        // There is at least one: a window that is only mapped is a file, too.
        let files = files
            .iter()
            .map(|(id, found)| files::count(found).max(1) * references_of(id.0));
        let mount = self.rows.iter().any(|row| row.id.0 == Kind::Pair);
        files.sum::<usize>() + usize::from(mount)
    }
}

/// Returns the references to the module that an open file has.
fn references_of(kind: Kind) -> usize {
    match kind {
        // The kernel counts the operations of a character device, and the device itself.
        Kind::Node | Kind::Control => 2,
        _ => 1,
    }
}

/// A number or fraction of a pipe's state.
fn state(text: &str, name: &str) -> String {
    value(text, name).unwrap_or("-").into()
}

fn row(id: Id, (pid, thread): (c_int, c_int), fd: c_int, link: &Path, info: &str) -> Row {
    let flags = value(info, "flags").and_then(|flags| c_int::from_str_radix(flags, 8).ok());
    let path = match id.0 {
        Kind::Node | Kind::Control | Kind::List => printable(&link.to_string_lossy()),
        Kind::Window => listed_id(info).map_or_else(String::new, |id| format!("pipe {}", id.1)),
        _ => String::new(),
    };
    Row {
        id,
        end: flags.map_or("-", end),
        slots: state(info, "zpipe-slots"),
        bytes: state(info, "zpipe-buffered"),
        pid: Some(pid),
        thread,
        fd: Some(fd),
        command: String::new(),
        path,
        info: info.into(),
    }
}

/// Returns the windows among the mappings of a process: the inode of each, and its direction.
fn windows_in(maps: &str) -> BTreeMap<u64, &'static str> {
    let mut windows = BTreeMap::new();
    for line in maps.lines() {
        // Addresses, rights, offset, device, inode and path.
        let words: Vec<_> = line.split_whitespace().collect();
        if let [_, rights, _, _, inode, WINDOW] = words[..] {
            if let Ok(inode) = inode.parse() {
                windows.insert(
                    inode,
                    if rights.contains('w') {
                        "write"
                    } else {
                        "read"
                    },
                );
            }
        }
    }
    windows
}

/// Returns the device and inode of a pipe, from its entry in the module's list, or from what the
/// kernel says about a window.
pub fn listed_id(entry: &str) -> Option<(u64, u64)> {
    let inode = value(entry, "zpipe-inode")?.parse().ok()?;
    let (major, minor) = value(entry, "zpipe-device")?.split_once(':')?;
    Some((
        libc::makedev(major.parse().ok()?, minor.parse().ok()?),
        inode,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::Process;

    const INFO: &str = "pos:\t0\nflags:\t0100001\nmnt_id:\t15\nino:\t77\n\
                        zpipe-slots:\t3/16\nzpipe-buffered:\t12288\n";

    fn sample(kind: Kind, inode: u64, fd: Option<c_int>) -> Row {
        let mut row = row((kind, 1, inode), (10, 10), 3, Path::new(""), INFO);
        row.fd = fd;
        row
    }

    #[test]
    fn state_of_a_pipe() {
        let row = row(
            (Kind::Pair, 1, 77),
            (10, 10),
            3,
            Path::new("zpipe:[77]"),
            INFO,
        );
        assert_eq!(
            (row.end, &*row.slots, &*row.bytes),
            ("write", "3/16", "12288")
        );
    }

    #[test]
    fn directions() {
        assert_eq!(end(libc::O_RDONLY | libc::O_NONBLOCK), "read");
        assert_eq!(end(libc::O_WRONLY | libc::O_CLOEXEC), "write");
        assert_eq!(end(libc::O_RDWR), "both");
        assert_eq!(end(libc::O_PATH), "path");
    }

    #[test]
    fn windows_among_mappings() {
        let maps = "7f00-7f10 rw-s 00000000 00:10 55   anon_inode:[zpipe-window]\n\
                    7f20-7f30 rw-s 00200000 00:10 55   anon_inode:[zpipe-window]\n\
                    7f40-7f50 r--s 00000000 00:10 56   anon_inode:[zpipe-window]\n\
                    7f60-7f70 r--p 00000000 08:01 9    /usr/bin/cat\n\
                    7f80-7f90 rw-p 00000000 00:00 0\n";
        let windows: Vec<_> = windows_in(maps).into_iter().collect();
        assert_eq!(windows, [(55, "write"), (56, "read")]);
    }

    #[test]
    fn listed_pipes_without_a_descriptor_are_added() {
        let mut seen = Seen::default();
        seen.rows.push(sample(Kind::Pair, 77, Some(3)));
        seen.rows[0].id.1 = libc::makedev(0, 15);
        seen.listed(
            "zpipe-inode:\t77\nzpipe-device:\t0:15\nzpipe-slots:\t3/16\n\n\
             zpipe-inode:\t78\nzpipe-device:\t0:15\nzpipe-slots:\t1/16\n\n",
        );
        assert_eq!(seen.rows.len(), 2);
        assert_eq!(seen.rows[1].id, (Kind::Pipe, libc::makedev(0, 15), 78));
        assert_eq!((&*seen.rows[1].slots, &*seen.rows[1].bytes), ("1/16", "-"));
    }

    #[test]
    fn references_that_are_explained() {
        let mut seen = Seen::default();
        assert_eq!(seen.explained(), 0);
        seen.rows.push(sample(Kind::Node, 5, Some(3)));
        assert_eq!(seen.explained(), 2);
        seen.rows.push(sample(Kind::Window, 6, None));
        assert_eq!(seen.explained(), 3);
        seen.rows.push(sample(Kind::Pair, 7, Some(3)));
        assert_eq!(seen.explained(), 5);
        seen.rows.push(sample(Kind::Node, 8, Some(3)));
        seen.rows[3].end = "path";
        assert_eq!(seen.explained(), 5);
    }

    #[test]
    fn links_that_cannot_be_read_hide_a_process() {
        let process = Process::new("hidden", b"7 (x) S 1 7 7 0 -1 0\n");
        let (mut seen, mut errors) = (Seen::default(), 0);
        fs::create_dir(process.0.join("fd")).unwrap();
        for fd in ["3", "4", "x"] {
            // No links: the error is EINVAL.
            fs::write(process.0.join("fd").join(fd), "").unwrap();
        }
        let mut note = |error: io::Error| {
            assert_eq!(Error::from(error), Error(libc::EINVAL));
            errors += 1;
        };
        seen.descriptors(&process.0, (7, 7), 1, &mut note).unwrap();
        assert_eq!((errors, seen.rows.len()), (2, 0));
        // Only a missing right counts.
        seen.process(&process.0, 7, 1);
        assert_eq!(seen.hidden, 0);
    }

    #[test]
    fn a_list_is_in_debugfs() {
        let mut seen = Seen::default();
        let info = "pos:\t0\nmnt_id:\t4294967295\nino:\t5\n";
        let entry = Path::new("/proc/self/exe");
        assert_eq!(seen.numbers(Kind::List, entry, Path::new("/x"), info), None);
        assert_eq!(seen.numbers(Kind::List, entry, Path::new("/x"), ""), None);
        // The mount of a node is gone.
        let (on, inode, _) = numbers(entry).unwrap();
        assert_eq!(
            seen.numbers(Kind::Node, entry, Path::new("/x"), info),
            Some((on, inode))
        );

        let file = fs::File::open("/proc/self/stat").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let own = Path::new("/proc/self");
        let entry = own.join(format!("fd/{fd}"));
        assert_eq!(seen.numbers(Kind::List, &entry, own, &info), None);
        let (on, inode, _) = numbers(&entry).unwrap();
        assert_eq!(
            seen.numbers(Kind::Node, &entry, own, &info),
            Some((on, inode))
        );
    }
}
