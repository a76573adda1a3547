"""How a consumer that waits is woken: by a byte in a pipe.

An ack comes from another thread, SIGTERM from a signal handler, a notification from a socket: a
pipe can be written from all three (a `threading.Event` deadlocks when its setter is a signal
handler in the waiting thread) and waited for together with sockets.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator


class Waker:
    """`ring` from anywhere ends the current or the next `wait`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe will wake its reader as well
            os.write(self._write, b"!")

    @contextlib.contextmanager
    def rung_by_signals(self) -> Iterator[None]:
        """Within the block every signal rings, too (in the main thread, which alone may ask for
        it).

        One that comes just before the wait, or that another thread receives, would not end it, and
        its handler runs in the main thread only when that comes back to Python.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def wait(self, timeout: float | None = None, also: int | None = None) -> tuple[bool, bool]:
        """Wait, at most `timeout` seconds if given. Returns whether it was rung, and whether `also`
        became readable.
        """
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        ready = {
            descriptor
            for descriptor, _ in poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        }
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        return self._read in ready, also in ready

    def __del__(self) -> None:
        # Not sooner: an ack that comes late, after a close, would write into whatever file got the
        # number next.
        os.close(self._read)
        os.close(self._write)
