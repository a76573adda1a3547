"""Refuses names that were meant as one of our options: `trys=3` is an error and not an attribute.

Celery keeps any keyword of a definition as an attribute of the task, and sends any keyword of a
dispatch as a property of the message. Projects use both, so a name is refused only in these cases:

    its spelling is near one of our options        trys, retryUntil, max_exeptions
    it is another system's word for one of them    max_attempts, unique, encrypted, fail_on
    it would replace a method of the task          delay=60

An attribute that the task's base class has is left alone: that is how a project, or a package with
a base class of its own, declares a name that looks like ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any

from relevo.errors import OptionError
from relevo.job.options import NAMES, OVERRIDES

# Our options that no dispatch can change. (`timeout` is kombu's there, `queue` is Celery's.)
_TASK_ONLY = NAMES - OVERRIDES - {"timeout", "queue"}
# What a misspelt name at a dispatch may have been.
_AT_DISPATCH = NAMES - {"timeout"} | {"connection", "session"}

# Another system's words, and ours in another place: what to write instead.
_WORDS = {
    "attempts": "did you mean 'tries'?",
    "max_attempts": "did you mean 'tries'?",
    "max_tries": "did you mean 'tries'?",
    "unique": "did you mean 'unique_by'?",
    "fail_on": "call self.fail(error) for an error that no further attempt can mend",
    "encrypted": "arguments aren't encrypted; 'redact' hides them from people",
}
_DEFINITION_WORDS = {
    **_WORDS,
    "retries": "did you mean 'tries'?",
    "connection": "name it at the dispatch: task.on_connection(name).dispatch(…)",
}
_DISPATCH_WORDS = {
    **_WORDS,
    "delay": "did you mean 'countdown'?",
    "delay_for": "did you mean 'countdown'?",
    "at": "did you mean 'eta'?",
    "on_queue": "did you mean 'queue'?",
    "on_connection": "did you mean 'connection'?",
    "in_session": "did you mean 'session'?",
}
_METHOD_WORDS = {
    "delay": "say it at the dispatch: task.delay_for(60).dispatch(…)",
    "delay_for": "say it at the dispatch: task.delay_for(60).dispatch(…)",
    "at": "say it at the dispatch: task.at(moment).dispatch(…)",
    "on_queue": "did you mean 'queue'?",
    "on_connection": "say it at the dispatch: task.on_connection(name).dispatch(…)",
    "retry": "did you mean 'tries'?",
}
# Misspellings that are further from the name than others' words are.
_MISSPELLINGS = {"trys": "tries"}
_MISSING = object()


def refuse_in_definition(task: str, given: Mapping[str, Any], base: type) -> None:
    """Raise OptionError for a keyword of a definition that can't be meant as an attribute.

    `base`: the class of which the task will be a subclass.
    """
    for name, value in given.items():
        if name == "bind":  # Celery's decorator takes this one for itself
            continue
        _refuse_method(task, name, value, base)
        if name in NAMES or _has(base, name):
            continue
        # A task may well keep its connection to some server in an attribute of this name.
        if name == "connection" and not isinstance(value, str):
            continue
        if hint := _DEFINITION_WORDS.get(name) or likely(name, NAMES):
            raise OptionError(f"no option named {name!r}; {hint} (task {task!r})")


def refuse_in_class(task: str, body: Mapping[str, Any], base: type) -> None:
    """Raise OptionError for an attribute in the body of a class that is a task.

    A class has attributes of its own more often than a decorator has keywords, so only the
    spelling counts here, and functions and properties are left alone.
    """
    for name, value in body.items():
        if name.startswith("_"):
            continue
        _refuse_method(task, name, value, base)
        if name in NAMES or _is_method(value) or _has(base, name):
            continue
        if hint := likely(name, NAMES):
            raise OptionError(f"no option named {name!r}; {hint} (task {task!r})")


def refuse_in_dispatch(task: str, options: Mapping[str, Any]) -> None:
    """Raise OptionError for an option of `apply_async` that was meant as one of ours."""
    stamps: Iterable[str] = options.get("stamped_headers") or ()
    for name in options:
        if (hint := _dispatch_hint(name)) and name not in stamps:
            raise OptionError(f"{name!r} can't be given at dispatch; {hint} (task {task!r})")


@lru_cache(maxsize=1024)
def _dispatch_hint(name: str) -> str | None:
    if name in _TASK_ONLY:
        return "it is an option of the task's definition"
    return _DISPATCH_WORDS.get(name) or likely(name, _AT_DISPATCH)


@lru_cache(maxsize=1024)
def likely(name: str, known: frozenset[str]) -> str | None:
    """`"did you mean 'x'?"` if `name` is a misspelling of a known name."""
    if name in known:
        return None
    given = _letters(_MISSPELLINGS.get(name, name))
    ranked = sorted((_distance(given, _letters(each)), each) for each in known)
    for distance, each in ranked:
        letters = _letters(each)
        if distance <= _allowed(letters) and given[:1] == letters[:1]:
            return f"did you mean {each!r}?"
    return None


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def _allowed(letters: str) -> int:
    """How many slips make a near miss: two words of four letters are soon alike."""
    return 1 if len(letters) < 7 else 2  # noqa: PLR2004  the shortest with two is 'backoff'


def _distance(one: str, other: str) -> int:
    """How many letters to add, drop, change or swap with the next one to get from `one` to `other`.

    This is the optimal string alignment distance.
    """
    older: list[int] = []
    last: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, last, row = last, row, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != wanted)))
            if i > 1 and j > 1 and letter == other[j - 2] and wanted == one[i - 2]:
                row[j] = min(row[j], older[j - 2] + 1)
    return row[-1]


def _refuse_method(task: str, name: str, value: Any, base: type) -> None:
    """Raise OptionError for a value that would stand where the task has a method."""
    if name.startswith("_") or _is_method(value):
        return
    found = inspect.getattr_static(base, name, _MISSING)
    if isinstance(found, (FunctionType, classmethod, staticmethod)):
        hint = _METHOD_WORDS.get(name, "name the attribute otherwise")
        raise OptionError(
            f"{name!r} is a method of every task and can't be an option, got {value!r};"
            f" {hint} (task {task!r})"
        )


def _is_method(value: Any) -> bool:
    return callable(value) or hasattr(type(value), "__get__")


def _has(base: type, name: str) -> bool:
    return inspect.getattr_static(base, name, _MISSING) is not _MISSING
