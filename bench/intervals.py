# SPDX-License-Identifier: GPL-2.0-only
"""Intervals of medians, by order statistics.

No distribution is assumed. Each value lies below the true median with probability one half,
so the number of values below it is binomial. From this follows the probability that the
median lies between two of the sorted values. This is not a bootstrap: nothing is resampled.
"""

import math
from statistics import median

WANTED = 0.95

NONE = {"median": None, "low": None, "high": None, "kind": None, "n": 0, "coverage": 0.0}


def bounds(values):
    """(low, high, coverage): the narrowest such interval that covers WANTED.

    Below 6 values even minimum to maximum covers less. Then that is returned. Up to 8
    values the interval is minimum to maximum in any case.
    """
    values = sorted(values)
    n, drop = len(values), 0
    tail = miss = 1 / 2 ** n
    for k in range(1, n // 2):
        tail += math.comb(n, k) / 2 ** n
        if 2 * tail > 1 - WANTED:
            break
        drop, miss = k, tail
    return values[drop], values[n - 1 - drop], max(0.0, 1 - 2 * miss)


def interval(by_boot):
    """The interval of {boot: values of its rounds}.

    With several boots the values are the boots' medians ("kind": "boots"): the placement of
    a boot's memory affects all of its rounds alike. With one boot they are its rounds
    ("kind": "rounds"). Then the interval says nothing about other boots.
    """
    groups = [values for values in by_boot.values() if values]
    if not groups or any(v is None for values in groups for v in values):
        return dict(NONE)
    kind = "boots" if len(groups) > 1 else "rounds"
    values = [median(one) for one in groups] if kind == "boots" else groups[0]
    low, high, coverage = bounds(values)
    return {"median": median(values), "low": low, "high": high, "kind": kind,
            "n": len(values), "coverage": round(coverage, 4)}


def contains(one, value):
    """Whether an interval contains @value; None if there is no interval."""
    return None if one is None or one["median"] is None else one["low"] <= value <= one["high"]


def how(one):
    """The kind of an interval, in words."""
    if one["median"] is None:
        return "no interval"
    if one["kind"] == "boots":
        of = f"the medians of {one['n']} boots"
    else:
        of = f"the {one['n']} rounds of a single boot, which say nothing of other boots"
    ends = "minimum to maximum" if one["n"] <= 8 else "order statistics"
    return f"{ends} of {of}; covers the true median with {one['coverage']:.1%}"


def percentile(values, share):
    values = sorted(values)
    return values[round(share * (len(values) - 1))]
