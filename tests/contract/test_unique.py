"""Unique keys: at most one job has each, and it is free as soon as that job is gone."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Conflict, Lease
from relevo.errors import OptionError
from tests.support.driver_jobs import LEASE, counts, job, put, take, take_one


@pytest.fixture
def holder(driver):
    """A pending job that has the key "k"."""
    driver.put([job(id="holder", unique_key="k")])


def is_free(driver, key="k"):
    [placed] = driver.put([job(unique_key=key)])
    return placed.created


def test_a_second_job_of_the_same_key_is_not_put_and_names_the_first(driver, other, holder):
    # When another process puts a job with the same key
    [placed] = other.put([job(id="second", unique_key="k")])

    # I expect the answer to name the job that has it, and nothing to be added
    assert (placed.id, placed.created) == ("holder", False)
    assert counts(driver) == (1, 0, 0)


def test_a_key_counts_over_all_queues(driver, holder):
    driver.put([job("elsewhere", unique_key="k")])
    assert driver.queues() == ["default"]


def test_of_two_jobs_in_one_call_the_first_gets_the_key(driver):
    # When a call brings the same key twice, among others
    placed = driver.put([job(id="a", unique_key="k"), job(id="b"), job(id="c", unique_key="k")])

    # I expect the first to have it and the one without a key to be there too
    assert [(one.id, one.created) for one in placed] == [("a", True), ("b", True), ("a", False)]
    assert counts(driver) == (2, 0, 0)


def test_a_taken_key_does_not_keep_the_others_of_the_call_away(driver, holder):
    placed = driver.put([job(id="a", unique_key="k"), job(id="b", unique_key="l")])
    assert [(one.id, one.created) for one in placed] == [("holder", False), ("b", True)]


def test_jobs_without_a_key_never_exclude_each_other(driver):
    assert all(placed.created for placed in driver.put([job(), job()]))


def test_a_key_is_held_while_the_job_is_delayed(driver, clock):
    driver.put([job(unique_key="k", available_at=clock() + 60)])
    assert not is_free(driver)


def test_a_key_is_held_while_the_job_is_reserved_released_or_rescued(driver, clock, holder):
    # When the job is taken, put back, taken again and brought back
    lease = take_one(driver).lease
    assert not is_free(driver)
    driver.release([lease])
    assert not is_free(driver)
    take_one(driver)
    clock.forward(LEASE)
    driver.rescue()

    # I expect the key to have been held throughout
    assert not is_free(driver)


def test_a_key_is_free_after_the_ack(driver, holder):
    driver.ack([take_one(driver).lease])
    assert is_free(driver)


def test_a_key_is_free_after_an_ack_inside_reserve(driver, holder):
    driver.reserve(["default"], 1, LEASE, "worker", done=[take_one(driver).lease])
    assert is_free(driver)


def test_a_key_is_free_after_a_delete(driver, holder):
    driver.delete(["holder"])
    assert is_free(driver)


def test_a_key_is_free_after_the_delete_of_a_reserved_job(driver, holder):
    take_one(driver)
    driver.delete(["holder"])
    assert is_free(driver)


def test_a_key_is_free_after_a_clear(driver, holder):
    driver.clear("default")
    assert is_free(driver)


def test_a_key_is_held_after_a_clear_that_leaves_its_reserved_job(driver, holder):
    take_one(driver)
    driver.clear("default")
    assert not is_free(driver)


def test_the_late_ack_of_an_earlier_job_does_not_free_the_key_of_the_next(driver, holder):
    # Given a worker that holds a job which is deleted under it, and the next job with its key
    lease = take_one(driver).lease
    driver.delete(["holder"])
    driver.put([job(unique_key="k")])

    # When the worker acks
    driver.ack([lease])

    # I expect the key to be the next job's
    assert not is_free(driver)


@pytest.mark.parametrize("near", ["K", "k ", " k", "k\u0301", "kk"])
def test_keys_are_compared_character_by_character(driver, holder, near):
    assert is_free(driver, near)


def test_a_released_key_is_free_while_its_job_runs_and_after(driver, other, holder):
    # When the job is taken and lets its key go
    lease = take_one(driver).lease
    assert other.unlock([Lease.of(lease.token)]) == 1  # all that the process which runs it knows
    assert other.put([job(id="second", unique_key="k")])[0].created

    # I expect the key to be the second's, also when the first ends
    driver.release([lease])
    driver.ack([reserved.lease for reserved in driver.reserve(["default"], 1, LEASE, "worker")])
    assert not is_free(driver)
    assert counts(driver) == (1, 0, 0)


def test_only_the_holder_of_a_lease_frees_the_key(driver, clock, holder):
    # Given a lease that has ended, and the next one
    stale = take_one(driver).lease
    clock.forward(LEASE)
    driver.rescue()
    take_one(driver)

    # When the late holder lets go, I expect nothing to happen
    assert driver.unlock([stale]) == 0
    assert not is_free(driver)


def test_freeing_an_unknown_key_is_no_error(driver):
    put(driver, "a")
    assert driver.unlock([take_one(driver).lease]) == 1
    assert driver.unlock([]) == 0


def test_a_key_is_free_when_its_time_is_over(driver, clock, holder):
    # When less than its time has passed, then all of it
    clock.forward(59)
    assert not driver.put([job(unique_key="k", unique_for=60)])[0].created
    clock.forward(1)
    [placed] = driver.put([job(id="next", unique_key="k", unique_for=60)])

    # I expect the next to have the key, and the first to wait on, without one
    assert (placed.id, placed.created) == ("next", True)
    assert counts(driver) == (2, 0, 0)
    driver.delete(["holder"])
    assert not is_free(driver)


def test_the_time_of_a_key_counts_from_the_put_also_for_a_released_job(driver, clock, holder):
    # Given a job that is taken and put back, late
    clock.forward(50)
    driver.release([take_one(driver).lease], delay=30, payload="{}", attempts=1)
    clock.forward(10)

    # When the next comes, I expect it to be put
    assert driver.put([job(unique_key="k", unique_for=60)])[0].created


def test_the_time_of_a_key_counts_within_one_call_too(driver, clock, holder):
    clock.forward(60)
    placed = driver.put(
        [job(id="a", unique_key="k", unique_for=60), job(id="b", unique_key="k", unique_for=60)]
    )
    assert [(one.id, one.created) for one in placed] == [("a", True), ("a", False)]


# --- what becomes of the second one ---------------------------------------------------------------
def put_again(driver, conflict=Conflict.REPLACE, **fields):
    fields = {
        "id": "second",
        "payload": "new",
        "unique_key": "k",
        "on_conflict": conflict,
        **fields,
    }
    [placed] = driver.put([job(**fields)])
    return placed.id, placed.created, placed.replaced


def test_a_waiting_job_is_replaced_in_its_place_under_its_id(driver, other, clock, holder):
    # Given a job behind the one that has the key
    put(driver, "behind")
    clock.forward(5)

    # When it is replaced, in another process and another queue's name
    assert put_again(other, queue="elsewhere", priority=9) == ("holder", False, True)

    # I expect one job with the new payload in the old place
    assert driver.queues() == ["default"]
    assert [(one.id, one.payload) for one in take(driver)] == [("holder", "new"), ("behind", "{}")]


def test_a_replacement_with_its_own_time_moves_the_job(driver, clock, holder):
    # When it is put off, then put off again, then wanted at once
    put_again(driver, available_at=clock() + 60)
    assert counts(driver) == (0, 1, 0)
    put_again(driver, available_at=clock() + 30)
    clock.forward(29)
    assert take(driver) == []
    assert put_again(driver, available_at=clock()) == ("holder", False, True)

    # I expect it to be taken, and its key to be its own all along
    assert take_one(driver).payload == "new"
    assert not is_free(driver)


def test_a_job_that_is_put_off_again_and_again_runs_at_its_max_delay(driver, clock):
    # Given a job that is dispatched again every three seconds, to run five after the last, ten
    # after the first
    put_again(driver, Conflict.LATEST, id="first", available_at=clock() + 5, max_delay=10)
    for _ in range(3):
        clock.forward(3)
        put_again(driver, Conflict.LATEST, available_at=clock() + 5, max_delay=10)
        assert counts(driver) == (0, 1, 0)

    # I expect it to be due ten seconds after the first, and one that comes then not to put it off
    clock.forward(1)
    assert counts(driver) == (1, 0, 0)
    assert put_again(driver, Conflict.LATEST, available_at=clock() + 5, max_delay=10) == (
        "first",
        False,
        True,
    )
    assert take_one(driver).payload == "new"


def has_been_tried(driver):
    driver.release([take_one(driver).lease], attempts=1)


@pytest.mark.parametrize("start", [take_one, has_been_tried], ids=["is-held", "has-been-tried"])
def test_a_running_job_is_not_replaced_and_the_latest_takes_its_key(driver, holder, start):
    # Given a job that a worker holds, or that was tried, when the next one would replace it
    start(driver)
    assert put_again(driver) == ("holder", False, False)
    assert [view.payload for view in driver.find(["holder"])] == ["{}"]

    # When the next one is to be the latest, I expect it to be put, and to have the key
    assert put_again(driver, Conflict.LATEST) == ("second", True, False)
    assert put_again(driver, Conflict.LATEST, id="third", payload="newest") == (
        "second",
        False,
        True,
    )
    driver.delete(["holder"])
    assert not is_free(driver)
    assert take_one(driver).payload == "newest"


def test_one_call_can_put_and_replace(driver, holder):
    fields = {"unique_key": "k", "on_conflict": Conflict.REPLACE}
    placed = driver.put(
        [job(id="a", payload="1", **fields), job(id="b"), job(id="c", payload="2", **fields)]
    )
    assert [(one.id, one.created, one.replaced) for one in placed] == [
        ("holder", False, True),
        ("b", True, False),
        ("holder", False, True),
    ]
    assert [view.payload for view in driver.find(["holder"])] == ["2"]


def test_a_job_whose_key_has_expired_is_not_replaced(driver, clock, holder):
    clock.forward(60)
    assert put_again(driver, unique_for=60) == ("second", True, False)


def test_jobs_without_a_common_key_are_not_replaced(driver, holder):
    assert put_again(driver, unique_key="other") == ("second", True, False)
    assert put_again(driver, id="third", unique_key=None) == ("third", True, False)


@pytest.mark.parametrize("max_delay", [0, -1, float("nan"), float("inf")])
def test_a_bad_max_delay_is_refused(driver, max_delay):
    with pytest.raises(OptionError, match="max_delay"):
        put_again(driver, max_delay=max_delay)
    assert counts(driver) == (0, 0, 0)
