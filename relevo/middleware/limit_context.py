"""The limits beside the jobs: those of the broker that a job came from, in this process; and whose
a job is.

A permit hangs on the job's lease, so limits live where the jobs do: a driver hands over what they
stand on.
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

#: Of whom a limit is: an argument's name, several, a callable that gets the job's arguments, or
#: nobody in particular.
By = str | Sequence[str] | Callable[..., Any] | None

# No wait and no cost is larger: a year, in seconds.
MAX_VALUE = 365 * 86_400.0
# So much is left of a digest.
_DIGEST = 20
# So many jobs are called in one step.
_CALLED = 1000


class JobIdentity(Protocol):
    """What of a job tells whose it is."""

    @property
    def app(self) -> Any: ...

    @property
    def task(self) -> str: ...

    @property
    def args(self) -> tuple[Any, ...]: ...

    @property
    def kwargs(self) -> Mapping[str, Any]: ...


class LimitContext(NamedTuple):
    """Where a job came from: its broker's driver, and the limits beside it."""

    driver: Driver
    limits: Limits


_open: dict[tuple[int, int], Limits] = {}
_opening = threading.Lock()


def context_of(job: RunningJob) -> LimitContext | None:
    """Where a job came from, or None for one without a lease: it runs in place, in a fake, or from
    a foreign broker.
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
    """What `by` says of a job; a digest, where people see nothing of it. Raises OptionError when it
    can't be said.
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
            f"expected task {job.task!r} to have an argument named {missing[0]!r}, got {sorted(given)}"
        )
    values = [str(given[name]) for name in names]
    hidden = redaction.is_redacted(job.app, job.task, (), {name: given[name] for name in names})
    return _shown(values[0] if len(values) == 1 else repr(values), hidden)


def _shown(text: str, hidden: bool) -> str:
    if not hidden:
        return text
    return f"redacted:{sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:_DIGEST]}"


def _arguments(job: JobIdentity) -> dict[str, Any]:
    """The arguments of a job by their names, defaults too."""
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
    """The named rates of an app."""
    if not hasattr(app, "limits"):
        raise OptionError(
            "an app that create_app has not made has no named limits; make it with create_app(limits=…)"
        )
    limits: Mapping[str, Rate] = app.limits
    return limits


def clear(driver: Driver, key: str) -> int:
    """Forget all about a key, and call who waits at it. Returns how many that were."""
    return wake(driver, limits_for(driver).clear(key))


def wake(driver: Driver, waiting: Sequence[str]) -> int:
    """Jobs that wait at a limit look at once. Returns how many."""
    for start in range(0, len(waiting), _CALLED):
        driver.hasten(waiting[start : start + _CALLED])
    return len(waiting)


def is_celery_control_flow(error: BaseException) -> bool:
    """Whether this is a word of Celery's (retry, ignore, reject) and not an error."""
    return isinstance(error, TaskPredicate)


def _is_ours(url: str) -> bool:
    return url.partition(":")[0].partition("+")[0] in (*DATABASES, *REDIS, "relevo")


@cache
def _warn_once(task: str) -> None:
    logger.warning(
        "the limits of task %s don't hold: they need a Redis or a database as the broker", task
    )


def driver_of(app: Any) -> Driver:
    """The driver of the broker that this app's workers take jobs from. Raises SettingsError when it
    is none of ours.
    """
    conf = app.conf
    return driver_for(
        conf.broker_read_url or conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl
    )


def limits_for(driver: Driver) -> Limits:
    """The limits beside a driver's jobs, made at the first call. A forked child gets its own."""
    key = (os.getpid(), id(driver))
    with _opening:
        if key not in _open:
            _open[key] = limits_beside(driver)
        return _open[key]


def limits_beside(driver: Any) -> Limits:
    """Limits beside the jobs of `driver`."""
    # Imported where they are used, as the drivers are.
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
