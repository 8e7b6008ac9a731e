// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe mknod`: makes a device node, which is a FIFO of its own.

use crate::{
    escape, module,
    os::{Error, say},
};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::{
    ffi::{CStr, CString, OsString},
    os::unix::ffi::OsStrExt,
};

/// The subcommand.
pub const NAME: &str = "mknod";
/// Exit status of any failure, as mknod(1)'s.
const FAILED: u8 = 1;

/// The mode that mknod(1) uses, before the umask.
const MODE: libc::mode_t = 0o666;
/// The minor number of nodes.
const MINOR: u32 = 0;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Makes a node: a FIFO of zpipe at a path")
        .arg(
            Arg::new("mode")
                .short('m')
                .long("mode")
                .value_name("MODE")
                .help(
                    "The permissions in octal, whatever the umask is [default: 666 and the umask]",
                ),
        )
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(value_parser!(OsString))
                .help("The new node"),
        )
        .after_help("Exit status: 1 if it fails")
}

/// Parses the permission bits.
fn parse(mode: &str) -> Option<libc::mode_t> {
    let digits = mode.bytes().all(|byte| (b'0'..b'8').contains(&byte));
    let mode = libc::mode_t::from_str_radix(mode, 8).ok()?;
    (digits && mode <= 0o777).then_some(mode)
}

fn make(path: &OsString, mode: Option<libc::mode_t>, major: u32) -> Result<(), Error> {
    let path = CString::new(path.as_bytes()).map_err(|_| Error(libc::EINVAL))?;
    if mode.is_some() {
        // SAFETY: It has no safety requirements. This process makes no other file.
        unsafe { libc::umask(0) };
    }
    let created = libc::S_IFCHR | mode.unwrap_or(MODE);
    // SAFETY: The path is a C string.
    if unsafe { libc::mknod(path.as_ptr(), created, libc::makedev(major, MINOR)) } != 0 {
        return Err(Error::last());
    }
    match mode {
        None => Ok(()),
        Some(mode) => set_mode(&path, mode),
    }
}

/// Sets the permissions of the new node, as mknod(1) does: a default ACL of the directory may have
/// taken some away. Does not follow a link that took its place meanwhile.
fn set_mode(path: &CStr, mode: libc::mode_t) -> Result<(), Error> {
    let (at, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: The path is a C string.
    match unsafe { libc::fchmodat(at, path.as_ptr(), mode, flags) } {
        0 => Ok(()),
        _ => Err(Error::last()),
    }
}

/// Makes the node. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let path = matches
        .get_one::<OsString>("path")
        .expect("clap requires it");
    let mode = match matches.get_one::<String>("mode") {
        None => None,
        Some(mode) => match parse(mode) {
            Some(mode) => Some(mode),
            None => {
                say(format_args!("invalid mode: {}", escape::printable(mode)));
                return FAILED;
            }
        },
    };
    let major = match module::major() {
        Ok(major) => major,
        Err(unknown) => {
            say(unknown);
            return FAILED;
        }
    };
    match make(path, mode, major) {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("{}: {error}", escape::path(path)));
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_permissions() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("0640"), Some(0o640));
        assert_eq!(parse("777"), Some(0o777));
        for wrong in ["", "8", "1777", "u=rw", "-1", "+7", " 7", "99999999999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
