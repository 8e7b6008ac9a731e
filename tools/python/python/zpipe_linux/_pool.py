# SPDX-License-Identifier: MIT OR Apache-2.0
"""Worker processes for functions of arrays."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

from ._connection import Connection, Pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from typing_extensions import Self

    A = TypeVar("A")
    R = TypeVar("R")


class WorkerDied(RuntimeError):
    """A worker of a ``Pool`` ended in the middle of a call. The other workers have been ended."""

    def __init__(self, pid: int, exitcode: int) -> None:
        super().__init__(pid, exitcode)
        self.pid = pid
        self.exitcode = exitcode

    def __str__(self) -> str:
        return f"worker {self.pid} died with exit code {self.exitcode}"


class Pool:
    """Processes that call a function of each of many objects, such as arrays.

    ``processes`` is their number, by default that of the processors. Each calls
    ``initializer(*initargs)`` first. ``context`` is one of ``multiprocessing.get_context()``. A
    pool is for one thread.

    Leave its ``with`` block, or call ``close()``: else the workers run until the pool is deleted.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        context: BaseContext | None = None,
    ) -> None:
        context = context or multiprocessing.get_context()
        processes = os.cpu_count() or 1 if processes is None else processes
        if processes < 1:
            raise ValueError("a pool needs a process")
        self._workers: dict[Connection, Any] = {}
        self._running = False
        # A forked worker inherits the connections of those before it, and must close them:
        # otherwise they would not end with this process.
        forks = context.get_start_method() == "fork"
        try:
            for _ in range(processes):
                ours, theirs = Pipe(duplex=True)
                inherited = [*self._workers, ours] if forks else []
                process = context.Process(  # type: ignore[attr-defined]
                    target=_work, args=(theirs, inherited, initializer, initargs), daemon=True
                )
                with theirs:
                    process.start()
                self._workers[ours] = process
        except BaseException:
            self.terminate()
            raise

    def imap(
        self, function: Callable[[A], R], iterable: Iterable[A], *, give: bool = False
    ) -> Iterator[R]:
        """Returns an iterator of ``function(item)`` for each item, in order.

        Items are taken when a worker is free, at most two for each worker ahead of the results that
        were taken. With ``give``, items and results are given away, see ``Connection.give()``:
        their memory is undefined afterwards, here and in the worker.

        If a function raises an exception, so does the iterator; then, or if the iterator is not
        used to its end, items that workers have already are still worked on. ``WorkerDied`` is
        raised if a worker dies.
        """
        if not self._workers:
            raise ValueError("the pool is closed")
        if self._running:
            raise ValueError("another call of the pool is not at its end")
        return self._results(function, iter(iterable), give)

    def map(
        self, function: Callable[[A], R], iterable: Iterable[A], *, give: bool = False
    ) -> list[R]:
        """Returns a list of ``function(item)`` for each item, see ``imap()``."""
        return list(self.imap(function, iterable, give=give))

    def _results(self, function: Callable[[A], R], items: Iterator[A], give: bool) -> Iterator[R]:
        idle = list(self._workers)
        busy: dict[Connection, int] = {}
        done: dict[int, tuple[bool, Any]] = {}
        order: deque[int] = deque()
        more, number, most = True, 0, 2 * len(idle)
        self._running = True
        try:
            while True:
                while more and idle and len(order) < most:
                    try:
                        item = next(items)
                    except StopIteration:
                        more = False
                        break
                    self._send(idle[-1], (function, item, give), give)
                    del item
                    order.append(number)
                    busy[idle.pop()] = number
                    number += 1
                if order and order[0] in done:
                    good, result = done.pop(order.popleft())
                    if not good:
                        raise result
                    yield result
                    del result
                    continue
                if not busy:
                    return
                ready = wait(list(busy))
                for conn in [conn for conn in busy if conn in ready]:
                    done[busy[conn]] = self._recv(conn)
                    del busy[conn]
                    idle.append(conn)
        except WorkerDied:
            raise
        except (Exception, GeneratorExit):
            # A worker that has a task can take another only when its result is here.
            for conn in busy:
                self._recv(conn)
            raise
        except BaseException:
            # The exception may have interrupted a message.
            self.terminate()
            raise
        finally:
            self._running = False

    def _send(self, conn: Connection, task: Any, give: bool) -> None:
        try:
            (conn.give if give else conn.send)(task)
        except (BrokenPipeError, ConnectionResetError):
            self._died(conn)

    def _recv(self, conn: Connection) -> Any:
        try:
            return conn.recv()
        except (EOFError, OSError):
            self._died(conn)

    def _died(self, conn: Connection) -> None:
        process = self._workers[conn]
        self.terminate()
        raise WorkerDied(process.pid, process.exitcode) from None

    def close(self) -> None:
        """Ends the workers, and waits for them."""
        for conn in self._workers:
            conn.close()
        for process in self._workers.values():
            process.join()
        self._workers.clear()

    def terminate(self) -> None:
        """Ends the workers, also those that work."""
        for process in self._workers.values():
            process.terminate()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.terminate()

    def __del__(self) -> None:
        for conn in getattr(self, "_workers", ()):
            conn.close()


def _work(
    conn: Connection,
    inherited: list[Connection],
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    for other in inherited:
        other.close()
    if initializer is not None:
        initializer(*initargs)
    while True:
        try:
            function, item, give = conn.recv()
        except EOFError:
            return
        try:
            answer = True, function(item)
        except Exception as error:
            answer = False, _with_traceback(error)
        try:
            (conn.give if give else conn.send)(answer)
        except BrokenPipeError:
            return
        except Exception as error:
            # It cannot be pickled, so nothing was sent.
            conn.send((False, _with_traceback(error)))
        # Its memory may be used for what comes next.
        del function, item, answer


def _with_traceback(error: Exception) -> Exception:
    """Returns an exception with its traceback as a note, since a pickle has none."""
    error.add_note(f"Traceback of the worker:\n{''.join(traceback.format_exception(error))}")
    return error
