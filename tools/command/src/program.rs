// SPDX-License-Identifier: MIT OR Apache-2.0

//! Looks at a program before it is run: does the library have an effect on it? And is the library
//! one?

use crate::{escape, os::Error};
use std::{
    env,
    ffi::{CString, OsStr},
    fmt,
    fs::{File, Metadata, OpenOptions},
    io,
    mem::MaybeUninit,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

/// The path that execvp(3) searches if there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The interpreters that the kernel follows, before it gives up.
const INTERPRETERS: usize = 5;
/// The length of the first line of a script that the kernel looks at.
const SCRIPT_LINE: usize = 256;

/// The size of a program header of a 64-bit ELF file.
const PROGRAM_HEADER: usize = 56;
/// The limit of the kernel for all program headers, see load_elf_phdrs() in fs/binfmt_elf.c.
const PROGRAM_HEADERS: usize = 65536;

/// Why the library has no effect on a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has no dynamic linker, which would load the library.
    Static,
    /// It is for another architecture than the library.
    Architecture,
    /// It runs with another user or group than this one.
    Privileged,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "statically linked",
            Self::Architecture => "not for x86-64",
            Self::Privileged => "set-user-ID or set-group-ID",
        })
    }
}

/// A program on which the library has no effect.
#[derive(Debug)]
pub struct Unreached {
    program: PathBuf,
    reason: Reason,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, reason } = self;
        write!(
            f,
            "{} is {reason}: its own pipes stay the kernel's",
            escape::path(program)
        )
    }
}

/// Returns the program that execvp(3) would run, if it can be read and the library has no effect
/// on it.
pub fn unreached(command: &OsStr) -> Option<Unreached> {
    let mut program = find(command)?;
    for _ in 0..INTERPRETERS {
        match look(&program)? {
            Kind::Script(interpreter) => program = interpreter,
            Kind::Reached => return None,
            Kind::Unreached(reason) => return Some(Unreached { program, reason }),
        }
    }
    None
}

fn find(command: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let path = env::var_os("PATH").unwrap_or(DEFAULT_PATH.into());
    env::split_paths(&path)
        .map(|dir| dir.join(command))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: The path is a C string.
    let executable = unsafe { libc::access(path.as_ptr(), libc::X_OK) } == 0;
    executable && file.is_file()
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Script(PathBuf),
    Reached,
    Unreached(Reason),
}

fn look(program: &Path) -> Option<Kind> {
    let file = open(program).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut head = [0; SCRIPT_LINE];
    let length = read_at(&file, &mut head, 0)?;
    let head = &head[..length];
    if let Some(line) = head.strip_prefix(b"#!") {
        return interpreter(line).map(Kind::Script);
    }
    if !head.starts_with(b"\x7fELF") {
        // execvp(3) passes it to a shell.
        return Some(Kind::Script("/bin/sh".into()));
    }
    let header = Header::parse(head);
    let reason = match header {
        None => Reason::Architecture,
        _ if is_privileged(&file, &metadata) => Reason::Privileged,
        Some(header) if !header.has_interpreter(&file)? && !is_dynamic_linker(program) => {
            Reason::Static
        }
        _ => return Some(Kind::Reached),
    };
    Some(Kind::Unreached(reason))
}

/// Why a file cannot be the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLibrary {
    Unreadable(Error),
    /// It is something else than a shared object for x86-64.
    Format,
}

impl From<io::Error> for NoLibrary {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

impl fmt::Display for NoLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Format => f.write_str("not a shared library for x86-64"),
        }
    }
}

/// Checks that the dynamic linker could load a library.
pub fn check_library(path: &Path) -> Result<(), NoLibrary> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(NoLibrary::Unreadable(Error(libc::EISDIR)));
    }
    if !metadata.is_file() {
        return Err(NoLibrary::Format);
    }
    let mut head = [0; SCRIPT_LINE];
    let length = read_at(&file, &mut head, 0).ok_or(NoLibrary::Format)?;
    if is_shared_object(&head[..length]) {
        Ok(())
    } else {
        Err(NoLibrary::Format)
    }
}

/// True for the first bytes of a shared object for x86-64. A program may be one, too.
fn is_shared_object(head: &[u8]) -> bool {
    const ET_DYN: [u8; 2] = [3, 0];

    head.starts_with(b"\x7fELF") && Header::parse(head).is_some() && head[16..18] == ET_DYN
}

/// Opens a file to look at it. O_NONBLOCK protects against a FIFO at that path.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Reads until the buffer is full or the file ends. Returns how much there is.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> Option<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file
            .read_at(&mut buffer[length..], at + length as u64)
            .ok()?
        {
            0 => break,
            bytes => length += bytes,
        }
    }
    Some(length)
}

/// Returns the interpreter that the first line of a script names after `#!`.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let word = line
        .split(|byte| b" \t\0".contains(byte))
        .find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(word).into())
}

/// What counts of the header of an ELF file for x86-64.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Where the program headers are, their size, and their number.
    offset: u64,
    size: usize,
    number: usize,
}

