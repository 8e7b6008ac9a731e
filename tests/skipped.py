# SPDX-License-Identifier: GPL-2.0-only
"""Skipped tests of a KTAP document, and the list of those that are expected: tests/skips."""

import fnmatch
import pathlib
import re

SKIPS = pathlib.Path(__file__).resolve().parent / 'skips'


def listed_skips(skips, kernel, parameters):
    """The reasons of the list `skips` that hold for this guest. The value is True if the reason holds
    for all tests, and False if only for those over the kernel's own pipes."""
    reasons = {}
    for line in skips.splitlines():
        if not line or line.startswith('#'):
            continue
        reason, where = re.split(r'\t+', line)
        for word in where.split():
            if word == 'oracle':
                reasons.setdefault(reason, False)
            elif fnmatch.fnmatchcase(kernel, word) or ('=' in word and word in parameters):
                reasons[reason] = True
    return reasons


def unlisted_skips(text, kernel, parameters, skips=None):
    """The skipped tests of a document that are not listed, as "PROGRAM: TEST: REASON"."""
    if skips is None:
        skips = SKIPS.read_text(encoding='utf-8')
    reasons = listed_skips(skips, kernel, parameters)
    program, why, unlisted = '', '', []
    for line in text.splitlines():
        subtest = re.match(r' {4}# Subtest: (.*)', line)
        # A program that runs no test gives the reason in its plan.
        plan = re.match(r' {4}1\.\.0 # SKIP (.*)', line)
        skip = re.match(r'( *)ok \d+ (?:- )?(.*?) ?# SKIP ?(.*)', line)
        if subtest:
            program, why = subtest[1], ''
        elif plan:
            why = plan[1]
        elif skip and (skip[1] or why):
            reason = skip[3] or why
            oracle = re.match(r'\w+\.(pipe|fifo)(_\w+)?\.', skip[2])
            if not reasons.get(reason, False) and not (oracle and reason in reasons):
                unlisted.append(f'{program}: {skip[2]}: {reason}')
    return unlisted
