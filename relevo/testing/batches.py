"""Assertions about batches. A fake records a batch with its members and callbacks; none of them is
put into a queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from relevo import clock
from relevo.batches.batch import NewBatch
from relevo.batches.member_jobs import as_member
from relevo.dispatch import transactions
from relevo.store.batch_counts import Tally
from relevo.store.batches import BatchRow
from relevo.testing.canvas_shapes import Branch, Steps, shown, steps
from relevo.testing.groups import GroupAssertions

__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class DispatchedBatch:
    """A batch as it was dispatched. `callbacks`: the steps of each given callback, by its name
    (`then`, `catch` …).
    """

    id: str
    name: str
    members: tuple[Steps, ...]
    callbacks: dict[str, tuple[Steps, ...]]
    allow_failures: bool
    queue: str | None
    connection: str | None

    def __str__(self) -> str:
        return f"{self.name or 'a batch'} of {Branch(self.members)}{callbacks_text(self.callbacks)}"


class BatchAssertions(GroupAssertions, ABC):
    """Assertions about batches."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._batches: list[DispatchedBatch] = []

    def batches(self) -> list[DispatchedBatch]:
        """Every batch that was dispatched, oldest first."""
        with self._lock:
            return list(self._batches)

    def assert_batched(
        self,
        expected: Iterable[Any] | None = None,
        *,
        name: str | None = None,
        times: int | None = None,
        where: Callable[[DispatchedBatch], object] | None = None,
    ) -> None:
        """A batch of exactly these members was dispatched, or exactly `times` such batches.

        A member may be a list: a chain.
        """
        parts = None if expected is None else self._branch(expected)
        found = [
            batch
            for batch in self.batches()
            if (parts is None or parts.fits(Branch(batch.members)))
            and (name is None or batch.name == name)
            and (where is None or where(batch))
        ]
        said = f"a batch{f' named {name!r}' if name else ''}{f' of {parts}' if parts else ''}"
        said += " where the predicate is true" if where else ""
        said += (
            f" to be dispatched{f' {times} times, got {len(found)}' if times is not None else ''}"
        )
        self._expect_batches(found if times is None else len(found) == times, said)

    def assert_batch_count(self, count: int) -> None:
        """Exactly `count` batches were dispatched."""
        found = len(self.batches())
        self._expect_batches(found == count, f"{count} batches to be dispatched, got {found}")

    def assert_nothing_batched(self) -> None:
        """No batch was dispatched."""
        self._expect_batches(not self.batches(), "no batch to be dispatched")

    def keep_batch(
        self, new: NewBatch, members: list[Any], id_: str, session: Any = None
    ) -> BatchRow:
        """Record a batch (in a session: when that commits). Return it as it would be once sent."""
        batch = DispatchedBatch(
            id_,
            new.called,
            tuple(map(steps, members)),
            callbacks_of(new),
            new.failures_allowed,
            new.queue,
            new.connection,
        )
        record_dispatch(self._batches, batch, session)
        return build_row(new, id_, Tally(total=len(members), allow_failures=new.failures_allowed))

    def takes_batch(self, members: Iterable[Any]) -> bool:
        """Whether the fake takes the jobs of every member of a batch."""
        return all(self.takes(task) for member in members for task in _tasks(member))

    @abstractmethod
    def takes(self, name: str) -> bool:
        """Whether jobs of this task are taken."""

    def _expect_batches(self, holds: object, expected: str) -> None:
        if not holds:
            listed = "".join(
                f"\n  {number}. {batch}" for number, batch in enumerate(self.batches(), 1)
            )
            said = f"batches:{listed}" if listed else "no batch was dispatched"
            raise AssertionError(f"expected {expected}\n{said}")


def callbacks_of(new: Any) -> dict[str, tuple[Steps, ...]]:
    """The steps of each callback of a batch or a chain that is being built."""
    return {
        callback.value: tuple(map(steps, signatures))
        for callback, signatures in new.callbacks.items()
    }


def callbacks_text(callbacks: dict[str, tuple[Steps, ...]]) -> str:
    """The callbacks as text, to stand after the batch or chain that they belong to."""
    return "".join(f", {name}: {', '.join(map(shown, calls))}" for name, calls in callbacks.items())


def record_dispatch(where: list[Any], what: Any, session: Any) -> None:
    """Record a dispatch: now, or, if it was dispatched in a session, when that commits."""
    if session is None:
        where.append(what)
    else:
        transactions.after_commit(session, lambda: where.append(what))


def build_row(new: Any, id_: str, tally: Tally) -> BatchRow:
    """The row of a batch or a chain as it would be once sent."""
    return BatchRow(
        id=id_,
        name=new.called or tally.kind.value,
        connection=new.connection or "",
        queue=new.queue,
        callbacks={},
        created_at=clock.now(),
        tally=tally,
    )


def checked_members(new: NewBatch) -> list[Any]:
    """The members of a batch, checked as a dispatch checks them. Raises OptionError."""
    return [as_member(new.app, member) for member in new.members]


def _tasks(member: Any) -> list[str]:
    return [link["task"] for link in getattr(member, "tasks", None) or [member]]
