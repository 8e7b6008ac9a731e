#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""collect.py [-o RESULTS.json] RAW...: what the rounds of all runs say together.

Reads what bench -o wrote, in one or several guests, prints tables and writes
an array of records. Ratios are to pipe within the same round of the same run.
"""

import argparse
import json
import math
from statistics import median

from units import size_name

REFERENCE = "pipe"
COUNTS = ["ctxsw", "faults", "allocs", "wakeups"]
PATHS = ["pulled", "pushed"]
LISTS = ["gbps", "cpu_ns_per_kib", *COUNTS, *PATHS, "trips_us"]


def interval(values):
    """The median and its 95 % confidence interval.

    Each value lies below the true median as a coin falls, however the values
    are distributed; that says how many may be left out at each end. Of fewer
    than 6 values none may, and then the interval is too narrow.
    """
    if not values or None in values:
        return {"median": None, "low": None, "high": None}
    values = sorted(values)
    n, drop, tail = len(values), 0, 0.0
    for k in range(n // 2):
        tail += math.comb(n, k) / 2 ** n
        if 2 * tail > 0.05:
            break
        drop = k
    return {"median": median(values), "low": values[drop], "high": values[n - 1 - drop]}


def paired(mine, reference, operation):
    if not reference or len(mine) != len(reference):
        return interval([])
    return interval([operation(a, b) for a, b in zip(mine, reference)])


def over(a, b):
    return a / b


def beyond(a, b):
    return None if a is None or b is None else a - b


def percentile(values, share):
    values = sorted(values)
    return values[round(share * (len(values) - 1))]


def read_raw(paths):
    """{(model, pairs, bytes): {mechanism: lists of all runs}}, in order."""
    cells = {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for record in map(json.loads, f):
                key = (record["model"], record["pairs"], record["bytes"])
                mine = cells.setdefault(key, {}).setdefault(
                    record["mechanism"], {"kernel": record["kernel"], **{k: [] for k in LISTS}})
                for name in LISTS:
                    mine[name] += record[name]
    return cells


def summary(key, mechanism, mine, reference):
    model, pairs, size = key
    counts = {name: interval(mine[name])["median"] for name in COUNTS}
    differences = {name: paired(mine[name], reference.get(name), beyond) for name in COUNTS}
    record = {
        "mechanism": mechanism, "bytes": size, "pairs": pairs, "model": model,
        "kernel": mine["kernel"],
        "gbps": {"median": median(mine["gbps"]), "min": min(mine["gbps"]),
                 "max": max(mine["gbps"])},
        "cpu_ns_per_kib": median(mine["cpu_ns_per_kib"]),
        "rtt_us": None,
        "ratio_to_pipe": paired(mine["gbps"], reference.get("gbps"), over),
        "cpu_ratio_to_pipe": paired(mine["cpu_ns_per_kib"], reference.get("cpu_ns_per_kib"), over),
        "per_mib": counts,
        "share": {name: interval(mine[name])["median"] for name in PATHS},
        "per_mib_beyond_pipe": differences,
        "rounds": len(mine["gbps"]),
        "gbps_rounds": mine["gbps"],
    }
    if mine["trips_us"]:
        trips = [t for one in mine["trips_us"] for t in one]
        medians = [median(one) for one in mine["trips_us"]]
        record["rtt_us"] = {"median": median(medians), "p99": percentile(trips, 0.99),
                            "samples": len(trips)}
        record["rtt_ratio_to_pipe"] = paired(
            medians, [median(one) for one in reference.get("trips_us", [])], over)
    return record


def number(v, form):
    return "-" if v is None else format(v, form)


def table(records):
    first = records[0]
    print(f"\n{first['model']}: {size_name(first['bytes'])}, {first['pairs']} pair"
          f"{'s' if first['pairs'] > 1 else ''}")
    print(f"{'':<11} {'GB/s':>7} {'min..max':>15} {'to pipe (95 %)':>19} {'ns/KiB':>8} "
          f"{'ctxsw':>8} {'faults':>8} {'allocs':>8} {'wakeups':>8} {'pulled':>7} "
          f"{'pushed':>7} {'rtt us':>8} {'p99':>8}")
    for r in records:
        gbps, ratio, rtt = r["gbps"], r["ratio_to_pipe"], r["rtt_us"]
        spread = f"{gbps['min']:.3f}..{gbps['max']:.3f}"
        times = "-" if ratio["median"] is None else \
            f"{ratio['median']:.2f} ({ratio['low']:.2f}..{ratio['high']:.2f})"
        print(f"{r['mechanism']:<11} {gbps['median']:7.3f} {spread:>15} {times:>19} "
              f"{r['cpu_ns_per_kib']:8.0f}",
              *(f"{number(r['per_mib'][name], '.4g'):>8}" for name in COUNTS),
              *(f"{number(r['share'][name], '.0%'):>7}" for name in PATHS),
              *((f"{rtt['median']:8.1f}", f"{rtt['p99']:8.1f}") if rtt else ()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-o")
    parser.add_argument("raw", nargs="+")
    args = parser.parse_args()
    results = []
    for key, cell in read_raw(args.raw).items():
        records = [summary(key, name, mine, cell.get(REFERENCE, {}))
                   for name, mine in cell.items()]
        table(records)
        results += records
    if args.o:
        with open(args.o, "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")


main()
