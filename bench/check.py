#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""check.py [--gate ROWS] RESULTS.json: holds zpipe's results against what is asked.

At every size and in every setting zpipe is to have at least pipe(2)'s
throughput, and no more context switches, faults and page allocations per MiB.
Each verdict is by an interval:

  throughput  PASS if its low end is at least 0.97, else FAIL if its high end is
              below 1, else UNDECIDED
  a count     PASS if the high end of what zpipe has beyond pipe's is within the
              slack, FAIL if the low end is above it, else UNDECIDED

Where the control (pipe measured twice) says that the two are not the same, PASS
of a throughput becomes UNDECIDED. Paced cells have no verdict: their throughput
is the pace.

Ends with 0 if all is PASS, 1 if anything is FAIL, 2 if something is UNDECIDED and
nothing FAIL, 3 if there is nothing to check.

With --gate, for a short run: ROWS names the mechanisms that must have run, one a
line. Ends with 1 if a count is FAIL, if one of ROWS neither ran nor was skipped
for a known reason, or if all of the control's interval is far from 1, else with 0 (or 3); verdicts
of throughput are printed and do not count.
"""

import argparse
import json
import sys

from intervals import contains
from summary import CONTROL, REFERENCE, SUBJECT, best_ratio, ratio
from units import interval_text, size_name

ENOUGH = 0.97
COUNTS = ["ctxsw", "faults", "allocs"]

# Counts are of the whole machine or depend on when the scheduler looks in: this
# much more than pipe(2)'s is none. A round of small messages carries less than a
# MiB, so that one event is several per MiB.
SLACK_PER_MIB = 0.25
SLACK_PER_ROUND = 2
SLACK_SHARE = 0.02

# A control of which all is this far from 1 is no noise: something is measured wrong.
SANE = (0.5, 2.0)

# Why a mechanism may be missing without anything being wrong: what a kernel may be
# built without, and on a host what an ordinary user may not do.
KNOWN_REASONS = {"cma": {"ENOSYS"}, "memfd": {"ENOSYS"}, "vmsplice": {"ENOSYS"}}
KNOWN_ON_HOST = {
    "cma": {"EPERM"}, "memfd": {"ENOMEM"}, "pipe-1m": {"EPERM"}, "vmsplice": {"EPERM"},
    "zpipe-node": {"EACCES", "EPERM"}, "zpipe-nospin": {"ENOENT"}, "zpipe-neither": {"ENOENT"},
}

PASS, FAIL, UNDECIDED = "PASS", "FAIL", "UNDECIDED"


def of_throughput(found, control):
    """The verdict on an interval of a ratio, beside that of the control."""
    if found["low"] >= ENOUGH:
        return UNDECIDED if contains(control, 1) is False else PASS
    return FAIL if found["high"] < 1 else UNDECIDED


def of_count(beyond, mine, mib):
    """The verdict on what zpipe has @beyond pipe's, of which it has @mine itself.

    All are per MiB; a round carries @mib.
    """
    slack = max(SLACK_PER_MIB, SLACK_PER_ROUND / mib)
    slack += SLACK_SHARE * max(0, mine - beyond["median"])
    if beyond["high"] <= slack:
        return PASS
    return FAIL if beyond["low"] > slack else UNDECIDED


def status(verdicts):
    """What the program ends with."""
    if not verdicts:
        return 3
    return 1 if FAIL in verdicts else 2 if UNDECIDED in verdicts else 0


class Check:
    def __init__(self, results):
        self.runs, self.records = results["runs"], results["results"]
        self.skipped = results["skipped"]
        self.throughput, self.counts = [], []
        self.cells = {}
        for r in self.records:
            self.cells.setdefault(cell_of(r), {})[r["mechanism"]] = r
        for r in self.skipped:
            self.cells.setdefault(cell_of(r), {})

    def all(self):
        shown = None
        for (run, *_), rows in self.cells.items():
            if SUBJECT in rows and not rows[SUBJECT]["pace_us"]:
                if run != shown:
                    shown = run
                    print(f"\n{self.runs[run]['model']}, set {self.runs[run].get('set', '-')}, "
                          f"commit {self.runs[run].get('commit', 'unknown')}")
                print("  " + "  ".join(self.one(rows)))

    def one(self, rows):
        record = rows[SUBJECT]
        yield f"{size_name(record['bytes']):>8} x{record['pairs']:<2}"
        control = control_of(rows)
        found = ratio(record, REFERENCE)
        if found:
            verdict = of_throughput(found, control)
            self.throughput.append(verdict)
            yield f"{verdict:<9} {interval_text(found):<18}"
        else:
            yield "no pipe to compare with"
        for name in COUNTS:
            beyond = record["per_mib_beyond_pipe"].get(name)
            if beyond and beyond["median"] is not None:
                mine = record["per_mib"][name]
                verdict = of_count(beyond, mine, record["mib"])
                self.counts.append(verdict)
                yield f"{verdict} {name} {mine:.4g} ({beyond['median']:+.3g})".ljust(33)
        rival, found = best_ratio(record)
        if found:
            yield f"best stable: {interval_text(found)} to {rival}"
        if contains(control, 1) is False:
            yield f"CONTROL {interval_text(control)} does not contain 1"
        elif control is None:
            yield "no control"

    def missing(self, rows):
        """Texts: which of @rows did not run in a cell, without a known reason."""
        reasons = {}
        for r in self.skipped:
            reasons.setdefault(cell_of(r), {})[r["mechanism"]] = r["reason"]
        for cell, ran in self.cells.items():
            for name in rows:
                reason = reasons.get(cell, {}).get(name)
                if name in ran:
                    continue
                if reason is None:
                    yield f"{name} did not run with {size_name(cell[1])}, and nothing says why"
                elif not self.known(cell[0], name, reason.split(":")[0]):
                    yield f"{name} did not run with {size_name(cell[1])}: {reason}"

    def known(self, run, name, error):
        allowed = KNOWN_REASONS.get(name, set())
        if self.runs[run]["model"] == "host":
            allowed = allowed | KNOWN_ON_HOST.get(name, set())
        return error in allowed

    def insane(self):
        """Texts: controls that are far from 1, or that nobody measured."""
        for cell, rows in self.cells.items():
            control = control_of(rows)
            if control is None:
                yield f"no control with {size_name(cell[1])}"
            elif control["high"] < SANE[0] or control["low"] > SANE[1]:
                yield f"the control is {interval_text(control)} with {size_name(cell[1])}"


def cell_of(record):
    return record["run"], record["bytes"], record["pairs"], record["pace_us"]


def control_of(rows):
    return ratio(rows[CONTROL], REFERENCE) if CONTROL in rows else None


def tell(what, verdicts):
    print(f"{what}: " + ", ".join(f"{verdicts.count(v)} {v}" for v in (PASS, UNDECIDED, FAIL)))


def gate(check, rows):
    wrong = [*check.missing(rows), *check.insane()]
    for text in wrong:
        print(f"FAIL: {text}")
    if not check.cells or not check.counts:
        print("nothing to check")
        return 3
    print("gate: throughput has no say in it; counts, rows and control have")
    return 1 if wrong or FAIL in check.counts else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gate", metavar="ROWS")
    parser.add_argument("results")
    args = parser.parse_args()
    with open(args.results, encoding="utf-8") as f:
        check = Check(json.load(f))
    print("zpipe against pipe(2): throughput as a ratio; counts per MiB (and beyond pipe's)")
    check.all()
    tell("\nthroughput", check.throughput)
    tell("counts", check.counts)
    if args.gate:
        with open(args.gate, encoding="utf-8") as f:
            return gate(check, f.read().split())
    end = status(check.throughput + check.counts)
    if end == 3:
        print("nothing to check: no results of zpipe beside pipe")
    return end


if __name__ == "__main__":
    sys.exit(main())
