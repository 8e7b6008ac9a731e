// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes and threads in /proc: which of them have files.

use std::{
    ffi::c_int,
    fs,
    path::{Path, PathBuf},
};

/// Returns /proc/PID/stat or that of a thread. The name in it may be of any bytes.
pub fn stat(dir: &Path) -> String {
    let stat = fs::read(dir.join("stat")).unwrap_or_default();
    String::from_utf8_lossy(&stat).into_owned()
}

/// Returns the words of a stat file from the state on. The name before may contain anything.
fn words_of(stat: &str) -> Vec<&str> {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').collect()
}

/// Returns the state: a letter, or nothing if the task is gone.
pub fn state(stat: &str) -> &str {
    words_of(stat)[0]
}

/// Returns true for processes and threads that have ended.
fn has_ended(stat: &str) -> bool {
    matches!(state(stat), "" | "Z" | "X")
}

/// Returns false for threads of the kernel, and for processes that have ended.
pub fn can_have_files(stat: &str) -> bool {
    /// PF_KTHREAD of the kernel.
    const KTHREAD: u64 = 0x0020_0000;

    let flags = words_of(stat)
        .get(6)
        .and_then(|flags| flags.parse().ok())
        .unwrap_or(0_u64);
    !has_ended(stat) && flags & KTHREAD == 0
}

/// Returns the directory in /proc, and the number, of a thread that has the files of a process.
/// That is the main thread, unless it has ended before the others.
pub fn live_task(dir: &Path, pid: c_int) -> (PathBuf, c_int) {
    let others = || {
        fs::read_dir(dir.join("task")).ok()?.find_map(|entry| {
            let entry = entry.ok()?;
            let thread = entry.file_name().to_str()?.parse().ok()?;
            (!has_ended(&stat(&entry.path()))).then(|| (entry.path(), thread))
        })
    };
    let other = if has_ended(&stat(dir)) {
        others()
    } else {
        None
    };
    other.unwrap_or_else(|| (dir.into(), pid))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A directory as in /proc, which is removed at the end.
    pub struct Process(pub PathBuf);

    impl Process {
        pub fn new(name: &str, stat: &[u8]) -> Self {
            let dir = format!("zpipe-{name}-{}", std::process::id());
            let process = Self(std::env::temp_dir().join(dir));
            process.task("", stat);
            process
        }

        fn task(&self, task: &str, stat: &[u8]) {
            let dir = self.0.join(task);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), stat).unwrap();
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn processes_that_can_have_files() {
        let stat = |name: &str, state: &str, flags: u64| {
            format!("7 ({name}) {state} 1 7 7 0 -1 {flags} 0 0\n")
        };
        assert!(can_have_files(&stat("a b) Z 1", "S", 0x0040_0000)));
        assert!(!can_have_files(&stat("S 1", "Z", 0)));
        assert!(!can_have_files(&stat("kthreadd", "S", 0x0020_8040)));
        assert!(!can_have_files(""));
    }

    #[test]
    fn a_main_thread_that_ended_has_no_files() {
        // The name is not UTF-8.
        let process = Process::new("ended", b"7 (\xff) Z 1 7\n");
        assert_eq!(live_task(&process.0, 7), (process.0.clone(), 7));
        process.task("task/7", b"7 (\xff) Z 1 7\n");
        assert_eq!(live_task(&process.0, 7), (process.0.clone(), 7));
        process.task("task/9", b"9 (\xff) S 1 7\n");
        assert_eq!(live_task(&process.0, 7), (process.0.join("task/9"), 9));
        process.task("", b"7 (\xff) S 1 7\n");
        assert_eq!(live_task(&process.0, 7), (process.0.clone(), 7));
    }
}
