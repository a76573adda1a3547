"""The waker: a pipe whose byte ends a consumer's wait.

An ack comes from another thread, SIGTERM from a signal handler, a notification from a socket. All
three can write to a pipe, and a pipe can be waited for together with sockets. (A `threading.Event`
deadlocks when a signal handler in the waiting thread sets it.)
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator


class Waker:
    """`ring` from anywhere ends the current or the next `wait`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        """End the wait."""
        with contextlib.suppress(BlockingIOError):  # a full pipe will wake its reader as well
            os.write(self._write, b"!")

    @contextlib.contextmanager
    def rung_by_signals(self) -> Iterator[None]:
        """Within the block every signal rings, too. Only the main thread may ask for it; in others
        nothing changes.

        Otherwise a signal that comes just before the wait, or in another thread, would not end the
        wait, and its handler runs only when the main thread comes back to Python.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def wait(
        self, timeout: float | None = None, also: int | None = None, others: Iterable[int] = ()
    ) -> tuple[bool, bool]:
        """Wait, at most `timeout` seconds if given, and until one of `others` is readable.

        Returns whether the waker was rung, and whether the file descriptor `also` became readable.
        """
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        for other in others:
            poll.register(other, select.POLLIN)
        ready = {
            descriptor
            for descriptor, _ in poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        }
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        return self._read in ready, also in ready

    def __del__(self) -> None:
        # Not sooner: a late ack, after a close, would write into the next file with this number.
        os.close(self._read)
        os.close(self._write)
