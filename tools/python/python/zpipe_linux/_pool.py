# SPDX-License-Identifier: MIT OR Apache-2.0
"""Worker processes for functions of arrays."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import traceback
import weakref
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ._connection import Connection, Pipe, _dump, _load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from typing_extensions import Buffer, Self

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
        # The workers that have a task, and its number.
        self._busy: dict[Connection, int] = {}
        # A descriptor for each worker that is ready when the worker has ended.
        self._ended: dict[Connection, int] = {}
        # Of this and later calls, so that no answer can be taken for another.
        self._numbers = itertools.count()
        self._running = False
        _pools.add(self)
        try:
            for _ in range(processes):
                self._start(context, initializer, initargs)
        except BaseException:
            self.terminate()
            raise

    def _start(
        self,
        context: BaseContext,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        ours, theirs = Pipe(duplex=True)
        process = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(theirs, initializer, initargs), daemon=True
        )
        # A forked worker must find its parent's end here, to close it: see _abandon().
        self._workers[ours] = process
        try:
            with theirs:
                process.start()
        except BaseException:
            if process.pid is None:
                del self._workers[ours]
                ours.close()
            raise
        try:
            self._ended[ours] = os.pidfd_open(process.pid)
        except ProcessLookupError:
            # It has ended already, and was the child of a server of multiprocessing.
            self._ended[ours] = os.dup(process.sentinel)

    def imap(
        self, function: Callable[[A], R], iterable: Iterable[A], *, give: bool = False
    ) -> Iterator[R]:
        """Returns an iterator of ``function(item)`` for each item, in order.

        Items are taken when a worker is free, at most two for each worker ahead of the results that
        were taken. With ``give``, items and results are given away, see ``Connection.give()``:
        their memory is undefined afterwards, here and in the worker.

        The function is sent to each worker once. It is not given away.

        If a function raises an exception, so does the iterator; then, or if the iterator is not
        used to its end, items that workers have already are still worked on. ``StopIteration`` of a
        function becomes ``RuntimeError``: otherwise it would end the iterator. ``WorkerDied`` is
        raised if a worker dies.
        """
        self._check_free()
        return self._results(function, iter(iterable), give)

    def _check_open(self) -> None:
        if not self._workers:
            raise ValueError("the pool is closed")

    def _check_free(self) -> None:
        self._check_open()
        if self._running:
            raise ValueError("another call of the pool is not at its end")

    def map(
        self, function: Callable[[A], R], iterable: Iterable[A], *, give: bool = False
    ) -> list[R]:
        """Returns a list of ``function(item)`` for each item, see ``imap()``."""
        return list(self.imap(function, iterable, give=give))

    def _results(self, function: Callable[[A], R], items: Iterator[A], give: bool) -> Iterator[R]:
        # Another call may have begun since imap() returned.
        self._check_free()
        idle = list(self._workers)
        told: set[Connection] = set()
        done: dict[int, tuple[bool, Any]] = {}
        order: deque[int] = deque()
        more, most = True, 2 * len(idle)
        # True where an exception leaves no message incomplete, and _busy is right.
        safe = True
        self._running = True
        try:
            while True:
                while more and idle and len(order) < most:
                    try:
                        item = next(items)
                    except StopIteration:
                        more = False
                        break
                    self._check_open()
                    conn = idle[-1]
                    call = None if conn in told else _dump(function)
                    number = next(self._numbers)
                    task = _dump((number, item))
                    del item
                    safe = False
                    self._send(conn, call, task, give)
                    del call, task
                    told.add(conn)
                    order.append(number)
                    self._busy[idle.pop()] = number
                    safe = True
                if order and order[0] in done:
                    good, result = done.pop(order.popleft())
                    if not good:
                        raise result
                    yield result
                    del result
                    self._check_open()
                    continue
                if not self._busy:
                    return
                for conn in self._wait():
                    safe = False
                    number = self._busy.pop(conn)
                    done[number] = self._answer(conn, number)
                    idle.append(conn)
                    safe = True
        except (Exception, GeneratorExit):
            if safe:
                self._drain()
            else:
                self.terminate()
            raise
        except BaseException:
            self.terminate()
            raise
        finally:
            self._running = False

    def _wait(self) -> list[Connection]:
        """Waits for answers, and returns the connections that have one."""
        ended = {self._ended[conn]: conn for conn in self._busy}
        ready = wait([*self._busy, *ended])
        answers = [conn for conn in self._busy if conn in ready]
        if not answers:
            # A process that the worker has forked may keep its end of the pipe open.
            self._died(next(conn for fd, conn in ended.items() if fd in ready))
        return answers

    def _send(self, conn: Connection, call: Any, task: Any, give: bool) -> None:
        sender = conn._sender()
        try:
            if call is not None:
                conn.send_bytes(_GIVE if give else _SEND)
                sender.send(*call, False)
            sender.send(*task, give)
        except (BrokenPipeError, ConnectionResetError):
            self._died(conn)

    def _recv(self, conn: Connection) -> Any:
        """Receives the parts of an answer."""
        try:
            return conn._recv_parts()
        except EOFError:
            self._died(conn)
        except OSError:
            # A signal handler may have raised it. A worker may have died within a message.
            if wait([self._ended[conn]], 1):
                self._died(conn)
            raise

    def _answer(self, conn: Connection, number: int) -> tuple[bool, Any]:
        """Receives whether a function returned, and its result or exception."""
        parts = self._recv(conn)
        try:
            got, good, result = _load(*parts)
        except Exception as error:
            return False, error
        # A worker that cannot unpickle a task does not know its number.
        if got not in (number, None):
            raise RuntimeError(f"answer to task {got} instead of {number}")
        return good, result

    def _drain(self) -> None:
        """Receives the answers to come, since a worker that has a task cannot take another."""
        try:
            while self._busy:
                for conn in self._wait():
                    self._recv(conn)
                    del self._busy[conn]
        except BaseException:
            self.terminate()
            raise

    def _died(self, conn: Connection) -> NoReturn:
        process = self._workers[conn]
        # It has closed its end, so it ends.
        wait([self._ended[conn]], 1)
        self.terminate()
        raise WorkerDied(process.pid, process.exitcode) from None

    def close(self) -> None:
        """Ends the workers, and waits for them. They finish what they are working on."""
        self._drain()
        for conn in self._workers:
            try:
                # The end of the data would do, if no process had inherited our end.
                conn.send_bytes(_STOP)
            except OSError:
                # It has died.
                pass
        self._join()

    def terminate(self) -> None:
        """Ends the workers, also those that work."""
        for process in self._workers.values():
            process.terminate()
        self._join()

    def _join(self) -> None:
        for conn in self._workers:
            conn.close()
        for process in self._workers.values():
            process.join()
        self._forget()

    def _forget(self) -> None:
        self._workers.clear()
        self._busy.clear()
        for fd in self._ended.values():
            os.close(fd)
        self._ended.clear()

    def _abandon(self) -> None:
        """Closes the connections: workers that are this process's end.

        In a forked process they are its parent's. If it had the connections, they would not see
        that the parent has died.
        """
        for conn in self._workers:
            conn.close()
        self._forget()

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
        if hasattr(self, "_numbers"):
            self._abandon()


# All pools that may have workers.
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool._abandon()


os.register_at_fork(after_in_child=_after_fork)

# Messages to a worker: one of these, or a pickled item. A pickle does not begin with a letter.
_STOP = b"stop"
# A pickled function follows, and the results are sent or given.
_SEND = b"send"
_GIVE = b"give"


def _work(
    conn: Connection,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    if initializer is not None:
        initializer(*initargs)
    give, function = False, _no_function
    while True:
        try:
            parts = conn._recv_parts()
            if parts[0] == _STOP:
                return
            if parts[0] in (_SEND, _GIVE):
                give = parts[0] == _GIVE
                function = _function(*conn._recv_parts())
                continue
        except EOFError:
            return
        number = item = None
        try:
            number, item = _load(*parts)
            answer = number, True, function(item)
        except Exception as error:
            answer = number, False, _portable(error)
        # Its memory may be used for what comes next.
        del parts, item
        try:
            (conn.give if give else conn.send)(answer)
        except BrokenPipeError:
            return
        except Exception as error:
            # It cannot be pickled, so nothing was sent.
            conn.send((number, False, _portable(error)))
        del answer


def _no_function(_: Any) -> NoReturn:
    raise RuntimeError("a task came before its function")


def _function(data: bytes, buffers: list[Buffer]) -> Callable[[Any], Any]:
    try:
        return _load(data, buffers)
    except Exception as error:
        failure = error

    def fail(_: Any) -> NoReturn:
        raise failure

    return fail


def _portable(error: Exception) -> Exception:
    """Returns an exception that has its traceback as a note, since a pickle has none.

    It is another one if the parent could not unpickle this one.
    """
    error.add_note(f"Traceback of the worker:\n{''.join(traceback.format_exception(error))}")
    try:
        copy = _load(*_dump(error))
    except Exception:
        copy = None
    if type(copy) is type(error):
        return error
    other = RuntimeError(f"{type(error).__name__}: {error}")
    other.add_note(error.__notes__[-1])
    return other
