// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sizes, rates and times for people.

/// Returns a number with three digits and a decimal prefix, such as "1.25 M".
fn prefixed(mut number: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.95 would be rounded to 1000.
    while number >= 999.5 && unit + 1 < units.len() {
        number /= 1000.0;
        unit += 1;
    }
    let digits = match number {
        _ if unit == 0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {}", units[unit])
}

/// A number of bytes.
pub fn bytes(bytes: u64) -> String {
    prefixed(bytes as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A rate in bytes per second.
pub fn rate(rate: f64) -> String {
    prefixed(
        if rate.is_finite() { rate } else { 0.0 },
        &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"],
    )
}

/// A size as of a message: a power of two.
pub fn binary(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// A part in percent: "100", "7.1", or "-" of nothing.
pub fn percent(part: f64, all: f64) -> String {
    match part / all * 100.0 {
        share if !share.is_finite() => "-".into(),
        share if share == 0.0 || share >= 9.95 => format!("{share:.0}"),
        share => format!("{share:.1}"),
    }
}

/// Parses a size as of dd(1): a number, and a suffix such as K (1024), KiB (1024) or kB (1000).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let letter = suffix.chars().next().map_or(0, |letter| {
        "KMGTP"
            .find(letter.to_ascii_uppercase())
            .map_or(9, |at| at as u32 + 1)
    });
    let factor = match suffix.get(1..).unwrap_or_default() {
        _ if suffix == "B" => Some(1),
        _ if letter == 9 => None,
        "" | "iB" => 1024_u64.checked_pow(letter),
        "B" => 1000_u64.checked_pow(letter),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| "not a size; 4096, 64K, 10MiB and 10MB are examples".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.00 kB");
        assert_eq!(bytes(12_345), "12.3 kB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(123_456_789), "123 MB");
        assert_eq!(rate(f64::INFINITY), "0 B/s");
        assert_eq!(rate(2.5e9), "2.50 GB/s");
    }

    #[test]
    fn shares() {
        assert_eq!(percent(0.0, 5.0), "0");
        assert_eq!(percent(5.0, 5.0), "100");
        assert_eq!(percent(0.355, 5.0), "7.1");
        assert_eq!(percent(0.0, 0.0), "-");
    }

    #[test]
    fn sizes_of_command_lines() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("7B", 7),
            ("64K", 65536),
            ("1k", 1024),
            ("2MiB", 2 << 20),
            ("3MB", 3_000_000),
            ("1G", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for wrong in [
            "",
            "K",
            "-1",
            "1.5M",
            "1x",
            "1KX",
            "1Ki",
            "99999999P",
            "1 K",
            "1é",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(binary(4096), "4 KiB");
        assert_eq!(binary(16 << 20), "16 MiB");
        assert_eq!(binary(5), "5 B");
    }
}
