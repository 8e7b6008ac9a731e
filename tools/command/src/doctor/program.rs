// SPDX-License-Identifier: MIT OR Apache-2.0

//! A check of the library that `zpipe run` loads into programs.

use super::{Check, child::output, root::program};
use crate::{escape, run};
use std::{env, os::unix::ffi::OsStrExt};

/// Is the library there, and does a program start with it?
pub fn library() -> Check {
    const NAME: &str = "library";

    let library = match run::find(env::var_os("ZPIPE_PRELOAD").as_deref()) {
        Ok(library) => library,
        Err(missing) => {
            return Check::bad(NAME, missing.to_string())
                .advise("install the package zpipe, or set ZPIPE_PRELOAD to the library");
        }
    };
    let path = escape::path(&library);
    let Some(probe) = program("true") else {
        return Check::unknown(NAME, format!("{path} is there; no true(1) to try it with"));
    };
    let preload = [b"LD_PRELOAD=", library.as_os_str().as_bytes()].concat();
    match output(&probe, &[], &[&preload], libc::STDERR_FILENO) {
        Err(error) => Check::unknown(
            NAME,
            format!("{path} is there; true(1) does not start: {error}"),
        ),
        // The dynamic linker only warns.
        Ok((done, text)) if !done || !text.is_empty() => {
            let text = String::from_utf8_lossy(&text);
            let first = escape::printable(text.lines().next().unwrap_or(""));
            Check::bad(NAME, format!("{path} does not load: {first}"))
                .advise("install zpipe for this system again")
        }
        Ok(_) => Check::ok(NAME, format!("{path} loads")),
    }
}
