// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe run`: replaces itself with a program that has the library in `LD_PRELOAD`.

use crate::{
    FAILED, escape, module,
    os::{Error, say},
    program,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::{
    env,
    ffi::{CStr, CString, OsStr, OsString, c_char},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    ptr,
};

/// The subcommand.
pub const NAME: &str = "run";
/// Exit status: the program exists but does not start. These two are env(1)'s.
const NOT_STARTED: u8 = 126;
/// Exit status: the program was not found.
const NOT_FOUND: u8 = 127;

const LIBRARY: &str = "libzpipe_preload.so";
/// The directory in which the library was installed, if not near this program.
const LIBDIR: Option<&str> = option_env!("ZPIPE_LIBDIR");

/// The command line of the subcommand.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Runs a program whose pipes are zpipe's")
        .arg(
            Arg::new("quiet")
                .short('q')
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("Do not say so when zpipe is not there, or without effect on COMMAND"),
        )
        .arg(
            Arg::new("require")
                .short('r')
                .long("require")
                .action(ArgAction::SetTrue)
                .help("Fail when zpipe is not there"),
        )
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString))
                .help("The program and its arguments"),
        )
        .after_help("Exit status: 125 if zpipe fails, 126 and 127 if COMMAND does not start or is not found, else COMMAND's")
}

/// The reason why the program's pipes are not zpipe's.
#[derive(Debug)]
pub enum Missing {
    /// The library is at none of these paths.
    Library(Vec<PathBuf>),
    /// This is no library that a program for x86-64 could load.
    NoLibrary(PathBuf, program::NoLibrary),
    /// `LD_PRELOAD` cannot hold this path.
    Path(PathBuf),
    /// No pair can be made.
    Device(Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(places) => {
                write!(f, "there is no {LIBRARY}; looked for")?;
                for place in places {
                    write!(f, " {}", escape::path(place))?;
                }
                Ok(())
            }
            Self::NoLibrary(path, reason) => write!(f, "{}: {reason}", escape::path(path)),
            Self::Path(path) => {
                write!(
                    f,
                    "LD_PRELOAD takes no spaces or colons: {}",
                    escape::path(path)
                )
            }
            Self::Device(error) => {
                write!(f, "{}: {error}", zpipe_uapi::CONTROL.to_string_lossy())?;
                match error.0 {
                    libc::ENOENT | libc::ENXIO | libc::ENODEV if !module::is_loaded() => {
                        write!(f, "; {}", module::LOAD_IT)
                    }
                    libc::ENOENT => {
                        f.write_str("; the kernel module is loaded, but this /dev lacks its device")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The paths at which the library may be: the one that the user chose, or else beside this
/// program and where it was installed.
fn places(chosen: Option<&OsStr>, program: Option<&Path>) -> Vec<PathBuf> {
    if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
        return vec![chosen.into()];
    }
    let beside = program.and_then(Path::parent);
    let mut places = Vec::new();
    places.extend(beside.map(|dir| dir.join(LIBRARY)));
    places.extend(beside.map(|dir| dir.join("../lib/zpipe").join(LIBRARY)));
    places.extend(LIBDIR.map(|dir| Path::new(dir).join(LIBRARY)));
    places
}

/// Finds the library: the one that the user chose, or the one that was installed.
pub fn find(chosen: Option<&OsStr>) -> Result<PathBuf, Missing> {
    let program = env::current_exe().ok();
    let places = places(chosen, program.as_deref());
    // An absolute path, because the program may start others in other directories.
    let Some(path) = places.iter().find_map(|place| place.canonicalize().ok()) else {
        return Err(Missing::Library(places));
    };
    // Characters that separate entries of LD_PRELOAD. A dollar would be expanded.
    if path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" \t\n:$".contains(byte))
    {
        return Err(Missing::Path(path));
    }
    match program::check_library(&path) {
        Ok(()) => Ok(path),
        Err(reason) => Err(Missing::NoLibrary(path, reason)),
    }
}

/// Returns true if the library of LD_PRELOAD insists on being the first: AddressSanitizer's.
fn goes_first(entry: &[u8]) -> bool {
    let name = entry
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    name.starts_with(b"libasan.so") || name.starts_with(b"libclang_rt.asan")
}

/// Returns LD_PRELOAD with `library` before its present entries, except those that go first.
fn preload(library: &Path, before: Option<&OsStr>) -> OsString {
    let library = library.as_os_str().as_bytes();
    let entries = before
        .unwrap_or_default()
        .as_bytes()
        .split(|byte| b" \t\n:".contains(byte))
        .filter(|entry| !entry.is_empty() && *entry != library);
    let (mut list, others): (Vec<_>, Vec<_>) = entries.partition(|entry| goes_first(entry));
    list.push(library);
    list.extend(others);
    OsString::from_vec(list.join(&b':'))
}

/// Checks that a pair can be made.
fn try_device() -> Result<(), Missing> {
    match zpipe_uapi::pipe2(libc::O_CLOEXEC) {
        Ok(pair) => {
            pair.map(zpipe_uapi::sys::close);
            Ok(())
        }
        Err(error) => Err(Missing::Device(error.into())),
    }
}

/// The environment of this process with LD_PRELOAD set to `list`. All other entries stay, in their
/// order, whatever they look like.
fn environment(list: &CStr) -> Vec<*const c_char> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }

    let mut entries = Vec::new();
    // SAFETY: This process has one thread, and does not change its environment.
    let mut next = unsafe { environ };
    // SAFETY: The last entry is null. Without an environment there may be none.
    while !next.is_null() && unsafe { !next.read().is_null() } {
        // SAFETY: It is not the last entry.
        let entry = unsafe { next.read() };
        // SAFETY: It is a C string.
        if !unsafe { CStr::from_ptr(entry) }
            .to_bytes()
            .starts_with(b"LD_PRELOAD=")
        {
            entries.push(entry);
        }
        // SAFETY: It is not the last entry.
        next = unsafe { next.add(1) };
    }
    entries.push(list.as_ptr());
    entries.push(ptr::null());
    entries
}

/// Replaces this program. Returns only if that fails.
fn execute(words: &[&CStr], list: Option<&CStr>) -> Error {
    let mut arguments: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());
    // SAFETY: The lists and their C strings are valid, and end with null.
    unsafe {
        match list {
            None => libc::execvp(arguments[0], arguments.as_ptr()),
            Some(list) => {
                let environment = environment(list);
                libc::execvpe(arguments[0], arguments.as_ptr(), environment.as_ptr())
            }
        }
    };
    Error::last()
}

