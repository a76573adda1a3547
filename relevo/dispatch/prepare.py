"""From the options of a dispatch to the header of its message: checks, overrides, the first baton.

    apply_async(options)  ->  with_baton  ->  apply_async(options, headers={"relevo": {...}})

`relevo/task.py` calls `with_baton` for each dispatch; the builder and the schedule use the checks
alone. A bad option is an OptionError here, in the caller's process, and never in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from relevo import clock
from relevo.dispatch import unique
from relevo.errors import OptionError, did_you_mean
from relevo.job import membership
from relevo.job.middleware import select
from relevo.job.options import AT_DISPATCH, OVERRIDES, POLICY, Options
from relevo.job.payload import HEADER, Baton, tags
from relevo.job.task_protocol import TaskLike


def check_queue(app: Any, task: str, name: str) -> None:
    """Raise OptionError for a queue that `task_queues` does not declare: no worker would take it.

    Where `task_queues` is empty any name is fine.
    """
    declared = app.conf.task_queues
    if not declared:
        return
    names = {queue if isinstance(queue, str) else queue.name for queue in declared} | {
        app.conf.task_default_queue
    }
    if name not in names:
        raise OptionError(
            f"no queue named {name!r} in task_queues{did_you_mean(name, names)} (task {task!r})"
        )


def with_baton(task: TaskLike, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of `apply_async` with our options replaced by the first baton in the headers.

    A job that already has a baton (a retry) keeps it. Raises OptionError.
    """
    headers = options.get("headers") or {}
    if HEADER in headers:
        return options
    check_arguments(task, args, kwargs)
    override = pop_overrides(task, options)
    rules = effective_options(task, override)
    if rules.replaces:
        unique.check_followers(task, options)
    args, kwargs = tuple(args or ()), kwargs or {}
    baton = Baton(
        deadline=deadline_of(task, rules.retry_until, options),
        override={name: value for name, value in override.items() if name not in AT_DISPATCH},
        tags=tags(task, args, kwargs, rules.tags) if rules.tags else None,
        # A member of a batch or a chord gets no unique key: a duplicate that is left out never
        # ends, and the batch would wait for ever.
        unique=None
        if membership.is_awaited(options)
        else unique.header_of(task, rules, args, kwargs),
        fair=None if rules.fair_by is None else unique.fair_key(task, rules.fair_by, args, kwargs),
    )
    if header := baton.header():
        options["headers"] = {**headers, HEADER: header}
    return options


def effective_options(task: TaskLike, options: Mapping[str, Any]) -> Options:
    """The task's options with the options of a dispatch over them. Raises OptionError."""
    if "middleware" in options:
        select(options["middleware"], task.options.middleware, task.name)
    plain = {name: value for name, value in options.items() if name != "middleware"}
    rules = task.options.with_given(plain, task.name)
    unique.check_key_names(task, plain.get("unique_by"))
    unique.check_key_names(task, plain.get("fair_by"), "fair_by")
    return rules


def check_arguments(task: TaskLike, args: Any, kwargs: Any) -> None:
    """Run Celery's check of the arguments before the task's `tags` callable gets them.

    Raises TypeError.
    """
    check = getattr(task, "__header__", None)
    if task.typing and check is not None:
        check(*(args or ()), **(kwargs or {}))


def pop_overrides(task: TaskLike, options: dict[str, Any]) -> dict[str, Any]:
    """Remove our options from those of `apply_async` and return them.

    Raises OptionError for an option that can't be given at the dispatch of this task.
    """
    overrides = {name: options.pop(name) for name in OVERRIDES & options.keys()}
    if (policy := POLICY & overrides.keys()) and not task.options.has_retry_policy:
        raise OptionError(
            f"task {task.name!r} leaves retries to Celery, so {min(policy)} can't be given at"
            " dispatch; define it with an option of ours, like tries=1"
        )
    if not isinstance(overrides.get("delete_when_missing", False), bool):
        raise OptionError(
            f"expected delete_when_missing to be True or False at dispatch (task {task.name!r})"
        )
    if callable(overrides.get("backoff")):
        raise OptionError(
            f"expected backoff to be seconds or a list of seconds, got {overrides['backoff']!r}:"
            f" a callable can't travel with a job (task {task.name!r})"
        )
    return overrides


def deadline_of(
    task: TaskLike, retry_until: float | None, options: Mapping[str, Any]
) -> float | None:
    """The deadline (POSIX seconds) of a job dispatched now.

    Raises OptionError if its delay ends after the deadline.
    """
    if retry_until is None:
        return None
    eta, wait = options.get("eta"), options.get("countdown") or 0
    if isinstance(eta, datetime):
        wait = clock.instant(eta) - clock.now()
    if wait >= retry_until:
        raise OptionError(
            f"expected a delay under retry_until={retry_until:g}, got {wait:g} s"
            f" (task {task.name!r})"
        )
    return clock.now() + retry_until
