"""The options of a task: how often, how long and how patiently its jobs may try.

    @app.task(name="images.process", tries=3, backoff=[10, 30, 60], timeout=300,
              retry_until=600, max_exceptions=2)

Options are checked where they are given, at the definition or at the dispatch that overrides them,
and trusted everywhere else. A task with none of the options in `POLICY` is plain Celery.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy.exc import NoResultFound

from relevo.errors import MissingModelError, OptionError
from relevo.job import backoff
from relevo.job import middleware as middlewares
from relevo.job.middleware import Middleware

Tags = Sequence[str] | Callable[..., Sequence[str]]

#: With one of these options Relevo decides what follows from a failed attempt; else Celery does.
POLICY = frozenset(
    {"tries", "backoff", "jitter", "fail_on_timeout", "max_exceptions", "retry_until"}
)

#: Options that only the dispatch needs: they don't travel with the job.
AT_DISPATCH = frozenset({"tags", "unique_by", "unique_until", "unique_for", "fair_by"})

#: Options that need `unique_by` beside them.
_BESIDE_UNIQUE = frozenset(
    {"debounce", "debounce_max", "on_conflict", "unique_until", "unique_for"}
)

#: Options that a dispatch may override, beside `timeout` (Celery's `time_limit` there) and `queue`.
OVERRIDES = POLICY | AT_DISPATCH | {"middleware", "delete_when_missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a task. Durations are seconds.

    Attempts:
    `tries`: how many (None: as many as `retry_until` and `max_exceptions` allow).
    `backoff`, `jitter`: the wait between them (backoff.py).
    `timeout`: the longest run of one attempt. `fail_on_timeout`: no further attempt after that.
    `max_exceptions`: how many attempts may go wrong (a release doesn't count).
    `retry_until`: no attempt starts later than this after the dispatch.
    `delete_when_missing`: cancel a job whose row is gone, or that ends in one of these errors.

    Where and beside what it runs:
    `queue`: its name. `middleware`: the wrappers of the run, the first one outermost.
    `fair_by`: names of arguments, or a callable that gets them: jobs of one value (a tenant) take
    turns with the jobs of others.

    Unique jobs (relevo/dispatch/unique.py):
    `unique_by`: names of arguments, or a callable that gets them: one job of a value at a time
    (False: any number). `unique_until`: "done" or "start", when the key is free again.
    `unique_for`: the longest that a job holds its key.
    `on_conflict`: "keep", or "replace": the job gets the arguments of the next dispatch.
    `debounce`: start this long after the last dispatch; `debounce_max`: but this long after the
    first at the latest.

    For people:
    `tags`: texts to find the job by. `redact`: names of arguments to hide (True: all).
    `silenced`: completed jobs are listed apart.

    `given`: the names of the options that the task gave itself.
    """

    tries: int | None = None
    backoff: backoff.Waits = backoff.AT_ONCE
    jitter: float = 0.0
    timeout: float | None = None
    fail_on_timeout: bool = False
    max_exceptions: int | None = None
    retry_until: float | None = None
    tags: Tags = ()
    queue: str | None = None
    middleware: tuple[Middleware, ...] = ()
    unique_by: Sequence[str] | Callable[..., Any] | bool | None = None
    unique_until: str = "done"
    unique_for: float | None = None
    on_conflict: str = "keep"
    debounce: float | None = None
    debounce_max: float | None = None
    delete_when_missing: bool | type[Exception] | tuple[type[Exception], ...] = False
    fair_by: Sequence[str] | Callable[..., Any] | None = None
    redact: Sequence[str] | bool = ()
    silenced: bool = False
    given: frozenset[str] = frozenset()

    @property
    def has_retry_policy(self) -> bool:
        """Whether Relevo decides what follows from a failed attempt of the task."""
        return not POLICY.isdisjoint(self.given)

    @property
    def needs_wrapping(self) -> bool:
        """Whether the task's `run` must be wrapped (execution/attempt.py)."""
        return self.has_retry_policy or bool(self.middleware) or bool(self.missing)

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """The errors after which the job is cancelled, because its row is gone."""
        given = self.delete_when_missing
        if isinstance(given, bool):
            return (MissingModelError, NoResultFound) if given else ()
        return given if isinstance(given, tuple) else (given,)

    @property
    def needs_baton(self) -> bool:
        """Whether a job needs a baton from its dispatch on."""
        return (
            self.retry_until is not None
            or bool(self.tags)
            or self.is_unique
            or self.fair_by is not None
        )

    @property
    def is_unique(self) -> bool:
        """Whether the task's jobs have a unique key."""
        return self.unique_by is not None and self.unique_by is not False

    @property
    def replaces(self) -> bool:
        """Whether a dispatch can change the arguments of a job that waits."""
        return self.is_unique and (self.on_conflict == "replace" or self.debounce is not None)

    @property
    def has_no_limit(self) -> bool:
        """Whether no count ends the attempts, only time."""
        return self.tries is None and self.max_exceptions is None

    def with_given(self, given: Mapping[str, Any], task: str) -> Options:
        """These options with `given` over them; a value of None counts as not given.

        Raises OptionError for a bad value.
        """
        checked_options = {
            name: validated(name, value, task) for name, value in given.items() if value is not None
        }
        options = (
            replace(self, **checked_options, given=self.given | checked_options.keys())
            if checked_options
            else self
        )
        if (alone := _BESIDE_UNIQUE & checked_options.keys()) and options.unique_by is None:
            raise OptionError(f"expected unique_by beside {min(alone)}, got none (task {task!r})")
        if not _BESIDE_UNIQUE.isdisjoint(checked_options):
            _check_debounce(options, task)
        return options

    def with_defaults(self, tries: int, waits: tuple[float, ...]) -> Options:
        """These options with the project's `tries` and `backoff` where the task gave none."""
        counted = not self.given.isdisjoint({"tries", "retry_until", "max_exceptions"})
        return replace(
            self,
            tries=self.tries if counted else tries,
            backoff=self.backoff if "backoff" in self.given else waits or backoff.AT_ONCE,
            given=self.given | {"tries"},
        )


