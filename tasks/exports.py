"""exports.attendees: exports the attendees of an event as CSV, XLSX, PDF or JSON, with a link that
expires after seven days.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from app.models import Attendee, Event, Export, State, session
from app.models.pagination import iterate_pages
from tasks import app, documents
from tasks.tables import Table, TableError

WHAT = "export of attendees"
COLUMNS = ["id", "name", "email", "state", "ticket", "registered"]


def tags_of(export_id: int) -> list[str]:
    return ["export", f"export:{export_id}"]


@app.task(name="exports.attendees", bind=True, tries=3, timeout=600, backoff=[30, 60], tags=tags_of)
def attendees(self: Any, export_id: int) -> dict[str, Any]:
    """Make an export. Returns its size in bytes."""
    row = documents.get_row(Export, export_id)
    if row.state == State.COMPLETED:
        return {"export": export_id, "size": row.size}
    with session() as db:
        event = db.get_one(Event, row.event_id)
    query = select(
        Attendee.id,
        Attendee.name,
        Attendee.email,
        Attendee.state,
        Attendee.ticket,
        Attendee.created_at,
    )
    rows = iterate_pages(query.where(Attendee.event_id == event.id), Attendee.id)
    try:
        size = documents.make(
            row,
            f"attendees-{event.id}",
            WHAT,
            f"Attendees of {event.name}",
            [Table("Attendees", COLUMNS, rows)],
        )
    except TableError as error:
        self.fail(error)
    return {"export": export_id, "size": size}


@attendees.failed
def attendees_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the row, and mail the user."""
    documents.record_failure(
        Export, job.args[0] if job.args else job.kwargs["export_id"], WHAT, error
    )
