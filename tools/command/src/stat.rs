// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe stat`: everything about one pipe, or about all pipes of a process.

use crate::{
    counters::{self, Paths},
    escape, module,
    os::{self, Error, say},
    pipe::{Holder, Pipe, pipes},
    pipes::{Seen, numbers},
    units::{binary, percent},
    waits::Side,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::{
    ffi::{OsStr, OsString, c_int},
    fmt::Write,
    path::{Path, PathBuf},
};

/// The subcommand.
pub const NAME: &str = "stat";
/// Exit status of any failure.
const FAILED: u8 = 1;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Shows the state and the counters of pipes, who holds them, and who waits")
        .defer(|command| {
            command
                .arg(crate::json_option())
                .arg(
                    Arg::new("which")
                        .value_name("WHICH")
                        .action(ArgAction::Append)
                        .num_args(0..)
                        .value_parser(value_parser!(OsString))
                        .help("PID: the pipes of a process; [PID]:FD: a descriptor; a path; zpipe:[N] [default: all pipes]"),
                )
                .after_help("Exit status: 1 if it fails, or for an operand without a pipe")
        })
}

/// What an operand names.
#[derive(Debug, PartialEq, Eq)]
enum Which {
    Process(c_int),
    /// A descriptor of a process, or of this one.
    Descriptor(Option<c_int>, c_int),
    Inode(u64),
    Path(PathBuf),
}

impl Which {
    fn parse(operand: &OsStr) -> Self {
        let text = operand.to_str().unwrap_or_default();
        let number = |text: &str| text.parse().ok().filter(|number| *number >= 0);
        let inode = |text: &str| {
            text.strip_prefix("zpipe:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        };
        if let Some(pid) = number(text) {
            return Self::Process(pid);
        }
        if let Some((pid, Some(fd))) = text.split_once(':').map(|(pid, fd)| (pid, number(fd))) {
            if pid.is_empty() {
                return Self::Descriptor(None, fd);
            } else if let Some(pid) = number(pid) {
                return Self::Descriptor(Some(pid), fd);
            }
        }
        inode(text).map_or_else(|| Self::Path(operand.into()), Self::Inode)
    }

    /// Returns the pipes with this name, or why there is none.
    fn find<'a>(&self, pipes: &'a [Pipe]) -> Result<Vec<&'a Pipe>, String> {
        let own = c_int::try_from(std::process::id()).unwrap_or(-1);
        let mut found: Vec<_> = pipes.iter().collect();
        match self {
            Self::Process(pid) => {
                found.retain(|pipe| pipe.holders.iter().any(|holder| holder.pid == *pid));
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    return Err("no such process".into());
                }
            }
            Self::Descriptor(pid, fd) => {
                let pid = pid.unwrap_or(own);
                let of = |holder: &Holder| {
                    holder.pid == pid && holder.descriptors.iter().any(|(number, _)| number == fd)
                };
                found.retain(|pipe| pipe.holders.iter().any(of));
            }
            Self::Inode(inode) => {
                found.retain(|pipe| pipe.inode == *inode && pipe.path.is_empty());
            }
            Self::Path(path) => {
                let Some((device, inode, _)) = numbers(path) else {
                    return Err(Error::last().to_string());
                };
                // On btrfs stat(2) has another device number than the kernel.
                found.retain(|pipe| {
                    pipe.inode == inode && (pipe.device == device || Path::new(&pipe.path) == path)
                });
            }
        }
        if found.is_empty() {
            return Err(match self {
                Self::Process(_) => "this process has no zpipe in view".into(),
                Self::Descriptor(..) => "no such descriptor of a zpipe in view".into(),
                Self::Inode(_) => "no such zpipe in view".into(),
                Self::Path(_) => "not a zpipe that a process in view has open".into(),
            });
        }
        Ok(found)
    }
}

/// A line of the text.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "  {name:<10} {value}");
}

/// Describes the open files of one side, and the processes that have them.
fn side(pipe: &Pipe, side: Side, open: u64) -> String {
    let who = pipe.with_end(side).into_iter().map(|holder| {
        let fds: Vec<_> = holder
            .descriptors
            .iter()
            .map(|(fd, _)| fd.to_string())
            .collect();
        format!("{} {} (fd {})", holder.command, holder.pid, fds.join(" "))
    });
    let who: Vec<_> = who.collect();
    if who.is_empty() {
        format!("{open} open, none in view")
    } else {
        format!("{open} open: {}", who.join(", "))
    }
}

