"""Metrics as counters: what the minutes add up to since this process first looked, which only ever
grows.

A minute is added for good when it is five minutes old: until then a worker that was slow to write
may add to it. Old minutes are deleted some day; a sum over all there are would go back then, and a
counter must not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from relevo.store import metric_rollups
from relevo.store.metrics import MINUTE_SECONDS, RAN, WAITED, Point
from relevo.store.store import Store

#: Minutes younger than so many seconds are read again each time, and clocks differ by less than
#: LATE.
OPEN_SECONDS, LATE_SECONDS = 5 * MINUTE_SECONDS, 60 * MINUTE_SECONDS
#: The place of a bucket where the sum of the seconds stands.
SECONDS = -1

#: (name, state or measure, bucket) -> jobs.
Sums = Counter[tuple[str, str, int]]


class Counters:
    """The counters of all tasks or queues (`kind`). Not for several threads at once."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._closed: Sums = Counter()
        self._before: Sums | None = None
        self._until = 0

    def read(self, store: Store, now: float) -> Sums:
        """The sums as they are now. Raises DriverError, and has lost nothing then."""
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
    """The counts of some points in one table."""
    sums: Sums = Counter()
    for point in points:
        for state, jobs in point.ended.items():
            sums[point.name, str(state), 0] += jobs
        for measure, histogram in ((WAITED, point.waited), (RAN, point.ran)):
            for bucket, jobs in histogram.items():
                sums[point.name, measure, bucket] += jobs
            if measure in point.seconds:
                # a sum of times
                sums[point.name, measure, SECONDS] += point.seconds[measure]  # type: ignore[assignment]
    return sums
