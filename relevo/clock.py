"""The one place time comes from.

Instants are POSIX seconds (`float`, UTC by definition) inside the engine, so that every database
stores and compares them alike; they become aware `datetime`s where a person or Celery reads them.
Durations are seconds everywhere.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> float:
    """The present instant, in POSIX seconds."""
    return time.time()


def utc(instant: float) -> datetime:
    """An instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(instant, UTC)


def instant(moment: datetime) -> float:
    """A datetime as POSIX seconds; a naive one is taken as UTC, as Celery does with `enable_utc`."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
