// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows of a zpipe: memory of the pipe that a process maps.
//!
//! A zpipe is a pipe for bulk data between the processes of one machine, see zpipe(4). A
//! writer fills memory of a [`WriteWindow`] and commits it. A reader peeks at the bytes in
//! a [`ReadWindow`] and consumes them. Whole frames of 2 MiB ([`FRAME`]) are not copied on
//! the way: they leave the writer's window and appear in the reader's. All other bytes are
//! copied. Each end may also use read(2) or write(2), and need not have a window.
//!
//! Writing takes three steps:
//!
//! 1. [`WriteWindow::reserve`] returns a [`Reservation`], which is a `&mut [u8]`.
//! 2. The caller fills it.
//! 3. [`Reservation::commit`] writes it.
//!
//! Reading takes three steps, too:
//!
//! 1. [`ReadWindow::peek`] returns a [`View`], which consists of `&[u8]`.
//! 2. The caller looks at the bytes.
//! 3. [`View::consume`] removes them from the pipe.
//!
//! A committed frame belongs to the reader, and a consumed frame belongs to neither end. So
//! programs that keep a slice longer do not compile.
//!
//! # Example
//!
//! ```
//! use std::{io, thread};
//! use zpipe::window::{FRAME, ReadWindow, WriteWindow};
//!
//! fn main() -> io::Result<()> {
//!     let (read, write) = zpipe::pipe()?;
//!     let writer = thread::spawn(move || -> io::Result<()> {
//!         let mut window = WriteWindow::new(&write, 4 * FRAME)?;
//!         for number in 0..8 {
//!             // Uses the frames in turn: the reader may still have the last ones in view.
//!             let at = number % 4 * FRAME;
//!             let mut frame = window.reserve(at..at + FRAME)?;
//!             frame.fill(number as u8);
//!             let committed = frame.commit_all()?;
//!             println!("{} bytes, {} copied", committed.done, committed.copied);
//!         }
//!         // Dropping the window, and this end of the pipe with it, ends the data.
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
//! # Assumptions
//!
//! A window maps the memory of a descriptor that nobody else gets: it is close-on-exec, and
//! no function of this module gives it away. Other processes can access that memory only as
//! any memory of the process, through `/proc/PID`.
//!
//! A child of fork(2) inherits the descriptor but not the mapping. It must neither use nor
//! drop the window. As long as it has the descriptor, the pipe has this end. So a process
//! makes its windows after fork(2), or forks only to call execve(2), as
//! [`std::process::Command`] does.

#[cfg(feature = "bytes")]
mod bytes;
mod memory;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

#[cfg(feature = "bytes")]
pub use bytes::BytesWindow;
pub use read::{Iter, ReadWindow, View};
pub use write::{CommitError, Committed, Reservation, WriteWindow};

use crate::sys;

/// The size of a frame, 2 MiB: the unit that a window transfers without a copy. In a
/// window, frames begin at multiples of this size.
pub const FRAME: usize = sys::bindings::ZPIPE_FRAME as usize;
