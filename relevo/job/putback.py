"""Put a job back for another attempt: the same job, the same id, with a new baton.

It is a publish, and what it takes the place of is acked afterwards, by the worker's main process: a crash between the
two leaves two copies, never none. Used by the child (retry, release) and by the main process (timeout, lost child).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from relevo.job.payload import HEADER, Baton

if TYPE_CHECKING:
    from relevo.job.task import Task


def signature(task: Task, request: Any, *, seconds: float, retries: int, baton: Baton) -> Any:
    """The job as it goes back: everything Celery knows of it, its wait, its count and its baton."""
    headers = {**(request.headers or {}), HEADER: baton.header()}
    return task.signature_from_request(request, countdown=seconds, retries=retries, headers=headers)


def send(task: Task, request: Any, *, seconds: float, retries: int, baton: Baton) -> Any:
    """Publish the job again. Raises Reject when the broker won't have it.

    Celery's own retry then drops the job (`Reject(requeue=False)`); ours stays with the broker and comes back.
    """
    job = signature(task, request, seconds=seconds, retries=retries, baton=baton)
    try:
        job.apply_async()
    except Exception as error:  # whatever kept it from being sent, the job must not be acked
        raise Reject(error, requeue=True) from error
    return job
