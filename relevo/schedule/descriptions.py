"""Describes a schedule to people, and to the store. Pure."""

from __future__ import annotations

from typing import Any

from celery import schedules
from cron_descriptor import Options, get_description

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_STYLE = Options()
_STYLE.use_24hour_time_format = True


def describe(schedule: Any) -> str:
    """Return a sentence like `Every 5 minutes` or `At 04:07 (UTC)`."""
    if type(schedule) is schedules.schedule:
        return _interval(schedule.run_every.total_seconds())
    if type(schedule) is not schedules.crontab:
        return as_text(schedule).strip("<>")
    try:
        text = get_description(cron_fields(schedule), _STYLE)
    except Exception:  # noqa: BLE001  Celery takes fields that other crons don't know
        text = cron_fields(schedule)
    # A timezone says nothing about a schedule of every hour.
    return text if len(schedule.hour) == 24 else f"{text} ({schedule.tz})"  # noqa: PLR2004


def as_text(schedule: Any) -> str:
    """Return the schedule as an exact text, which shows when it has changed."""
    if type(schedule) is schedules.crontab:
        return f"{cron_fields(schedule)} {schedule.tz}"
    if type(schedule) is schedules.schedule:
        return f"every {schedule.run_every.total_seconds():g} s"
    return repr(schedule)


def cron_fields(schedule: Any) -> str:
    """Return the five fields of a crontab."""
    return " ".join(_field(getattr(schedule, f"_orig_{name}")) for name in _FIELDS)


def _field(given: Any) -> str:
    return (
        str(given).replace(" ", "")
        if isinstance(given, (int, str))
        else ",".join(map(str, sorted(given)))
    )


def _interval(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds % size == 0:
            count = int(seconds // size)
            return f"Every {unit}" if count == 1 else f"Every {count} {unit}s"
    return f"Every {seconds:g} seconds"
