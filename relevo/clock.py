"""The clock: every module takes the time from here, so that a test can set it.

An instant is a `float` of POSIX seconds (UTC by definition), so that every database stores and
compares it alike. It becomes an aware `datetime` where a person or Celery reads it. Durations are
seconds.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> float:
    """The current instant, in POSIX seconds."""
    return time.time()


def utc(instant: float) -> datetime:
    """Convert an instant to an aware datetime in UTC."""
    return datetime.fromtimestamp(instant, UTC)


def instant(moment: datetime) -> float:
    """Convert a datetime to POSIX seconds. A naive one counts as UTC, as with `enable_utc`."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
