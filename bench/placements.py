#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""placements.py: pairs of processors for the two ends of a pair.

Prints a line "NAME A,B" for each kind of pair that this machine has and this process may
use. The usual one is first, "free free" is last:

  cache     two cores that share a last-level cache
  siblings  two threads of a core
  package   two cores of a package that do not share such a cache
  node      two NUMA nodes of a package
  socket    two packages
  free      the scheduler places the ends
"""

import os
import re
import sys
from collections import namedtuple

ORDER = ["cache", "package", "siblings", "node", "socket"]

Cpu = namedtuple("Cpu", "number core package node cache")


def text(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


def cpu_list(words):
    """The numbers of a list such as 0-3,8."""
    found = []
    for word in filter(None, words.split(",")):
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def last_cache(directory, alone):
    """The processors that share the cache of the highest level."""
    best = 0, alone
    try:
        indices = [name for name in os.listdir(directory) if name.startswith("index")]
    except OSError:
        indices = []
    for name in indices:
        level = int(text(f"{directory}/{name}/level") or 0)
        shared = tuple(cpu_list(text(f"{directory}/{name}/shared_cpu_list"))) or alone
        if text(f"{directory}/{name}/type") != "Instruction" and level > best[0]:
            best = level, shared
    return best[1]


def read_cpu(root, number):
    where = f"{root}/cpu{number}"
    alone = (number,)
    # A core is named by its first thread.
    threads = cpu_list(text(f"{where}/topology/thread_siblings_list"))
    try:
        nodes = [int(name[4:]) for name in os.listdir(where) if re.fullmatch(r"node\d+", name)]
    except OSError:
        nodes = []
    return Cpu(number, min(threads or alone),
               int(text(f"{where}/topology/physical_package_id") or 0),
               min(nodes, default=0), last_cache(f"{where}/cache", alone))


def kind(a, b):
    if a.core == b.core:
        return "siblings"
    if a.package != b.package:
        return "socket"
    if a.node != b.node:
        return "node"
    return "cache" if b.number in a.cache else "package"


def placements(cpus):
    """{kind: (A, B)}, in ORDER.

    Of several pairs it prefers the first one without the core of processor 0, which has
    more of the machine's own work to do than others.
    """
    found = {}
    cpus = sorted(cpus)
    pairs = [(a, b) for i, a in enumerate(cpus) for b in cpus[i + 1:]]
    for a, b in sorted(pairs, key=lambda pair: 0 in (pair[0].core, pair[1].core)):
        found.setdefault(kind(a, b), (a.number, b.number))
    return {name: found[name] for name in ORDER if name in found}


def main():
    root = "/sys/devices/system/cpu"
    cpus = [read_cpu(root, number) for number in sorted(os.sched_getaffinity(0))]
    for name, pair in placements(cpus).items():
        print(name, "{},{}".format(*pair))
    print("free free")
    return 0


if __name__ == "__main__":
    sys.exit(main())
