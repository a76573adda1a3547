"""The body of a task must be a plain function: a call of it is the run of the job.

A call of an `async def` or of a generator function only makes an object. Celery would throw that
away and record the job as completed, without a line of it having run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import celery

from relevo.errors import OptionError


def refuse_unrunnable(task: str, function: Any, base: type) -> None:
    """Raise OptionError for a body that a call doesn't run.

    `base`: a class with a `__call__` of its own may know how to run it, and is trusted.
    """
    if getattr(base, "__call__", None) is not celery.Task.__call__:  # noqa: B004  not a test for it
        return
    for is_kind, kind, remedy in _KINDS:
        if is_kind(function):
            raise OptionError(
                f"expected a plain function, got {kind}: a worker would call it and run none of it;"
                f" {remedy} (task {task!r})"
            )


_LOOP = "start the loop in a plain function, with asyncio.run"
_KINDS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (inspect.iscoroutinefunction, "an async function", _LOOP),
    (inspect.isasyncgenfunction, "an async generator", _LOOP),
    (inspect.isgeneratorfunction, "a generator", "return a list, or loop over it in the task"),
)
