"""Unique jobs: at most one with the same key at a time.

    @app.task(name="webhooks.deliver", unique_by=["url", "body"])
    def deliver(url, body, attempt_id): ...

    deliver.dispatch(...)                  # put
    deliver.dispatch(...).is_duplicate     # True: nothing was put, and its id is the first job's

The key travels in the message. The broker takes it in the step that puts the job, and frees it in
the step that removes the job, whether it is done, failed, deleted or cleared. So no lock can
outlive its job. A retry and a release keep the key.

    unique_until="start"     free again before the job begins, so that no later change is missed
    unique_for=60            free again after 60 s at the latest
    on_conflict="replace"    the second dispatch replaces the first one's arguments, if that has not
                             started
    debounce=5               the same, and each dispatch moves the start to 5 s from then; free when
                             the job begins
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kombu.utils.json import dumps

from relevo.drivers.values import Conflict
from relevo.errors import OptionError, did_you_mean
from relevo.job import redaction
from relevo.job.options import Options
from relevo.job.task_protocol import TaskLike

DONE, START = "done", "start"

# A key may have 255 characters. It shows this many of the task's name, or of a fair key's values.
MAX_SHOWN_CHARS = 180


def header_of(
    task: TaskLike, options: Options, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The header of a job's unique key; None for a job without one. Raises OptionError."""
    if options.unique_by is None or options.unique_by is False:
        return None
    header: dict[str, Any] = {"key": unique_key(task, options.unique_by, args, kwargs)}
    if options.unique_for is not None:
        header["for"] = options.unique_for
    if options.unique_until == START or options.debounce is not None:
        header["until"] = START
    if options.debounce is not None:
        header |= {"on": Conflict.LATEST.value, "wait": options.debounce}
        header |= {} if options.debounce_max is None else {"most": options.debounce_max}
    elif options.on_conflict == Conflict.REPLACE:
        header["on"] = Conflict.REPLACE.value
    return header


def check_followers(task: TaskLike, options: Mapping[str, Any]) -> None:
    """Raise OptionError if others wait for a job that may be replaced: they would wait for ever."""
    for name in ("link", "link_error", "chain", "chord", "group_id"):
        if options.get(name):
            raise OptionError(
                f"a job of task {task.name!r} may be replaced by the next one, so it can have no"
                f" {name}; dispatch it with unique_by=False"
            )


def unique_key(
    task: TaskLike, unique_by: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The key of a job with these arguments. Raises OptionError if it can't be made."""
    text = _text(task, "unique", unique_by, args, kwargs)
    digest = hashlib.sha256(f"{task.name}:{text}".encode()).hexdigest()
    return f"{task.name[:MAX_SHOWN_CHARS]}:{digest[:40]}"


def fair_key(task: TaskLike, fair_by: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The key under which a job takes its turn in a fair queue, shared by all tasks.

    People see it beside the arguments, so it is a digest if it is made of secret ones.
    Raises OptionError if it can't be made.
    """
    text = _text(task, "fair", fair_by, args, kwargs)
    looked_at = (args, kwargs)
    if not callable(fair_by):
        looked_at = (), dict(zip(fair_by, _values(task, fair_by, args, kwargs), strict=True))
    is_shown = len(text) <= MAX_SHOWN_CHARS and not redaction.is_redacted(
        task.app, task.name, *looked_at
    )
    return text if is_shown else hashlib.sha256(text.encode()).hexdigest()


def _text(
    task: TaskLike, what: str, by: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The values of the named arguments, or the callable's result, as JSON. Raises OptionError."""
    try:
        # Celery's own dump: a pydantic model has the same text here as in the message.
        if task._dump_pydantic_arguments is not None:  # noqa: SLF001
            args, kwargs = task._dump_pydantic_arguments(args, kwargs)  # noqa: SLF001
        values = by(*args, **kwargs) if callable(by) else _values(task, by, args, kwargs)
        if what == "fair" and isinstance(values, list) and len(values) == 1:
            values = values[0]
        return str(dumps(values, sort_keys=True))
    except Exception as error:  # the task's own callable may raise anything
        raise OptionError(
            f"the {what} key of task {task.name!r} can't be made: {error!r}"
        ) from error


def check_key_names(task: TaskLike, names: Any, option: str = "unique_by") -> None:
    """Raise OptionError for names that are no arguments of the task."""
    if isinstance(names, (list, tuple)):
        _check(task.name, names, _signature(task), option)


def takes(task: TaskLike, name: str) -> bool:
    """Whether a job of this task can have an argument of this name."""
    parameters = _signature(task).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def check_definition(task: str, rules: Options, body: Callable[..., Any], *, bound: bool) -> None:
    """Raise OptionError for a task being defined whose `unique_by` or `fair_by` names no argument.

    `bound`: the function gets the task itself as its first argument.
    """
    for option in ("unique_by", "fair_by"):
        names = getattr(rules, option)
        if isinstance(names, (list, tuple)):
            _check(
                task,
                names,
                _without_task(inspect.signature(body)) if bound else inspect.signature(body),
                option,
            )


def _check(task: str, names: Any, signature: inspect.Signature, option: str) -> None:
    takes = signature.parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in takes):
        return
    known = [each.name for each in takes]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f", which takes {', '.join(known) or 'none'}"
            raise OptionError(
                f"expected {option} to name arguments of task {task!r}{hint}, got {name!r}"
            )


def _values(
    task: TaskLike, names: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Any]:
    bound = _signature(task).bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    for each in bound.signature.parameters.values():
        if each.kind is each.VAR_KEYWORD:
            given |= given.pop(each.name, {})
    return [given.get(name) for name in names]


def _signature(task: TaskLike) -> inspect.Signature:
    body: Callable[..., Any] = getattr(task, "_decorated_fun", None) or type(task).run
    is_bound = not isinstance(inspect.getattr_static(type(task), "run", None), staticmethod)
    return _without_task(inspect.signature(body)) if is_bound else inspect.signature(body)


def _without_task(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])
