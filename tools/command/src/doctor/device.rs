// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the device nodes, of the rights of the caller, and of what pipes and gifts need.

use super::{
    Check,
    root::{Root, version},
};
use crate::{counters::State, module::major, os::Error};
use std::{
    ffi::{CString, c_int},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
};

/// The devices, with the minor number of each.
const NODES: [(&str, u32); 2] = [("/dev/zpipe", 0), ("/dev/zpipe-control", 1)];
const GROUP: &str = "zpipe";
/// The first kernel on which huge pages can move.
const GIFTS: (u32, u32) = (7, 3);

/// True if this process may read and write the file.
fn may_use(path: &std::path::Path) -> Result<(), Error> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error(libc::EINVAL))?;
    // SAFETY: The path is a C string.
    match unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK) } {
        0 => Ok(()),
        _ => Err(Error::last()),
    }
}

/// Are the devices there, and may the caller use them?
pub fn nodes(root: &Root) -> Vec<Check> {
    NODES
        .iter()
        .map(|(path, minor)| node(root, path, *minor))
        .collect()
}

fn node(root: &Root, name: &'static str, minor: u32) -> Check {
    let path = root.path(name);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Check::bad(name, Error::from(error).to_string())
                .advise("load the module; if it is loaded, this /dev is not that of the machine");
        }
    };
    if !metadata.file_type().is_char_device() {
        return Check::bad(name, "not a device")
            .advise("remove the file and load the module again");
    } else if major().is_ok_and(|major| metadata.rdev() != libc::makedev(major, minor)) {
        return Check::bad(name, "a device, but not zpipe's")
            .advise("remove the node and load the module again");
    }
    let mode = metadata.mode() & 0o7777;
    let owner = format!(
        "mode {mode:03o}, user {}, group {}",
        metadata.uid(),
        metadata.gid()
    );
    match may_use(&path) {
        Ok(()) => Check::ok(name, owner),
        // Private pipes do without this one.
        Err(error) if minor == 0 => Check::warn(name, format!("{owner}: {error}")).advise(format!(
            "for access to this FIFO, join the group {GROUP}; private pipes do not need it"
        )),
        Err(error) => Check::bad(name, format!("{owner}: {error}")).advise(
            "the module makes it with mode 666: look for a rule in /etc/udev/rules.d that changes \
             it, or load the module again",
        ),
    }
}

/// The number of a group in /etc/group.
fn group_in(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut words = line.split(':');
        (words.next()? == name).then_some(())?;
        words.nth(1)?.parse().ok()
    })
}

/// The groups of this process.
fn own_groups() -> Vec<u32> {
    let mut groups = vec![0; 65536];
    // SAFETY: There is space for so many groups.
    let count = unsafe { libc::getgroups(groups.len() as c_int, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    // SAFETY: It has no safety requirements.
    groups.push(unsafe { libc::getegid() });
    groups
}

/// Is there a group for /dev/zpipe, and is the caller in it?
pub fn group(root: &Root) -> Check {
    const NAME: &str = "group";

    // SAFETY: It has no safety requirements.
    let is_root = unsafe { libc::geteuid() } == 0;
    let groups = root.text("/etc/group").unwrap_or_default();
    match group_in(&groups, GROUP) {
        None => Check::warn(NAME, format!("/etc/group has no group {GROUP}"))
            .advise("install the package zpipe; without the group only root may open /dev/zpipe"),
        Some(number) if own_groups().contains(&number) => {
            Check::ok(NAME, format!("you are in the group {GROUP}"))
        }
        Some(_) if is_root => {
            Check::ok(NAME, format!("the group {GROUP} exists, and you are root"))
        }
        Some(_) => Check::warn(NAME, format!("you are not in the group {GROUP}")).advise(format!(
            "run 'adduser YOU {GROUP}' as root and log in again, to use /dev/zpipe"
        )),
    }
}

/// Does udev give the device to the group?
pub fn rule(root: &Root) -> Check {
    const NAME: &str = "udev rule";

    let dirs = [
        "/etc/udev/rules.d",
        "/run/udev/rules.d",
        "/usr/lib/udev/rules.d",
    ];
    let files = dirs.iter().flat_map(|dir| {
        let names = root.names(dir).into_iter();
        names
            .filter(|name| name.contains("zpipe"))
            .map(move |name| format!("{dir}/{name}"))
    });
    match files.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => Check::warn(NAME, "udev has no rule for zpipe")
            .advise("install the package zpipe; without a rule /dev/zpipe belongs to root alone"),
        found => Check::ok(NAME, found),
    }
}

/// Can gifts be made?
pub fn huge_pages(root: &Root, kernel: &str) -> Check {
    const NAME: &str = "huge pages";

    let enabled = root
        .text("/sys/kernel/mm/transparent_hugepage/enabled")
        .unwrap_or_default();
    let chosen = enabled
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match chosen.map(|(chosen, _)| chosen) {
        _ if version(kernel).is_some_and(|version| version < GIFTS) => {
            Check::warn(NAME, "gifts are copied on Linux before 7.3").advise("boot Linux 7.3")
        }
        None => Check::warn(
            NAME,
            "this kernel has no transparent huge pages: gifts are copied",
        ),
        Some("never") => Check::warn(NAME, "transparent huge pages are off: gifts are copied")
            .advise("run 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' as root"),
        Some(chosen) => Check::ok(NAME, format!("transparent huge pages: {chosen}")),
    }
}

/// Can this user make a pipe, and of full size?
pub fn pair() -> Check {
    const NAME: &str = "pipe";

    let fds = match zpipe_uapi::pipe2(libc::O_CLOEXEC) {
        Ok(fds) => fds,
        Err(error) => {
            let error = Error::from(error);
            let check = Check::bad(NAME, format!("no private pipe can be made: {error}"));
            return match error.0 {
                libc::ENFILE => {
                    check.advise("the user, or the system, has too many pipes or files open")
                }
                libc::EMFILE => check.advise("raise the limit of descriptors: ulimit -n"),
                _ => check.advise("see the checks above"),
            };
        }
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0])).unwrap_or_default();
    fds.map(zpipe_uapi::sys::close);
    judge(State::parse(&info).map(|state| state.slots))
}

