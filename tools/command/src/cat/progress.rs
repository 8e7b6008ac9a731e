// SPDX-License-Identifier: MIT OR Apache-2.0

//! The progress line of a terminal.

use super::{copy::Meter, report::Watch};
use crate::{os, units::percent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// How often the line changes.
const PERIOD: Duration = Duration::from_millis(250);

/// The line, if there is one.
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    /// When it changed.
    shown: Option<Instant>,
}

/// True if this process may write to the terminal of standard error: it is in the foreground, and
/// its output is not there, too.
fn has_terminal() -> bool {
    // SAFETY: The calls only ask.
    let foreground = unsafe { libc::tcgetpgrp(libc::STDERR_FILENO) == libc::getpgrp() };
    foreground && !std::io::stdout().is_terminal()
}

impl Progress {
    /// No line.
    pub fn none() -> Self {
        Self {
            bar: None,
            begun: Instant::now(),
            shown: None,
        }
    }

    /// A line if standard error is a terminal.
    pub fn new(size: Option<u64>) -> Self {
        let mut progress = Self::none();
        if has_terminal() {
            let template = match size {
                Some(_) => {
                    "{decimal_bytes} {decimal_bytes_per_sec} [{bar:20}] {percent} % ETA {eta} {wide_msg}"
                }
                None => "{decimal_bytes} {decimal_bytes_per_sec} {elapsed} {wide_msg}",
            };
            let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            // Each change would draw the line, so it is shown when it is complete.
            bar.set_draw_target(ProgressDrawTarget::stderr());
            progress.bar = Some(bar);
        }
        progress
    }

    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows what was measured, and the path of the bytes so far.
    pub fn show(&mut self, meter: &Meter, watch: &mut Watch) {
        let Some(bar) = &self.bar else {
            return;
        };
        // No thread draws it, since a user may have too many of them already.
        if self.shown.is_none_or(|shown| shown.elapsed() >= PERIOD) {
            self.shown = Some(Instant::now());
            bar.set_message(message(meter, self.begun.elapsed(), watch));
            bar.set_position(meter.bytes);
            bar.tick();
        }
    }

    /// Writes a message above the line.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| os::say_all(text)),
            None => os::say_all(text),
        }
    }

    /// Removes the line.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The end of the line: the main paths, and the waits.
fn message(meter: &Meter, elapsed: Duration, watch: &mut Watch) -> String {
    let mut text = watch.shares();
    for (name, waited) in [
        ("input", meter.waited_for_input),
        ("output", meter.waited_for_output),
    ] {
        let share = percent(waited.as_secs_f64(), elapsed.as_secs_f64());
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&format!("waits for {name} {share} %"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_the_line() {
        let meter = Meter {
            waited_for_input: Duration::from_secs(1),
            ..Meter::default()
        };
        // Descriptor -1 is no zpipe.
        let text = message(&meter, Duration::from_secs(4), &mut Watch::new(-1));
        assert_eq!(text, "waits for input 25 %, waits for output 0 %");
    }

    #[test]
    fn without_a_line_nothing_is_shown() {
        let mut progress = Progress::none();
        progress.show(&Meter::default(), &mut Watch::new(-1));
        assert!(!progress.is_shown());
    }
}
