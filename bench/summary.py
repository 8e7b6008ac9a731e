# SPDX-License-Identifier: GPL-2.0-only
"""The summary of a cell: a record for each mechanism measured in it.

All ratios and differences are of two mechanisms in the same round of the same run. So a
disturbance of the machine affects both.
"""

from statistics import median

from intervals import interval, percentile

REFERENCE = "pipe"
CONTROL = "pipe-again"
SUBJECT = "zpipe"
COUNTS = ["ctxsw", "faults", "allocs", "wakeups"]
PATHS = ["pulled", "pushed", "gifted", "moved"]
PERF = ["instructions", "cycles", "llc_misses"]


def is_subject(mechanism):
    """True for zpipe in any form. Such a row is never a rival."""
    return mechanism.split("-")[0] == SUBJECT


def over(a, b):
    return None if a is None or b is None or b == 0 else a / b


def beyond(a, b):
    return None if a is None or b is None else a - b


def ratios(mine, other):
    """Intervals of ratios of mine to another's. Below 1 is better for all except gbps."""
    return {
        "gbps": interval(mine.paired(other, "gbps", over)),
        "cpu_ns_per_kib": interval(mine.paired(other, "cpu_ns_per_kib", over)),
        "rtt_us": interval(mine.paired(other, "trips_us", over, median)),
        "latency_us": interval(mine.paired(other, "latency_us", over, median)),
    }


def times(row, name):
    """The median and the 99th percentile of samples of times, round by round."""
    samples = [t for one in row.by_boot(name).values() for trips in one for t in trips]
    if not samples:
        return None
    return {**interval(row.by_boot(name, median)),
            "p99": percentile(samples, 0.99), "samples": len(samples)}


def middle(row, name):
    return interval(row.by_boot(name))["median"]


def volume(row, cell):
    """MiB that all pairs transfer in a round; the smallest value of several runs."""
    return min(record["messages"] for _, record in row.records.values()) \
        * cell.bytes * cell.pairs / (1 << 20)


def stable_rivals(rows):
    return [row for mechanism, row in rows.items()
            if not is_subject(mechanism) and mechanism != CONTROL and row.latest("stable")]


def best_stable(record, rivals, what, best, name, value=None):
    """Of @rivals to which there is a ratio, the one with the best median over all boots."""
    medians = {}
    for row in rivals:
        found = interval(row.by_boot(name, value))["median"]
        if found is not None and ratio(record, row.mechanism, what):
            medians[row.mechanism] = found
    return best(medians, key=medians.get) if medians else None


def summary(cell, row, rows):
    """The record of one mechanism of a cell."""
    mine = row.mechanism
    if is_subject(mine):
        rivals = [other for other in rows.values() if other is not row]
    else:
        rivals = [rows[REFERENCE]] if REFERENCE in rows and mine != REFERENCE else []
    throughput = [v for one in row.by_boot("gbps").values() for v in one if v is not None]
    record = {
        "mechanism": mine, "bytes": cell.bytes, "pairs": cell.pairs, "pace_us": cell.pace_us,
        "stable": row.latest("stable"), "spins": row.latest("spins"),
        "boots": row.boots(), "rounds": len(throughput), "mib": volume(row, cell),
        "gbps": {**interval(row.by_boot("gbps")),
                 "min": min(throughput, default=None), "max": max(throughput, default=None)},
        "cpu_ns_per_kib": interval(row.by_boot("cpu_ns_per_kib")),
        "per_mib": {name: middle(row, name) for name in COUNTS},
        "per_mib_beyond_pipe": {},
        "share": {name: middle(row, name) for name in PATHS},
        "tx_cpu": middle(row, "tx_cpu"), "rx_cpu": middle(row, "rx_cpu"),
        "mid_cpu": middle(row, "mid_cpu"),
        "spun_us_per_mib": middle(row, "spun"),
        "capacity": row.latest("capacity"), "thp_kb": row.latest("thp_kb"),
        "rtt_us": times(row, "trips_us"),
        "late": middle(row, "late"), "latency_us": times(row, "latency_us"),
        "perf": {name: middle(row, f"perf.{name}") for name in PERF
                 if row.by_boot(f"perf.{name}")},
        "ratios": {other.mechanism: ratios(row, other) for other in rivals},
        "gbps_rounds": row.by_boot("gbps"),
    }
    if mine != REFERENCE and REFERENCE in rows:
        record["per_mib_beyond_pipe"] = {
            name: interval(row.paired(rows[REFERENCE], name, beyond)) for name in COUNTS}
    if is_subject(mine):
        stable = stable_rivals(rows)
        record["stable_rivals"] = [rival.mechanism for rival in stable]
        record["best_stable"] = {what: best_stable(record, stable, what, *how) for what, how in {
            "gbps": (max, "gbps"),
            "cpu_ns_per_kib": (min, "cpu_ns_per_kib"),
            "rtt_us": (min, "trips_us", median),
            "latency_us": (min, "latency_us", median)}.items()}
    return record


def ratio(record, other, name="gbps"):
    """The interval of a record's ratio to another mechanism, or None."""
    found = record["ratios"].get(other, {}).get(name)
    return found if found and found["median"] is not None else None


def best_ratio(record, name="gbps"):
    """(rival, interval) of zpipe to the best rival that keeps data stable."""
    rival = record.get("best_stable", {}).get(name)
    return rival, ratio(record, rival, name) if rival else None
