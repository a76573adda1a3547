"""Rates and breakers on every store: never exceeded, with the time to come back, changeable at run
time.
"""

from __future__ import annotations

import random

import pytest
from sqlalchemy import event

from relevo.errors import OptionError
from relevo.limits.breakers import Breaker
from relevo.limits.rates import BUCKET, FIXED, KINDS, MOVING, Rate

KEY = "rate/mail/7"


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_over_the_rate_is_told_when_it_may_run_and_runs_then(
    limits, other, ground, clock, kind
):
    rate = Rate.of("3/minute", kind)
    assert [limits.hit(KEY, rate, 1, f"j{number}") for number in range(3)] == [0, 0, 0]
    wait = other.hit(KEY, rate, 1, "late")
    assert 0 < wait < 62
    clock.forward(wait)
    assert other.hit(KEY, rate, 1, "late") == 0


def test_a_fixed_window_begins_with_its_first_unit(limits, ground, clock):
    rate = Rate.of("2/minute")
    limits.hit(KEY, rate, 1, "a")
    clock.forward(50)
    limits.hit(KEY, rate, 1, "b")
    assert limits.hit(KEY, rate, 1, "c") == pytest.approx(10, abs=0.01)


def test_a_moving_window_opens_when_the_oldest_unit_leaves_it(limits, ground, clock):
    rate = Rate.of("2/minute", MOVING)
    limits.hit(KEY, rate, 1, "a")
    clock.forward(50)
    limits.hit(KEY, rate, 1, "b")
    wait = limits.hit(KEY, rate, 1, "c")
    assert 10 <= wait <= 10.7
    clock.forward(wait)
    assert limits.hit(KEY, rate, 1, "c") == 0
    assert limits.hit(KEY, rate, 1, "d") > 48


