"""The one page of wiring: `create_app("shop")` is a Celery app with Relevo's settings, drivers and
task class.

What is not on this page does not happen. Three layers of configuration, the later one wins: the
preset below, what the project gives to `config_from_object`, and the keyword arguments of
`create_app`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from celery.app.defaults import SETTING_KEYS
from celery.signals import after_task_publish, celeryd_init, task_received, worker_init
from sqlalchemy import Engine

from relevo import config as configuration
from relevo import events
from relevo.batches import chord_callback, nested, result_backends
from relevo.batching import Batching
from relevo.config import Settings
from relevo.config.settings import (
    REDIS_CONNECT_TIMEOUT_SECONDS,
    REDIS_HEALTH_CHECK_SECONDS,
    REDIS_SOCKET_TIMEOUT_SECONDS,
)
from relevo.database.engine import share_sqlite
from relevo.definition import Defining
from relevo.errors import SchemaError, SettingsError, UndefinedLimitError, did_you_mean
from relevo.events import Event
from relevo.execution import stop_flag, unique_release
from relevo.exit import end_command
from relevo.job.middleware import Middleware
from relevo.job.options import checked
from relevo.limits.named_rates import NamedRates
from relevo.middleware.limits import check_rates
from relevo.operations import clear
from relevo.schedule import worker_beat
from relevo.transport import admission, registration
from relevo.worker import bootstep, cold_shutdown, permits, restart
from relevo.worker.pool import prefork


class App(Defining, Batching):
    """A Celery app that knows its settings, and stands on our preset instead of on Celery's
    defaults.
    """

    events_cls = "relevo.worker.event_dispatcher:Events"

    def __init__(
        self,
        main: str | None = None,
        *,
        settings: Settings,
        middleware: Sequence[Any] = (),
        limits: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.settings = settings
        #: The named rates that `RateLimited` asks for.
        self.limits = NamedRates(limits)
        #: What stands around the run of every job whose task doesn't name its own.
        self.middleware: tuple[Middleware, ...] = checked(
            "middleware", middleware, "every one of the app"
        )
        options.setdefault("task_cls", "relevo.task:Task")
        super().__init__(main, **options)

    def prepare_config(self, c: Mapping[str, Any] | None) -> dict[str, Any]:
        """Celery's hook for what lies below the project's configuration; `add_defaults` would lie
        above it.
        """
        return {**preset(self.settings), **(super().prepare_config(c) or {})}

    def __reduce_keys__(self) -> dict[str, Any]:
        """What a pool process that is spawned, not forked, makes its own copy of the app from."""
        return {
            **super().__reduce_keys__(),
            "settings": self.settings,
            "middleware": self.middleware,
            "limits": dict(self.limits),
        }


def create_app(
    name: str,
    settings: Settings | None = None,
    *,
    middleware: Sequence[Any] = (),
    limits: Mapping[str, Any] | None = None,
    **config: Any,
) -> App:
    """A Celery app called `name`. `config` is any of Celery's settings; without `settings` they are
    loaded.

    `middleware` stands around the run of every job whose task doesn't name its own
    (`relevo.middleware`). `limits` are rates by their names: `{"mail": "10/hour"}`.

    A wrong setting is a `SettingsError`; under a command (`celery -A …`) it is one line on stderr
    and exit code 2, since Celery would print any exception of the app's module as a traceback.
    """
    try:
        return _wire(name, settings or configuration.load(), middleware, limits, config)
    except SettingsError as error:
        end_command(str(error))
        raise


def _wire(
    name: str,
    settings: Settings,
    middleware: Sequence[Any],
    limits: Mapping[str, Any] | None,
    config: dict[str, Any],
) -> App:
    _check_names(config)
    registration.register()
    for each in (prefork, result_backends, cold_shutdown, stop_flag):
        each.install()
    worker_beat.register_signals()
    app = App(name, settings=settings, middleware=middleware, limits=limits, changes=config)
    nested.install(app)
    chord_callback.install(app)
    clear.install(app)
    celeryd_init.connect(_check_queues, dispatch_uid="relevo.app.check_queues")
    celeryd_init.connect(restart.prepare, dispatch_uid="relevo.worker.restart.prepare")
    worker_init.connect(_record_what_ends, dispatch_uid="relevo.app.record_what_ends")
    for event, signal, receiver in _EVENTS:
        events.bind_signal(event, signal, receiver)
    _prepare_command(settings)
    return app


def preset(settings: Settings) -> dict[str, Any]:
    """Celery's settings as Relevo wants them by default."""
    connection = settings.connection
    return {
        "broker_url": connection.url,
        "broker_transport_options": connection.transport_options,
        "task_default_queue": connection.queue,
        "result_backend": settings.result_backend,
        "result_backend_transport_options": settings.result_transport_options,
        "beat_schedule_filename": str(settings.var_dir / "celerybeat-schedule"),
        **_JSON_ONLY,
        **_NOTHING_LOST,
        **_RESULTS,
        **_WORKER,
        **(_AT_ONCE if connection.driver == "sync" else _BEAT),
    }


