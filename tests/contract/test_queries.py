"""sizes, peek, queues, delete and clear: how people see and mend a broker."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import JobView, Sizes, State
from tests.support.driver_jobs import LEASE, counts, ids, job, put, state_of, take, take_one


@pytest.fixture
def three(driver, clock):
    """One job in each state, named for it."""
    put(driver, "reserved")
    take_one(driver)
    put(driver, "pending")
    driver.put([job(id="delayed", available_at=clock() + 3600)])


# --- sizes ----------------------------------------------------------------------------------------
def test_a_queue_nobody_has_used_is_empty(driver):
    assert driver.sizes("unused") == Sizes(0, 0, 0, None)


def test_sizes_count_each_state(driver, other, three):
    assert other.sizes("default") == Sizes(pending=1, delayed=1, reserved=1, oldest=0)


def test_the_age_counts_from_when_the_job_could_run(driver, clock):
    # Given one that was put long ago and came due ten seconds ago, and one put five seconds ago
    driver.put([job(available_at=clock() + 100)])
    clock.forward(105)
    put(driver, "b", priority=0)
    clock.forward(5)

    # I expect ten seconds, not a hundred and ten
    assert driver.sizes("default").oldest == 10


def test_without_a_pending_job_there_is_no_age(driver, clock, three):
    driver.delete(["pending"])
    clock.forward(5)
    assert driver.sizes("default").oldest is None


def test_a_rescued_job_is_as_old_as_before(driver, clock):
    put(driver, "a")
    take_one(driver)
    clock.forward(LEASE)
    driver.rescue()
    assert driver.sizes("default").oldest == LEASE


# --- peek -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", list(State))
def test_peek_shows_the_jobs_of_one_state(driver, other, three, state):
    assert ids(other.peek("default", state)) == [state.value]


def test_peek_shows_all_there_is_to_know(driver, clock):
    driver.put([job("images", id="a", payload='{"file": 7}', priority=3)])
    assert driver.peek("images", State.PENDING) == [
        JobView(
            id="a",
            queue="images",
            state=State.PENDING,
            payload='{"file": 7}',
            priority=3,
            attempts=0,
            rescues=0,
            available_at=clock(),
            reserved_until=None,
            reserved_by=None,
            created_at=clock(),
        )
    ]


def test_peek_changes_nothing(driver, three):
    for state in State:
        assert driver.peek("default", state) == driver.peek("default", state)
    assert counts(driver) == (1, 1, 1)


def test_pending_jobs_are_shown_in_the_order_of_their_taking(driver, clock):
    put(driver, "last", priority=9)
    put(driver, "second", priority=5)
    clock.forward(1)
    put(driver, "third", priority=5)
    put(driver, "first", priority=0)
    shown = ids(driver.peek("default", State.PENDING))
    assert shown == ["first", "second", "third", "last"]
    assert ids(take(driver)) == shown


def test_delayed_jobs_are_shown_in_the_order_of_their_instants(driver, clock):
    driver.put(
        [
            job(id="late", available_at=clock() + 60),
            job(id="soon", available_at=clock() + 5, priority=9),
        ]
    )
    assert ids(driver.peek("default", State.DELAYED)) == ["soon", "late"]


def test_reserved_jobs_are_shown_in_the_order_of_their_ends(driver):
    put(driver, "long", "short")
    driver.reserve(["default"], 1, 600, "worker")
    driver.reserve(["default"], 1, 5, "worker")
    assert ids(driver.peek("default", State.RESERVED)) == ["short", "long"]


def test_peek_shows_no_more_than_the_limit(driver):
    put(driver, "a", "b", "c")
    assert ids(driver.peek("default", State.PENDING, limit=2)) == ["a", "b"]
    assert driver.peek("default", State.PENDING, limit=0) == []


def test_peek_shows_only_its_queue(driver, three):
    assert driver.peek("elsewhere", State.PENDING) == []


# --- queues ---------------------------------------------------------------------------------------
def test_queues_are_those_that_hold_a_job_in_any_state(driver, clock):
    put(driver, "a", queue="pending")
    driver.put([job("delayed", available_at=clock() + 60)])
    put(driver, "c", queue="reserved")
    take_one(driver, "reserved")
    put(driver, "d", queue="done")
    driver.ack([take_one(driver, "done").lease])
    assert driver.queues() == ["delayed", "pending", "reserved"]


def test_queues_are_sorted_as_python_sorts_on_every_broker(driver):
    names = ["b", "a", "B", "a b", "a-b", "ä", "Z", "_", "10", "9", "zebra", "\uff21", "😀"]
    driver.put([job(name) for name in names])
    assert driver.queues() == sorted(names)


# --- delete ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", list(State))
def test_a_job_can_be_deleted_in_any_state(driver, other, three, state):
    assert other.delete([state.value]) == 1
    assert state_of(driver, state.value) == []
    assert sum(counts(driver)) == 2


def test_delete_counts_what_was_there(driver, three):
    assert driver.delete(iter(["pending", "pending", "delayed", "never-was"])) == 2
    assert driver.delete([]) == 0


def test_delete_looks_in_every_queue(driver):
    put(driver, "a", queue="x")
    put(driver, "b", queue="y")
    assert driver.delete(["a", "b"]) == 2
    assert driver.queues() == []


def test_delete_takes_every_job_of_that_id(driver):
    put(driver, "a", "a", "b")
    assert driver.delete(["a"]) == 2
    assert ids(take(driver)) == ["b"]


@pytest.mark.parametrize("near", ["A", "a ", "á", "%", "_"])
def test_delete_compares_character_by_character(driver, near):
    put(driver, "a")
    assert driver.delete([near]) == 0


def test_the_lease_of_a_deleted_job_is_worth_nothing(driver, clock):
    # Given a job deleted under its worker
    put(driver, "a")
    lease = take_one(driver).lease
    driver.delete(["a"])

    # When the worker goes on as if nothing had happened, and then dies
    assert driver.extend([lease], LEASE) == [lease]
    assert driver.ack([lease]) == 0
    assert driver.release([lease]) == 0
    clock.forward(LEASE)

    # I expect the job to stay away
    assert driver.rescue() == 0
    assert driver.queues() == []


# --- hasten ---------------------------------------------------------------------------------------
def test_a_delayed_job_can_be_made_due(driver, other, clock):
    put(driver, "a", "b", available_at=clock() + 500)
    put(driver, "c")
    clock.forward(1)
    assert other.hasten(["a"]) == 1
    assert counts(driver) == (2, 1, 0)
    assert [view.available_at for view in driver.peek("default", State.PENDING)] == [
        clock() - 1,
        clock(),
    ]
    assert ids(take(driver)) == ["c", "a"]


def test_only_delayed_jobs_are_hastened(driver, three):
    assert driver.hasten(iter(["pending", "reserved", "never-was", "delayed", "delayed"])) == 1
    assert driver.hasten(["delayed"]) == driver.hasten([]) == 0
    assert counts(driver) == (2, 0, 1)


def test_every_job_of_an_id_is_hastened_in_all_queues(driver, clock):
    put(driver, "a", "a", available_at=clock() + 500)
    put(driver, "a", queue="high", available_at=clock() + 500)
    assert driver.hasten(["a"]) == 3
    assert ids(take(driver, "high", "default")) == ["a", "a", "a"]


# --- clear ----------------------------------------------------------------------------------------
def test_clear_deletes_what_is_pending_or_delayed(driver, other, three):
    assert other.clear("default") == 2
    assert counts(driver) == (0, 0, 1)


def test_clear_leaves_the_other_queues_alone(driver, three):
    put(driver, "a", queue="elsewhere")
    driver.clear("default")
    assert counts(driver, "elsewhere") == (1, 0, 0)


def test_clear_of_an_empty_queue_deletes_nothing(driver):
    assert driver.clear("unused") == 0


def test_clear_leaves_jobs_whose_payload_has_a_given_text(driver, clock):
    put(driver, "a", "b")
    put(driver, "kept", "kept", payload='{"50%_x": "ÄΩ"}', priority=0)
    driver.put(
        [
            job(id="later", payload="50%_x", available_at=clock() + 60),
            job(id="gone", available_at=clock() + 60),
        ]
    )
    put(driver, "near", payload='{"50 px": 1}')
    assert driver.clear("default", ["not there", "50%_x"]) == 4
    assert sorted(ids(view for state in State for view in driver.peek("default", state))) == [
        "kept",
        "kept",
        "later",
    ]
    assert driver.clear("default", ["Ω"]) == 1
    assert driver.clear("default") == 2


def test_a_job_that_was_reserved_during_a_clear_can_come_back(driver, clock, three):
    driver.clear("default")
    clock.forward(LEASE)
    assert driver.rescue() == 1
    assert ids(take(driver)) == ["reserved"]


def test_clear_does_not_end_a_pause(driver):
    put(driver, "a")
    driver.pause("default")
    driver.clear("default")
    assert driver.paused() == {"default": None}
