"""Named connections: a way to dispatch a job to another broker than the app's own.

    process.on_connection("redis-long").dispatch(7)        # a name in settings.connections

Workers of that broker are started with QUEUE_CONNECTION=redis-long. Producers are pooled by process
and connection, as Celery pools the app's own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from celery.app.routes import MapRoute, Router
from celery.exceptions import AlwaysEagerIgnored
from kombu.pools import ProducerPool

from relevo.config import Connection
from relevo.dispatch import capture
from relevo.errors import OptionError

SYNC = "sync"


class Producers:
    """The producer pools of an app, one for each named connection."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._pools: dict[tuple[int, str], ProducerPool] = {}

    def for_connection(self, connection: Connection) -> ProducerPool:
        """The pool of a connection, made at the first call. A forked child makes its own."""
        key = (os.getpid(), connection.name)
        if key not in self._pools:
            opened = self._app.connection_for_write(
                connection.url, transport_options=dict(connection.transport_options)
            )
            self._pools[key] = ProducerPool(
                connections=opened.Pool(self._app.conf.broker_pool_limit or 10)
            )
        return self._pools[key]


def producers(app: Any) -> Producers:
    """The producer pools of this app, made at the first call."""
    if getattr(app, "producers", None) is None:
        app.producers = Producers(app)
    made: Producers = app.producers
    return made


def get_connection(app: Any, name: Any, task: str) -> Connection:
    """The connection that a dispatch names. Raises OptionError; SettingsError if unknown."""
    settings = getattr(app, "settings", None)
    if not isinstance(name, str) or settings is None or not hasattr(settings, "connection_named"):
        raise OptionError(
            f"expected the name of a connection of the settings, got {name!r} (task {task!r})"
        )
    found: Connection = settings.connection_named(name)
    return found


def is_default(app: Any, connection: Connection) -> bool:
    """Whether this is the app's own connection."""
    return bool(app.settings.queue_connection == connection.name)


def dispatch(
    task: Any,
    name: str,
    args: Any,
    kwargs: Any,
    task_id: str | None = None,
    producer: Any = None,
    **options: Any,
) -> Any:
    """Dispatch a job to the connection with this name. Raises OptionError and SettingsError."""
    connection = get_connection(task.app, name, task.name)
    capturing = capture.current_producer()
    if connection.driver == SYNC:
        if capturing is not None:
            raise OptionError(
                f"connection {name!r} runs jobs in place: no part of a transaction, batch, chain or"
                f" chord can go there (task {task.name!r})"
            )
        return task.apply(args, kwargs, task_id=task_id, **options)
    if queue := resolve_queue(task, connection, args, kwargs, options):
        options["queue"] = queue
    if capturing is not None:
        with capture.for_connection(connection.name):
            return send(task, capturing, args, kwargs, task_id, options)
    if producer is not None or (
        is_default(task.app, connection) and not task.app.conf.task_always_eager
    ):
        given = {} if producer is None else {"producer": producer}
        return task.apply_async(args, kwargs, task_id, **given, **options)
    with producers(task.app).for_connection(connection).acquire(block=True) as taken:
        return send(task, taken, args, kwargs, task_id, options)


def send(
    task: Any, producer: Any, args: Any, kwargs: Any, task_id: str | None, options: dict[str, Any]
) -> Any:
    """Send a job with this producer, also from an eager app, which would run it inline."""
    if not task.app.conf.task_always_eager:
        return task.apply_async(args, kwargs, task_id, producer, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlwaysEagerIgnored)
        send_options = {
            "result_cls": task.AsyncResult,
            "task_type": task,
            **task._get_exec_options(),  # noqa: SLF001
            **options,
        }
        return task.app.send_task(
            task.name, args, kwargs, task_id=task_id, producer=producer, **send_options
        )


def resolve_queue(
    task: Any, connection: Connection, args: Any, kwargs: Any, options: dict[str, Any]
) -> str | None:
    """The connection's queue, if neither the dispatch nor the task nor a route names one.

    The answer of a route that is a function goes with the options: it is not asked twice for a job.
    """
    named = (
        options.get("queue")
        or options.get("routing_key")
        or options.get("exchange")
        or getattr(task, "queue", None)
    )
    router = task.app.amqp.router
    if named:
        return None
    route = router.lookup_route(task.name, args, kwargs, options, task)
    if not all(isinstance(each, MapRoute) for each in router.routes):
        options["router"] = _router_that_says(route, router)
    return None if route else connection.queue


def _router_that_says(route: Any, router: Router) -> Router:
    """Celery's router with the answer for one job."""
    answer = dict(route) if isinstance(route, Mapping) else route  # Celery takes it apart
    return Router([lambda *_job, **_more: answer], router.queues, router.create_missing, router.app)
