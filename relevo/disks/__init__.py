"""Disks hold files: one small contract (`disk.py`), and one module per kind of disk.

A caller names a file by its path on the disk (`"uploads/7/cat.jpg"`), never by a path of the
machine.
"""

from relevo.config import Settings
from relevo.disks.disk import Disk, MissingFileError
from relevo.disks.links import Links
from relevo.disks.local import LocalDisk
from relevo.errors import DiskError, LinkError

__all__ = ["Disk", "LinkError", "Links", "LocalDisk", "MissingFileError", "disk_for"]


def disk_for(settings: Settings, name: str, links: Links | None = None) -> Disk:
    """Return the disk called `name` ("local" or "s3").

    A file's row keeps the name of its disk, so that the default disk may change.
    """
    if name == "local":
        return LocalDisk(settings.storage, links)
    if name != "s3":
        raise DiskError(f"expected the name of a disk ('local' or 's3'), got {name!r}")
    if settings.s3 is None:
        raise DiskError("the disk 's3' needs the setting FILES_DISK_BUCKET")
    # The module loads obstore, which a local disk doesn't need.
    from relevo.disks.s3 import S3Disk  # noqa: PLC0415

    return S3Disk(settings.s3)
