"""Routes of events and their attendees."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.models import Attendee, Event, session
from tasks import events
from tasks.dispatch import dispatch_in
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, as_dict, page
from web.schemas import Accepted, Id, NewAttendee, NewEvent

router = APIRouter(prefix="/api/events", tags=["events"], route_class=IdempotentRoute)
AuthorizedCaller = Annotated[Caller, Depends(access.require_ability("events"))]
FIELDS = ("name", "starts_at", "capacity", "statistics", "processed_at", "error", "created_at")


@router.post("", status_code=201)
def create(given: NewEvent, caller: AuthorizedCaller) -> dict[str, Any]:
    """Create an event."""
    event = Event(user_id=caller.id, **given.model_dump())
    with session() as db:
        db.add(event)
    return as_dict(event, FIELDS)


@router.get("/{event_id}")
def show(event_id: Id, caller: AuthorizedCaller) -> dict[str, Any]:
    """An event, and its statistics once it was processed."""
    with session() as db:
        return as_dict(access.get_own(db, Event, event_id, caller), FIELDS)


@router.post("/{event_id}/attendees", status_code=201)
def register(event_id: Id, given: NewAttendee, caller: AuthorizedCaller) -> dict[str, Any]:
    """Register an attendee."""
    attendee = Attendee(event_id=event_id, name=given.name, email=given.email.lower())
    try:
        with session() as db:
            access.get_own(db, Event, event_id, caller)
            db.add(attendee)
    except IntegrityError as error:
        raise HTTPException(409, f"{given.email} is registered already") from error
    return as_dict(attendee, ("name", "email", "state"))


@router.get("/{event_id}/attendees")
def attendees(
    event_id: Id, caller: AuthorizedCaller, limit: Limit = 50, after: After = None
) -> Page:
    """The attendees of an event."""
    with session() as db:
        access.get_own(db, Event, event_id, caller)
    query = select(Attendee).filter_by(event_id=event_id)
    return page(query, Attendee, limit, after, ("name", "email", "state", "ticket", "created_at"))


@router.post("/{event_id}/process", status_code=202)
def process(event_id: Id, caller: AuthorizedCaller) -> Accepted:
    """Give out tickets, compute the statistics, and export the attendees."""
    with session() as db:
        access.get_own(db, Event, event_id, caller)
        result = dispatch_in(db, events.process, event_id)
    return Accepted(id=event_id, job=result.id, queue="default")
