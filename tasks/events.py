"""events.process: gives tickets to attendees, computes the event's statistics and exports the
attendees.

An event has one job at a time (`unique_by`) and one run at a time, and all workers together process
`RATE` events. A job gives up two hours after its dispatch, and the administrators get a mail. A
ticket that was given stays: a second run gives the places that are left, in order of registration.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.models import Attendee, Event, Export, User, session
from app.models.base import now
from relevo.middleware import RateLimited, WithoutOverlapping
from tasks import app, email, exports
from tasks.dispatch import add_with_job

#: Events that are processed in a minute, over all workers.
RATE = "60/minute"
PAGE = 500
app.limits.define("events", RATE)


def tags_of(event_id: int) -> list[str]:
    return ["event", f"event:{event_id}"]


# Not shared: Celery would define a shared task in every app of the process, also in apps without
# this rate.
@app.task(
    name="events.process",
    shared=False,
    bind=True,
    timeout=600,
    retry_until=7200,
    max_exceptions=10,
    backoff=[30, 60, 300],
    tags=tags_of,
    unique_by=["event_id"],
    middleware=[WithoutOverlapping(by="event_id"), RateLimited("events")],
)
def process(self: Any, event_id: int) -> dict[str, Any]:
    """Process an event. Returns its statistics."""
    while _confirm_page(event_id):
        self.progress(*_progress(event_id))
    with session() as db:
        event = db.get_one(Event, event_id)
        states = _states(db, event_id)
        event.statistics = {
            "attendees": states.total(),
            **states,
            "capacity": event.capacity,
            "full": states["confirmed"] >= event.capacity,
        }
        event.processed_at, event.error = now(), None
        _export(db, event, f"{self.request.id}-export")
    return dict(event.statistics)


@process.failed
def process_failed(job: Any, error: BaseException) -> None:
    """Write the error into the event's row, and mail the administrators."""
    event_id = job.args[0] if job.args else job.kwargs["event_id"]
    with session() as db:
        event = db.get(Event, event_id)
        if event is not None:
            event.error = email.error_line(error)
        name = event.name if event is not None else f"{event_id}"
        for user_id in db.scalars(select(User.id).filter_by(admin=True)):
            about = f"event-{job.id}-failed-{user_id}"
            email.send_once(
                db, about, "event_failed", user_id, event=name, error=email.error_line(error)
            )


def _export(db: Session, event: Event, job_id: str) -> None:
    """Request an export of the attendees, once for each job that processes the event."""
    if not db.scalar(select(Export.id).filter_by(event_id=event.id, job_id=job_id)):
        add_with_job(
            db,
            Export(user_id=event.user_id, event_id=event.id, format="xlsx"),
            exports.attendees,
            job_id,
        )


def _confirm_page(event_id: int) -> bool:
    """Give the next attendees a ticket, or a place on the waiting list. Returns whether there may
    be more.
    """
    with session() as db:
        event = db.get(Event, event_id, with_for_update=True)
        if event is None:
            raise LookupError(
                f"there is no event {event_id!r}: it was deleted, or is not committed yet"
            )
        taken = db.scalar(
            select(func.count())
            .select_from(Attendee)
            .filter_by(event_id=event_id, state="confirmed")
        )
        left = event.capacity - (taken or 0)
        states = ["registered", "waiting"] if left > 0 else ["registered"]
        query = (
            select(Attendee)
            .where(Attendee.event_id == event_id, Attendee.state.in_(states))
            .order_by(Attendee.id)
        )
        page = db.scalars(query.limit(PAGE)).all()
        for number, attendee in enumerate(page):
            attendee.state = "confirmed" if number < left else "waiting"
            if number < left:
                attendee.ticket = f"{event_id}-{secrets.token_hex(8)}"
        # This ends: waiting attendees are read again only while there are places left.
        return len(page) == PAGE


def _progress(event_id: int) -> tuple[int, int]:
    with session() as db:
        states = _states(db, event_id)
    return states.total() - states["registered"], states.total()


def _states(db: Session, event_id: int) -> Counter[str]:
    """The number of attendees by state."""
    query = (
        select(Attendee.state, func.count()).filter_by(event_id=event_id).group_by(Attendee.state)
    )
    return Counter(dict(map(tuple, db.execute(query))))
