"""Where files lie: one small contract (`disk.py`), and one module per place that keeps it.

A caller names a file by its path on the disk (`"uploads/7/cat.jpg"`), never by a path of the machine.
"""

from relevo.disks.disk import Disk, MissingFileError
from relevo.disks.local import LocalDisk

__all__ = ["Disk", "LocalDisk", "MissingFileError"]
