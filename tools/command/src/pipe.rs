// SPDX-License-Identifier: MIT OR Apache-2.0

//! One pipe with all that is known about it, for `zpipe stat` and `zpipe top`.

use crate::{
    counters::{Counters, State},
    pipes::{Id, Kind, Row, Seen, listed_id},
    waits::{self, Blocked, Side},
};
use serde::Serialize;
use std::{collections::BTreeMap, ffi::c_int, io, path::PathBuf};

/// A process with descriptors of a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    pub pid: c_int,
    pub command: String,
    /// The descriptors, and the direction of each.
    pub descriptors: Vec<(c_int, &'static str)>,
}

/// A task that sleeps in a call of a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    pub pid: c_int,
    pub thread: c_int,
    pub command: String,
    pub call: &'static str,
    /// "data" or "space".
    pub needs: &'static str,
    /// The processes that can end the wait: those with the other end.
    pub waits_for: Vec<c_int>,
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pipe {
    pub kind: &'static str,
    pub inode: u64,
    /// The device number of the file system, as stat(2) has it.
    pub device: u64,
    /// The path of a node, or nothing.
    pub path: String,
    pub state: State,
    pub counters: Counters,
    pub holders: Vec<Holder>,
    pub waiting: Vec<Wait>,
    /// False if some holder's tasks could not be seen, so that waits may be missing.
    pub all_waits_seen: bool,
}

