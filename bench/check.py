#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""check.py [--gate ROWS] RESULTS.json: compares zpipe's results with the goals.

The goals, at every size and in every setting: zpipe has at least pipe(2)'s throughput, and
no more context switches, faults and page allocations per MiB. Each verdict is by an
interval:

  throughput  PASS if its low end is at least 0.97, else FAIL if its high end is
              below 1, else UNDECIDED
  a count     zpipe's count minus pipe's: PASS if the high end is within the slack,
              FAIL if the low end is above it, else UNDECIDED

A cell is also UNDECIDED in these cases:

- It has too few values: the interval covers the true median with less than 93 %, or zpipe
  ran in fewer boots than other rows of the cell.
- zpipe or pipe was asked for and did not run.
- The throughput would be PASS, but the control (pipe measured twice) is off by more than
  3 %.

Paced cells have no verdict: their throughput is the pace.

On routes other than from memory to memory, the goal is pipe(2)'s processor time per KiB. The
verdict is that on throughput, with the processor time's ratio turned over. Counts have none: a
pipe passes pages of a file on, where zpipe copies to pages of its own.

The exit status is 0 if all is PASS, 1 if anything is FAIL, 2 if something is UNDECIDED and
nothing is FAIL, and 3 if there is nothing to check.

--gate is for a short run. ROWS names the mechanisms that must have run, one per line, from
memory to memory. The exit status is 1 if a count is FAIL, if one of ROWS neither ran nor was
skipped for a known reason, or if the whole interval of a control is far from 1. Otherwise it is 0, or 3.
Verdicts on throughput and UNDECIDED counts are printed but do not matter: a short run on a
busy machine has both by chance.
"""

import argparse
import json
import math
import sys

from summary import CONTROL, REFERENCE, SUBJECT, best_ratio, ratio
from units import interval_text, size_name

ENOUGH = 0.97
# An interval that covers less has no verdict: one of five values covers 93.75 %.
COVERAGE = 0.93
COUNTS = ["ctxsw", "faults", "allocs"]

# Some counts are of the whole machine, or depend on the moment at which the scheduler runs.
# So an excess up to this slack does not count. A round of small messages has less than a
# MiB, so one event of it is several per MiB.
SLACK_PER_MIB = 0.25
SLACK_PER_ROUND = 2
SLACK_SHARE = 0.02

# A whole control interval this far from 1 is not noise: the measurement is wrong.
SANE = (0.5, 2.0)

# Reasons for which a mechanism may be missing: kernels without a feature; messages smaller
# than a huge page, or too large to be gathered in one; and on a host, actions that need
# privileges.
KNOWN_REASONS = {
    "cma": {"ENOSYS"}, "memfd": {"ENOSYS"}, "vmsplice": {"ENOSYS"},
    "zpipe-gift": {"EMSGSIZE"}, "zpipe-gift-read": {"EMSGSIZE"},
    "zpipe-exchange": {"EMSGSIZE"}, "zpipe-fresh": {"EMSGSIZE"},
    "zpipe-window": {"EMSGSIZE"}, "zpipe-commit-read": {"EMSGSIZE"},
    "zpipe-window-gather": {"EMSGSIZE"},
}
KNOWN_ON_HOST = {
    "cma": {"EPERM"}, "memfd": {"ENOMEM"}, "pipe-1m": {"EPERM"}, "vmsplice": {"EPERM"},
    "zpipe-node": {"EACCES", "EPERM"}, "zpipe-nospin": {"ENOENT"}, "zpipe-neither": {"ENOENT"},
}

PASS, FAIL, UNDECIDED = "PASS", "FAIL", "UNDECIDED"


def over_memory(run):
    """True if the messages of a run go from memory to memory."""
    return run.get("route", "memory") == "memory"


def turned_over(one):
    """The interval of the inverse of a ratio."""
    if one is None or not one["low"]:
        return None
    return {**one, "median": 1 / one["median"], "low": 1 / one["high"], "high": 1 / one["low"]}


def is_off(control):
    """True if a control shows that two equal rows differ by more than the limit."""
    return control is not None and (control["high"] < ENOUGH or control["low"] > 1 / ENOUGH)


def of_throughput(found, control):
    """The verdict on an interval of a ratio, given that of the control."""
    if found["coverage"] < COVERAGE:
        return UNDECIDED
    if found["low"] >= ENOUGH:
        return UNDECIDED if is_off(control) else PASS
    return FAIL if found["high"] < 1 else UNDECIDED


def of_count(beyond, mine, mib):
    """The verdict on a count: zpipe has @mine, which is @beyond more than pipe.

    Both are per MiB. A round has @mib MiB.
    """
    if beyond["coverage"] < COVERAGE:
        return UNDECIDED
    slack = max(SLACK_PER_MIB, SLACK_PER_ROUND / mib)
    slack += SLACK_SHARE * max(0, mine - beyond["median"])
    if beyond["high"] <= slack:
        return PASS
    return FAIL if beyond["low"] > slack else UNDECIDED


def status(verdicts):
    """The exit status."""
    if not verdicts:
        return 3
    return 1 if FAIL in verdicts else 2 if UNDECIDED in verdicts else 0


class Check:
    def __init__(self, results):
        self.runs, self.records = results["runs"], results["results"]
        self.skipped = results["skipped"]
        self.throughput, self.counts, self.costs = [], [], []
        self.cells, self.reasons = {}, {}
        for r in self.records:
            self.cells.setdefault(cell_of(r), {})[r["mechanism"]] = r
        for r in self.skipped:
            self.cells.setdefault(cell_of(r), {})
            self.reasons.setdefault(cell_of(r), {})[r["mechanism"]] = r["reason"]

    def all(self):
        shown = None
        for cell, rows in self.cells.items():
            run, size, pairs, pace = cell
            asked = rows.keys() | self.reasons.get(cell, {}).keys()
            if pace or SUBJECT not in asked:
                continue
            if run != shown:
                shown = run
                print(f"\n{self.runs[run]['model']}, set {self.runs[run].get('set', '-')}, "
                      f"commit {self.runs[run].get('commit', 'unknown')}")
            found = [f"{size_name(size):>8} x{pairs:<2}"]
            if SUBJECT in rows:
                found += self.one(rows, REFERENCE in asked, over_memory(self.runs[run]))
            else:
                self.throughput.append(UNDECIDED)
                found.append(f"{UNDECIDED} {SUBJECT}: {self.reasons[cell][SUBJECT]}")
            print("  " + "  ".join(found))

    def one(self, rows, comparable, memory):
        """Yields texts about zpipe in a cell. @comparable: pipe was asked for."""
        record = rows[SUBJECT]
        name = "gbps" if memory else "cpu_ns_per_kib"
        verdicts = self.throughput if memory else self.costs
        control = control_of(rows, name)
        found = ratio(record, REFERENCE, name)
        if found:
            if memory:
                verdict = of_throughput(found, control)
            else:
                verdict = of_throughput(turned_over(found), turned_over(control))
            most = max(r["boots"] for r in rows.values())
            if verdict == PASS and most > 1 and (found["kind"] != "boots" or found["n"] < most):
                verdict = UNDECIDED
            verdicts.append(verdict)
            yield f"{verdict:<9} {interval_text(found):<18}"
        elif comparable:
            verdicts.append(UNDECIDED)
            yield f"{UNDECIDED} no pipe to compare with"
        else:
            yield "pipe was not asked for"
        for name in COUNTS if memory else []:
            beyond = record["per_mib_beyond_pipe"].get(name)
            if beyond and beyond["median"] is not None:
                mine = record["per_mib"][name]
                verdict = of_count(beyond, mine, record["mib"])
                self.counts.append(verdict)
                yield f"{verdict} {name} {mine:.4g} ({beyond['median']:+.3g})".ljust(33)
        rival, found = best_ratio(record, "gbps" if memory else "cpu_ns_per_kib")
        if found:
            yield f"best stable: {interval_text(found)} to {rival}"
        if control is None:
            yield "no control"
        elif is_off(control):
            yield f"CONTROL {interval_text(control)} is off"

    def missing(self, rows):
        """Yields texts about those of @rows that did not run, without a known reason."""
        for cell, ran in self.cells.items():
            for name in rows if over_memory(self.runs[cell[0]]) else []:
                reason = self.reasons.get(cell, {}).get(name)
                if name in ran and reason is None:
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
        """Yields texts about controls that are far from 1 or were not measured."""
        for cell, rows in self.cells.items():
            control = control_of(rows)
            if control is None:
                yield f"no control with {size_name(cell[1])}"
            elif control["high"] < SANE[0] or control["low"] > SANE[1]:
                yield f"the control is {interval_text(control)} with {size_name(cell[1])}"


def cell_of(record):
    return record["run"], record["bytes"], record["pairs"], record["pace_us"]


def control_of(rows, name="gbps"):
    return ratio(rows[CONTROL], REFERENCE, name) if CONTROL in rows else None


def controls(cells):
    """Returns a text: the number of controls that miss 1, and how likely that is by
    chance.
    """
    found = [c for c in map(control_of, cells.values()) if c]
    missed = sum(not c["low"] <= 1 <= c["high"] for c in found)
    if not found:
        return "no control was measured"
    n, p = len(found), 1 - min(c["coverage"] for c in found)
    chance = sum(math.comb(n, k) * p ** k * (1 - p) ** (n - k) for k in range(missed, n + 1))
    return (f"{missed} of {n} controls do not contain 1; "
            f"so many or more come by chance with {chance:.0%}")


def tell(what, verdicts):
    print(f"{what}: " + ", ".join(f"{verdicts.count(v)} {v}" for v in (PASS, UNDECIDED, FAIL)))


def gate(check, rows):
    wrong = [*check.missing(rows), *check.insane()]
    for text in wrong:
        print(f"FAIL: {text}")
    if not wrong and (not check.cells or not check.counts):
        print("nothing to check")
        return 3
    print("gate: counts, rows and control decide, throughput does not")
    return 1 if wrong or FAIL in check.counts else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gate", metavar="ROWS")
    parser.add_argument("results")
    args = parser.parse_args()
    with open(args.results, encoding="utf-8") as f:
        check = Check(json.load(f))
    print("zpipe against pipe(2): throughput (on other routes processor time) as a ratio; "
          "counts per MiB (and beyond pipe's)")
    check.all()
    tell("\nthroughput", check.throughput)
    tell("counts", check.counts)
    if check.costs:
        tell("processor time on other routes", check.costs)
    print(controls({cell: rows for cell, rows in check.cells.items() if not cell[3]}))
    if args.gate:
        with open(args.gate, encoding="utf-8") as f:
            return gate(check, f.read().split())
    end = status(check.throughput + check.counts + check.costs)
    if end == 3:
        print("nothing to check: no results of zpipe beside pipe")
    return end


if __name__ == "__main__":
    sys.exit(main())
