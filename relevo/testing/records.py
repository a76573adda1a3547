"""The jobs that were dispatched while a fake was active: found and listed. All assertions use it.

A task is given as itself, as its name, or as a signature. A name that neither the app nor a
dispatch knows raises an error with the likely one: otherwise `assert_not_dispatched` with a
misspelt name would always hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from relevo.errors import OptionError, UnknownTaskError, did_you_mean
from relevo.testing.dispatched import Dispatched

# pytest leaves the frames of a module with this variable out of tracebacks: a failure shows the
# test's own line.
__tracebackhide__ = True

#: A predicate that a test gives.
Where = Callable[[Dispatched], object]

MOST_SHOWN = 30


class Records:
    """The jobs that a fake has taken, oldest first."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._records: list[Dispatched] = []
        self._lock = threading.RLock()

    def all(self) -> list[Dispatched]:
        """Every job that was dispatched; a job that was released is still one job."""
        with self._lock:
            return list(self._records)

    def dispatched(
        self,
        task: Any,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        where: Where | None = None,
    ) -> list[Dispatched]:
        """The jobs of `task` with exactly these arguments, for which `where` is true."""
        name = self.name_of(task)
        return [
            record
            for record in self.all()
            if record.task == name
            and (args is None or record.args == tuple(args))
            and (kwargs is None or record.kwargs == kwargs)
            and (where is None or where(record))
        ]

    def name_of(self, task: Any) -> str:
        """A task's name. Raises UnknownTaskError if neither the app nor a dispatch knows it."""
        name = task if isinstance(task, str) else getattr(task, "name", None)
        if not isinstance(name, str):
            raise OptionError(f"expected a task or its name, got {task!r}")
        if name not in (known := self._known()):
            # `include` and autodiscovery, as a worker does.
            self.app.loader.import_default_modules()
            if name not in (known := self._known()):
                raise UnknownTaskError(f"no task named {name!r}{did_you_mean(name, known)}")
        return name

    def _known(self) -> set[str]:
        return {*self.app.tasks, *(record.task for record in self.all())}

    def expect(self, holds: object, expected: str) -> None:
        """Raise AssertionError with a list of all dispatched jobs, unless `holds`."""
        if not holds:
            raise AssertionError(f"expected {expected}\n{self._listing()}")

    def _listing(self) -> str:
        records = self.all()
        if not records:
            return "nothing was dispatched"
        lines = [f"  {number}. {record}" for number, record in enumerate(records[:MOST_SHOWN], 1)]
        lines += [f"  and {len(records) - MOST_SHOWN} more"] if len(records) > MOST_SHOWN else []
        return "\n".join(["what was dispatched:", *lines])


def description(
    name: str, args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None, where: Where | None
) -> str:
    """The job that a test looks for, as text."""
    said = repr(name)
    said += f" with args {tuple(args)!r}" if args is not None else ""
    said += f" with kwargs {dict(kwargs)!r}" if kwargs is not None else ""
    return said + (" where the predicate is true" if where else "")


def times_text(times: int | None) -> str:
    return {None: "", 1: " once"}.get(times, f" {times} times")