/// Replaces this program by the given one. Returns only if that fails.
///
/// The process stays as it was, except for LD_PRELOAD: COMMAND inherits the signals, descriptors
/// and limits with which zpipe was started.
pub fn run(matches: &ArgMatches) -> u8 {
    let words: Vec<&OsString> = matches
        .get_many("command")
        .expect("clap requires it")
        .collect();
    let quiet = matches.get_flag("quiet");

    let library = find(env::var_os("ZPIPE_PRELOAD").as_deref());
    let list = match library.and_then(|library| try_device().map(|()| library)) {
        Ok(library) => {
            if let Some(unreached) = program::unreached(words[0]).filter(|_| !quiet) {
                say(unreached);
            }
            let mut entry = OsString::from("LD_PRELOAD=");
            entry.push(preload(&library, env::var_os("LD_PRELOAD").as_deref()));
            Some(terminated(entry))
        }
        Err(missing) if matches.get_flag("require") => {
            say(missing);
            return FAILED;
        }
        Err(missing) => {
            if !quiet {
                say(format_args!("{missing}: running without"));
            }
            None
        }
    };

    let name = words[0];
    let words: Vec<_> = words.into_iter().cloned().map(terminated).collect();
    let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
    let error = execute(&words, list.as_deref());
    say(format_args!("{}: {error}", escape::path(name)));
    match error.0 {
        libc::ENOENT => NOT_FOUND,
        _ => NOT_STARTED,
    }
}

/// All strings here come from C strings, so they have no zeros inside.
fn terminated(string: OsString) -> CString {
    CString::new(string.into_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preloaded(before: &str) -> OsString {
        preload(Path::new("/lib/z.so"), Some(before.as_ref()))
    }

    #[test]
    fn library_comes_before_others() {
        assert_eq!(preload(Path::new("/lib/z.so"), None), "/lib/z.so");
        assert_eq!(preloaded(""), "/lib/z.so");
        assert_eq!(preloaded("/a.so"), "/lib/z.so:/a.so");
        assert_eq!(preloaded(" /a.so  b.so:c.so"), "/lib/z.so:/a.so:b.so:c.so");
    }

    #[test]
    fn address_sanitizer_stays_first() {
        assert_eq!(
            preloaded("/a.so:/usr/lib/libasan.so.8"),
            "/usr/lib/libasan.so.8:/lib/z.so:/a.so"
        );
        assert_eq!(preloaded("libasan.so:b.so"), "libasan.so:/lib/z.so:b.so");
        assert_eq!(preloaded("/libasan.so/b.so"), "/lib/z.so:/libasan.so/b.so");
    }

    #[test]
    fn only_once() {
        assert_eq!(preloaded("/lib/z.so"), "/lib/z.so");
        assert_eq!(preloaded("/a.so:/lib/z.so:/b.so"), "/lib/z.so:/a.so:/b.so");
    }

    #[test]
    fn chosen_place_is_the_only_one() {
        let program = Some(Path::new("/usr/bin/zpipe"));
        assert_eq!(
            places(Some("/x.so".as_ref()), program),
            [Path::new("/x.so")]
        );
        let usual = places(None, program);
        assert_eq!(usual[0], Path::new("/usr/bin/libzpipe_preload.so"));
        assert_eq!(
            usual[1],
            Path::new("/usr/bin/../lib/zpipe/libzpipe_preload.so")
        );
        assert_eq!(places(Some("".as_ref()), program), usual);
    }

    #[test]
    fn missing_library_is_named() {
        let missing = find(Some("/nonexistent/z.so".as_ref())).unwrap_err();
        assert!(
            missing
                .to_string()
                .ends_with("looked for /nonexistent/z.so")
        );
    }

    #[test]
    fn other_files_are_no_library() {
        for (path, reason) in [
            ("/", "Is a directory"),
            ("/dev/null", "not a shared library for x86-64"),
            ("/proc/self/status", "not a shared library for x86-64"),
        ] {
            let missing = find(Some(path.as_ref())).unwrap_err().to_string();
            assert!(missing.ends_with(reason), "{missing}");
        }
    }

    #[test]
    fn options_of_the_command_are_left_to_it() {
        let matches = command().get_matches_from(["run", "-q", "ls", "-l", "--require", "--", "x"]);
        let words: Vec<_> = matches.get_many::<OsString>("command").unwrap().collect();
        assert_eq!(words, ["ls", "-l", "--require", "--", "x"]);
        assert!(matches.get_flag("quiet") && !matches.get_flag("require"));

        let matches = command().get_matches_from(["run", "--", "-x", "-q"]);
        let words: Vec<_> = matches.get_many::<OsString>("command").unwrap().collect();
        assert_eq!(words, ["-x", "-q"]);
        assert!(!matches.get_flag("quiet"));
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(
            command()
                .try_get_matches_from(["run", "--nonsense", "true"])
                .is_err()
        );
        assert!(command().try_get_matches_from(["run", "-q"]).is_err());
    }
}
