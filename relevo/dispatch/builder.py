"""Hand in a job, with what is special about this one: where, when, whether, and with which options.

    process.dispatch(7)                                              # as process.delay(7), it reads better
    process.on_queue("high").delay_for(60).dispatch(7)
    process.with_options(tries=5, backoff=[1, 10]).when(user.active).dispatch(7)

What is special comes first, and `dispatch` comes last and sends at once. (Laravel writes it the
other way round and sends from a destructor, at the end of the statement. In Python nobody knows
when an object is destroyed: a name that holds it, a traceback or another interpreter would send
late, or never, and an error would be swallowed.) Nothing is sent until `dispatch`, and each
`dispatch` sends once; a `Dispatch` is frozen, so one can be kept and used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from sqlalchemy.orm import Session

from relevo import clock
from relevo.dispatch import connections, transactions, unique
from relevo.errors import OptionError, did_you_mean
from relevo.job import backoff, membership
from relevo.job.middleware import select
from relevo.job.options import AT_DISPATCH, OVERRIDES, POLICY, Options, validated
from relevo.job.payload import HEADER, Baton, tags
from relevo.job.task_protocol import TaskLike


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A dispatch in the making: a task and the options of `apply_async`. `wanted` is what `when`
    and `unless` said.
    """

    task: TaskLike
    options: Mapping[str, Any] = field(default_factory=dict)
    wanted: bool = True

    def on_queue(self, name: str) -> Self:
        """Send it to this queue. Raises OptionError for one that `task_queues` doesn't have."""
        check_queue(self.task.app, self.task.name, validated("queue", name, self.task.name))
        return self._with(queue=name)

    def on_connection(self, name: str) -> Self:
        """Send it to the broker of this connection of the settings. Raises SettingsError for one
        there isn't.
        """
        connections.get_connection(self.task.app, name, self.task.name)
        return self._with(connection=name)

    def delay_for(self, seconds: float) -> Self:
        """Not before this many seconds from the dispatch."""
        if not backoff.is_wait(seconds):
            name = self.task.name
            raise OptionError(
                f"expected delay_for to be a number of seconds, got {seconds!r} (task {name!r})"
            )
        return self._with(countdown=seconds, eta=None)

    def at(self, moment: datetime) -> Self:
        """Not before this moment; a naive one is taken as UTC."""
        if not isinstance(moment, datetime):
            raise OptionError(
                f"expected at to be a datetime, got {moment!r} (task {self.task.name!r})"
            )
        return self._with(eta=clock.utc(clock.instant(moment)), countdown=None)

    def with_options(self, **options: Any) -> Self:
        """Other options than the task's for this job: any of them but `queue`, for which there is
        `on_queue`.

        `middleware`: the names of those of the task's that this job is to have, in this order.
        """
        unknown = sorted(options.keys() - OVERRIDES - {"timeout"})
        if unknown:
            near = did_you_mean(unknown[0], [*OVERRIDES, "timeout"])
            raise OptionError(
                f"{unknown[0]!r} can't be given at dispatch{near} (task {self.task.name!r})"
            )
        effective_options(self.task, options)
        if "timeout" in options:
            options["time_limit"] = options.pop("timeout")
        return self._with(**options)

    def in_session(self, session: Any) -> Self:
        """Send it with what this session (of SQLAlchemy) commits: if it commits, and only then."""
        transactions.connection_of(session)
        return self._with(session=session)

    def when(self, condition: object) -> Self:
        """Send it only if `condition` is true."""
        return replace(self, wanted=self.wanted and bool(condition))

    def unless(self, condition: object) -> Self:
        """Send it only if `condition` is false."""
        return self.when(not condition)

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send the job now. Returns Celery's AsyncResult, or None when `when` or `unless` said no.

        `session=` with a session of SQLAlchemy is no argument of the job: it is `in_session`.
        """
        if isinstance(kwargs.get("session"), Session):
            return self.in_session(kwargs.pop("session")).dispatch(*args, **kwargs)
        return self.task.apply_async(args, kwargs, **self.options) if self.wanted else None

    def after_commit(self, session: Any, *args: Any, **kwargs: Any) -> None:
        """Send it when this session has committed, on any database; a crash just then loses it."""
        transactions.after_commit(session, lambda: self.dispatch(*args, **kwargs))

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job here and now, retries at once. Returns Celery's EagerResult, or None as
        `dispatch` does.
        """
        options = {name: value for name, value in self.options.items() if name != "connection"}
        return self.task.apply(args, kwargs, **options) if self.wanted else None

    def _with(self, **options: Any) -> Self:
        return replace(self, options={**self.options, **options})


