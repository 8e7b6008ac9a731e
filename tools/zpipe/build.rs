// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates the ABI from `include/uapi`, its only definition, with the bindgen command.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let include = here.join("../../include/uapi");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bindings.rs");

    println!("cargo::rerun-if-changed={}", include.display());
    println!("cargo::rerun-if-changed=uapi.h");
    let types = "zpipe_(pipe2|window|reserve|commit|view|peek|consume)";
    let constants = "PIPE2|WINDOW|RESERVE|COMMIT|PEEK|CONSUME|SUPER_MAGIC\
                     |ZPIPE_(FRAME|MORE|NONBLOCK|VIEW_PACKET|WINDOW_(READ|WRITE))";
    let status = Command::new("bindgen")
        .args([
            "--use-core",
            "--no-layout-tests",
            "--disable-header-comment",
            "--no-doc-comments",
            "--with-derive-default",
        ])
        .args(["--allowlist-type", types])
        .args(["--allowlist-var", constants])
        .arg("--output")
        .arg(out)
        .arg(here.join("uapi.h"))
        .args(["--", "-I"])
        .arg(include)
        .status()
        .expect("the bindgen command is needed (Debian: bindgen)");
    assert!(status.success(), "bindgen failed");
}
