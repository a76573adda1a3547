"""Replaces an attribute of a shared object while at least one fake needs the replacement.

Fakes nest, and two threads may each have one. The first user replaces the attribute, the last one
restores it. If each fake saved and restored it alone, one that ends before another, though it began
first, would restore the attribute too early.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from relevo import clock
from relevo.task import Task

_lock = threading.RLock()


class Replacement:
    """A context manager, for several users at once: while there is one, `target.name` (or that item
    of a dict) is the value that `make` makes of the original.
    """

    def __init__(self, target: Any, name: str, make: Callable[[Any], Any]) -> None:
        self.target, self.name, self.make = target, name, make
        self.users = 0
        self._restore: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        with _lock:
            if not self.users:
                self._restore = replace(self.target, self.name, self.make)
            self.users += 1
        return self

    def __exit__(self, *_error: object) -> None:
        with _lock:
            self.users -= 1
            if not self.users:
                self._restore()


def replace(target: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Replace an attribute. Return a function that restores it, or deletes it from the target where
    it was inherited.
    """
    if isinstance(target, dict):
        return _replace_item(target, name, make)
    own, before = name in vars(target), vars(target).get(name)
    setattr(target, name, make(getattr(target, name)))
    return lambda: setattr(target, name, before) if own else delattr(target, name)


def _replace_item(
    target: dict[str, Any], name: str, make: Callable[[Any], Any]
) -> Callable[[], None]:
    own, before = name in target, target.get(name)
    target[name] = make(before)

    def restore() -> None:
        if own:
            target[name] = before
        else:
            del target[name]

    return restore


#: Seconds by which each fake has moved Relevo's clock.
clock_offsets: dict[object, float] = {}

clock_now = Replacement(clock, "now", lambda now: lambda: now() + sum(clock_offsets.values()))

#: The progress reports of the jobs that fakes are running, as (done, total), by the job's id.
progress: dict[str, list[tuple[float, float]]] = {}


def _record_progress(
    original: Callable[[Task, float, float], None],
) -> Callable[[Task, float, float], None]:
    def record_progress(task: Task, done: float, total: float) -> None:
        if task.request.id in progress:
            progress[task.request.id].append((done, total))
        original(task, done, total)

    return record_progress


task_progress = Replacement(Task, "progress", _record_progress)

#: The fake batches of the jobs that fakes are running, by the job's id.
batches: dict[str, Any] = {}


def _find_fake_batch(original: Any) -> Any:
    return property(
        lambda task: batches.get(task.request.id) or original.fget(task), doc=original.__doc__
    )


task_batch = Replacement(Task, "batch", _find_fake_batch)
