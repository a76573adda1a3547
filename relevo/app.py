"""The one page of wiring: `create_app("shop")` is a Celery app with Relevo's settings, drivers and
task class.

What is not on this page does not happen. `_wire` registers every part once; `App` is what a project
holds: its tasks, batches, chains, and the exits that every dispatch takes.

Three layers of configuration, the later one wins: the preset (`relevo/config/celery.py`), the
project's `config_from_object`, and the keyword arguments of `create_app`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import celery
import click
from celery.app.defaults import SETTING_KEYS
from celery.signals import (
    after_task_publish,
    celeryd_after_setup,
    celeryd_init,
    task_received,
    worker_init,
)

from relevo import config as configuration
from relevo import events
from relevo.batches import chain, chord, chord_callback, inline, nested, result_backends
from relevo.batches import dispatch as batch_dispatch
from relevo.batches.batch import Batches, NewBatch
from relevo.batches.chain import NewChain
from relevo.batches.spec import BatchSpec
from relevo.config import Settings
from relevo.config.celery import preset
from relevo.dispatch import capture, prepare, transactions, unique
from relevo.dispatch.connections import Producers
from relevo.dispatch.publisher import Publisher
from relevo.errors import OptionError, SchemaError, SettingsError, UndefinedLimitError, did_you_mean
from relevo.events import Event
from relevo.execution import stop_flag, trace, unique_release
from relevo.execution.models import Models
from relevo.exit import end_command
from relevo.job import body, option_names, redaction
from relevo.job.middleware import Middleware
from relevo.job.options import NAMES, Options, refuse_mixed_options, validated
from relevo.limits.named_rates import NamedRates
from relevo.middleware.limits import check_rates
from relevo.operations import clear
from relevo.schedule import worker_beat
from relevo.store.batch_counts import Kind
from relevo.store.batches import BatchRow
from relevo.transport import put_results, registration
from relevo.transport.context import current as current_context
from relevo.worker import bootstep, cold_shutdown, node_name, permits, restart
from relevo.worker.pool import prefork


class App(celery.Celery):
    """A Celery app that knows its settings and starts from our preset, not Celery's defaults."""

    events_cls = "relevo.worker.event_dispatcher:Events"
    #: The models that may be arguments of its tasks (relevo/execution/models.py).
    models: Models | None = None
    #: The producers of its named connections, made at first use (relevo/dispatch/connections.py).
    producers: Producers | None = None

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
        #: The middlewares of every task that doesn't list its own.
        self.middleware: tuple[Middleware, ...] = validated(
            "middleware", middleware, "every one of the app"
        )
        options.setdefault("task_cls", "relevo.task:Task")
        super().__init__(main, **options)

    def prepare_config(self, c: Mapping[str, Any] | None) -> dict[str, Any]:
        """Put the preset below the project's configuration.

        This is Celery's hook for it: `add_defaults` would put the preset above.
        """
        return {**preset(self.settings), **(super().prepare_config(c) or {})}

    def __reduce_keys__(self) -> dict[str, Any]:
        """The arguments from which a spawned pool process (not a forked one) makes its own app."""
        return {
            **super().__reduce_keys__(),
            "settings": self.settings,
            "middleware": self.middleware,
            "limits": dict(self.limits),
        }

    # --- tasks -----
    def task(self, *args: Any, **options: Any) -> Any:
        """Celery's decorator. Raises OptionError for a bad value of one of our options."""
        if args:
            return super().task(*args, **options)
        decorate = super().task(**options)

        def define(function: Callable[..., Any]) -> Any:
            name = options.get("name") or self.gen_task_name(function.__name__, function.__module__)
            _check_definition(self, name, function, options)
            return decorate(function)

        return define

    # --- batches and chains -----
    def batch(self, members: Iterable[Any]) -> NewBatch:
        """A new batch of signatures and chains, not sent yet.

        `members`: any iterable. It is read once, while the members are sent.
        """
        is_one = isinstance(members, (str, Mapping))  # a signature is a mapping
        if is_one or not isinstance(members, Iterable):
            raise OptionError(
                "expected the members of a batch to be a list, or any iterable of them, got"
                f" {members!r}"
            )
        return NewBatch(self, members)

    def chain(self, *links: Any) -> NewChain:
        """A new chain of signatures and batches, not sent yet. A link that is None is left out."""
        return NewChain(self, links)

    @cached_property
    def batches(self) -> Batches:
        """The dispatched batches: `find`, `page`, `prune`."""
        return Batches(self)

    @cached_property
    def publisher(self) -> Publisher:
        """The short way of a dispatch, unless a subclass of ours sends in its own."""
        return Publisher(self, possible=type(self).send_task is App.send_task)

    def send_batch(self, new: BatchSpec, id_: str, session: Any = None) -> BatchRow:
        """Every batch is dispatched here."""
        station = inline if self.conf.task_always_eager else batch_dispatch
        return station.dispatch(new, id_, session)

    def send_chain(self, new: NewChain, id_: str, session: Any = None) -> BatchRow:
        """Every chain of ours is dispatched here."""
        send = inline.dispatch_chain if self.conf.task_always_eager else chain.dispatch
        return send(new, id_, session)

    def add_members(self, row: BatchRow, members: Iterable[Any]) -> BatchRow:
        """Members that join a dispatched batch. Raises BatchError if it has ended."""
        if self.conf.task_always_eager and row.tally.kind is not Kind.CHORD:
            return inline.add(self, row, members)
        return batch_dispatch.add(self, row, members)

    def send_in_session(self, session: Any, send: Callable[[], Any]) -> Any:
        """Make whatever `send` dispatches part of the session's transaction.

        Returns what `send` returns.
        """
        return transactions.dispatch_in_session(self, session, send)

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Celery's exit for every job."""
        if (capturing := capture.current_producer()) is not None:
            options["producer"] = capturing
        elif chain.is_next_link(options):
            return chain.dispatch_next_link(
                self, lambda: self.send_task(name, args, kwargs, *rest, **options)
            )
        options = redaction.with_redacted_reprs(self, name, args, kwargs, options)
        return super().send_task(name, args, kwargs, *rest, **options)


