"""pause and resume: no job is taken from a paused queue, for a time or until it is resumed."""

from __future__ import annotations

from tests.support.driver_jobs import LEASE, counts, ids, job, put, take


def test_no_worker_gets_a_job_of_a_paused_queue(driver, other):
    put(driver, "a")
    driver.pause("default")
    assert take(driver) == []
    assert take(other) == []
    assert counts(driver) == (1, 0, 0)


def test_a_paused_queue_does_not_block_the_others(driver):
    put(driver, "a", queue="high")
    put(driver, "b", queue="low")
    driver.pause("high")
    assert ids(take(driver, "high", "low")) == ["b"]


def test_resume_ends_a_pause(driver, other):
    put(driver, "a")
    driver.pause("default")
    other.resume("default")
    assert ids(take(driver)) == ["a"]
    assert driver.paused() == {}


def test_a_pause_ends_at_its_instant(driver, clock):
    # Given a queue paused for a minute
    put(driver, "a")
    driver.pause("default", until=clock() + 60)
    clock.forward(59)
    assert take(driver) == []

    # When the minute is over, I expect its jobs to be taken and the pause to be forgotten
    clock.forward(1)
    assert driver.paused() == {}
    assert ids(take(driver)) == ["a"]


def test_paused_lists_the_queues_and_their_ends(driver, other, clock):
    driver.pause("a")
    driver.pause("b", until=clock() + 60)
    assert other.paused() == {"a": None, "b": clock() + 60}


def test_the_last_pause_of_a_queue_counts(driver, clock):
    driver.pause("default", until=clock() + 60)
    driver.pause("default")
    assert driver.paused() == {"default": None}
    driver.pause("default", until=clock() + 10)
    assert driver.paused() == {"default": clock() + 10}


def test_a_pause_that_ends_in_the_past_is_none(driver, clock):
    put(driver, "a")
    driver.pause("default")
    driver.pause("default", until=clock() - 1)
    assert driver.paused() == {}
    assert ids(take(driver)) == ["a"]


def test_a_queue_that_was_never_used_can_be_paused_and_resumed(driver):
    driver.resume("nobody-knows-it")
    driver.pause("nobody-knows-it")
    assert driver.paused() == {"nobody-knows-it": None}
    assert driver.queues() == []


def test_a_pause_leaves_running_jobs_alone(driver, clock):
    # Given two jobs that a worker holds when their queue is paused
    put(driver, "a", "b")
    a, b = (one.lease for one in take(driver))
    driver.pause("default")

    # I expect it to be able to end as always, also by its death
    assert driver.extend([a, b], LEASE) == []
    assert driver.ack([a]) == 1
    clock.forward(LEASE)
    assert driver.rescue() == 1


def test_jobs_can_be_put_into_a_paused_queue_and_done_jobs_acked(driver):
    put(driver, "a")
    held = take(driver)
    driver.pause("default")
    driver.put([job()])
    assert driver.reserve(["default"], 5, LEASE, "worker", done=[one.lease for one in held]) == []
    assert counts(driver) == (1, 0, 0)
