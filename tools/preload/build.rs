// SPDX-License-Identifier: GPL-2.0-only

//! What the linker is told of the library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzpipe_preload.so");
    // Everything is resolved when it is loaded: resolving takes locks.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
}
