"""The short way of a dispatch: a message from a template, then one call of the driver.

    Task.apply_async -> Publisher.dispatch -> MessageTemplate.fill -> driver.put
                                           -> Celery's apply_async: what this way doesn't know

Celery asks its routers, makes the message, takes a producer of a pool and publishes through kombu.
That is 0.3 ms of CPU, and the answer is the same for every job of a task. So a template is made
from a message of Celery's, once for each task and set of options, and again when settings change.

Celery's way is taken by everything that can differ by job: receivers of the publish signals,
routers that are functions, an eager app, a fake, a transaction, delays, links and stamps, a
producer or headers of one's own, a result backend that has to hear of each dispatch, another broker
than ours.

It is also the second try of a put that failed, under the same id: it tries again as Celery's
settings say, and the drivers know a put that they have carried out before
(relevo/drivers/redis/idempotency.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import celery
from celery import uuid
from celery._state import get_current_worker_task
from celery.app.amqp import _callback_publish_retry
from celery.backends.base import Backend
from kombu.exceptions import OperationalError

from relevo.dispatch.capture import capture, current_producer
from relevo.dispatch.message_template import MessageTemplate, can_use_templates, has_receivers
from relevo.drivers import is_ours
from relevo.drivers.contract import Driver
from relevo.drivers.values import NewJob, Placed
from relevo.errors import DriverError
from relevo.job.payload import HEADER
from relevo.transport import put_results
from relevo.transport.channel import Channel

# The options of a dispatch that many jobs share: each set of them has a template.
_SHARED_OPTIONS = frozenset({"queue", "priority", "ignore_result", "time_limit", "soft_time_limit"})
# Options with which a job may go to another broker than the app's own.
_OTHER_BROKER = frozenset({"producer", "publisher", "connection"})
_SHARED_TYPES = (str, int, float, bool, type(None))
# So many templates are kept: options may differ without end.
_MOST_TEMPLATES = 1000
# A caller of asyncio tries so often where Celery's `max_retries` is None: for ever.
_MOST_RETRIES = 1000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is ready to be put.

    `parent`: the task that runs in this thread and dispatches it. `ignored`: no result is kept.
    """

    job: NewJob
    driver: Driver
    parent: Any
    ignored: bool


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the templates and the driver were made from."""

    pid: int
    conf: Any
    changes: Mapping[str, Any]
    amqp: Any

    def is_current(self, app: Any) -> bool:
        """Whether they still hold. Comparing all settings takes 1 us, reading one of them 3."""
        conf = app.conf
        return (
            self.conf is conf
            and self.amqp is app.amqp
            and self.changes == conf.changes
            and self.pid == os.getpid()
        )


class Publisher:
    """Dispatches the jobs of one app the short way.

    `possible`: whether the app's class sends as ours does, so that this way leaves nothing out.
    """

    def __init__(self, app: Any, *, possible: bool) -> None:
        self._app, self._possible = app, possible
        self._templates: dict[tuple[Any, ...], MessageTemplate | None] = {}
        self._origin: _Origin | None = None
        self._can_use_templates = False
        self._driver: Driver | None = None

    def dispatch(
        self, task: Any, args: Any, kwargs: Any, id_: str | None, options: Mapping[str, Any]
    ) -> Any:
        """Dispatch a job. Returns its result.

        Raises what Celery's `apply_async` raises.
        """
        id_ = id_ or uuid()
        prepared = self.prepare(task, args, kwargs, id_, options)
        if prepared is None:
            result = celery.Task.apply_async(task, args, kwargs, task_id=id_, **options)
            if _OTHER_BROKER.isdisjoint(options):
                self._find_driver()
            return result
        try:
            [placed] = prepared.driver.put([prepared.job])
        except DriverError as error:
            self.forget_driver()
            if not self._app.conf.task_publish_retry:
                raise OperationalError(str(error)) from error
            return celery.Task.apply_async(task, args, kwargs, task_id=id_, **options)
        return self.result(task, prepared, placed)

    def prepare(
        self, task: Any, args: Any, kwargs: Any, id_: str, options: Mapping[str, Any]
    ) -> Prepared | None:
        """A job that can go the short way; None if it can't."""
        if not self._is_open() or self._driver is None or not _is_known(args, kwargs, options):
            return None
        ignored = options.get("ignore_result", task.ignore_result)
        if not ignored and _hears_of_dispatches(self._app.backend):
            return None
        if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
            return None  # Celery has the words for it
        template = self._template_for(task, args, kwargs, ignored, options)
        if template is None:
            return None
        args, kwargs = args or (), kwargs or {}
        if task.typing and (check := getattr(task, "__header__", None)) is not None:
            check(*args, **kwargs)
        if task._dump_pydantic_arguments is not None:  # noqa: SLF001  as Celery does
            args, kwargs = task._dump_pydantic_arguments(args, kwargs)  # noqa: SLF001
        parent = get_current_worker_task()
        differing = {
            "root_id": id_ if parent is None else parent.request.root_id or parent.request.id,
            "parent_id": None if parent is None else parent.request.id,
            "reply_to": self._app.thread_oid,
        }
        if "headers" in options:
            differing[HEADER] = options["headers"][HEADER]
        try:
            job = template.fill(id_, args, kwargs, differing)
        except (TypeError, ValueError, RecursionError):
            return None  # the long way raises kombu's error
        return Prepared(job, self._driver, parent, ignored)

    def result(self, task: Any, prepared: Prepared, placed: Placed) -> Any:
        """The result of a job that was put, as Celery's `send_task` returns it."""
        put_results.resolve_one(prepared.job.id, placed)
        result = task.AsyncResult(prepared.job.id)
        result.ignored = prepared.ignored
        if prepared.parent is not None:
            prepared.parent.add_trail(result)
        return result

    def forget_driver(self) -> None:
        """After an error: the next dispatch asks kombu, which may have turned to another broker."""
        self._driver = None

    def retry_waits(self) -> list[float]:
        """Celery's settings for retries of a publish as the seconds before each of them."""
        conf = self._app.conf
        if not conf.task_publish_retry:
            return []
        policy = conf.task_publish_retry_policy
        tries = policy.get("max_retries", 3)
        start, step = policy.get("interval_start", 1), policy.get("interval_step", 1)
        longest = policy.get("interval_max", 1)
        return [
            min(start + step * at, longest)
            for at in range(_MOST_RETRIES if tries is None else tries)
        ]

    def _is_open(self) -> bool:
        """Whether there is a short way now, for any job. Looks at all that may have changed."""
        app = self._app
        if (
            not self._possible
            or "send_task" in vars(app)
            or has_receivers()
            or current_producer() is not None
            or _callback_publish_retry.get()
        ):
            return False
        if self._origin is None or not self._origin.is_current(app):
            self._begin()
        return self._can_use_templates

    def _begin(self) -> None:
        """Forget what was made from other settings, or by the process that forked this one."""
        app = self._app
        self._can_use_templates = (
            is_ours(app.conf.broker_write_url)
            and can_use_templates(app)
            and not app.conf.task_inherit_parent_priority
        )
        self._templates, self._driver = {}, None
        self._origin = _Origin(os.getpid(), app.conf, dict(app.conf.changes), app.amqp)

    def _find_driver(self) -> None:
        """Take the driver of kombu's connection, which has just been used.

        A process's first job so goes Celery's way, which connects as Celery's settings say.
        """
        if self._driver is None and self._is_open():
            # The job is at the broker: what happens to it now is the next dispatch's business.
            with (
                suppress(OperationalError, DriverError),
                self._app.producer_or_acquire() as producer,
            ):
                if isinstance(producer.channel, Channel):
                    self._driver = producer.channel.driver

    def _template_for(
        self, task: Any, args: Any, kwargs: Any, ignored: Any, options: Mapping[str, Any]
    ) -> MessageTemplate | None:
        # With the types: 1, 1.0 and True are equal.
        shared = tuple(
            (name, type(value), value) for name, value in options.items() if name != "headers"
        )
        key = (task, ignored, "headers" in options, shared)
        if key not in self._templates:
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates = {}
            self._templates[key] = _make_template(task, args, kwargs, options)
        return self._templates[key]


