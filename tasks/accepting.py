"""A row and the job that is about it: both, or neither."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session


def accept(db: Session, row: Any, task: Any, job_id: str | None = None) -> str:
    """Write a row and dispatch the job about it, in the transaction of `db`; the job's id, which the row keeps if it
    has a place for it. Whoever dies before the commit leaves nothing, whoever dies after it has left both.
    """
    job_id = job_id or str(uuid4())
    if hasattr(row, "job_id"):
        row.job_id = job_id
    db.add(row)
    db.flush()
    task.apply_async((row.id,), task_id=job_id, session=db)
    return job_id
