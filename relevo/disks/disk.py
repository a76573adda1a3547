"""What a disk can do, whether it is a folder of this machine or a bucket somewhere.

Two kinds of trouble, kept apart because only one of them is worth another try: a `DiskError` says
that what was asked makes no sense and never will (a path that climbs out, a folder where a file was
meant, no such file); an `OSError` says that the disk could not do it just now (full, gone, not
permitted).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from relevo.errors import DiskError


class MissingFileError(DiskError):
    """There is no such file on the disk."""


class Disk(Protocol):
    """The contract. A path is relative, with `/` between its parts, the same on every disk."""

    def put(self, path: str, source: BinaryIO | bytes) -> int:
        """Write `source` whole, in place of what was there; the number of bytes. A reader sees the
        old file or the new one, never a part of it.
        """
        ...

    def staged(
        self, path: str, source: BinaryIO | bytes
    ) -> AbstractContextManager[Callable[[], object]]:
        """Like `put`, in two steps: the block is given what puts the file in its place. What can
        take its time (a disk that syncs) is done before the block, so that it can hold a lock. A
        block that doesn't put it leaves nothing.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """The file, to be read, seekable; the caller closes it."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file (not a folder) is there."""
        ...

    def size(self, path: str) -> int:
        """Bytes of the file."""
        ...

    def delete(self, path: str) -> None:
        """Remove the file; one that isn't there is no error, so that a cleanup can run twice."""
        ...

    def link(self, path: str, seconds: float, name: str | None = None) -> str:
        """A url under which anybody can fetch the file for so long; `name` is what it is called
        when it is saved.

        The file need not be there yet. A disk that can't make one raises DiskError.
        """
        ...


def check_path(path: str) -> str:
    """`path`, if a disk could have it: what can be said of a path without looking at one."""
    if not isinstance(path, str) or not path.strip():
        raise DiskError(f"expected the path of a file, got {path!r}")
    if any(ord(letter) < ord(" ") for letter in path) or "\\" in path:
        raise DiskError(f"expected a path without control characters and backslashes, got {path!r}")
    if path.startswith("/") or ".." in path.split("/"):
        raise DiskError(f"expected a relative path inside the disk, got {path!r}")
    return path
