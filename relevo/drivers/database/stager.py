"""When something comes due by itself: a delayed job, the end of a lease or of a pause.

Nothing runs in a database of its own accord, so whoever reserves moves what is due first: under
load at most every SWEEP seconds, and at once when a look has told that the time has come.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from relevo.drivers.database import jobs
from relevo.drivers.database.dialects import Dialect

# Under load, how often a reservation also moves what has come due, in seconds. An idle worker knows
# when that is.
SWEEP = 0.25


class Stager:
    """What this process knows of the next instant at which something comes due."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._swept = float("-inf")
        self.next = float("-inf")

    def is_due(self, now: float) -> bool:
        return now >= self.next or now - self._swept >= SWEEP

    def has_work(self, connection: Connection, queues: Sequence[str], now: float) -> bool:
        """Whether a reservation from `queues` is worth a try. Takes no lock."""
        pending, self.next = jobs.pending_and_next_due(connection, queues, now)
        return pending or self.next <= now

    def refresh(self, connection: Connection, now: float) -> None:
        """Find out when something comes due next."""
        self.next = jobs.next_due(connection, now)

    def postpone(self, now: float) -> None:
        """The queues were empty a moment ago: unless something is due, there is nothing to move."""
        if self.next > now:
            self._swept = now

    def stage(self, connection: Connection, now: float) -> None:
        moved = (
            jobs.stage(connection, self._dialect, now),
            jobs.rescue(connection, self._dialect, now),
        )
        self._swept = now
        # A full batch may have left some; otherwise the next look tells when something is due
        # again.
        self.next = now if jobs.BATCH in moved else float("inf")
