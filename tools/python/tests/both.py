# SPDX-License-Identifier: MIT OR Apache-2.0
"""Test classes that run over the pipes of multiprocessing and over those of zpipe_linux."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import threading
import unittest

import zpipe_linux

LOADED = os.path.exists("/dev/zpipe-control")
# A test that hangs ends with a message.
LIMIT = 60


def counters(conn):
    """The counters of the pipe behind a connection, see zpipe(4)."""
    lines = pathlib.Path(f"/proc/self/fdinfo/{conn.fileno()}").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith("zpipe-"))
    return {name: int(value) for name, value in pairs if value.strip().isdigit()}


def open_files():
    return len(os.listdir("/proc/self/fd"))


class Case(unittest.TestCase):
    """A test with a time limit."""

    def setUp(self):
        def expired(*_):
            raise TimeoutError(f"{self.id()} took {LIMIT} seconds")

        before = signal.signal(signal.SIGALRM, expired)
        signal.alarm(LIMIT)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.alarm, 0)
        # A program in the background of a script was started to ignore it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def interrupt_message(self, writer):
        """Has a signal end a call in the middle of a message that nobody reads."""
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            writer.send_bytes(bytes(10 << 20))
        timer.join()

    @contextlib.contextmanager
    def process(self, target, *args, method=None):
        """A process that must end by itself when the block ends."""
        process = multiprocessing.get_context(method).Process(target=target, args=args)
        process.start()
        try:
            yield process
            process.join()
            self.assertEqual(process.exitcode, 0)
        finally:
            process.kill()
            process.join()


class Multiprocessing:
    @staticmethod
    def simplex():
        return multiprocessing.Pipe(duplex=False)

    @staticmethod
    def duplex():
        return multiprocessing.Pipe(duplex=True)


class Zpipe:
    @staticmethod
    def simplex():
        return zpipe_linux.Pipe(require=LOADED)

    @staticmethod
    def duplex():
        return zpipe_linux.Pipe(duplex=True, require=LOADED)


def over_both(cls):
    """Makes two test classes of a class. `self.pipes` makes the pipes."""
    for pipes in (Multiprocessing, Zpipe):
        name = f"{cls.__name__}Of{pipes.__name__}"
        module = cls.__module__
        made = type(name, (cls, Case), {"pipes": pipes, "__module__": module})
        vars(__import__("sys").modules[module])[name] = made
    return cls
