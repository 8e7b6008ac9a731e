// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates the ABI from `include/uapi`, its only definition, with the bindgen command.
//! The module's own build does the same.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let include = here.join("../../include/uapi");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bindings.rs");

    println!("cargo::rerun-if-changed={}", include.display());
    println!("cargo::rerun-if-changed=uapi.h");
    let status = Command::new("bindgen")
        .args([
            "--use-core",
            "--no-layout-tests",
            "--disable-header-comment",
        ])
        .args(["--allowlist-type", "zpipe_.*"])
        .args(["--allowlist-var", "PIPE2|[GS]ET_CAPACITY|SUPER_MAGIC"])
        .args(["--allowlist-var", "SPLICE_TO|SPLICE_FROM|TEE|GIFT|MOVE"])
        .args(["--allowlist-var", "ZPIPE_NONBLOCK|ZPIPE_SPLICE_.*"])
        .args([
            "--allowlist-var",
            "ZPIPE_ANY|ZPIPE_ALWAYS|ZPIPE_RETURN|ZPIPE_FRAME",
        ])
        .arg("--output")
        .arg(out)
        .arg(here.join("uapi.h"))
        .args(["--", "-I"])
        .arg(include)
        .status()
        .expect("the bindgen command is needed (Debian: bindgen)");
    assert!(status.success(), "bindgen failed");
}
