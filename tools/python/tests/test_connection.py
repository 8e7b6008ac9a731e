# SPDX-License-Identifier: MIT OR Apache-2.0
"""The connections behave as those of multiprocessing: each test runs over both."""

import array
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
import unittest
from multiprocessing import BufferTooShort, connection

from both import Case, LOADED, open_files, over_both

import zpipe_linux

METHODS = ("fork", "spawn", "forkserver")
# Around the limits of header, joined writes and capacity.
SIZES = (0, 1, 3, 4, 1000, 16384, 16385, 65535, 65536, 65537, 1 << 20, (5 << 20) + 7)


def pattern(size):
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def echo(conn, inherited):
    """Sends back what comes, up to the end. A forked process inherits the other end."""
    if inherited:
        inherited.close()
    with conn:
        while True:
            try:
                conn.send(conn.recv())
            except EOFError:
                return


def send_sizes(conn):
    with conn:
        for size in SIZES:
            conn.send_bytes(pattern(size))


def hold(conn, ready):
    ready.set()
    time.sleep(1000)
    conn.close()


def pass_on(conn):
    """Receives a connection through a connection, and sends through it."""
    with conn, conn.recv() as passed:
        passed.send("through the passed one")


def send_half(conn):
    """Dies in the middle of a message."""
    os.write(conn.fileno(), (1000).to_bytes(4, "big") + bytes(10))
    os.kill(os.getpid(), signal.SIGKILL)


