#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""check.py RESULTS.json: holds zpipe's results against what is asked of them.

The buffered path: at every size at least pipe(2)'s throughput within the
confidence interval, and no more context switches, faults and page allocations
per MiB than pipe(2). Wakeups and the round trip are shown beside it. Ends with 1
if anything says FAIL.
"""

import json
import sys

from units import size_name

MODELS = ["kvm", "host", "words", "max", "insns"]
COUNTS = ["ctxsw", "faults", "allocs"]

# Counts are of the whole machine or depend on when the scheduler looks in: this
# much more than pipe(2)'s is none.
SLACK_PER_MIB = 0.25
SLACK_SHARE = 0.02

failed = 0


def verdict(ok):
    global failed
    failed += not ok
    return "PASS" if ok else "FAIL"


def interval(i):
    return f"{i['median']:.2f} ({i['low']:.2f}..{i['high']:.2f})"


def throughput(r):
    ratio = r["ratio_to_pipe"]
    if ratio["median"] is None:
        return "no pipe to compare with"
    return f"{verdict(ratio['high'] >= 1)} {interval(ratio):<18}"


def count(r, name):
    """The median, and whether the interval of the difference is above none."""
    beyond, mine = r["per_mib_beyond_pipe"][name], r["per_mib"][name]
    if beyond["median"] is None:
        return ""
    pipes = mine - beyond["median"]
    ok = beyond["low"] <= SLACK_PER_MIB + SLACK_SHARE * pipes
    return f"{verdict(ok)} {name} {mine:.4g} ({beyond['median']:+.3g})"


def beside(r):
    wakeups = r["per_mib"]["wakeups"]
    if wakeups is not None:
        yield f"wakeups {wakeups:.4g}"
    ratio = r.get("rtt_ratio_to_pipe")
    if ratio and ratio["median"] is not None:
        yield f"round trip {r['rtt_us']['median']:.1f} us: {interval(ratio)}"


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        results = json.load(f)
    checked = [r for r in results if r["mechanism"] == "zpipe"]
    checked.sort(key=lambda r: (MODELS.index(r["model"]), r["pairs"], r["bytes"]))
    print("\nzpipe against pipe(2): throughput as a ratio; counts per MiB (and beyond pipe's)")
    for r in checked:
        columns = [throughput(r), *(f"{count(r, name):<28}" for name in COUNTS), *beside(r)]
        print(f"{r['model']:<5}{size_name(r['bytes']):>8} x{r['pairs']:<2}", *columns)
    if not checked:
        print("no results of zpipe")
    return 1 if failed or not checked else 0


sys.exit(main())
