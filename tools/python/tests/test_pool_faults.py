# SPDX-License-Identifier: MIT OR Apache-2.0
"""The pool: calls that fail halfway leave no results behind, and nothing hangs."""

import functools
import multiprocessing
import os
import pickle
import signal
import time
import unittest

from both import Case

import zpipe_linux
from zpipe_linux import Pool, WorkerDied

SQUARES = [n * n for n in range(6)]


class NeedsTwo(Exception):
    """Its pickle cannot be loaded, as that of many exceptions."""

    def __init__(self, one, other):
        super().__init__(one)
        self.other = other


class BadPickle:
    """Its pickle cannot be loaded; only in the process `pid` if that is set."""

    def __init__(self, pid=None):
        self.pid = pid

    def __reduce__(self):
        return fail_to_load, (self.pid,)

    def __call__(self, number):
        return number


def fail_to_load(pid):
    if pid in (None, os.getpid()):
        raise FileNotFoundError(2, "gone")
    return BadPickle(pid)


def square(number):
    return number * number


def raise_unloadable(_):
    raise NeedsTwo(1, 2)


def return_unloadable(pid):
    return BadPickle(pid)


def fail_at_zero(number):
    if number == 0:
        time.sleep(0.1)
        raise ValueError("zero")
    time.sleep(0.2 * number)
    if number == 1:
        raise NeedsTwo(1, 2)
    return f"late {number}"


def slow(number):
    time.sleep(0.5)
    return f"slow {number}"


def very_slow(_):
    time.sleep(2)


def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_with_a_child(_):
    """The child keeps the worker's end open."""
    if os.fork() == 0:
        time.sleep(10)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def stop(_):
    raise StopIteration("of the function")


def first_byte(weights, buffer):
    return bytes(weights[:1]), bytes(buffer[:1])


class FirstByte(functools.partial):
    """A function with a large buffer."""

    def __reduce__(self):
        weights = pickle.PickleBuffer(self.args[0])
        return FirstByte, (self.func, weights)