/// A user with too many pages in pipes gets pipes with two slots.
fn judge(slots: Option<u64>) -> Check {
    const NAME: &str = "pipe";

    match slots {
        None => Check::unknown(
            NAME,
            "a private pipe can be made; /proc does not show its size",
        ),
        Some(slots @ ..16) => Check::warn(
            NAME,
            format!("a new pipe has only {slots} slots: you have many pages in pipes"),
        )
        .advise("close pipes, or load the module with a larger user_pages_soft"),
        Some(slots) => Check::ok(
            NAME,
            format!("a private pipe can be made, with {slots} slots"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Health, root::tests::Tree},
        *,
    };

    #[test]
    fn groups() {
        assert_eq!(group_in("root:x:0:\nzpipe:x:77:a,b\n", "zpipe"), Some(77));
        assert_eq!(group_in("zpipes:x:77:\n", "zpipe"), None);
        let tree = Tree::new("groups");
        assert_eq!(group(&tree.root()).health, Health::Warn);
        let own = own_groups()[0];
        tree.write("etc/group", format!("zpipe:x:{own}:\n"));
        assert_eq!(group(&tree.root()).health, Health::Ok);
    }

    #[test]
    fn devices_that_are_missing_or_wrong() {
        let tree = Tree::new("nodes");
        tree.write("dev/zpipe", "");
        let checks = nodes(&tree.root());
        assert_eq!(
            (checks[0].health, &*checks[0].found),
            (Health::Bad, "not a device")
        );
        assert_eq!(
            (checks[1].health, &*checks[1].found),
            (Health::Bad, "No such file or directory")
        );
    }

    #[test]
    fn rules_of_udev() {
        let tree = Tree::new("rules");
        assert_eq!(rule(&tree.root()).health, Health::Warn);
        tree.write("usr/lib/udev/rules.d/60-zpipe.rules", "");
        let check = rule(&tree.root());
        assert_eq!(check.health, Health::Ok);
        assert_eq!(check.found, "/usr/lib/udev/rules.d/60-zpipe.rules");
    }

    #[test]
    fn what_gifts_need() {
        let tree = Tree::new("huge");
        let health = |kernel| huge_pages(&tree.root(), kernel).health;
        assert_eq!(health("7.3.4"), Health::Warn);
        tree.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]\n",
        );
        assert_eq!(health("7.3.4"), Health::Warn);
        tree.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        );
        assert_eq!(
            (health("7.3.4"), health("7.2.12")),
            (Health::Ok, Health::Warn)
        );
        for (kernel, wanted) in [
            ("7.2-rc1", Health::Warn),
            ("6.12.1", Health::Warn),
            ("7.20.1", Health::Ok),
            ("8.0", Health::Ok),
        ] {
            assert_eq!(health(kernel), wanted, "{kernel}");
        }
    }

    #[test]
    fn small_pipes() {
        assert_eq!(judge(Some(2)).health, Health::Warn);
        assert_eq!(judge(Some(16)).health, Health::Ok);
        assert_eq!(judge(None).health, Health::Unknown);
    }
}
