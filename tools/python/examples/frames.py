#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""frames.py [FRAMES [WAY...]]: a camera process produces frames of 1920x1080x3 bytes, and a viewer
process looks at each.

It prints for each way to pass the frames how many bytes arrive in a second, and how much processor
time the two processes take for a frame:

- give: zpipe_linux, the camera gives its frames away
- send: zpipe_linux, the camera keeps them
- Pipe, Queue: those of multiprocessing
- shared: a ring of two frames in multiprocessing.shared_memory, with semaphores. The viewer must
  be done with a frame before the camera may use it again

Then it kills a viewer, and prints how long the camera takes to notice.
"""

import multiprocessing
import sys
import threading
import time
from multiprocessing import shared_memory

import numpy

import zpipe_linux

SHAPE = (1080, 1920, 3)
BYTES = 1080 * 1920 * 3


def produce(frame, number):
    """Stands for a camera, which would write all of the frame."""
    frame.reshape(-1)[::4096] = number % 251


def look(frame, number):
    part = frame.reshape(-1)[::4096][::25]
    if not (part == number % 251).all():
        sys.exit(f"frame {number} is wrong")


class Connections:
    """zpipe_linux and multiprocessing.Pipe()."""

    def __init__(self, pipe, give):
        self.reader, self.writer = pipe(duplex=False)
        self.give = give

    def camera(self, frames):
        self.reader.close()
        frame = zpipe_linux.empty(SHAPE, "u1")
        put = self.writer.give if self.give else self.writer.send
        for number in range(frames):
            produce(frame, number)
            put(frame)
        self.writer.close()

    def viewer(self):
        self.writer.close()
        number = 0
        while True:
            try:
                frame = self.reader.recv()
            except EOFError:
                return
            look(frame, number)
            del frame
            number += 1


class Queues:
    """multiprocessing.Queue, which has a thread that writes."""

    def __init__(self):
        self.queue = multiprocessing.Queue(2)

    def camera(self, frames):
        for number in range(frames):
            frame = numpy.empty(SHAPE, "u1")  # The thread may still have the last one.
            produce(frame, number)
            self.queue.put(frame)
        self.queue.put(None)
        self.queue.close()
        self.queue.join_thread()

    def viewer(self):
        number = 0
        while (frame := self.queue.get()) is not None:
            look(frame, number)
            number += 1


class Shared:
    """A ring of two frames that both processes map."""

    def __init__(self):
        self.memory = shared_memory.SharedMemory(create=True, size=2 * BYTES)
        self.free = multiprocessing.Semaphore(2)
        self.full = multiprocessing.Semaphore(0)
        self.frames = multiprocessing.Value("l", -1)

    def ring(self):
        return numpy.ndarray((2, *SHAPE), "u1", self.memory.buf)

    def camera(self, frames):
        self.frames.value = frames
        ring = self.ring()
        for number in range(frames):
            self.free.acquire()
            produce(ring[number % 2], number)
            self.full.release()

    def viewer(self):
        ring = self.ring()
        number = 0
        self.full.acquire()
        while True:
            look(ring[number % 2], number)
            self.free.release()
            number += 1
            if number == self.frames.value:
                break
            self.full.acquire()

    def __del__(self):
        self.memory.close()
        try:
            self.memory.unlink()
        except FileNotFoundError:
            pass


WAYS = {
    "give": lambda: Connections(zpipe_linux.Pipe, True),
    "send": lambda: Connections(zpipe_linux.Pipe, False),
    "Pipe": lambda: Connections(multiprocessing.Pipe, False),
    "Queue": Queues,
    "shared": Shared,
}


def timed(function, args, ready, start, times):
    ready.release()
    start.wait()
    before = time.process_time()
    function(*args)
    times.put(time.process_time() - before)


def measure(way, frames):
    """Returns seconds, and seconds of processor time."""
    context = multiprocessing.get_context("fork")
    ready, start, times = context.Semaphore(0), context.Event(), context.SimpleQueue()
    roles = ((way.camera, (frames,)), (way.viewer, ()))
    processes = [context.Process(target=timed, args=(*role, ready, start, times)) for role in roles]
    for process in processes:
        process.start()
        ready.acquire()
    if isinstance(way, Connections):
        way.reader.close()
        way.writer.close()
    begin = time.monotonic()
    start.set()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit("a process failed")
    return time.monotonic() - begin, times.get() + times.get()


def stop_after_three(way):
    way.writer.close()
    for _ in range(3):
        way.reader.recv()
    time.sleep(1000)


def kill_viewer():
    way = WAYS["give"]()
    viewer = multiprocessing.get_context("fork").Process(target=stop_after_three, args=(way,))
    viewer.start()
    way.reader.close()
    killed = []

    def kill():
        killed.append(time.monotonic())
        viewer.kill()

    threading.Timer(2, kill).start()
    frame = zpipe_linux.empty(SHAPE, "u1")
    sent = 0
    try:
        while True:
            produce(frame, sent)
            way.writer.give(frame)
            sent += 1
    except BrokenPipeError:
        delay = time.monotonic() - killed[0]
    viewer.join()
    print(f"killed viewer: BrokenPipeError after {delay * 1000:.0f} ms, {sent} frames were sent")


def main():
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    names = sys.argv[2:] or WAYS
    loaded = zpipe_linux.Pipe()[0].is_zpipe
    print("give and send use", "zpipe" if loaded else "pipes of the kernel: zpipe is not loaded")
    for name in names:
        way = WAYS[name]()
        wall, processor = measure(way, frames)
        print(f"{name:8} {frames * BYTES / wall / 1e9:7.3f} GB/s "
              f"{processor / frames * 1e3:7.2f} ms of processor time for a frame")
    kill_viewer()


if __name__ == "__main__":
    main()
