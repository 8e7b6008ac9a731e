# SPDX-License-Identifier: GPL-2.0-only
"""Tests of mutate: what counts as a killed mutant."""

import importlib.machinery
import importlib.util
import pathlib
import unittest

PATH = pathlib.Path(__file__).resolve().parent / "mutate"
LOADER = importlib.machinery.SourceFileLoader("mutate", str(PATH))
mutate = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutate", LOADER))
LOADER.exec_module(mutate)


class Fates(unittest.TestCase):
    """The fate of a mutant whose tests ended in one way or another."""

    def test_guest(self):
        """Only a test, the kernel or a hang kill a mutant."""
        died = "not looked at: the guest died"
        for status, output, verdict, fate in (
                (0, "ok 1 basic\n", "clean", "survived"),
                (-15, "    not ok 3 all.zpair.x\n", "", "killed"),
                (99, "ok 1 basic\nzpipe: FOUND: taint 0x80\n", "findings", "killed"),
                (124, "zpipe: time-out\n", "not looked at: time-out", "killed"),
                (99, "[ 3.2] Kernel panic - not syncing\nzpipe: the guest died\n", died, "killed"),
                (99, "zpipe: the guest died\n", died, "not tried"),
                (125, "qemu: cannot set up guest memory\n", "not looked at: no guest", "not tried"),
                (1, "cp: No space left on device\n", "", "not tried"),
                (1, "# it is not ok 1 to say so\n", "clean", "not tried")):
            with self.subTest(output=output):
                self.assertEqual(mutate.guest_fate(status, output, verdict), fate)

    def test_unit_tests(self):
        """A failed test or a hang kills, an error of the compiler or the linker does not."""
        for status, output, fate in (
                (0, "test result: ok. 3 passed\n", "survived"),
                (101, "test result: FAILED. 2 passed; 1 failed\n", "killed"),
                (124, "", "killed"),
                (125, "error[E0308]: mismatched types\n", "stillborn"),
                (1, "No space left on device\n", "not tried")):
            with self.subTest(output=output):
                self.assertEqual(mutate.unit_fate(status, output), fate)


if __name__ == "__main__":
    unittest.main()
