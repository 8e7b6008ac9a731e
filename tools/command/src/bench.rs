// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe bench`: how fast this machine passes messages from one process to another, with zpipe and
//! with its rivals.

mod end;
mod machine;
mod memory;
mod picture;
mod report;
mod ring;
mod run;

use crate::{
    escape,
    os::{self, say},
    units::parse_size,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use end::Way;
use indicatif::{ProgressBar, ProgressStyle};
use report::{Cell, Report};
use std::{path::PathBuf, time::Duration};

/// The subcommand.
pub const NAME: &str = "bench";
/// Exit status: a measurement failed, or the results cannot be written.
const FAILED: u8 = 1;

/// How often each cell of the table is measured. The median counts.
const ROUNDS: u32 = 5;
/// The sizes of messages if none are given.
const SIZES: &str = "4K,16K,64K,256K,1M,4M,16M";
/// The largest size of a message.
const LARGEST: u64 = 256 << 20;

/// Parses the size of a message: it consists of whole pages.
fn message_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        size @ 4096..=LARGEST if size % 4096 == 0 => Ok(size as usize),
        _ => Err("a message consists of pages of 4 KiB, and has at most 256 MiB".into()),
    }
}

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Measures zpipe and its rivals on this machine")
        .defer(|command| {
            command
                .arg(
                    Arg::new("seconds")
                        .long("seconds")
                        .value_name("SECONDS")
                        .value_parser(value_parser!(u64).range(1..=86400))
                        .default_value("60")
                        .help("About how long it takes"),
                )
                .arg(
                    Arg::new("sizes")
                        .long("sizes")
                        .value_name("SIZE,...")
                        .value_delimiter(',')
                        .value_parser(message_size)
                        .default_value(SIZES)
                        .help("The sizes of messages"),
                )
                .arg(
                    Arg::new("touch")
                        .long("touch")
                        .action(ArgAction::SetTrue)
                        .help("Both ends access each cache line of a message, not only each page"),
                )
                .arg(
                    Arg::new("svg")
                        .long("svg")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .help("Also draw a picture"),
                )
                .arg(
                    Arg::new("quiet")
                        .short('q')
                        .long("quiet")
                        .action(ArgAction::SetTrue)
                        .help("No progress line"),
                )
                .arg(crate::json_option())
                .after_help("Exit status: 1 if something could not be measured, or it fails")
        })
}

/// The progress on standard error. Nothing if that is no terminal.
fn progress(steps: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {percent} % ETA {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Measures all cells, round by round: what happens on the machine meanwhile hits all of them.
fn measure(cells: &mut [Cell], share: Duration, touch: bool, bar: &ProgressBar) {
    for _ in 0..ROUNDS {
        for cell in &mut *cells {
            bar.set_message(cell.way.name());
            if cell.failure.is_none() {
                match run::measure(cell.way, cell.size, share, touch) {
                    Ok(rate) => cell.rounds.push(rate),
                    Err(error) => cell.failure = Some(error.to_string()),
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
}

/// Measures, and prints the results. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let seconds = *matches.get_one::<u64>("seconds").expect("it has a default");
    let sizes: Vec<usize> = matches
        .get_many("sizes")
        .expect("it has a default")
        .copied()
        .collect();
    let touch = matches.get_flag("touch");
    let mut cells: Vec<_> = sizes
        .iter()
        .flat_map(|size| Way::ALL.map(|way| Cell::new(way, *size)))
        .filter(|cell| cell.way.takes(cell.size))
        .collect();
    let runs = cells.len() as u32 * ROUNDS;
    let bar = progress(runs.into(), matches.get_flag("quiet"));
    measure(
        &mut cells,
        Duration::from_secs(seconds) / runs.max(1),
        touch,
        &bar,
    );

    let report = Report::new(&mut cells, touch);
    let mut status = if matches.get_flag("json") {
        os::print_json(&report, FAILED)
    } else {
        os::print(&report.text(), FAILED)
    };
    if let Some(path) = matches.get_one::<PathBuf>("svg") {
        let written = picture::draw(&report).and_then(|picture| {
            std::fs::write(path, picture).map_err(|error| os::Error::from(error).to_string())
        });
        if let Err(reason) = written {
            say(format_args!("{}: {reason}", escape::path(path)));
            status = FAILED;
        }
    }
    for failure in &report.failures {
        say(failure);
        status = FAILED;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_messages() {
        assert_eq!(message_size("4K"), Ok(4096));
        assert_eq!(message_size("256M"), Ok(256 << 20));
        for wrong in ["0", "1", "4097", "257M", "x"] {
            assert!(message_size(wrong).is_err(), "{wrong}");
        }
        let sizes = SIZES.split(',').map(message_size);
        assert_eq!(sizes.filter_map(Result::ok).count(), 7);
    }

    /// The rivals, which need no module.
    #[test]
    fn cells_have_a_rate_for_each_round() {
        let ways = [Way::Pipe, Way::PipeLarge, Way::OtherMemory, Way::Shared];
        let mut cells: Vec<_> = ways.map(|way| Cell::new(way, 8192)).into();
        measure(
            &mut cells,
            Duration::from_millis(5),
            true,
            &ProgressBar::hidden(),
        );
        for cell in cells {
            assert_eq!(cell.failure, None, "{}", cell.way.name());
            assert_eq!(cell.rounds.len(), ROUNDS as usize);
            assert!(cell.rounds.iter().all(|rate| *rate > 0.0));
        }
    }
}