def create_app(
    name: str,
    settings: Settings | None = None,
    *,
    middleware: Sequence[Any] = (),
    limits: Mapping[str, Any] | None = None,
    **config: Any,
) -> App:
    """A Celery app called `name`.

    `settings`: loaded from the environment if not given. `middleware`: for every task that doesn't
    list its own (`relevo.middleware`). `limits`: named rates, like `{"mail": "10/hour"}`. `config`:
    any of Celery's settings.

    A wrong setting raises SettingsError. Under a command (`celery -A …`) it is one line on stderr
    and exit code 2: Celery would print any exception of the app's module as a traceback.
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
    # Into Celery and kombu, once a process; safe to repeat for a second app.
    registration.register_transport()
    result_backends.register_backends()
    chord.register_chords()
    prefork.register_pool()
    trace.register_tracer()
    cold_shutdown.register_cold_shutdown()
    stop_flag.register_signals()
    worker_beat.register_signals()
    # The app, and the tasks that Relevo itself needs.
    app = App(name, settings=settings, middleware=middleware, limits=limits, changes=config)
    nested.register_tasks(app)
    chord_callback.register_task(app)
    clear.register_clear(app)
    # What a worker does when it starts.
    celeryd_init.connect(_check_queues, dispatch_uid="relevo.app.check_queues")
    celeryd_init.connect(restart.register_restart, dispatch_uid="relevo.worker.restart.register")
    worker_init.connect(_wire_worker, dispatch_uid="relevo.app.wire_worker")
    celeryd_after_setup.connect(_claim_name, dispatch_uid="relevo.app.claim_name")
    for event, signal, receiver in _EVENTS:
        events.bind_signal(event, signal, receiver)
    put_results.observe(events.on_put)
    _prepare_command(settings)
    return app


# The events that come from Celery's signals, connected when there is a listener (`relevo.on`). All
# other events come from the requests of a worker's main process (`relevo/worker/request.py`).
_EVENTS = (
    (Event.DISPATCHED, after_task_publish, events.on_published),
    (Event.RESERVED, task_received, events.on_received),
    (Event.RESCUED, task_received, events.on_received),
)


def _check_definition(
    app: Any, name: str, function: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Raise OptionError if a task can't be defined with these options."""
    base_class = options.get("base") or app.Task
    option_names.refuse_in_definition(name, options, base_class)
    body.refuse_unrunnable(name, function, base_class)
    given = {key: options[key] for key in NAMES & options.keys()}
    base = getattr(options.get("base"), "options", None)
    rules = (base if isinstance(base, Options) else Options()).with_given(given, name)
    refuse_mixed_options(name, given, options)
    unique.check_definition(name, rules, function, bound=bool(options.get("bind")))
    # Reading the configuration freezes it, so the queue is checked only if it has been read before.
    if rules.queue is not None and app.configured:
        prepare.check_queue(app, name, rules.queue)