@over_both
class Connections:
    def ends(self, pipe):
        for conn in pipe:
            self.addCleanup(conn.close)
        return pipe

    def test_simplex(self):
        reader, writer = self.ends(self.pipes.simplex())
        self.assertTrue(reader.readable and not reader.writable)
        self.assertTrue(writer.writable and not writer.readable)
        self.assertIsInstance(reader, connection.Connection)
        for obj in (None, "text", [1, {"a": (2, 3)}], b"x" * 10000):
            writer.send(obj)
            self.assertEqual(reader.recv(), obj)
        with self.assertRaises(OSError):
            reader.send(1)
        with self.assertRaises(OSError):
            writer.recv()
        with self.assertRaises(OSError):
            writer.poll()

    def test_duplex(self):
        one, other = self.ends(self.pipes.duplex())
        one.send("there")
        other.send("back")
        self.assertEqual((one.recv(), other.recv()), ("back", "there"))
        one.close()
        with self.assertRaises(EOFError):
            other.recv()
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            other.send("nobody is there")

    def test_bytes_of_any_size(self):
        reader, writer = self.ends(self.pipes.simplex())
        with self.process(send_sizes, writer):
            writer.close()
            for size in SIZES:
                self.assertEqual(reader.recv_bytes(), pattern(size))
            with self.assertRaises(EOFError):
                reader.recv_bytes()

    def test_offset_and_size(self):
        reader, writer = self.ends(self.pipes.simplex())
        for args, expected in (
            ((b"0123456789",), b"0123456789"),
            ((b"0123456789", 3), b"3456789"),
            ((b"0123456789", 3, 2), b"34"),
            ((b"0123456789", 10), b""),
            ((bytearray(b"abc"), 1), b"bc"),
            ((memoryview(b"abc")[::1],), b"abc"),
            ((array.array("H", [1, 2]),), bytes(array.array("H", [1, 2]))),
        ):
            writer.send_bytes(*args)
            self.assertEqual(reader.recv_bytes(), expected)
        for args in ((b"abc", -1), (b"abc", 4), (b"abc", 0, -1), (b"abc", 1, 3)):
            with self.assertRaises(ValueError):
                writer.send_bytes(*args)
        with self.assertRaises(TypeError):
            writer.send_bytes("text")
        self.assertFalse(reader.poll())

    def test_recv_bytes_into(self):
        reader, writer = self.ends(self.pipes.simplex())
        into = bytearray(10)
        writer.send_bytes(b"abc")
        self.assertEqual(reader.recv_bytes_into(into), 3)
        writer.send_bytes(b"defg")
        self.assertEqual(reader.recv_bytes_into(into, 6), 4)
        self.assertEqual(into, b"abc\0\0\0defg")
        numbers = array.array("I", [0, 0])
        writer.send_bytes(b"1234")
        self.assertEqual(reader.recv_bytes_into(numbers, 4), 4)
        self.assertEqual(numbers.tobytes(), b"\0\0\0\0001234")
        writer.send_bytes(b"too long for it")
        with self.assertRaises(BufferTooShort) as short:
            reader.recv_bytes_into(into, 5)
        self.assertEqual(short.exception.args, (b"too long for it",))
        for offset in (-1, 11):
            with self.assertRaises(ValueError):
                reader.recv_bytes_into(into, offset)
        writer.send_bytes(b"next")
        self.assertEqual(reader.recv_bytes(), b"next")

    def test_max_length(self):
        reader, writer = self.ends(self.pipes.simplex())
        writer.send_bytes(b"12345")
        self.assertEqual(reader.recv_bytes(5), b"12345")
        with self.assertRaises(ValueError):
            reader.recv_bytes(-1)
        writer.send_bytes(b"12345")
        with self.assertRaises(OSError):
            reader.recv_bytes(4)
        self.assertTrue(reader.closed)

    def test_max_length_of_duplex(self):
        one, other = self.ends(self.pipes.duplex())
        one.send_bytes(b"12345")
        with self.assertRaises(OSError):
            other.recv_bytes(4)
        self.assertFalse(other.closed or other.readable)
        other.send("still")
        self.assertEqual(one.recv(), "still")

    def test_closed(self):
        reader, writer = self.pipes.simplex()
        self.assertFalse(reader.closed)
        writer.close()
        self.assertTrue(writer.closed)
        writer.close()
        for call in (writer.fileno, lambda: writer.send(1), lambda: writer.send_bytes(b"")):
            with self.assertRaises(OSError):
                call()
        self.assertTrue(reader.poll())
        with self.assertRaises(EOFError):
            reader.recv()
        with reader as same:
            self.assertIs(same, reader)
        self.assertTrue(reader.closed)
        for call in (reader.fileno, reader.recv, reader.poll, reader.recv_bytes):
            with self.assertRaises(OSError):
                call()

    def test_no_reader(self):
        reader, writer = self.ends(self.pipes.simplex())
        reader.close()
        with self.assertRaises(BrokenPipeError):
            writer.send("nobody is there")

    def test_descriptors_are_closed(self):
        before = open_files()
        pipes = [self.pipes.duplex(), self.pipes.simplex()]
        self.assertGreater(open_files(), before)
        del pipes
        self.assertEqual(open_files(), before)

    def test_poll_and_wait(self):
        reader, writer = self.ends(self.pipes.simplex())
        start = time.monotonic()
        self.assertIs(reader.poll(), False)
        self.assertIs(reader.poll(0.2), False)
        self.assertEqual(connection.wait([reader], 0), [])
        self.assertGreaterEqual(time.monotonic() - start, 0.2)
        writer.send("x")
        self.assertIs(reader.poll(), True)
        self.assertIs(reader.poll(None), True)
        self.assertEqual(connection.wait([reader]), [reader])
        reader.recv()
        self.assertIs(reader.poll(), False)
        other, back = self.ends(self.pipes.duplex())
        back.send("y")
        self.assertEqual(connection.wait([reader, other]), [other])

    def test_start_methods(self):
        for method in METHODS:
            with self.subTest(method):
                one, other = self.ends(self.pipes.duplex())
                inherited = one if method == "fork" else None
                with self.process(echo, other, inherited, method=method):
                    other.close()
                    for obj in ("text", list(range(1000)), pattern(300000)):
                        one.send(obj)
                        self.assertEqual(one.recv(), obj)
                    one.close()

    def test_connection_through_a_connection(self):
        reader, writer = self.ends(self.pipes.simplex())
        one, other = self.ends(self.pipes.simplex())
        with self.process(pass_on, one):
            other.send(writer)
            writer.close()
            self.assertEqual(reader.recv(), "through the passed one")
            with self.assertRaises(EOFError):
                reader.recv()

    def test_killed_receiver(self):
        reader, writer = self.ends(self.pipes.simplex())
        ready = multiprocessing.Event()
        process = multiprocessing.Process(target=hold, args=(reader, ready))
        process.start()
        reader.close()
        ready.wait()
        killer = threading.Timer(0.3, process.kill)
        killer.start()
        with self.assertRaises(BrokenPipeError):
            writer.send_bytes(bytes(10 << 20))
        killer.join()
        process.join()

    def test_sender_that_dies(self):
        reader, writer = self.ends(self.pipes.simplex())
        process = multiprocessing.Process(target=send_half, args=(writer,))
        process.start()
        writer.close()
        with self.assertRaises(OSError) as error:
            reader.recv_bytes()
        self.assertNotIsInstance(error.exception, EOFError)
        process.join()

    def test_signal_handlers_run(self):
        reader, writer = self.ends(self.pipes.simplex())
        signal.alarm(0)
        before = signal.signal(signal.SIGALRM, lambda *_: writer.send("of the handler"))
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        self.assertEqual(reader.recv(), "of the handler")

    def test_interrupt(self):
        reader, writer = self.ends(self.pipes.simplex())
        for call in (reader.recv, lambda: writer.send_bytes(bytes(10 << 20))):
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                call()
            timer.join()

    def test_other_threads_run(self):
        reader, writer = self.ends(self.pipes.simplex())
        threading.Timer(0.1, writer.send, ("of a thread",)).start()
        self.assertEqual(reader.recv(), "of a thread")
        got = []
        thread = threading.Thread(target=lambda: got.append(reader.recv_bytes()))
        thread.start()
        writer.send_bytes(pattern(3 << 20))
        thread.join()
        self.assertEqual(got, [pattern(3 << 20)])

    def test_authentication(self):
        """The handshake of multiprocessing's own clients and servers."""
        one, other = self.ends(self.pipes.duplex())
        thread = threading.Thread(target=connection.answer_challenge, args=(one, b"key"))
        thread.start()
        connection.deliver_challenge(other, b"key")
        thread.join()

    def test_not_for_other_pickles(self):
        reader, _ = self.ends(self.pipes.simplex())
        with self.assertRaises((TypeError, RuntimeError)):
            pickle.dumps(reader)
            # That of multiprocessing has a number that means nothing elsewhere.
            self.assertIs(self.pipes.__name__, "Multiprocessing")
            raise RuntimeError


