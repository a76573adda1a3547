"""The gate before the pool: what jobs need before they are handed over, beyond a free place.

A worker makes one (`maker`) where its tasks have something to ask for; it stands between the
intake, which hands over what may start, and the ledger, which says which jobs are here no longer.
This one is open: all may start, it costs nothing. `relevo/worker/permits.py` has the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from relevo.drivers.contract import Driver, ReservedJob


class Gate:
    """An open gate. Any thread may call any method."""

    def enter(self, jobs: Sequence[ReservedJob]) -> None:
        """These were reserved and are to be handed over."""

    def next(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:  # noqa: ARG002
        """Take the first job out that may be handed over now, if any may. `idle`: a place of the
        pool is free.
        """
        return jobs.popleft() if jobs else None

    def permit_of(self, token: str) -> str | None:  # noqa: ARG002
        """The key of the permit that the job of this lease has been given, if it has been given
        one.
        """
        return None

    def ended(self, token: str) -> None:
        """The body of this job has ended, and its process says so; its lease is still held."""

    def left(self, token: str) -> None:
        """The job is here no longer, or its lease is another's."""

    def write(self) -> bool:
        """Tell the broker what was given to whom: before leases end. Returns False when it can't be
        told now.
        """
        return True


#: The tasks whose jobs give back a key that they hold until they start by themselves, behind their
#: limits.
late: Collection[str] = frozenset()
#: Makes the gates of this process, if it is a worker that needs any.
maker: Callable[[Driver], Gate] | None = None