def test_a_bucket_saves_up_its_burst_and_fills_evenly(limits, ground, clock):
    rate = Rate.of("60/minute", BUCKET, burst=3)
    assert [limits.hit(KEY, rate, 1, f"j{number}") for number in range(3)] == [0, 0, 0]
    assert limits.hit(KEY, rate, 1, "late") == pytest.approx(1, abs=0.01)
    clock.forward(3600)
    assert sum(limits.hit(KEY, rate, 1, f"k{number}") == 0 for number in range(9)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_counted_and_a_refusal_costs_nothing(limits, ground, kind):
    rate = Rate.of("10/minute", kind)
    assert limits.hit(KEY, rate, 7, "a") == 0
    assert limits.hit(KEY, rate, 4, "b") > 0
    limits.clear(KEY)
    assert limits.hit(KEY, rate, 7, "a") == 0
    assert limits.hit(KEY, rate, 3, "c") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_units_that_are_given_back_go_to_the_first_waiting_job(limits, other, ground, clock, kind):
    # Given a rate that is used up, and some who wait for it until their window opens
    rate = Rate.of("4/hour", kind)
    assert [limits.hit(KEY, rate, 2, job) for job in ("a", "b")] == [0, 0]
    for job in ("c", "d"):
        assert limits.hit(KEY, rate, 1, job) > 60
        clock.forward(0.1)

    # When a job gives its units back, because it didn't run, I expect as many to be called as they
    # are for, once
    assert other.refund(KEY, rate, 1) == ["c"]
    assert limits.hit(KEY, rate, 1, "new") > 60
    assert limits.hit(KEY, rate, 1, "c") == 0
    assert other.refund(KEY, rate, 1) == ["d"]
    assert other.refund(KEY, rate, 1) == ["new"]
    assert [other.hit(KEY, rate, 1, job) for job in ("d", "new")] == [0, 0]
    assert limits.hit(KEY, rate, 1, "late") > 60


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_units_are_given_back_than_were_taken(limits, ground, kind):
    rate = Rate.of("2/hour", kind)
    assert limits.refund(KEY, rate, 1) == []
    limits.hit(KEY, rate, 1000, "a")
    limits.refund(KEY, rate, 1000)
    limits.refund(KEY, rate, 5)
    assert [limits.hit(KEY, rate, 1, job) > 0 for job in ("a", "b", "c")] == [False, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_costs_more_than_the_rate_takes_all_of_it_and_runs(limits, ground, kind):
    rate = Rate.of("10/minute", kind)
    assert limits.hit(KEY, rate, 1000, "a") == 0
    assert limits.hit(KEY, rate, 1, "b") > 0


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_that_come_when_told_keep_the_rate_and_use_it_up(limits, other, ground, clock, kind):
    # Given twenty jobs that all want to run at once, five in a second
    rate, due = Rate.of("5/second", kind), {f"j{number:02}": clock() for number in range(20)}
    began, passed, looks = clock(), [], 0

    # When each comes back when it was told to, at either process
    while due:
        job = min(due, key=lambda each: (due[each], each))
        clock.time = max(clock(), due.pop(job))
        looks += 1
        wait = (limits, other)[looks % 2].hit(KEY, rate, 1, job)
        if wait:
            due[job] = clock() + wait
        else:
            passed.append(clock())

    # I expect no period to have had more than the kind allows, and the rate to be used, without
    # asking all the time
    most = 5 if kind == MOVING else 10
    assert all(sum(at <= one < at + 1 for one in passed) <= most for at in passed)
    assert passed[-1] - began < 5
    assert looks < 20 * 4


def test_no_period_of_a_moving_window_exceeds_the_rate(limits, ground, clock):
    dice, rate, passed = random.Random(4), Rate.of("7/second", MOVING), []
    for number in range(50):
        clock.forward(dice.choice([0.0, 0.001, 0.03, 0.4]))
        cost = dice.choice([1, 1, 2, 5])
        if limits.hit(KEY, rate, cost, f"j{number}") == 0:
            passed.append((clock(), cost))
    assert all(
        sum(cost for at, cost in passed if begin <= at < begin + 1) <= 7 for begin, _ in passed
    )
    assert len(passed) > 5


@pytest.fixture
def waits_for_locks(limits, clock):
    """Lets the clock go on by one of these times whenever a verb waits for the lock of a key."""

    def waits_for_locks(seconds):
        engine = limits._connections.engine

        def wait(_connection, _cursor, statement, *_):
            if statement.startswith("INSERT INTO relevo_limits"):
                clock.forward(seconds())

        event.listen(engine, "before_cursor_execute", wait)
        ends.append(lambda: event.remove(engine, "before_cursor_execute", wait))

    ends = []
    yield waits_for_locks
    for end in ends:
        end()


# On SQLite the transaction is the lock.
ON_SERVERS = pytest.mark.parametrize("broker", ["postgresql", "mariadb"], indirect=True)


@ON_SERVERS
def test_units_are_counted_at_the_time_at_which_the_lock_of_the_key_was_got(
    limits, ground, clock, waits_for_locks
):
    dice, rate = random.Random(4), Rate.of("7/second", MOVING)
    waits_for_locks(lambda: dice.choice([0.0, 0.0, 0.01, 0.3, 0.95]))
    passed = [clock() for number in range(100) if not limits.hit(KEY, rate, 1, f"j{number}")]
    assert all(sum(begin <= at < begin + 1 for at in passed) <= 7 for begin in passed)
    assert len(passed) > 20


@ON_SERVERS
@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_for_the_lock_shortens_no_window(limits, ground, clock, waits_for_locks, kind):
    rate, seconds = Rate.of("1/minute", kind), [50.0]
    waits_for_locks(lambda: seconds.pop() if seconds else 0.0)
    assert limits.hit(KEY, rate, 1, "a") == 0
    assert limits.hit(KEY, rate, 1, "b") > 59


@ON_SERVERS
def test_a_wait_for_the_lock_shortens_no_break(limits, ground, clock, waits_for_locks):
    seconds = [30.0]
    waits_for_locks(lambda: seconds.pop() if seconds else 0.0)
    assert limits.record_error("errors/mail/7", Breaker(1, 100.0, 50.0)) == pytest.approx(50)
    assert limits.check_breaker("errors/mail/7", "a")[0] > 49


def test_newcomers_do_not_take_the_turn_of_jobs_that_were_told_to_come_now(limits, ground, clock):
    rate = Rate.of("1/minute")
    limits.hit(KEY, rate, 1, "a")
    clock.forward(limits.hit(KEY, rate, 1, "b"))
    assert limits.hit(KEY, rate, 1, "c") > 0
    assert limits.hit(KEY, rate, 1, "b") == 0


def test_jobs_that_never_come_do_not_block_the_others(limits, ground, clock):
    rate = Rate.of("1/second")
    limits.hit(KEY, rate, 1, "a")
    for number in range(8):
        limits.hit(KEY, rate, 1, f"ghost{number}")
    clock.forward(1.6)
    assert limits.hit(KEY, rate, 1, "alive") == 0


def test_a_rate_is_changed_while_it_runs_for_all_and_back_again(limits, other, ground):
    rate = Rate.of("1/hour")
    assert limits.hit(KEY, rate, 1, "a") == 0
    other.redefine("mail", Rate.of("3/hour"))
    assert limits.redefined_rates() == {"mail": Rate.of("3/hour")}
    assert limits.hit(KEY, rate, 1, "b") == 0
    assert limits.hit("rate/sms", rate, 1, "s") == 0
    assert limits.hit("rate/sms", rate, 1, "s2") > 0
    other.redefine("mail", None)
    assert limits.redefined_rates() == {}
    assert limits.hit(KEY, rate, 1, "c") > 0


def test_a_change_of_the_rate_returns_the_jobs_that_wait_under_the_old_one(
    limits, other, ground, clock
):
    day = Rate.of("1/day")
    for key in ("rate/mail", "rate/mail/7", "rate/mailing/7"):
        for number in range(3):
            limits.hit(key, day, 1, f"{key}-{number}")
            clock.forward(0.1)
    called = other.redefine("mail", Rate.of("9/second"))
    assert sorted(called) == ["rate/mail-1", "rate/mail-2", "rate/mail/7-1", "rate/mail/7-2"]
    assert called.index("rate/mail-1") < called.index("rate/mail-2")
    assert [limits.hit("rate/mail", day, 1, name) for name in ("rate/mail-1", "rate/mail-2")] == [
        0,
        0,
    ]
    assert other.redefine("nobody", None) == []


def test_another_kind_or_period_begins_anew(limits, ground):
    assert limits.hit(KEY, Rate.of("1/hour"), 1, "a") == 0
    assert limits.hit(KEY, Rate.of("1/minute"), 1, "b") == 0
    assert limits.hit(KEY, Rate.of("1/minute", MOVING), 1, "c") == 0
    assert limits.hit(KEY, Rate.of("1/minute", BUCKET), 1, "d") == 0
    assert limits.hit(KEY, Rate.of("1/minute", BUCKET), 1, "e") > 0


@pytest.mark.parametrize("kind", KINDS)
def test_views_show_what_is_used_and_when_the_rate_opens(limits, other, ground, clock, kind):
    rate = Rate.of("2/hour", kind)
    limits.hit(KEY, rate, 2, "a")
    wait = limits.hit(KEY, rate, 1, "b")
    [view] = other.views("rate/")
    assert (view.key, view.used, view.most, view.waiting, view.line) == (KEY, 2, 2, 1, ["b"])
    assert view.until == pytest.approx(clock() + wait, abs=0.01)
    assert view.rate == str(rate)
    assert limits.clear(KEY) == ["b"]
    assert other.views() == []


# --- breakers -------------------------------------------------------------------------------------
ERRORS = "errors/api"


def test_after_n_errors_all_jobs_of_the_key_wait_and_then_they_run(limits, other, ground, clock):
    breaker = Breaker(3, 60, 20)
    assert limits.check_breaker(ERRORS, "a") == (0, False)
    assert [limits.record_error(ERRORS, breaker), other.record_error(ERRORS, breaker)] == [0, 0]
    assert limits.check_breaker(ERRORS, "a") == (0, True)
    assert limits.record_error(ERRORS, breaker) == pytest.approx(20)
    assert other.check_breaker(ERRORS, "a") == (pytest.approx(20), True)
    [view] = limits.views()
    assert (view.used, view.until, view.line) == (3, pytest.approx(clock() + 20), ["a"])
    clock.forward(20)
    assert other.check_breaker(ERRORS, "a")[0] == 0
    assert limits.views()[0].line == []


def test_clearing_a_breaker_returns_its_waiting_jobs_and_they_run(limits, other, ground, clock):
    limits.record_error(ERRORS, Breaker(1, 60, 600))
    for job in ("a", "b", "a"):
        assert limits.check_breaker(ERRORS, job)[0] > 590
        clock.forward(1)
    assert sorted(other.clear(ERRORS)) == ["a", "b"]
    assert limits.check_breaker(ERRORS, "a") == (0, False)


def test_after_the_wait_one_more_error_shuts_it_again_and_a_success_forgets(limits, ground, clock):
    breaker = Breaker(2, 60, 20)
    limits.record_error(ERRORS, breaker)
    limits.record_error(ERRORS, breaker)
    clock.forward(20)
    assert limits.record_error(ERRORS, breaker) == pytest.approx(20)
    clock.forward(20)
    limits.clear(ERRORS)
    assert limits.record_error(ERRORS, breaker) == 0


def test_errors_of_another_period_do_not_count(limits, ground, clock):
    breaker = Breaker(2, 60, 20)
    limits.record_error(ERRORS, breaker)
    clock.forward(61)
    assert limits.record_error(ERRORS, breaker) == 0


# --- how a rate is written ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("notation", "amount", "per"),
    [
        ("10/hour", 10, 3600),
        ("5 per second", 5, 1),
        ("100/2 minutes", 100, 120),
        ("1 per 7 days", 1, 604800),
    ],
)
def test_a_rate_is_read_from_a_text_like_ten_per_minute(notation, amount, per):
    rate = Rate.of(notation)
    assert (rate.amount, rate.per, rate.kind) == (amount, per, FIXED)
    assert Rate.of(str(rate).rpartition(" ")[0]) == rate


@pytest.mark.parametrize(
    "notation", ["", "10", "0/hour", "10/0 hours", "ten/hour", "10/fortnight", "-1/hour", None, 5]
)
def test_an_invalid_rate_is_refused(notation):
    with pytest.raises(OptionError, match="expected a rate like"):
        Rate.of(notation)


def test_an_invalid_kind_or_burst_is_refused():
    with pytest.raises(OptionError, match="did you mean 'moving'"):
        Rate.of("1/hour", "movin")
    with pytest.raises(OptionError, match="burst"):
        Rate.of("1/hour", FIXED, burst=3)
    with pytest.raises(OptionError, match="burst"):
        Rate.of("1/hour", BUCKET, burst=0)
