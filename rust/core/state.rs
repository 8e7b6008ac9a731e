// SPDX-License-Identifier: GPL-2.0-only

//! What can be told of a pipe from its counts: who may go on, and what poll says.
//!
//! It follows `pipe_readable()`, `pipe_writable()` and `pipe_poll()`.

/// What a file may do with its pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The file reads.
    pub(crate) read: bool,
    /// The file writes.
    pub(crate) write: bool,
}

/// The counts of a pipe at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Slots that hold data.
    pub(crate) used: u32,
    /// Slots that may be used.
    pub(crate) limit: u32,
    /// Files open for reading, those included that still wait in open.
    pub(crate) readers: u32,
    /// Files open for writing, those included that still wait in open.
    pub(crate) writers: u32,
    /// How often the pipe was opened for reading. Wraps.
    pub(crate) reader_opens: u32,
    /// How often the pipe was opened for writing. Wraps.
    pub(crate) writer_opens: u32,
}

/// What poll says of a file, in words; the caller knows the bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There is something to read.
    pub(crate) input: bool,
    /// There is room to write.
    pub(crate) output: bool,
    /// Nobody writes, and somebody did since this file was opened.
    pub(crate) hang_up: bool,
    /// Nobody reads.
    pub(crate) error: bool,
}

impl State {
    /// Whether a read would not wait: there is data, or nobody will ever write any.
    pub(crate) fn readable(&self) -> bool {
        self.used != 0 || self.writers == 0
    }

    /// Whether a write would not wait: there is a free slot, or nobody reads.
    pub(crate) fn writable(&self) -> bool {
        !self.full() || self.readers == 0
    }

    /// Whether no slot is free.
    pub(crate) fn full(&self) -> bool {
        self.used >= self.limit
    }

    /// What poll says of a file with `access`.
    ///
    /// `unseen` is the value of `writer_opens` when the file was opened if there was no writer
    /// then: as long as it has not changed, hanging up is not reported.
    pub(crate) fn ready(&self, access: Access, unseen: Option<u32>) -> Ready {
        Ready {
            input: access.read && self.used != 0,
            output: access.write && !self.full(),
            hang_up: access.read && self.writers == 0 && unseen != Some(self.writer_opens),
            error: access.write && self.readers == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Access = Access {
        read: true,
        write: false,
    };
    const WRITER: Access = Access {
        read: false,
        write: true,
    };

    const IDLE: State = State {
        used: 0,
        limit: 16,
        readers: 1,
        writers: 1,
        reader_opens: 1,
        writer_opens: 1,
    };

    #[test]
    fn an_idle_pipe_is_writable_only() {
        assert!(!IDLE.readable());
        assert!(IDLE.writable());
        assert_eq!(IDLE.ready(READER, None), Ready::default());
        assert_eq!(
            IDLE.ready(WRITER, None),
            Ready {
                output: true,
                ..Ready::default()
            }
        );
    }

    #[test]
    fn a_full_pipe_is_readable_only() {
        let full = State { used: 16, ..IDLE };
        assert!(full.readable());
        assert!(!full.writable());
        assert!(full.ready(READER, None).input);
        assert!(!full.ready(WRITER, None).output);
    }

    #[test]
    fn a_pipe_shrunk_below_its_use_is_full() {
        let shrunk = State {
            used: 5,
            limit: 4,
            ..IDLE
        };
        assert!(!shrunk.writable());
    }

    #[test]
    fn without_writers_a_read_ends_and_poll_hangs_up() {
        let eof = State { writers: 0, ..IDLE };
        assert!(eof.readable());
        assert_eq!(
            eof.ready(READER, None),
            Ready {
                hang_up: true,
                ..Ready::default()
            }
        );
    }

    #[test]
    fn hanging_up_waits_for_the_first_writer() {
        let opened = State { writers: 0, ..IDLE };
        let unseen = Some(opened.writer_opens);
        assert!(!opened.ready(READER, unseen).hang_up);

        let come_and_gone = State {
            writer_opens: opened.writer_opens.wrapping_add(1),
            ..opened
        };
        assert!(come_and_gone.ready(READER, unseen).hang_up);
    }

    #[test]
    fn without_readers_a_write_fails_and_poll_errs() {
        let broken = State {
            used: 16,
            readers: 0,
            ..IDLE
        };
        assert!(broken.writable());
        assert_eq!(
            broken.ready(WRITER, None),
            Ready {
                error: true,
                ..Ready::default()
            }
        );
    }
}
