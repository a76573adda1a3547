"""The `failed` hook: run once, in a worker process, when a job has failed for good.

A job that a child could end by itself runs its hook there and then. When the child is gone
(timeout, lost process) the worker's main process must not run a user's code: it puts the job back
with its *verdict*, the error it has failed with, and the next child that takes it runs the hook
instead of the body and raises that error. One path for both: the error is recorded, errbacks and
chords are told, in the same place, and what travels is the job itself, not a message about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from relevo.errors import JobFailedError
from relevo.job.payload import Job
from relevo.job.task_protocol import TaskLike

logger = logging.getLogger(__name__)

FailedHook = Callable[[Job, BaseException], Any]


def run(task: TaskLike, job: Job, error: BaseException) -> None:
    """Run the task's hook, if it has one. A hook that raises is logged: the job's own error is what
    counts.
    """
    if task.failed_hook is None:
        return
    try:
        task.failed_hook(job, error)
    except Exception:
        logger.exception("The failed hook of %s[%s] raised", job.task, job.id)


def serialize_error(task: TaskLike, error: BaseException) -> Mapping[str, Any]:
    """An error as it travels: its type, module and arguments, as Celery's result backends write it."""
    return dict(task.backend.prepare_exception(error, serializer="json"))


def deserialize_error(task: TaskLike, sent: Mapping[str, Any]) -> Exception:
    """The error of a verdict. One that can't be made here any more is told in words."""
    try:
        error = task.backend.exception_to_python(dict(sent))
    # - the verdict comes from outside, and the job has failed in any case
    except Exception:  # noqa: BLE001
        error = None
    return (
        error
        if isinstance(error, Exception)
        else JobFailedError(f"The job failed with {dict(sent)!r}.")
    )
