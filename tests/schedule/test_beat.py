"""One run per tick, however many beats run or die; and the rules for missed ticks."""

from __future__ import annotations

import threading

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from relevo.dispatch.delivery import delivery_of
from relevo.drivers import message_codec
from relevo.errors import DriverUnavailableError
from relevo.schedule import claim, operations
from relevo.store import outbox, schedules
from tests.support.clockwork import Clockwork, at
from tests.support.waits import LONG, eventually

EVERY_MINUTE = {"each": {"task": "shop.count", "schedule": crontab()}}


def hourly(**options):
    return {"hourly": {"task": "shop.count", "schedule": crontab(minute=0), **options}}


# --- one run a tick -------------------------------------------------------------------------------
def test_beats_side_by_side_run_each_tick_once(work):
    beats = [
        work.beat(rapid={"task": "shop.count", "schedule": 10.0}, **EVERY_MINUTE) for _ in range(3)
    ]
    start, first = work.clock.time, threading.Barrier(len(beats))
    wrong = []

    def go(beat):
        try:
            for second in range(10, 130, 10):
                first.wait(LONG)
                work.clock.time = start + second
                first.wait(LONG)
                beat.tick()
        except BaseException as error:
            wrong.append(error)
            first.abort()
            raise

    threads = [threading.Thread(target=go, args=(beat,)) for beat in beats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert wrong == []
    assert work.ticks("each") == ["12:01:00", "12:02:00"]
    assert work.ticks("rapid") == [f"12:{at // 60:02}:{at % 60:02}" for at in range(40, 160, 10)]
    runs = work.runs()
    assert len({run.job_id for run in runs}) == len(runs)
    assert work.jobs() == sorted(run.job_id for run in runs)


def test_a_beat_begins_with_the_next_tick_and_a_second_one_changes_nothing(work):
    beat = work.beat(**hourly())
    assert work.ticks() == []
    work.to("03-01 12:59:59", beat)
    late = work.beat(**hourly())
    work.to("03-01 13:00", beat, late)
    work.to("03-01 13:00:01", late, beat)
    assert work.ticks() == ["13:00:00"]
    assert len(work.jobs()) == 1


def test_a_beat_sleeps_until_the_next_tick_but_never_long(small):
    beat = small.beat(**hourly())
    assert beat.tick() == beat.max_interval
    small.clock.time = at("03-01 12:59:58")
    assert beat.tick() == pytest.approx(2, abs=0.5)


class Killed(BaseException):
    """Like kill -9: no code of Relevo catches it."""


STEPS = [
    (schedules, "claim"),
    (schedules, "record"),
    (claim, "build_sending"),
    (schedules, "advance"),
    ("delivery", "hand_in"),
    ("delivery", "after_commit"),
    ("store", "_transaction"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_beat_that_dies_at_any_step_neither_loses_nor_repeats_the_run(
    small, monkeypatch, step, after
):
    beat, other = small.beat(**hourly()), small.beat(**hourly())
    place = {"delivery": type(beat.delivery), "store": type(beat.delivery.store)}.get(
        step[0], step[0]
    )
    real = getattr(place, step[1])

    def killed(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, step[1], killed)
        with pytest.raises(Killed):
            small.to("03-01 13:00:00", beat)
    other.tick()
    small.beat(**hourly()).tick()
    assert small.ticks() == ["13:00:00"]
    assert small.jobs() == [small.runs()[0].job_id]


@pytest.fixture
def on_redis(tmp_path, redis_url) -> Clockwork:
    """The store on SQLite, the broker on Redis."""
    made = Clockwork(
        f"sqlite:///{tmp_path}/relevo.sqlite3",
        tmp_path,
        QUEUE_CONNECTION="redis",
        REDIS_URL=redis_url,
    )
    made.empty()
    yield made
    made.empty()


def test_a_job_for_another_broker_that_is_away_is_sent_when_it_is_back(on_redis, monkeypatch):
    beat = on_redis.beat(**hourly())
    away = lambda *_: (_ for _ in ()).throw(DriverUnavailableError("away"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(type(beat.delivery), "put", away)
        on_redis.to("03-01 13:00", beat)
        assert beat.tick() <= 2
        assert (on_redis.ticks(), on_redis.jobs()) == (["13:00:00"], [])
        assert [each.jobs for each in outbox.status(on_redis.store)] == [1]
    beat.tick()
    assert on_redis.jobs() == [on_redis.runs()[0].job_id]
    assert outbox.status(on_redis.store) == []


def test_a_run_by_hand_is_committed_and_waits_while_its_broker_is_unreachable(tmp_path):
    url = f"sqlite:///{tmp_path}/relevo.sqlite3"
    work = Clockwork(url, tmp_path, QUEUE_CONNECTION="redis", REDIS_URL="redis://127.0.0.1:1/0")
    app = work.deployed(**hourly())
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}
    run = operations.run(app, "hourly", "ann")
    assert [each.job_id for each in work.runs()] == [run.job_id]
    assert [each.jobs for each in outbox.status(work.store)] == [1]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_beat_that_dies_as_it_sends_to_another_broker_leaves_one_job(
    on_redis, monkeypatch, after
):
    beat = on_redis.beat(**hourly())
    real = type(beat.delivery).put

    def killed(*args):
        if after:
            real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(beat.delivery), "put", killed)
        with pytest.raises(Killed):
            on_redis.to("03-01 13:00", beat)
    delivery_of(on_redis.app).forward_all()  # a worker's relay
    on_redis.beat(**hourly()).tick()
    assert on_redis.ticks() == ["13:00:00"]
    assert on_redis.jobs() == [on_redis.runs()[0].job_id]


def test_while_the_store_is_away_beat_waits_and_runs_the_tick_afterwards(small, monkeypatch):
    beat = small.beat(**hourly())
    with monkeypatch.context() as patch:
        away = lambda *_: (_ for _ in ()).throw(DriverUnavailableError("away"))  # noqa: E731
        patch.setattr(type(beat.delivery.store), "_transaction", away)
        small.to("03-01 13:00", beat)
        small.to("03-01 13:00:01", beat)
    small.to("03-01 13:00:05", beat)
    assert small.ticks() == ["13:00:00"]


def test_an_entry_that_can_not_be_dispatched_is_tried_again_and_delays_no_other(small):
    broken = [True]

    def number():
        if broken:
            raise LookupError("no number")
        return 7

    beat = small.beat(
        lazy={"task": "shop.count", "schedule": crontab(minute=0), "args": [BeatLazyFunc(number)]},
        **hourly(),
    )
    small.to("03-01 13:00", beat)
    assert small.ticks() == ["13:00:00"]
    broken.clear()
    small.to("03-01 13:00:04", beat)
    assert small.ticks("lazy") == []
    small.to("03-01 13:00:06", beat)
    assert small.ticks("lazy") == ["13:00:00"]


@pytest.mark.parametrize("work", ["postgresql", "mariadb"], indirect=True)
def test_a_beat_that_stalls_during_a_claim_delays_one_entry_and_not_for_long(work, monkeypatch):
    monkeypatch.setattr(schedules, "STALLED_SECONDS", 1)
    beat, other = work.beat(**hourly(), **EVERY_MINUTE), work.beat(**hourly(), **EVERY_MINUTE)
    real, thaw, frozen = claim.build_sending, threading.Event(), threading.Event()

    def freezes(entry, *rest):
        if threading.current_thread() is standing and entry.name == "hourly":
            frozen.set()
            thaw.wait(LONG)
        return real(entry, *rest)

    monkeypatch.setattr(claim, "build_sending", freezes)
    standing = threading.Thread(target=work.to, args=("03-01 13:00", beat))
    standing.start()
    assert frozen.wait(LONG)
    other.tick()
    assert work.ticks("each") == ["13:00:00"]

    def comes():
        work.clock.forward(1)
        return other.tick() and work.ticks("hourly")

    eventually(comes)  # when the server has ended the silent transaction
    thaw.set()
    standing.join(LONG)
    assert work.ticks("hourly") == ["13:00:00"]
    assert work.jobs() == sorted(run.job_id for run in work.runs())


# --- missed ticks ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["15:00:00"]),
        ({"catch_up": "one"}, ["15:00:00"]),
        ({"catch_up": "none"}, []),
        ({"catch_up": "all"}, ["13:00:00", "14:00:00", "15:00:00"]),
        ({"catch_up": "all", "catch_up_limit": 2}, ["14:00:00", "15:00:00"]),
        ({"catch_up": "all", "catch_up_window": 7000}, ["14:00:00", "15:00:00"]),
        ({"catch_up": "one", "catch_up_window": 600}, []),
    ],
    ids=["by default", "one", "none", "all", "a limit", "a window", "too long ago"],
)
def test_missed_ticks_follow_the_rule_of_the_entry(small, options, expected):
    small.beat(**hourly(**options))
    small.clock.time = at("03-01 15:20")
    beats = [small.beat(**hourly(**options)), small.beat(**hourly(**options))]
    for beat in beats:
        beat.tick()
    assert small.ticks() == expected
    small.to("03-01 16:00", *beats)
    assert small.ticks() == [*expected, "16:00:00"]


def test_many_missed_ticks_are_run_a_page_at_a_time(small):
    often = {
        "often": {"task": "shop.count", "schedule": 10.0, "catch_up": "all", "catch_up_limit": 250}
    }
    small.beat(**often)
    small.clock.time = at("03-01 15:20")
    beat = small.beat(**often)
    for count in (100, 200, 250):
        assert len(small.runs()) == count
        pause = beat.tick()
        assert (pause < 1) == (len(small.runs()) < 250)
    dues = [run.due for run in small.runs()]
    assert dues == [at("03-01 15:20") - 10 * number for number in range(249, -1, -1)]


def test_a_tick_left_by_a_dead_beat_is_not_late_for_another_beat_within_a_minute(small):
    small.beat(**hourly(catch_up="none"))
    small.clock.time = at("03-01 13:00:30")
    small.beat(**hourly(catch_up="none"))
    assert small.ticks() == ["13:00:00"]


def test_celerys_own_deadline_is_the_window_of_a_crontab(small):
    app = small.deployed(**hourly())
    small.beat(app)
    app.conf.beat_cron_starting_deadline = 600
    small.clock.time = at("03-01 13:20")
    small.beat(app)
    assert small.ticks() == []


def test_a_job_knows_its_tick(small):
    small.beat(**hourly(catch_up="all"))
    small.clock.time = at("03-01 14:20")
    beat = small.beat(**hourly(catch_up="all"))
    entry, run = beat.schedule["hourly"], small.runs()[0]
    made = claim.build_sending(entry, run, ([], {}))
    headers = message_codec.headers_of(made.payload)
    assert (headers["schedule_entry"], headers["schedule_due"]) == ("hourly", at("03-01 13:00"))


# --- deploys, clocks, pauses ----------------------------------------------------------------------
def test_a_schedule_that_has_changed_begins_when_it_is_deployed(small):
    small.beat(**hourly())
    small.clock.time = at("03-01 12:40")
    beat = small.beat(hourly={"task": "shop.count", "schedule": crontab(minute="*/10")})
    assert small.ticks() == []
    small.to("03-01 12:50", beat)
    assert small.ticks() == ["12:50:00"]


def test_an_entry_that_was_away_runs_no_missed_ticks(small):
    small.beat(**hourly())
    small.beat(**EVERY_MINUTE)
    small.clock.time = at("03-01 15:20")
    beat = small.beat(**hourly())
    small.to("03-01 16:00", beat)
    assert small.ticks() == ["16:00:00"]


def test_an_old_and_a_new_beat_beside_each_other_run_the_ticks_of_both(small):
    old = small.beat(**hourly())
    new = small.beat(hourly={"task": "shop.count", "schedule": crontab(minute=30)})
    for text in ("03-01 12:30", "03-01 13:00", "03-01 13:30"):
        small.to(text, old, new)
    assert small.ticks() == ["12:30:00", "13:00:00", "13:30:00"]


def test_a_clock_that_jumps_ahead_and_back_runs_no_tick_twice_and_goes_on(work):
    beat, other = work.beat(**hourly()), work.beat(**hourly())
    work.to("06-01 00:00", beat)  # the clock is three months ahead
    assert work.ticks() == ["00:00:00"]
    work.to("03-01 13:00", other, beat)
    work.to("03-01 14:00", beat, other)
    assert work.ticks() == ["00:00:00", "13:00:00", "14:00:00"]
    work.to("03-01 13:59:58", beat, other)
    work.to("03-01 14:00:00", beat, other)
    assert work.ticks() == ["00:00:00", "13:00:00", "14:00:00"]
    work.to("06-01 00:00", beat, other)  # the clock is right, and this tick was run before
    assert work.ticks() == ["00:00:00", "13:00:00", "14:00:00"]
    assert work.jobs() == sorted(run.job_id for run in work.runs())


def test_a_clock_that_was_half_an_hour_ahead_and_is_set_right_delays_no_entry(small):
    beat, other = small.beat(**EVERY_MINUTE), small.beat(**EVERY_MINUTE)
    small.to("03-01 12:31", beat)
    small.to("03-01 12:01", beat, other)
    small.to("03-01 12:02", other, beat)
    small.to("03-01 12:31", beat, other)
    assert small.ticks() == ["12:31:00", "12:01:00", "12:02:00"]


def test_no_beat_runs_a_paused_entry_not_even_one_that_starts_later(work):
    beat = work.beat(**hourly(catch_up="all"))
    entry = beat.schedule["hourly"]
    schedules.pause(work.store, "hourly", "", work.clock.time, None)
    work.to("03-01 13:00", beat, work.beat(**hourly(catch_up="all")))
    work.clock.time = at("03-01 14:30")
    assert schedules.resume(work.store, "hourly", work.clock.time)
    work.to("03-01 14:31", beat, work.beat(**hourly(catch_up="all")))
    assert work.ticks() == []
    work.to("03-01 15:00", beat)
    assert work.ticks() == ["15:00:00"]
    assert claim.run_now(beat.delivery, entry, "ann").run_by == "ann"


@pytest.mark.parametrize("until", [None, at("03-01 14:40")])
def test_ticks_missed_before_a_pause_are_not_run_after_it(small, until):
    small.beat(**hourly(catch_up="all"))
    small.clock.time = at("03-01 14:30")
    schedules.pause(small.store, "hourly", "", small.clock.time, until)
    small.clock.time = at("03-01 14:45")
    schedules.resume(small.store, "hourly", small.clock.time)
    small.beat(**hourly(catch_up="all")).tick()
    assert small.ticks() == []


def test_a_pause_with_an_end_ends_by_itself(small):
    beat = small.beat(**hourly())
    schedules.pause(small.store, "hourly", "", small.clock.time, at("03-01 14:00"))
    for hour in (13, 14, 15):
        small.to(f"03-01 {hour}:00", beat)
    assert small.ticks() == ["14:00:00", "15:00:00"]
    assert not schedules.resume(small.store, "hourly", small.clock.time)


def test_a_run_by_hand_changes_no_tick_and_works_for_a_paused_entry(small):
    beat = small.beat(**hourly())
    entry = beat.schedule["hourly"]
    schedules.pause(small.store, "hourly", "", small.clock.time, None)
    runs = [claim.run_now(beat.delivery, entry, "ann"), claim.run_now(beat.delivery, entry, "bob")]
    assert small.jobs() == sorted(run.job_id for run in runs)
    assert [run.run_by for run in small.runs()] == ["ann", "bob"]
    assert schedules.last_runs(small.store)["hourly"].job_id == runs[1].job_id


def test_beats_use_the_clock_of_the_database_server(work, monkeypatch):
    monkeypatch.setattr("relevo.clock.now", work.clock)
    apart = abs(claim.clock_of(work.store)() - work.clock.time)
    assert apart == 0 if work.store.dialect == "sqlite" else apart > 86_400


# --- what is kept ---------------------------------------------------------------------------------
def test_old_runs_are_pruned_except_the_last_of_each_entry(work):
    beat = work.beat(**hourly(), gone={"task": "shop.count", "schedule": crontab(minute=0)})
    for hour in (13, 14):
        work.to(f"03-01 {hour}:00", beat)
    work.to("03-02 00:00", work.beat(**hourly()))
    work.beat(**EVERY_MINUTE, **hourly())
    before = [run.tick[:16] for run in work.runs("hourly")]
    assert schedules.prune(work.store, at("03-05 00:00")) == len(before) - 1 + 2
    assert [run.tick[:16] for run in work.runs()] == before[-1:]
    assert set(schedules.read(work.store)) == {"hourly", "each"}


def test_an_entry_whose_row_was_deleted_while_its_beat_runs_misses_no_tick(work):
    beat = work.beat(**hourly())
    work.beat(
        **EVERY_MINUTE
    )  # another project's: for it the entry is gone, and after a week it is forgotten
    schedules.prune(work.store, at("03-10 00:00"))
    assert "hourly" not in schedules.read(work.store)
    work.to("03-01 13:00", beat)
    assert work.ticks("hourly") == ["13:00:00"]
