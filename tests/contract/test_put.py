"""put: jobs for now and for later, all or none, with all their fields."""

from __future__ import annotations

import math

import pytest

from relevo.drivers.contract import State
from relevo.errors import OptionError
from tests.support.driver_jobs import counts, ids, job, put, state_of, take, take_one


def test_a_job_put_now_is_pending_and_can_be_taken_at_once(driver):
    # Given a job
    [placed] = driver.put([job(id="a")])

    # I expect it to be pending, and to be what the next worker gets
    assert (placed.id, placed.created) == ("a", True)
    assert counts(driver) == (1, 0, 0)
    assert ids(take(driver)) == ["a"]


def test_a_reserved_job_is_what_was_put(driver):
    # Given a job with everything set
    driver.put([job("images", id="a", payload='{"file": 7}', priority=3)])

    # When a worker takes it
    taken = take_one(driver, "images")

    # I expect it to bring all of that, and its first attempt
    assert (taken.id, taken.queue, taken.payload, taken.priority) == (
        "a",
        "images",
        '{"file": 7}',
        3,
    )
    assert (taken.attempts, taken.rescues) == (1, 0)


def test_what_one_process_puts_another_takes(driver, other):
    put(driver, "a")
    assert ids(take(other)) == ["a"]


def test_a_job_for_later_is_delayed_until_its_instant(driver, clock):
    # Given a job that may run in ten seconds
    driver.put([job(id="a", available_at=clock() + 10)])

    # Before that instant, I expect no worker to get it
    clock.forward(9)
    assert counts(driver) == (0, 1, 0)
    assert take(driver) == []

    # At that instant, I expect it to be pending before any process moves it
    clock.forward(1)
    assert counts(driver) == (1, 0, 0)
    assert state_of(driver, "a") == [State.PENDING]
    assert ids(take(driver)) == ["a"]


def test_an_instant_that_has_passed_means_at_once_and_jumps_no_queue(driver, clock):
    # Given a job that waits, and one that was meant for an hour ago
    put(driver, "waiting")
    driver.put([job(id="past", available_at=clock() - 3600)])

    # I expect the second to wait behind the first, and to be no older than it is
    assert driver.sizes("default").oldest == 0
    assert ids(take(driver)) == ["waiting", "past"]


def test_results_come_in_the_order_of_the_jobs(driver, clock):
    # When jobs of several queues are put, now and for later
    placed = driver.put(
        [job("high", id="a"), job("low", id="b", available_at=clock() + 5), job("high", id="c")]
    )

    # I expect one answer for each, in that order
    assert ids(placed) == ["a", "b", "c"]
    assert all(one.created for one in placed)
    assert (counts(driver, "high"), counts(driver, "low")) == ((2, 0, 0), (0, 1, 0))


def test_putting_nothing_places_nothing(driver):
    assert driver.put([]) == []
    assert driver.queues() == []


def test_one_bad_job_refuses_the_whole_call(driver):
    # Given a good job before and after a bad one
    bad = job(available_at=math.nan)

    # When they are put together
    with pytest.raises(OptionError):
        driver.put([job(unique_key="k"), bad, job()])

    # I expect none to be there, and the good one's key to be free
    assert driver.queues() == []
    assert driver.put([job(unique_key="k")])[0].created


def test_two_jobs_may_have_one_id(driver):
    # Given a job that is being run, and the next attempt of it, which Celery's retry puts before it
    # acks the first
    driver.put([job(id="a", payload="first")])
    first = take_one(driver)
    driver.put([job(id="a", payload="second")])

    # When the first is acked
    assert driver.ack([first.lease]) == 1

    # I expect the second to be there still
    assert take_one(driver).payload == "second"


def test_a_job_keeps_the_instant_it_was_put_at(driver, clock):
    put_at = clock()
    driver.put([job(id="a", available_at=put_at + 10)])
    clock.forward(5)
    [view] = driver.peek("default", State.DELAYED)
    assert (view.created_at, view.available_at) == (put_at, put_at + 10)
