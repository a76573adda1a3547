"""Admission: what a job needs, beyond a free place in the pool, before it is handed over.

The fetcher asks the admission which reserved job may start. The lease keeper tells it which jobs
have left this process. This class admits every job at once and costs nothing. A worker whose tasks
need permits uses `relevo/worker/permits.py` instead (`WorkerContext.make_admission`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from relevo.drivers.contract import ReservedJob


class Admission:
    """Admits every job. Any thread may call any method."""

    def admit(self, jobs: Sequence[ReservedJob]) -> None:
        """Note that these jobs were reserved and wait to be handed over."""

    def next(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:  # noqa: ARG002
        """Remove and return the first job that may be handed over now, or None.

        `idle`: the pool has a free place.
        """
        return jobs.popleft() if jobs else None

    def permit_of(self, token: str) -> str | None:  # noqa: ARG002
        """Return the key of the permit that the job with this lease has, or None."""
        return None

    def body_ended(self, token: str) -> None:
        """Note that the body of this job has ended. Its lease is still held."""

    def removed(self, token: str) -> None:
        """Note that this process no longer has the job, or no longer holds its lease."""

    def flush(self) -> bool:
        """Tell the broker which permits were given to which jobs. Called before leases end.

        Returns False when the broker is away.
        """
        return True
