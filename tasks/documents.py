"""Makes the documents of reports and exports: a file of tables on a disk, a link that expires, and
a mail about it.

    tables -> a temporary file -> the disk -> in one transaction: the row, and the user's mail

A run that was killed before that transaction runs again, and replaces the file at the same path.
After the transaction a second run has nothing to do.
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
    """The row of a document. Raises LookupError if there is none."""
    with session() as db:
        row = db.get(model, number)
    if row is None:
        raise LookupError(
            f"there is no {model.__name__.lower()} {number!r}:"
            " it was deleted, or is not committed yet"
        )
    return row


def make(row: Report | Export, name: str, what: str, title: str, tables: Iterable[Table]) -> int:
    """Write the file, put it on the default disk, complete the row and mail the user the link.

    `name` is the file's name without its suffix, `what` is the document's name in the mail. Returns
    the size in bytes.
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
            kept.expires_at = kept.finished_at + timedelta(seconds=storage.LINK_SECONDS)
            email.send_once(
                db,
                f"{row.__tablename__}-{row.id}-ready",
                "document_ready",
                row.user_id,
                what=what,
                link=link(kept),
                until=f"{kept.expires_at:%Y-%m-%d %H:%M} UTC",
            )
    if kept is None:  # the user was deleted meanwhile, so no row would name the file
        storage.disk(disk).delete(path)
    return size


def link(row: Report | Export) -> str:
    """An url of the document, valid until it expires. Raises LookupError before the document is
    made, and after it has expired.
    """
    if row.path is None or row.disk is None or row.expires_at is None or row.expires_at < now():
        raise LookupError("it is not there: it is not made yet, or has expired")
    left = (row.expires_at - now()).total_seconds()
    return storage.disk(row.disk).link(row.path, left, row.path.rpartition("/")[2])


def record_failure(
    model: type[Report | Export], number: int, what: str, error: BaseException
) -> None:
    """Note in the row that the document can't be made, and mail the user."""
    with session() as db:
        row = db.get(model, number)
        if row is None or row.state == State.COMPLETED:
            return
        row.state, row.error, row.finished_at = State.FAILED, email.error_line(error), now()
        about = f"{model.__tablename__}-{number}-failed"
        email.send_once(db, about, "document_failed", row.user_id, what=what, error=row.error)