def share_results(engine: Engine) -> None:
    """Make the result backend's engine safe beside other processes. Celery calls it for each engine
    that it makes.
    """
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and not path.startswith("file:"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    share_sqlite(engine)


# Results and events too: whoever can write to the broker must not be able to run code by it.
_JSON_ONLY = {
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}

_NOTHING_LOST = {
    "task_acks_late": True,  # a job is done when it has run, not when it has been fetched
    # what a worker holds, it runs; the rest is there for other workers
    "worker_prefetch_multiplier": 1,
    # A broker that refuses a command (full, read-only, failing over) or stays away is waited for,
    # however long: Celery's defaults end the worker at the first refusal, and after a hundred vain
    # attempts to connect.
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
}

_RESULTS = {
    # Not task_track_started: it would double the writes of every job that keeps a result.
    # with the task's name, arguments and queue; without, a result is a bare id
    "result_extended": True,
    "database_engine_callback": share_results,
    # Not when a program dispatches its first job: it may be in a transaction, and on SQLite that
    # has the one write lock, so that the tables could not be made. The first result makes them.
    "database_create_tables_at_setup": False,
    "redis_socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
    "redis_socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
    "redis_socket_keepalive": True,
    "redis_retry_on_timeout": True,
    "redis_backend_health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
}

_WORKER = {
    "worker_consumer": "relevo.worker.consumer:Consumer",
    "enable_utc": True,
    "timezone": "UTC",
    # with 4 s, a process slow to import its tasks is killed, and the next, for ever
    "worker_proc_alive_timeout": 30,
    # The channel never hands over more than the pool has room for; with the pool's own lock the
    # loop would block on it, deaf to remote control, when an early ack makes room too soon.
    "worker_pool_putlocks": False,
    # the timer's thread sleeps so long before it notices a stop; Celery's is 1 s
    "worker_timer_precision": 0.1,
    # Task events are three a job; sent in groups (job/events.py), but each is written for whoever
    # listens. They are for those who look: Flower switches them on in every worker when it starts,
    # `worker -E` at the start.
    "worker_send_task_events": False,
    # The project's own logging stays. Celery still sets up the root logger when nobody has.
    "worker_hijack_root_logger": False,
}

# Events that Celery's signals tell of (connected when somebody listens: `relevo.on`). The others
# come from the request of a worker's main process, `relevo/worker/request.py` and `recorded.py`.
_EVENTS = (
    (Event.DISPATCHED, after_task_publish, events.on_published),
    (Event.RESERVED, task_received, events.on_received),
    (Event.RESCUED, task_received, events.on_received),
)

_BEAT = {"beat_scheduler": "relevo.schedule.beat:Scheduler"}

_AT_ONCE = {
    "task_always_eager": True,
    "task_eager_propagates": True,
    "beat_scheduler": "relevo.schedule.inline:Scheduler",
}


def _check_names(config: Iterable[str]) -> None:
    for name in config:
        if name not in SETTING_KEYS:
            hint = did_you_mean(name, SETTING_KEYS)
            raise SettingsError(f"expected the name of a Celery setting, got {name!r}{hint}")


def _check_queues(instance: Any, options: Mapping[str, Any], **_signal: Any) -> None:
    """`worker -Q hihg`: one line instead of Celery's traceback, where the project lets no queue be
    made up.
    """
    app, wanted = instance.app, options.get("queues") or []
    wanted = wanted.split(",") if isinstance(wanted, str) else wanted
    known = app.amqp.queues
    for name in wanted:
        if name not in known and not app.conf.task_create_missing_queues:
            end_command(f"no queue named {name!r}{did_you_mean(name, known)}")


def _record_what_ends(sender: Any, **_signal: Any) -> None:
    """A worker of ours starts: its rates are there, and its main process writes what becomes of
    jobs, and acks then.
    """
    importlib.import_module(
        "relevo.worker.remote_control"
    )  # not sooner: it takes all of Celery's worker
    app = sender.app
    if not isinstance(app, App):
        return
    try:
        check_rates(app)
        admission.late = unique_release.late(app)
        admission.maker = partial(permits.Permits, app) if permits.are_wanted(app) else None
        bootstep.open_store(app)
    except (SchemaError, UndefinedLimitError) as error:
        end_command(str(error))
        raise


def _prepare_command(settings: Settings) -> None:
    command = click.get_current_context(silent=True)
    if command is not None and command.invoked_subcommand == "flower":
        _hand_to_flower(settings)
        importlib.import_module(
            "relevo.dashboard"
        ).install()  # by its name: it stands above this page
    if command is not None and command.invoked_subcommand == "beat":
        settings.var_dir.mkdir(parents=True, exist_ok=True)  # for its schedule file


def _hand_to_flower(settings: Settings) -> None:
    """Flower reads its options from the environment only, and they may stand in our `.env`."""
    flower = settings.dashboard.flower
    os.environ.update(FLOWER_ADDRESS=flower.address, FLOWER_PORT=str(flower.port))
    os.environ["FLOWER_READ_ONLY"] = str(flower.read_only).lower()
    for name in ("basic_auth", "api_tokens", "operators", "url_prefix"):
        if given := getattr(flower, name):
            os.environ[f"FLOWER_{name.upper()}"] = given
