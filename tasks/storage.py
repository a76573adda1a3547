"""The application's disks, by the names in the rows of files, and signed links to their files."""

from __future__ import annotations

from app import settings
from relevo.config.services import read_secret
from relevo.disks import Disk, Links, disk_for
from tasks import app

LOCAL = "local"

DAY = 24 * 60 * 60
#: Seconds for which a link to a report or an export is valid, and the file is kept. S3 signs no
#: link for longer.
LINK_SECONDS = 7 * DAY


def disk(name: str) -> Disk:
    """The disk called `name`. Raises DiskError."""
    return disk_for(app.settings, name, links() if name == LOCAL else None)


def default() -> str:
    """The name of the disk for new files."""
    return app.settings.files_disk


def links() -> Links:
    """Signed links to files of the local disk. The API's route `/files/…` checks them."""
    return Links(f"{settings.application().url}/files", secret())


def secret() -> bytes:
    """The key with which this installation signs."""
    return read_secret(app.settings.secret)