def _check_debounce(options: Options, task: str) -> None:
    """Raise OptionError for options that exclude `debounce` or need it."""
    if options.debounce is None:
        if options.debounce_max is not None:
            raise OptionError(f"expected debounce beside debounce_max, got none (task {task!r})")
        return
    if options.debounce_max is not None and options.debounce_max < options.debounce:
        raise OptionError(
            f"expected debounce_max to be no less than debounce={options.debounce:g}, got"
            f" {options.debounce_max!r} (task {task!r})"
        )
    for name in ("on_conflict", "unique_until", "unique_for"):
        if name in options.given:
            raise OptionError(f"expected {name} or debounce, got both (task {task!r})")


def validated(name: str, value: Any, task: str) -> Any:
    """The value of one option, in the shape that `Options` has. Raises OptionError."""
    expected, fits = _RULES[name]
    if not fits(value):
        raise OptionError(f"expected {name} to be {expected}, got {value!r} (task {task!r})")
    if name == "backoff":
        return backoff.waits(value)
    return middlewares.normalize(value) if name == "middleware" else value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_duration(value: Any) -> bool:
    return backoff.is_wait(value) and value > 0


def _is_share(value: Any) -> bool:
    return backoff.is_wait(value) and not math.isnan(value) and value <= 1


def _are_tags(value: Any) -> bool:
    return callable(value) or _are_names(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def _is_unique_by(value: Any) -> bool:
    return value is False or _are_tags(value)


def _are_errors(value: Any) -> bool:
    classes = value if isinstance(value, tuple) else (value,)
    return isinstance(value, bool) or all(
        isinstance(each, type) and issubclass(each, Exception) for each in classes
    )


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tries": ("a positive integer", _is_count),
    "backoff": (
        "seconds, a list of seconds or a callable that takes the attempt",
        backoff.is_backoff,
    ),
    "jitter": ("a number from 0 to 1", _is_share),
    "timeout": ("a positive number of seconds", _is_duration),
    "fail_on_timeout": ("True or False", lambda value: isinstance(value, bool)),
    "max_exceptions": ("a positive integer", _is_count),
    "retry_until": ("a positive number of seconds after the dispatch", _is_duration),
    "tags": ("a list of texts or a callable that returns one", _are_tags),
    "middleware": (middlewares.EXPECTED, middlewares.is_valid),
    "unique_by": (
        "a list of names of arguments, a callable that gets the arguments, or False",
        _is_unique_by,
    ),
    "delete_when_missing": ("True, False or classes of errors", _are_errors),
    "redact": (
        "a list of names of arguments, or True",
        lambda value: value is True or _are_names(value),
    ),
    "silenced": ("True or False", lambda value: isinstance(value, bool)),
    "unique_until": ("'done' or 'start'", lambda value: value in ("done", "start")),
    "unique_for": ("a positive number of seconds", _is_duration),
    "fair_by": ("a list of names of arguments or a callable that gets the arguments", _are_tags),
    "on_conflict": ("'keep' or 'replace'", lambda value: value in ("keep", "replace")),
    "debounce": ("a positive number of seconds", _is_duration),
    "debounce_max": ("a positive number of seconds", _is_duration),
    "queue": ("the name of a queue", lambda value: isinstance(value, str) and bool(value)),
}

#: Every option a task can give.
NAMES = frozenset(field.name for field in fields(Options)) - {"given"}


def refuse_mixed_options(
    name: str, given: Mapping[str, Any], celery_options: Mapping[str, Any]
) -> None:
    """Raise OptionError if a task gives an option of ours and Celery's option for the same."""
    pairs = [("timeout", "time_limit")]
    pairs += [
        (option, celery_option)
        for option in sorted(POLICY & given.keys())
        for celery_option in ("autoretry_for", "max_retries")
    ]
    for option, celery_option in pairs:
        if celery_options.get(celery_option) and given.get(option) is not None:
            raise OptionError(
                f"expected {option} or Celery's {celery_option}, got both (task {name!r})"
            )
