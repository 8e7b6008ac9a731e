// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe doctor`: checks whether zpipe works on this machine, and says what to do if not.
//!
//! It needs no rights. What it may not see is "unknown".

mod child;
mod device;
mod key;
mod module;
mod object;
mod program;
mod root;

use crate::os;
use clap::{ArgMatches, Command};
use root::Root;
use serde::Serialize;
use std::fmt::Write;

/// The subcommand.
pub const NAME: &str = "doctor";
/// Exit status: something is missing.
const FAILED: u8 = 1;

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Checks whether zpipe works here, and says what to do if not")
        .defer(|command| {
            command
                .arg(crate::json_option())
                .after_help("Exit status: 0 if all is well or unknown, 1 if something is missing")
        })
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    /// It works, but not in full.
    Warn,
    Bad,
    /// This user may not see it.
    Unknown,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    name: &'static str,
    health: Health,
    found: String,
    /// What to do, or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
}

impl Check {
    fn new(name: &'static str, health: Health, found: impl Into<String>) -> Self {
        Self {
            name,
            health,
            found: found.into(),
            advice: String::new(),
        }
    }

    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Health::Ok, found)
    }

    pub fn warn(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Health::Warn, found)
    }

    pub fn bad(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Health::Bad, found)
    }

    pub fn unknown(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Health::Unknown, found)
    }

    /// Says what to do.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn line(&self) -> String {
        let health = match self.health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Bad => "BAD",
            Health::Unknown => "unknown",
        };
        let mut line = format!("{health:7} {:11} {}", self.name, self.found);
        if !self.advice.is_empty() {
            let _ = write!(line, "; {}", self.advice);
        }
        line.push('\n');
        line
    }
}

/// All results.
#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Makes all checks, in the order in which things depend on each other.
fn examine(root: &Root) -> Vec<Check> {
    let kernel = root.kernel();
    let installed = module::find(root, &kernel);
    let mut checks = vec![
        module::kernel(root, &kernel),
        module::dkms(root, &kernel),
        module::installed(root, &kernel, installed.as_ref()),
        key::signature(root, installed.as_ref()),
        key::enforcement(root, installed.as_ref()),
        module::loaded(root),
        module::matches(root, installed.as_ref()),
    ];
    checks.extend(device::nodes(root));
    checks.push(device::group(root));
    checks.push(device::rule(root));
    checks.push(device::huge_pages(root, &kernel));
    if root.is_system() {
        checks.push(device::pair());
        checks.push(program::library());
    }
    checks
}

/// Checks, and prints the results. Returns the exit status.
pub fn run(matches: &ArgMatches) -> u8 {
    let root = Root::new(None);
    let checks = examine(&root);
    let ok = checks.iter().all(|check| check.health != Health::Bad);
    let printed = if matches.get_flag("json") {
        os::print_json(&Report { ok, checks }, FAILED)
    } else {
        let mut text: String = checks.iter().map(Check::line).collect();
        let bad = checks
            .iter()
            .filter(|check| check.health == Health::Bad)
            .count();
        if bad > 0 {
            let _ = writeln!(text, "\n{bad} of {} checks are bad.", checks.len());
        }
        os::print(&text, FAILED)
    };
    printed.max(if ok { 0 } else { FAILED })
}

#[cfg(test)]
mod tests {
    use super::{root::tests::Tree, *};

    fn health(tree: &Tree, name: &str) -> (Health, String) {
        let checks = examine(&tree.root());
        let check = checks.iter().find(|check| check.name == name).unwrap();
        (check.health, check.line())
    }

    #[test]
    fn a_machine_without_anything() {
        let tree = Tree::new("nothing");
        tree.write("proc/sys/kernel/osrelease", "7.3.4+deb13-amd64\n");
        for name in ["module", "loaded", "/dev/zpipe"] {
            assert_eq!(health(&tree, name).0, Health::Bad, "{name}");
        }
        let (_, line) = health(&tree, "module");
        assert!(
            line.starts_with("BAD     module      ") && line.contains("; "),
            "{line}"
        );
    }

    #[test]
    fn a_machine_with_everything() {
        let tree = Tree::new("everything");
        tree.write("proc/sys/kernel/osrelease", "7.3.4+deb13-amd64\n");
        tree.write(
            "lib/modules/7.3.4+deb13-amd64/updates/dkms/zpipe.ko",
            object::tests::SIGNED,
        );
        tree.write(
            "sys/module/zpipe/notes/.note.gnu.build-id",
            object::tests::NOTE,
        );
        tree.write("sys/module/zpipe/taint", "O\n");
        tree.write(
            "sys/kernel/security/lockdown",
            "[none] integrity confidentiality\n",
        );
        tree.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        );
        for (name, text) in [
            ("kernel", "7.3.4+deb13-amd64"),
            ("module", "updates/dkms/zpipe.ko"),
            ("signature", "signed by DKMS key"),
            ("secure boot", "off"),
            ("loaded", "loaded"),
            ("match", "4142"),
            ("huge pages", "always"),
        ] {
            let (health, line) = health(&tree, name);
            assert_eq!(health, Health::Ok, "{line}");
            assert!(line.contains(text), "{line}");
        }
    }

    #[test]
    fn another_kernel_and_another_module() {
        let tree = Tree::new("another");
        tree.write("proc/sys/kernel/osrelease", "6.12.0-amd64\n");
        tree.write("lib/modules/7.3.4+deb13-amd64/extra/zpipe.ko", "");
        assert_eq!(health(&tree, "kernel").0, Health::Warn);
        let (bad, line) = health(&tree, "module");
        assert!(
            bad == Health::Bad && line.contains("7.3.4+deb13-amd64"),
            "{line}"
        );
        tree.write(
            "lib/modules/6.12.0-amd64/updates/zpipe.ko",
            object::tests::UNSIGNED,
        );
        let other = object::tests::NOTE.to_ascii_lowercase();
        let other = [&object::tests::NOTE[..16], &other[16..]].concat();
        tree.write("sys/module/zpipe/notes/.note.gnu.build-id", other);
        tree.write(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        let (bad, line) = health(&tree, "match");
        assert!(bad == Health::Bad && line.contains("6162"), "{line}");
        let (bad, line) = health(&tree, "secure boot");
        assert!(bad == Health::Bad && line.contains("not signed"), "{line}");
    }

    #[test]
    fn results_for_programs() {
        let tree = Tree::new("json");
        let checks = examine(&tree.root());
        let text = serde_json::to_string(&Report { ok: false, checks }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(value["checks"][0]["name"], "kernel");
        assert!(value["checks"][0]["health"].is_string());
    }
}
