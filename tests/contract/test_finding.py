"""find, scan, withdraw: a job by its id, every job there is, and taking out what nobody holds."""

from __future__ import annotations

import dataclasses

import pytest

from relevo.drivers.contract import State
from relevo.errors import OptionError
from tests.contract.given import LEASE, counts, ids, job, put, take_one


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


# --- find -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", list(State))
def test_find_shows_a_job_as_peek_does(driver, other, three, state):
    (found,) = other.find([state.value])
    assert [found] == driver.peek(found.queue, state)


def test_what_is_not_there_is_not_found(driver, three):
    assert driver.find(["nobody"]) == []
    assert driver.find([]) == []
    assert sorted(ids(driver.find(["nobody", "pending", "delayed", "pending"]))) == ["delayed", "pending"]


def test_several_may_have_one_id(driver):
    put(driver, "a", "a")
    assert ids(driver.find(["a"])) == ["a", "a"]


def test_a_delayed_job_whose_time_has_come_is_pending(driver, clock):
    driver.put([job(id="a", available_at=clock() + 10)])
    clock.forward(10)
    assert [found.state for found in driver.find(["a"])] == [State.PENDING]
    assert [found.state for found in driver.scan()[0]] == [State.PENDING]


def test_a_done_job_is_found_no_more(driver):
    put(driver, "a")
    driver.ack([take_one(driver).lease])
    assert driver.find(["a"]) == []


# --- scan -----------------------------------------------------------------------------------------------------------
def test_an_empty_broker_is_soon_looked_through(driver):
    assert driver.scan() == ([], "")


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_scan_sees_every_job_of_every_queue_in_every_state(driver, three, limit):
    seen = everything(driver, limit)
    assert {found.id: found.state for found in seen} == {state.value: state for state in State}
    assert {found.id: found.queue for found in seen}["pending"] == "other"


def test_what_stays_is_seen_whatever_comes_and_goes(driver):
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
def test_a_place_that_is_none_is_refused(driver, after):
    with pytest.raises(OptionError, match="expected after to be what scan has answered"):
        driver.scan(after)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_has_at_least_one_job(driver, limit):
    with pytest.raises(OptionError, match="expected limit to be 1 or more"):
        driver.scan("", limit)


# --- withdraw -------------------------------------------------------------------------------------------------------
def test_what_nobody_holds_is_withdrawn_and_what_runs_is_left(driver, other, three):
    before = driver.find(["pending", "delayed"])
    gone = other.withdraw(["pending", "delayed", "reserved", "nobody"])
    assert sorted(gone, key=lambda found: found.id) == sorted(before, key=lambda found: found.id)
    assert ids(driver.scan()[0]) == ["reserved"]
    assert other.withdraw(["pending", "delayed"]) == []


def test_a_withdrawn_job_is_never_reserved(driver, clock, three):
    driver.withdraw(["delayed"])
    clock.forward(3600 + LEASE)
    driver.rescue()
    assert ids(driver.reserve(["default"], 10, LEASE, by="worker")) == ["reserved"]


def test_its_unique_key_is_free_again(driver):
    driver.put([job(id="a", unique_key="k")])
    driver.withdraw(["a"])
    (placed,) = driver.put([job(id="b", unique_key="k")])
    assert placed.created


def test_it_can_be_put_again_as_it_was(driver, clock):
    driver.put([job("images", id="a", payload='{"a": 1}', priority=4, available_at=clock() + 50)])
    (gone,) = driver.withdraw(["a"])
    driver.put([job(gone.queue, id=gone.id, payload=gone.payload, priority=gone.priority,
                    available_at=gone.available_at)])  # fmt: skip
    assert driver.find(["a"]) == [dataclasses.replace(gone)]


def test_a_job_of_several_with_its_id_is_held_and_the_others_go(driver):
    put(driver, "a", "a", "a")
    driver.reserve(["default"], 1, LEASE, by="worker")
    assert ids(driver.withdraw(["a"])) == ["a", "a"]
    assert counts(driver) == (0, 0, 1)


def test_thousands_can_be_found_and_withdrawn_in_one_call(driver):
    names = [f"job-{number}" for number in range(2500)]
    driver.put([job(id=name) for name in names])
    assert len(driver.find(names)) == 2500
    assert len(driver.withdraw(names)) == 2500
    assert counts(driver) == (0, 0, 0)
