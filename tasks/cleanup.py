"""Tidying up, on the schedule of beat_schedule.py. Everything here may run twice, or side by side, and do no harm."""

from pathlib import Path

from relevo import clock
from tasks import app

DAY = 24 * 60 * 60


@app.task(name="cleanup.temporary_files")
def temporary_files(older_than: float = DAY) -> int:
    """Delete the half-written files that killed processes left on the local disk. Returns how many."""
    # LocalDisk's temporary names begin with a dot; a file that somebody uploaded as `x.part` is none of them.
    return sum(_delete(path, clock.now() - older_than) for path in app.settings.storage.rglob(".*.part"))


def _delete(path: Path, before: float) -> bool:
    try:
        old = path.is_file() and not path.is_symlink() and path.stat().st_mtime < before
        if old:
            path.unlink()
    except FileNotFoundError:  # its writer was alive after all, or another run was faster
        return False
    return old