class Faults(Case):
    def assert_works(self, pool):
        self.assertEqual(pool.map(square, range(6)), SQUARES)

    def test_two_calls_at_once(self):
        with Pool(2) as pool:
            one, other = pool.imap(square, range(6)), pool.imap(str, "abcdef")
            self.assertEqual(next(one), 0)
            with self.assertRaisesRegex(ValueError, "another call"):
                next(other)
            self.assertEqual(list(one), SQUARES[1:])
            self.assert_works(pool)

    def test_answers_are_numbered(self):
        """An answer that belongs to no task is not taken for a result."""
        with self.assertRaisesRegex(RuntimeError, "answer to task"):
            with Pool(1) as pool:
                (conn,) = pool._workers
                conn.send((1000, "an item"))
                self.assertTrue(conn.poll(20))
                pool.map(square, [1, 2])

    def test_exception_that_cannot_be_loaded(self):
        with Pool(2) as pool:
            with self.assertRaisesRegex(RuntimeError, "NeedsTwo: 1") as error:
                pool.map(raise_unloadable, [1])
            self.assertIn("in raise_unloadable", error.exception.__notes__[0])
            self.assert_works(pool)

    def test_result_that_cannot_be_loaded(self):
        """An OSError of a pickle is not the death of a worker."""
        with Pool(2) as pool:
            with self.assertRaisesRegex(FileNotFoundError, "gone"):
                pool.map(return_unloadable, [os.getpid()] * 4)
            self.assert_works(pool)

    def test_items_that_cannot_be_loaded(self):
        with Pool(2) as pool:
            with self.assertRaisesRegex(FileNotFoundError, "gone"):
                pool.map(square, [BadPickle()] * 4)
            with self.assertRaisesRegex(FileNotFoundError, "gone"):
                pool.map(BadPickle(), range(4))
            self.assert_works(pool)

    def test_no_late_results(self):
        """Of two failures, and of a result that comes after them, only the first is seen."""
        with Pool(3) as pool:
            with self.assertRaisesRegex(ValueError, "zero"):
                pool.map(fail_at_zero, range(3))
            self.assert_works(pool)

    def test_death_in_another_pool(self):
        with Pool(3) as pool, Pool(1) as source:
            with self.assertRaises(WorkerDied):
                pool.map(slow, source.imap(die_at_three, range(10)))
            self.assert_works(pool)

    def interrupted(self, error, function, items):
        """A pool, after a signal handler has raised `error` in a call for all of `items`."""

        def handler(*_):
            raise error

        before = signal.signal(signal.SIGUSR1, handler)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        pool = Pool(2)
        self.addCleanup(pool.terminate)
        parent = os.getpid()
        with self.process(kill_later, parent):
            with self.assertRaises(type(error)):
                pool.map(function, items)
        return pool

    def test_interrupt_of_the_end_of_a_call(self):
        """Answers of the call have not been received, so the pool is closed."""

        def items():
            yield 1
            raise ValueError("items")

        for error in (KeyboardInterrupt(), TimeoutError("of a handler")):
            with self.subTest(error):
                pool = self.interrupted(error, very_slow, items())
                with self.assertRaisesRegex(ValueError, "closed"):
                    pool.map(square, range(6))

    def test_inherited_connections(self):
        """Workers end although another process has inherited the connections."""
        fork = multiprocessing.get_context("fork")
        for end in (Pool.close, Pool.__del__):
            pool = Pool(2)
            processes = list(pool._workers.values())
            other = fork.Process(target=time.sleep, args=(1000,))
            other.start()
            start = time.monotonic()
            end(pool)
            for process in processes:
                process.join(20)
            self.assertTrue(other.is_alive())
            other.kill()
            other.join()
            self.assertLess(time.monotonic() - start, 15)

    def test_two_pools(self):
        """The workers of one inherit the connections of the other."""
        fork = multiprocessing.get_context("fork")
        one, other = Pool(2, context=fork), Pool(2, context=fork)
        one.close()
        self.assert_works(other)
        other.close()

    def test_in_a_forked_process(self):
        """A pool is closed in a child, which leaves the workers alone."""
        with Pool(1) as pool:
            child = os.fork()
            if child == 0:
                try:
                    pool.map(square, [1])
                except ValueError:
                    pool.terminate()
                    os._exit(0)
                os._exit(1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assert_works(pool)

    def test_worker_that_leaves_a_child(self):
        start = time.monotonic()
        with self.assertRaisesRegex(WorkerDied, "exit code -9"):
            Pool(1, context=multiprocessing.get_context("fork")).map(die_with_a_child, [1])
        self.assertLess(time.monotonic() - start, 8)

    def test_function_is_not_given(self):
        weights, item = zpipe_linux.allocate(4 << 20), zpipe_linux.allocate(4 << 20)
        weights[:] = b"w" * len(weights)
        with Pool(2) as pool:
            for _ in range(3):
                item[:] = b"i" * len(item)
                function = FirstByte(first_byte, weights)
                got = pool.map(function, [pickle.PickleBuffer(item)], give=True)
                self.assertEqual(got, [(b"w", b"i")])
                self.assertEqual(bytes(weights), b"w" * len(weights))

    def test_what_is_given(self):
        """Also without the module: a sender that counts."""
        weights, item = zpipe_linux.allocate(4 << 20), zpipe_linux.allocate(4 << 20)
        with Pool(1) as pool:
            (conn,) = pool._workers
            sent = []
            conn._writer = Recorder(conn._writer, sent)
            function = FirstByte(first_byte, weights)
            pool.map(function, [pickle.PickleBuffer(item)] * 3, give=True)
            conn._writer = conn._writer.end
        self.assertEqual(sent, [(1, False), (1, True), (1, True), (1, True)])

    def test_closed(self):
        with Pool(2) as pool:
            one = pool.imap(square, range(6))
        with self.assertRaisesRegex(ValueError, "closed"):
            next(one)
        with Pool(2) as pool:
            one = pool.imap(square, range(20))
            next(one)
        with self.assertRaisesRegex(ValueError, "closed"):
            list(one)

    def test_stop_iteration(self):
        with Pool(1) as pool:
            with self.assertRaises(RuntimeError) as error:
                pool.map(stop, range(3))
            self.assertIsInstance(error.exception.__cause__, StopIteration)
            self.assert_works(pool)


class Recorder:
    """Notes the number of buffers of each message that has some, and whether they are given."""

    def __init__(self, end, sent):
        self.end = end
        self.sent = sent

    def send(self, data, buffers, give):
        if buffers:
            self.sent.append((len(buffers), give))
        self.end.send(data, buffers, give)

    def __getattr__(self, name):
        return getattr(self.end, name)


def kill_later(pid):
    time.sleep(0.7)
    os.kill(pid, signal.SIGUSR1)


if __name__ == "__main__":
    unittest.main()
