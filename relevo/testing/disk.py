"""A disk for a test: an empty temporary folder with assertions. It replaces the project's disk
while the block runs.

The project's local disk is the folder of the setting `FILES_DISK_ROOT`; inside the block that
setting names the temporary folder. An app without Relevo's settings is not changed: pass the disk
to the code under test.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import celery

from relevo.config import Settings
from relevo.disks import LocalDisk
from relevo.testing.patching import replace as put_in_place

__tracebackhide__ = True

MOST_SHOWN = 30


class FakeDisk(LocalDisk):
    """A LocalDisk with assertions about its files."""

    def paths(self, folder: str = "") -> list[str]:
        """The path of every file on the disk, or below a folder, sorted."""
        below = self.path(folder) if folder else self.root
        return sorted(
            path.relative_to(self.root).as_posix() for path in below.rglob("*") if path.is_file()
        )

    def assert_exists(self, path: str, content: bytes | None = None) -> None:
        """The file exists; if `content` is given, with that content."""
        self._expect(self.exists(path), f"{path!r} to exist")
        if content is not None:
            with self.open(path) as file:
                found = file.read()
            self._expect(
                found == content, f"{path!r} to contain {_short(content)}, got {_short(found)}"
            )

    def assert_missing(self, path: str) -> None:
        """The file does not exist."""
        self._expect(not self.exists(path), f"{path!r} not to exist")

    def assert_count(self, count: int, folder: str = "") -> None:
        """Exactly `count` files are on the disk, or below a folder."""
        found = len(self.paths(folder))
        self._expect(
            found == count, f"{count} files{f' in {folder!r}' if folder else ''}, got {found}"
        )

    def assert_empty(self, folder: str = "") -> None:
        """No file is on the disk, or below a folder."""
        self._expect(not self.paths(folder), f"no file{f' in {folder!r}' if folder else ''}")

    def _expect(self, holds: bool, expected: str) -> None:
        if not holds:
            paths = self.paths()
            more = [f"and {len(paths) - MOST_SHOWN} more"] if len(paths) > MOST_SHOWN else []
            there = (
                "\n  ".join(["on the disk:", *paths[:MOST_SHOWN], *more])
                if paths
                else "the disk is empty"
            )
            raise AssertionError(f"expected {expected}\n{there}")


@contextmanager
def fake_disk(app: Any = None) -> Iterator[FakeDisk]:
    """An empty disk. It replaces that of `app` (default: Celery's current app) if `create_app` made
    the app.
    """
    # The app itself, not Celery's proxy of it.
    app = app if app is not None else celery.current_app._get_current_object()  # noqa: SLF001
    with tempfile.TemporaryDirectory(prefix="relevo-disk-") as folder:
        restore = _set_storage(app, Path(folder))
        try:
            yield FakeDisk(folder)
        finally:
            restore()


def _set_storage(app: Any, folder: Path) -> Any:
    if not isinstance(getattr(app, "settings", None), Settings):
        return lambda: None
    return put_in_place(app, "settings", lambda settings: replace(settings, storage=folder))


def _short(content: bytes) -> str:
    return (
        repr(content)
        if len(content) <= MOST_SHOWN
        else f"{content[:MOST_SHOWN]!r}… ({len(content)} bytes)"
    )
