// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe cat`: copies files to standard output as cat(1) does, in the way that costs least, and
//! shows how fast, on which path, and who is waited for.

mod copy;
mod method;
mod progress;
mod report;

use crate::{
    escape,
    os::{self, Error},
    units::parse_size,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use copy::{Copier, Failure};
use progress::Progress;
use report::{Report, Watch};
use std::{
    ffi::{CString, OsStr, OsString, c_int},
    os::unix::ffi::OsStrExt,
};

/// The subcommand.
pub const NAME: &str = "cat";
/// Exit status: a file could not be copied, or not in full.
const FAILED: u8 = 1;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Copies files to standard output, fast, and shows how")
        .defer(|command| {
            let flag = |name: &'static str, short, help| {
                Arg::new(name)
                    .short(short)
                    .long(name)
                    .action(ArgAction::SetTrue)
                    .help(help)
            };
            command
                .arg(flag("quiet", 'q', "No progress line"))
                .arg(flag(
                    "verbose",
                    'v',
                    "A summary on standard error at the end",
                ))
                .arg(crate::json_option().help("The summary as JSON"))
                .arg(
                    Arg::new("size")
                        .short('s')
                        .long("size")
                        .value_name("SIZE")
                        .value_parser(parse_size)
                        .help("The bytes to expect, for the progress line: 4096, 64K, 10MiB"),
                )
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .action(ArgAction::Append)
                        .num_args(0..)
                        .value_parser(value_parser!(OsString))
                        .help("A file; - is standard input, which is the default"),
                )
                .after_help("Exit status: 1 if a file could not be copied in full")
        })
}

/// A file to copy, closed at the end unless it is standard input.
struct Input {
    fd: c_int,
    name: String,
    owned: bool,
}

impl Input {
    fn open(operand: &OsStr) -> Result<Self, (String, Error)> {
        let name = escape::path(operand);
        if operand == "-" {
            let fd = libc::STDIN_FILENO;
            return Ok(Self {
                fd,
                name,
                owned: false,
            });
        }
        let Ok(path) = CString::new(operand.as_bytes()) else {
            return Err((name, Error(libc::EINVAL)));
        };
        loop {
            // SAFETY: The path is a C string.
            let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
            if fd >= 0 {
                return Ok(Self {
                    fd,
                    name,
                    owned: true,
                });
            } else if Error::last() != Error(libc::EINTR) {
                return Err((name, Error::last()));
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.owned {
            zpipe_uapi::sys::close(self.fd);
        }
    }
}

/// Returns the sum of the sizes, if all operands are files with a size.
fn expected(operands: &[&OsStr]) -> Option<u64> {
    let size = |operand: &&OsStr| {
        let path = if *operand == "-" {
            OsStr::new("/dev/stdin")
        } else {
            operand
        };
        let file = std::fs::metadata(path).ok().filter(|file| file.is_file())?;
        Some(file.len()).filter(|size| *size > 0)
    };
    operands.iter().map(size).sum()
}

fn cannot_write(progress: &Progress, error: Error) {
    progress.say(&format!("zpipe cat: write error: {error}\n"));
}

/// Copies one file. Returns false if nothing more can be written.
fn copy_one(
    operand: &OsStr,
    copier: &mut Copier,
    progress: &mut Progress,
    report: &mut Report,
) -> bool {
    let failed = |report: &mut Report, progress: &Progress, name: &str, reason: &str| {
        progress.say(&format!("zpipe cat: {name}: {reason}\n"));
        report.failed += 1;
    };
    let input = match Input::open(operand) {
        Ok(input) => input,
        Err((name, error)) => {
            failed(report, progress, &name, &error.to_string());
            return true;
        }
    };
    if copy::is_own_output(input.fd) {
        failed(report, progress, &input.name, "input file is output file");
        return true;
    }
    let mut watch = Watch::new(input.fd);
    let result = copier.copy(input.fd, &mut |meter| progress.show(meter, &mut watch));
    report.inputs.extend(watch.input());
    match result {
        Ok(()) => report.files += 1,
        Err(Failure::Input(error)) => failed(report, progress, &input.name, &error.to_string()),
        Err(Failure::Output(error)) => {
            cannot_write(progress, error);
            report.failed += 1;
            return false;
        }
    }
    true
}

/// Copies all files. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let operands: Vec<&OsStr> = match matches.get_many::<OsString>("file") {
        Some(operands) => operands.map(OsString::as_os_str).collect(),
        None => vec![OsStr::new("-")],
    };
    let (json, verbose) = (matches.get_flag("json"), matches.get_flag("verbose"));
    let size = matches.get_one("size").copied();
    let mut progress = if matches.get_flag("quiet") || json {
        Progress::none()
    } else {
        Progress::new(size.or_else(|| expected(&operands)))
    };
    let mut copier = Copier::new(json || verbose || progress.is_shown());
    let mut report = Report::new();
    let written = operands
        .into_iter()
        .all(|operand| copy_one(operand, &mut copier, &mut progress, &mut report));
    progress.end();
    report.finish(&copier.meter);
    if written {
        if let Err(error) = os::close_output() {
            cannot_write(&progress, error);
            report.failed += 1;
        }
    }
    if json {
        os::say_all(&report.json());
    } else if verbose {
        os::say_all(&report.text());
    }
    if report.failed > 0 { FAILED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_sizes() {
        let known = std::fs::metadata("Cargo.toml").unwrap().len();
        assert_eq!(
            expected(&["Cargo.toml".as_ref(), "Cargo.toml".as_ref()]),
            Some(2 * known)
        );
        for unknown in ["/dev/null", "/proc/self/stat", "/nonexistent"] {
            assert_eq!(expected(&["Cargo.toml".as_ref(), unknown.as_ref()]), None);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened() {
        let error = |name: &str| Input::open(name.as_ref()).err().unwrap();
        assert_eq!(
            error("/nonexistent"),
            ("/nonexistent".into(), Error(libc::ENOENT))
        );
        assert_eq!(error("x\u{1b}"), ("x\\u{1b}".into(), Error(libc::ENOENT)));
        assert_eq!(Input::open("-".as_ref()).unwrap().fd, 0);
    }
}
