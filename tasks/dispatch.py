"""Dispatches jobs in the transaction of a session: rows and their jobs exist together or not at
all.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session


def add_with_job(db: Session, row: Any, task: Any, job_id: str | None = None) -> str:
    """Write a row and dispatch the job about it, in the transaction of `db`. Returns the job's id.

    The row keeps that id if its table has the column `job_id`. The job's one argument is the row's
    id.
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
    """Dispatch a job in the transaction of `db`. Returns its result.

    If a unique job with the same key exists, the result has that job's id (where the broker is
    another database: after the commit).
    """
    task_id = task_id or str(uuid4())
    result = task.apply_async(args, task_id=task_id, session=db, **options)
    # On the `sync` connection the job runs after the commit, so there is no result yet.
    return result or task.AsyncResult(task_id)
