# SPDX-License-Identifier: GPL-2.0-only
"""Tests of placements.py, on trees like /sys/devices/system/cpu."""

import os
import tempfile
import unittest

from placements import cpu_list, placements, read_cpu


class Machines(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def put(self, path, value):
        path = os.path.join(self.dir.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as f:
            f.write(f"{value}\n")

    def machine(self, threads, caches, packages, nodes=()):
        """Lists of lists of processors that share a core, a cache, a package, a node."""
        def of(groups, n):
            return next((i, group) for i, group in enumerate(groups) if n in group)
        numbers = sorted(n for group in threads for n in group)
        for n in numbers:
            self.put(f"cpu{n}/topology/thread_siblings_list", ",".join(map(str, of(threads, n)[1])))
            self.put(f"cpu{n}/topology/physical_package_id", of(packages, n)[0])
            for i, level, kind, shared in ((0, 1, "Data", [n]), (1, 1, "Instruction", numbers),
                                           (3, 3, "Unified", of(caches, n)[1])):
                self.put(f"cpu{n}/cache/index{i}/level", level)
                self.put(f"cpu{n}/cache/index{i}/type", kind)
                self.put(f"cpu{n}/cache/index{i}/shared_cpu_list", ",".join(map(str, shared)))
            if nodes:
                os.makedirs(os.path.join(self.dir.name, f"cpu{n}/node{of(nodes, n)[0]}"))
        return placements([read_cpu(self.dir.name, n) for n in numbers])

    def test_lists(self):
        self.assertEqual(cpu_list("0-2,7,9-10"), [0, 1, 2, 7, 9, 10])
        self.assertEqual(cpu_list(""), [])

    def test_two_threads_of_one_core(self):
        self.assertEqual(self.machine([[0, 1]], [[0, 1]], [[0, 1]]), {"siblings": (0, 1)})

    def test_two_cores(self):
        self.assertEqual(self.machine([[0], [1]], [[0, 1]], [[0, 1]]), {"cache": (0, 1)})

    def test_one_processor(self):
        self.assertEqual(self.machine([[0]], [[0]], [[0]]), {})

    def test_desktop(self):
        found = self.machine([[0, 4], [1, 5], [2, 6], [3, 7]],
                             [[0, 1, 4, 5], [2, 3, 6, 7]], [list(range(8))])
        self.assertEqual(found, {"cache": (2, 3), "package": (1, 2), "siblings": (1, 5)})
        self.assertEqual(list(found), ["cache", "package", "siblings"])

    def test_server(self):
        found = self.machine([[n] for n in range(8)], [[0, 1, 2, 3], [4, 5, 6, 7]],
                             [[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1], [2, 3], [4, 5], [6, 7]])
        self.assertEqual(found, {"cache": (2, 3), "node": (1, 2), "socket": (1, 4)})

    def test_nothing_known(self):
        found = placements([read_cpu(self.dir.name, n) for n in (0, 1)])
        self.assertEqual(found, {"package": (0, 1)})


if __name__ == "__main__":
    unittest.main()
