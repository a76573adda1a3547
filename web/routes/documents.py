"""Reports, exports, imports."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.models import Event, Export, Import, ImportRow, Report, session
from tasks import documents, exports, imports, reports
from tasks.accepting import accept
from web import access
from web.access import Caller
from web.once import OnceRoute
from web.paging import After, Limit, Page, page, shown
from web.routes.files import BODY, Name, received, stored
from web.shapes import Accepted, Id, NewExport, NewReport

router = APIRouter(prefix="/api", tags=["documents"], route_class=OnceRoute)
Reporter = Annotated[Caller, Depends(access.able("reports"))]
Exporter = Annotated[Caller, Depends(access.able("exports"))]
Importer = Annotated[Caller, Depends(access.able("imports"))]
FIELDS = ("format", "state", "size", "error", "expires_at", "finished_at", "created_at")
IMPORT_FIELDS = ("name", "state", "chunks", "good", "bad", "error", "finished_at", "created_at")


@router.post("/generate-report", status_code=202)
def generate(given: NewReport, asking: Reporter) -> Accepted:
    """Have a report made; its link comes by mail."""
    row = Report(user_id=asking.id, type=given.type, format=given.format)
    with session() as db:
        return accepted(db, row, reports.generate, "long")


@router.get("/reports")
def list_reports(asking: Reporter, limit: Limit = 50, after: After = None) -> Page:
    """One's own reports."""
    return page(
        select(Report).filter_by(user_id=asking.id), Report, limit, after, ("type", *FIELDS)
    )


@router.get("/reports/{report_id}")
def show_report(report_id: Id, asking: Reporter) -> dict[str, Any]:
    """A report, and where to fetch it when it is made."""
    with session() as db:
        row = access.own(db, Report, report_id, asking)
    return {**shown(row, ("type", *FIELDS)), "link": link_of(row)}


@router.post("/events/{event_id}/exports", status_code=202)
def export(event_id: Id, asking: Exporter, given: NewExport | None = None) -> Accepted:
    """Have an event's attendees exported; the link comes by mail and is good for seven days."""
    with session() as db:
        access.own(db, Event, event_id, asking)
        row = Export(user_id=asking.id, event_id=event_id, format=(given or NewExport()).format)
        return accepted(db, row, exports.attendees, "exports")


@router.get("/exports/{export_id}")
def show_export(export_id: Id, asking: Exporter) -> dict[str, Any]:
    """An export, and where to fetch it when it is made."""
    with session() as db:
        row = access.own(db, Export, export_id, asking)
    return {**shown(row, FIELDS), "link": link_of(row)}


@router.post("/imports", status_code=202, openapi_extra=BODY)
async def import_users(
    name: Name,
    request: Request,
    asking: Annotated[Caller, Depends(access.administrator("imports"))],
) -> Accepted:
    """Import users from a CSV (the body) with the columns `name` and `email`. For administrators."""
    file = await received(request)
    number, job = await run_in_threadpool(stored, imports.take, asking, name, file)
    return Accepted(id=number, job=job, queue="imports")


@router.get("/imports/{import_id}")
def show_import(import_id: Id, asking: Importer) -> dict[str, Any]:
    """How far an import is, and its sum."""
    with session() as db:
        return shown(access.own(db, Import, import_id, asking), IMPORT_FIELDS)


@router.get("/imports/{import_id}/rows")
def import_rows(
    import_id: Id, asking: Importer, limit: Limit = 50, after: After = None, bad: bool = False
) -> Page:
    """What became of each row; with `bad=true`, of the bad ones."""
    with session() as db:
        access.own(db, Import, import_id, asking)
    query = select(ImportRow).filter_by(import_id=import_id)
    query = query.where(ImportRow.error.is_not(None)) if bad else query
    return page(query, ImportRow, limit, after, ("number", "email", "error"))


def accepted(db: Session, row: Any, task: Any, queue: str) -> Accepted:
    """A new row and its job, in one transaction."""
    job = accept(db, row, task)
    return Accepted(id=row.id, job=job, queue=queue)


def link_of(row: Report | Export) -> str | None:
    try:
        return documents.link(row)
    except LookupError:
        return None
