// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs a program and takes what it writes.
//!
//! `std::process` would make all of zpipe need the C library of the system that it was built on: it
//! uses new functions where it finds them.

use crate::os::Error;
use std::{
    ffi::{CString, c_char, c_int},
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

fn terminated(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error(libc::EINVAL))
}

/// The addresses of strings, and null.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Runs a program with arguments, and with nothing but these entries as its environment. Returns
/// true if it succeeded, and what it wrote to this standard descriptor. The others are /dev/null.
pub fn output(
    program: &Path,
    arguments: &[&Path],
    environment: &[&[u8]],
    descriptor: c_int,
) -> Result<(bool, Vec<u8>), Error> {
    let words = std::iter::once(&program).chain(arguments);
    let words: Result<Vec<_>, _> = words
        .map(|word| terminated(word.as_os_str().as_bytes()))
        .collect();
    let entries: Result<Vec<_>, _> = environment.iter().map(|entry| terminated(entry)).collect();
    let (words, entries) = (words?, entries?);
    let (words, entries) = (pointers(&words), pointers(&entries));
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: The descriptors are new, and ours.
    let [read, write] = zpipe_uapi::sys::pipe()?.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });

    // SAFETY: The child makes only system calls until it is another program.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(Error::last()),
        // SAFETY: The descriptors are open, and the lists end with null.
        0 => unsafe {
            for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                let from = if fd == descriptor {
                    write.as_raw_fd()
                } else {
                    null.as_raw_fd()
                };
                libc::dup2(from, fd);
            }
            libc::execve(words[0], words.as_ptr(), entries.as_ptr());
            libc::_exit(127)
        },
        child => child,
    };
    drop(write);
    let mut written = Vec::new();
    let read = File::from(read).read_to_end(&mut written);
    let mut status = -1;
    // SAFETY: It writes the status of our child.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0
        && Error::last() == Error(libc::EINTR)
    {}
    read?;
    Ok((status == 0, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_writes() {
        let shell = Path::new("/bin/sh");
        let run = |script: &str, descriptor| {
            output(
                shell,
                &["-c".as_ref(), script.as_ref()],
                &[b"A=b"],
                descriptor,
            )
        };
        assert_eq!(run("echo $A; echo c >&2", 1), Ok((true, b"b\n".to_vec())));
        assert_eq!(
            run("echo $A; echo c >&2; exit 3", 2),
            Ok((false, b"c\n".to_vec()))
        );
        let missing = output(Path::new("/nonexistent"), &[], &[], 1);
        assert_eq!(missing, Ok((false, Vec::new())));
    }
}
