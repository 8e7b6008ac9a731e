// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names that others have chosen, for a terminal.

use std::ffi::OsStr;

/// True if a character does not show itself, but changes how others look: those of the categories
/// Cc, Cf, Zl and Zp of Unicode 16.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
            | 0xe0001 | 0xe0020..=0xe007f
        )
}

/// Returns text with escapes in place of some characters, and of backslashes.
fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            ' ' if is_escaped(c) => escaped.extend(c.escape_unicode()),
            _ if c == '\\' || is_escaped(c) => escaped.extend(c.escape_default()),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Text that cannot disturb a terminal.
pub fn printable(text: &str) -> String {
    escape(text, is_invisible)
}

/// A path, as text that cannot disturb a terminal.
pub fn path(path: impl AsRef<OsStr>) -> String {
    printable(&path.as_ref().to_string_lossy())
}

/// Printable text without spaces.
pub fn one_word(text: &str) -> String {
    escape(text, |c| is_invisible(c) || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_disturb_a_terminal() {
        assert_eq!(printable("a b\u{1b}[1m\nß"), "a b\\u{1b}[1m\\nß");
        assert_eq!(
            printable("\u{202e}x\u{2066}\u{feff}"),
            "\\u{202e}x\\u{2066}\\u{feff}"
        );
        assert_eq!(
            printable("\u{2028}\u{200b}\u{ad}"),
            "\\u{2028}\\u{200b}\\u{ad}"
        );
        // An escape cannot be imitated.
        assert_eq!(printable("\\u{1b}"), "\\\\u{1b}");
        assert_eq!(path("/a\u{1b}c b"), "/a\\u{1b}c b");
        assert_eq!(one_word("a b\u{3000}c"), "a\\u{20}b\\u{3000}c");
    }
}
