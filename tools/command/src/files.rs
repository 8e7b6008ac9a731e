// SPDX-License-Identifier: MIT OR Apache-2.0

//! Descriptors that refer to the same open file, as kcmp(2) tells them apart.

use std::{cmp::Ordering, ffi::c_int};

/// A descriptor of a thread: the thread's number, and the descriptor's.
pub type Descriptor = (c_int, c_int);

/// Counts the open files that descriptors refer to. Leaves out those that cannot be compared,
/// because they were closed meanwhile or this user may not do it.
///
/// Any user can have many descriptors, so this compares each one only O(log n) times.
pub fn count(descriptors: &[Descriptor]) -> usize {
    distinct(descriptors, &compare).len()
}

/// Sorts by a merge, and keeps one of those that are equal.
///
/// The comparison may contradict itself, because processes close and open files meanwhile. The
/// sort of the standard library may panic then.
fn distinct<C>(items: &[Descriptor], compare: &C) -> Vec<Descriptor>
where
    C: Fn(Descriptor, Descriptor) -> Option<Ordering>,
{
    if let [item] = items {
        // Nothing but an error is possible.
        return compare(*item, *item).map(|_| *item).into_iter().collect();
    }
    if items.is_empty() {
        return Vec::new();
    }
    let (one, other) = items.split_at(items.len() / 2);
    let (one, other) = (distinct(one, compare), distinct(other, compare));
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (&one[..], &other[..]);
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        match compare(*first, *second) {
            Some(Ordering::Less) => {
                merged.push(*first);
                one = rest;
            }
            Some(Ordering::Greater) => {
                merged.push(*second);
                other = others;
            }
            Some(Ordering::Equal) => other = others,
            // One of them is gone by now.
            None if compare(*first, *first).is_none() => one = rest,
            None => other = others,
        }
    }
    merged.extend_from_slice(one);
    merged.extend_from_slice(other);
    merged
}

/// Compares the files of descriptors in the kernel's order. None if it cannot be found out.
fn compare(one: Descriptor, other: Descriptor) -> Option<Ordering> {
    /// KCMP_FILE of <linux/kcmp.h>.
    const FILE: c_int = 0;

    // SAFETY: It only compares.
    match unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, FILE, one.1, other.1) } {
        0 => Some(Ordering::Equal),
        1 => Some(Ordering::Less),
        2 => Some(Ordering::Greater),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, fs::File, os::fd::AsRawFd};

    #[test]
    fn files_of_this_process() {
        let own = c_int::try_from(std::process::id()).unwrap();
        let open = || File::open("/dev/null").unwrap();
        let files = [open(), open(), open()];
        let copies = files.each_ref().map(|file| file.try_clone().unwrap());
        let mut all: Vec<_> = files
            .iter()
            .chain(&copies)
            .map(|file| (own, file.as_raw_fd()))
            .collect();
        assert_eq!(count(&all), 3);
        all.extend([(own, -1), (-1, 0), (own, 999_999)]);
        assert_eq!(count(&all), 3);
        assert_eq!(count(&all[..1]), 1);
        assert_eq!(count(&all[6..]), 0);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn number_of_comparisons() {
        let calls = Cell::new(0);
        let compare = |one: Descriptor, other: Descriptor| {
            calls.set(calls.get() + 1);
            Some((one.1 % 10_000).cmp(&(other.1 % 10_000)))
        };
        // 7 and 20000 have no common divisor: this is each number once, in no order.
        let all: Vec<_> = (0..20_000).map(|i| (1, i * 7 % 20_000)).collect();
        assert_eq!(distinct(&all, &compare).len(), 10_000);
        assert!(calls.get() < 20_000 * 16, "{}", calls.get());
    }

    #[test]
    fn contradictions_and_errors_end() {
        let calls = Cell::new(0);
        let compare = |_: Descriptor, _: Descriptor| {
            calls.set(calls.get() + 1);
            [
                Some(Ordering::Less),
                Some(Ordering::Greater),
                None,
                Some(Ordering::Equal),
                None,
            ][calls.get() % 5]
        };
        let all: Vec<_> = (0..1000).map(|i| (1, i)).collect();
        assert!(distinct(&all, &compare).len() <= all.len());
    }
}
