// SPDX-License-Identifier: MIT OR Apache-2.0

//! Helpers of the integration tests. tests/library.sh runs them in the guest.

// Each test program uses some of them.
#![allow(dead_code)]

use std::{env, fs, io, sync::mpsc, thread, time::Duration};
use zpipe::{Builder, HUGE_PAGE, HugeBuffer, PipeReader, PipeWriter};

/// A kind of pipe: a zpipe, or one of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Zpipe,
    Kernel,
}

impl Kind {
    pub fn build(self, builder: &Builder) -> (PipeReader, PipeWriter) {
        let (reader, writer) = match self {
            Self::Zpipe => builder.pipe(),
            // It runs where the module is not available.
            Self::Kernel => builder.pipe_or_std(),
        }
        .unwrap();
        assert_eq!(reader.is_zpipe(), self == Self::Zpipe);
        assert_eq!(writer.is_zpipe(), self == Self::Zpipe);
        (reader, writer)
    }

    pub fn pipe(self) -> (PipeReader, PipeWriter) {
        self.build(&Builder::new())
    }

    /// True if this kernel moves huge pages through this pipe.
    pub fn moves(self) -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
        self == Self::Zpipe && version >= (7, 3) && env::var_os("ZPIPE_NO_MOVES").is_none()
    }
}

/// Makes a test of each function over a zpipe, and over a pipe of the kernel's own.
#[macro_export]
macro_rules! for_both {
    ($($test:ident,)*) => {
        mod zpipe_ {
            $(#[test] fn $test() { super::$test($crate::common::Kind::Zpipe); })*
        }
        mod kernel {
            $(#[test] fn $test() { super::$test($crate::common::Kind::Kernel); })*
        }
    };
}

/// Byte `at` of a stream without a short period.
pub fn stream(at: usize) -> u8 {
    (at as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_be_bytes()[0]
}

pub fn bytes(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(stream).collect()
}

/// A buffer with the bytes of the stream.
pub fn filled(pages: usize) -> HugeBuffer {
    let mut buffer = HugeBuffer::new(pages * HUGE_PAGE).unwrap();
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = stream(at);
    }
    buffer
}

/// Runs a function in a thread, and fails if it takes too long.
pub fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    receiver
        .recv_timeout(Duration::from_secs(60))
        .expect("in time")
}

pub fn errno<T>(result: io::Result<T>) -> Option<rustix::io::Errno> {
    result
        .err()
        .as_ref()
        .and_then(rustix::io::Errno::from_io_error)
}
