#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""collect.py [-o RESULTS.json] [--like RAW] RAW...: summarises all rounds.

Reads what bench -o wrote, in one or several boots, and prints tables. Writes an object:
"runs" has the settings; "results" has a record for each mechanism in each cell; "skipped"
has the mechanisms that could not run, and the reasons. A record names its setting by "run",
an index of "runs". With --like only runs of the builds of that raw file count. Those left
out are named.
"""

import argparse
import json
import sys

from raw import Raw, RawError, build_of, builds
from summary import summary
from tables import heading, table


def build_name(build):
    return ", ".join(f"{k} {v}" for k, v in build.items() if v is not None)


def read(paths, like):
    raw, left_out = Raw(), []
    wanted = builds(like) if like else None
    for path in paths:
        if wanted is not None and not builds(path):
            print(f"NOTE: left out: {path}: no run records: an old file")
            continue

        def counts(setting, path=path):
            build = build_of(setting)
            if wanted is None or build in wanted:
                return True
            if (path, build) not in left_out:
                left_out.append((path, build))
            return False
        raw.read(path, counts)
    for path, build in left_out:
        print(f"NOTE: left out of {path}: runs of another build ({build_name(build)})")
    return raw


def several_builds(raw):
    found = []
    for setting in raw.settings:
        if build_of(setting) not in found:
            found.append(build_of(setting))
    return found if len(found) > 1 else []


def write(path, raw, results):
    skipped = [{"run": cell.setting, "bytes": cell.bytes, "pairs": cell.pairs,
                "pace_us": cell.pace_us, "mechanism": name, "reason": reason}
               for cell, reasons in raw.skipped.items() for name, reason in reasons.items()]
    parts = {"runs": raw.settings, "results": results, "skipped": skipped}
    with open(path, "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(
            f'"{name}": [\n' + ",\n".join(map(json.dumps, lines)) + "\n]"
            for name, lines in parts.items()) + "\n}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", metavar="RESULTS.json")
    parser.add_argument("--like", metavar="RAW")
    parser.add_argument("raw", nargs="+")
    args = parser.parse_args()
    try:
        raw = read(args.raw, args.like)
    except RawError as error:
        sys.exit(f"collect.py: {error}")
    results, shown = [], None
    for cell in sorted(raw.cells, key=lambda cell: cell.setting):
        rows = raw.cells[cell]
        records = [{"run": cell.setting, **summary(cell, row, rows)} for row in rows.values()]
        if cell.setting != shown:
            shown = cell.setting
            print("\n" + heading(raw.settings[shown]))
        table(cell, records, raw.skipped.get(cell, {}))
        results += records
    for build in several_builds(raw):
        print(f"NOTE: cells of several builds are above, each its own: {build_name(build)}")
    if args.o:
        write(args.o, raw, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
