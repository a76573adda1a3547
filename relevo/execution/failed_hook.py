"""The `failed` hook: runs once, in a pool process, when a job has failed for good.

A pool process that ends a job runs its hook there and then. When that process is gone (a timeout, a
kill), the main process must not run a project's code: it releases the job with a *verdict*, the
error that the job has failed with. The next pool process that takes the job runs the hook instead
of the body, and raises that error. So there is one path: the error is stored, and errbacks and
chords are called, in the same place; and the job itself travels, not a message about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from relevo.errors import JobFailedError
from relevo.execution import body_exit
from relevo.job.payload import Job
from relevo.job.task_protocol import TaskLike

logger = logging.getLogger(__name__)

FailedHook = Callable[[Job, BaseException], Any]


def run(task: TaskLike, job: Job, error: BaseException) -> None:
    """Run the task's hook, if it has one. An error of the hook is logged; the job's own counts."""
    if task.failed_hook is None:
        return
    try:
        task.failed_hook(job, error)
    except BaseException as raised:
        if body_exit.ends_process(raised):
            raise
        logger.exception("The failed hook of %s[%s] raised", job.task, job.id)


def serialize_error(task: TaskLike, error: BaseException) -> Mapping[str, Any]:
    """An error as JSON: its type, module and arguments, as Celery's result backends write it."""
    return dict(task.backend.prepare_exception(error, serializer="json"))


def deserialize_error(task: TaskLike, sent: Mapping[str, Any]) -> Exception:
    """The error of a verdict; a JobFailedError if its class can't be made here."""
    try:
        error = task.backend.exception_to_python(dict(sent))
    except Exception:  # noqa: BLE001  the verdict comes from outside; the job has failed anyway
        error = None
    return (
        error
        if isinstance(error, Exception)
        else JobFailedError(f"The job failed with {dict(sent)!r}.")
    )
