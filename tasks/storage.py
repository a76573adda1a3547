"""The application's disks, by the name that a file's row carries."""

from __future__ import annotations

from relevo.disks import Disk, LocalDisk
from relevo.errors import DiskError
from tasks import app

LOCAL = "local"


def disk(name: str) -> Disk:
    if name != LOCAL:
        raise DiskError(f"expected the name of a disk ({LOCAL!r}), got {name!r}")
    return LocalDisk(app.settings.storage)
