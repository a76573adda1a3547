"""What lies between the prefork pool and its children: the way into the pipe, and the lock at its other end.

The lock is safe against the death of who holds it. billiard's own is a semaphore, which stays taken when its holder is
killed: an idle child may be waiting for its job inside the lock, and one `kill -9` of it left the worker taking jobs
and running none, for ever. The kernel gives a record lock back when its holder is gone, however it went.
"""

from __future__ import annotations

import fcntl
import tempfile
import threading
from typing import Any

from billiard.reduction import ForkingPickler

# A write of this size (bytes) into a pipe is atomic and doesn't wait for a reader.
SMALL = 4096


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
