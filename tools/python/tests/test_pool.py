# SPDX-License-Identifier: MIT OR Apache-2.0
"""The pool: results, errors, and workers that die."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import unittest

from both import Case, open_files

import zpipe_linux
from zpipe_linux import Pool, WorkerDied

METHODS = ("fork", "spawn", "forkserver")
state = None


def square(number):
    return number * number


def slow_if_even(number):
    time.sleep(0.1 if number % 2 == 0 else 0)
    return number, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def unpicklable(_):
    return lambda: None


def remember(value):
    global state
    state = value


def recall(_):
    return state


def die(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def reverse(buffer):
    return pickle.PickleBuffer(bytes(buffer)[::-1])


def increment(buffer):
    buffer[0] += 1
    return pickle.PickleBuffer(buffer)


def parent_of_workers(conn):
    pool = Pool(3)
    conn.send([process.pid for process in pool._workers.values()])
    time.sleep(1000)


def alive(pid):
    """True unless it is gone, or waits to be reaped by init."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Pools(Case):
    def test_map(self):
        for method in METHODS:
            with self.subTest(method):
                with Pool(2, context=multiprocessing.get_context(method)) as pool:
                    self.assertEqual(pool.map(square, range(20)), [n * n for n in range(20)])
                    self.assertEqual(pool.map(square, []), [])

    def test_order(self):
        with Pool(3) as pool:
            got = pool.map(slow_if_even, range(9))
        self.assertEqual([number for number, _ in got], list(range(9)))
        self.assertGreater(len({pid for _, pid in got}), 1)

    def test_items_are_taken_when_needed(self):
        taken = []

        def items():
            for number in range(100):
                taken.append(number)
                yield number

        with Pool(2) as pool:
            results = pool.imap(square, items())
            self.assertEqual(taken, [])
            self.assertEqual(next(results), 0)
            self.assertLessEqual(len(taken), 5)
            with self.assertRaises(ValueError):
                pool.map(square, [1])
            results.close()
            self.assertEqual(pool.map(square, [3]), [9])

    def test_large_buffers(self):
        view = zpipe_linux.allocate(3 << 20)
        with Pool(2) as pool:
            for give in (False, True):
                view[:] = bytes(range(256)) * (len(view) // 256)
                expected = bytes(view)[::-1]
                (got,) = pool.map(reverse, [pickle.PickleBuffer(view)], give=give)
                self.assertEqual(got, expected)

    def test_same_memory_round(self):
        view = zpipe_linux.allocate(4 << 20)
        view[:] = bytes(len(view))
        with Pool(1) as pool:
            for number in range(5):
                (view,) = pool.map(increment, [pickle.PickleBuffer(view)], give=True)
                self.assertEqual(view[:2].tolist(), [number + 1, 0])

    def test_initializer(self):
        with Pool(2, remember, ("state",)) as pool:
            self.assertEqual(pool.map(recall, range(4)), ["state"] * 4)

    def test_errors(self):
        with Pool(2) as pool:
            with self.assertRaisesRegex(ValueError, "three") as error:
                pool.map(fail_at_three, range(10))
            self.assertIn("in fail_at_three", error.exception.__notes__[0])
            with self.assertRaisesRegex((pickle.PicklingError, AttributeError), "lambda"):
                pool.map(unpicklable, [1])
            with self.assertRaisesRegex((pickle.PicklingError, AttributeError), "lambda"):
                pool.map(lambda number: number, [1])
            self.assertEqual(pool.map(square, range(5)), [0, 1, 4, 9, 16])
        with self.assertRaises(ValueError):
            pool.map(square, [1])
        with self.assertRaises(ValueError):
            Pool(0)

    def test_killed_worker(self):
        before = open_files()
        start = time.monotonic()
        pool = Pool(3)
        pids = [process.pid for process in pool._workers.values()]
        with self.assertRaisesRegex(WorkerDied, "exit code -9") as died:
            pool.map(die, range(100))
        self.assertIn(died.exception.pid, pids)
        self.assertFalse(any(map(alive, pids)))
        self.assertEqual(open_files(), before)
        self.assertLess(time.monotonic() - start, 20)

    def test_interrupt(self):
        """The interrupt is not lost, and the workers end. They ignore it."""
        pool = Pool(2, signal.signal, (signal.SIGINT, signal.SIG_IGN))
        pids = [process.pid for process in pool._workers.values()]
        timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            pool.map(time.sleep, [1000] * 4)
        timer.join()
        self.assertFalse(any(map(alive, pids)))

    def test_worker_killed_while_idle(self):
        pool = Pool(1)
        (process,) = pool._workers.values()
        process.kill()
        process.join()
        with self.assertRaises(WorkerDied):
            pool.map(square, [1])

    def test_killed_parent(self):
        """Workers end with their parent, although it could not tell them."""
        reader, writer = zpipe_linux.Pipe()
        process = multiprocessing.Process(target=parent_of_workers, args=(writer,))
        process.start()
        pids = reader.recv()
        self.assertTrue(all(map(alive, pids)))
        process.kill()
        process.join()
        deadline = time.monotonic() + 20
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(any(map(alive, pids)))

    def test_forgotten_pool(self):
        before = open_files()
        pool = Pool(2)
        pids = [process.pid for process in pool._workers.values()]
        del pool
        deadline = time.monotonic() + 20
        while multiprocessing.active_children() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(any(map(alive, pids)))
        self.assertEqual(open_files(), before)


if __name__ == "__main__":
    unittest.main()
