# SPDX-License-Identifier: GPL-2.0-only
"""The form of sizes, intervals and numbers in tables."""


def size_name(n):
    """A number of bytes in the largest unit of which it is a multiple."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit and n % unit == 0:
            return f"{n // unit} {name}"
    return f"{n} B"


def interval_text(one):
    if one is None or one["median"] is None:
        return "-"
    return f"{one['median']:.2f} ({one['low']:.2f}..{one['high']:.2f})"


def number(value, form):
    return "-" if value is None else format(value, form)
