# SPDX-License-Identifier: MIT OR Apache-2.0
"""Connections between Python processes that copy less.

``Pipe()`` takes the place of ``multiprocessing.Pipe()``. Its connections use a zpipe, a pipe for
bulk data, if the kernel module is loaded, and else a pipe of the kernel. NumPy arrays, and other
objects with large buffers, are not copied into a pickle: their bytes go from the memory of the
sender to the memory of the receiver.

``Connection.send()`` leaves the sender's objects as they are, and copies once where it can.
``Connection.give()`` gives arrays of ``empty()`` and received arrays away: whole huge pages change
their owner, and nothing is copied.
"""

from ._connection import Connection, Pipe
from ._memory import allocate, empty
from ._pool import Pool, WorkerDied

__all__ = ["Connection", "Pipe", "Pool", "WorkerDied", "allocate", "empty"]
