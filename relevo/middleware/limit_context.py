"""The limits of the broker that a job came from, and the argument values that they count by.

A permit belongs to the lease of a job, so limits live where the jobs do: each driver has limits
beside it, and one object per process and driver is kept here.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from celery.exceptions import TaskPredicate

from relevo.drivers import DATABASES, REDIS, driver_for
from relevo.drivers.contract import Driver
from relevo.errors import OptionError
from relevo.job import redaction
from relevo.job.middleware import RunningJob
from relevo.limits.contract import Limits
from relevo.limits.rates import Rate

logger = logging.getLogger(__name__)

#: What a limit counts by: an argument's name, several names, a callable that gets the arguments, or
#: None: one count for all jobs.
By = str | Sequence[str] | Callable[..., Any] | None

# The largest wait (seconds, a year) and the largest cost (units).
MAX_VALUE = 365 * 86_400.0
# How much of a digest stands in a key.
_DIGEST_CHARS = 20
# How many waiting jobs are woken in one step of the driver.
_WAKE_PAGE = 1000


class JobIdentity(Protocol):
    """The fields of a job from which `by_value` is made."""

    @property
    def app(self) -> Any: ...

    @property
    def task(self) -> str: ...

    @property
    def args(self) -> tuple[Any, ...]: ...

    @property
    def kwargs(self) -> Mapping[str, Any]: ...


class LimitContext(NamedTuple):
    """The driver of a job's broker, and the limits beside it."""

    driver: Driver
    limits: Limits


_open: dict[tuple[int, int], Limits] = {}
_opening = threading.Lock()


def context_of(job: RunningJob) -> LimitContext | None:
    """The driver and the limits of a job.

    None for a job without a lease: it runs inline, in a fake, or from a foreign broker.
    """
    if job.lease is None:
        if job.queue is not None and not _is_ours(
            job.app.conf.broker_read_url or job.app.conf.broker_url
        ):
            _warn_once(job.task)
        return None
    driver = driver_of(job.app)
    return LimitContext(driver, limits_for(driver))


def by_value(by: By, job: JobIdentity) -> str | None:
    """The value that a limit counts a job by; None if `by` is None.

    It is a digest if it is made of secret arguments: people see it. Raises OptionError if it can't
    be made.
    """
    if by is None:
        return None
    if callable(by):
        return _shown(
            str(by(*job.args, **job.kwargs)),
            redaction.is_redacted(job.app, job.task, job.args, job.kwargs),
        )
    names = [by] if isinstance(by, str) else list(by)
    given = _arguments(job)
    missing = [name for name in names if name not in given]
    if missing:
        raise OptionError(
            f"expected task {job.task!r} to have an argument named {missing[0]!r}, got"
            f" {sorted(given)}"
        )
    values = [str(given[name]) for name in names]
    hidden = redaction.is_redacted(job.app, job.task, (), {name: given[name] for name in names})
    return _shown(values[0] if len(values) == 1 else repr(values), hidden)


def _shown(text: str, hidden: bool) -> str:
    if not hidden:
        return text
    return (
        f"redacted:{sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:_DIGEST_CHARS]}"
    )


def _arguments(job: JobIdentity) -> dict[str, Any]:
    """The arguments of a job by name, with defaults."""
    try:
        bound = _signature(job.app.tasks[job.task].run).bind(*job.args, **job.kwargs)
    except TypeError as error:
        raise OptionError(f"the arguments of task {job.task!r} don't fit: {error}") from error
    bound.apply_defaults()
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name)
    return named


@lru_cache(maxsize=4096)
def _signature(body: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(body)


def named_rates(app: Any) -> Mapping[str, Rate]:
    """The named rates of an app. Raises OptionError if `create_app` has not made it."""
    if not hasattr(app, "limits"):
        raise OptionError(
            "an app that create_app has not made has no named limits; make it with"
            " create_app(limits=…)"
        )
    limits: Mapping[str, Rate] = app.limits
    return limits


def clear(driver: Driver, key: str) -> int:
    """Reset a key and wake the jobs that wait for it. Returns how many."""
    return wake(driver, limits_for(driver).clear(key))


def wake(driver: Driver, waiting: Sequence[str]) -> int:
    """Let these waiting jobs try again now. Returns how many there are."""
    for start in range(0, len(waiting), _WAKE_PAGE):
        driver.hasten(waiting[start : start + _WAKE_PAGE])
    return len(waiting)


def is_celery_control_flow(error: BaseException) -> bool:
    """Whether this is one of Celery's Retry, Ignore and Reject, and not an error."""
    return isinstance(error, TaskPredicate)


def _is_ours(url: str) -> bool:
    return url.partition(":")[0].partition("+")[0] in (*DATABASES, *REDIS, "relevo")


@cache
def _warn_once(task: str) -> None:
    logger.warning(
        "the limits of task %s don't hold: they need a Redis or a database as the broker", task
    )


def driver_of(app: Any) -> Driver:
    """The driver of the broker that this app's workers take jobs from.

    Raises SettingsError if the broker is not one of ours.
    """
    conf = app.conf
    return driver_for(
        conf.broker_read_url or conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl
    )


def limits_for(driver: Driver) -> Limits:
    """The limits beside a driver, made at the first call. A forked child makes its own."""
    key = (os.getpid(), id(driver))
    with _opening:
        if key not in _open:
            _open[key] = limits_beside(driver)
        return _open[key]


def limits_beside(driver: Any) -> Limits:
    """New limits beside the jobs of `driver`."""
    # Imported only if used, like the drivers: each needs another client library.
    if driver.name == "redis":
        from relevo.drivers.redis.scripts import Library  # noqa: PLC0415
        from relevo.limits.redis import keys  # noqa: PLC0415
        from relevo.limits.redis.store import RedisLimits  # noqa: PLC0415

        scripts = driver.scripts_of(Library("relevo.limits.redis", keys.lua_prelude()))
        return RedisLimits(scripts.run, driver.now)
    if driver.name == "memory":
        from relevo.limits.memory import MemoryLimits  # noqa: PLC0415

        return MemoryLimits(driver.lease_ends, driver.rescue, driver.now)
    from relevo.limits.database.store import DatabaseLimits  # noqa: PLC0415

    url = driver.connections.url.render_as_string(hide_password=False)
    return DatabaseLimits(url, driver.now, driver.rescue)
