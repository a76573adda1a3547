"""Assertions about batches: a fake takes one whole, its members and its callbacks, and puts nothing
anywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from relevo import clock
from relevo.batches.batch import NewBatch
from relevo.batches.member_jobs import member_of
from relevo.dispatch import transactions
from relevo.store.batch_counts import Tally
from relevo.store.batches import BatchRow
from relevo.testing.canvas_shapes import Fork, Steps, shown, steps
from relevo.testing.groups import GroupAssertions

__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class DispatchedBatch:
    """A batch as it was dispatched. `callbacks`: then, catch, … -> the steps of each that was
    given.
    """

    id: str
    name: str
    members: tuple[Steps, ...]
    callbacks: dict[str, tuple[Steps, ...]]
    allow_failures: bool
    queue: str | None
    connection: str | None

    def __str__(self) -> str:
        return f"{self.name or 'a batch'} of {Fork(self.members)}{with_callbacks(self.callbacks)}"


class BatchAssertions(GroupAssertions, ABC):
    """What can be said of batches."""

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
        """A batch of exactly these members was dispatched (so often). A member may be a list: a
        chain.
        """
        parts = None if expected is None else self._fork(expected)
        found = [
            batch
            for batch in self.batches()
            if (parts is None or parts.fits(Fork(batch.members)))
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
        """So many batches."""
        found = len(self.batches())
        self._expect_batches(found == count, f"{count} batches to be dispatched, got {found}")

    def assert_nothing_batched(self) -> None:
        """No batch at all."""
        self._expect_batches(not self.batches(), "no batch to be dispatched")

    def keep_batch(
        self, new: NewBatch, members: list[Any], id_: str, session: Any = None
    ) -> BatchRow:
        """Note a batch (with a session, when that commits). Returns it as it would be once it is
        sent.
        """
        batch = DispatchedBatch(
            id_,
            new.called,
            tuple(map(steps, members)),
            callbacks_of(new),
            new.failures_allowed,
            new.queue,
            new.connection,
        )
        note(self._batches, batch, session)
        return row_of(new, id_, Tally(total=len(members), allow_failures=new.failures_allowed))

    def takes_batch(self, members: Iterable[Any]) -> bool:
        """Whether every member of a batch is one of this fake's."""
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
    """The steps of each callback of a batch or a chain in the making."""
    return {
        callback.value: tuple(map(steps, signatures))
        for callback, signatures in new.callbacks.items()
    }


def with_callbacks(callbacks: dict[str, tuple[Steps, ...]]) -> str:
    """What is said of them behind what they belong to."""
    return "".join(f", {name}: {', '.join(map(shown, calls))}" for name, calls in callbacks.items())


def note(where: list[Any], what: Any, session: Any) -> None:
    """Note what was dispatched: now, or when the session commits that it was dispatched in."""
    if session is None:
        where.append(what)
    else:
        transactions.after_commit(session, lambda: where.append(what))


def row_of(new: Any, id_: str, tally: Tally) -> BatchRow:
    """A batch or a chain as it would be once it is sent."""
    return BatchRow(
        id=id_,
        name=new.called or tally.kind.value,
        connection=new.connection or "",
        queue=new.queue,
        callbacks={},
        created_at=clock.now(),
        tally=tally,
    )


def read(new: NewBatch) -> list[Any]:
    """The members of a batch, checked as a dispatch checks them. Raises OptionError."""
    return [member_of(new.app, member) for member in new.members]


def _tasks(member: Any) -> list[str]:
    return [link["task"] for link in getattr(member, "tasks", None) or [member]]
