// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the pipes did in an interval.

use crate::{
    counters::{Counters, Paths},
    module,
    pipe::{Holder, Pipe, Wait, pipes},
    pipes::Seen,
    units::{percent, rate},
    waits::Side,
};
use serde::Serialize;
use std::{
    collections::HashMap,
    ffi::c_int,
    time::{Instant, SystemTime},
};

/// A pipe, and what it did.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub pipe: Pipe,
    /// The bytes of the interval on each path. If the pipe was not seen before, those since it was
    /// made.
    pub paths: Paths,
    /// None if the pipe was not seen before.
    pub bytes_per_second: Option<f64>,
}

/// All pipes at a moment, and what they did since the moment before.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// Seconds since 1970.
    pub time: f64,
    /// The length of the interval.
    pub seconds: f64,
    /// Processes that could not be looked at.
    pub hidden: usize,
    pub pipes: Vec<Row>,
}

/// The column that tables are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Rate,
    Fill,
    Pipe,
    Waits,
}

impl Order {
    /// Returns the order with a name, or the usual one.
    pub fn of(name: &str) -> Self {
        match name {
            "fill" => Self::Fill,
            "pipe" => Self::Pipe,
            "waits" => Self::Waits,
            _ => Self::Rate,
        }
    }
}

impl Sample {
    /// Sorts the pipes: the largest value first. Equal ones keep the order of their numbers.
    pub fn sort(&mut self, order: Order) {
        self.pipes.sort_by_key(|row| row.pipe.key());
        let fill = |row: &Row| row.pipe.state.used_slots * 1000 / row.pipe.state.slots.max(1);
        let rate = |row: &Row| row.bytes_per_second.unwrap_or(0.0);
        self.pipes.sort_by(|one, other| match order {
            Order::Rate => rate(other).total_cmp(&rate(one)),
            Order::Fill => fill(other).cmp(&fill(one)),
            Order::Pipe => std::cmp::Ordering::Equal,
            Order::Waits => other.pipe.waiting.len().cmp(&one.pipe.waiting.len()),
        });
    }
}

/// Looks at the pipes again and again.
pub struct Sampler {
    before: HashMap<(u64, u64), Counters>,
    at: Instant,
}

/// Looks at the pipes once.
fn look() -> Result<(Vec<Pipe>, usize), String> {
    let major = module::major().map_err(|unknown| unknown.to_string())?;
    let seen = Seen::all(major).map_err(|error| format!("/proc: {error}"))?;
    Ok((pipes(&seen), seen.hidden))
}

fn remembered(pipes: &[Pipe]) -> HashMap<(u64, u64), Counters> {
    pipes
        .iter()
        .map(|pipe| (pipe.key(), pipe.counters))
        .collect()
}

/// Compares a pipe with its counters before. Without them it is not known when it was made.
fn row(pipe: Pipe, before: Option<&Counters>, seconds: f64) -> Row {
    let paths = Paths::of(&pipe.counters.since(before.unwrap_or(&Counters::default())));
    Row {
        pipe,
        paths,
        bytes_per_second: before.map(|_| paths.total() as f64 / seconds.max(1e-3)),
    }
}

impl Sampler {
    /// Begins the first interval.
    pub fn new() -> Result<Self, String> {
        let (pipes, _) = look()?;
        Ok(Self {
            before: remembered(&pipes),
            at: Instant::now(),
        })
    }

    /// Ends an interval and begins the next one.
    pub fn sample(&mut self) -> Result<Sample, String> {
        let (pipes, hidden) = look()?;
        let seconds = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        let before = std::mem::replace(&mut self.before, remembered(&pipes));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let rows = pipes.into_iter().map(|pipe| {
            let before = before.get(&pipe.key());
            row(pipe, before, seconds)
        });
        Ok(Sample {
            time: now.unwrap_or_default().as_secs_f64(),
            seconds,
            hidden,
            pipes: rows.collect(),
        })
    }
}

/// The columns of the table before the processes, with their widths. The last one has the rest.
pub const COLUMNS: [(&str, usize); 10] = [
    ("RATE", 10),
    ("PULLED", 6),
    ("PUSHED", 6),
    ("MOVED", 6),
    ("COPIED", 6),
    ("SLOTS", 9),
    ("PIPE", 16),
    ("WRITERS", 18),
    ("READERS", 18),
    ("WAITS", 0),
];
/// The columns with numbers are those before this one.
const NAMES: usize = 6;

fn named(holders: &[&Holder]) -> String {
    let names = holders
        .iter()
        .map(|one| format!("{}({})", one.command, one.pid));
    names.collect::<Vec<_>>().join(",")
}

