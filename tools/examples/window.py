#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A parent fills frames of a write window and commits them. Its child peeks at them in a read
window. The last 4 bytes of each frame are a CRC of the other bytes. The child checks it in
place.
"""

import array
import fcntl
import mmap
import os
import struct
import sys
import zlib

PIPE2, WINDOW, RESERVE, COMMIT, PEEK = 0xE900, 0xE930, 0xE931, 0xE932, 0xE933
WINDOW_WRITE, WINDOW_READ = 1, 2
FRAME = 2 << 20
SUMMED = FRAME - 4  # bytes of a frame that the CRC covers
BYTES = 4 * FRAME  # of each window
FRAMES = 32  # to send


def command(fd, number, layout, *members):
    """Runs a command and returns the members of its struct, except the first one, its
    size.
    """
    args = bytearray(struct.calcsize(layout))
    struct.pack_into(layout, args, 0, len(args), *members)
    fcntl.ioctl(fd, number, args)
    return struct.unpack(layout, args)[1:]


def pair():
    """Makes a pipe and returns its read end and its write end."""
    control = os.open("/dev/zpipe-control", os.O_RDWR | os.O_CLOEXEC)
    _, read, write = command(control, PIPE2, "=IIii", os.O_CLOEXEC, -1, -1)
    os.close(control)
    return read, write


def window(end, flag, access):
    """Makes and maps a window; returns its descriptor and memory. The window is an end of the
    pipe itself, so "end" is closed.
    """
    _, size, fd, _ = command(end, WINDOW, "=IIQiI", flag, BYTES, -1, 0)
    os.close(end)
    return fd, mmap.mmap(fd, size, mmap.MAP_SHARED, access)


def reserve(fd, offset, size):
    """Allocates a range of the window. An access to memory that is not reserved is a SIGBUS if
    there is no memory for it.
    """
    command(fd, RESERVE, "=IIQQ", 0, offset, size)


def commit(fd, offset, size):
    """Commits a range of the window; returns the bytes written, moved and copied."""
    return command(fd, COMMIT, "=II5Q16I", 0, offset, size, 0, 0, 0, *[0] * 16)[3:6]


def peek(fd, consume):
    """Consumes "consume" bytes in view. Returns the views after them: a list of (offset in the
    window, bytes).
    """
    views = array.array("Q", [0] * 3 * 16)
    address, _ = views.buffer_info()
    _, _, _, count, *_ = command(fd, PEEK, "=IIQQIIQQ", 0, consume, address, 16, 0, 0, 0)
    return [(views[i], views[i + 1]) for i in range(0, 3 * count, 3)]


def writer(end):
    fd, memory = window(end, WINDOW_WRITE, mmap.PROT_READ | mmap.PROT_WRITE)
    moved = copied = 0
    for number in range(FRAMES):
        at, left = number * FRAME % BYTES, FRAME
        reserve(fd, at, FRAME)
        memory[at:at + SUMMED] = (bytes(range(number, number + 128)) * (FRAME // 128))[:SUMMED]
        with memoryview(memory) as view, view[at:at + SUMMED] as summed:
            struct.pack_into("<I", memory, at + SUMMED, zlib.crc32(summed, number))
        while left:  # Like write(2), a commit may write less.
            done, *how = commit(fd, at, left)
            at, left = at + done, left - done
            moved, copied = moved + how[0], copied + how[1]
    memory.close()  # This and the next call end the data.
    os.close(fd)
    return f"Python: {FRAMES} frames: {moved} bytes moved, {copied} copied"


def reader(end):
    fd, memory = window(end, WINDOW_READ, mmap.PROT_READ)
    total = crc = shown = 0
    with memoryview(memory) as view:
        while views := peek(fd, shown):
            shown = sum(size for _, size in views)
            for at, size in views:
                while size:  # A view ends anywhere if its bytes were copied.
                    place = total % FRAME
                    count = min(size, (SUMMED if place < SUMMED else FRAME) - place)
                    with view[at:at + count] as part:
                        if place < SUMMED:
                            crc = zlib.crc32(part, crc if place else total // FRAME)
                        elif part != crc.to_bytes(4, "little")[place - SUMMED:][:count]:
                            sys.exit(f"frame {total // FRAME} is wrong")
                    total, at, size = total + count, at + count, size - count
    if total != FRAMES * FRAME:
        sys.exit(f"{total} bytes came")


def main():
    read, write = pair()
    # fork() does not copy the mapping of a window, so each process makes its own.
    child = os.fork()
    if not child:
        os.close(write)
        reader(read)
        return
    os.close(read)
    line = writer(write)
    if os.waitpid(child, 0)[1]:
        sys.exit("the reader failed")
    print(line + ", all sums right")


main()
