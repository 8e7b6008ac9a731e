# SPDX-License-Identifier: GPL-2.0-only
"""Tests of skipped.py."""

import unittest

from skipped import SKIPS, listed_skips, unlisted_skips

LIST = """
# a comment
only there\toracle 7.2
with cuts\tcut_copies=
old kernels\t7.*
"""
DOCUMENT = """KTAP version 1
1..2
    KTAP version 1
    # Subtest: first
    1..3
    ok 1 all.pipe.one # SKIP only there
    ok 2 all.zpair.one # SKIP only there
    ok 3 two # SKIP with cuts
ok 1 first
    KTAP version 1
    # Subtest: second
    1..0 # SKIP old kernels
ok 2 second # SKIP
"""


class Skipped(unittest.TestCase):
    """Which skips are expected."""

    def test_oracle_and_others(self):
        """A reason of the kernel's own pipes does not hold for zpipe."""
        self.assertEqual(unlisted_skips(DOCUMENT, "7.3", "cut_copies=1", LIST),
                         ["first: all.zpair.one: only there"])

    def test_kernels_and_parameters(self):
        """Each reason is listed for some runs."""
        self.assertEqual(unlisted_skips(DOCUMENT, "7.2", "", LIST), ["first: two: with cuts"])
        self.assertEqual(unlisted_skips(DOCUMENT, "debug", "cut_copies=1", LIST),
                         ["first: all.zpair.one: only there", "second: second: old kernels"])

    def test_unknown_reason(self):
        """A reason that nobody listed."""
        self.assertEqual(unlisted_skips("    # Subtest: p\n    ok 1 a.fifo.b # SKIP rain\n",
                                        "7.3", "", LIST), ["p: a.fifo.b: rain"])

    def test_other_forms(self):
        """kselftest has a form without a name."""
        self.assertEqual(unlisted_skips("    # Subtest: p\n    ok 1 # SKIP rain\n", "7.3", "", LIST),
                         ["p: : rain"])

    def test_the_list(self):
        """The list itself: no reason stands there twice, and each holds somewhere."""
        lines = [line for line in SKIPS.read_text(encoding="utf-8").splitlines()
                 if line and not line.startswith("#")]
        reasons = [line.split("\t")[0] for line in lines]
        self.assertEqual(len(reasons), len(set(reasons)))
        listed = listed_skips("\n".join(lines), "7.3", "")
        self.assertFalse(listed["no commands"])
        self.assertTrue(listed["no KUnit here"])
        self.assertNotIn("no KUnit here", listed_skips("\n".join(lines), "debug", ""))


if __name__ == "__main__":
    unittest.main()
