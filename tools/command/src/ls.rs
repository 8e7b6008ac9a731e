// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe ls`: which processes hold which pipes, and why the module cannot be unloaded.

use crate::{
    module,
    os::{self, say},
    pipes::{Row, Seen},
};
use clap::Command;
use std::{ffi::c_int, fmt::Write};

/// The subcommand.
pub const NAME: &str = "ls";
/// Exit status of any failure.
const FAILED: u8 = 1;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Lists pipes, their processes, and what keeps the module loaded")
        .after_help("Exit status: 1 if it fails")
}

/// Prints rows as a table.
fn table(rows: &[Row]) -> String {
    let number = |number: Option<c_int>, none: &str| {
        number.map_or_else(|| none.to_owned(), |number| number.to_string())
    };
    let mut text = String::new();
    let mut line = |words: [&str; 9]| {
        let [kind, inode, end, slots, bytes, pid, fd, command, path] = words;
        let line = format!(
            "{kind:7} {inode:>10} {end:5} {slots:>9} {bytes:>10} {pid:>7} {fd:>4} {command:15} {path}"
        );
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line([
        "KIND", "INODE", "END", "SLOTS", "BYTES", "PID", "FD", "COMMAND", "PATH",
    ]);
    for row in rows {
        let none = if row.pid.is_some() { "mem" } else { "-" };
        line([
            row.id.0.name(),
            &row.id.2.to_string(),
            row.end,
            &row.slots,
            &row.bytes,
            &number(row.pid, "-"),
            &number(row.fd, none),
            &row.command,
            &row.path,
        ]);
    }
    text
}

/// Says why the module cannot be unloaded.
fn summary(seen: &Seen, references: usize) -> String {
    let explained = seen.explained();
    let mut text = format!("The module has {references} references");
    if references == 0 {
        text.push_str(": it can be unloaded.\n");
        return text;
    }
    text.push_str(": rmmod fails while there are any.\n");
    let _ = writeln!(
        text,
        "Those of open files above, and of the mount of pairs: {explained}."
    );
    if references > explained {
        let others = references - explained;
        let _ = writeln!(
            text,
            "Others: {others}. They may be of processes that are not shown, ends that only a window\n\
             holds, descriptors on their way through sockets or in io_uring, pages that went on to\n\
             pipes of the kernel or to sockets, and opens that wait."
        );
    }
    text
}

/// Prints the list. Returns the exit status.
pub fn run() -> u8 {
    let numbers = module::references().and_then(|references| Ok((references, module::major()?)));
    let (references, major) = match numbers {
        Ok(numbers) => numbers,
        Err(unknown) => {
            say(unknown);
            return FAILED;
        }
    };
    let seen = match Seen::all(major) {
        Ok(seen) => seen,
        Err(error) => {
            say(format_args!("/proc: {error}"));
            return FAILED;
        }
    };
    let text = format!("{}\n{}", table(&seen.rows), summary(&seen, references));
    let status = os::print(&text, FAILED);
    if seen.hidden > 0 {
        say(format_args!(
            "{} processes of others are not shown; root sees them",
            seen.hidden
        ));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipes::Kind;

    #[test]
    fn a_mapping_has_no_descriptor() {
        let row = Row {
            id: (Kind::Window, 0, 6),
            end: "read",
            slots: "-".into(),
            bytes: "-".into(),
            pid: Some(10),
            thread: 10,
            fd: None,
            command: "x".into(),
            path: String::new(),
            info: String::new(),
        };
        let text = table(&[row]);
        assert!(text.lines().nth(1).unwrap().contains(" mem"));
        assert!(!text.contains(" \n"));
    }
}
