// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the system knows about the kernel module.

use crate::os::Error;
use std::{fs, path::Path};

const SYSFS: &str = "/sys/module/zpipe";

/// What to do if the module is not loaded.
pub const LOAD_IT: &str =
    "load the kernel module as root, with 'modprobe zpipe' or 'insmod zpipe.ko'";

/// Returns true if the module is loaded.
pub fn is_loaded() -> bool {
    Path::new(SYSFS).exists()
}

/// Returns the number of references to the module. It cannot be unloaded while there are any.
pub fn references() -> Result<usize, Error> {
    let text = fs::read_to_string(Path::new(SYSFS).join("refcnt"))?;
    text.trim().parse().map_err(|_| Error(libc::EIO))
}

/// Returns the major number of the devices, which they get when the module is loaded.
pub fn major() -> Result<u32, Error> {
    let devices = fs::read_to_string("/proc/devices")?;
    major_in(&devices).ok_or(Error(libc::ENODEV))
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
