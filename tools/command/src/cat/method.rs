// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ways to copy bytes from one descriptor to another, and which of them to try.

use crate::os::Error;
use std::{ffi::c_int, mem::MaybeUninit, ptr};

/// What matters of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Zpipe,
    /// A pipe of the kernel.
    Pipe,
    Regular,
    Socket,
    Other,
}

impl File {
    /// Returns what a descriptor is of.
    pub fn of(fd: c_int) -> Self {
        if zpipe_uapi::is_zpipe(fd) {
            return Self::Zpipe;
        }
        match status(fd).map(|status| status.st_mode & libc::S_IFMT) {
            Some(libc::S_IFIFO) => Self::Pipe,
            Some(libc::S_IFREG) => Self::Regular,
            Some(libc::S_IFSOCK) => Self::Socket,
            _ => Self::Other,
        }
    }
}

/// fstat(2).
pub fn status(fd: c_int) -> Option<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: It writes the struct if it succeeds.
    unsafe { (libc::fstat(fd, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// A way to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `ZPIPE_IOC_SPLICE_TO`.
    SpliceTo,
    /// `ZPIPE_IOC_SPLICE_FROM`.
    SpliceFrom,
    Splice,
    Sendfile,
    CopyFileRange,
    /// Through memory of this process.
    ReadWrite,
}

impl Method {
    /// The methods, as reports list them.
    pub const ALL: [Self; 6] = [
        Self::SpliceTo,
        Self::SpliceFrom,
        Self::Splice,
        Self::Sendfile,
        Self::CopyFileRange,
        Self::ReadWrite,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SpliceTo => "splice_to",
            Self::SpliceFrom => "splice_from",
            Self::Splice => "splice",
            Self::Sendfile => "sendfile",
            Self::CopyFileRange => "copy_file_range",
            Self::ReadWrite => "read_write",
        }
    }

    /// Returns the methods to try for these files, the best one first. The last one always works.
    ///
    /// Others are only for files that lose no bytes by them:
    /// - A call on a socket may take the error of the socket, or a datagram in part.
    /// - The data of a terminal can end more than once.
    /// - A pipe of the kernel would refer to the pages of a regular file, which may change before
    ///   they are read.
    pub fn of(input: File, output: File) -> &'static [Self] {
        use File::{Other, Pipe, Regular, Zpipe};
        match (input, output) {
            (Zpipe | Pipe, Pipe) | (Pipe, Zpipe | Regular) => &[Self::Splice, Self::ReadWrite],
            (Zpipe, Regular | Other) => &[Self::SpliceTo, Self::ReadWrite],
            (Regular, Zpipe) => &[Self::SpliceFrom, Self::ReadWrite],
            (Regular, Regular) => &[Self::CopyFileRange, Self::Sendfile, Self::ReadWrite],
            _ => &[Self::ReadWrite],
        }
    }

    /// Copies at most `bytes` bytes, and returns their number. [`Self::ReadWrite`] has calls of its
    /// own.
    pub fn call(self, input: c_int, output: c_int, bytes: usize) -> Result<usize, Error> {
        let (none, nowhere) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: The calls access no memory of this process.
        let copied = unsafe {
            match self {
                Self::SpliceTo => {
                    return Ok(zpipe_uapi::splice_to(input, output, None, bytes, 0)?);
                }
                Self::SpliceFrom => {
                    return Ok(zpipe_uapi::splice_from(output, input, None, bytes, 0)?);
                }
                Self::Splice => libc::splice(input, none, output, nowhere, bytes, 0),
                Self::Sendfile => libc::sendfile(output, input, ptr::null_mut(), bytes),
                Self::CopyFileRange => {
                    libc::copy_file_range(input, none, output, nowhere, bytes, 0)
                }
                Self::ReadWrite => return Err(Error(libc::EINVAL)),
            }
        };
        usize::try_from(copied).map_err(|_| Error::last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn kinds_of_files() {
        let of = |path: &str| File::of(std::fs::File::open(path).unwrap().as_raw_fd());
        assert_eq!(of("Cargo.toml"), File::Regular);
        assert_eq!(of("/dev/null"), File::Other);
        assert_eq!(File::of(-1), File::Other);
        let [read, write] = zpipe_uapi::sys::pipe().unwrap();
        assert_eq!((File::of(read), File::of(write)), (File::Pipe, File::Pipe));
        [read, write].map(zpipe_uapi::sys::close);
    }

    #[test]
    fn methods_of_files() {
        use File::{Other, Pipe, Regular, Socket, Zpipe};
        let with_call: [(File, File, &[Method]); 8] = [
            (Zpipe, Pipe, &[Method::Splice]),
            (Pipe, Pipe, &[Method::Splice]),
            (Pipe, Zpipe, &[Method::Splice]),
            (Pipe, Regular, &[Method::Splice]),
            (Zpipe, Regular, &[Method::SpliceTo]),
            (Zpipe, Other, &[Method::SpliceTo]),
            (Regular, Zpipe, &[Method::SpliceFrom]),
            (Regular, Regular, &[Method::CopyFileRange, Method::Sendfile]),
        ];
        let all = [Zpipe, Pipe, Regular, Socket, Other];
        for (input, output) in all.iter().flat_map(|one| all.map(|other| (*one, other))) {
            let (last, others) = Method::of(input, output).split_last().unwrap();
            assert_eq!(*last, Method::ReadWrite);
            let wanted = with_call
                .iter()
                .find(|(from, to, _)| (*from, *to) == (input, output));
            let wanted = wanted.map_or(&[][..], |(_, _, methods)| methods);
            assert_eq!(others, wanted, "{input:?} to {output:?}");
        }
    }
}
