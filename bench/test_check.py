# SPDX-License-Identifier: GPL-2.0-only
"""Tests of summary.py, collect.py and check.py: from raw files to verdicts."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from check import FAIL, PASS, UNDECIDED, of_count, of_throughput, status
from intervals import interval
from synthetic import row, run_record, skipped, write

HERE = os.path.dirname(os.path.abspath(__file__))


def around(*values):
    """An interval from minimum to maximum that covers enough for a verdict."""
    return interval({"a": list(values) * (6 // len(values))})


class Verdicts(unittest.TestCase):
    def test_throughput(self):
        fine = around(0.99, 1, 1.01)
        self.assertEqual(of_throughput(around(0.97, 1.0, 1.1), fine), PASS)
        self.assertEqual(of_throughput(around(0.98, 0.98, 0.99), fine), PASS)
        self.assertEqual(of_throughput(around(0.96, 1.0, 1.1), fine), UNDECIDED)
        self.assertEqual(of_throughput(around(0.96, 0.97, 0.99), fine), FAIL)
        self.assertEqual(of_throughput(around(0.96, 0.97, 1.0), fine), UNDECIDED)

    def test_bad_control_removes_pass_but_not_fail(self):
        off = around(1.1, 1.2)
        self.assertEqual(of_throughput(around(2, 3), off), UNDECIDED)
        self.assertEqual(of_throughput(around(0.5, 0.6), off), FAIL)
        self.assertEqual(of_throughput(around(2, 3), None), PASS)

    def test_little_coverage_decides_nothing(self):
        few = interval({"a": [2.0, 2.0, 2.0]})
        self.assertEqual(of_throughput(few, None), UNDECIDED)
        self.assertEqual(of_throughput(interval({"a": [0.5] * 4}), None), UNDECIDED)
        self.assertEqual(of_throughput(interval({"a": [0.5] * 5}), None), FAIL)
        self.assertEqual(of_count(few, 1, 10), UNDECIDED)

    def test_control_that_is_off_by_little(self):
        self.assertEqual(of_throughput(around(2, 3), around(1.01, 1.03)), PASS)
        self.assertEqual(of_throughput(around(2, 3), around(1.04, 1.05)), UNDECIDED)
        self.assertEqual(of_throughput(around(2, 3), around(0.9, 0.96)), UNDECIDED)

    def test_counts(self):
        self.assertEqual(of_count(around(-3, -2, 0.1), 1, 10), PASS)
        self.assertEqual(of_count(around(-3, 0, 3), 1, 10), UNDECIDED)
        self.assertEqual(of_count(around(1, 2, 3), 3, 10), FAIL)
        # Two percent of pipe's count are within the slack.
        self.assertEqual(of_count(around(1, 2, 3), 402, 10), PASS)
        # So are two events in a round of a tenth of a MiB.
        self.assertEqual(of_count(around(10, 10, 20), 30, 0.1), PASS)
        self.assertEqual(of_count(around(21, 22, 23), 30, 0.1), FAIL)

    def test_status(self):
        self.assertEqual(status([]), 3)
        self.assertEqual(status([PASS, PASS]), 0)
        self.assertEqual(status([PASS, UNDECIDED]), 2)
        self.assertEqual(status([PASS, UNDECIDED, FAIL]), 1)


class Programs(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def program(self, name, *args):
        done = subprocess.run([sys.executable, os.path.join(HERE, name), *args],
                              capture_output=True, text=True, check=False)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout + done.stderr

    def collect(self, *records, options=()):
        raw = write(self.path("raw"), records)
        code, text = self.program("collect.py", "-o", self.path("results"), raw, *options)
        self.assertEqual(code, 0, text)
        with open(self.path("results"), encoding="utf-8") as f:
            return json.load(f), text

    def check(self, *records, rows=None):
        self.collect(*records)
        gate = []
        if rows is not None:
            with open(self.path("rows"), "w", encoding="utf-8") as f:
                f.write("\n".join(rows))
            gate = ["--gate", self.path("rows")]
        return self.program("check.py", *gate, self.path("results"))

    def boots(self, n, **gbps):
        """Records of @n boots. Boot b has gbps[name](b)."""
        for b in range(n):
            yield run_record(f"boot-{b}")
            for name, value in gbps.items():
                yield row(name.replace("_", "-"), value(b))

    def test_ratios_to_each_rival(self):
        results, text = self.collect(*self.boots(
            6, pipe=lambda b: 1 + b, pipe_again=lambda b: 1 + b, unix=lambda b: 2 + 2 * b,
            vmsplice=lambda b: 50, zpipe=lambda b: 4 + 4 * b, zpipe_1m=lambda b: 8 + 8 * b))
        by_name = {r["mechanism"]: r for r in results["results"]}
        zpipe = by_name["zpipe"]
        self.assertEqual(set(zpipe["ratios"]), set(by_name) - {"zpipe"})
        self.assertEqual(zpipe["ratios"]["unix"]["gbps"], {
            "median": 2, "low": 2, "high": 2, "kind": "boots", "n": 6, "coverage": 0.9688})
        self.assertEqual(by_name["zpipe-1m"]["ratios"]["unix"]["gbps"]["median"], 4)
        # vmsplice is faster, but its data is not stable. zpipe-1m is not a rival.
        self.assertEqual(zpipe["best_stable"]["gbps"], "unix")
        self.assertIn("zpipe to the best of 2 rivals that keep data stable, throughput: "
                      "2.00 (2.00..2.00) to unix", text)
        self.assertIn("medians of 6 boots; covers the true median with 96.9%", text)
        self.assertIn("control, pipe-again to pipe: 1.00 (1.00..1.00): contains 1", text)

    def test_boots_decide_not_rounds(self):
        # The rounds of each boot agree, and the boots differ: pooled rounds would hide
        # this.
        results, _ = self.collect(*self.boots(
            6, pipe=lambda b: 1.0, zpipe=lambda b: 0.5 if b == 0 else 2.0))
        ratio = results["results"][1]["ratios"]["pipe"]["gbps"]
        self.assertEqual((ratio["low"], ratio["median"], ratio["high"]), (0.5, 2.0, 2.0))

    def test_status(self):
        one = self.boots
        self.assertEqual(self.check(*one(6, pipe=lambda b: 1, zpipe=lambda b: 1))[0], 0)
        self.assertEqual(self.check(*one(6, pipe=lambda b: 1, zpipe=lambda b: 0.9))[0], 1)
        self.assertEqual(
            self.check(*one(6, pipe=lambda b: 1, zpipe=lambda b: 0.9 + b / 20))[0], 2)
        self.assertEqual(self.check(*one(6, pipe=lambda b: 1))[0], 3)

    def test_control_that_is_off(self):
        code, text = self.check(*self.boots(
            6, pipe=lambda b: 1, pipe_again=lambda b: 1.1, zpipe=lambda b: 2))
        self.assertEqual(code, 2)
        self.assertIn("CONTROL 1.10 (1.10..1.10) is off", text)
        self.assertIn("1 of 1 controls do not contain 1", text)

    def test_missing_rows_do_not_pass(self):
        code, text = self.check(run_record(), row("pipe"), skipped("zpipe", "EAGAIN: unload"))
        self.assertEqual(code, 2)
        self.assertIn("UNDECIDED zpipe: EAGAIN: unload", text)
        self.assertEqual(self.check(run_record(), skipped("pipe", "EMFILE: pipe"),
                                    row("zpipe"))[0], 2)
        self.assertEqual(self.check(run_record(), row("zpipe"))[0], 3)
        self.assertEqual(self.check(run_record(), row("pipe", [1.0, None] * 4),
                                    row("zpipe", [1.0] * 8))[0], 2)

    def test_fewer_boots_do_not_pass(self):
        records = list(self.boots(6, pipe=lambda b: 1, zpipe=lambda b: 2))
        for i in range(5):
            records[3 * i + 2] = skipped("zpipe", "EAGAIN: unload")
        self.assertEqual(self.check(*records)[0], 2)

    def test_counts_fail(self):
        records = [run_record(), row("pipe"), row("zpipe", 2.0, faults=[5.0] * 7)]
        code, text = self.check(*records)
        self.assertEqual(code, 1)
        self.assertIn("FAIL faults 5 (+5)", text)

    def test_paced_cells_have_no_verdict(self):
        paced = {"pace_us": 10, "late": [0.5] * 7, "latency_us": [[1.0, 3.0]] * 7}
        code, _ = self.check(run_record(), row("pipe", **paced), row("zpipe", 0.1, **paced))
        self.assertEqual(code, 3)
        _, text = self.collect(run_record(), row("pipe", **paced), row("zpipe", 0.1, **paced))
        self.assertIn("a message every 10 us", text)
        self.assertIn("50.0%", text)
        self.assertIn("rivals that keep data stable, latency (below 1 is better): 1.00", text)

    def other_route(self, **cpu):
        """Records of six boots from a file. Each mechanism takes cpu[name] ns per KiB."""
        for b in range(6):
            yield run_record(f"boot-{b}", route="file", set="splice-file")
            for name, ns in cpu.items():
                yield row(name.replace("_", "-"), cpu_ns_per_kib=[ns] * 7, allocs=[256.0] * 7)

    def test_other_routes_are_judged_by_processor_time(self):
        code, text = self.check(*self.other_route(pipe=100, pipe_again=100, zpipe=102))
        self.assertEqual(code, 0, text)
        self.assertIn("processor time on other routes: 1 PASS", text)
        code, text = self.check(*self.other_route(pipe=100, pipe_again=100, zpipe=104))
        self.assertEqual(code, 1, text)
        self.assertIn("1.04 (1.04..1.04)", text)

    def test_gate_wants_no_rows_on_other_routes(self):
        records = [*self.gate_records(), *self.other_route(pipe=1, pipe_again=1, zpipe=9)]
        code, text = self.check(*records, rows=["pipe", "zpipe", "cma"])
        self.assertEqual(code, 0, text)

    def gate_records(self, **changed):
        return [run_record(), row("pipe"), row("pipe-again"),
                row("zpipe", 0.5, **changed), skipped("cma", "ENOSYS: process_vm_readv")]

    def test_gate_ignores_throughput(self):
        rows = ["pipe", "pipe-again", "zpipe", "cma"]
        code, text = self.check(*self.gate_records(), rows=rows)
        self.assertEqual(code, 0, text)
        self.assertIn("FAIL", text)

    def test_gate_fails_by_counts(self):
        code, _ = self.check(*self.gate_records(allocs=[9.0] * 7), rows=["pipe"])
        self.assertEqual(code, 1)

    def test_gate_fails_by_rows(self):
        code, text = self.check(*self.gate_records(), rows=["unix"])
        self.assertEqual(code, 1)
        self.assertIn("unix did not run with 64 KiB, and nothing says why", text)
        records = self.gate_records() + [skipped("unix", "EPERM: socket")]
        code, text = self.check(*records, rows=["unix"])
        self.assertEqual(code, 1)
        self.assertIn("unix did not run with 64 KiB: EPERM: socket", text)

    def test_gate_knows_messages_without_a_huge_page(self):
        for name in ("zpipe-gift", "zpipe-window", "zpipe-commit-read", "zpipe-window-gather"):
            records = self.gate_records() + [skipped(name, "EMSGSIZE: messages")]
            code, text = self.check(*records, rows=["pipe", name])
            self.assertEqual(code, 0, text)
            records[-1] = skipped(name, "ENOMEM: messages")
            self.assertEqual(self.check(*records, rows=[name])[0], 1)
        # It takes messages of any size.
        records[-1] = skipped("zpipe-write-peek", "EMSGSIZE: messages")
        self.assertEqual(self.check(*records, rows=["zpipe-write-peek"])[0], 1)

    def test_gate_accepts_missing_privileges_on_hosts(self):
        records = self.gate_records()
        records[-1] = skipped("cma", "EPERM: process_vm_readv")
        self.assertEqual(self.check(*records, rows=["cma"])[0], 1)
        records[0] = run_record(model="host")
        self.assertEqual(self.check(*records, rows=["cma"])[0], 0)

    def test_gate_fails_by_control(self):
        records = self.gate_records()
        records[2] = row("pipe-again", 3.0)
        self.assertEqual(self.check(*records, rows=["pipe"])[0], 1)
        del records[2]
        code, text = self.check(*records, rows=["pipe"])
        self.assertEqual(code, 1)
        self.assertIn("no control", text)

    def test_gate_with_nothing(self):
        self.assertEqual(self.check(run_record(), row("pipe"), row("pipe-again"),
                                    rows=["pipe"])[0], 3)

    def test_builds_do_not_mix(self):
        old = write(self.path("old"), [run_record(commit="old"), row("pipe", 9.0)])
        results, text = self.collect(run_record(), row("pipe"),
                                     options=(old, "--like", self.path("raw")))
        self.assertEqual([r["commit"] for r in results["runs"]], ["abc"])
        self.assertIn("left out of", text)
        self.assertIn("commit old", text)
        results, text = self.collect(run_record(), row("pipe"), options=(old,))
        self.assertEqual(len(results["results"]), 2)
        self.assertIn("several builds", text)

    def test_old_file_beside_a_new_one(self):
        old = write(self.path("old"), [row("pipe", 9.0)])
        results, text = self.collect(run_record(), row("pipe"),
                                     options=(old, "--like", self.path("raw")))
        self.assertEqual(len(results["results"]), 1)
        self.assertIn("no run records: an old file", text)

    def test_old_file(self):
        write(self.path("raw"), [row("pipe")])
        code, text = self.program("collect.py", self.path("raw"))
        self.assertEqual(code, 1)
        self.assertIn("no run record", text)

    def test_round_trips(self):
        results, text = self.collect(
            run_record(), row("pipe", trips_us=[[10.0, 30.0]] * 7),
            row("zpipe", trips_us=[[5.0, 5.0]] * 7), row("vmsplice", trips_us=[[1.0]] * 7))
        zpipe = results["results"][1]
        self.assertEqual(zpipe["rtt_us"]["median"], 5)
        self.assertEqual(zpipe["ratios"]["pipe"]["rtt_us"]["median"], 0.25)
        self.assertIn("round trip (below 1 is better): 0.25 (0.25..0.25) to pipe", text)

    def instructions(self, records, *options):
        write(self.path("raw"), records)
        return self.program("gate.py", *options, "7.3", self.path("baseline"), self.path("raw"))

    def test_instructions(self):
        def counted(ns):
            return [run_record(), row("zpipe", size=1024, model="alone", cpu_ns_per_kib=[ns]),
                    skipped("cma", "EPERM: x")]
        self.assertEqual(self.instructions(counted(1000.0))[0], 1)
        self.assertEqual(self.instructions(counted(1000.0), "--accept")[0], 0)
        self.assertEqual(self.instructions(counted(1009.0))[0], 0)
        self.assertEqual(self.instructions(counted(1011.0))[0], 1)
        code, text = self.instructions([run_record(), *counted(1000.0)[1:1],
                                        row("zpipe", size=64, model="alone")])
        self.assertEqual(code, 1)
        self.assertIn("FAIL: not counted", text)
        code, text = self.instructions([run_record(), row("zpipe", size=64, model="alone")],
                                       "--accept")
        self.assertEqual(code, 1)
        self.assertIn("not accepted", text)
        self.assertEqual(self.instructions([run_record()], "--accept")[0], 1)


if __name__ == "__main__":
    unittest.main()
