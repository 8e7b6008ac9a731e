#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""pool.py [ARRAYS [WAY...]]: two workers invert each of many arrays of 8 MiB.

It prints for each kind of pool how many bytes of arrays come back in a second, and how much
processor time all processes take for an array:

- give: zpipe_linux.Pool, the arrays are given to the workers and back
- send: zpipe_linux.Pool, each process keeps its arrays
- Pool: multiprocessing.Pool, which pickles the arrays
- shared: multiprocessing.Pool with names of blocks of multiprocessing.shared_memory, in which the
  workers change the arrays

Then it kills a worker, and prints how long the pool takes to notice.
"""

import functools
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from multiprocessing import shared_memory

import numpy

import zpipe_linux

SHAPE = (2048, 4096)
BYTES = 2048 * 4096
WORKERS = 2


def arrays(count):
    for number in range(count):
        array = zpipe_linux.empty(SHAPE, "u1")
        array[:] = number % 251
        yield array


def invert(array):
    return numpy.invert(array, out=array)


def check(results, count):
    number = 0
    for number, array in enumerate(results, 1):
        if not (array[:, ::512] == 255 - (number - 1) % 251).all():
            sys.exit(f"array {number - 1} is wrong")
        del array
    if number != count:
        sys.exit(f"{number} arrays came back")


def zpipe(count, give):
    with zpipe_linux.Pool(WORKERS) as pool:
        begin = time.monotonic()
        check(pool.imap(invert, arrays(count), give=give), count)
        return time.monotonic() - begin


def pickled(count):
    with multiprocessing.Pool(WORKERS) as pool:
        begin = time.monotonic()
        check(pool.imap(invert, arrays(count)), count)
        wall = time.monotonic() - begin
        pool.close()
        pool.join()
        return wall


def invert_shared(name):
    memory = shared_memory.SharedMemory(name)
    invert(numpy.ndarray(SHAPE, "u1", memory.buf))
    memory.close()
    return name


def shared(count):
    blocks = [shared_memory.SharedMemory(create=True, size=BYTES) for _ in range(2 * WORKERS)]
    views = {block.name: numpy.ndarray(SHAPE, "u1", block.buf) for block in blocks}
    with multiprocessing.Pool(WORKERS) as pool:
        begin = time.monotonic()
        for first in range(0, count, len(blocks)):
            names = list(views)[: count - first]
            for number, name in enumerate(names, first):
                views[name][:] = number % 251
            for number, name in enumerate(pool.map(invert_shared, names, 1), first):
                check([views[name] + numpy.uint8(number % 251)], 1)
        wall = time.monotonic() - begin
        pool.close()
        pool.join()
    views.clear()
    for block in blocks:
        block.close()
        block.unlink()
    return wall


WAYS = {
    "give": lambda count: zpipe(count, True),
    "send": lambda count: zpipe(count, False),
    "Pool": pickled,
    "shared": shared,
}


def processor_time():
    """Of this process and its children that have ended, in seconds."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def die(name, number):
    if number == 10:
        with open(name, "w", encoding="ascii") as file:
            file.write(str(time.monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill_worker():
    with zpipe_linux.Pool(WORKERS) as pool, tempfile.NamedTemporaryFile("r") as file:
        try:
            pool.map(functools.partial(die, file.name), range(100))
        except zpipe_linux.WorkerDied as error:
            delay = time.monotonic() - float(file.read())
            print(f"killed worker: WorkerDied after {delay * 1000:.0f} ms: {error}")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    loaded = zpipe_linux.Pipe()[0].is_zpipe
    print("give and send use", "zpipe" if loaded else "pipes of the kernel: zpipe is not loaded")
    for name in sys.argv[2:] or WAYS:
        before = processor_time()
        wall = WAYS[name](count)
        processor = processor_time() - before
        print(f"{name:8} {count * BYTES / wall / 1e9:7.3f} GB/s "
              f"{processor / count * 1e3:7.2f} ms of processor time for an array")
    kill_worker()


if __name__ == "__main__":
    main()
