"""A row and the job that is about it: both, or neither."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session


def add_with_job(db: Session, row: Any, task: Any, job_id: str | None = None) -> str:
    """Write a row and dispatch the job about it, in the transaction of `db`; the job's id, which
    the row keeps if it has a place for it. Whoever dies before the commit leaves nothing, whoever
    dies after it has left both.
    """
    job_id = job_id or str(uuid4())
    if hasattr(row, "job_id"):
        row.job_id = job_id
    db.add(row)
    db.flush()
    dispatch_in(db, task, row.id, task_id=job_id)
    return job_id


def dispatch_in(
    db: Session, task: Any, *args: Any, task_id: str | None = None, **options: Any
) -> Any:
    """Dispatch a job with the transaction of `db`; its result. Of a unique job that is there
    already, that one's id (once the transaction is committed, where the broker is another
    database).
    """
    task_id = task_id or str(uuid4())
    result = task.apply_async(args, task_id=task_id, session=db, **options)
    return result or task.AsyncResult(
        task_id
    )  # a job that runs in place has none before the commit