/// Says for whom a task waits.
fn wait(pipe: &Pipe, wait: &Wait) -> String {
    let of = |pid: &c_int| pipe.holders.iter().find(|holder| holder.pid == *pid);
    let others: Vec<_> = wait.waits_for.iter().filter_map(of).collect();
    let others = if others.is_empty() {
        "nobody in view".into()
    } else {
        named(&others)
    };
    format!(
        "{}({}) waits for {} from {others}",
        wait.command, wait.pid, wait.needs
    )
}

/// The words of a pipe's line.
pub fn cells(row: &Row) -> [String; 10] {
    let (pipe, all) = (&row.pipe, row.paths.total() as f64);
    let [pulled, pushed, moved, copied] =
        row.paths.named().map(|(_, part)| percent(part as f64, all));
    let hidden = (!pipe.all_waits_seen).then(|| "some not in view".to_owned());
    let waits = pipe.waiting.iter().map(|one| wait(pipe, one)).chain(hidden);
    let waits: Vec<_> = waits.collect();
    [
        row.bytes_per_second.map_or("-".into(), rate),
        pulled,
        pushed,
        moved,
        copied,
        format!("{}/{}", pipe.state.used_slots, pipe.state.slots),
        pipe.name(),
        named(&pipe.with_end(Side::Write)),
        named(&pipe.with_end(Side::Read)),
        waits.join("; "),
    ]
}

fn joined<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let words = cells
        .zip(COLUMNS)
        .enumerate()
        .map(|(index, (cell, (_, width)))| {
            if index < NAMES {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
    let line: Vec<_> = words.collect();
    format!("{}\n", line.join(" ").trim_end())
}

/// The line above the table.
pub fn title() -> String {
    joined(COLUMNS.iter().map(|(name, _)| *name))
}

/// A line of the table.
pub fn line(row: &Row) -> String {
    joined(cells(row).iter().map(String::as_str))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::pipe::tests::sample as pipes_for_tests;

    pub fn rows() -> Vec<Row> {
        let mut pipes = pipes_for_tests();
        pipes[0].waiting.push(Wait {
            pid: 10,
            thread: 10,
            command: "c10".into(),
            call: "write",
            needs: "space",
            waits_for: vec![11],
        });
        let before = pipes[1].counters;
        let second = pipes.pop().unwrap();
        vec![
            row(second, Some(&before), 2.0),
            row(pipes.pop().unwrap(), Some(&Counters::default()), 2.0),
        ]
    }

    #[test]
    fn what_a_pipe_did() {
        let rows = rows();
        assert_eq!(rows[0].paths, Paths::default());
        assert_eq!((rows[1].paths.pulled, rows[1].paths.copied), (5000, 15000));
        assert!((rows[1].bytes_per_second.unwrap() - 10_000.0).abs() < 0.1);
    }

    #[test]
    fn a_pipe_without_a_sample_before_has_no_rate() {
        let new = row(pipes_for_tests().remove(0), None, 2.0);
        assert_eq!(new.bytes_per_second, None);
        assert!(line(&new).starts_with("         -     25      0      0     75 "));
        let value = serde_json::to_value(&new).unwrap();
        assert!(value["bytes_per_second"].is_null());
        assert_eq!(value["paths"]["pulled"], 5000);
    }

    #[test]
    fn lines_of_a_table() {
        let rows = rows();
        let words = |text: String| {
            text.split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(title()), COLUMNS.map(|(name, _)| name));
        assert_eq!(
            line(&rows[1]),
            " 10.0 kB/s     25      0      0     75      3/16 zpipe:[77]       c10(10)            \
             c11(11)            c10(10) waits for space from c11(11)\n"
        );
        assert!(line(&rows[0]).contains("     0 B/s      -      -      -      -      3/16"));
        let mut hidden = rows;
        hidden[0].pipe.all_waits_seen = false;
        assert!(line(&hidden[0]).ends_with(" some not in view\n"));
    }

    #[test]
    fn orders() {
        let mut sample = Sample {
            time: 0.0,
            seconds: 2.0,
            hidden: 0,
            pipes: rows(),
        };
        let mut inodes = |order| {
            sample.sort(Order::of(order));
            sample
                .pipes
                .iter()
                .map(|row| row.pipe.inode)
                .collect::<Vec<_>>()
        };
        assert_eq!(inodes("rate"), [77, 78]);
        assert_eq!(inodes("pipe"), [77, 78]);
        assert_eq!(inodes("waits"), [77, 78]);
        assert_eq!(inodes("fill"), [77, 78]);
        sample.pipes[1].pipe.state.used_slots = 4;
        sample.sort(Order::Fill);
        assert_eq!(sample.pipes[0].pipe.inode, 78);
    }

    #[test]
    fn a_sample_as_json() {
        let text = serde_json::to_string(&rows()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[1]["inode"], 77);
        assert_eq!(value[1]["paths"]["pulled"], 5000);
        assert_eq!(value[1]["waiting"][0]["waits_for"][0], 11);
    }
}