/// Describes a pipe.
fn describe(pipe: &Pipe) -> String {
    let (state, counters, mut text) = (&pipe.state, &pipe.counters, String::new());
    let _ = writeln!(text, "{} {} {}", pipe.kind, pipe.inode, pipe.name());
    let size = binary(state.capacity);
    line(
        &mut text,
        "capacity",
        format_args!("{size}, {} slots", state.slots),
    );
    let flag = if state.buffer_only {
        ", buffer-only"
    } else {
        ""
    };
    line(
        &mut text,
        "fill",
        format_args!(
            "{} slots used, {} bytes announced{flag}",
            state.used_slots, state.announced
        ),
    );
    line(&mut text, "readers", side(pipe, Side::Read, state.readers));
    line(&mut text, "writers", side(pipe, Side::Write, state.writers));
    for wait in &pipe.waiting {
        let others: Vec<_> = wait.waits_for.iter().map(c_int::to_string).collect();
        line(
            &mut text,
            "waiting",
            format_args!(
                "{} {} in {}, for {} from: {}",
                wait.command,
                wait.pid,
                wait.call,
                wait.needs,
                if others.is_empty() {
                    "nobody in view".into()
                } else {
                    others.join(" ")
                }
            ),
        );
    }
    if pipe.waiting.is_empty() {
        line(
            &mut text,
            "waiting",
            if pipe.all_waits_seen {
                "nobody"
            } else {
                "not in view"
            },
        );
    }
    let (written, read) = (counters.bytes_written, counters.bytes_read);
    let calls = |calls, waits| format!("in {calls} calls, {waits} waits");
    line(
        &mut text,
        "written",
        format_args!(
            "{written} bytes {}",
            calls(counters.writes, counters.write_waits)
        ),
    );
    line(
        &mut text,
        "read",
        format_args!(
            "{read} bytes {}",
            calls(counters.reads, counters.read_waits)
        ),
    );
    let paths = Paths::of(counters);
    for (name, bytes) in paths.named() {
        let share = match paths.total() {
            0 => String::new(),
            all => format!(", {} %", percent(bytes as f64, all as f64)),
        };
        line(&mut text, name, format_args!("{bytes} bytes{share}"));
    }
    if counters.pages_passed_on > 0 {
        line(
            &mut text,
            "passed on",
            format_args!("{} pages", counters.pages_passed_on),
        );
    }
    for (reason, times) in counters::reasons(state, counters) {
        line(&mut text, "why copied", format_args!("{times}: {reason}"));
    }
    text
}

/// Prints the pipes. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let seen = match module::major().map(Seen::all) {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => {
            say(format_args!("/proc: {error}"));
            return FAILED;
        }
        Err(unknown) => {
            say(unknown);
            return FAILED;
        }
    };
    let (all, mut chosen, mut status) = (pipes(&seen), Vec::new(), 0);
    match matches.get_many::<OsString>("which") {
        None => chosen.extend(&all),
        Some(operands) => {
            for operand in operands {
                match Which::parse(operand).find(&all) {
                    Ok(found) => chosen.extend(found),
                    Err(reason) => {
                        say(format_args!("{}: {reason}", escape::path(operand)));
                        status = FAILED;
                    }
                }
            }
        }
    }
    let printed = if matches.get_flag("json") {
        os::print_json(&chosen, FAILED)
    } else {
        let texts: Vec<_> = chosen.iter().map(|pipe| describe(pipe)).collect();
        os::print(&texts.join("\n"), FAILED)
    };
    if seen.hidden > 0 {
        say(format_args!(
            "{} processes of others are not shown; root sees them",
            seen.hidden
        ));
    }
    status.max(printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::tests::sample;

    #[test]
    fn operands() {
        let parse = |text: &str| Which::parse(text.as_ref());
        assert_eq!(parse("12"), Which::Process(12));
        assert_eq!(parse("12:3"), Which::Descriptor(Some(12), 3));
        assert_eq!(parse(":0"), Which::Descriptor(None, 0));
        assert_eq!(parse("zpipe:[77]"), Which::Inode(77));
        for path in [
            "/dev/zpipe",
            "12:",
            "a:3",
            "-1",
            ":-1",
            "./12",
            "zpipe:[x]",
            "",
        ] {
            assert_eq!(parse(path), Which::Path(path.into()), "{path}");
        }
    }

    #[test]
    fn pipes_of_operands() {
        let pipes = sample();
        let find = |text: &str| Which::parse(text.as_ref()).find(&pipes);
        let inodes = |text| {
            find(text)
                .unwrap()
                .iter()
                .map(|pipe| pipe.inode)
                .collect::<Vec<_>>()
        };
        assert_eq!(inodes("10:5"), [77]);
        assert_eq!(inodes("10:6"), [78]);
        assert_eq!(inodes("zpipe:[77]"), [77]);
        assert!(find("10:7").is_err() && find("zpipe:[5]").is_err());
        assert_eq!(
            find("/nonexistent"),
            Err("No such file or directory".into())
        );
        assert_eq!(
            find("/"),
            Err("not a zpipe that a process in view has open".into())
        );
        assert_eq!(find("2147483647"), Err("no such process".into()));
    }

    #[test]
    fn text_of_a_pipe() {
        let text = describe(&sample()[0]);
        for wanted in [
            "pair 77 zpipe:[77]\n",
            "  capacity   64 KiB, 16 slots\n",
            "  fill       3 slots used, 12288 bytes announced, buffer-only\n",
            "  readers    1 open: c11 11 (fd 0)\n",
            "  writers    2 open: c10 10 (fd 1 5)\n",
            "  waiting    nobody\n",
            "  pulled     5000 bytes, 25 %\n",
            "  copied     15000 bytes, 75 %\n",
            "  why copied 7: direct copies ended: a page was not resident\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn json_of_a_pipe() {
        let text = serde_json::to_string(&sample()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["state"]["capacity"], 65536);
        assert_eq!(value[0]["counters"]["bytes_pulled"], 5000);
        assert_eq!(value[0]["holders"][0]["descriptors"][0][1], "read");
    }
}
