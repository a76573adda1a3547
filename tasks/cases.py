"""cases.fetch: fetches the data of a case from the service of APP_CASES_URL, in the background."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from app import settings
from app.models import Case, session
from app.models.base import now
from relevo.errors import JobFailedError
from tasks import app, email, service_client

#: Seconds that the service may be silent. The whole attempt may take 120.
SILENCE_SECONDS = 30


def tags_of(case_id: int) -> list[str]:
    return ["case", f"case:{case_id}"]


@app.task(name="cases.fetch", bind=True, tries=3, timeout=120, backoff=[10, 30], tags=tags_of)
def fetch(self: Any, case_id: int) -> dict[str, Any]:
    """Fetch the data of a case into its row. A second run fetches the newest data."""
    with session() as db:
        case = db.get(Case, case_id)
    if case is None:
        raise LookupError(f"there is no case {case_id!r}: it was deleted, or is not committed yet")
    base = settings.application().cases_url
    if base is None:
        self.fail("there is no service for cases: set APP_CASES_URL")
    try:
        data = service_client.request_json(
            "GET", f"{base}/{quote(case.number, safe='')}", SILENCE_SECONDS
        )
    except JobFailedError as error:
        self.fail(error)
    with session() as db:
        if row := db.get(Case, case_id):
            row.data, row.fetched_at, row.error = data, now(), None
    return {"case": case_id, "fields": len(data)}


@fetch.failed
def fetch_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the row."""
    with session() as db:
        if row := db.get(Case, job.args[0] if job.args else job.kwargs["case_id"]):
            row.error = email.error_line(error)
