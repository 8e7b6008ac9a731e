# SPDX-License-Identifier: MIT OR Apache-2.0
"""Arrays and other large buffers: what arrives, and who owns the memory."""

import gc
import os
import pickle
import struct
import threading
import unittest

from both import Case, LOADED, counters

import zpipe_linux

try:
    import numpy
except ImportError:
    numpy = None

PAGE = 2 << 20
FRAME = (1080, 1920, 3)
# Linux before 7.3 copies huge pages.
MOVES = LOADED and tuple(map(int, os.uname().release.split(".")[:2])) >= (7, 3)
# Around the limits of pickling out of band, of blocks, and of pages.
SIZES = (1, 65535, 65536, (1 << 20) - 1, 1 << 20, PAGE - 1, PAGE, PAGE + 1,
         PAGE + PAGE // 2 - 1, PAGE + PAGE // 2, 3 * PAGE - 5, 3 * PAGE, 9 * PAGE + 100)


class Transfers(Case):
    """A thread sends, so that no capacity matters."""

    def setUp(self):
        super().setUp()
        self.reader, self.writer = zpipe_linux.Pipe(require=LOADED)

    def transfer(self, obj, give=False):
        send = self.writer.give if give else self.writer.send
        thread = threading.Thread(target=send, args=(obj,))
        thread.start()
        try:
            return self.reader.recv()
        finally:
            thread.join()

    def count(self, name):
        return counters(self.writer).get("zpipe-" + name, 0)


class Buffers(Transfers):
    """Without NumPy."""

    def test_allocate(self):
        for size in (0, 1, PAGE, PAGE + 1):
            view = zpipe_linux.allocate(size)
            self.assertEqual((view.nbytes, view.readonly, view.format), (size, False, "B"))
            view[:] = b"x" * size
            self.assertEqual(bytes(view), b"x" * size)
        with self.assertRaises(ValueError):
            zpipe_linux.allocate(-1)
        with self.assertRaises(MemoryError):
            zpipe_linux.allocate(1 << 60)
        with self.assertRaises((MemoryError, OverflowError)):
            zpipe_linux.allocate((1 << 63) - 1)

    def test_sizes(self):
        for size in SIZES:
            for give in (False, True):
                with self.subTest(size=size, give=give):
                    view = zpipe_linux.allocate(size)
                    expected = os.urandom(size)
                    view[:] = expected
                    got = self.transfer(["before", pickle.PickleBuffer(view), "after"], give)
                    self.assertEqual(got, ["before", expected, "after"])
                    self.assertTrue(give or view == expected)

    def test_owner_of_memory(self):
        """Writing to what arrived changes nothing else."""
        view = zpipe_linux.allocate(3 * PAGE)
        for give in (False, True):
            view[:] = b"a" * (3 * PAGE)
            got = self.transfer(pickle.PickleBuffer(view), give)
            got[:] = b"b" * (3 * PAGE)
            self.assertTrue(give or bytes(view) == b"a" * (3 * PAGE))
            view[:] = b"c" * (3 * PAGE)
            self.assertEqual(bytes(got), b"b" * (3 * PAGE))

    def test_read_only_memory_is_not_given(self):
        view = zpipe_linux.allocate(PAGE)
        view[:] = b"a" * PAGE
        got = self.transfer(pickle.PickleBuffer(view.toreadonly()), give=True)
        self.assertTrue(got.readonly)
        self.assertEqual(bytes(got), b"a" * PAGE)
        self.assertEqual(bytes(view), b"a" * PAGE)
        self.assertEqual(self.count("gifts"), 0)

    def test_overlapping_memory_is_not_given(self):
        view = zpipe_linux.allocate(4 * PAGE)
        for one, other in (
            (view, view), (view[: 3 * PAGE], view[2 * PAGE :]), (view[PAGE:], view[: PAGE + 1]),
        ):
            view[:] = os.urandom(2 * PAGE) * 2
            expected = bytes(one), bytes(other)
            got = self.transfer(tuple(map(pickle.PickleBuffer, (one, other))), give=True)
            self.assertEqual(tuple(map(bytes, got)), expected)
        self.assertEqual(self.count("gifts"), 0)

    def test_parts_of_memory(self):
        """What is beside the given part stays."""
        for start, end, pages in ((PAGE, 2 * PAGE, 1), (1, 2 * PAGE, 0), (PAGE, 4 * PAGE - 1, 2),
                                  (0, PAGE + PAGE // 2, 1), (2 * PAGE, 4 * PAGE, 2)):
            view = zpipe_linux.allocate(4 * PAGE)
            view[:] = expected = os.urandom(4 * PAGE)
            before = self.count("gifts")
            got = self.transfer(pickle.PickleBuffer(view[start:end]), give=True)
            gifts = self.count("gifts") - before
            self.assertEqual(got, expected[start:end])
            self.assertEqual(bytes(view[:start]), expected[:start])
            self.assertEqual(bytes(view[end:]), expected[end:])
            self.assertLessEqual(gifts, pages if MOVES else 0)

    def test_end_of_the_last_page(self):
        """The last page leaves with what is behind the memory in it, which is of earlier users."""
        earlier = zpipe_linux.allocate(2 * PAGE)
        earlier[:] = b"x" * (2 * PAGE)
        del earlier
        view = zpipe_linux.allocate(2 * PAGE - 10)
        view[:] = b"y" * (2 * PAGE - 10)
        thread = threading.Thread(target=self.writer.give, args=(pickle.PickleBuffer(view),))
        thread.start()
        numbers = os.read(self.reader.fileno(), 32)
        count, data, length, sent = struct.unpack(">4xIQQQ", numbers)
        self.assertEqual((count, length, sent), (1, 2 * PAGE - 10, 2 * PAGE))
        got = b""
        while len(got) < data + sent:
            got += os.read(self.reader.fileno(), data + sent - len(got))
        thread.join()
        self.assertEqual(got[data:], b"y" * length + bytes(10))

    def test_many_buffers(self):
        count = 300
        got = self.transfer([pickle.PickleBuffer(bytes([n % 256]) * 65536) for n in range(count)])
        self.assertEqual([(b[0], b.nbytes) for b in got], [(n % 256, 65536) for n in range(count)])

    def test_as_bytes_it_is_refused(self):
        """recv_bytes() must not unpickle, and has no pickle in one piece."""
        self.writer.send_bytes(b"x")
        self.assertEqual(self.reader.recv_bytes(), b"x")
        thread = threading.Thread(target=self.ignore_broken_pipe)
        thread.start()
        with self.assertRaisesRegex(OSError, "recv\\(\\)"):
            self.reader.recv_bytes()
        self.assertTrue(self.reader.closed)
        thread.join()

    def ignore_broken_pipe(self):
        with self.assertRaises(BrokenPipeError):
            self.writer.send(pickle.PickleBuffer(bytes(1 << 20)))

    def test_after_the_connection(self):
        got = self.transfer(pickle.PickleBuffer(b"x" * PAGE))
        self.reader.close()
        self.writer.close()
        del self.reader, self.writer
        gc.collect()
        self.assertEqual(bytes(got), b"x" * PAGE)


@unittest.skipIf(numpy is None, "there is no NumPy")
class Arrays(Transfers):
    def test_empty(self):
        for args in (((1080, 1920, 3), "u1"), ((1000, 1000),), (400000,), ((5, 0), "f4"),
                     ((1024, 513), "c16", "F"), ((1 << 20,), "V1"), ((), "f8"), ((9,), "O"),
                     (numpy.int64(1 << 20),), ((numpy.int32(1 << 20), 2), "u1"), ([PAGE, 2], "u1")):
            array = zpipe_linux.empty(*args)
            model = numpy.empty(*args)
            for name in ("shape", "dtype", "strides"):
                self.assertEqual(getattr(array, name), getattr(model, name))
            self.assertTrue(array.flags.writeable)
        for args, error in (((PAGE, "u1", "A"), ValueError), (((-2, -PAGE), "u1"), ValueError),
                            ((5e6,), TypeError), (("text",), TypeError)):
            for make in (numpy.empty, zpipe_linux.empty):
                with self.assertRaises(error):
                    make(*args)
        # Numbers of 32 bits do not overflow.
        with self.assertRaises((MemoryError, ValueError, OverflowError)):
            zpipe_linux.empty((numpy.int32(1 << 30),) * 3)

    def test_round_trips(self):
        grey = zpipe_linux.empty((1080, 1920), "u1")
        grey[:] = numpy.arange(1920) % 251
        sparse = grey[::2, ::3]
        frozen = grey.copy()
        frozen.flags.writeable = False
        for array in (
            grey, sparse, frozen, grey.T, numpy.asfortranarray(grey), grey[100:200],
            numpy.arange(10), numpy.arange(10**6, dtype=">i4"), numpy.array(["text", None]),
            numpy.zeros(10**5, "datetime64[s]"), numpy.zeros(10**5, [("a", "i4"), ("b", "f8")]),
        ):
            got = self.transfer({"array": array})["array"]
            self.assertEqual((got.dtype, got.shape), (array.dtype, array.shape))
            self.assertTrue((got == array).all())
            self.assertEqual(got.flags.writeable, array.flags.writeable)
            self.assertFalse(numpy.shares_memory(got, array))

    def test_given_arrays(self):
        """A producer fills one array again and again; all that arrived keep their values."""
        frame = zpipe_linux.empty(FRAME, "u1")
        got = []
        for number in range(6):
            frame[:] = number
            got.append(self.transfer((number, frame), give=True))
        for number, array in got:
            self.assertTrue((array == number).all())

    def test_pages_move(self):
        """Three pages for each frame, of which the last one is not full. With more than one thread
        in a process, some would be copied because its address space is busy.
        """
        count = 20
        with self.process(give_frames, self.writer, count, method="fork"):
            self.writer.close()
            kept = []
            for number in range(count):
                array = self.reader.recv()
                self.assertTrue((array == number).all())
                kept = [*kept[-1:], (number, array)]
                del array
            for number, array in kept:
                self.assertTrue((array == number).all())
        got = counters(self.reader)
        if MOVES:
            self.assertEqual((got["zpipe-gifts"], got["zpipe-moves"]), (count * 3, count * 3))
            # What was in the memory of the reader returns to the writer.
            self.assertLess(got["zpipe-gift-clears"], count)

    def test_sent_arrays_stay(self):
        frame = zpipe_linux.empty(FRAME, "u1")
        frame[:] = 7
        got = self.transfer(frame)
        self.assertTrue((got == 7).all() and (frame == 7).all())
        self.assertEqual(self.count("gifts"), 0)
        if LOADED:
            # In one copy.
            pulled = self.count("bytes-pulled") + self.count("bytes-pushed")
            self.assertGreater(pulled, frame.nbytes * 0.9)

    def test_chain(self):
        """A process gives away what was given to it."""
        reader, writer = zpipe_linux.Pipe(require=LOADED)
        with self.process(give_frames, self.writer, 5, method="fork"), \
                self.process(give_on, self.reader, writer, method="fork"):
            self.writer.close()
            writer.close()
            for number in range(5):
                self.assertTrue((reader.recv() == number + 1).all())
        if MOVES:
            self.assertEqual(counters(reader)["zpipe-moves"], 15)

    def test_array_in_parts(self):
        """Of an array that is given in parts, no page is given twice."""
        array = zpipe_linux.empty((4, PAGE), "u1")
        array.T[:] = range(4)
        rows = self.transfer(list(array), give=True)
        self.assertEqual([set(row[:: 1 << 10].tolist()) for row in rows], [{0}, {1}, {2}, {3}])

    def test_forked_processes(self):
        """A child has the array of its parent, and gives it away: that of the parent stays."""
        frame = zpipe_linux.empty(FRAME, "u1")
        frame[:] = 9
        with self.process(give_changed, self.writer, frame, method="fork"):
            self.assertTrue((self.reader.recv() == 10).all())
        self.assertTrue((frame == 9).all())

    def test_memory_is_freed(self):
        sizes = []
        for _ in range(3):
            frames = [zpipe_linux.empty(10 * PAGE, "u1") for _ in range(8)]
            sizes.append(mapped())
            del frames
        # What stays for the next use is 64 MiB at most.
        self.assertLess(mapped(), sizes[0] - (160 << 20) + (66 << 20))
        self.assertLess(max(sizes) - sizes[0], 4 << 20)


def give_frames(conn, count):
    frame = zpipe_linux.empty(FRAME, "u1")
    for number in range(count):
        frame[:] = number
        conn.give(frame)


def give_on(reader, writer):
    for _ in range(5):
        array = reader.recv()
        array += 1
        writer.give(array)


def give_changed(conn, frame):
    frame += 1
    conn.give(frame)


def mapped():
    """The address space of this process, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    unittest.main()
