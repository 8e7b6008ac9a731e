// SPDX-License-Identifier: MIT OR Apache-2.0

//! `ZPIPE_EXCEPT`: programs whose pipes stay the kernel's.
//!
//! The variable is a list of names, with colons between them. A program is in the list if one of
//! the names is the last part of one of these paths:
//!
//! - that which execve(2) was given: of a script, this is the script;
//! - `/proc/self/exe`: of a script, this is the interpreter, and links are resolved.
//!
//! The variable is read once, when the library is initialised. Without it, this makes no system
//! call. Initialisers of other libraries may run before. Their pipes are the kernel's, since it is
//! not known yet whether the program is in the list.

use core::{
    ffi::c_char,
    mem::MaybeUninit,
    slice,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use zpipe_uapi::sys;

/// The start of the environment's entry.
const ENTRY: &[u8] = b"ZPIPE_EXCEPT=";

/// True if this program is in the list, and before [`load`].
static EXCEPTED: AtomicBool = AtomicBool::new(true);

/// Returns true if the pipes of this program stay the kernel's.
#[inline]
pub(crate) fn is_excepted() -> bool {
    EXCEPTED.load(Relaxed)
}

/// Returns true if the last part of `path` is in `list`.
fn lists(list: &[u8], path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    !name.is_empty()
        && list
            .split(|byte| *byte == b':')
            .any(|entry| equal(entry, name))
}

/// Compares without memcmp(3), because the library may not need the C library's.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Returns the bytes of a C string, without strlen(3).
///
/// # Safety
///
/// It is valid as long as the result is used.
unsafe fn bytes<'a>(string: *const c_char) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: By this function's safety requirements. The string ends with the first zero.
    while unsafe { string.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: As above.
    unsafe { slice::from_raw_parts(string.cast(), length) }
}

/// Reads the variable of the environment `envp`. `started_as` is the path that execve(2) was given.
///
/// # Safety
///
/// Each of them is null, or valid as long as nobody changes the environment.
pub(crate) unsafe fn load(envp: *const *const c_char, started_as: *const c_char) {
    // SAFETY: By this function's safety requirements.
    let list = unsafe { find(envp) };
    // SAFETY: By this function's safety requirements.
    let excepted = list.is_some_and(|list| unsafe { is_in(list, started_as) });
    EXCEPTED.store(excepted, Relaxed);
}

/// Returns true if this program is in `list`.
///
/// # Safety
///
/// As for [`load`].
unsafe fn is_in(list: &[u8], started_as: *const c_char) -> bool {
    // SAFETY: By this function's safety requirements.
    if !started_as.is_null() && lists(list, unsafe { bytes(started_as) }) {
        return true;
    }
    let mut path = [MaybeUninit::uninit(); libc::PATH_MAX as usize];
    sys::read_link(c"/proc/self/exe", &mut path).is_ok_and(|path| lists(list, path))
}

/// Returns the value of the variable.
///
/// # Safety
///
/// As for [`load`].
unsafe fn find<'a>(mut envp: *const *const c_char) -> Option<&'a [u8]> {
    if envp.is_null() {
        return None;
    }
    loop {
        // SAFETY: By this function's safety requirements: the last entry is null.
        let entry = unsafe { envp.read() };
        if entry.is_null() {
            return None;
        }
        // SAFETY: By this function's safety requirements.
        let entry = unsafe { bytes(entry) };
        if let Some((name, list)) = entry.split_at_checked(ENTRY.len()) {
            if equal(name, ENTRY) {
                return Some(list);
            }
        }
        // SAFETY: This was not the last entry.
        envp = unsafe { envp.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn names_are_compared_whole() {
        assert!(lists(b"cat", b"/usr/bin/cat"));
        assert!(lists(b"cat", b"cat"));
        assert!(lists(b"a:cat:b", b"./cat"));
        assert!(!lists(b"a:cats:b", b"/usr/bin/cat"));
        assert!(!lists(b"at", b"/usr/bin/cat"));
        assert!(!lists(b"/usr/bin/cat", b"/usr/bin/cat"));
    }

    #[test]
    fn nothing_is_not_a_name() {
        assert!(!lists(b"", b"/usr/bin/cat"));
        assert!(!lists(b"", b""));
        assert!(!lists(b":", b"/usr/bin/"));
    }

    #[test]
    fn started_as_is_compared() {
        // SAFETY: These are C strings, or null.
        let is_in = |list: &[u8], path| unsafe { is_in(list, path) };
        assert!(is_in(b"a:cat", c"/usr/bin/cat".as_ptr()));
        assert!(!is_in(b"a:cat", c"/usr/bin/dog".as_ptr()));
        assert!(!is_in(b"a:cat", core::ptr::null()));
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().as_encoded_bytes();
        assert!(is_in(own, core::ptr::null()));
        assert!(is_in(own, c"/usr/bin/cat".as_ptr()));
    }

    #[test]
    fn the_variable_is_found() {
        let environment = |entries: &[*const c_char]| {
            // SAFETY: The tests end the list with null.
            unsafe { find(entries.as_ptr()) }.map(Vec::from)
        };
        let null = core::ptr::null();
        let (other, ours) = (c"ZPIPE_EXCEPTION=x".as_ptr(), c"ZPIPE_EXCEPT=a:b".as_ptr());
        assert_eq!(environment(&[null]), None);
        assert_eq!(environment(&[other, null]), None);
        assert_eq!(environment(&[other, ours, null]).unwrap(), b"a:b");
        // SAFETY: Null is no environment.
        assert_eq!(unsafe { find(null.cast()) }, None);
    }
}
