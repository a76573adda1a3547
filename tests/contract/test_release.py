"""release: a job goes back into its queue, now or later, and its attempt doesn't count."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import State
from tests.support.driver_jobs import LEASE, counts, ids, job, put, state_of, take, take_one


@pytest.fixture
def held(driver):
    """A job that a worker holds."""
    driver.put([job(id="a", payload="original", priority=4)])
    return take_one(driver)


def test_a_released_job_can_be_taken_at_once_and_is_as_it_was(driver, other, held):
    # When a worker puts its job back
    assert driver.release([held.lease]) == 1

    # I expect another to get it, as if it had never been taken
    again = take_one(other)
    assert (again.id, again.payload, again.priority) == ("a", "original", 4)
    assert (again.attempts, again.rescues) == (1, 0)


def test_a_job_released_without_delay_stands_where_it_stood(driver, clock, held):
    # Given that others came meanwhile
    clock.forward(1)
    put(driver, "same", priority=4)
    put(driver, "lower", priority=5)
    put(driver, "higher", priority=3)

    # When the first is put back, as a worker does that stops, I expect it to have lost no time
    driver.release([held.lease])
    assert driver.sizes("default").oldest == 1
    assert ids(take(driver)) == ["higher", "a", "same", "lower"]


def test_a_job_released_with_a_delay_goes_behind_those_that_came_meanwhile(driver, clock, held):
    put(driver, "same", priority=4)
    driver.release([held.lease], delay=1)
    clock.forward(1)
    assert ids(take(driver)) == ["same", "a"]


def test_a_job_released_for_later_is_delayed_until_then(driver, clock, held):
    # When a job is put back for a minute later
    driver.release([held.lease], delay=60)
    assert counts(driver) == (0, 1, 0)

    # I expect no worker to get it before
    clock.forward(59)
    assert take(driver) == []
    clock.forward(1)
    assert take_one(driver).id == "a"


def test_the_delay_counts_from_the_release(driver, clock, held):
    clock.forward(10)
    driver.release([held.lease], delay=60)
    [view] = driver.peek("default", State.DELAYED)
    assert view.available_at == clock() + 60


def test_a_released_job_may_carry_a_new_payload(driver, held):
    driver.release([held.lease], payload="changed")
    assert take_one(driver).payload == "changed"


def test_a_payload_may_be_made_empty(driver, held):
    driver.release([held.lease], payload="")
    assert take_one(driver).payload == ""


def test_a_release_does_not_count_the_attempt(driver, held):
    for _ in range(5):
        driver.release([held.lease])
        held = take_one(driver)
    assert held.attempts == 1


@pytest.mark.parametrize("attempts", [0, 1, 7])
def test_a_release_can_set_the_number_of_attempts(driver, held, attempts):
    driver.release([held.lease], attempts=attempts)
    assert driver.peek("default", State.PENDING)[0].attempts == attempts
    assert take_one(driver).attempts == attempts + 1


def test_a_release_does_not_forget_the_rescues(driver, clock, held):
    clock.forward(LEASE)
    driver.rescue()
    driver.release([take_one(driver).lease])
    again = take_one(driver)
    assert (again.attempts, again.rescues) == (2, 1)


def test_many_are_released_together_each_once(driver):
    put(driver, "a", "b", "c")
    a, b, c = (one.lease for one in take(driver))
    driver.ack([b])
    assert driver.release([a, b, c, c], delay=5) == 2
    assert counts(driver) == (0, 2, 0)


def test_a_released_job_has_no_holder(driver, held):
    driver.release([held.lease])
    [view] = driver.peek("default", State.PENDING)
    assert (view.reserved_by, view.reserved_until) == (None, None)
    assert state_of(driver, "a") == [State.PENDING]


def test_a_job_released_while_its_queue_is_paused_waits(driver, held):
    driver.pause("default")
    assert driver.release([held.lease]) == 1
    assert take(driver) == []
    assert counts(driver) == (1, 0, 0)
