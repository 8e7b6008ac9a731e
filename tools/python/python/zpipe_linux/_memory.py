# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memory that can be given away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from . import _native

if TYPE_CHECKING:
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
    shape: int | tuple[int, ...],
    dtype: numpy.typing.DTypeLike = float,
    order: Literal["C", "F"] = "C",
) -> numpy.ndarray[Any, Any]:
    """Returns a NumPy array that ``Connection.give()`` can give away; else as ``numpy.empty()``.

    Arrays below 1 MiB are arrays of NumPy's own: to copy them costs less.
    """
    import numpy

    dtype = numpy.dtype(dtype)
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(lengths) * dtype.itemsize
    if dtype.hasobject or size < _GIVEN_MIN:
        return numpy.empty(lengths, dtype, order)
    return numpy.ndarray(lengths, dtype, allocate(size), order=order)
