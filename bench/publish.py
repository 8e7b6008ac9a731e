#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""publish.py RESULTS.json: prints the tables of docs/benchmarks.md.

All figures of that page come from here, so none is copied by hand.
"""

import argparse
import json

from summary import CONTROL, REFERENCE, SUBJECT, best_ratio, is_subject, ratio
from units import size_name

PARTS = ["pipe-spin", "zpipe", "zpipe-nospin", "zpipe-nodirect", "zpipe-neither"]
PACED = ["pipe", "pipe-spin", "shm-copy", "zpipe", "zpipe-nospin"]


def span(found):
    if not found:
        return "-"
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def speed(gbps):
    return f"{gbps:.3f}" if gbps < 1 else f"{gbps:.2f}"


def table(titles, rows):
    print()
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


class Cells:
    """The records of a set of runs in one model, by mechanism and cell."""

    def __init__(self, results, model, name):
        runs = [i for i, run in enumerate(results["runs"])
                if (run["model"], run.get("set")) == (model, name)]
        found = [r for r in results["results"] if r["run"] in runs]
        self.cells = sorted({(r["pairs"], r["bytes"], r["pace_us"]) for r in found})
        self.names = list(dict.fromkeys(r["mechanism"] for r in found))
        self.of = {(r["mechanism"], r["pairs"], r["bytes"], r["pace_us"]): r for r in found}

    def row(self, title, mechanism, text):
        """A row with text(record) of each cell."""
        records = [self.of.get((mechanism, *cell)) for cell in self.cells]
        return [title, *(text(r) if r else "-" for r in records)]

    def titles(self, what):
        several = len({pairs for pairs, _, _ in self.cells}) > 1
        return [what, *(size_name(size) + (f" x{pairs}" if several or pairs > 1 else "")
                        for pairs, size, _ in self.cells)]


def best(record):
    rival, found = best_ratio(record)
    return f"{span(found)} to `{rival}`" if found else "-"


def ratios(cells):
    """The ratios of zpipe to each row, and the control."""
    rows = [cells.row(f"`{name}`", SUBJECT, lambda r, name=name: span(ratio(r, name)))
            for name in cells.names if name != SUBJECT]
    rows.append(cells.row("**best that keeps data stable**", SUBJECT, best))
    rows.append(cells.row("control", CONTROL, lambda r: span(ratio(r, REFERENCE))))
    return rows


def throughput(cells):
    table(cells.titles("GB/s"), [
        cells.row(f"`{name}`", name, lambda r: speed(r["gbps"]["median"]))
        for name in cells.names])


def main_set(cells):
    throughput(cells)
    table(cells.titles("zpipe to"), ratios(cells))
    table(cells.titles("of both ends"), [
        row for name in ("pipe", "unix", "cma", "shm-copy", "zpipe") for row in (
            cells.row(f"`{name}`: ns per KiB", name,
                      lambda r: f"{r['cpu_ns_per_kib']['median']:.0f}"),
            cells.row(f"`{name}`: context switches, allocations per MiB", name,
                      lambda r: f"{r['per_mib']['ctxsw']:.3g}, {r['per_mib']['allocs']:.3g}"))])


def short_set(cells):
    """Ratios to pipe and to the best rival, and the control: a row for each cell."""
    rows = []
    for cell in cells.cells:
        record = cells.of.get((SUBJECT, *cell))
        control = cells.of.get((CONTROL, *cell))
        if record:
            pairs, size, _ = cell
            rows.append([size_name(size) + (f", {pairs} pairs" if pairs > 1 else ""),
                         span(ratio(record, REFERENCE)), best(record),
                         span(ratio(control, REFERENCE)) if control else "-"])
    table(["message", "to `pipe`", "to the best that keeps data stable", "control"], rows)


def gifts(cells):
    """Gifts, moves and windows, beside mechanisms that copy once."""
    rows = []
    for cell in cells.cells:
        for name in cells.names:
            record = cells.of.get((name, *cell))
            if record:
                to = [span(ratio(record, other)) if is_subject(name) and other != name else "-"
                      for other in (SUBJECT, "cma")]
                rows.append([size_name(cell[1]), f"`{name}`", speed(record["gbps"]["median"]), *to,
                             f"{record['cpu_ns_per_kib']['median']:.0f}",
                             f"{record['per_mib']['allocs']:.3g}", f"{record['per_mib']['faults']:.2g}",
                             f"{record['share'].get('moved') or 0:.0%}"])
    table(["message", "row", "GB/s", "to `zpipe`", "to `cma`", "ns per KiB", "pages allocated per MiB",
           "faults per MiB", "moved"], rows)


def trip(record):
    return f"{record['rtt_us']['median']:.1f}" if record["rtt_us"] else "-"


def parts(cells, names):
    """Ratios of rows to pipe, with their processor time."""
    names = [name for name in names if name in cells.names]
    table(cells.titles("to `pipe`"), [
        *(cells.row(f"`{name}`", name, lambda r: span(ratio(r, REFERENCE))) for name in names),
        *(cells.row(f"`{name}`: ns per KiB, us per MiB spun", name,
                    lambda r: f"{r['cpu_ns_per_kib']['median']:.0f}, "
                              f"{r['spun_us_per_mib'] or 0:.3g}")
          for name in ["pipe", *names])])
    rows = [cells.row(f"`{name}`", name, trip) for name in ["pipe", *names]]
    rows = [row for row in rows if any(text != "-" for text in row[1:])]
    if rows:
        table(["round trip of 64 B, us", "median"],
              [[row[0], next(text for text in row[1:] if text != "-")] for row in rows])


def paced(cells):
    rows = []
    for cell in cells.cells:
        for name in PACED:
            record = cells.of.get((name, *cell))
            if record:
                spun = (record["spun_us_per_mib"] or 0) * cell[1] / (1 << 20)
                rows.append([f"{cell[2]} us", f"`{name}`", f"{record['latency_us']['median']:.0f}",
                             f"{record['latency_us']['p99']:.0f}", f"{record['late']:.0%}",
                             f"{record['tx_cpu']:.0%}", f"{record['rx_cpu']:.0%}",
                             f"{spun:.2g}" if is_subject(name) else ""])
    table(["every", "row", "latency, us", "99 %", "late", "writer's processor", "reader's",
           "us spun per message"], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    with open(parser.parse_args().results, encoding="utf-8") as f:
        results = json.load(f)
    shown = dict.fromkeys((run["model"], run.get("set")) for run in results["runs"])
    for model, name in shown:
        cells = Cells(results, model, name)
        boots = sorted({r["boots"] for r in cells.of.values()})
        rounds = sorted({r["rounds"] for r in cells.of.values()})
        print(f"\n### {model}: {name} (boots {boots}, rounds {rounds})")
        if name == "main" and model == "words":
            main_set(cells)
        elif name in ("spin", "load"):
            parts(cells, PARTS)
            short_set(cells)
        elif name in ("gifts", "gifts-line", "gifts-small", "windows", "windows-line"):
            gifts(cells)
        elif name in ("paced", "paced-load"):
            paced(cells)
        else:
            short_set(cells)


if __name__ == "__main__":
    main()
