"""What lies between the prefork pool and its children: the way into the pipe, the pipes, and the
locks at their ends.

The pipes keep messages apart from each other where they can (Linux). billiard's are streams of
bytes. A child that is killed just when it reads a job may have read the first four: the next child
takes what follows for the length of a job, waits for millions of bytes, and no job runs ever again.
One that is killed while it writes a large result leaves half of it, and the worker takes the
results of all others for the rest. In a pipe of packets each says of which message it is and where
in it: what the dead have left is skipped.

The locks are safe against the death of who holds them. billiard's own is a semaphore, which stays
taken when its holder is killed: an idle child may be waiting for its job inside the lock, and one
`kill -9` of it left the worker taking jobs and running none, for ever. The kernel gives a record
lock back when its holder is gone, however it went.
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

# A write of this size (bytes) into a pipe is atomic; it is the largest packet, too.
PACKET = 4096
# So many packets a pipe is asked to hold: the most that a user who isn't root may have.
PACKETS = 256
# Before the bytes of each packet: who sends the message and its number there, its size, where in it
# they belong.
_HEAD = struct.Struct("!IIII")
#: A message of so many bytes is one packet, and is read wholly or not at all.
SMALL = PACKET - _HEAD.size


def use_packets(reader: Any, writer: Any) -> int:
    """Make a pipe (billiard's connections) one of packets, if the system has such. Returns how many
    it holds, or 0.
    """
    try:
        fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_DIRECT)
    except (AttributeError, OSError):
        return 0
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PACKETS * PACKET)
    numbers = itertools.count()
    # billiard's way to write
    writer._send_bytes = lambda data: send(writer.fileno(), data, next(numbers))  # noqa: SLF001
    # and to read
    reader._recv_bytes = lambda maxsize=None: receive(reader.fileno())  # noqa: ARG005, SLF001
    return int(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)) // PACKET


def send(pipe: int, data: Any, number: int) -> None:
    """Write a message, packet by packet. Nobody else may write between these."""
    whole, sender = memoryview(data), os.getpid()
    for offset in range(0, max(len(whole), 1), SMALL):
        head = _HEAD.pack(sender, number & 0xFFFFFFFF, len(whole), offset)
        os.write(pipe, head + whole[offset : offset + SMALL])


def receive(pipe: int) -> io.BytesIO:
    """Read the next message that is whole. Raises EOFError at the pipe's end."""
    message, name, size = io.BytesIO(), None, 1
    while name is None or message.tell() < size:
        packet = os.read(pipe, PACKET)
        if not packet:
            raise EOFError
        sender, number, whole, offset = _HEAD.unpack_from(packet)
        if offset == 0:  # whatever came before it has no end: its sender was killed
            message, name, size = io.BytesIO(), (sender, number), whole
        if (
            sender,
            number,
        ) == name and offset == message.tell():  # or it is the rest of what a dead child has read
            message.write(packet[_HEAD.size :])
    return message


class PipeLock:
    """A lock between processes (not between threads of one), to be made before they are forked. 1.5
    us a turn.
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
    """billiard's task queue, with the short way for small jobs: the thread that puts them writes
    them to the pipe.
    """

    def __init__(self, queue: Any, writer: Any, lock: threading.Lock) -> None:
        self._queue, self._writer, self._lock = queue, writer, lock
        self.get = queue.get

    def put(self, item: Any) -> None:
        if item is None or not self._queue.empty() or not self._written(item[0]):
            self._queue.put(item)

    def _written(self, tasks: list[Any]) -> bool:
        written = ForkingPickler.dumps(tasks[0])
        if len(written) > SMALL or not self._lock.acquire(blocking=False):
            return False
        try:
            self._writer.send_bytes(written)
        finally:
            self._lock.release()
        return True
