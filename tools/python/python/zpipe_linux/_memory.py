# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memory that can be given away."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from . import _native

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    import numpy.typing

# From half a huge page on, memory can be given away.
_GIVEN_MIN = 1 << 20


def allocate(size: int) -> memoryview:
    """Returns writable memory of ``size`` bytes that ``Connection.give()`` can give away.

    It consists of huge pages of 2 MiB, so it is for large data. The bytes may have any value. The
    memory is freed when no view of it is left.
    """
    if size < 0:
        raise ValueError("size is negative")
    return memoryview(_native.Block(size))


def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: numpy.typing.DTypeLike = float,
    order: Literal["C", "F"] = "C",
) -> numpy.ndarray[Any, Any]:
    """Returns a NumPy array that ``Connection.give()`` can give away; else as ``numpy.empty()``.

    Arrays below 1 MiB are arrays of NumPy's own: to copy them costs less.
    """
    import numpy

    dtype = numpy.dtype(dtype)
    try:
        lengths = (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        # Numbers of NumPy have its width, and their product may not fit.
        lengths = tuple(map(operator.index, shape))  # type: ignore[arg-type]
    size = math.prod(lengths) * dtype.itemsize
    if dtype.hasobject or size < _GIVEN_MIN:
        return numpy.empty(lengths, dtype, order)
    # It refuses other orders.
    numpy.empty(0, dtype, order)
    return numpy.ndarray(lengths, dtype, allocate(size), order=order)
