# SPDX-License-Identifier: MIT OR Apache-2.0
"""Connections in place of those of multiprocessing."""

from __future__ import annotations

import io
import pickle
from multiprocessing import BufferTooShort, connection, reduction
from typing import TYPE_CHECKING, Any, NoReturn

from . import _native

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer, Self

# Shorter buffers are a part of the pickle.
_OUT_OF_BAND_MIN = 1 << 16


def Pipe(duplex: bool = False, *, require: bool = False) -> tuple[Connection, Connection]:
    """Returns two connected ``Connection`` objects, as ``multiprocessing.Pipe()``.

    The first one only receives and the second one only sends. If ``duplex`` is true, both do both.
    That is the default of multiprocessing, but not here: it takes two pipes.

    The pipe is a zpipe if there is one, and otherwise a pipe of the kernel, which copies more. With
    ``require``, the function raises ``OSError`` instead.
    """
    reader, writer = _native.pair(require)
    if not duplex:
        return Connection(reader, None), Connection(None, writer)
    back_reader, back_writer = _native.pair(require)
    return Connection(reader, back_writer), Connection(back_reader, writer)


class Connection(connection.Connection):
    """One end of a ``Pipe()``.

    It has the methods of ``multiprocessing.connection.Connection``, can be passed to a process as
    an argument or through another connection, and works with ``multiprocessing.connection.wait()``.

    Receiving unpickles: it runs what the sender wants, as with multiprocessing. So receive only
    from processes that you trust. ``recv_bytes()`` and ``recv_bytes_into()`` do not unpickle.

    Only one thread at a time may send, and one receive. Another gets ``RuntimeError``. If an
    exception ends a call in the middle of a message, all later calls in this direction raise
    ``OSError``. So they do in a forked process, if a thread of its parent was in a call meanwhile.
    """

    # The base class only makes isinstance() true. All of its methods are replaced. It would close
    # this descriptor.
    _handle = None

    def __init__(self, reader: _native.End | None, writer: _native.End | None) -> None:
        if not reader and not writer:
            raise ValueError("a connection needs an end")
        self._reader = reader
        self._writer = writer
        self._closed = False

    def __del__(self) -> None:
        # The ends close themselves.
        pass

    def _check_closed(self) -> None:
        if self._closed:
            raise OSError("handle is closed")

    def _receiver(self) -> _native.End:
        self._check_closed()
        if self._reader is None:
            raise OSError("connection is write-only")
        return self._reader

    def _sender(self) -> _native.End:
        self._check_closed()
        if self._writer is None:
            raise OSError("connection is read-only")
        return self._writer

    def _bad_message(self, error: _native.BadMessage) -> NoReturn:
        # As multiprocessing: nothing can be received any more.
        if self._writer is not None and self._reader is not None:
            self._reader.close()
            self._reader = None
        else:
            self.close()
        raise OSError(*error.args) from None

    @property
    def closed(self) -> bool:
        """True if the connection is closed."""
        return self._closed

    @property
    def readable(self) -> bool:
        """True if the connection can receive."""
        return self._reader is not None

    @property
    def writable(self) -> bool:
        """True if the connection can send."""
        return self._writer is not None

    @property
    def is_zpipe(self) -> bool:
        """True if it uses zpipe, false if it uses the kernel's own pipes."""
        return all(end.is_zpipe for end in (self._reader, self._writer) if end)

    def fileno(self) -> int:
        """Returns the descriptor to wait for: of the read end, if there is one."""
        self._check_closed()
        end = self._reader or self._writer
        assert end is not None
        return end.fileno()

    def close(self) -> None:
        """Closes the connection."""
        self._closed = True
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, obj: Any) -> None:
        """Sends an object.

        Buffers of at least 64 KiB, such as NumPy arrays that are contiguous, are not copied into
        the pickle. The object does not change.
        """
        self._send_object(obj, False)

    def give(self, obj: Any) -> None:
        """Sends an object and gives its memory away.

        After this call, and after one that failed, the contents of arrays of the object are
        undefined: they may be zeros, or bytes of other messages. The arrays can be filled and given
        again. What the receiver has does not change any more.

        It has an effect on arrays of ``empty()``, memory of ``allocate()``, and received arrays:
        their whole huge pages leave. They must be writable and begin at the start of the memory, or
        2 MiB, 4 MiB and so on behind it. All other memory is copied, as by ``send()``. So is all
        memory of an object in which two arrays overlap.
        """
        self._send_object(obj, True)

    def _send_object(self, obj: Any, give: bool) -> None:
        sender = self._sender()
        sender.send(*_dump(obj), give)

    def recv(self) -> Any:
        """Receives an object. Waits for one, and raises ``EOFError`` if there will be none.

        If the data ends within a message, it raises ``OSError``.

        Its arrays own their memory, and can be written to if those that were sent could.
        """
        return _load(*self._recv_parts())

    def _recv_parts(self) -> tuple[bytes, list[Buffer]]:
        try:
            return self._receiver().recv(None, True)
        except _native.BadMessage as error:
            self._bad_message(error)

    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Sends bytes of an object with a buffer as one message."""
        sender = self._sender()
        view = _bytes_of(buf)
        if offset < 0:
            raise ValueError("offset is negative")
        if view.nbytes < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = view.nbytes - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > view.nbytes:
            raise ValueError("buffer length < offset + size")
        sender.send(view[offset : offset + size], [], False)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receives a message of bytes. If it has more than ``maxlength``, raises ``OSError``, and
        nothing more can be received.

        This is so, too, if it is a message of ``send()`` with large buffers.
        """
        receiver = self._receiver()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        try:
            return receiver.recv(maxlength, False)[0]
        except _native.BadMessage as error:
            self._bad_message(error)

    def recv_bytes_into(self, buf: Buffer, offset: int = 0) -> int:
        """Receives a message of bytes into a writable buffer, and returns its length.

        If the message is too long, raises ``multiprocessing.BufferTooShort`` with the message.
        """
        receiver = self._receiver()
        view = _bytes_of(buf)
        if offset < 0:
            raise ValueError("negative offset")
        if offset > view.nbytes:
            raise ValueError("offset too large")
        try:
            got = receiver.recv_into(view[offset:])
        except _native.BadMessage as error:
            self._bad_message(error)
        if isinstance(got, bytes):
            raise BufferTooShort(got)
        return got

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Waits up to ``timeout`` seconds, or for ever, and returns true if there is something to
        receive, or the end of the data.
        """
        self._receiver()
        return bool(connection.wait([self], timeout))


def _dump(obj: Any) -> tuple[memoryview, list[memoryview]]:
    """Pickles an object: returns the pickle, and the buffers that are not in it."""
    buffers: list[memoryview] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < _OUT_OF_BAND_MIN or len(buffers) == _native.MAX_BUFFERS:
            return True
        buffers.append(raw)
        return False

    stream = io.BytesIO()
    # It pickles connections, locks and so on. Its __init__() takes no keywords.
    reduction.ForkingPickler(stream, 5, True, in_band).dump(obj)
    return stream.getbuffer(), buffers


def _load(data: bytes, buffers: list[Buffer]) -> Any:
    """Reverses ``_dump()``."""
    return pickle.loads(data, buffers=map(memoryview, buffers))


def _bytes_of(buf: Buffer) -> memoryview:
    view = memoryview(buf)
    # Also of a view with several dimensions, or of characters.
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _reduce(conn: Connection) -> tuple[Any, tuple[Any, Any]]:
    conn._check_closed()
    if any(end.interrupted for end in (conn._reader, conn._writer) if end):
        # Its copy would not know, and continue in the middle of the message.
        raise OSError("an earlier message was interrupted")
    reader, writer = (
        end and reduction.DupFd(end.fileno()) for end in (conn._reader, conn._writer)
    )
    return _rebuild, (reader, writer)


def _rebuild(reader: Any, writer: Any) -> Connection:
    ends = (end and _native.End(end.detach()) for end in (reader, writer))
    return Connection(*ends)


reduction.register(Connection, _reduce)