class Own(Case):
    """What multiprocessing does not have, or does worse."""

    def test_kind(self):
        for duplex in (False, True):
            one, other = zpipe_linux.Pipe(duplex)
            self.assertEqual((one.is_zpipe, other.is_zpipe), (LOADED, LOADED))

    @unittest.skipIf(LOADED, "the module is loaded")
    def test_require(self):
        with self.assertRaises(FileNotFoundError):
            zpipe_linux.Pipe(require=True)

    def test_same_format(self):
        """A message without buffers is as multiprocessing's."""
        reader, writer = zpipe_linux.Pipe()
        with connection.Connection(os.dup(reader.fileno()), writable=False) as other:
            writer.send(["text", 5])
            self.assertEqual(other.recv(), ["text", 5])
        with connection.Connection(os.dup(writer.fileno()), readable=False) as other:
            other.send(["text", 5])
            self.assertEqual(reader.recv(), ["text", 5])

    def test_two_threads(self):
        reader, writer = zpipe_linux.Pipe()
        thread = threading.Thread(target=reader.recv)
        thread.start()
        time.sleep(0.3)
        with self.assertRaises(RuntimeError):
            reader.recv()
        writer.send(1)
        thread.join()

    def test_close_while_waiting(self):
        """The number of the descriptor is not used again as long as a thread waits."""
        reader, writer = zpipe_linux.Pipe()
        number = reader.fileno()
        got = []
        thread = threading.Thread(target=lambda: got.append(reader.recv()))
        thread.start()
        time.sleep(0.3)
        reader.close()
        with socket.socket() as file:
            self.assertNotEqual(file.fileno(), number)
        writer.send("after the close")
        thread.join()
        self.assertEqual(got, ["after the close"])
        with self.assertRaises(OSError):
            os.fstat(number)

    def test_interrupted_message(self):
        reader, writer = zpipe_linux.Pipe()
        self.interrupt_message(writer)
        with self.assertRaisesRegex(OSError, "interrupted"):
            writer.send("in the middle of the other message")
        writer.close()
        with self.assertRaisesRegex(OSError, "end of file during message"):
            reader.recv_bytes()

    def test_bad_headers(self):
        big = 1 << 62
        for head in (
            [(-3).to_bytes(4, "big", signed=True)],
            [b"\xff" * 4, (big * 2).to_bytes(8, "big")],
            [b"\xff\xff\xff\xfe", bytes(4), bytes(8)],
            [b"\xff\xff\xff\xfe", b"\xff" * 4, bytes(8)],
            # The number of bytes sent for a buffer is that of the buffer, or of whole pages.
            [b"\xff\xff\xff\xfe", (1).to_bytes(4, "big"), bytes(8),
             (5).to_bytes(8, "big"), (6).to_bytes(8, "big")],
            [b"\xff\xff\xff\xfe", (1).to_bytes(4, "big"), bytes(8),
             (5).to_bytes(8, "big"), (4 << 20).to_bytes(8, "big")],
        ):
            with self.subTest(head):
                reader, writer = zpipe_linux.Pipe()
                os.write(writer.fileno(), b"".join(head))
                with self.assertRaisesRegex(OSError, "bad (message )?(length|number)"):
                    reader.recv()
                self.assertTrue(reader.closed)
                with self.assertRaises(BrokenPipeError):
                    writer.send("nobody is there")

    def test_lengths_are_not_believed(self):
        """What a header announces is not allocated before it comes."""
        entry = (1 << 45).to_bytes(8, "big")
        for head in (
            b"\xff" * 4 + entry,
            b"\xff\xff\xff\xfe" + (1).to_bytes(4, "big") + bytes(8) + 2 * entry,
            b"\x7f\xff\xff\xff",
        ):
            with self.subTest(head):
                reader, writer = zpipe_linux.Pipe()
                os.write(writer.fileno(), head + b"some")
                writer.close()
                before = resident()
                with self.assertRaises((OSError, MemoryError)):
                    reader.recv()
                self.assertLess(resident() - before, 8 << 20)
                with self.assertRaisesRegex(OSError, "interrupted"):
                    reader.recv()


def resident():
    """The memory of this process, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    unittest.main()
