"""Says when a schedule is due. Pure: the ticks follow from the schedule alone, so all beats agree.

    an interval    its whole multiples since 1970-01-01 UTC: every 300 s is at :00, :05, :10 …
    a crontab      in the app's timezone. When clocks go forward, a time that doesn't exist falls as
                   long after the gap (02:30 is 03:30, RFC 5545). When they go back, a time that
                   comes twice is due the first time. A crontab of every hour counts the hours that
                   pass: none twice, none left out
    any other      (solar, your own) what the schedule itself says, asked from the last tick on

Instants are POSIX seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from typing import Any, Protocol

from celery import schedules

from relevo import clock
from relevo.errors import OptionError

#: The shortest interval, in seconds.
SHORTEST_SECONDS = 0.1
#: No calendar has a day after this instant, so a later tick counts as never.
LAST_INSTANT = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
# An earlier instant counts as this one. Both are a year from the calendar's ends, so that the day
# before and the day after are days too, in every time zone.
FIRST_INSTANT = datetime(2, 1, 1, tzinfo=UTC).timestamp()
_LAST_DAY = date(9999, 1, 2).toordinal()
# Instants nearer than this are the same: a database may return an instant slightly changed.
SAME_SECONDS = 0.0005
# Two events of the sun are further apart than this.
SUN_SECONDS = 1.0
# A Monday, 29 February, comes once in 28 years, and in 40 around a century without a leap year.
MOST_DAYS = 366 * 41
# The most ticks that one call asks of a custom schedule.
MOST_STEPS = 10_000
_EVERY_HOUR = 24


class Ticks(Protocol):
    """The instants at which a schedule is due."""

    def after(self, instant: float) -> float | None:
        """The first tick after an instant, or None."""

    def until(self, since: float, now: float, most: int) -> list[float]:
        """The latest ticks after `since` and up to `now`, oldest first, at most `most`."""


def ticks_of(schedule: Any) -> Ticks:
    """Return the ticks of one of Celery's schedules. Raises OptionError for a wrong one."""
    if type(schedule) is schedules.schedule:
        return Interval(schedule.run_every.total_seconds())
    if type(schedule) is schedules.crontab:
        return Crontab(schedule, schedule.tz)
    return CustomSchedule(schedule)


class Interval:
    """The ticks of an interval."""

    def __init__(self, seconds: float) -> None:
        if seconds < SHORTEST_SECONDS:
            raise OptionError(
                f"expected an interval of at least {SHORTEST_SECONDS:g} s, got {seconds:g}"
            )
        self.seconds = seconds

    def after(self, instant: float) -> float | None:
        if (instant := _in_calendar(instant)) >= LAST_INSTANT:
            return None
        number = math.floor(instant / self.seconds) + 1
        while number * self.seconds <= instant + SAME_SECONDS:
            number += 1
        return number * self.seconds

    def until(self, since: float, now: float, most: int) -> list[float]:
        since, now = _in_calendar(since), _in_calendar(now)
        last = math.floor((now + SAME_SECONDS) / self.seconds)
        first = max(math.floor(since / self.seconds), last - most + 1)
        return [
            tick
            for number in range(first, last + 1)
            if (tick := number * self.seconds) > since + SAME_SECONDS
        ]


class Crontab:
    """The ticks of a crontab in a timezone."""

    def __init__(self, cron: Any, zone: tzinfo) -> None:
        self.cron, self.zone = cron, zone
        self._times = (frozenset(cron.hour), frozenset(cron.minute), zone)

    def after(self, instant: float) -> float | None:
        first = self._day(instant) - 1
        for day in range(first, min(first + MOST_DAYS, _LAST_DAY)):
            found = self._of_day(day)
            at = bisect_right(found, instant + SAME_SECONDS)
            if at < len(found):
                return found[at]
        return None

    def until(self, since: float, now: float, most: int) -> list[float]:
        # A set: a time in a gap at midnight may also be a tick of the next day.
        found: set[float] = set()
        last = self._day(now) + 1
        for day in range(last, max(self._day(since) - 1, last - MOST_DAYS) - 1, -1):
            found.update(
                tick
                for tick in self._of_day(day)
                if since + SAME_SECONDS < tick <= now + SAME_SECONDS
            )
            if len(found) >= most:
                break
        return sorted(found)[-most:]

    def _day(self, instant: float) -> int:
        return clock.utc(_in_calendar(instant)).astimezone(self.zone).toordinal()

    def _of_day(self, ordinal: int) -> Sequence[float]:
        day = date.fromordinal(ordinal)
        fits = (
            day.month in self.cron.month_of_year
            and day.day in self.cron.day_of_month
            and day.isoweekday() % 7 in self.cron.day_of_week
        )
        return _instants(ordinal, *self._times) if fits else ()


def _in_calendar(instant: float) -> float:
    """The instant, or the end of the calendar that it lies beyond. A store holds any number."""
    return max(FIRST_INSTANT, min(LAST_INSTANT, instant))


@lru_cache(maxsize=1024)
def _instants(
    ordinal: int, hours: frozenset[int], minutes: frozenset[int], zone: tzinfo
) -> tuple[float, ...]:
    """Return the ticks of a local day, in order."""
    day, found = date.fromordinal(ordinal), set()
    for hour in hours:
        for minute in minutes:
            local = datetime.combine(day, time(hour, minute), zone)
            if len(hours) < _EVERY_HOUR:
                found.add(local.timestamp())
            else:
                found.update(
                    each.timestamp() for each in (local, local.replace(fold=1)) if _exists(each)
                )
    return tuple(sorted(found))


def _exists(local: datetime) -> bool:
    again = clock.utc(local.timestamp()).astimezone(local.tzinfo)
    return again.replace(tzinfo=None) == local.replace(tzinfo=None, fold=again.fold)


class CustomSchedule:
    """The ticks of a schedule that only says how long it is until its next tick.

    Asked at a tick it may return the same tick again, slightly later: instants are rounded to the
    millisecond, and the time of a sunset varies by up to 0.1 s from one call to the next. So a tick
    that is too near counts as the same one.
    """

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self._apart = (
            SUN_SECONDS
            if isinstance(schedule, schedules.solar)
            else SHORTEST_SECONDS - SAME_SECONDS
        )

    def after(self, instant: float) -> float | None:
        if (instant := _in_calendar(instant)) >= LAST_INSTANT:
            return None
        at = self._next_due(instant)
        return at if at - instant > self._apart else self._next_due(instant + self._apart)

    def _next_due(self, instant: float) -> float:
        moment, asked = clock.utc(instant), object.__new__(type(self.schedule))
        asked.__dict__.update(vars(self.schedule))  # Celery's `copy` would lose own attributes
        asked.nowfun = lambda: moment
        seconds = asked.is_due(moment)[1]
        if isinstance(seconds, (int, float)) and 0 < seconds < math.inf:
            return round(instant + seconds, 3)
        raise OptionError(f"expected {self.schedule!r} to say when it is next due, got {seconds!r}")

    def until(self, since: float, now: float, most: int) -> list[float]:
        found: deque[float] = deque(maxlen=most)
        at = self.after(since)
        for _ in range(MOST_STEPS):
            if at is None or at > now + SAME_SECONDS:
                break
            found.append(at)
            at = self.after(at)
        return list(found)
