// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state and the counters of a pipe, as /proc/PID/fdinfo and the module's list of pipes show
//! them. zpipe(4), "Counters", describes each of them.

use serde::Serialize;

/// The size of a huge page, and of a frame of a window.
const HUGE: u64 = 2 << 20;
/// The size of a page.
pub const PAGE: u64 = 4096;

/// Finds a value in a file with names and values, such as /proc/PID/fdinfo/N.
pub fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim())
    })
}

/// Finds a number in such a file.
fn number(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}

/// What a pipe holds at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// The capacity in bytes.
    pub capacity: u64,
    pub slots: u64,
    pub used_slots: u64,
    /// The bytes that FIONREAD announces.
    pub announced: u64,
    pub buffer_only: bool,
    /// Open files that read, and that write.
    pub readers: u64,
    pub writers: u64,
    /// Huge pages that the pipe keeps as replacements for gifted ones.
    pub kept_huge_pages: u64,
}

impl State {
    /// Parses the lines of a pipe. None if they are of another file.
    pub fn parse(info: &str) -> Option<Self> {
        let (used, slots) = value(info, "zpipe-slots")?.split_once('/')?;
        let slots = slots.parse().ok()?;
        let or_zero = |name| number(info, name).unwrap_or(0);
        Some(Self {
            capacity: slots * PAGE,
            slots,
            used_slots: used.parse().ok()?,
            announced: or_zero("zpipe-buffered"),
            buffer_only: or_zero("zpipe-buffer-only") != 0,
            readers: or_zero("zpipe-readers"),
            writers: or_zero("zpipe-writers"),
            kept_huge_pages: or_zero("zpipe-homes"),
        })
    }
}

/// Declares the counters: the name of each field is that of the kernel with underscores.
macro_rules! counters {
    ($($field:ident $name:literal)*) => {
        /// The counters of a pipe since it was made, or in an interval.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters { $(pub $field: u64,)* }

        impl Counters {
            /// Parses the lines of a pipe. A module of another version may lack some.
            pub fn parse(info: &str) -> Self {
                Self { $($field: number(info, concat!("zpipe-", $name)).unwrap_or(0),)* }
            }

            /// Returns what was counted since `before`. If a counter was larger then, that was
            /// another pipe with the same number, and this one began with zeros.
            pub fn since(&self, before: &Self) -> Self {
                if $(self.$field < before.$field)||* {
                    return *self;
                }
                Self { $($field: self.$field - before.$field,)* }
            }
        }
    };
}

counters! {
    bytes_written "bytes-written"
    bytes_read "bytes-read"
    bytes_buffered "bytes-buffered"
    writes "writes"
    reads "reads"
    write_waits "write-waits"
    read_waits "read-waits"
    write_faults "write-faults"
    read_faults "read-faults"
    posted_writes "posted-writes"
    posted_reads "posted-reads"
    bytes_pulled "bytes-pulled"
    pulls "pulls"
    pull_misses_busy "pull-misses-busy"
    pull_misses_mapping "pull-misses-mapping"
    pull_misses_page "pull-misses-page"
    bytes_pushed "bytes-pushed"
    pushes "pushes"
    push_misses_busy "push-misses-busy"
    push_misses_mapping "push-misses-mapping"
    push_misses_page "push-misses-page"
    gifts "gifts"
    gift_clears "gift-clears"
    moves "moves"
    small_gifts "small-gifts"
    small_moves "small-moves"
    frames_sent "frames-sent"
    frames_shown "frames-shown"
    pages_passed_on "pages-passed-on"
}

/// The ways that bytes took into a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// Readers copied them from a writer's memory.
    pub pulled: u64,
    /// Writers copied them to a reader's memory.
    pub pushed: u64,
    /// They left a writer's memory in whole pages or frames, without a copy. A frame counts in
    /// full, even if it is not full.
    pub moved: u64,
    /// They were copied to pages of the pipe.
    pub copied: u64,
}

impl Paths {
    /// Sorts the bytes of an interval.
    ///
    /// It does not use `bytes_written`, which does not contain the bytes of a write that goes on.
    pub fn of(counters: &Counters) -> Self {
        Self {
            pulled: counters.bytes_pulled,
            pushed: counters.bytes_pushed,
            moved: (counters.gifts + counters.frames_sent) * HUGE + counters.small_gifts * PAGE,
            copied: counters.bytes_buffered,
        }
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.pulled + self.pushed + self.moved + self.copied
    }

