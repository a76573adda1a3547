"""The pipes between the prefork pool and its children, and the locks at their ends.

**Packets.** The pipes keep messages apart where the system can (Linux). billiard's pipes are
streams of bytes. A child that is killed while it reads a job may have read the first four bytes:
the next child takes what follows for the length of a job, waits for millions of bytes, and no job
ever runs again. A child that is killed while it writes a large result leaves half of it, and the
worker takes the results of all others for the rest. In a pipe of packets each packet names its
message and its place there, and what a dead child has left is skipped.

**Locks.** The locks survive the death of their holder. billiard's own lock is a semaphore, which
stays taken when its holder is killed. An idle child may wait for its job inside the lock, and one
`kill -9` of it left the worker taking jobs and running none, for ever. The kernel gives a record
lock back when its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import struct
import tempfile
import threading
from typing import Any

from billiard.reduction import ForkingPickler

# The size of a packet in bytes: the largest write into a pipe that is atomic.
PACKET = 4096
# How many packets a pipe is asked to hold: the most that a user who isn't root may have.
PACKETS = 256
# The head of each packet: the sender, the message's number there, its size, the packet's offset.
_HEAD = struct.Struct("!IIII")
#: A message of up to this many bytes is one packet, and is read wholly or not at all.
SMALL = PACKET - _HEAD.size


def use_packets(reader: Any, writer: Any) -> int:
    """Make a pipe (its billiard connections) one of packets.

    Returns how many packets it holds, or 0 if the system has no such pipes.
    """
    try:
        fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_DIRECT)
    except (AttributeError, OSError):
        return 0
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PACKETS * PACKET)
    numbers = itertools.count()
    # what billiard's connection writes with
    writer._send_bytes = lambda data: send(writer.fileno(), data, next(numbers))  # noqa: SLF001
    # and reads with
    reader._recv_bytes = lambda maxsize=None: receive(reader.fileno())  # noqa: ARG005, SLF001
    return int(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)) // PACKET


def send(pipe: int, data: Any, number: int) -> None:
    """Write a message, packet by packet. The caller keeps other writers of this process away."""
    whole, sender = memoryview(data), os.getpid()
    for offset in range(0, max(len(whole), 1), SMALL):
        head = _HEAD.pack(sender, number & 0xFFFFFFFF, len(whole), offset)
        os.write(pipe, head + whole[offset : offset + SMALL])


def receive(pipe: int) -> io.BytesIO:
    """Read the next whole message. Raises EOFError at the pipe's end."""
    message, name, size = io.BytesIO(), None, 1
    while name is None or message.tell() < size:
        packet = os.read(pipe, PACKET)
        if not packet:
            raise EOFError
        sender, number, whole, offset = _HEAD.unpack_from(packet)
        if offset == 0:  # the message before it has no end: its sender was killed
            message, name, size = io.BytesIO(), (sender, number), whole
        # else it is the rest of a message whose beginning a dead child has read
        if (sender, number) == name and offset == message.tell():
            message.write(packet[_HEAD.size :])
    return message


class PipeLock:
    """A lock between processes, not between threads of one. It is made before they are forked.

    To acquire and release it takes 1.5 us.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the lock is there

    def acquire(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.release()


class TaskQueue:
    """billiard's task queue, with a shortcut: a small job is written to the pipe by the thread that
    puts it.
    """

    def __init__(self, queue: Any, writer: Any, lock: threading.Lock) -> None:
        self._queue, self._writer, self._lock = queue, writer, lock
        self.get = queue.get

    def put(self, item: Any) -> None:
        if item is None or not self._queue.empty() or not self._write_small(item[0]):
            self._queue.put(item)

    def _write_small(self, tasks: list[Any]) -> bool:
        written = ForkingPickler.dumps(tasks[0])
        if len(written) > SMALL or not self._lock.acquire(blocking=False):
            return False
        try:
            self._writer.send_bytes(written)
        finally:
            self._lock.release()
        return True
