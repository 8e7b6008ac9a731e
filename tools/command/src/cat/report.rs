// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was copied, how fast, and on which path: for people and for programs.

use super::{copy::Meter, method::Method};
use crate::{
    counters::{Counters, PAGE, Paths, State},
    units::{bytes, percent, rate},
};
use serde::Serialize;
use std::{collections::BTreeMap, ffi::c_int, fmt::Write, fs, time::Instant};

/// What a zpipe counted while its bytes were copied. Other processes that use the pipe meanwhile
/// count, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Path {
    /// How bytes entered the pipe.
    #[serde(flatten)]
    paths: Paths,
    /// Bytes in pages that left the pipe without a copy.
    passed_on: u64,
}

impl Path {
    fn of(counters: &Counters) -> Self {
        Self {
            paths: Paths::of(counters),
            passed_on: counters.pages_passed_on * PAGE,
        }
    }

    fn add(&mut self, other: &Self) {
        self.paths.pulled += other.paths.pulled;
        self.paths.pushed += other.paths.pushed;
        self.paths.moved += other.paths.moved;
        self.paths.copied += other.paths.copied;
        self.passed_on += other.passed_on;
    }

    /// The shares of the paths that any byte took, such as "pulled 93 %, copied 7 %".
    fn shares(&self) -> String {
        let all = self.paths.total() as f64;
        let taken = self
            .paths
            .named()
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0);
        let mut texts: Vec<_> = taken
            .map(|(name, bytes)| format!("{name} {} %", percent(bytes as f64, all)))
            .collect();
        if self.passed_on > 0 {
            texts.push(format!("passed on {}", bytes(self.passed_on)));
        }
        texts.join(", ")
    }
}

/// The counters of a descriptor of this process, if it is a zpipe.
fn counters(fd: c_int) -> Option<Counters> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    State::parse(&info).map(|_| Counters::parse(&info))
}

/// Watches a zpipe while it is copied from or to.
pub struct Watch {
    input: Option<(c_int, Counters)>,
    output: Option<(c_int, Counters)>,
}

impl Watch {
    /// Watches an input and standard output.
    pub fn new(input: c_int) -> Self {
        let before = |fd| counters(fd).map(|counters| (fd, counters));
        Self {
            input: before(input),
            output: before(libc::STDOUT_FILENO),
        }
    }

    fn path(watched: Option<(c_int, Counters)>) -> Option<Path> {
        let (fd, before) = watched?;
        Some(Path::of(&counters(fd)?.since(&before)))
    }

    /// The path of the input's bytes so far.
    pub fn input(&self) -> Option<Path> {
        Self::path(self.input)
    }

    fn output(&self) -> Option<Path> {
        Self::path(self.output)
    }

    /// The shares for the progress line: of the input, or of the output.
    pub fn shares(&self) -> String {
        let path = self.input().or_else(|| self.output());
        path.map(|path| path.shares()).unwrap_or_default()
    }
}

/// The summary.
#[derive(Serialize)]
pub struct Report {
    #[serde(skip)]
    begun: Instant,
    #[serde(skip)]
    output_watch: Watch,
    pub files: u64,
    pub failed: u64,
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    seconds_waited_for_input: f64,
    seconds_waited_for_output: f64,
    /// Bytes by the call that copied them.
    calls: BTreeMap<&'static str, u64>,
    /// The path through the zpipe of each input that is one; then their sum.
    #[serde(skip)]
    pub inputs: Vec<Path>,
    input: Option<Path>,
    output: Option<Path>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            output_watch: Watch::new(-1),
            files: 0,
            failed: 0,
            bytes: 0,
            seconds: 0.0,
            bytes_per_second: 0.0,
            seconds_waited_for_input: 0.0,
            seconds_waited_for_output: 0.0,
            calls: BTreeMap::new(),
            inputs: Vec::new(),
            input: None,
            output: None,
        }
    }

    /// Takes over what was measured.
    pub fn finish(&mut self, meter: &Meter) {
        self.bytes = meter.bytes;
        self.seconds = self.begun.elapsed().as_secs_f64();
        self.bytes_per_second = self.bytes as f64 / self.seconds.max(1e-9);
        self.seconds_waited_for_input = meter.waited_for_input.as_secs_f64();
        self.seconds_waited_for_output = meter.waited_for_output.as_secs_f64();
        let calls = Method::ALL
            .iter()
            .zip(meter.by_method)
            .filter(|(_, bytes)| *bytes > 0);
        self.calls = calls
            .map(|(method, bytes)| (method.name(), bytes))
            .collect();
        self.input = self.inputs.iter().copied().reduce(|mut sum, one| {
            sum.add(&one);
            sum
        });
        self.output = self.output_watch.output();
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Some lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let calls = self
            .calls
            .iter()
            .map(|(name, count)| format!("{name} {}", bytes(*count)));
        let calls: Vec<_> = calls.collect();
        let _ = writeln!(
            text,
            "zpipe cat: {} in {:.2} s, {}{}{}",
            bytes(self.bytes),
            self.seconds,
            rate(self.bytes_per_second),
            if calls.is_empty() { "" } else { "; " },
            calls.join(", ")
        );
        let _ = writeln!(
            text,
            "zpipe cat: waited for input {} % of the time, for output {} %",
            percent(self.seconds_waited_for_input, self.seconds),
            percent(self.seconds_waited_for_output, self.seconds)
        );
        for (name, path) in [("input", &self.input), ("output", &self.output)] {
            if let Some(path) = path {
                let _ = writeln!(text, "zpipe cat: path of the {name}: {}", path.shares());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn report() -> Report {
        let mut report = Report::new();
        let mut meter = Meter {
            bytes: 3_000_000,
            waited_for_input: Duration::from_secs(1),
            ..Meter::default()
        };
        meter.by_method[Method::SpliceTo as usize] = 3_000_000;
        let counters = Counters {
            bytes_pulled: 1_000_000,
            bytes_buffered: 1_000_000,
            pages_passed_on: 2,
            ..Counters::default()
        };
        report.inputs = vec![Path::of(&counters), Path::default()];
        report.files = 2;
        report.finish(&meter);
        report
    }

    #[test]
    fn summary_for_people() {
        let text = report().text();
        assert!(text.starts_with("zpipe cat: 3.00 MB in 0.00 s, "), "{text}");
        assert!(text.contains("; splice_to 3.00 MB\n"), "{text}");
        assert!(
            text.contains("path of the input: pulled 50 %, copied 50 %, passed on 8.19 kB\n"),
            "{text}"
        );
        assert!(!text.contains("path of the output"));
    }

    #[test]
    fn summary_for_programs() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["bytes"], 3_000_000);
        assert_eq!((&value["files"], &value["failed"]), (&2.into(), &0.into()));
        assert_eq!(value["calls"]["splice_to"], 3_000_000);
        assert_eq!(value["input"]["pulled"], 1_000_000);
        assert!(value["output"].is_null());
        assert_eq!(value["seconds_waited_for_input"], 1.0);
    }
}
