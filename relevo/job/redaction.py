"""Hides secret arguments from people: by names of arguments and keys (RELEVO_REDACT), and by task
(`redact=`).

    dispatch   the message's texts for people (argsrepr, kwargsrepr) are written without secrets,
               so no log, event, history or page has them
    record     texts of messages from other clients, which don't know of this, are redacted
    show       arguments that are read from the message itself are redacted

The message keeps its arguments: a failed job is retried with the real ones. Texts of errors are not
searched.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kombu.utils.encoding import safe_repr

from relevo.database.text import storable

HIDDEN = "[redacted]"
#: How deep nested values are searched. Deeper ones are hidden whole, where anything is hidden.
MAX_DEPTH = 20
MAX_REPR_CHARS = 1024


def with_redacted_reprs(
    app: Any, name: str, args: Any, kwargs: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Options of `send_task`, with redacted texts for people if any argument is secret."""
    if (
        "argsrepr" in options
        or "kwargsrepr" in options
        or not isinstance(args or (), (list, tuple))
    ):
        return options
    before = list(args or ()), dict(kwargs or {})
    shown = redacted_arguments(app, name, *before)
    if shown == before:
        return options
    return {
        **options,
        "argsrepr": storable(safe_repr(tuple(shown[0]))[:MAX_REPR_CHARS]),
        "kwargsrepr": storable(safe_repr(shown[1])[:MAX_REPR_CHARS]),
    }


def redacted_arguments(
    app: Any, name: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a job of this task, with HIDDEN in place of the secrets."""
    pattern, (everything, named, parameters) = _pattern(_words(app)), _of_task(app, name)
    if everything:
        return [HIDDEN] * len(args), dict.fromkeys(kwargs, HIDDEN)
    hidden = {
        at
        for at, parameter in enumerate(parameters)
        if parameter in named or _is_secret(pattern, parameter)
    }
    return (
        [HIDDEN if at in hidden else _shown(value, pattern, 0) for at, value in enumerate(args)],
        {
            key: HIDDEN if key in named or _is_secret(pattern, key) else _shown(value, pattern, 0)
            for key, value in kwargs.items()
        },
    )


def is_redacted(app: Any, name: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether these arguments have a secret. Values made of them are secret too, then."""
    return redacted_arguments(app, name, args, kwargs) != (list(args), dict(kwargs))


def redacted_reprs(app: Any, name: str | None, argsrepr: Any, kwargsrepr: Any) -> str:
    """A message's texts for people, redacted.

    A text that can't be parsed is hidden whole, if it may have a secret.
    """
    text = f"{argsrepr or ''} {kwargsrepr or ''}"
    pattern, (everything, named, parameters) = _pattern(_words(app)), _of_task(app, name)
    positions = [
        parameter
        for parameter in parameters
        if parameter in named or _is_secret(pattern, parameter)
    ]
    if not (everything or named or positions or (pattern and pattern.search(text))):
        return storable(text)
    try:
        args, kwargs = ast.literal_eval(argsrepr or "()"), ast.literal_eval(kwargsrepr or "{}")
        shown = redacted_arguments(app, name, list(args), dict(kwargs))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return HIDDEN
    return storable(f"{tuple(shown[0])!r} {shown[1]!r}")


def redacted_text(app: Any, text: str) -> str:
    """The text of an unreadable message for people: hidden whole, if it may have a secret."""
    pattern = _pattern(_words(app))
    return HIDDEN if pattern and pattern.search(text) else storable(text)


def restore_hidden(
    app: Any,
    name: str | None,
    before: tuple[Sequence[Any], Mapping[str, Any]],
    after: tuple[Sequence[Any], Mapping[str, Any]],
) -> tuple[list[Any], dict[str, Any]]:
    """Edited arguments, with the real values back where the editor saw HIDDEN and left it."""
    shown = redacted_arguments(app, name, *before)
    args = _restored(list(before[0]), shown[0], list(after[0]))
    return args, _restored(dict(before[1]), shown[1], dict(after[1]))


def _restored(real: Any, shown: Any, edited: Any) -> Any:
    if edited == HIDDEN and shown == HIDDEN:
        return real
    if isinstance(edited, dict) and isinstance(shown, dict):
        return {
            key: _restored(real[key], shown[key], value) if key in shown else value
            for key, value in edited.items()
        }
    if isinstance(edited, list) and isinstance(shown, list):
        known = min(len(edited), len(shown))
        return [_restored(*each) for each in zip(real, shown, edited, strict=False)] + edited[
            known:
        ]
    return edited


def _shown(value: Any, pattern: re.Pattern[str] | None, depth: int) -> Any:
    if pattern is None or not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, dict):
        return {
            key: HIDDEN if _is_secret(pattern, key) else _shown(each, pattern, depth + 1)
            for key, each in value.items()
        }
    return (
        type(value)([_shown(each, pattern, depth + 1) for each in value])
        if type(value) in (list, tuple)
        else value
    )


def _is_secret(pattern: re.Pattern[str] | None, name: Any) -> bool:
    return pattern is not None and isinstance(name, str) and pattern.search(name) is not None


def _words(app: Any) -> tuple[str, ...]:
    settings = getattr(app, "settings", None)
    return settings.dashboard.redact if settings is not None else ()


@lru_cache(maxsize=16)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches a name with any of the words: apiKey, api-key and API_KEY are one word."""
    each = ("[-_ ]?".join(map(re.escape, re.split("[-_ ]", word))) for word in words)
    return re.compile("|".join(each), re.IGNORECASE) if words else None


def _of_task(app: Any, name: str | None) -> tuple[bool, frozenset[str], tuple[str, ...]]:
    """Whether a task hides all arguments, the names that it hides, and its positional names."""
    task = app.tasks.get(name) if name else None
    if task is None:
        return False, frozenset(), ()
    redact = getattr(getattr(task, "options", None), "redact", ())
    return (
        redact is True,
        frozenset() if redact is True else frozenset(redact),
        _positional_names(task),
    )


@lru_cache(maxsize=4096)
def _positional_names(task: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    )
