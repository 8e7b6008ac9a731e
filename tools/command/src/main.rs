// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `zpipe`, see docs/zpipe.1. Each subcommand has its own file.
//!
//! It has a `main()` as a program in C, because Rust's own startup changes the process: it ignores
//! SIGPIPE, and opens /dev/null in place of standard descriptors that are closed. A program that
//! `zpipe run` starts would inherit both.

#![cfg_attr(not(test), no_main)]

mod bench;
mod cat;
mod completions;
mod counters;
mod doctor;
mod escape;
mod files;
mod ls;
mod mknod;
mod module;
mod mounts;
mod os;
mod pipe;
mod pipes;
mod program;
mod run;
mod stat;
mod task;
mod top;
mod units;
mod waits;

use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// Exit status: zpipe was called with wrong arguments, or `zpipe run` failed. It is that of env(1)
/// and timeout(1).
const FAILED: u8 = 125;

/// The command line. Most subcommands add their options only when they are called, because
/// `zpipe run` must start fast.
fn command() -> Command {
    Command::new("zpipe")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Pipes for bulk data between the processes of one machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::command())
        .subcommand(ls::command())
        .subcommand(stat::command())
        .subcommand(top::command())
        .subcommand(cat::command())
        .subcommand(bench::command())
        .subcommand(doctor::command())
        .subcommand(mknod::command())
        .subcommand(completions::command())
}

/// The option of subcommands with results for programs.
fn json_option() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON")
}

/// Runs the subcommand of a command line. Returns the exit status.
fn zpipe(words: Vec<OsString>) -> u8 {
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            os::say_all(&error.to_string());
            return FAILED;
        }
        // The help, or the version.
        Err(text) => return os::print(&text.to_string(), FAILED),
    };
    let Some((name, matches)) = matches.subcommand() else {
        unreachable!("clap requires a subcommand")
    };
    // COMMAND of `zpipe run` inherits the descriptors as they are.
    if name != run::NAME {
        os::occupy_standard_descriptors();
    }
    match name {
        run::NAME => run::run(matches),
        ls::NAME => ls::run(),
        stat::NAME => stat::run(matches),
        top::NAME => top::run(matches),
        cat::NAME => cat::run(matches),
        bench::NAME => bench::run(matches),
        doctor::NAME => doctor::run(matches),
        mknod::NAME => mknod::run(matches),
        completions::NAME => completions::run(matches),
        _ => unreachable!("clap knows no other subcommand"),
    }
}

/// The program. Returns its exit status.
///
/// # Safety
///
/// The C library calls it, with `argc` arguments that stay valid.
#[cfg(not(test))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(
    argc: core::ffi::c_int,
    argv: *const *const core::ffi::c_char,
) -> core::ffi::c_int {
    use std::{ffi::CStr, os::unix::ffi::OsStrExt};

    let word = |index| {
        // SAFETY: By this function's safety requirements.
        let word = unsafe { CStr::from_ptr(argv.add(index).read()) };
        std::ffi::OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    zpipe((0..argc as usize).map(word).collect()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line() {
        command().debug_assert();
    }

    #[test]
    fn exit_status_of_wrong_arguments() {
        let status = |words: &[&str]| zpipe(words.iter().map(OsString::from).collect());
        assert_eq!(status(&["zpipe", "--version"]), 0);
        for wrong in [
            &["zpipe", "--nonsense"][..],
            &["zpipe"],
            &["zpipe", "nonsense"],
            &[],
        ] {
            assert_eq!(status(wrong), FAILED);
        }
    }
}
