# SPDX-License-Identifier: GPL-2.0-only
"""Tests of intervals.py."""

import random
import unittest
from statistics import median

from intervals import bounds, contains, how, interval, percentile


class Bounds(unittest.TestCase):
    def test_minimum_to_maximum_up_to_eight(self):
        for n in range(1, 9):
            low, high, coverage = bounds(range(n))
            self.assertEqual((low, high), (0, n - 1))
            self.assertAlmostEqual(coverage, 1 - 2 / 2 ** n)

    def test_coverage_of_seven(self):
        self.assertAlmostEqual(bounds(range(7))[2], 0.984375)

    def test_leaves_out_the_ends_from_nine(self):
        low, high, coverage = bounds(range(9))
        self.assertEqual((low, high), (1, 7))
        self.assertAlmostEqual(coverage, 1 - 2 * 10 / 512)

    def test_known_table(self):
        # Ranks of the 95 % interval of a median, from statistics books.
        for n, low, high in ((10, 2, 9), (15, 4, 12), (20, 6, 15), (25, 8, 18)):
            self.assertEqual(bounds(range(1, n + 1))[:2], (low, high), n)

    def test_order_does_not_matter(self):
        self.assertEqual(bounds([3, 1, 2])[:2], (1, 3))

    def test_covers_as_often_as_it_says(self):
        # A skewed distribution, whose median is ln 2.
        dice = random.Random(1)
        for n in (6, 7, 12):
            hits, tries = 0, 4000
            for _ in range(tries):
                low, high, coverage = bounds([dice.expovariate(1) for _ in range(n)])
                hits += low <= 0.693147 <= high
            self.assertAlmostEqual(hits / tries, coverage, delta=0.015)


class Interval(unittest.TestCase):
    def test_one_boot_has_its_rounds(self):
        one = interval({"a": [1, 2, 3, 4, 5, 6, 7]})
        self.assertEqual((one["kind"], one["n"], one["median"]), ("rounds", 7, 4))
        self.assertEqual((one["low"], one["high"]), (1, 7))
        self.assertIn("single boot", how(one))
        self.assertIn("98.4%", how(one))

    def test_boots_have_their_medians(self):
        # Boots whose rounds agree with each other and not with those of other boots.
        one = interval({"a": [1.0] * 50, "b": [2.0] * 3, "c": [9.0, 4.0, 4.0]})
        self.assertEqual((one["kind"], one["n"]), ("boots", 3))
        self.assertEqual((one["low"], one["median"], one["high"]), (1.0, 2.0, 4.0))
        self.assertEqual(one["coverage"], 0.75)

    def test_six_boots_cover_97_percent(self):
        one = interval({str(i): [i] for i in range(6)})
        self.assertEqual(one["coverage"], 0.9688)
        self.assertIn("6 boots", how(one))

    def test_a_boot_without_values_is_none(self):
        self.assertEqual(interval({"a": [1, 2], "b": []})["kind"], "rounds")

    def test_nothing(self):
        for empty in ({}, {"a": []}, {"a": [1, None]}):
            self.assertIsNone(interval(empty)["median"])

    def test_contains(self):
        one = interval({"a": [0.9, 1.0, 1.2]})
        self.assertIs(contains(one, 1), True)
        self.assertIs(contains(one, 1.3), False)
        self.assertIsNone(contains(interval({}), 1))
        self.assertIsNone(contains(None, 1))

    def test_percentile(self):
        self.assertEqual(percentile(range(101), 0.99), 99)
        self.assertEqual(percentile([5], 0.99), 5)
        self.assertEqual(median([1, 3]), 2)


if __name__ == "__main__":
    unittest.main()