def _make_template(
    task: Any, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> MessageTemplate | None:
    """A template from a message that Celery makes. None if other jobs' may differ in more."""
    kind = type(task)
    if (
        kind.shadow_name is not celery.Task.shadow_name
        or kind._get_exec_options is not celery.Task._get_exec_options  # noqa: SLF001
    ):
        return None
    with capture() as captured:
        celery.Task.apply_async(task, args, kwargs, add_to_parent=False, **options)
        jobs = captured.pop_jobs()
    if len(jobs) != 1:
        return None
    headers = ("root_id", "parent_id", *((HEADER,) if "headers" in options else ()))
    template = MessageTemplate(task, jobs[0], headers, ("reply_to",))
    return template if template.is_plain else None


def _is_known(args: Any, kwargs: Any, options: Mapping[str, Any]) -> bool:
    """Whether a dispatch has nothing but what a template knows."""
    if not isinstance(args or (), (list, tuple)) or not isinstance(kwargs or {}, dict):
        return False
    return all(
        isinstance(value, _SHARED_TYPES)
        if name in _SHARED_OPTIONS
        else name == "headers" and isinstance(value, dict) and value.keys() == {HEADER}
        for name, value in options.items()
    )


def _hears_of_dispatches(backend: Any) -> bool:
    """Whether a result backend does something at each dispatch."""
    return (
        getattr(backend, "hears_of_dispatches", True)
        and type(backend).on_task_call is not Backend.on_task_call
    )
