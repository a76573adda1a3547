"""images.process: makes the versions of an uploaded picture.

    row of the file -> its bytes from the disk
        -> for each size: make it, write it, commit its row, report progress
        -> the file is processed

Each size is finished before the next begins, so a killed job loses one size at most. The next
attempt makes all sizes again: writing a version replaces the file and the row of that name. Two
runs at the same time take turns at the lock of the file's row, so a version's row always describes
the file on the disk.

| error | what follows |
|---|---|
| the disk or the database is away, the row is not committed yet | another try: it may pass |
| a damaged or enormous picture, a missing original, impossible sizes | the job fails at once |
| the file is no picture | the row says so, and the job is done: it is no error |
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery.exceptions import TimeLimitExceeded
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import File, FileVersion, session
from app.models.base import now
from relevo.disks import Disk
from relevo.errors import DiskError, OptionError, RelevoError
from tasks import app, storage
from tasks.pictures import ImageError, NotAnImageError, Version, make_versions, validate_sizes


def tags_of(file_id: int, sizes: Any = None, user_id: int | None = None) -> list[str]:  # noqa: ARG001
    """The tags of a job; it has the task's arguments.

    The user is an argument and not looked up: that would be a query at every dispatch, and a
    deadlock inside a transaction on SQLite.
    """
    return ["image-processing", f"file:{file_id}"] + (
        [f"user:{user_id}"] if user_id is not None else []
    )


@app.task(
    name="images.process",
    bind=True,
    queue="default",
    tries=3,
    timeout=300,
    backoff=[10, 30, 60],
    max_exceptions=2,
    retry_until=600,
    tags=tags_of,
)
def process(
    self: Any,
    file_id: int,
    sizes: dict[str, int] | None = None,
    user_id: int | None = None,  # noqa: ARG001  for the tags
) -> dict[str, Any]:
    """Make the versions of a file: `sizes` maps a name to its longest edge in pixels, 150, 500 and
    1024 by default.

    Returns the path of each version by its name and the seconds it took, or why the file was
    skipped.
    """
    began = time.monotonic()
    try:
        versions = _make_versions(self, file_id, validate_sizes(sizes))
        return {
            "file": file_id,
            "versions": versions,
            "seconds": round(time.monotonic() - began, 3),
        }
    except NotAnImageError as error:
        _record_end(file_id, error=str(error))
        return {"file": file_id, "skipped": str(error)}
    except (ImageError, DiskError, OptionError) as error:
        return self.fail(error)


@process.failed
def process_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the file's row."""
    file_id = job.kwargs["file_id"] if "file_id" in job.kwargs else job.args[0]
    _record_end(file_id, error=_error_line(error))


def _error_line(error: BaseException) -> str:
    """An error in one line; a database's error without its statement."""
    if isinstance(error, TimeLimitExceeded):
        return f"it took longer than {process.options.timeout:g} seconds"
    text = str(error) if isinstance(error, RelevoError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0][:1000]


def _make_versions(task: Any, file_id: int, sizes: Mapping[str, int]) -> dict[str, str]:
    with session() as db:
        file = _lock_file(db, file_id)
    disk, paths = storage.disk(file.disk), {}
    with disk.open(file.path) as original:
        for done, version in enumerate(make_versions(original, sizes), start=1):
            paths[version.name] = _store_version(disk, file_id, version)
            task.progress(done, len(sizes))
    _record_end(file_id)
    return paths


def _store_version(disk: Disk, file_id: int, version: Version) -> str:
    """Write a version and its row, in place of an earlier run's. Returns the path."""
    path = f"versions/{file_id}/{version.name}{version.suffix}"
    # The bytes are written before the lock is taken, since on SQLite it stops all writers. Under
    # the lock the file is only moved into place.
    with disk.staged(path, version.data) as put_in_place, session() as db:
        _lock_file(db, file_id)
        row = db.scalars(
            select(FileVersion).filter_by(file_id=file_id, name=version.name)
        ).one_or_none()
        row, before = row or FileVersion(file_id=file_id, name=version.name), row and row.path
        _describe(row, path, version)
        db.add(row)
        db.flush()
        put_in_place()  # under the lock of the file's row, so row and file change together
    if before not in {None, path}:  # the original was of another kind in the earlier run
        disk.delete(before)
    return path


def _describe(row: FileVersion, path: str, version: Version) -> None:
    row.path, row.width, row.height = path, version.width, version.height
    row.bytes, row.options, row.created_at = len(version.data), version.options, now()


def _record_end(file_id: int, error: str | None = None) -> None:
    with session() as db:
        if file := db.get(File, file_id):
            file.processed_at, file.error = None if error else now(), error


def _lock_file(db: Session, file_id: int) -> File:
    file = db.get(File, file_id, with_for_update=True)
    if file is None:
        raise LookupError(f"there is no file {file_id!r}: it was deleted, or is not committed yet")
    return file
