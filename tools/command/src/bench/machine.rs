// SPDX-License-Identifier: MIT OR Apache-2.0

//! What figures belong to: the machine, its kernel, and the command.

use serde::Serialize;
use std::{env, fs, thread};

/// The machine and the command.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub processors: usize,
    pub command: String,
}

/// The name of the processor in /proc/cpuinfo.
fn model(info: &str) -> Option<&str> {
    info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim())
    })
}

impl Machine {
    /// Asks the system.
    pub fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let words = env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned());
        let words: Vec<_> = std::iter::once("zpipe".into()).chain(words).collect();
        Self {
            kernel: kernel.trim().into(),
            processor: model(&info).unwrap_or("unknown processor").into(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            command: words.join(" "),
        }
    }

    /// The title of results.
    pub fn title(&self) -> String {
        format!(
            "Linux {}, {}, {} processors; {}",
            self.kernel, self.processor, self.processors, self.command
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let machine = Machine::this();
        assert!(!machine.kernel.is_empty() && machine.processors > 0);
        assert!(machine.title().contains(&machine.kernel));
        assert_eq!(model("vendor_id\t: x\nmodel name\t: A B\n"), Some("A B"));
        assert_eq!(model(""), None);
    }
}
