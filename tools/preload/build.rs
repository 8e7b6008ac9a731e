// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passes the linker options of the library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzpipe_preload.so");
    // The address of an own function is its own, also in a program with a function of this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
    // All symbols are resolved when the library is loaded, because resolving takes locks.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
}
