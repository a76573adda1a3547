"""Frees the unique key of `unique_until="start"` in the pool process, for tasks with limits.

Normally the main process frees the key when it hands the job to the pool
(`relevo/transport/fetcher.py`). A job that a limit then sends away has not started, yet its key
would be free, and each dispatch would add one more waiting job. So jobs of these tasks free their
key here: behind the last of their limits, and before any transaction that may begin then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relevo.drivers.message_codec import START
from relevo.drivers.values import Lease
from relevo.job.middleware import CallNext, Middleware, RunningJob
from relevo.job.payload import Baton
from relevo.job.task_protocol import TaskLike
from relevo.middleware import limit_context
from relevo.middleware.limits import (
    RateLimited,
    ThrottleErrors,
    WithoutOverlapping,
    limits_available,
)

_LIMITS = (WithoutOverlapping, RateLimited, ThrottleErrors)


class _ReleaseUniqueKey(Middleware):
    """Frees the job's unique key, by its lease, and goes on."""

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        context = limit_context.context_of(job)
        if context is not None and job.lease is not None:
            with limits_available(job):
                context.driver.unlock([Lease.of(job.lease)])
        return call_next()


def late_release_tasks(app: Any) -> frozenset[str]:
    """The names of the tasks whose jobs free their key in the pool process."""
    return frozenset(name for name, task in app.tasks.items() if _is_late(task))


def with_unique_release(
    task: TaskLike, baton: Baton, middlewares: Sequence[Middleware]
) -> Sequence[Middleware]:
    """The middlewares of an attempt, with one that frees its key if it still holds it."""
    if (
        not baton.unique
        or baton.unique.get("until") != START
        or task.request.retries
        or not _is_late(task)
    ):
        return middlewares
    limits = [place for place, each in enumerate(middlewares, 1) if isinstance(each, _LIMITS)]
    behind = max(limits, default=0)
    return *middlewares[:behind], _ReleaseUniqueKey(), *middlewares[behind:]


def _is_late(task: Any) -> bool:
    options = getattr(task, "options", None)
    return bool(
        options and task.acks_late and any(isinstance(each, _LIMITS) for each in options.middleware)
    )
