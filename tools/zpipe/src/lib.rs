// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pipe for bulk data between the processes of one machine: zpipe(4), a Linux kernel module.
//!
//! [`pipe()`] makes a private pipe, as `std::io::pipe` does. Its ends, [`PipeReader`] and
//! [`PipeWriter`], have what the ends of the standard library have. [`pipe_or_std()`] is for
//! machines that may lack the module. [`Builder`] sets flags and the capacity, and opens nodes such
//! as `/dev/zpipe`.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! fn main() -> std::io::Result<()> {
//!     let (mut reader, mut writer) = zpipe::pipe()?;
//!     writer.write_all(b"hello")?;
//!     drop(writer);
//!     let mut text = String::new();
//!     reader.read_to_string(&mut text)?;
//!     assert_eq!(text, "hello");
//!     Ok(())
//! }
//! ```
//!
//! Programs that are made for zpipe can avoid all copies:
//!
//! - [`PipeWriter::gift`] gives the memory of a [`HugeBuffer`] away, and [`PipeReader::move_into`]
//!   takes such memory.
//! - [`window`] has memory of a pipe that a process maps. A writer fills it in place, and a reader
//!   looks at it in place.
//!
//! # Features
//!
//! - `bytes`: spans of a read window as `bytes::Bytes`, see `window::BytesWindow`.
//! - `tokio`: ends for asynchronous programs, see the module `tokio`.
//! - `io-uring`: entries for io_uring(7), see the module `io_uring`.
//!
//! None of them is on by default. Two modules have the names of the crates that they are for. So
//! `use zpipe::*` makes these names ambiguous: import what is needed instead.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod builder;
mod end;
mod huge;
#[cfg(feature = "io-uring")]
pub mod io_uring;
mod range;
mod reader;
mod sys;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transfer;
pub mod window;
mod writer;

pub use builder::Builder;
pub use end::Rejected;
pub use huge::{HUGE_PAGE, HugeBuffer};
pub use reader::PipeReader;
pub use transfer::{GiftError, GiftFlags, Gifted, MoveFlags, Reason, Transfer};
pub use writer::PipeWriter;

use std::io;

/// Makes a private pipe. Both descriptors are close-on-exec.
///
/// ```
/// use std::process::{Command, Stdio};
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, writer) = zpipe::pipe()?;
/// Command::new("echo").arg("hello").stdout(writer).status()?;
/// assert_eq!(std::io::read_to_string(reader)?, "hello\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As pipe2(2), and as open(2) of `/dev/zpipe-control` if zpipe is not loaded.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    Builder::new().pipe()
}

/// Makes a private pipe with zpipe, or else one of the kernel's own, with pipe2(2).
///
/// The ends have the same functions. [`PipeReader::is_zpipe`] tells which one it is. The kernel's
/// pipe copies all bytes, and cannot have windows.
///
/// ```
/// use std::io::{Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let (mut reader, mut writer) = zpipe::pipe_or_std()?;
/// if !writer.is_zpipe() {
///     eprintln!("zpipe is not loaded: this will be slower");
/// }
/// writer.write_all(b"hello")?;
/// let mut bytes = [0; 5];
/// reader.read_exact(&mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As pipe2(2).
pub fn pipe_or_std() -> io::Result<(PipeReader, PipeWriter)> {
    Builder::new().pipe_or_std()
}
