"""An instant becomes a date, whatever number it is."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relevo import clock
from tests.support.hostile_instants import instants

BOUNDS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@given(instants())
@example(math.nan)
@example(10**400)
@example(-(10**400))
def test_any_number_becomes_a_date(instant):
    date = clock.utc(instant)
    assert BOUNDS[0] <= date <= BOUNDS[1]
    assert date.tzinfo is UTC
    assert date.isoformat()


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_date_of_the_calendar_stays_as_it_is(moment):
    again = clock.utc(clock.instant(moment))
    # A float of POSIX seconds has steps of 31 us at the end of the calendar.
    assert abs(again - moment) <= timedelta(microseconds=40)


@given(st.datetimes(), st.integers(-23, 23))
def test_a_date_of_any_time_zone_is_an_instant(moment, hours):
    instant = clock.instant(moment.replace(tzinfo=timezone(timedelta(hours=hours))))
    assert math.isfinite(instant)
    assert clock.utc(instant)


@pytest.mark.parametrize(("instant", "bound"), [(-math.inf, 0), (math.inf, 1), (math.nan, 1)])
def test_what_is_beyond_the_calendar_becomes_its_end(instant, bound):
    assert abs(clock.utc(instant) - BOUNDS[bound]) < timedelta(seconds=1)
