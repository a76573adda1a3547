"""Unique keys that are given back when a job starts, where limits stand before it: who is sent away
has not started.

The worker's main process gives such a key back when it hands a job over
(relevo/transport/fetcher.py). Not of the tasks in `late`: their jobs would be without it as soon as
a limit had sent them away, and with each dispatch one more of the same would wait. They give it
back here, behind the last of their limits, and before a transaction that may be open by then.
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
    """Gives the key back, in the lease's name, before what stands behind it."""

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        ground = limit_context.context_of(job)
        if ground is not None and job.lease is not None:
            with limits_available(job):
                ground.driver.unlock([Lease.of(job.lease)])
        return call_next()


def late_release_tasks(app: Any) -> frozenset[str]:
    """The tasks whose jobs give back a key of theirs by themselves."""
    return frozenset(name for name, task in app.tasks.items() if _is_late(task))


def with_unique_release(
    task: TaskLike, baton: Baton, middlewares: Sequence[Middleware]
) -> Sequence[Middleware]:
    """The middlewares of an attempt, with what gives its key back among them, if there is one to be
    given back.
    """
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
