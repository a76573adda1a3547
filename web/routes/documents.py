"""Routes of reports, exports and imports."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.models import Event, Export, Import, ImportRow, Report, session
from tasks import documents, exports, imports, reports
from tasks.dispatch import add_with_job
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, as_dict, page
from web.routes.files import BODY, Name, receive, store_upload
from web.schemas import Accepted, Id, NewExport, NewReport

router = APIRouter(prefix="/api", tags=["documents"], route_class=IdempotentRoute)
Reporter = Annotated[Caller, Depends(access.require_ability("reports"))]
Exporter = Annotated[Caller, Depends(access.require_ability("exports"))]
Importer = Annotated[Caller, Depends(access.require_ability("imports"))]
FIELDS = ("format", "state", "size", "error", "expires_at", "finished_at", "created_at")
IMPORT_FIELDS = ("name", "state", "chunks", "good", "bad", "error", "finished_at", "created_at")


@router.post("/generate-report", status_code=202)
def generate(given: NewReport, caller: Reporter) -> Accepted:
    """Request a report. Its link comes by mail."""
    row = Report(user_id=caller.id, type=given.type, format=given.format)
    with session() as db:
        return accept(db, row, reports.generate, "long")


@router.get("/reports")
def list_reports(caller: Reporter, limit: Limit = 50, after: After = None) -> Page:
    """One's own reports."""
    return page(
        select(Report).filter_by(user_id=caller.id), Report, limit, after, ("type", *FIELDS)
    )


@router.get("/reports/{report_id}")
def show_report(report_id: Id, caller: Reporter) -> dict[str, Any]:
    """A report, and its link when it is completed."""
    with session() as db:
        row = access.get_own(db, Report, report_id, caller)
    return {**as_dict(row, ("type", *FIELDS)), "link": link_of(row)}


@router.post("/events/{event_id}/exports", status_code=202)
def export(event_id: Id, caller: Exporter, given: NewExport | None = None) -> Accepted:
    """Request an export of an event's attendees. Its link comes by mail, for seven days."""
    with session() as db:
        access.get_own(db, Event, event_id, caller)
        row = Export(user_id=caller.id, event_id=event_id, format=(given or NewExport()).format)
        return accept(db, row, exports.attendees, "exports")


@router.get("/exports/{export_id}")
def show_export(export_id: Id, caller: Exporter) -> dict[str, Any]:
    """An export, and its link when it is completed."""
    with session() as db:
        row = access.get_own(db, Export, export_id, caller)
    return {**as_dict(row, FIELDS), "link": link_of(row)}


@router.post("/imports", status_code=202, openapi_extra=BODY)
async def import_users(
    name: Name,
    request: Request,
    caller: Annotated[Caller, Depends(access.require_admin("imports"))],
) -> Accepted:
    """Import users from a CSV (the body) with the columns `name` and `email`.

    For administrators.
    """
    file = await receive(request)
    number, job = await run_in_threadpool(store_upload, imports.store, caller, name, file)
    return Accepted(id=number, job=job, queue="imports")


@router.get("/imports/{import_id}")
def show_import(import_id: Id, caller: Importer) -> dict[str, Any]:
    """How far an import is, and its totals."""
    with session() as db:
        return as_dict(access.get_own(db, Import, import_id, caller), IMPORT_FIELDS)


@router.get("/imports/{import_id}/rows")
def import_rows(
    import_id: Id, caller: Importer, limit: Limit = 50, after: After = None, bad: bool = False
) -> Page:
    """The result of each row; with `bad=true`, of the bad rows only."""
    with session() as db:
        access.get_own(db, Import, import_id, caller)
    query = select(ImportRow).filter_by(import_id=import_id)
    query = query.where(ImportRow.error.is_not(None)) if bad else query
    return page(query, ImportRow, limit, after, ("number", "email", "error"))


def accept(db: Session, row: Any, task: Any, queue: str) -> Accepted:
    """Write a new row and dispatch its job, in one transaction."""
    job = add_with_job(db, row, task)
    return Accepted(id=row.id, job=job, queue=queue)


def link_of(row: Report | Export) -> str | None:
    try:
        return documents.link(row)
    except LookupError:
        return None
