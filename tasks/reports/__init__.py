"""reports.generate: makes a report (user-activity, file-statistics or system-health) as JSON, CSV,
XLSX or PDF.

    row of the report -> its tables (usage.py, system.py) -> a file on the disk -> a mail with a
    link
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from app.models import Report, State, User, session
from app.models.base import now
from relevo.errors import OptionError, did_you_mean
from tasks import app, documents
from tasks.dispatch import add_with_job
from tasks.reports import system, usage
from tasks.tables import TableError

TYPES = {
    "user-activity": usage.user_activity,
    "file-statistics": usage.file_statistics,
    "system-health": system.system_health,
}


def tags_of(report_id: int) -> list[str]:
    return ["report", f"report:{report_id}"]


@app.task(name="reports.generate", bind=True, tries=2, timeout=600, backoff=[30], tags=tags_of)
def generate(self: Any, report_id: int) -> dict[str, Any]:
    """Make a report. Returns its size in bytes."""
    row = documents.get_row(Report, report_id)
    if row.state == State.CANCELLED:
        return {"report": report_id, "skipped": "it was cancelled"}
    if row.type not in TYPES:
        self.fail(
            OptionError(
                f"expected a type ({', '.join(TYPES)}),"
                f" got {row.type!r}{did_you_mean(row.type, TYPES)}"
            )
        )
    if row.state == State.COMPLETED:
        return {"report": report_id, "size": row.size}
    try:
        title = f"{row.type} of {row.created_at:%Y-%m-%d}"
        size = documents.make(
            row, row.type, f"{row.type} report", title, TYPES[row.type](row.user_id)
        )
    except TableError as error:
        self.fail(error)
    return {"report": report_id, "size": size}


@app.task(name="reports.system_daily", bind=True, tries=2, timeout=60, backoff=[60])
def system_daily(self: Any) -> int:  # noqa: ARG001
    """Request a system-health report for each administrator, once a day. Returns how many."""
    with session() as db:
        administrators = db.scalars(select(User.id).filter_by(admin=True)).all()
        today = now().replace(hour=0, minute=0, second=0, microsecond=0)
        daily = select(Report.user_id).where(
            Report.type == "system-health", Report.created_at >= today
        )
        have = set(
            db.scalars(daily.where(Report.user_id.in_(administrators), Report.format == "pdf"))
        )
        rows = [
            Report(user_id=user_id, type="system-health", format="pdf")
            for user_id in administrators
            if user_id not in have
        ]
        for row in rows:
            add_with_job(db, row, generate)
    return len(rows)


@generate.failed
def generate_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the row, and mail the user."""
    documents.record_failure(
        Report, job.args[0] if job.args else job.kwargs["report_id"], "report", error
    )
