# SPDX-License-Identifier: MIT OR Apache-2.0
"""Threads in a call while the process forks or ends, and what remains of an interrupted message."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import unittest
from multiprocessing import reduction

from both import Case

import zpipe_linux

# The threads are in system calls, or wait for the lock of the interpreter, when it ends.
DAEMONS = """
import threading, time, zpipe_linux

def receive(reader):
    while True:
        reader.recv()

def send(writer, pause):
    while True:
        writer.send(b"x" * 100)
        pause and time.sleep(pause)

for pause in (0, 0.0005, 1000):
    reader, writer = zpipe_linux.Pipe()
    threading.Thread(target=receive, args=(reader,), daemon=True).start()
    threading.Thread(target=send, args=(writer, pause), daemon=True).start()
time.sleep(0.2)
"""


class Lifetime(Case):
    def thread_in_call(self, call):
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        time.sleep(0.3)
        return thread

    def in_child(self, check):
        """Runs `check` in a forked process. It must return true."""
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = check()
            finally:
                os._exit(0 if good else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_daemon_threads_at_exit(self):
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", DAEMONS], capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_close_after_fork(self):
        """A call of a thread of the parent does not keep the descriptor open in the child."""
        reader, writer = zpipe_linux.Pipe()
        thread = self.thread_in_call(reader.recv)
        number = reader.fileno()

        def check():
            reader.close()
            try:
                os.fstat(number)
            except OSError:
                return reader.closed
            return False

        self.in_child(check)
        writer.send("still works")
        thread.join()

    def test_end_of_data_after_fork(self):
        reader, writer = zpipe_linux.Pipe()
        thread = self.thread_in_call(lambda: writer.send_bytes(bytes(10 << 20)))
        child = os.fork()
        if child == 0:
            writer.close()
            time.sleep(30)
            os._exit(0)
        try:
            self.assertEqual(len(reader.recv_bytes()), 10 << 20)
            thread.join()
            writer.close()
            self.assertTrue(reader.poll(10))
            with self.assertRaises(EOFError):
                reader.recv()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_call_after_fork(self):
        """Part of the message may have gone to the parent. Other ends can be used."""
        reader, writer = zpipe_linux.Pipe()
        thread = self.thread_in_call(reader.recv)

        def check():
            other, back = zpipe_linux.Pipe()
            back.send("works")
            try:
                reader.recv()
            except OSError as error:
                return "fork" in str(error) and other.recv() == "works"
            return False

        self.in_child(check)
        writer.send("for the parent")
        thread.join()
        writer.send("next")
        self.assertEqual(reader.recv(), "next")

    def test_interrupted_is_not_passed_on(self):
        """The copy of an interrupted connection would continue in the middle of the message."""
        reader, writer = zpipe_linux.Pipe()
        self.interrupt_message(writer)
        with self.assertRaisesRegex(OSError, "interrupted"):
            reduction.ForkingPickler.dumps(writer)
        self.assertFalse(reader.closed)

    def test_spare_memory_of_other_sizes(self):
        """Freed memory of one size gives way to memory that is used."""
        old = [zpipe_linux.allocate(16 << 20) for _ in range(4)]
        del old

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            view = zpipe_linux.allocate(6 << 20)
            for place in range(0, len(view), 4096):
                view[place] = 1
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        first = faults()
        self.assertLess(min(faults() for _ in range(5)), first)


if __name__ == "__main__":
    unittest.main()
