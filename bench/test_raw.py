# SPDX-License-Identifier: GPL-2.0-only
"""Tests of raw.py: which records form one cell and which do not."""

import os
import tempfile
import unittest

from raw import Raw, RawError, arguments_of, builds
from synthetic import row, run_record, skipped, write


class Files(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def raw(self, *records, wanted=None):
        raw = Raw()
        raw.read(write(os.path.join(self.dir.name, "raw"), records), wanted)
        return raw

    def cells(self, *records):
        return len(self.raw(*records).cells)

    def test_boots_of_a_setting_are_one_cell(self):
        raw = self.raw(run_record("a"), row("pipe", 1.0), run_record("b"), row("pipe", 2.0))
        (rows,) = raw.cells.values()
        self.assertEqual(rows["pipe"].boots(), 2)
        self.assertEqual(rows["pipe"].by_boot("gbps"), {"a": [1.0] * 7, "b": [2.0] * 7})

    def test_two_runs_in_a_boot_are_one_boot(self):
        raw = self.raw(run_record("a"), row("pipe", 1.0), run_record("a"), row("pipe", 2.0))
        (rows,) = raw.cells.values()
        self.assertEqual(rows["pipe"].by_boot("gbps"), {"a": [1.0] * 7 + [2.0] * 7})

    def test_every_setting_is_a_cell_of_its_own(self):
        for name, value in (
                ("commit", "def"), ("dirty", "yes"), ("module", "m2"), ("kernel", "7.2"),
                ("cpu", "another"), ("thp", "never"), ("touch", "page"), ("load", 2),
                ("buffers_huge", False), ("align", 100), ("read_bytes", 10240),
                ("working_set", 1 << 26), ("processors", None), ("set", "spin"),
                ("parameters", {"spin_us": "0"}), ("model", "max"), ("cpus", 4),
                ("mitigations", {}), ("something_new", 1),
                ("arguments", "bench -s 64 -r 7 -t 50")):
            with self.subTest(name):
                self.assertEqual(2, self.cells(
                    run_record(), row("pipe"), run_record(**{name: value}), row("pipe")))

    def test_size_pairs_and_pace_are_cells(self):
        self.assertEqual(4, self.cells(run_record(), row("pipe"), row("pipe", size=64),
                                       row("pipe", pairs=2), row("pipe", pace_us=10)))

    def test_sizes_and_files_are_no_setting(self):
        self.assertEqual(1, self.cells(
            run_record(), row("pipe"),
            run_record(arguments="bench -s 64,4096 -r 7 -m pipe -o /tmp/x -x date=1"),
            row("pipe", 2.0)))

    def test_arguments(self):
        self.assertEqual(arguments_of("/b -s 64 -p1,2 -t 20 -f -o x -d 10 -K a=1"),
                         "-t 20 -f -K a=1")
        self.assertEqual(arguments_of(["/b", "-x", "a b=c d", "-f"]), "-f")
        self.assertEqual(arguments_of("-t 20 -s 64"), "-t 20")
        self.assertEqual(arguments_of(""), "")

    def test_pairs_only_within_a_run(self):
        raw = self.raw(run_record("a"), row("pipe", 1.0), row("zpipe", 3.0),
                       run_record("a"), row("pipe", 2.0), row("zpipe", 2.0),
                       run_record("b"), row("zpipe", 9.0))
        (rows,) = raw.cells.values()
        ratios = rows["zpipe"].paired(rows["pipe"], "gbps", lambda a, b: a / b)
        self.assertEqual(ratios, {"a": [3.0] * 7 + [1.0] * 7})

    def test_rounds_that_do_not_match_are_not_paired(self):
        raw = self.raw(run_record(), row("pipe", [1.0, 2.0]), row("zpipe", [1.0]))
        (rows,) = raw.cells.values()
        self.assertEqual(rows["zpipe"].paired(rows["pipe"], "gbps", max), {})

    def test_null_lists(self):
        raw = self.raw(run_record(), row("pipe", spun=None, perf={"cycles": [1, 2]}))
        (rows,) = raw.cells.values()
        self.assertEqual(rows["pipe"].by_boot("spun"), {"boot-1": []})
        self.assertEqual(rows["pipe"].by_boot("perf.cycles"), {"boot-1": [1, 2]})
        self.assertEqual(rows["pipe"].by_boot("perf.llc_misses"), {"boot-1": []})

    def test_skipped(self):
        raw = self.raw(run_record(), row("pipe"), skipped("cma", "EPERM: process_vm_readv"))
        ((cell, rows),) = raw.cells.items()
        self.assertEqual(list(rows), ["pipe"])
        self.assertEqual(raw.skipped[cell], {"cma": "EPERM: process_vm_readv"})

    def test_refused(self):
        for records in ([row("pipe")], [run_record(), row("pipe"), row("pipe")],
                        [run_record(), {"bytes": 1}], [{"run": {}}]):
            with self.assertRaises(RawError):
                self.raw(*records)

    def test_other_builds_can_be_left_out(self):
        records = run_record(), row("pipe"), run_record(commit="def"), row("pipe", 2.0)
        raw = self.raw(*records, wanted=lambda setting: setting["commit"] == "def")
        (rows,) = raw.cells.values()
        self.assertEqual(rows["pipe"].by_boot("gbps"), {"boot-1": [2.0] * 7})

    def test_builds(self):
        path = write(os.path.join(self.dir.name, "x"),
                     [run_record("a"), run_record("b"), run_record(dirty="yes")])
        self.assertEqual([b["dirty"] for b in builds(path)], ["no", "yes"])


if __name__ == "__main__":
    unittest.main()
