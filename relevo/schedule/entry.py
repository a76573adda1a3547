"""The entries of an app's `beat_schedule`, checked, and Celery's cleanup of results.

An error of an entry names the entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from inspect import signature
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.backends.base import DisabledBackend
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import BaseSchedule, crontab
from kombu import serialization
from kombu.exceptions import KombuError
from kombu.messaging import Producer

from relevo import clock
from relevo.database.types import LONGEST_NAME
from relevo.dispatch import connections, prepare
from relevo.drivers import validation
from relevo.errors import OptionError, RelevoError, did_you_mean
from relevo.exit import end_command
from relevo.job.options import OVERRIDES
from relevo.schedule import catchup, descriptions
from relevo.schedule.ticks import LAST_INSTANT, Ticks, ticks_of
from relevo.task import Task

#: The keys of an entry. The last three are Relevo's, the others Celery's.
KEYS = (
    "task",
    "schedule",
    "args",
    "kwargs",
    "options",
    "relative",
    "catch_up",
    "catch_up_limit",
    "catch_up_window",
)
CLEANUP = "celery.backend_cleanup"
#: The known `options`: Relevo's, and what Celery and kombu take when they send a job.
OPTIONS = OVERRIDES.union(
    {"queue"},
    *(signature(each).parameters for each in (Celery.send_task, AMQP.as_task_v2, Producer.publish)),
)
_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("countdown", (int, float), "a number of seconds"),
    ("expires", (int, float, datetime), "a number of seconds or a datetime"),
    ("headers", Mapping, "a dict"),
)


class Entry(ScheduleEntry):
    """Celery's entry, with a rule for missed ticks."""

    def __init__(
        self,
        *args: Any,
        catch_up: Any = "one",
        catch_up_limit: Any = catchup.LIMIT,
        catch_up_window: Any = None,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        self.catch_up, self.catch_up_limit, self.catch_up_window = (
            catch_up,
            catch_up_limit,
            catch_up_window,
        )

    @cached_property
    def ticks(self) -> Ticks:
        return ticks_of(self.schedule)

    @cached_property
    def rule(self) -> catchup.CatchUp:
        """The catch-up rule. A crontab's window defaults to `beat_cron_starting_deadline`."""
        window = self.catch_up_window
        if window is None and isinstance(self.schedule, crontab):
            window = self.app.conf.beat_cron_starting_deadline
        return catchup.read(self.catch_up, self.catch_up_limit, window)

    @property
    def description(self) -> str:
        """The schedule in words."""
        return descriptions.describe(self.schedule)

    @property
    def queue(self) -> str:
        """The queue to which its jobs go."""
        task = self.app.tasks.get(self.task)
        options = {
            name: value
            for name, value in self.options.items()
            if name in {"queue", "routing_key", "exchange"}
        }
        if "queue" not in options and getattr(task, "queue", None):
            options["queue"] = task.queue
        routed = self.app.amqp.router.route(
            options, self.task, self.args, self.kwargs, task_type=task
        )
        queue = routed.get("queue")
        return str(getattr(queue, "name", queue) or self.app.conf.task_default_queue)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return a job's arguments. A BeatLazyFunc of Celery's is called anew for each run."""
        args = [each() if isinstance(each, BeatLazyFunc) else each for each in self.args or ()]
        return args, {
            name: each() if isinstance(each, BeatLazyFunc) else each
            for name, each in self.kwargs.items()
        }


def entries_of(app: Any) -> dict[str, Entry]:
    """Return the entries by name. Raises OptionError for a wrong one."""
    # Handlers of `on_after_finalize` may add entries, and not every command has finalized the app.
    app.finalize()
    given = dict(app.conf.beat_schedule or {})
    if CLEANUP not in given and app.conf.result_expires and _keeps_results(app):
        given[CLEANUP] = {
            "task": CLEANUP,
            "schedule": crontab("0", "4", "*"),
            "options": {"expires": 12 * 3600},
        }
    return {name: _build_entry(app, name, definition) for name, definition in given.items()}


def entries_or_exit(app: Any) -> dict[str, Entry]:
    """Like `entries_of`, but a wrong entry ends the command with a line that names it."""
    try:
        return entries_of(app)
    except OptionError as error:
        end_command(str(error))
        raise


def find(app: Any, name: str) -> Entry:
    """Return one entry. Raises OptionError for an unknown name."""
    entries = entries_of(app)
    if name not in entries:
        raise OptionError(f"no entry {name!r} in beat_schedule{did_you_mean(name, entries)}")
    return entries[name]


def _keeps_results(app: Any) -> bool:
    return not (app.backend.supports_autoexpire or isinstance(app.backend, DisabledBackend))


def _build_entry(app: Any, name: Any, definition: Any) -> Entry:
    try:
        _check_definition(name, definition)
        entry = Entry(**{**definition, "name": name, "app": app})
        _check(entry)
    except (
        RelevoError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        KombuError,
    ) as error:
        raise OptionError(f"entry {name!r} of beat_schedule: {error}") from error
    return entry


def _check_definition(name: Any, definition: Any) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise OptionError(
            f"expected its name to be a text of 1 to {LONGEST_NAME} characters, "
            f"got {str(name)[:60]!r}"
        )
    validation.text("its name", name)
    if not isinstance(definition, Mapping):
        raise OptionError(f"expected a dict with task and schedule, got {definition!r}")
    for key in definition:
        if key not in KEYS:
            raise OptionError(
                f"expected the keys {', '.join(KEYS)}, got {key!r}{did_you_mean(str(key), KEYS)}"
            )
    for key in ("task", "schedule"):
        if not definition.get(key):
            raise OptionError(f"expected a {key}, got {definition.get(key)!r}")
    schedule = definition["schedule"]
    if isinstance(schedule, bool) or not isinstance(
        schedule, (int, float, timedelta, BaseSchedule)
    ):
        raise OptionError(
            f"expected schedule to be seconds, a timedelta, crontab() or solar(), got {schedule!r}"
        )


def _check(entry: Entry) -> None:
    """Raise unless the entry can be dispatched, as far as a check without a dispatch can tell."""
    first = entry.ticks.after(clock.now())
    if first is None or first > LAST_INSTANT:
        raise OptionError(f"expected a schedule that comes, {entry.description!r} never does")
    _ = entry.rule
    if not isinstance(entry.task, str) or not isinstance(entry.args or (), (list, tuple)):
        raise OptionError(
            f"expected a task's name and a list of args, got {entry.task!r} and {entry.args!r}"
        )
    if not isinstance(entry.kwargs, dict) or not isinstance(entry.options, dict):
        raise OptionError(
            f"expected dicts as kwargs and options, got {entry.kwargs!r} and {entry.options!r}"
        )
    _check_options(entry.options)
    options = dict(entry.options)
    task = entry.app.tasks.get(entry.task)
    if "connection" in options:
        named = connections.get_connection(entry.app, options.pop("connection"), entry.task)
        if named.driver == connections.SYNC:
            raise OptionError("expected a connection that keeps a queue, got 'sync'")
    elif "queue" in options:
        prepare.check_queue(
            entry.app, entry.task, getattr(options["queue"], "name", options["queue"])
        )
    if isinstance(task, Task):
        prepare.effective_options(task, prepare.pop_overrides(task, options))
    if not any(
        isinstance(each, BeatLazyFunc) for each in (*(entry.args or ()), *entry.kwargs.values())
    ):
        _check_arguments(entry, task)


def _check_options(options: Mapping[str, Any]) -> None:
    """Check the options with which Celery would fail at each run, when it makes the message."""
    for name, kind, description in _KINDS:
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise OptionError(f"expected the option {name} to be {description}, got {value!r}")
    queue = getattr(options.get("queue"), "name", options.get("queue"))
    if queue is not None:
        validation.name("queue", str(queue))


def _check_arguments(entry: Entry, task: Any) -> None:
    """Raise unless the task takes the arguments and they can be serialized.

    Otherwise each run would fail. An unknown task's signature isn't checked.
    """
    args, kwargs, serializer = entry.args, entry.kwargs, entry.options.get("serializer")
    if isinstance(task, Task):
        prepare.check_arguments(task, args, kwargs)
        serializer = serializer or task.serializer
        # As Celery sends them.
        if task._dump_pydantic_arguments is not None and serializer != "pickle":  # noqa: SLF001
            args, kwargs = task._dump_pydantic_arguments(args, kwargs)  # noqa: SLF001
    if task is None or isinstance(task, Task):
        serialization.dumps((args, kwargs), serializer or entry.app.conf.task_serializer)
