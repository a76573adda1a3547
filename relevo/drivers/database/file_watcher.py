"""Tells at once when a file is written to, by inotify on Linux.

Elsewhere it tells nothing, and the caller looks by the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any

IGNORED = 0x8000  # the file is gone, and its watch with it
MODIFY = 0x2


class FileWatch:
    """A descriptor that becomes readable when the file at `path` is written to.

    The file need not exist: `open` tries again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inotify: Any = None
        self.open()

    def open(self) -> None:
        """Watch the file if it exists now. Does nothing while a file is watched."""
        if self._inotify is not None or sys.platform != "linux":
            return
        # OSError: there is no file yet, or the user has no inotify watches left.
        with contextlib.suppress(OSError):
            inotify = _inotify()
            try:
                inotify.add_watch(self._path, MODIFY)
            except BaseException:
                inotify.close()
                raise
            self._inotify = inotify

    def fileno(self) -> int | None:
        """The descriptor to wait for, or None when no file is watched."""
        return None if self._inotify is None else self._inotify.fileno()

    def read(self) -> bool:
        """Whether the file was written to since the last call."""
        if self._inotify is None:
            return False
        events = list(self._inotify.read(timeout=0))
        if any(event.mask & IGNORED for event in events):
            self.close()
            self.open()
        return bool(events)

    def close(self) -> None:
        """Stop watching. May be called twice; `open` begins again."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.close()


def _inotify() -> Any:
    """An inotify instance, made without starting a program.

    inotify_simple runs `ldconfig` to find the C library. If another thread forks a pool child at
    that moment, the child inherits the pipe that tells Python of the program's start, and Python
    waits for the end of that pipe for ever: the worker took no more jobs. The C library is loaded
    in any case.
    """
    import inotify_simple  # noqa: PLC0415  Linux only

    # inotify_simple has no public way to set its library.
    inotify_simple._libc = inotify_simple._libc or ctypes.CDLL(None, use_errno=True)  # noqa: SLF001
    return inotify_simple.INotify()
