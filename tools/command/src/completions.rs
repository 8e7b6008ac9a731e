// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe completions`: prints the script that completes the command line in a shell. The build
//! writes one for each shell.

use crate::os;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

/// The subcommand.
pub const NAME: &str = "completions";
/// Exit status of any failure.
const FAILED: u8 = 1;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Prints the completions of this command for a shell")
        .hide(true)
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("The shell"),
        )
}

/// Returns the script for a shell.
fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "zpipe", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Prints the script. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let shell = *matches.get_one("shell").expect("clap requires it");
    os::print(&script(shell), FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_the_options_of_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["mknod", "stat", "json", "require"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
    }
}
