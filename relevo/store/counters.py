"""Metrics as counters: sums of the minutes since this process began to read. They only ever grow.

A minute is added for good when it is five minutes old, because until then a slow worker may add to
it. The sums are kept in memory: old minutes are deleted from the store, and a counter must not go
back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from relevo.store import metric_rollups
from relevo.store.metrics import MINUTE_SECONDS, RAN, WAITED, Point
from relevo.store.store import Store

#: Minutes younger than OPEN_SECONDS are read anew each time. A worker's clock may be ahead by
#: LATE_SECONDS.
OPEN_SECONDS, LATE_SECONDS = 5 * MINUTE_SECONDS, 60 * MINUTE_SECONDS
#: The number of the "bucket" that holds the sum of the seconds.
SECONDS = -1

#: (name, state or measure, bucket) -> jobs.
Sums = Counter[tuple[str, str, int]]


class Counters:
    """The counters of all tasks or all queues (`kind`). Not for several threads at once."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._closed: Sums = Counter()
        self._before: Sums | None = None
        self._until = 0

    def read(self, store: Store, now: float) -> Sums:
        """Return the current sums. Raises DriverError, and then has lost nothing."""
        until = int(now) // MINUTE_SECONDS * MINUTE_SECONDS - OPEN_SECONDS
        if self._before is None:
            self._until, self._before = until, self._sums(store, until, now + LATE_SECONDS)
        if until > self._until:
            self._closed.update(self._sums(store, self._until, until))
            self._until = until
        total = Counter(self._closed)
        total.update(self._sums(store, self._until, now + LATE_SECONDS))
        total.subtract(self._before)
        return +total

    def _sums(self, store: Store, since: float, until: float) -> Sums:
        return sums_of(metric_rollups.totals(store, self._kind, since, until))


def sums_of(points: Iterable[Point]) -> Sums:
    """Return the counts of some points in one table."""
    sums: Sums = Counter()
    for point in points:
        for state, jobs in point.ended.items():
            sums[point.name, str(state), 0] += jobs
        for measure, histogram in ((WAITED, point.waited), (RAN, point.ran)):
            for bucket, jobs in histogram.items():
                sums[point.name, measure, bucket] += jobs
            if measure in point.seconds:
                # A sum of times is a float, while the others are counts.
                sums[point.name, measure, SECONDS] += point.seconds[measure]  # type: ignore[assignment]
    return sums
