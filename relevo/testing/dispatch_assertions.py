"""Assertions about single jobs: whether, how often, where, when and with what they were dispatched.

Each raises AssertionError with the expectation and a list of all dispatched jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from relevo import clock
from relevo.errors import OptionError
from relevo.testing.canvas_shapes import fit, shown, steps
from relevo.testing.dispatched import Dispatched
from relevo.testing.records import Records, Where, description, times_text

__tracebackhide__ = True

# Tolerance of a delay that was computed from a date: the test and the dispatch read the clock at
# different moments.
TOLERANCE_SECONDS = 1.0


class DispatchAssertions(Records):
    """Assertions about jobs one by one. `task` is a task or its name."""

    def assert_dispatched(
        self,
        task: Any,
        times: int | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        where: Where | None = None,
    ) -> list[Dispatched]:
        """Dispatched at least once, or exactly `times`. Returns the records that were found."""
        found = self.dispatched(task, args=args, kwargs=kwargs, where=where)
        said = description(self.name_of(task), args, kwargs, where)
        but = f", it was{times_text(len(found))}" if times is not None and found else ""
        self.expect(
            found if times is None else len(found) == times,
            f"{said} to be dispatched{times_text(times)}{but}",
        )
        return found

    def assert_dispatched_once(self, task: Any, **matching: Any) -> Dispatched:
        """Dispatched exactly once. Returns the record."""
        return self.assert_dispatched(task, times=1, **matching)[0]

    def assert_not_dispatched(self, task: Any, **matching: Any) -> None:
        """Not dispatched, or not with these `args`, `kwargs` or `where`."""
        found = self.dispatched(task, **matching)
        said = description(
            self.name_of(task), *(matching.get(name) for name in ("args", "kwargs", "where"))
        )
        self.expect(not found, f"{said} not to be dispatched, it was{times_text(len(found))}")

    def assert_nothing_dispatched(self) -> None:
        """No job of any task was dispatched."""
        self.expect(not self.all(), "nothing to be dispatched")

    def assert_count(self, count: int, task: Any = None) -> None:
        """Exactly `count` jobs were dispatched, of all tasks or of one."""
        found = self.all() if task is None else self.dispatched(task)
        of = "" if task is None else f" of {self.name_of(task)!r}"
        self.expect(len(found) == count, f"{count} jobs{of} to be dispatched, got {len(found)}")

    def assert_dispatched_on(
        self, queue: str, task: Any, times: int | None = None, **matching: Any
    ) -> None:
        """Dispatched on this queue, at least once or exactly `times`."""
        self._some(task, f"on {queue!r}", lambda record: record.queue == queue, times, **matching)

    def assert_not_dispatched_on(self, queue: str, task: Any = None) -> None:
        """No job, or no job of this task, was dispatched on this queue."""
        found = [
            record
            for record in (self.all() if task is None else self.dispatched(task))
            if record.queue == queue
        ]
        what = "nothing" if task is None else f"no {self.name_of(task)!r}"
        self.expect(not found, f"{what} to be dispatched on {queue!r}")

    def assert_dispatched_delayed(
        self,
        task: Any,
        seconds: float | None = None,
        *,
        at: datetime | None = None,
        times: int | None = None,
        **matching: Any,
    ) -> None:
        """Dispatched with a delay: any, of `seconds`, or until `at`."""
        if seconds is not None and at is not None:
            raise OptionError("expected seconds or at, got both")
        said = "delayed" + (
            f" by {seconds:g} s" if seconds is not None else f" to {at}" if at else ""
        )
        self._some(task, said, lambda record: is_delayed(record, seconds, at), times, **matching)

    def assert_not_delayed(self, task: Any, **matching: Any) -> None:
        """Dispatched, and never with a delay."""
        found = self.assert_dispatched(task, **matching)
        late = [record for record in found if record.delay is not None]
        self.expect(not late, f"{self.name_of(task)!r} to be dispatched without a delay")

    def assert_dispatched_with_options(
        self, task: Any, *, times: int | None = None, **options: Any
    ) -> None:
        """Dispatched with these options in the message: `tries`, `backoff`, `timeout`, `priority`,
        `expires` …
        """
        said = "with " + ", ".join(f"{name}={value!r}" for name, value in options.items())
        self._some(task, said, lambda record: _holds(record.options, options), times)

    def assert_dispatched_with_tags(self, task: Any, *tags: str, times: int | None = None) -> None:
        """Dispatched with at least these tags."""
        self._some(
            task, f"with tags {list(tags)!r}", lambda record: set(tags) <= set(record.tags), times
        )

    def assert_dispatched_with_headers(
        self, task: Any, times: int | None = None, **headers: Any
    ) -> None:
        """Dispatched with at least these message headers of the caller."""
        self._some(
            task, f"with headers {headers!r}", lambda record: _holds(record.headers, headers), times
        )

    def assert_dispatched_in_order(self, expected: Iterable[Any]) -> None:
        """Dispatched in this order; other jobs may stand between them.

        A signature matches exactly its arguments.
        """
        parts = [steps(one) for one in expected]
        rest = iter(self.all())
        missing = next(
            (part for part in parts if not any(fit(part, record.steps[:1]) for record in rest)),
            None,
        )
        order = ", ".join(map(shown, parts))
        self.expect(
            missing is None,
            f"this order: {order}; there is no {shown(missing or ())} in its place",
        )

    def _some(
        self,
        task: Any,
        said: str,
        holds: Callable[[Dispatched], object],
        times: int | None,
        **matching: Any,
    ) -> None:
        # The caller's predicate comes last: one about the delay is not called for a job without.
        where = matching.pop("where", None)
        found = [record for record in self.dispatched(task, **matching) if holds(record)]
        found = [record for record in found if where is None or where(record)]
        what = description(self.name_of(task), matching.get("args"), matching.get("kwargs"), where)
        but = f", it was{times_text(len(found))}" if times is not None and found else ""
        enough = found if times is None else len(found) == times
        self.expect(enough, f"{what} to be dispatched {said}{times_text(times)}{but}")


def is_delayed(record: Dispatched, seconds: float | None, at: datetime | None) -> bool:
    """Whether the job has the wanted delay: the same number, or a date within a second of it."""
    if record.delay is None or (seconds is None and at is None):
        return record.delay is not None
    if at is not None:
        return abs(record.available_at - clock.instant(at)) < TOLERANCE_SECONDS
    return record.delay == seconds or (
        record.eta is not None and abs(record.delay - float(seconds or 0)) < TOLERANCE_SECONDS
    )


def _holds(there: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(name in there and there[name] == value for name, value in asked.items())
