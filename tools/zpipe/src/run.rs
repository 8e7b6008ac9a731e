// SPDX-License-Identifier: MIT OR Apache-2.0

//! `zpipe run`: replaces itself with a program that has the library in `LD_PRELOAD`.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

/// The subcommand.
pub const NAME: &str = "run";
/// Exit status: zpipe failed and did not try to run the program. These three are env(1)'s.
pub const FAILED: u8 = 125;
/// Exit status: the program exists but does not start.
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
                .help("Do not say so when zpipe is not there"),
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
enum Missing {
    /// The library is at none of these paths.
    Library(Vec<PathBuf>),
    /// `LD_PRELOAD` cannot hold this path.
    Path(PathBuf),
    /// No pair can be made.
    Device(io::Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(places) => {
                write!(f, "there is no {LIBRARY}; looked for")?;
                for place in places {
                    write!(f, " {}", place.display())?;
                }
                Ok(())
            }
            Self::Path(path) => {
                write!(
                    f,
                    "LD_PRELOAD takes no spaces or colons: {}",
                    path.display()
                )
            }
            Self::Device(error) => {
                write!(f, "{}: {error}", zpipe_uapi::CONTROL.to_string_lossy())
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

fn find(chosen: Option<&OsStr>) -> Result<PathBuf, Missing> {
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
    Ok(path)
}

/// Returns LD_PRELOAD with `library` before its present entries.
fn preload(library: &Path, before: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    for entry in before
        .unwrap_or_default()
        .as_bytes()
        .split(|byte| b" \t\n:".contains(byte))
    {
        if !entry.is_empty() && entry != library.as_os_str().as_bytes() {
            list.push(":");
            list.push(OsStr::from_bytes(entry));
        }
    }
    list
}

/// Checks that a pair can be made.
fn try_device() -> Result<(), Missing> {
    match zpipe_uapi::pipe2(libc::O_CLOEXEC) {
        Ok(pair) => {
            pair.map(zpipe_uapi::sys::close);
            Ok(())
        }
        Err(error) => Err(Missing::Device(io::Error::from_raw_os_error(error.0))),
    }
}

/// Replaces this program by the given one. Returns only if that fails.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let mut words = matches
        .get_many::<OsString>("command")
        .expect("clap requires it");
    let name = words.next().expect("clap requires one");
    let mut program = process::Command::new(name);
    program.args(words);

    let library = find(env::var_os("ZPIPE_PRELOAD").as_deref());
    match library.and_then(|library| try_device().map(|()| library)) {
        Ok(library) => {
            let before = env::var_os("LD_PRELOAD");
            program.env("LD_PRELOAD", preload(&library, before.as_deref()));
        }
        Err(missing) if matches.get_flag("require") => {
            eprintln!("zpipe: {missing}");
            return FAILED.into();
        }
        Err(missing) => {
            if !matches.get_flag("quiet") {
                eprintln!("zpipe: {missing}: running without");
            }
        }
    }

    let error = program.exec();
    eprintln!("zpipe: {}: {error}", Path::new(name).display());
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND.into(),
        _ => NOT_STARTED.into(),
    }
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
