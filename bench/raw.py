# SPDX-License-Identifier: GPL-2.0-only
"""Raw files: reads the output of bench -o into cells.

A line is one JSON object. Each invocation of the program begins with a run record, which
has its settings. The lines after it belong to that run. A cell is a setting, a message
size, a number of pairs and a pace. Runs of one setting in several boots share cells; runs
of different settings never do.
"""

import json
from collections import namedtuple

# The fields of a run record that differ between runs of one setting.
NOT_SETTINGS = {"boot", "date", "arguments"}

# Options of the program that choose cells, name files, or only label the run.
NOT_ARGUMENTS = {"-m", "-s", "-p", "-d", "-o", "-k", "-x", "-M", "-O"}

# The fields that identify a build. Results of different builds are not shown as one.
BUILD = ["commit", "dirty", "module", "program", "kernel"]

Cell = namedtuple("Cell", "setting bytes pairs pace_us")


class RawError(Exception):
    """The file is not one that bench wrote."""


class Row:
    """A mechanism in a cell: the records of all runs."""

    def __init__(self, mechanism):
        self.mechanism = mechanism
        self.records = {}  # run number: (boot, record)

    def add(self, run, boot, record):
        if run in self.records:
            raise RawError(f"{self.mechanism} twice in one cell of one run")
        self.records[run] = boot, record

    def latest(self, name, default=None):
        return [record for _, record in self.records.values()][-1].get(name, default)

    def boots(self):
        return len({boot for boot, _ in self.records.values()})

    def by_boot(self, name, value=None):
        """{boot: values of all its rounds}; value() is applied to each."""
        boots = {}
        for boot, record in self.records.values():
            rounds = values(record, name)
            boots.setdefault(boot, []).extend(map(value, rounds) if value else rounds)
        return boots

    def paired(self, other, name, operation, value=None):
        """{boot: operation(mine, other's) of each round}, of runs that have both."""
        boots = {}
        for run, (boot, record) in self.records.items():
            if run not in other.records:
                continue
            mine, its = values(record, name), values(other.records[run][1], name)
            if len(mine) != len(its):
                continue
            if value:
                mine, its = map(value, mine), map(value, its)
            boots.setdefault(boot, []).extend(operation(a, b) for a, b in zip(mine, its))
        return boots


def values(record, name):
    """The rounds' values. "perf.cycles" is looked up in "perf"."""
    found = record
    for part in name.split("."):
        found = (found or {}).get(part)
    return found or []


def arguments_of(line):
    """A command line without the options that choose cells and name files."""
    words = line if isinstance(line, list) else line.split()
    kept, skip = [], False
    for word in words[1:] if words and not words[0].startswith("-") else words:
        if skip:
            skip = False
        elif word in NOT_ARGUMENTS:
            skip = True
        elif word[:2] not in NOT_ARGUMENTS:
            kept.append(word)
    return " ".join(kept)


def setting_of(run):
    """The fields that distinguish settings: all of a run record except NOT_SETTINGS."""
    setting = {k: v for k, v in run.items() if k not in NOT_SETTINGS}
    setting["arguments"] = arguments_of(run.get("arguments", ""))
    return setting


def build_of(setting):
    return {name: setting.get(name) for name in BUILD}


class Raw:
    """All cells of some raw files."""

    def __init__(self):
        self.settings = []
        self.cells = {}    # Cell: {mechanism: Row}, in order
        self.skipped = {}  # Cell: {mechanism: reason}
        self.runs = 0
        self._numbers = {}

    def read(self, path, wanted=None):
        """Adds a file. If wanted(setting) is false, the lines of a run are ignored."""
        setting = boot = None
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                try:
                    record = json.loads(line)
                    if "run" in record:
                        self.runs += 1
                        boot = record["run"]["boot"]
                        setting = self._setting(setting_of(record["run"]), wanted)
                    elif boot is None:
                        raise RawError("no run record before it: an old file? Measure again")
                    elif setting is not None:
                        self._add(setting, boot, record)
                except (KeyError, ValueError, RawError) as error:
                    raise RawError(f"{path}:{number}: {error!r}") from error

    def _setting(self, setting, wanted):
        if wanted and not wanted(setting):
            return None
        key = json.dumps(setting, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.settings)
            self.settings.append(setting)
        return self._numbers[key]

    def _add(self, setting, boot, record):
        cell = Cell(setting, record["bytes"], record["pairs"], record.get("pace_us", 0))
        name = record["mechanism"]
        if "skipped" in record:
            self.skipped.setdefault(cell, {})[name] = record["skipped"]
            self.cells.setdefault(cell, {})
            return
        rows = self.cells.setdefault(cell, {})
        rows.setdefault(name, Row(name)).add(self.runs, boot, record)


def builds(path):
    """The builds of a file, each once."""
    found = []
    with open(path, encoding="utf-8") as f:
        for record in map(json.loads, f):
            if "run" in record and build_of(record["run"]) not in found:
                found.append(build_of(record["run"]))
    return found
