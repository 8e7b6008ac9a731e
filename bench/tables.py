# SPDX-License-Identifier: GPL-2.0-only
"""The tables of a cell, for people to read."""

from intervals import contains, how
from summary import CONTROL, COUNTS, PATHS, REFERENCE, SUBJECT, best_ratio, ratio
from units import interval_text, number, size_name

# Fields of a setting are shown only if they differ from these.
USUAL = {"load": 0, "align": 0, "read_bytes": 0, "working_set": 0, "buffers_huge": True, "route": "memory",
         "parameters": {}, "roam": False, "numa_nodes": 1}
# Too long for a heading, or named differently in it. results.json has them.
LEFT_OUT = {"model", "set", "kernel", "commit", "dirty", "module", "program", "mitigations",
            "arguments"}
RIVALS = [SUBJECT, "zpipe-1m"]


def heading(setting):
    dirty = {"no": "", "yes": " with changes"}.get(setting.get("dirty"), " (changes: unknown)")
    lines = [f"=== {setting['model']}, set {setting.get('set', '-')}: Linux {setting['kernel']}, "
             f"commit {setting.get('commit', 'unknown')}{dirty}, "
             f"module {setting.get('module', 'unknown')}"]
    words = [f"{k}={v}" for k, v in setting.items()
             if k not in LEFT_OUT and v != USUAL.get(k) and v is not None]
    lines.append("    " + ", ".join(words))
    if setting.get("arguments"):
        lines.append(f"    options: {setting['arguments']}")
    return "\n".join(lines)


def columns(titles, rows):
    """Prints rows of texts. Each column is as wide as its widest text."""
    rows = [titles] + rows
    widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
    for row in rows:
        print("  " + row[0].ljust(widths[0]),
              *(text.rjust(width) for text, width in zip(row[1:], widths[1:])))


def kept(record):
    """Texts: whether the reader's data is stable, and whether the ends spin."""
    return ("?" if record["stable"] is None else "yes" if record["stable"] else "NO",
            "spins" if record["spins"] else "")


def speed(gbps):
    return number(gbps, ".3f" if gbps is None or gbps >= 0.1 else ".2g")


def throughput(records):
    subjects = [r for r in records if r["mechanism"] in RIVALS]
    titles = ["", "stable", "", "GB/s", "min..max", "to pipe"]
    titles += [f"{r['mechanism']} to it" for r in subjects]
    titles += ["rtt us", "p99", "zpipe's rtt to it (<1 better)"]
    rows = []
    for r in records:
        name, gbps, rtt = r["mechanism"], r["gbps"], r["rtt_us"]
        row = [name, *kept(r), speed(gbps["median"]), f"{speed(gbps['min'])}..{speed(gbps['max'])}",
               interval_text(ratio(r, REFERENCE))]
        row += [interval_text(ratio(s, name)) for s in subjects]
        row += [number(rtt and rtt["median"], ".1f"), number(rtt and rtt["p99"], ".1f")]
        row += [interval_text(next((ratio(s, name, "rtt_us") for s in subjects
                                    if s["mechanism"] == SUBJECT), None))]
        rows.append(row)
    without(titles, rows)
    columns(titles, rows)


def latency(records):
    """The table of a paced cell. Its throughput is the pace, unless messages are late."""
    subjects = [r for r in records if r["mechanism"] == SUBJECT]
    titles = ["", "stable", "", "late", "latency us", "p99", "to pipe"]
    titles += [f"{SUBJECT}'s {what} to it (<1 better)"
               for what in ("latency", "processor time")] \
        if subjects else []
    rows = []
    for r in records:
        name, one = r["mechanism"], r["latency_us"]
        row = [name, *kept(r), number(r["late"], ".1%"), number(one and one["median"], ".1f"),
               number(one and one["p99"], ".1f"), interval_text(ratio(r, REFERENCE, "latency_us"))]
        row += [interval_text(ratio(s, name, what)) for s in subjects
                for what in ("latency_us", "cpu_ns_per_kib")]
        rows.append(row)
    without(titles, rows)
    columns(titles, rows)


def without(titles, rows):
    """Drops the columns without any value."""
    for i in reversed(range(1, len(titles))):
        if all(row[i] in ("-", "") for row in rows):
            del titles[i]
            for row in rows:
                del row[i]


def costs(records):
    titles = ["", "buffer", "ns/KiB", "to pipe", "tx cpu", "mid cpu", "rx cpu", "spun us/MiB", *COUNTS, *PATHS, "huge kB"]
    rows = []
    for r in records:
        rows.append([
            r["mechanism"], size_name(r["capacity"]) if r["capacity"] else "-",
            number(r["cpu_ns_per_kib"]["median"], ".0f"),
            interval_text(ratio(r, REFERENCE, "cpu_ns_per_kib")),
            number(r["tx_cpu"], ".0%"), number(r["mid_cpu"], ".0%"), number(r["rx_cpu"], ".0%"),
            number(r["spun_us_per_mib"], ".4g"),
            *(number(r["per_mib"][name], ".4g") for name in COUNTS),
            *(number(r["share"][name], ".0%") for name in PATHS),
            number(r["thp_kb"] or None, ".0f")])
    without(titles, rows)
    columns(titles, rows)


def remarks(records, skipped):
    """Yields remarks on a cell as a whole."""
    by_name = {r["mechanism"]: r for r in records}
    for r in (by_name[name] for name in RIVALS if name in by_name):
        for name, what in (("gbps", "throughput"), ("latency_us", "latency"),
                           ("rtt_us", "round trip"), ("cpu_ns_per_kib", "processor time")):
            rival, found = best_ratio(r, name)
            if found and not (name == "gbps" and r["pace_us"]):
                better = "" if name == "gbps" else " (below 1 is better)"
                yield (f"{r['mechanism']} to the best of {len(r['stable_rivals'])} rivals that "
                       f"keep data stable, {what}{better}: {interval_text(found)} to {rival}")
    control = by_name.get(CONTROL)
    what = "latency_us" if records and records[0]["pace_us"] else "gbps"
    found = control and ratio(control, REFERENCE, what)
    if found:
        yield (f"control, {CONTROL} to {REFERENCE}: {interval_text(found)}: "
               + ("contains 1, as it should" if contains(found, 1) else
                  "does NOT contain 1: the other intervals here are too narrow"))
    else:
        yield "control: not measured here"
    shown = [by_name[SUBJECT]] if SUBJECT in by_name else records
    for r in shown:
        found = ratio(r, REFERENCE)
        if found:
            yield f"intervals: {how(found)}"
            break
    for name, reason in skipped.items():
        yield f"skipped: {name}: {reason}"


def table(cell, records, skipped):
    pace = f", a message every {cell.pace_us} us" if cell.pace_us else ""
    print(f"\n{cell_name(cell)}{pace}")
    if records:
        (latency if cell.pace_us else throughput)(records)
        print()
        costs(records)
    for text in remarks(records, skipped):
        print("  " + text)


def cell_name(cell):
    return f"{size_name(cell.bytes)}, {cell.pairs} pair{'s' if cell.pairs > 1 else ''}"
