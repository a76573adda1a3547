"""When a schedule is due: the same for every beat, through leap days and changes of the clocks."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, schedules
from celery.schedules import crontab

from relevo import clock
from relevo.errors import OptionError
from relevo.schedule import descriptions
from relevo.schedule.ticks import CustomSchedule, ticks_of
from tests.support.clockwork import at

BERLIN = ZoneInfo("Europe/Berlin")


def cron(zone: str = "UTC", **fields):
    made = crontab(**fields)
    made.app = Celery(set_as_current=False, timezone=zone)
    return made


def following(schedule, instant: float, count: int) -> list[str]:
    ticks, found = ticks_of(schedule), []
    for _ in range(count):
        instant = ticks.after(instant)
        found.append(clock.utc(instant).astimezone(BERLIN).strftime("%d %H:%M%z")[:-2])
    return found


def test_an_interval_is_due_at_its_multiples_whenever_it_is_asked():
    ticks = ticks_of(schedules.schedule(timedelta(minutes=5)))
    assert ticks.after(at("03-01 12:01")) == ticks.after(at("03-01 12:04:59")) == at("03-01 12:05")
    assert ticks.after(at("03-01 12:05")) == at("03-01 12:10")
    assert ticks.until(at("03-01 12:05"), at("03-01 12:20"), 10) == [
        at(f"03-01 12:{m}") for m in (10, 15, 20)
    ]
    assert ticks.until(at("03-01 00:00"), at("03-01 12:21"), 2) == [
        at("03-01 12:15"),
        at("03-01 12:20"),
    ]


def test_a_fractional_interval_leaves_no_tick_out():
    ticks, instant = ticks_of(schedules.schedule(0.3)), at("03-01 12:00")
    for _ in range(1000):
        following_one = ticks.after(instant)
        assert 0.29 < following_one - instant < 0.31 or instant == at("03-01 12:00")
        instant = following_one


@pytest.mark.parametrize(
    ("fields", "night", "expected"),
    [
        ({"minute": 30, "hour": 2}, "03-28 22:00", ["29 03:30+02", "30 02:30+02"]),
        ({"minute": 30, "hour": 2}, "10-24 22:00", ["25 02:30+02", "26 02:30+01"]),
        ({"minute": "*/30"}, "03-29 00:00", ["29 01:30+01", "29 03:00+02", "29 03:30+02"]),
        ({"minute": 0}, "10-24 23:30", ["25 02:00+02", "25 02:00+01", "25 03:00+01"]),
        ({"minute": 0, "hour": "*/2"}, "03-29 00:30", ["29 03:00+02", "29 04:00+02"]),
    ],
    ids=[
        "a time that does not exist",
        "one that comes twice",
        "every half hour, forward",
        "every hour, back",
        "gap",
    ],
)
def test_when_the_clocks_change_no_tick_is_left_out_or_comes_twice(fields, night, expected):
    assert following(cron("Europe/Berlin", **fields), at(night), len(expected)) == expected


def test_a_crontab_in_utc_has_celerys_ticks_however_it_is_asked():
    chance = random.Random(7)
    for _ in range(50):
        made = cron(
            minute=chance.choice(["*", "*/7", "3,40", 5]),
            hour=chance.choice(["*", "*/5", 3, "8-17"]),
            day_of_week=chance.choice(["*", "mon-fri", 0]),
            day_of_month=chance.choice(["*", "1-7", 31]),
        )
        ticks, begin = ticks_of(made), chance.uniform(1.7e9, 1.8e9)
        assert ticks.after(begin) == pytest.approx(CustomSchedule(made).after(begin), abs=0.01), (
            made
        )
        chain = [begin]
        for _ in range(5):
            chain.append(ticks.after(chain[-1]))
        assert ticks.until(begin, chain[-1] + 0.5, 9) == chain[1:], made
        assert ticks.until(begin, chain[-1] + 0.5, 2) == chain[-2:], made


def test_a_day_that_a_timezone_skips_has_no_tick_twice():
    ticks = ticks_of(
        cron("Pacific/Apia", minute=0, hour="0,12")
    )  # Samoa had no 30th of December in 2011
    begin = datetime(2011, 12, 29, 9, tzinfo=UTC).timestamp()
    chain = [ticks.after(begin)]
    for _ in range(4):
        chain.append(ticks.after(chain[-1]))
    assert ticks.until(begin, chain[-1], 9) == chain
    assert ticks.until(begin, chain[-1], 3) == chain[-3:]


def test_a_leap_day_is_waited_for():
    day = ticks_of(cron(minute=0, hour=0, day_of_month=29, month_of_year=2)).after(
        at("03-01 00:00")
    )
    assert clock.utc(day).isoformat() == "2028-02-29T00:00:00+00:00"


class Odd(schedules.BaseSchedule):
    """A custom schedule: each hour at a minute past, asked as solar() is."""

    says = 3660.0

    def is_due(self, last_run_at):
        assert self.now() == last_run_at
        return schedules.schedstate(False, self.says)


def test_a_custom_schedule_is_asked_from_tick_to_tick():
    ticks = ticks_of(Odd())
    assert ticks.after(1000.0) == 4660.0
    assert ticks.until(1000.0, 9000.0, 10) == [4660.0, 8320.0]
    assert ticks.until(1000.0, 9000.0, 1) == [8320.0]


class Daily(schedules.schedule):
    """A custom schedule with arguments that Celery's `__reduce__` doesn't know."""

    def __init__(self, hour):
        super().__init__(timedelta(days=1))
        self.hour = hour

    def is_due(self, last_run_at):
        return schedules.schedstate(
            False, (self.hour * 3600 - last_run_at.timestamp()) % 86_400 or 86_400
        )


def test_a_custom_schedule_keeps_its_own_attributes():
    assert ticks_of(Daily(7)).until(0.0, 3 * 86_400.0, 9) == [
        (24 * day + 7) * 3600.0 for day in range(3)
    ]


class Noon(schedules.solar):
    """A sun event at each full hour. Like ephem it returns an event again, slightly later."""

    def __init__(self, late):
        self.late = late
        super(schedules.solar, self).__init__()

    def is_due(self, last_run_at):
        since = last_run_at.timestamp() % 3600
        return schedules.schedstate(False, self.late - since if since < self.late else 3600 - since)


@pytest.mark.parametrize("late", [0.0003, 0.1])
def test_an_event_of_the_sun_is_one_tick_however_often_it_is_returned(late):
    ticks, chain = ticks_of(Noon(late)), [3600.0 * 100]
    for _ in range(4):
        chain.append(ticks.after(chain[-1]))
    assert chain == [3600.0 * hour for hour in range(100, 105)]
    assert ticks.until(chain[0], chain[-1], 9) == chain[1:]


@pytest.mark.parametrize("says", [0, -1, None, float("inf"), float("nan")])
def test_a_custom_schedule_without_a_next_tick_is_an_error(says):
    odd = Odd()
    odd.says = says
    with pytest.raises(OptionError, match="to say when it is next due"):
        ticks_of(odd).after(1000.0)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (cron(minute=7, hour=4), "At 04:07 (UTC)"),
        (cron(minute="*/15"), "Every 15 minutes"),
        (cron(minute={5, 35}), "At 5 and 35 minutes past the hour"),
        (schedules.schedule(86_400), "Every day"),
        (schedules.schedule(90), "Every 90 seconds"),
        (schedules.schedule(7200), "Every 2 hours"),
        (schedules.schedule(0.5), "Every 0.5 seconds"),
    ],
)
def test_a_schedule_is_described_in_words(schedule, words):
    assert descriptions.describe(schedule) == words
