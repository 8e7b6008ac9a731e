#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""plot.py RESULTS.json DIR: draws the results, as SVG and PNG.

bench-MODEL.* is one page for each machine model: throughput, the ratio of zpipe to each
rival and to the best that keeps data stable, processor time, and latency. pairs-MODEL.*
shows how the total throughput depends on the number of pairs of processes. Both show the
sets main and pairs. The other sets are in the tables.
"""

import json
import sys
from collections import defaultdict

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from summary import SUBJECT, best_ratio, is_subject, ratio

# Related mechanisms share a colour. zpipe stands out.
STYLE = {
    "pipe": ("#222222", "-", "o"),
    "pipe-1m": ("#222222", "--", "o"),
    "unix": ("#3b75af", "-", "s"),
    "vmsplice": ("#c58b14", "-", "^"),
    "cma": ("#3f8f5a", "-", "D"),
    "memfd": ("#8561a8", "-", "v"),
    "shm": ("#8a8a8a", ":", "v"),
    "shm-copy": ("#8a8a8a", "-", "v"),
    "zpipe": ("#d1322e", "-", "o"),
    "zpipe-1m": ("#d1322e", "--", "o"),
}
LABELS = {
    "pipe": "pipe, 64 KiB",
    "pipe-1m": "pipe, 1 MiB",
    "unix": "UNIX stream",
    "vmsplice": "vmsplice (unstable)",
    "cma": "process_vm_readv",
    "memfd": "memfd ring (unstable)",
    "shm": "shm ring (unstable)",
    "shm-copy": "shm ring, copied out",
    "zpipe": "zpipe, 64 KiB",
    "zpipe-1m": "zpipe, 1 MiB",
}
TOUCH = {"page": "a word of each page", "line": "a word of each cache line", "sum": "all"}
MODELS = {
    "words": "Software emulation, copies by words",
    "max": "Software emulation, copies byte by byte (flatters what does not copy)",
    "insns": "Emulated, one processor, a clock that counts instructions",
    "kvm": "KVM guest",
    "host": "The machine itself",
}


def style(name):
    color, line, marker = STYLE[name]
    subject = name == SUBJECT
    return {
        "color": color, "linestyle": line, "marker": marker, "markersize": 5 if subject else 3.5,
        "linewidth": 2.8 if subject else 1.4, "zorder": 5 if subject else 3,
        "label": LABELS.get(name, name),
    }


def size_name(n):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit:
            return f"{n / unit:g} {name}"
    return f"{n:g} B"


def size_axis(ax, sizes):
    ax.set_xscale("log", base=2)
    ax.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    ticks = [s for s in (4 ** k for k in range(3, 16)) if min(sizes) <= s <= max(sizes)]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: size_name(v)))
    ax.tick_params(axis="x", labelsize=8)


def plain_log(axis):
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def series(records, value):
    """{mechanism: (sizes, values)}, in the order of measurement."""
    out = defaultdict(lambda: ([], []))
    for r in sorted(records, key=lambda r: r["bytes"]):
        v = value(r)
        if v is not None:
            out[r["mechanism"]][0].append(r["bytes"])
            out[r["mechanism"]][1].append(v)
    return {name: out[name] for name in order(records) if name in out}


def order(records):
    """The mechanisms that are drawn. More lines would be hard to tell apart."""
    return [name for name in dict.fromkeys(r["mechanism"] for r in records) if name in STYLE]


def throughput(ax, records):
    for name, (x, y) in series(records, lambda r: r["gbps"]["median"]).items():
        ax.plot(x, y, **style(name))
    ax.set_ylim(bottom=0)
    ax.set_title("Throughput")
    ax.set_ylabel("GB/s")


def ratios(ax, records):
    mine = [r for r in records if r["mechanism"] == SUBJECT]
    for name in order(records):
        points = [(r["bytes"], ratio(r, name)["median"]) for r in mine if ratio(r, name)]
        if points and not is_subject(name):
            ax.plot(*zip(*sorted(points)), **style(name))
    best = sorted((r["bytes"], one) for r in mine for one in [best_ratio(r)[1]] if one)
    if best:
        sizes = [size for size, _ in best]
        ax.plot(sizes, [one["median"] for _, one in best], color=style(SUBJECT)["color"],
                linewidth=2.8, zorder=5)
        ax.fill_between(sizes, *([one[k] for _, one in best] for k in ("low", "high")),
                        color=style(SUBJECT)["color"], linewidth=0, alpha=0.2)
    ax.axhline(1, color="#222222", linewidth=0.8)
    ax.set_yscale("log", base=2)
    ax.set_ylim(1 / 16, 16)
    plain_log(ax.yaxis)
    ax.yaxis.set_major_formatter(FuncFormatter(
        lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}"))
    ax.set_title("zpipe as a multiple of each; red: of the best that is stable")
    ax.set_ylabel("times")


def cpu(ax, records, unit):
    for name, (x, y) in series(records, lambda r: r["cpu_ns_per_kib"]["median"]).items():
        ax.plot(x, y, **style(name))
    ax.set_yscale("log")
    plain_log(ax.yaxis)
    ax.set_title("Processor time of both processes")
    ax.set_ylabel(f"{unit} per KiB")


def latency(ax, records, unit):
    rows = [r for r in records if r["rtt_us"] and r["mechanism"] in STYLE]
    rows.sort(key=lambda r: -r["rtt_us"]["median"])
    for i, r in enumerate(rows):
        rtt, color = r["rtt_us"], style(r["mechanism"])["color"]
        ax.plot([rtt["median"], rtt["p99"]], [i, i], color=color, linewidth=2, alpha=0.5)
        ax.plot(rtt["p99"], i, marker="|", markersize=12, markeredgewidth=2, color=color)
        ax.plot(rtt["median"], i, marker="o", markersize=10, color=color)
        ax.annotate(f"{rtt['median']:.3g}", (rtt["median"], i), xytext=(-9, 0),
                    textcoords="offset points", ha="right", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [style(r["mechanism"])["label"].split(" (")[0]
                                     for r in rows])
    ax.set_xscale("log")
    if rows:
        ax.set_xlim(min(r["rtt_us"]["median"] for r in rows) / 2)
        ax.set_ylim(-0.6, len(rows) - 0.4)
    plain_log(ax.xaxis)
    ax.set_title("Round trip of 64 B: median, and as far as the 99th percentile")
    ax.set_xlabel(unit)


def save(fig, path):
    for kind in ("svg", "png"):
        fig.savefig(f"{path}.{kind}", dpi=130)
    plt.close(fig)


def page(records, model, path):
    one = [r for r in records if r["pairs"] == 1]
    sizes = sorted({r["bytes"] for r in one})
    if len(sizes) < 2:
        return
    counted = model == "insns"
    fig, axes = plt.subplots(2, 2, figsize=(14, 10))
    fig.subplots_adjust(left=0.085, right=0.985, top=0.83, bottom=0.06, wspace=0.25, hspace=0.3)
    throughput(axes[0][0], one)
    ratios(axes[0][1], one)
    cpu(axes[1][0], one, "instructions" if counted else "ns")
    latency(axes[1][1], one, "thousand instructions" if counted else "microseconds")
    if counted:
        axes[0][0].set_ylabel("bytes per instruction")
        axes[1][0].set_title("Instructions of both processes")
    for ax in (axes[0][0], axes[0][1], axes[1][0]):
        size_axis(ax, sizes)
        ax.set_xlabel("message size")
    header(fig, "From one process to another: zpipe beside the other ways",
           f"{MODELS.get(model, model)}; Linux {one[0]['kernel']}\n"
           f"Both ends touch {TOUCH.get(one[0]['touch'], one[0]['touch'])} of a message; medians of "
           f"{max(r['boots'] for r in one)} boots and {max(r['rounds'] for r in one)} rounds in "
           f"all, in each of which all take their turn; commit {one[0]['commit']}")
    legend(fig, axes[0][0])
    save(fig, path)


def header(fig, title, text):
    inch = 1 / fig.get_figheight()
    fig.text(0.015, 1 - 0.2 * inch, title, fontsize=17, fontweight="bold", va="top")
    fig.text(0.015, 1 - 0.58 * inch, text, fontsize=10, color="#555555", va="top",
             linespacing=1.4)


def legend(fig, ax):
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="upper left", ncols=len(labels), frameon=False, fontsize=8,
               bbox_to_anchor=(0.008, 1 - 1.02 / fig.get_figheight()), handlelength=2.2,
               columnspacing=0.9)


def pairs_page(records, model, path):
    several = {r["bytes"] for r in records if r["pairs"] > 1}
    sizes = sorted(several)
    if not sizes:
        return
    fig, axes = plt.subplots(1, len(sizes), figsize=(14, 5.6), squeeze=False)
    fig.subplots_adjust(left=0.05, right=0.985, top=0.68, bottom=0.1, wspace=0.16)
    for ax, size in zip(axes[0], sizes):
        rows = [r for r in records if r["bytes"] == size]
        for name in order(rows):
            mine = sorted((r for r in rows if r["mechanism"] == name), key=lambda r: r["pairs"])
            ax.plot([r["pairs"] for r in mine], [r["gbps"]["median"] for r in mine], **style(name))
        counts = sorted({r["pairs"] for r in rows})
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(counts))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.set_ylim(bottom=0)
        ax.set_title(size_name(size))
        ax.set_xlabel("pairs of processes")
    axes[0][0].set_ylabel("GB/s, all pairs together")
    header(fig, "Several pairs of processes at once",
           f"{MODELS.get(model, model)}; Linux {records[0]['kernel']}\n"
           "Throughput of all pairs together; a single pair's ends are on processors of their own,"
           " the others run where the scheduler puts them")
    legend(fig, axes[0][0])
    save(fig, path)


def read(path):
    """Records of the sets that are drawn, with the values of their settings.

    If a set has several settings on one model, the last one is drawn.
    """
    with open(path, encoding="utf-8") as f:
        results = json.load(f)
    last = {}
    for number, run in enumerate(results["runs"]):
        if run.get("set") in ("main", "pairs"):
            last[run["model"], run["set"]] = number
    kept = {number: results["runs"][number] for number in last.values()}
    return [{**r, **{k: kept[r["run"]].get(k, "?") for k in ("model", "kernel", "touch", "commit")}}
            for r in results["results"] if r["run"] in kept and not r["pace_us"]]


def main():
    results, out = sys.argv[1:]
    records = read(results)
    matplotlib.rcParams.update({
        "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.7,
        "svg.fonttype": "none", "svg.hashsalt": "zpipe", "figure.facecolor": "white",
    })
    for model in dict.fromkeys(r["model"] for r in records):
        mine = [r for r in records if r["model"] == model]
        page(mine, model, f"{out}/bench-{model}")
        pairs_page(mine, model, f"{out}/pairs-{model}")


main()