def _check_names(config: Iterable[str]) -> None:
    for name in config:
        if name not in SETTING_KEYS:
            hint = did_you_mean(name, SETTING_KEYS)
            raise SettingsError(f"expected the name of a Celery setting, got {name!r}{hint}")


def _check_queues(instance: Any, options: Mapping[str, Any], **_signal: Any) -> None:
    """End `worker -Q hihg` with one line instead of Celery's traceback.

    Only where the project declares its queues (`task_create_missing_queues` is off).
    """
    app, wanted = instance.app, options.get("queues") or []
    wanted = wanted.split(",") if isinstance(wanted, str) else wanted
    known = app.amqp.queues
    for name in wanted:
        if name not in known and not app.conf.task_create_missing_queues:
            end_command(f"no queue named {name!r}{did_you_mean(name, known)}")


def _wire_worker(sender: Any, **_signal: Any) -> None:
    """Fill the context of a worker that starts (`relevo/transport/context.py`).

    Its main process then records how jobs end, and acks after that. The pool and the consumer add
    what they are when Celery makes them.
    """
    # not sooner: it imports all of Celery's worker
    importlib.import_module("relevo.worker.remote_control")
    app = sender.app
    if not isinstance(app, App):
        return
    worker = current_context()
    try:
        check_rates(app)
        worker.late_release_tasks = unique_release.late_release_tasks(app)
        if permits.needed(app):
            worker.make_admission = partial(permits.PermitAdmission, app)
        bootstep.start_recording(app, worker)
    except (SchemaError, UndefinedLimitError) as error:
        end_command(str(error))
        raise


def _claim_name(instance: Any, **_signal: Any) -> None:
    """Warn of another worker of the same name. This signal comes when logging is set up."""
    if isinstance(instance.app, App):
        # The worker keeps the file open for as long as it is there.
        folder = instance.app.settings.var_dir
        instance.node_lock = node_name.claim(folder, instance.hostname)


def _prepare_command(settings: Settings) -> None:
    command = click.get_current_context(silent=True)
    if command is not None and command.invoked_subcommand == "flower":
        _hand_to_flower(settings)
        # Imported by its name: the dashboard is a layer above this page.
        importlib.import_module("relevo.dashboard").register_dashboard()
    if command is not None and command.invoked_subcommand == "beat":
        settings.var_dir.mkdir(parents=True, exist_ok=True)  # for its schedule file


def _hand_to_flower(settings: Settings) -> None:
    """Put Flower's options, which may come from our `.env`, where Flower reads them."""
    flower = settings.dashboard.flower
    os.environ.update(FLOWER_ADDRESS=flower.address, FLOWER_PORT=str(flower.port))
    os.environ["FLOWER_READ_ONLY"] = str(flower.read_only).lower()
    for name in ("basic_auth", "api_tokens", "operators", "url_prefix"):
        if given := getattr(flower, name):
            os.environ[f"FLOWER_{name.upper()}"] = given
