"""Stages what comes due by itself: delayed jobs, and jobs whose lease has ended.

Nothing runs in a database by itself, so a reservation first moves these jobs to pending: under load
at most every SWEEP_SECONDS, and at once when a query has told that something is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from relevo.drivers.database import jobs
from relevo.drivers.database.dialects import Dialect

# Under load a reservation stages due jobs this often. An idle worker knows when the next is due.
SWEEP_SECONDS = 0.25


class Stager:
    """Stages due jobs. `next`: the instant at which the next one comes due, as far as known."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._swept = float("-inf")
        self.next = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether the next reservation should stage due jobs."""
        return now >= self.next or now - self._swept >= SWEEP_SECONDS

    def has_work(self, connection: Connection, queues: Sequence[str], now: float) -> bool:
        """Whether a reservation from `queues` may find a job. Takes no lock."""
        pending, self.next = jobs.pending_and_next_due(connection, queues, now)
        return pending or self.next <= now

    def refresh(self, connection: Connection, now: float) -> None:
        """Ask the database when something comes due next."""
        self.next = jobs.next_due(connection, now)

    def postpone(self, now: float) -> None:
        """Skip a sweep, because the last query found nothing due."""
        if self.next > now:
            self._swept = now

    def stage(self, connection: Connection, now: float) -> None:
        """Move at most a batch of delayed and a batch of rescued jobs to pending."""
        staged = (
            jobs.stage(connection, self._dialect, now),
            jobs.rescue(connection, self._dialect, now),
        )
        self._swept = now
        # A full batch may have left some. Otherwise the next query tells when more is due.
        self.next = now if jobs.BATCH in staged else float("inf")
