// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `zpipe`, see docs/zpipe.1. Each subcommand has its own file.

mod run;

use clap::Command;
use std::process::ExitCode;

fn command() -> Command {
    Command::new("zpipe")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Pipes for bulk data between the processes of one machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::command())
}

fn main() -> ExitCode {
    let matches = command().try_get_matches().unwrap_or_else(|error| {
        let _ = error.print();
        // The exit status of env(1) and timeout(1) for a wrong command line.
        std::process::exit(if error.use_stderr() {
            run::FAILED.into()
        } else {
            0
        });
    });
    match matches.subcommand() {
        Some((run::NAME, matches)) => run::run(matches),
        _ => unreachable!("clap knows no other subcommand"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line() {
        super::command().debug_assert();
    }
}