impl Pipe {
    /// The name that does not change while the pipe exists.
    pub fn key(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// What people call it.
    pub fn name(&self) -> String {
        if self.path.is_empty() {
            format!("zpipe:[{}]", self.inode)
        } else {
            self.path.clone()
        }
    }

    /// The processes that hold a descriptor for reading, or for writing.
    pub fn with_end(&self, side: Side) -> Vec<&Holder> {
        let wanted = match side {
            Side::Read => "read",
            Side::Write => "write",
        };
        let mut holders: Vec<_> = self.holders.iter().collect();
        holders.retain(|holder| {
            let mut ends = holder.descriptors.iter().map(|(_, end)| *end);
            ends.any(|end| end == wanted || end == "both")
        });
        holders
    }
}

/// Adds a descriptor to those of a pipe.
fn add(pipe: &mut Pipe, row: &Row) {
    let (Some(pid), Some(fd)) = (row.pid, row.fd) else {
        return;
    };
    let index = pipe.holders.iter().position(|holder| holder.pid == pid);
    let index = index.unwrap_or_else(|| {
        pipe.holders.push(Holder {
            pid,
            command: row.command.clone(),
            descriptors: Vec::new(),
        });
        pipe.holders.len() - 1
    });
    pipe.holders[index].descriptors.push((fd, row.end));
}

fn pipe(id: Id, row: &Row, state: State) -> Pipe {
    Pipe {
        kind: id.0.name(),
        inode: id.2,
        device: id.1,
        path: match id.0 {
            Kind::Node => row.path.clone(),
            _ => String::new(),
        },
        state,
        counters: Counters::parse(&row.info),
        holders: Vec::new(),
        waiting: Vec::new(),
        all_waits_seen: true,
    }
}

/// Joins the lines of each pipe. Only lines that show the state of a pipe count.
fn group(rows: &[Row]) -> Vec<Pipe> {
    let mut pipes: BTreeMap<(u64, u64), Pipe> = BTreeMap::new();
    for row in rows {
        let id = match row.id.0 {
            Kind::Pair | Kind::Node | Kind::Pipe => Some(row.id),
            // The lines of windows come last, and each is one of a pipe that may have no other.
            Kind::Window => listed_id(&row.info).map(|(on, inode)| (Kind::Pipe, on, inode)),
            Kind::Control | Kind::List => None,
        };
        let Some((id, state)) = id.zip(State::parse(&row.info)) else {
            continue;
        };
        let pipe = pipes
            .entry((id.1, id.2))
            .or_insert_with(|| pipe(id, row, state));
        add(pipe, row);
    }
    pipes.into_values().collect()
}

/// Adds the sleeping tasks of a process to the pipes that they wait for.
fn add_waits(pipes: &mut [Pipe], pid: c_int, found: &io::Result<Vec<Blocked>>) {
    for pipe in pipes {
        let Some(holder) = pipe.holders.iter().find(|holder| holder.pid == pid) else {
            continue;
        };
        let Ok(found) = found else {
            pipe.all_waits_seen = false;
            continue;
        };
        let here = |one: &&Blocked| holder.descriptors.iter().any(|(fd, _)| *fd == one.fd);
        let waiting = found.iter().filter(here).map(|one| {
            let (needs, other) = match one.side {
                Side::Read => ("data", Side::Write),
                Side::Write => ("space", Side::Read),
            };
            Wait {
                pid,
                thread: one.thread,
                command: holder.command.clone(),
                call: one.call,
                needs,
                waits_for: pipe
                    .with_end(other)
                    .iter()
                    .map(|holder| holder.pid)
                    .collect(),
            }
        });
        let waiting: Vec<_> = waiting.collect();
        pipe.waiting.extend(waiting);
    }
}

/// Returns the pipes behind what was seen, with the tasks that wait for them.
pub fn pipes(seen: &Seen) -> Vec<Pipe> {
    let mut pipes = group(&seen.rows);
    let mut pids: Vec<_> = pipes
        .iter()
        .flat_map(|pipe| &pipe.holders)
        .map(|one| one.pid)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    for pid in pids {
        let found = waits::blocked(&PathBuf::from(format!("/proc/{pid}")));
        add_waits(&mut pipes, pid, &found);
    }
    pipes
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::counters::tests::INFO;

    pub fn row(kind: Kind, inode: u64, end: &'static str, pid: c_int, fd: c_int) -> Row {
        Row {
            id: (kind, 1, inode),
            end,
            slots: "3/16".into(),
            bytes: "12288".into(),
            pid: Some(pid),
            thread: pid,
            fd: Some(fd),
            command: format!("c{pid}"),
            path: String::new(),
            info: INFO.into(),
        }
    }

    /// A pipe between two processes: 10 writes to descriptor 1, and 11 reads from 0.
    pub fn sample() -> Vec<Pipe> {
        group(&[
            row(Kind::Pair, 77, "read", 11, 0),
            row(Kind::Pair, 77, "write", 10, 1),
            row(Kind::Pair, 77, "write", 10, 5),
            row(Kind::Node, 78, "both", 10, 6),
        ])
    }

    #[test]
    fn lines_of_a_pipe_are_joined() {
        let pipes = sample();
        assert_eq!(pipes.len(), 2);
        assert_eq!(pipes[0].name(), "zpipe:[77]");
        assert_eq!(
            pipes[0].holders[1].descriptors,
            [(1, "write"), (5, "write")]
        );
        let pids = |side| {
            pipes[0]
                .with_end(side)
                .iter()
                .map(|one| one.pid)
                .collect::<Vec<_>>()
        };
        assert_eq!((pids(Side::Read), pids(Side::Write)), (vec![11], vec![10]));
        assert_eq!(
            pipes[1].with_end(Side::Read),
            pipes[1].with_end(Side::Write)
        );
    }

    #[test]
    fn windows_are_ends_of_their_pipe() {
        let mut window = row(Kind::Window, 79, "read", 10, 7);
        assert_eq!(group(&[window.clone()]), []);
        // The device number is that of the other lines.
        window.info = format!("zpipe-inode:\t77\nzpipe-device:\t0:1\n{INFO}");
        let pipes = group(&[row(Kind::Pair, 77, "write", 11, 5), window.clone()]);
        assert_eq!((pipes.len(), pipes[0].kind), (1, "pair"));
        assert_eq!(pipes[0].holders[1].descriptors, [(7, "read")]);
        let pipes = group(&[window]);
        assert_eq!((pipes[0].kind, pipes[0].inode), ("pipe", 77));
    }

    #[test]
    fn who_waits_for_whom() {
        let mut pipes = sample();
        let write = |fd| Blocked {
            thread: 12,
            fd,
            side: Side::Write,
            call: "write",
        };
        add_waits(&mut pipes, 10, &Ok(vec![write(1), write(9)]));
        let waiting = &pipes[0].waiting;
        assert_eq!(waiting.len(), 1);
        assert_eq!(
            (waiting[0].pid, waiting[0].thread, waiting[0].needs),
            (10, 12, "space")
        );
        assert_eq!(waiting[0].waits_for, [11]);
        assert_eq!(pipes[1].waiting, []);
        assert!(pipes[0].all_waits_seen);
        add_waits(
            &mut pipes,
            11,
            &Err(io::Error::from_raw_os_error(libc::EPERM)),
        );
        assert!(!pipes[0].all_waits_seen && pipes[1].all_waits_seen);
    }
}
