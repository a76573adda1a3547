"""An attribute of something shared, replaced as long as somebody needs it to be.

Fakes nest, and two threads may have one each: the first that comes replaces, the last that goes
puts back. Whoever saved and restored for himself would, leaving in another order than he came, put
back what somebody else had put there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from relevo import clock
from relevo.task import Task

_lock = threading.RLock()


class Replaced:
    """`target.name`, or the item of a dict, replaced by what `make` makes of the original while
    anybody uses it.
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
    """Replace an attribute. What is returned puts it back as it was: gone, where it was inherited
    or not there yet.
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


#: How far each fake that travelled has moved the engine's clock, in seconds.
travelled: dict[object, float] = {}

clock_now = Replaced(clock, "now", lambda now: lambda: now() + sum(travelled.values()))

#: What the jobs that fakes run just now have said of their progress, by the id of the job.
progress: dict[str, list[tuple[float, float]]] = {}


def _noted(original: Callable[[Task, float, float], None]) -> Callable[[Task, float, float], None]:
    def note(task: Task, done: float, total: float) -> None:
        if task.request.id in progress:
            progress[task.request.id].append((done, total))
        original(task, done, total)

    return note


task_progress = Replaced(Task, "progress", _noted)
