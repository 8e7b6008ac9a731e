// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the system knows about the kernel module.

use crate::{escape, os::Error};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

const SYSFS: &str = "/sys/module/zpipe";
const DEVICES: &str = "/proc/devices";

/// What to do if the module is not loaded.
pub const LOAD_IT: &str =
    "load the kernel module as root, with 'modprobe zpipe' or 'insmod zpipe.ko'";

/// Why something about the module is not known.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    NotLoaded,
    /// The system has no device of the module.
    NoDevice,
    /// A file of the system cannot be read, so the module may be loaded.
    Unreadable(PathBuf, Error),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => write!(f, "the kernel module is not loaded; {LOAD_IT}"),
            Self::NoDevice => write!(f, "the system has no zpipe device: {LOAD_IT}"),
            Self::Unreadable(path, error) => write!(f, "{}: {error}", escape::path(path)),
        }
    }
}

/// Returns true if the module is loaded.
pub fn is_loaded() -> bool {
    Path::new(SYSFS).exists()
}

/// Returns the number of references to the module. It cannot be unloaded while there are any.
pub fn references() -> Result<usize, Unknown> {
    references_in(Path::new(SYSFS))
}

fn references_in(module: &Path) -> Result<usize, Unknown> {
    let path = module.join("refcnt");
    let unreadable = |error| Unknown::Unreadable(path.clone(), error);
    let text = fs::read_to_string(&path).map_err(|error| {
        let error = Error::from(error);
        // Without sysfs there would be no modules at all.
        let others = module.parent().is_some_and(Path::is_dir);
        match error {
            Error(libc::ENOENT) if others && !module.exists() => Unknown::NotLoaded,
            _ => unreadable(error),
        }
    })?;
    let number = text.trim().parse();
    number.map_err(|_| unreadable(Error(libc::EIO)))
}

/// Returns the major number of the devices, which they get when the module is loaded.
pub fn major() -> Result<u32, Unknown> {
    let devices = fs::read_to_string(DEVICES)
        .map_err(|error| Unknown::Unreadable(DEVICES.into(), error.into()))?;
    major_in(&devices).ok_or(Unknown::NoDevice)
}

fn major_in(devices: &str) -> Option<u32> {
    let (characters, _) = devices
        .split_once("Block devices:")
        .unwrap_or((devices, ""));
    characters.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let major = words.next()?.parse().ok()?;
        (words.next()? == "zpipe").then_some(major)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_that_is_not_loaded() {
        let dir = std::env::temp_dir().join(format!("zpipe-module-{}", std::process::id()));
        let module = dir.join("zpipe");
        let path = module.join("refcnt");
        let unreadable = |error| Err(Unknown::Unreadable(path.clone(), Error(error)));

        assert_eq!(references_in(&module), unreadable(libc::ENOENT));
        fs::create_dir(&dir).unwrap();
        assert_eq!(references_in(&module), Err(Unknown::NotLoaded));
        fs::create_dir(&module).unwrap();
        assert_eq!(references_in(&module), unreadable(libc::ENOENT));
        fs::write(&path, "7\n").unwrap();
        assert_eq!(references_in(&module), Ok(7));
        fs::write(&path, "x\n").unwrap();
        assert_eq!(references_in(&module), unreadable(libc::EIO));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn major_of_character_devices() {
        let devices = "Character devices:\n  1 mem\n510 zpipe-other\n511 zpipe\n\n\
                       Block devices:\n259 blkext\n";
        assert_eq!(major_in(devices), Some(511));
        assert_eq!(
            major_in("Character devices:\n 1 mem\n\nBlock devices:\n 7 zpipe\n"),
            None
        );
    }
}
