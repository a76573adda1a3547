"""What lies between the prefork pool and its children: the way into the pipe, the pipe, and the lock at its other end.

The pipe keeps jobs apart from each other where it can (Linux). billiard's is a stream of bytes, of which a child that
is killed just then may have read the first four: the next child takes what follows for the length of a job, waits for
millions of bytes, and no job runs ever again. In a pipe of packets a child has read a job wholly or not at all.

The lock is safe against the death of who holds it. billiard's own is a semaphore, which stays taken when its holder is
killed: an idle child may be waiting for its job inside the lock, and one `kill -9` of it left the worker taking jobs
and running none, for ever. The kernel gives a record lock back when its holder is gone, however it went.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import struct
import tempfile
import threading
from typing import Any

from billiard.reduction import ForkingPickler

# A write of this size (bytes) into a pipe is atomic and doesn't wait for a reader; it is the largest packet, too.
SMALL = 4096
# So many packets a pipe is asked to hold: the most that a user who isn't root may have.
PACKETS = 256


def keep_apart(reader: Any, writer: Any) -> int:
    """Make a pipe (billiard's connections) one of packets, if the system has such. Returns how many it holds, or 0."""
    try:
        fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_DIRECT)
    except (AttributeError, OSError):
        return 0
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PACKETS * SMALL)
    reader._recv_bytes = lambda maxsize=None: _message(reader.fileno())  # noqa: ARG005, SLF001  billiard's way to read
    return int(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)) // SMALL


def _message(pipe: int) -> io.BytesIO:
    """The next message: as it is sent, four bytes for its length go before it, in its first packet."""
    packet = _packet(pipe)
    (size,) = struct.unpack("!i", packet[:4])
    message = io.BytesIO()
    missing = size - message.write(packet[4:])
    while missing > 0:
        missing -= message.write(_packet(pipe))
    return message


def _packet(pipe: int) -> bytes:
    packet = os.read(pipe, SMALL)
    if not packet:
        raise EOFError
    return packet


class PipeLock:
    """A lock between processes (not between threads of one), to be made before they are forked. 1.5 us a turn."""

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
    """billiard's task queue, with the short way for small jobs: the thread that puts them writes them to the pipe."""

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
