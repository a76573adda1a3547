"""The clock: every module takes the time from here, so that a test can set it.

An instant is a `float` of POSIX seconds (UTC by definition), so that every database stores and
compares it alike. It becomes an aware `datetime` where a person or Celery reads it. Durations are
seconds.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

# The calendar of `datetime` ends with the year 9999. The last float before its end is 31 us early.
_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
LAST = math.nextafter(datetime(9999, 12, 31, tzinfo=UTC).timestamp() + 86_400, 0)


def now() -> float:
    """The current instant, in POSIX seconds."""
    return time.time()


def utc(instant: float) -> datetime:
    """Convert an instant to an aware datetime in UTC. Never raises.

    An instant beyond the calendar becomes the calendar's first or last one, and NaN the last one:
    a broker or a store takes any number, and one job with a strange time must not hide the others.
    """
    if not _FIRST <= instant <= LAST:
        instant = _FIRST if instant < _FIRST else LAST
    return datetime.fromtimestamp(instant, UTC)


def instant(moment: datetime) -> float:
    """Convert a datetime to POSIX seconds. A naive one counts as UTC, as with `enable_utc`."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
