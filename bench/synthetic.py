# SPDX-License-Identifier: GPL-2.0-only
"""Made-up raw files, for the tests of the programs that read such files."""

import json

ROUNDS = 7


def run_record(boot="boot-1", **changed):
    return {"run": {
        "boot": boot, "model": "words", "kernel": "7.3.4", "cpu": "a CPU", "cpus": 2,
        "thp": "madvise", "parameters": {}, "arguments": "/bench/bench -s 64 -r 7 -o /out/raw",
        "touch": "line", "buffers_huge": True, "align": 0, "read_bytes": 0, "working_set": 0,
        "load": 0, "processors": [0, 1], "mitigations": {"meltdown": "Not affected"},
        "commit": "abc", "dirty": "no", "module": "m1", "set": "main", **changed}}


def row(mechanism, gbps=1.0, size=65536, pairs=1, pace_us=0, **changed):
    """The record of a mechanism. @gbps is a number for all rounds, or a list of them."""
    rounds = gbps if isinstance(gbps, list) else [gbps] * ROUNDS
    n = len(rounds)
    record = {
        "mechanism": mechanism, "bytes": size, "pairs": pairs, "pace_us": pace_us,
        "model": "words", "kernel": "7.3.4", "messages": 100, "stable": mechanism != "vmsplice",
        "spins": mechanism.startswith("zpipe"), "gbps": rounds,
        "cpu_ns_per_kib": [1000.0 / g if g else None for g in rounds],
        "tx_cpu": [0.9] * n, "rx_cpu": [0.8] * n, "spun": [1.0] * n, "thp_kb": 0}
    for name in ("ctxsw", "faults", "allocs", "wakeups", "pulled", "pushed", "gifted", "moved"):
        record[name] = [0.0] * n
    record["trips_us"] = []
    return {**record, **changed}


def skipped(mechanism, reason, size=65536, pairs=1, pace_us=0):
    return {"mechanism": mechanism, "bytes": size, "pairs": pairs, "pace_us": pace_us,
            "skipped": reason}


def write(path, records):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(record) + "\n" for record in records)
    return str(path)
