"""Hears at once that somebody writes to a file: by inotify on Linux. Where there is none it hears
nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any

IGNORED = 0x8000  # the file is gone, and its watch with it
MODIFY = 0x2


class FileWatch:
    """A descriptor that can be read when the file at `path` was written to, as long as there is
    such a file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inotify: Any = None
        self.open()

    def open(self) -> None:
        """Watch the file there is now. Does nothing while one is watched."""
        if self._inotify is not None or sys.platform != "linux":
            return
        with contextlib.suppress(
            OSError
        ):  # no file yet; or the user's watches are used up, and we look by the clock
            inotify = _inotify()
            try:
                inotify.add_watch(self._path, MODIFY)
            except BaseException:
                inotify.close()
                raise
            self._inotify = inotify

    def fileno(self) -> int | None:
        """What to wait for, or None: then somebody has to look."""
        return None if self._inotify is None else self._inotify.fileno()

    def read(self) -> bool:
        """Whether the file was written to since the last time."""
        if self._inotify is None:
            return False
        events = list(self._inotify.read(timeout=0))
        if any(event.mask & IGNORED for event in events):
            self.close()
            self.open()
        return bool(events)

    def close(self) -> None:
        """May be called twice, and opened again."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.close()


def _inotify() -> Any:
    """An inotify instance, made without starting a program.

    To find the C library inotify_simple asks `ldconfig`. A child of the pool that another thread
    forks just then inherits the pipe through which Python hears that the program has begun, so that
    it never hears its end: the worker took no more jobs. The library is loaded anyway.
    """
    import inotify_simple  # noqa: PLC0415  Linux only

    # no public way
    inotify_simple._libc = inotify_simple._libc or ctypes.CDLL(None, use_errno=True)  # noqa: SLF001
    return inotify_simple.INotify()