    /// The names, and the bytes, in the order of tables.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("pulled", self.pulled),
            ("pushed", self.pushed),
            ("moved", self.moved),
            ("copied", self.copied),
        ]
    }
}

/// Returns why bytes were copied to pages of the pipe, as far as the counters tell: the reasons,
/// and how often each one occurred.
pub fn reasons(state: &State, counters: &Counters) -> Vec<(&'static str, u64)> {
    let unposted = counters.writes.saturating_sub(counters.posted_writes);
    let all = [
        ("the pipe is buffer-only", u64::from(state.buffer_only)),
        (
            "writes that never posted their memory: short, or with free slots",
            if counters.bytes_buffered > 0 {
                unposted
            } else {
                0
            },
        ),
        (
            "direct copies ended: the other address space was busy",
            counters.pull_misses_busy + counters.push_misses_busy,
        ),
        (
            "direct copies ended: nothing mapped there, or only for its owner",
            counters.pull_misses_mapping + counters.push_misses_mapping,
        ),
        (
            "direct copies ended: a page was not resident",
            counters.pull_misses_page + counters.push_misses_page,
        ),
        (
            "gifted huge pages that no reader moved: read with a copy, or still in the pipe",
            counters.gifts.saturating_sub(counters.moves),
        ),
        (
            "frames that no window showed: read with a copy, or still in the pipe",
            counters.frames_sent.saturating_sub(counters.frames_shown),
        ),
    ];
    all.into_iter().filter(|(_, times)| *times > 0).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const INFO: &str = "pos:\t0\nflags:\t0100001\nmnt_id:\t15\nino:\t77\n\
        zpipe-slots:\t3/16\nzpipe-buffered:\t12288\nzpipe-buffer-only:\t1\nzpipe-readers:\t1\n\
        zpipe-writers:\t2\nzpipe-homes:\t0\nzpipe-bytes-written:\t20000\n\
        zpipe-bytes-read:\t8000\nzpipe-bytes-buffered:\t15000\nzpipe-writes:\t4\n\
        zpipe-posted-writes:\t1\nzpipe-bytes-pulled:\t5000\nzpipe-pulls:\t1\n\
        zpipe-pull-misses-page:\t7\n";

    #[test]
    fn values_have_whole_names() {
        assert_eq!(value(INFO, "zpipe-slots"), Some("3/16"));
        assert_eq!(value(INFO, "slots"), None);
    }

    #[test]
    fn state_of_a_pipe() {
        let state = State::parse(INFO).unwrap();
        assert_eq!((state.used_slots, state.slots), (3, 16));
        assert_eq!((state.capacity, state.announced), (65536, 12288));
        assert_eq!((state.readers, state.writers), (1, 2));
        assert!(state.buffer_only);
        assert_eq!(State::parse("pos:\t0\n"), None);
    }

    #[test]
    fn counters_of_an_interval() {
        let before = Counters::parse(INFO);
        let after =
            Counters::parse(&INFO.replace("5000\nzpipe-pulls:\t1", "9000\nzpipe-pulls:\t3"));
        let between = after.since(&before);
        assert_eq!((between.bytes_pulled, between.pulls), (4000, 2));
        assert_eq!(between.bytes_read, 0);
        // A pipe that was made anew at the same inode.
        assert_eq!(Counters::default().since(&before), Counters::default());
        let anew = Counters {
            bytes_written: 30_000,
            ..Counters::default()
        };
        assert_eq!(anew.since(&before), anew);
    }

    #[test]
    fn paths_of_bytes() {
        let mut counters = Counters::parse(INFO);
        counters.gifts = 1;
        counters.small_gifts = 2;
        counters.frames_sent = 3;
        let paths = Paths::of(&counters);
        assert_eq!((paths.pulled, paths.pushed, paths.copied), (5000, 0, 15000));
        assert_eq!(paths.moved, 4 * HUGE + 2 * PAGE);
        assert_eq!(paths.total(), 20000 + paths.moved);
    }

    #[test]
    fn reasons_for_copies() {
        let found = reasons(&State::parse(INFO).unwrap(), &Counters::parse(INFO));
        let times: Vec<_> = found.iter().map(|(_, times)| *times).collect();
        assert_eq!(times, [1, 3, 7]);
        assert!(found[2].0.ends_with("not resident"));
    }
}
