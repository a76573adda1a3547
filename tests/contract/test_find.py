"""find, scan and hold: a job by its id, all jobs, and jobs taken out of their queue."""

from __future__ import annotations

import dataclasses

import pytest

from relevo.drivers.contract import State
from relevo.errors import OptionError
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take_one


@pytest.fixture
def three(driver, clock):
    """One job in each state, named for it."""
    put(driver, "reserved")
    take_one(driver)
    put(driver, "pending", queue="other")
    driver.put([job(id="delayed", available_at=clock() + 3600)])


def everything(driver, limit):
    """All that a scan sees, page by page."""
    seen, after = [], ""
    while True:
        jobs, after = driver.scan(after, limit)
        seen += jobs
        if not after:
            return seen


# --- find -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", list(State))
def test_find_shows_a_job_as_peek_does(driver, other, three, state):
    (found,) = other.find([state.value])
    assert [found] == driver.peek(found.queue, state)


def test_a_missing_job_is_not_found(driver, three):
    assert driver.find(["nobody"]) == []
    assert driver.find([]) == []
    assert sorted(ids(driver.find(["nobody", "pending", "delayed", "pending"]))) == [
        "delayed",
        "pending",
    ]


def test_several_jobs_may_have_one_id(driver):
    put(driver, "a", "a")
    assert ids(driver.find(["a"])) == ["a", "a"]


def test_a_delayed_job_whose_time_has_come_is_pending(driver, clock):
    driver.put([job(id="a", available_at=clock() + 10)])
    clock.forward(10)
    assert [found.state for found in driver.find(["a"])] == [State.PENDING]
    assert [found.state for found in driver.scan()[0]] == [State.PENDING]


def test_an_acked_job_is_not_found(driver):
    put(driver, "a")
    driver.ack([take_one(driver).lease])
    assert driver.find(["a"]) == []


# --- scan -----------------------------------------------------------------------------------------
def test_a_scan_of_an_empty_broker_ends_at_once(driver):
    assert driver.scan() == ([], "")


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_scan_sees_every_job_of_every_queue_in_every_state(driver, three, limit):
    seen = everything(driver, limit)
    assert {found.id: found.state for found in seen} == {state.value: state for state in State}
    assert {found.id: found.queue for found in seen}["pending"] == "other"


def test_scan_sees_each_lasting_job_while_others_come_and_go(driver):
    put(driver, *(f"stays-{number}" for number in range(700)))
    put(driver, *(f"goes-{number}" for number in range(700)))
    seen, after = driver.scan("", 100)
    driver.delete(f"goes-{number}" for number in range(700))
    put(driver, *(f"comes-{number}" for number in range(700)))
    while after:
        more, after = driver.scan(after, 100)
        seen += more
    assert {f"stays-{number}" for number in range(700)} <= set(ids(seen))


@pytest.mark.parametrize("after", ["x", "-1", "1 OR 1=1", "9" * 21, None, 7, "٣"])
def test_a_bad_position_is_refused(driver, after):
    with pytest.raises(OptionError, match="expected after to be what scan has answered"):
        driver.scan(after)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_has_at_least_one_job(driver, limit):
    with pytest.raises(OptionError, match="expected limit to be 1 or more"):
        driver.scan("", limit)


# --- hold -----------------------------------------------------------------------------------------
def hold(driver, *ids_):
    return driver.hold(ids_, LEASE, by="mender")


def leases(held):
    return [each.lease for each in held]


def test_hold_takes_jobs_without_a_lease_and_leaves_running_ones(driver, other, three):
    before = driver.find(["pending", "delayed"])
    held = hold(other, "pending", "delayed", "reserved", "nobody")
    assert sorted((each.was for each in held), key=lambda was: was.id) == sorted(
        before, key=lambda was: was.id
    )
    found = driver.find(["pending", "delayed"])
    assert {(each.state, each.reserved_by, each.attempts) for each in found} == {
        (State.RESERVED, "mender", 0)
    }
    assert hold(driver, "pending", "delayed") == []


