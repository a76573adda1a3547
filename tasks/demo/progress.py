"""Dispatches the demo's pictures, and watches their rows until all have ended or nothing moves any
more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, or_, select

from app.models import File, FileVersion, session
from tasks import app
from tasks.demo.interrupt import Interrupt
from tasks.demo.screen import Line, Screen
from tasks.demo.worker import NoWorker, Worker
from tasks.images import process

STALLED_SECONDS = (
    120.0  # longer than the longest wait between two attempts, and than any picture takes
)
POLL_SECONDS = 0.2


class DemoError(Exception):
    """The demo can't go on. The message says why."""


def dispatch(file_id: int, user_id: int) -> Any:
    """Dispatch the job of a picture. On the `sync` connection it runs here; an error goes into the
    picture's row.
    """
    if app.settings.connection.driver == "sync":
        return process.apply((file_id,), {"user_id": user_id}, throw=False)
    return process.dispatch(file_id, user_id=user_id)


def watch(
    names: Mapping[int, str], worker: Worker | NoWorker, interrupt: Interrupt, screen: Screen
) -> None:
    """Wait until every file of `names` has versions or an error. Raises DemoError."""
    ended: set[int] = set()
    last, since = None, time.monotonic()
    while len(ended) < len(names):
        interrupt.check()
        if worker.has_ended():
            raise DemoError("the worker ended before the pictures were done")
        endings, movement = _look(names)
        for file_id in endings.keys() - ended:
            screen.done(names[file_id], endings[file_id])
        ended |= endings.keys()
        if movement != last:
            last, since = movement, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS:
            raise DemoError(f"nothing has moved for {STALLED_SECONDS:.0f} seconds")
        interrupt.wait(POLL_SECONDS)


def _look(names: Mapping[int, str]) -> tuple[dict[int, str | None], Any]:
    """The ended files with their errors, and a value that changes whenever there is progress."""
    with session() as db:
        ended = select(File.id, File.error).where(
            File.id >= min(names),
            File.id <= max(names),
            or_(File.processed_at.is_not(None), File.error.is_not(None)),
        )
        endings = {file_id: error for file_id, error in db.execute(ended) if file_id in names}
        return endings, (len(endings), db.scalar(select(func.max(FileVersion.created_at))))


def lines(results: Mapping[int, Any]) -> list[Line]:
    """The result of each file, in the order of the rows."""
    # Read before the session begins: on SQLite its transaction holds the lock that the result
    # backend needs.
    seconds = {file_id: _seconds(result) for file_id, result in results.items()}
    with session() as db:
        return [_line(db.get_one(File, file_id), seconds[file_id]) for file_id in results]


def _line(file: File, seconds: float | None) -> Line:
    versions = [
        (version.name, version.width, version.height, version.bytes) for version in file.versions
    ]
    ended = bool(file.processed_at or file.error)
    return Line(file.original_name, file.size, versions, seconds, file.error, ended)


def _seconds(result: Any) -> float | None:
    """The seconds that the job has measured; None where results are not stored."""
    if app.conf.result_backend or app.settings.connection.driver == "sync":
        return result.result.get("seconds") if isinstance(result.result, dict) else None
    return None
