"""suspend, lift and park: jobs of a paused task or tag don't start, in any queue."""

from __future__ import annotations

import pytest

from relevo.drivers.values import UNTIL_LIFTED
from relevo.errors import OptionError
from tests.support.driver_jobs import counts, ids, put, take, take_one

WHAT = "task:mail"


def park(driver, *leases, what=WHAT):
    return driver.park([job.lease for job in leases], what)


def test_suspended_lists_the_names_and_their_ends(driver, other, clock):
    driver.suspend("a")
    driver.suspend("b", until=clock() + 60)
    assert other.suspended() == {"a": None, "b": clock() + 60}
    driver.suspend("a", until=clock() + 5)
    other.lift("b")
    assert driver.suspended() == {"a": clock() + 5}
    clock.forward(5)
    assert driver.suspended() == {}


def test_a_suspension_takes_no_job_from_its_worker(driver):
    put(driver, "a")
    driver.suspend(WHAT)
    assert ids(take(driver)) == ["a"]


def test_a_parked_job_is_delayed_until_the_end_with_its_attempt_given_back(driver, other, clock):
    # Given a job that is parked for a minute
    put(driver, "a")
    driver.suspend(WHAT, until=clock() + 60)
    assert park(driver, take_one(driver)) == 1
    assert (counts(driver), other.parked(WHAT)) == ((0, 1, 0), 1)
    clock.forward(59)
    assert take(other) == []

    # When the minute is over, I expect it to be taken, for the first time
    clock.forward(1)
    assert [job.attempts for job in take(other)] == [1]


def test_lift_makes_the_parked_jobs_due_in_order(driver, other):
    put(driver, "a", "b", "c")
    driver.suspend(WHAT)
    park(driver, *take(driver))
    assert [view.available_at for view in driver.find(["a"])] == [UNTIL_LIFTED]
    other.lift(WHAT)
    assert (counts(driver), driver.parked(WHAT), driver.suspended()) == ((3, 0, 0), 0, {})
    assert ids(take(driver)) == ["a", "b", "c"]


def test_lift_leaves_jobs_that_were_not_parked_for_this_name(driver, clock):
    put(driver, "mine", "others", "delayed")
    driver.suspend(WHAT)
    driver.suspend("tag:x")
    mine, others, delayed = take(driver)
    park(driver, mine)
    park(driver, others, what="tag:x")
    driver.release([delayed.lease], delay=60)
    driver.lift(WHAT)
    assert ids(take(driver)) == ["mine"]


def test_a_job_that_was_released_or_acked_is_no_longer_parked(driver, clock):
    # Given one parked job that was deleted, and one that ran and waits for its retry
    put(driver, "gone", "retry")
    driver.suspend(WHAT, until=clock() + 10)
    park(driver, *take(driver))
    driver.delete(["gone"])
    clock.forward(10)
    driver.release([take_one(driver).lease], delay=100)

    # When the suspension is noted anew and lifted, I expect the retry to wait on
    driver.suspend(WHAT)
    driver.lift(WHAT)
    assert counts(driver) == (0, 1, 0)


def test_no_job_is_parked_for_a_name_that_is_not_suspended(driver, clock):
    # Given a suspension that was lifted, and one that has ended, before the worker comes to park
    put(driver, "a", "b")
    a, b = take(driver)
    driver.suspend("ended", until=clock() + 1)
    clock.forward(1)
    assert park(driver, a) == 1
    assert park(driver, b, what="ended") == 1

    # I expect the jobs to stand where they stood
    assert [(job.id, job.attempts) for job in take(driver)] == [("a", 1), ("b", 1)]


def test_an_earlier_end_counts_for_parked_jobs_too(driver, clock):
    put(driver, "a")
    driver.suspend(WHAT)
    park(driver, take_one(driver))
    driver.suspend(WHAT, until=clock() + 5)
    park(driver, *take(driver))  # they come back for that
    clock.forward(5)
    assert ids(take(driver)) == ["a"]


def test_only_the_holder_of_a_lease_parks_its_job(driver):
    put(driver, "a")
    job = take_one(driver)
    driver.ack([job.lease])
    driver.suspend(WHAT)
    assert park(driver, job) == 0
    assert park(driver) == 0
    assert (counts(driver), driver.parked(WHAT)) == ((0, 0, 0), 0)


def test_lifting_an_unknown_name_is_no_error_and_names_are_exact(driver):
    driver.lift("nothing")
    driver.suspend("Task:Mail")
    driver.lift("task:mail")
    assert driver.suspended() == {"Task:Mail": None}


@pytest.mark.parametrize("what", ["", "x" * 256, "a\0b"])
def test_bad_names_are_refused_before_anything_is_done(driver, what):
    for verb in (driver.suspend, driver.lift, driver.parked, lambda name: driver.park([], name)):
        with pytest.raises(OptionError):
            verb(what)
    assert driver.suspended() == {}
