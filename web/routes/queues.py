"""Routes of queues and failed jobs: list, retry, forget, flush. For administrators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel

from relevo import clock
from relevo.operations import retry
from relevo.store import failed, histograms, metrics
from relevo.store.failed import FailedJob, Filter
from relevo.store.history import Ended
from relevo.store.store import Store, store_for
from tasks import app
from tasks.reports import system
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page
from web.schemas import Id

router = APIRouter(prefix="/api", tags=["queues"], route_class=IdempotentRoute)
AuthorizedCaller = Annotated[Caller, Depends(access.require_admin("queues"))]
Name = Annotated[str | None, Query(max_length=255)]
HOUR = 3600


class Count(BaseModel):
    jobs: int


@router.get("/queues")
def queues(_caller: AuthorizedCaller) -> list[dict[str, Any]]:
    """Each queue: its jobs, how long the oldest has waited, and the numbers of the last hour."""
    points = metrics.read(store(), metrics.QUEUE, clock.now() - HOUR, clock.now() + 1)
    return [
        _as_dict(row, [point for point in points if point.name == row[0]])
        for row in system.queues()
    ]


def _as_dict(row: list[Any], points: list[metrics.Point]) -> dict[str, Any]:
    waited, ran = (
        metrics.merge_histograms(points, measure) for measure in (metrics.WAITED, metrics.RAN)
    )
    return {
        "queue": row[0],
        "pending": row[1],
        "delayed": row[2],
        "reserved": row[3],
        "oldest_waits": row[4],
        "completed": sum(point.ended.get(Ended.COMPLETED, 0) for point in points),
        "failed": sum(point.ended.get(Ended.FAILED, 0) for point in points),
        "waited_p95": histograms.percentile(waited, 0.95),
        "ran_p95": histograms.percentile(ran, 0.95),
    }


@router.get("/failed")
def list_failed(
    _caller: AuthorizedCaller,
    queue: Name = None,
    task: Name = None,
    limit: Limit = 50,
    before: After = None,
) -> Page:
    """Failed jobs, newest first. The next page is the one `before` the last id."""
    jobs = failed.page(store(), Filter(queue=queue, task=task), before=before, limit=limit)
    return Page(items=[_job(job) for job in jobs], next=jobs[-1].id if len(jobs) == limit else None)


@router.get("/failed/{number}")
def show_failed(number: Id, _caller: AuthorizedCaller) -> dict[str, Any]:
    """A failed job with every attempt's error."""
    job = _found(number)
    return {
        **_job(job),
        "payload": job.payload,
        "errors": list(job.errors),
        "retried_at": job.retried_at,
    }


@router.post("/failed/{number}/retry", status_code=202)
def retry_one(number: Id, _caller: AuthorizedCaller) -> Count:
    """Retry a failed job. Several requests at the same time send it once."""
    _found(number)
    return Count(jobs=retry.retry_failed(app, store(), Filter(ids=[number])))


@router.post("/failed/retry", status_code=202)
def retry_all(_caller: AuthorizedCaller, queue: Name = None, task: Name = None) -> Count:
    """Retry all failed jobs, or those of a queue or a task."""
    return Count(jobs=retry.retry_failed(app, store(), Filter(queue=queue, task=task)))


@router.delete("/failed/{number}")
def forget(number: Id, _caller: AuthorizedCaller) -> Count:
    """Forget a failed job."""
    _found(number)
    return Count(jobs=failed.forget(store(), Filter(ids=[number])))


@router.delete("/failed")
def flush(
    _caller: AuthorizedCaller,
    hours: Annotated[float, Query(ge=0, le=100_000, allow_inf_nan=False)] = 0,
) -> Count:
    """Forget all failed jobs, or those that failed more than `hours` ago."""
    return Count(jobs=failed.flush(store(), hours))


def store() -> Store:
    return store_for(app.settings.database_url)


def _found(number: int) -> FailedJob:
    job = failed.find(store(), number)
    if job is None:
        raise HTTPException(404, f"there is no failed job {number}")
    return job


def _job(job: FailedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "job": job.uuid,
        "task": job.task,
        "queue": job.queue,
        "exception": job.exception,
        "message": job.message,
        "attempts": job.attempts,
        "tags": list(job.tags),
        "failed_at": clock.utc(job.failed_at),
    }
