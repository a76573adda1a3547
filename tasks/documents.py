"""What reports and exports share: a file made of tables, kept on a disk, with a link that ends, and
a mail about it.

    tables -> a temporary file, which goes whatever happens -> the disk -> its row says so, and the
    user's mail is handed in, in one transaction

A run that was killed before that runs again, and replaces the file at the same path; after it,
there is nothing to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import timedelta

from app.models import Export, Report, State, session
from app.models.base import now
from tasks import email, storage
from tasks.tables import Table, write

IN_MEMORY = 4 * 1024 * 1024


def get_row(model: type[Report | Export], number: int) -> Report | Export:
    """The row of a document that is to be made. Raises LookupError."""
    with session() as db:
        row = db.get(model, number)
    if row is None:
        raise LookupError(
            f"there is no {model.__name__.lower()} {number!r}: it was deleted, or is not committed yet"
        )
    return row


def make(row: Report | Export, name: str, what: str, title: str, tables: Iterable[Table]) -> int:
    """Write the file, put it on the default disk, say so in the row and mail the user the link; its
    size.

    `name` is what it is saved as, `what` is what the mail calls it.
    """
    disk, path = storage.default(), f"{type(row).__tablename__}/{row.id}/{name}.{row.format}"
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        write(row.format, file, title, tables)  # type: ignore[arg-type]
        file.seek(0)
        size = storage.disk(disk).put(path, file)  # type: ignore[arg-type]
    with session() as db:
        kept = db.get(type(row), row.id)
        if kept is not None:
            kept.state, kept.disk, kept.path, kept.size, kept.error = (
                State.COMPLETED,
                disk,
                path,
                size,
                None,
            )
            kept.finished_at = now()
            kept.expires_at = kept.finished_at + timedelta(seconds=storage.LINK_LASTS)
            email.send_once(
                db,
                f"{row.__tablename__}-{row.id}-ready",
                "document_ready",
                row.user_id,
                what=what,
                link=link(kept),
                until=f"{kept.expires_at:%Y-%m-%d %H:%M} UTC",
            )
    if kept is None:  # its user is gone meanwhile, and nobody would find the file
        storage.disk(disk).delete(path)
    return size


def link(row: Report | Export) -> str:
    """A url that fetches the document, until it expires. Raises LookupError when there is nothing
    to fetch.
    """
    if row.path is None or row.disk is None or row.expires_at is None or row.expires_at < now():
        raise LookupError("it is not there: it is not made yet, or has expired")
    left = (row.expires_at - now()).total_seconds()
    return storage.disk(row.disk).link(row.path, left, row.path.rpartition("/")[2])


def record_failure(
    model: type[Report | Export], number: int, what: str, error: BaseException
) -> None:
    """It can't be made: its row and its user are told."""
    with session() as db:
        row = db.get(model, number)
        if row is None or row.state == State.COMPLETED:
            return
        row.state, row.error, row.finished_at = State.FAILED, email.error_line(error), now()
        about = f"{model.__tablename__}-{number}-failed"
        email.send_once(db, about, "document_failed", row.user_id, what=what, error=row.error)
