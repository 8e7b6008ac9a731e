# SPDX-License-Identifier: GPL-2.0-only
"""How sizes are written in tables."""


def size_name(n):
    """A number of bytes in the largest unit of which it is a multiple."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit and n % unit == 0:
            return f"{n // unit} {name}"
    return f"{n} B"
