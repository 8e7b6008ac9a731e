// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows of a zpipe: memory of the pipe that a process maps.
//!
//! A zpipe is a pipe for bulk data between the processes of one machine, see zpipe(4). Who writes
//! to it fills memory of a [`WriteWindow`] and commits it, and who reads looks at the bytes in a
//! [`ReadWindow`] and consumes them. Whole frames of 2 MiB ([`FRAME`]) are not copied on the way:
//! they leave the one window and are shown in the other. All other bytes are copied. Either end
//! may also be used with read(2) and write(2), and need not have a window.
//!
//! Bytes are written in three steps: [`WriteWindow::reserve`] gives a [`Reservation`], which is a
//! `&mut [u8]`; the caller fills it; [`Reservation::commit`] writes it. They are read in three
//! steps, too: [`ReadWindow::peek`] gives a [`View`], which consists of `&[u8]`; the caller looks
//! at them; [`View::consume`] reads them. A committed frame belongs to the reader and a consumed
//! one to nobody, so the compiler refuses programs that keep a slice for longer.
//!
//! # Example
//!
//! ```no_run
//! use std::{io, thread};
//! use zpipe_window::{FRAME, ReadWindow, WriteWindow, pair};
//!
//! fn main() -> io::Result<()> {
//!     let (read, write) = pair()?;
//!     let writer = thread::spawn(move || -> io::Result<()> {
//!         let mut window = WriteWindow::new(&write, 4 * FRAME)?;
//!         for number in 0..8 {
//!             // Frames in turn: the reader may still look at the last ones.
//!             let at = number % 4 * FRAME;
//!             let mut frame = window.reserve(at..at + FRAME)?;
//!             frame.fill(number as u8);
//!             let committed = frame.commit_all()?;
//!             println!("{} bytes, {} copied", committed.done, committed.copied);
//!         }
//!         // The end of the data, as the window is dropped and so is this end of the pipe.
//!         Ok(())
//!     });
//!
//!     let mut window = ReadWindow::new(&read, 4 * FRAME)?;
//!     loop {
//!         let view = window.peek(0)?;
//!         if view.is_empty() {
//!             break;
//!         }
//!         for span in &view {
//!             println!("{} bytes, the first is {}", span.len(), span[0]);
//!         }
//!         view.consume_all()?;
//!     }
//!     writer.join().expect("the writer does not panic")
//! }
//! ```
//!
//! # What the windows rely on
//!
//! A window maps the memory of a descriptor that nobody else gets: it is close-on-exec, and no
//! function here gives it away. Others can come by that memory only as they could by any of the
//! process, through `/proc/PID`.
//!
//! A child of fork(2) inherits the descriptor and not the mapping: it must neither use nor drop
//! the window, and for as long as it has the descriptor, the pipe has this end. A process makes its
//! windows after it has forked, or forks to call execve(2), as [`std::process::Command`] does.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod read;
mod sys;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Iter, ReadWindow, View};
pub use write::{Committed, Reservation, WriteWindow};

use std::{io, os::fd::OwnedFd};

/// The bytes of a frame, 2 MiB: what moves without a copy. In a window they begin at multiples
/// of this.
pub const FRAME: usize = sys::bindings::ZPIPE_FRAME as usize;

/// Makes a private pipe and returns its read end and its write end, both close-on-exec.
///
/// # Errors
///
/// As pipe2(2), and those of open(2) where there is no zpipe.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    sys::pair()
}
