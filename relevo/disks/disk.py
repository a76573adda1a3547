"""The contract of a disk, be it a local folder or a bucket.

Two kinds of errors are kept apart, because only one is worth another try. A `DiskError` means that
the request itself is wrong and never will succeed: a path that leads out of the disk, a folder
instead of a file, a missing file. An `OSError` means that the disk could not do it now: it is full,
away, or denies access.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from relevo.errors import DiskError


class MissingFileError(DiskError):
    """There is no such file on the disk."""


class Disk(Protocol):
    """What every disk can do. A path is relative, with `/` between its parts, on every disk."""

    def put(self, path: str, source: BinaryIO | bytes) -> int:
        """Write all of `source` in place of the old file, and return the number of bytes.

        A reader sees the old file or the new one, never a part of it.
        """
        ...

    def staged(
        self, path: str, source: BinaryIO | bytes
    ) -> AbstractContextManager[Callable[[], object]]:
        """Like `put`, in two steps: the block gets a function that puts the file in its place.

        The slow work (such as syncing) is done before the block, so that the block can hold a
        lock. If the block doesn't call the function, no file is left.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open the file for reading. It is seekable, and the caller closes it."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file (not a folder) at this path."""
        ...

    def size(self, path: str) -> int:
        """The size of the file, in bytes."""
        ...

    def delete(self, path: str) -> None:
        """Remove the file. A missing file is no error, so a cleanup can run twice."""
        ...

    def link(self, path: str, seconds: float, name: str | None = None) -> str:
        """Return a url from which anyone can fetch the file for so many seconds.

        `name` is the name under which a browser saves it. The file need not exist yet. A disk that
        can't make links raises DiskError.
        """
        ...


def check_path(path: str) -> str:
    """Return `path` if it is well-formed. This checks the text only, not the disk."""
    if not isinstance(path, str) or not path.strip():
        raise DiskError(f"expected the path of a file, got {path!r}")
    if any(ord(letter) < ord(" ") for letter in path) or "\\" in path:
        raise DiskError(f"expected a path without control characters and backslashes, got {path!r}")
    if path.startswith("/") or ".." in path.split("/"):
        raise DiskError(f"expected a relative path inside the disk, got {path!r}")
    return path
