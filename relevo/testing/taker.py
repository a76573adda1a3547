"""What `interception` needs of a fake: whether it takes a job, and how it records one.

The only implementation is in `relevo/testing/fake_queue.py`. The protocol opens the import circle:
fake_queue -> interception -> taker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from celery.canvas import Signature

from relevo.batches.batch import NewBatch
from relevo.batches.chain import NewChain
from relevo.store.batches import BatchRow
from relevo.testing.dispatched import Dispatched


class Taker(Protocol):
    """Takes the jobs of some tasks of an app, or of all, in the broker's place."""

    app: Any

    @property
    def takes_all(self) -> bool:
        """Whether jobs of every task are taken."""

    def takes(self, name: str) -> bool:
        """Whether jobs of this task are taken."""

    def keep(self, record: Dispatched) -> None:
        """Record a job."""

    def takes_batch(self, members: Iterable[Any]) -> bool:
        """Whether the jobs of every member of a batch are taken."""

    def keep_batch(
        self, new: NewBatch, members: list[Any], id_: str, session: Any = None
    ) -> BatchRow:
        """Record a batch."""

    def keep_chain(
        self, new: NewChain, links: list[Signature], id_: str, session: Any = None
    ) -> BatchRow:
        """Record a chain of `app.chain`."""