def test_a_held_job_is_never_reserved_and_gone_when_it_is_acked(driver, other, clock, three):
    held = hold(driver, "delayed", "pending")
    clock.forward(LEASE - 1)
    assert ids(other.reserve(["default", "other"], 10, LEASE, by="worker")) == []
    assert other.ack(leases(held)) == 2
    clock.forward(3600)
    driver.rescue()
    assert ids(driver.reserve(["default", "other"], 10, LEASE, by="worker")) == ["reserved"]


@pytest.mark.parametrize("how", ["let go", "left by the dead"])
def test_a_held_job_that_is_not_acked_comes_back_as_it_stood(driver, other, clock, how):
    # Given jobs of each kind, one of which was tried before
    driver.put([job(id="delayed", available_at=clock() + 3600), job(id="tried")])
    driver.release([take_one(driver).lease], attempts=3)
    put(driver, "fresh")
    before = {each.id: each for each in driver.find(["delayed", "tried", "fresh"])}

    # When they are held and nothing else is done, I expect them unchanged in their places
    for each in hold(driver, "delayed", "tried", "fresh"):
        if how == "let go":
            assert other.release([each.lease], attempts=each.was.attempts) == 1
    if how != "let go":
        clock.forward(LEASE)
        assert other.rescue() == 3
        before = {name: dataclasses.replace(view, rescues=1) for name, view in before.items()}
    assert {each.id: each for each in driver.find(["delayed", "tried", "fresh"])} == before
    assert [view.id for view in driver.peek("default", State.PENDING)] == ["tried", "fresh"]
    clock.forward(3600)
    assert sorted(ids(driver.reserve(["default"], 10, LEASE, by="worker"))) == [
        "delayed",
        "fresh",
        "tried",
    ]


def test_a_parked_job_that_is_held_during_the_lift_is_due_afterwards(driver, other):
    put(driver, "a")
    driver.suspend("task:mail")
    driver.park([take_one(driver).lease], "task:mail")
    (held,) = hold(driver, "a")
    other.lift("task:mail")
    driver.release([held.lease], attempts=0)
    assert ids(driver.reserve(["default"], 10, LEASE, by="worker")) == ["a"]


def test_the_unique_key_of_a_held_job_is_free_after_its_ack(driver):
    driver.put([job(id="a", unique_key="k")])
    held = hold(driver, "a")
    (placed,) = driver.put([job(id="b", unique_key="k")])
    assert (placed.created, placed.id) == (False, "a")
    driver.ack(leases(held))
    (placed,) = driver.put([job(id="b", unique_key="k")])
    assert placed.created


def test_a_job_of_several_with_its_id_is_reserved_and_the_others_are_held(driver):
    put(driver, "a", "a", "a")
    driver.reserve(["default"], 1, LEASE, by="worker")
    assert [each.was.id for each in hold(driver, "a")] == ["a", "a"]
    assert counts(driver) == (0, 0, 3)


def test_thousands_can_be_found_and_held_in_one_call(driver):
    names = [f"job-{number}" for number in range(2500)]
    driver.put([job(id=name) for name in names])
    assert len(driver.find(names)) == 2500
    held = hold(driver, *names)
    assert len(held) == 2500
    assert driver.ack(leases(held)) == 2500
    assert counts(driver) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ids": [""]}, "id"),
        ({"lease": 0}, "lease"),
        ({"lease": float("nan")}, "lease"),
        ({"by": ""}, "by"),
    ],
)
def test_invalid_arguments_are_refused(driver, given, said):
    put(driver, "a")
    with pytest.raises(OptionError, match=f"expected {said} to"):
        driver.hold(**{"ids": ["a"], "lease": LEASE, "by": "mender"} | given)
    assert counts(driver) == (1, 0, 0)
