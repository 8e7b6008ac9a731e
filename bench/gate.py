#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""gate.py [--accept] KERNEL BASELINE RAW: checks that zpipe does not take more instructions.

Compares what bench -o wrote in a guest whose clock counts instructions with the lines of
BASELINE for KERNEL. Fails if a message takes more than TOLERANCE beyond its line, if it has
no line, or if a line was not counted. --accept writes the new counts to BASELINE instead.
"""

import argparse
import json
import sys
from statistics import median

from units import size_name

# Several times the difference between runs of one build: docs/testing.md.
TOLERANCE = 0.01

HEAD = """\
# Instructions for a message written to zpipe and read from it, both processes
# and the system calls together: make bench-gate. To accept new ones:
#	make bench-gate ACCEPT=1
# KERNEL	TURNS	BYTES	INSTRUCTIONS	RELEASE
"""


def read_raw(path):
    """{(turns, bytes): (instructions per message, release)}; the median of the rounds.

    Ignores run records and skipped mechanisms.
    """
    with open(path, encoding="utf-8") as f:
        records = [r for r in map(json.loads, f) if "run" not in r and "skipped" not in r]
    return {(r["model"], r["bytes"]):
            (median(r["cpu_ns_per_kib"]) * r["bytes"] / 1024, r["kernel"]) for r in records}


def read_baseline(path):
    """{(kernel, turns, bytes): (instructions, release)}"""
    lines = {}
    try:
        with open(path, encoding="utf-8") as f:
            for line in f:
                if not line.startswith("#"):
                    kernel, turns, size, count, release = line.split()
                    lines[kernel, turns, int(size)] = float(count), release
    except FileNotFoundError:
        pass
    return lines


def write_baseline(path, lines):
    with open(path, "w", encoding="utf-8") as f:
        f.write(HEAD)
        for (kernel, turns, size), (count, release) in sorted(lines.items()):
            f.write(f"{kernel}\t{turns}\t{size}\t{count:.0f}\t{release}\n")


def verdict(now, before):
    """Returns whether the count passes, and a text about it."""
    if before is None:
        return False, "FAIL: no baseline"
    change = f"{now / before - 1:+.2%}"
    if now > before * (1 + TOLERANCE):
        return False, f"{change}  FAIL: more than {TOLERANCE:.0%} more"
    if now < before * (1 - TOLERANCE):
        return True, f"{change}  less: make bench-gate ACCEPT=1 lowers the baseline"
    return True, change


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("kernel")
    parser.add_argument("baseline")
    parser.add_argument("raw")
    args = parser.parse_args()
    baseline = read_baseline(args.baseline)
    counted = read_raw(args.raw)

    print(f"\n{'turns':<8} {'message':>8} {'baseline':>9} {'now':>9}")
    failed = not counted
    releases = set()
    for (turns, size), (now, release) in counted.items():
        before, of = baseline.get((args.kernel, turns, size), (None, release))
        releases |= {of} - {release}
        ok, text = (True, "") if args.accept else verdict(now, before)
        failed |= not ok
        print(f"{turns:<8} {size_name(size):>8} {'-' if before is None else f'{before:.0f}':>9} "
              f"{now:>9.0f}  {text}")
    for kernel, turns, size in baseline:
        if not args.accept and kernel == args.kernel and (turns, size) not in counted:
            failed = True
            print(f"{turns:<8} {size_name(size):>8} FAIL: not counted")
    if releases:
        print(f"the baseline is of {', '.join(releases)}, and this was {release}")
    if args.accept:
        gone = [k for k in baseline if k[0] == args.kernel and k[1:] not in counted]
        if not counted or gone:
            print(f"not accepted: {len(gone)} lines of before were not counted")
            return 1
        baseline = {k: v for k, v in baseline.items() if k[0] != args.kernel}
        baseline.update({(args.kernel, *k): v for k, v in counted.items()})
        write_baseline(args.baseline, baseline)
        print(f"accepted: {args.baseline}")
        return 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
