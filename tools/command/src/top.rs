// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe top`: the pipes of this machine as they work: how fast, on which path, and who waits for
//! whom.

mod sample;
mod screen;

use crate::os::{self, say};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use sample::{Order, Sampler, line, title};
use std::{io::IsTerminal, thread, time::Duration};

/// The subcommand.
pub const NAME: &str = "top";
/// Exit status of any failure.
const FAILED: u8 = 1;
/// The longest delay in seconds.
const LONGEST: f64 = 86400.0;

/// Parses a delay.
fn delay(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=LONGEST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds from 0.01 to 86400".into()),
    }
}

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Shows the pipes as they work")
        .defer(|command| {
            command
                .arg(
                    Arg::new("batch")
                        .short('b')
                        .long("batch")
                        .action(ArgAction::SetTrue)
                        .help("Print tables; the default if standard output is not a terminal"),
                )
                .arg(
                    Arg::new("count")
                        .short('n')
                        .long("count")
                        .value_name("COUNT")
                        .value_parser(value_parser!(u64).range(1..))
                        .help("End after so many tables"),
                )
                .arg(
                    Arg::new("delay")
                        .short('d')
                        .long("delay")
                        .value_name("SECONDS")
                        .value_parser(delay)
                        .default_value("1")
                        .help("The time between two tables"),
                )
                .arg(
                    Arg::new("sort")
                        .short('s')
                        .long("sort")
                        .value_name("COLUMN")
                        .value_parser(["rate", "fill", "pipe", "waits"])
                        .default_value("rate")
                        .help("The column to sort by"),
                )
                .arg(crate::json_option().help("Print one JSON object for each table"))
                .after_help(
                    "Keys: q quits; r, f, p, w sort by rate, fill, pipe, waits\n\
                 Exit status: 1 if it fails",
                )
        })
}

/// Prints tables or objects. Returns the exit status.
fn batch(
    mut sampler: Sampler,
    count: Option<u64>,
    delay: Duration,
    order: Order,
    json: bool,
) -> u8 {
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        thread::sleep(delay);
        let mut sample = match sampler.sample() {
            Ok(sample) => sample,
            Err(reason) => {
                say(reason);
                return FAILED;
            }
        };
        sample.sort(order);
        let status = if json {
            os::print_json(&sample, FAILED)
        } else {
            let mut text = String::from(if printed > 0 { "\n" } else { "" });
            text.push_str(&title());
            sample
                .pipes
                .iter()
                .for_each(|pipe| text.push_str(&line(pipe)));
            os::print(&text, FAILED)
        };
        if status != 0 {
            return status;
        }
        printed += 1;
    }
    0
}

/// Shows the pipes. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let count = matches.get_one("count").copied();
    let delay = *matches.get_one("delay").expect("it has a default");
    let order = Order::of(matches.get_one::<String>("sort").map_or("", String::as_str));
    let json = matches.get_flag("json");
    let sampler = match Sampler::new() {
        Ok(sampler) => sampler,
        Err(reason) => {
            say(reason);
            return FAILED;
        }
    };
    if json || matches.get_flag("batch") || !std::io::stdout().is_terminal() {
        return batch(sampler, count, delay, order, json);
    }
    match screen::run(sampler, count, delay, order) {
        Ok(()) => 0,
        Err(reason) => {
            say(reason);
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        assert_eq!(delay("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(delay("1"), Ok(Duration::from_secs(1)));
        for wrong in ["", "0", "-1", "x", "NaN", "inf", "86401"] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }
}
