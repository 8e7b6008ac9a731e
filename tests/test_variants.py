# SPDX-License-Identifier: GPL-2.0-only
"""The names of variants. guest-run and skipped.py tell by them which kind of pipe is tested."""

import pathlib
import re
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
# "node": such a test does not run over pairs.
KINDS = {"PIPE": "pipe", "FIFO": "fifo", "ZPAIR": "zpair", "ZNODE": "(znode|node)"}


def variants():
    """All variants with a kind: file, name and the last of their kinds."""
    for path in sorted(TESTS.glob("*.[ch]")):
        for name, kinds in re.findall(
                r"FIXTURE_VARIANT_ADD\(\w+, (\w+)\) *\{[^;]*?\.kind = (\{[^}]*\}|\w+)",
                path.read_text(encoding="utf-8")):
            yield path.name, name, re.findall(r"\w+", kinds)[-1]


class Variants(unittest.TestCase):
    """Every variant whose fixture has a kind."""

    def test_names(self):
        """A name begins with the kind."""
        for file, name, kind in variants():
            with self.subTest(file=file, name=name):
                self.assertRegex(name, f"^{KINDS[kind]}(_|$)")

    def test_all_are_seen(self):
        """The regular expression finds each mention of a kind."""
        for path in sorted(TESTS.glob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            adds = re.findall(r"FIXTURE_VARIANT_ADD\([^;]*?\b(?:PIPE|FIFO|ZPAIR|ZNODE)\b", text)
            found = [file for file, _, _ in variants() if file == path.name]
            with self.subTest(file=path.name):
                self.assertEqual(len(adds), len(found))


if __name__ == "__main__":
    unittest.main()