class DispatchMixin:
    """The same words on the task itself, each the beginning of a dispatch."""

    def on_queue(self, name: str) -> Dispatch:
        return self._dispatch.on_queue(name)

    def on_connection(self, name: str) -> Dispatch:
        return self._dispatch.on_connection(name)

    def delay_for(self, seconds: float) -> Dispatch:
        return self._dispatch.delay_for(seconds)

    def at(self, moment: datetime) -> Dispatch:
        return self._dispatch.at(moment)

    def with_options(self, **options: Any) -> Dispatch:
        return self._dispatch.with_options(**options)

    def in_session(self, session: Any) -> Dispatch:
        return self._dispatch.in_session(session)

    def after_commit(self, session: Any, *args: Any, **kwargs: Any) -> None:
        """Send a job of this task when this session has committed."""
        self._dispatch.after_commit(session, *args, **kwargs)

    def when(self, condition: object) -> Dispatch:
        return self._dispatch.when(condition)

    def unless(self, condition: object) -> Dispatch:
        return self._dispatch.unless(condition)

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send a job of this task now. Returns Celery's AsyncResult."""
        return self._dispatch.dispatch(*args, **kwargs)

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run a job of this task here and now. Returns Celery's EagerResult."""
        return self._dispatch.sync(*args, **kwargs)

    @property
    def _dispatch(self) -> Dispatch:
        return Dispatch(self)  # type: ignore[arg-type]  # mixed into Task, and only there


def check_queue(app: Any, task: str, name: str) -> None:
    """Raise OptionError for a queue that isn't declared, where queues are: nobody would consume it."""
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
    """The options of `apply_async` with the first baton in their headers, in place of what it is
    made from.

    A job that is on its way already (a retry) keeps its baton. Raises OptionError.
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
        # One that is left out as a duplicate never ends, so a batch or a chord would wait for it
        # for ever.
        unique=None
        if membership.is_awaited(options)
        else unique.header_of(task, rules, args, kwargs),
        fair=None if rules.fair_by is None else unique.fair_key(task, rules.fair_by, args, kwargs),
    )
    if said := baton.header():
        options["headers"] = {**headers, HEADER: said}
    return options


def effective_options(task: TaskLike, options: Mapping[str, Any]) -> Options:
    """The task's options with those of a dispatch over them. Raises OptionError."""
    if "middleware" in options:
        select(options["middleware"], task.options.middleware, task.name)
    plain = {name: value for name, value in options.items() if name != "middleware"}
    rules = task.options.with_given(plain, task.name)
    unique.check_key_names(task, plain.get("unique_by"))
    unique.check_key_names(task, plain.get("fair_by"), "fair_by")
    return rules


def check_arguments(task: TaskLike, args: Any, kwargs: Any) -> None:
    """Celery's own check, before the arguments reach the callable that makes the tags. Raises
    TypeError.
    """
    check = getattr(task, "__header__", None)
    if task.typing and check is not None:
        check(*(args or ()), **(kwargs or {}))


def pop_overrides(task: TaskLike, options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of ours out of those of `apply_async`. Raises OptionError for those this job
    can't have.
    """
    said = {name: options.pop(name) for name in OVERRIDES & options.keys()}
    if (policy := POLICY & said.keys()) and not task.options.has_retry_policy:
        raise OptionError(
            f"task {task.name!r} leaves retries to Celery, so {min(policy)} can't be given at dispatch;"
            " define it with an option of ours, like tries=1"
        )
    if not isinstance(said.get("delete_when_missing", False), bool):
        raise OptionError(
            f"expected delete_when_missing to be True or False at dispatch (task {task.name!r})"
        )
    if callable(said.get("backoff")):
        raise OptionError(
            f"expected backoff to be seconds or a list of seconds, got {said['backoff']!r}: a callable"
            f" can't travel with a job (task {task.name!r})"
        )
    return said


def deadline_of(
    task: TaskLike, retry_until: float | None, options: Mapping[str, Any]
) -> float | None:
    """When a job handed in now may start no more. Raises OptionError if it could never start."""
    if retry_until is None:
        return None
    eta, wait = options.get("eta"), options.get("countdown") or 0
    if isinstance(eta, datetime):
        wait = clock.instant(eta) - clock.now()
    if wait >= retry_until:
        raise OptionError(
            f"expected a delay under retry_until={retry_until:g}, got {wait:g} s (task {task.name!r})"
        )
    return clock.now() + retry_until
