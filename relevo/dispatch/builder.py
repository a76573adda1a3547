"""The fluent dispatch: say where, when and with which options one job is sent, then send it.

    process.dispatch(7)                                        # the same as process.delay(7)
    process.on_queue("high").delay_for(60).dispatch(7)
    process.with_options(tries=5, backoff=[1, 10]).when(user.active).dispatch(7)

The details come first; `dispatch` comes last and sends at once. Nothing is sent before that, and
each `dispatch` sends one job. A `Dispatch` is frozen, so it can be kept and used again.

Laravel writes the details last and sends from a destructor at the end of the statement. In Python
the moment of destruction is not defined: a variable, a traceback or another interpreter would delay
the job or lose it, and an error in a destructor is swallowed.

`relevo/dispatch/prepare.py` turns the collected options into the message's header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from relevo import clock
from relevo.dispatch import connections, transactions, unique
from relevo.dispatch.prepare import check_queue, effective_options
from relevo.errors import OptionError, did_you_mean
from relevo.job import backoff, option_names
from relevo.job.options import OVERRIDES, validated
from relevo.job.task_protocol import TaskLike


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A dispatch that is not sent yet: a task and the options of `apply_async`.

    `wanted`: whether all conditions of `when` and `unless` hold so far.
    """

    task: TaskLike
    options: Mapping[str, Any] = field(default_factory=dict)
    wanted: bool = True

    def on_queue(self, name: str) -> Self:
        """Send the job to this queue. Raises OptionError if `task_queues` doesn't have it."""
        check_queue(self.task.app, self.task.name, validated("queue", name, self.task.name))
        return self._with(queue=name)

    def on_connection(self, name: str) -> Self:
        """Send the job to the broker of this connection of the settings.

        Raises SettingsError for an unknown connection.
        """
        connections.get_connection(self.task.app, name, self.task.name)
        return self._with(connection=name)

    def delay_for(self, seconds: float) -> Self:
        """Start the job no earlier than this many seconds after the dispatch."""
        if not backoff.is_wait(seconds):
            name = self.task.name
            raise OptionError(
                f"expected delay_for to be a number of seconds, got {seconds!r} (task {name!r})"
            )
        if clock.now() + seconds > clock.LAST:  # Celery makes a datetime of it
            raise OptionError(
                f"expected delay_for to end before the year 10000, got {seconds!r}"
                f" (task {self.task.name!r})"
            )
        return self._with(countdown=seconds, eta=None)

    def at(self, moment: datetime) -> Self:
        """Start the job no earlier than this moment. A naive datetime counts as UTC."""
        if not isinstance(moment, datetime):
            raise OptionError(
                f"expected at to be a datetime, got {moment!r} (task {self.task.name!r})"
            )
        return self._with(eta=clock.utc(clock.instant(moment)), countdown=None)

    def with_options(self, **options: Any) -> Self:
        """Override options of the task for this job: all but `queue` (use `on_queue`).

        `middleware`: names of the task's middlewares that this job keeps, in this order.
        Raises OptionError.
        """
        unknown = sorted(options.keys() - OVERRIDES - {"timeout"})
        if unknown:
            option_names.refuse_in_dispatch(self.task.name, dict.fromkeys(unknown))
            near = did_you_mean(unknown[0], [*OVERRIDES, "timeout"])
            raise OptionError(
                f"{unknown[0]!r} can't be given at dispatch{near} (task {self.task.name!r})"
            )
        effective_options(self.task, options)  # raises OptionError
        if "timeout" in options:
            options["time_limit"] = options.pop("timeout")
        return self._with(**options)

    def in_session(self, session: Any) -> Self:
        """Send the job if and only if this SQLAlchemy session commits."""
        transactions.connection_of(session)
        return self._with(session=session)

    def when(self, condition: object) -> Self:
        """Send the job only if `condition` is true."""
        return replace(self, wanted=self.wanted and bool(condition))

    def unless(self, condition: object) -> Self:
        """Send the job only if `condition` is false."""
        return self.when(not condition)

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send the job now. Returns its AsyncResult, or None if a condition does not hold.

        `session=` means `in_session`, unless it is an argument of the job: the task takes one, and
        this is nothing of SQLAlchemy's. Raises OptionError if it is no Session.
        """
        if "session" in kwargs and self._is_session(kwargs["session"]):
            session = kwargs.pop("session")
            builder = self if session is None else self.in_session(session)
            return builder.dispatch(*args, **kwargs)
        return self.task.apply_async(args, kwargs, **self.options) if self.wanted else None

    async def adispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send the job now, without blocking the event loop. Returns as `dispatch`."""
        return await self.task.aapply_async(args, kwargs, **self.options) if self.wanted else None

    def after_commit(self, session: Any, *args: Any, **kwargs: Any) -> None:
        """Send the job after this session, of any database, has committed.

        A crash between the commit and the dispatch loses the job; `in_session` does not.
        """
        transactions.after_commit(session, lambda: self.dispatch(*args, **kwargs))

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job in this process, retrying without a wait.

        Returns Celery's EagerResult, or None if a condition does not hold.
        """
        options = {name: value for name, value in self.options.items() if name != "connection"}
        return self.task.apply(args, kwargs, **options) if self.wanted else None

    def _is_session(self, value: Any) -> bool:
        return transactions.is_of_sqlalchemy(value) or not unique.takes(self.task, "session")

    def _with(self, **options: Any) -> Self:
        return replace(self, options={**self.options, **options})


class DispatchMixin:
    """Gives a task the methods of `Dispatch`, so that `task.on_queue(...)` begins one."""

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
        """Send a job of this task after this session has committed."""
        self._dispatch.after_commit(session, *args, **kwargs)

    def when(self, condition: object) -> Dispatch:
        return self._dispatch.when(condition)

    def unless(self, condition: object) -> Dispatch:
        return self._dispatch.unless(condition)

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Send a job of this task now. Returns its AsyncResult."""
        return self._dispatch.dispatch(*args, **kwargs)

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run a job of this task in this process. Returns Celery's EagerResult."""
        return self._dispatch.sync(*args, **kwargs)

    @property
    def _dispatch(self) -> Dispatch:
        return Dispatch(self)  # type: ignore[arg-type]  # mixed into Task, and only there
