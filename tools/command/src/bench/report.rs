// SPDX-License-Identifier: MIT OR Apache-2.0

//! The results as a table, and as JSON.

use super::{end::Way, machine::Machine};
use crate::units::binary;
use serde::Serialize;
use std::fmt::Write;

/// A cell of the table: a way, and a size of messages.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub way: Way,
    pub size: usize,
    /// In bytes per second, as all rates.
    pub median: f64,
    pub rounds: Vec<f64>,
    #[serde(skip)]
    pub failure: Option<String>,
}

impl Cell {
    pub fn new(way: Way, size: usize) -> Self {
        Self {
            way,
            size,
            median: 0.0,
            rounds: Vec::new(),
            failure: None,
        }
    }
}

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// The part of a message that both ends access: "page" or "line".
    touched: &'static str,
    pub results: Vec<Cell>,
    pub failures: Vec<String>,
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl Report {
    /// Takes the cells that were measured. A failure is told once for each way and reason.
    pub fn new(cells: &mut Vec<Cell>, touch: bool) -> Self {
        let mut failures = Vec::new();
        for cell in &mut *cells {
            cell.median = median(&cell.rounds);
            if let Some(reason) = &cell.failure {
                let text = format!("{}: {reason}", cell.way.name());
                if !failures.contains(&text) {
                    failures.push(text);
                }
            }
        }
        cells.retain(|cell| cell.failure.is_none());
        Self {
            machine: Machine::this(),
            touched: if touch { "line" } else { "page" },
            results: std::mem::take(cells),
            failures,
        }
    }

    /// The sizes, and the ways with results.
    pub fn axes(&self) -> (Vec<usize>, Vec<Way>) {
        let mut sizes: Vec<_> = self.results.iter().map(|cell| cell.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let ways = Way::ALL.into_iter();
        let ways = ways.filter(|way| self.results.iter().any(|cell| cell.way == *way));
        (sizes, ways.collect())
    }

    pub fn cell(&self, way: Way, size: usize) -> Option<&Cell> {
        self.results
            .iter()
            .find(|cell| (cell.way, cell.size) == (way, size))
    }

    /// The table: the medians in MB/s.
    pub fn text(&self) -> String {
        let (sizes, ways) = self.axes();
        let mut text = format!("{}\n", self.machine.title());
        let _ = writeln!(
            text,
            "MB/s, the median of {} rounds; both ends access each {} of a message",
            self.results
                .iter()
                .map(|cell| cell.rounds.len())
                .max()
                .unwrap_or(0),
            if self.touched == "line" {
                "cache line"
            } else {
                "page"
            }
        );
        let _ = write!(text, "\n{:>9}", "message");
        for way in &ways {
            let _ = write!(text, " {:>12}", way.name());
        }
        text.push('\n');
        for size in sizes {
            let _ = write!(text, "{:>9}", binary(size as u64));
            for way in &ways {
                let cell = self
                    .cell(*way, size)
                    .map(|cell| format!("{:.0}", cell.median / 1e6));
                let _ = write!(text, " {:>12}", cell.unwrap_or_else(|| "-".into()));
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn report() -> Report {
        let cell = |way, size, rounds: &[f64]| Cell {
            rounds: rounds.into(),
            ..Cell::new(way, size)
        };
        let failed = |size| Cell {
            failure: Some("No such device".into()),
            ..Cell::new(Way::Zpipe, size)
        };
        let mut cells = vec![
            cell(Way::Pipe, 4096, &[1e8, 3e8, 2e8]),
            cell(Way::Pipe, 4 << 20, &[5e8]),
            cell(Way::Gift, 4 << 20, &[9e9, 1e9, 8e9]),
            failed(4096),
            failed(4 << 20),
        ];
        Report::new(&mut cells, false)
    }

    #[test]
    fn the_table() {
        let report = report();
        assert_eq!(report.failures, ["zpipe: No such device"]);
        let text = report.text();
        let table = text.split_once("\n\n").unwrap().1;
        assert_eq!(
            table,
            "  message         pipe   zpipe-gift\n    4 KiB          200            -\n    \
             4 MiB          500         8000\n"
        );
        assert!(text.contains("MB/s, the median of 3 rounds; both ends access each page"));
    }

    #[test]
    fn results_for_programs() {
        let text = serde_json::to_string(&report()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["results"][2]["way"], "zpipe-gift");
        assert_eq!(value["results"][2]["median"], 8e9);
        assert_eq!(value["touched"], "page");
        assert!(value["machine"]["kernel"].is_string());
    }
}
