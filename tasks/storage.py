"""The application's disks, by the name that a file's row carries, and links to what lies on them."""

from __future__ import annotations

from app import settings
from relevo.config.services import read_secret
from relevo.disks import Disk, Links, disk_for
from tasks import app

LOCAL = "local"

DAY = 24 * 60 * 60
#: How long a link to a report or an export is good for, and how long the file is kept. S3 signs
#: none for longer.
LINK_LASTS = 7 * DAY


def disk(name: str) -> Disk:
    """The disk called `name`. Raises DiskError."""
    return disk_for(app.settings, name, links() if name == LOCAL else None)


def default() -> str:
    """The name of the disk that new files are put on."""
    return app.settings.files_disk


def links() -> Links:
    """Links to files of the local disk: the API's route `/files/…` checks them."""
    return Links(f"{settings.application().url}/files", secret())


def secret() -> bytes:
    """What this installation signs with."""
    return read_secret(app.settings.secret)
