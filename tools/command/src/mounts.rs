// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounts by their number, as /proc/PID/fdinfo names them. It asks no file system, because that
//! of a network may not answer.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// The file system of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The device number that the kernel has for all of the file system. stat(2) may show another
    /// one, as on btrfs.
    pub device: u64,
    /// The type, such as "debugfs".
    pub kind: String,
}

/// The mounts that were seen so far. Their numbers are the same for all processes.
#[derive(Default)]
pub struct Mounts {
    known: HashMap<u64, Mount>,
    /// The processes whose mounts are known.
    read: HashSet<PathBuf>,
}

impl Mounts {
    /// Finds a mount that this process or the one with this directory in /proc sees.
    pub fn find(&mut self, number: u64, process: &Path) -> Option<&Mount> {
        for dir in [Path::new("/proc/self"), process] {
            // A process that has many files on other mounts costs no more than one with one file.
            if !self.known.contains_key(&number) && self.read.insert(dir.into()) {
                let table = fs::read(dir.join("mountinfo")).unwrap_or_default();
                let table = String::from_utf8_lossy(&table);
                self.known.extend(table.lines().filter_map(parse));
            }
        }
        self.known.get(&number)
    }
}

/// Returns the number and file system of a line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
fn parse(line: &str) -> Option<(u64, Mount)> {
    let (before, after) = line.split_once(" - ")?;
    let mut words = before.split(' ');
    let number = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let mount = Mount {
        device: libc::makedev(major.parse().ok()?, minor.parse().ok()?),
        kind: after.split(' ').next()?.into(),
    };
    Some((number, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mounts() {
        let mount = |major, minor, kind: &str| Mount {
            device: libc::makedev(major, minor),
            kind: kind.into(),
        };
        assert_eq!(
            parse("36 25 0:7 / /sys/kernel/debug rw,nosuid shared:9 - debugfs debugfs rw"),
            Some((36, mount(0, 7, "debugfs")))
        );
        assert_eq!(
            parse("90 25 259:300 /a\\040b /mnt rw master:1 propagate_from:2 - ext4 /dev/x rw"),
            Some((90, mount(259, 300, "ext4")))
        );
        for wrong in [
            "",
            "36 25 0:7 / /x rw",
            "x 25 0:7 / /x rw - a b c",
            "1 2 3 - a b c",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mounts_of_files() {
        let proc = fs::File::open("/proc/self/stat").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&proc);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let number = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:\t"))
            .unwrap();
        let mut mounts = Mounts::default();
        let process = Path::new("/proc/self");
        let found = mounts.find(number.parse().unwrap(), process).unwrap();
        assert_eq!(found.kind, "proc");
        assert_eq!(mounts.find(u64::MAX, process), None);
        assert_eq!(mounts.find(u64::MAX, Path::new("/nonexistent")), None);
    }
}
