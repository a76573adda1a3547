"""Histograms of wait and run times, with fixed buckets: eight to each power of ten. Pure.

Each bucket ends a third above where it begins. The first is for less than a millisecond, the last
for more than a day. Since the bounds never change, rows of different minutes, workers and versions
can be added up, and a percentile of the sum is right within a sixth of its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

SHORTEST_SECONDS = 0.001
PER_TENFOLD = 8
LAST_BUCKET = 64


def bucket(seconds: float) -> int:
    """Return the bucket of a duration."""
    if seconds < SHORTEST_SECONDS:
        return 0
    return min(LAST_BUCKET, 1 + int(PER_TENFOLD * math.log10(seconds / SHORTEST_SECONDS)))


def middle(number: int) -> float:
    """Return the duration, in seconds, that stands for a bucket: its geometric middle."""
    if number == 0:
        return SHORTEST_SECONDS / 2
    return float(SHORTEST_SECONDS * 10 ** ((number - 0.5) / PER_TENFOLD))


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration that `share` (0 to 1) of the jobs did not exceed; None without jobs."""
    wanted = share * sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if counts[number] and seen >= wanted:
            return middle(number)
    return None