impl Header {
    /// None if it is for another architecture.
    fn parse(head: &[u8]) -> Option<Self> {
        const ELFCLASS64: u8 = 2;
        const EM_X86_64: usize = 62;

        let number = |at: usize| {
            let bytes = head.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_le_bytes(bytes)))
        };
        if *head.get(4)? != ELFCLASS64 || number(18)? != EM_X86_64 {
            return None;
        }
        Some(Self {
            offset: u64::from_le_bytes(head.get(32..40)?.try_into().ok()?),
            size: number(54)?,
            number: number(56)?,
        })
    }

    /// True if the file names a dynamic linker. None if it cannot be read.
    fn has_interpreter(&self, file: &File) -> Option<bool> {
        // The kernel takes no others.
        let length = self.size * self.number;
        if self.size != PROGRAM_HEADER || length == 0 || length > PROGRAM_HEADERS {
            return None;
        }
        let mut headers = vec![0; length];
        if read_at(file, &mut headers, self.offset)? < headers.len() {
            return None;
        }
        let interpreter = libc::PT_INTERP.to_le_bytes();
        let mut headers = headers.chunks_exact(self.size);
        Some(headers.any(|header| header.starts_with(&interpreter)))
    }
}

/// A dynamic linker names no other, but loads the library for the program that it runs.
fn is_dynamic_linker(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"ld-") || name.starts_with(b"ld.so")
}

/// True if the program gets another user or group, so that its dynamic linker ignores LD_PRELOAD.
fn is_privileged(file: &File, metadata: &Metadata) -> bool {
    let group = libc::S_ISGID | libc::S_IXGRP;
    // SAFETY: They have no safety requirements.
    let (user_id, group_id) = unsafe { (libc::getuid(), libc::getgid()) };
    let set_user = metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != user_id;
    let set_group = metadata.mode() & group == group && metadata.gid() != group_id;
    (set_user || set_group) && !privileges_are_off(file)
}

fn privileges_are_off(file: &File) -> bool {
    let mut fs = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: It writes to `fs` if it succeeds.
    let nosuid = unsafe {
        libc::fstatvfs(file.as_raw_fd(), fs.as_mut_ptr()) == 0
            && fs.assume_init().f_flag & libc::ST_NOSUID != 0
    };
    // SAFETY: This command has no other arguments.
    nosuid || unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters() {
        let sh = Some(PathBuf::from("/bin/sh"));
        assert_eq!(interpreter(b"/bin/sh\necho"), sh);
        assert_eq!(interpreter(b" \t/bin/sh -e\n"), sh);
        assert_eq!(interpreter(b"/bin/sh"), sh);
        assert_eq!(interpreter(b"\n/bin/sh"), None);
    }

    #[test]
    fn this_program_is_reached() {
        assert_eq!(look(&env::current_exe().unwrap()), Some(Kind::Reached));
        assert_eq!(look(Path::new("/")), None);
        assert_eq!(look(Path::new("/nonexistent")), None);
    }

    #[test]
    fn other_architectures() {
        let mut head = [0; 64];
        head[..5].copy_from_slice(b"\x7fELF\x02");
        head[18] = 62;
        head[32] = 64;
        head[54] = 56;
        head[56] = 13;
        let header = Header {
            offset: 64,
            size: 56,
            number: 13,
        };
        assert_eq!(Header::parse(&head), Some(header));
        assert!(!is_shared_object(&head));
        head[16] = 3;
        assert!(is_shared_object(&head));
        head[0] = 0;
        assert!(!is_shared_object(&head));
        head[0] = 0x7f;
        head[18] = 183;
        assert!(!is_shared_object(&head));
        assert_eq!(Header::parse(&head), None);
        head[18] = 62;
        head[4] = 1;
        assert_eq!(Header::parse(&head), None);
        assert_eq!(Header::parse(&head[..20]), None);
    }

    #[test]
    fn program_headers() {
        let file = File::open(env::current_exe().unwrap()).unwrap();
        let mut head = [0; SCRIPT_LINE];
        read_at(&file, &mut head, 0).unwrap();
        let with = |size, number| {
            let header = Header::parse(&head).unwrap();
            let changed = Header {
                size,
                number,
                ..header
            };
            changed.has_interpreter(&file)
        };
        let number = Header::parse(&head).unwrap().number;
        assert_eq!(with(56, number), Some(true));
        assert!(with(56, 1170).is_some());
        for (size, number) in [
            (55, number),
            (112, number),
            (0, number),
            (56, 0),
            (56, 1171),
        ] {
            assert_eq!(with(size, number), None, "{size} {number}");
        }
        assert_eq!(with(65535, 65535), None);
    }

    #[test]
    fn dynamic_linkers() {
        assert!(is_dynamic_linker(Path::new("/lib64/ld-linux-x86-64.so.2")));
        assert!(is_dynamic_linker(Path::new("/usr/bin/ld.so")));
        assert!(!is_dynamic_linker(Path::new("/usr/bin/ldconfig")));
    }
}
