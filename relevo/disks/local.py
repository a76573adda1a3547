"""A disk in a local folder.

A file is written under a temporary name beside its place (`.….part`), synced, and renamed. So a
kill or a full disk leaves the old file or none, never a part of one. A file that a killed process
left behind is recognised by its name (`PART`). No path leads out of the folder: not by `..`, not by
being absolute, not through a symbolic link.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from relevo.disks.disk import MissingFileError, check_path
from relevo.disks.links import Links
from relevo.errors import DiskError

# The name of a file while it is written. It leaves out the file's own name, which may be 255 bytes
# long already.
PART = ".{token}.part"
CHUNK_BYTES = 1024 * 1024


class LocalDisk:
    """A disk below the folder `root`, which is created with the first file.

    Its links are urls of your own program, which checks them with the same `links`.
    """

    def __init__(self, root: str | os.PathLike[str], links: Links | None = None) -> None:
        self._links = links
        # Not Path.resolve(), which raises an OSError for a loop of links.
        self.root = Path(os.path.realpath(root))

    def put(self, path: str, source: BinaryIO | bytes) -> int:
        with _write_part(target := self._target(path), source) as (part, size):
            _rename(part, target)
        return size

    @contextlib.contextmanager
    def staged(self, path: str, source: BinaryIO | bytes) -> Iterator[Callable[[], object]]:
        with _write_part(target := self._target(path), source) as (part, _):
            yield lambda: _rename(part, target)

    def open(self, path: str) -> BinaryIO:
        return self._file(path).open("rb")

    def exists(self, path: str) -> bool:
        return self.path(path).is_file()

    def size(self, path: str) -> int:
        return self._file(path).stat().st_size

    def delete(self, path: str) -> None:
        with contextlib.suppress(MissingFileError):
            self._file(path).unlink(missing_ok=True)

    def link(self, path: str, seconds: float, name: str | None = None) -> str:
        if self._links is None:
            raise DiskError("this disk was made without links, so it can't make one")
        return self._links.make(check_path(path), seconds, name)

    def path(self, path: str) -> Path:
        """Return the path on this machine. Raises DiskError for a path that leads out of the disk.

        It follows links, so that a link that leads out is noticed.
        """
        target = Path(os.path.realpath(self.root / check_path(path)))

        if self.root not in target.parents:
            raise DiskError(f"expected a path inside the disk, got {path!r}, which leads out of it")
        return target

    def _target(self, path: str) -> Path:
        """Return where to write a file, and create its folder."""
        target = self.path(path)
        if target.is_dir():
            raise DiskError(f"expected the path of a file, got the folder {path!r}")
        _make_folder(target, path)
        return target

    def _file(self, path: str) -> Path:
        """Return the regular file at `path`.

        A folder would fail only when it is read, and a pipe would wait for ever.
        """
        target = self.path(path)
        try:
            mode = target.stat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"there is no file {path!r} on the disk") from error
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"
            raise DiskError(f"expected the path of a file, got the {kind} {path!r}")
        return target


def _make_folder(target: Path, path: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DiskError(
            f"expected folders before the name in {path!r}, got a file among them"
        ) from error


@contextlib.contextmanager
def _write_part(target: Path, source: BinaryIO | bytes) -> Iterator[tuple[Path, int]]:
    """Write a whole file beside `target`; yield its path and size.

    The file is removed after the block if the block has not renamed it.
    """
    part = target.with_name(PART.format(token=secrets.token_hex(8)))
    try:
        with part.open("xb") as out:
            shutil.copyfileobj(
                io.BytesIO(source) if isinstance(source, bytes) else source, out, CHUNK_BYTES
            )
            size = out.tell()
            out.flush()
            # Before the rename: else a power cut can leave an empty file under the new name.
            os.fsync(out.fileno())
        yield part, size
    finally:  # also after a KeyboardInterrupt or a soft time limit
        part.unlink(missing_ok=True)


def _rename(part: Path, target: Path) -> None:
    part.replace(target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Make a rename survive a power cut.

    A system that can't sync a folder keeps the rename anyway.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
