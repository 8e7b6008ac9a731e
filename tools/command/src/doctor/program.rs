// SPDX-License-Identifier: MIT OR Apache-2.0

//! A check of the library that `zpipe run` loads into programs.

use super::{Check, root::program};
use crate::run;
use std::{
    env,
    process::{Command, Stdio},
};

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
    let path = library.display();
    let Some(probe) = program("true") else {
        return Check::unknown(NAME, format!("{path} is there; no true(1) to try it with"));
    };
    let output = Command::new(probe)
        .env("LD_PRELOAD", &library)
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Check::unknown(
            NAME,
            format!("{path} is there; true(1) does not start: {error}"),
        ),
        // The dynamic linker only warns.
        Ok(output) if !output.status.success() || !output.stderr.is_empty() => {
            let text = String::from_utf8_lossy(&output.stderr);
            Check::bad(
                NAME,
                format!(
                    "{path} does not load: {}",
                    text.lines().next().unwrap_or("")
                ),
            )
            .advise("install zpipe for this system again")
        }
        Ok(_) => Check::ok(NAME, format!("{path} loads")),
    }
}
