"""A batch for one job of a test: the job finds it as `self.batch`, and nothing is stored.

batch = FakeBatch(name="import", total=3)
queue.job(resize, (7,), batch=batch).assert_completed()
batch.assert_added([thumbnail.s(7)])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

from celery.utils import uuid

from relevo import clock
from relevo.batches.batch import Batch
from relevo.errors import BatchError, FakeError
from relevo.store.batch_counts import Kind, Tally
from relevo.store.batches import BatchRow
from relevo.testing.canvas_shapes import Branch, steps

__tracebackhide__ = True


class FakeBatch(Batch):
    """A batch in memory, with these counts. What the job does to it can be asserted."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002
        *,
        name: str = "batch",
        total: int = 1,
        completed: int = 0,
        failed: int = 0,
        cancelled: bool = False,
        allow_failures: bool = False,
    ) -> None:
        tally = Tally(
            kind=Kind.BATCH,
            allow_failures=allow_failures,
            total=total,
            completed=completed,
            failed=failed,
            cancelled_at=clock.now() if cancelled else None,
        )
        row = BatchRow(
            id=id or uuid(),
            name=name,
            connection="",
            queue=None,
            callbacks={},
            created_at=clock.now(),
            tally=tally,
        )
        super().__init__(None, row)
        #: The members that were added, oldest first.
        self.added: list[Any] = []

    def refresh(self) -> Self:
        """Nobody else changes it."""
        return self

    def add(self, members: Iterable[Any]) -> Self:
        """Keep the members. Raises BatchError when it was cancelled."""
        if self.cancelled:
            raise BatchError(f"batch {self.id!r} was cancelled: nothing can be added to it")
        new = list(members)
        self.added += new
        self._change(total=self.total + len(new))
        return self

    def cancel(self) -> Self:
        """Note that it was cancelled."""
        self._change(cancelled_at=self.cancelled_at or clock.now())
        return self

    def retry_failed(self) -> int:
        """Refuse: no job has failed."""
        raise FakeError("a fake batch has no failed jobs to retry")

    def assert_added(self, expected: Iterable[Any]) -> None:
        """Exactly these members were added, in this order. A member may be a list: a chain."""
        parts, found = (Branch(tuple(map(steps, each))) for each in (expected, self.added))
        if not parts.fits(found):
            raise AssertionError(f"expected {parts} to be added to the batch\nadded: {found}")

    def assert_nothing_added(self) -> None:
        """No member was added."""
        self.assert_added([])

    def assert_cancelled(self) -> None:
        """It was cancelled."""
        if not self.cancelled:
            raise AssertionError("expected the batch to be cancelled")

    def assert_not_cancelled(self) -> None:
        """It was not cancelled."""
        if self.cancelled:
            raise AssertionError("expected the batch not to be cancelled")

    def _change(self, **counts: Any) -> None:
        self.row = replace(self.row, tally=replace(self.row.tally, **counts))
