"""Many permits in one call: a worker's main process takes them for reserved jobs, passes them on
and gives them back.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from relevo.errors import OptionError
from relevo.limits.contract import PermitHandover, PermitRequest
from tests.support.driver_jobs import LEASE

KEY, OTHER = "overlap/a.task/1", "overlap/a.task/2"


@pytest.fixture
def want(ground):
    def want(job_id, key=KEY, at_most=2):
        return PermitRequest(key, at_most, ground.job(job_id, lease=1000))

    return want


def held(limits, key=KEY):
    return sorted(one.job_id for view in limits.views(key) for one in view.holders)


def test_free_permits_are_taken_in_order_and_jobs_without_one_do_not_queue(limits, other, want):
    jobs = [want(name) for name in "abc"] + [want("d", OTHER, 1)]
    assert limits.take_free(jobs) == {
        jobs[0].holder.token,
        jobs[1].holder.token,
        jobs[3].holder.token,
    }
    assert held(other) == ["a", "b"]
    assert [view.waiting for key in (KEY, OTHER) for view in other.views(key)] == [0, 0]


def test_a_job_with_a_permit_has_it_also_when_it_asks_itself(limits, want):
    job = want("a", at_most=1)
    assert limits.take_free([job]) == {job.holder.token}
    assert limits.take_free([job, want("b", at_most=1)]) == {job.holder.token}
    assert limits.take(KEY, 1, job.holder) == 0


def test_no_permit_is_taken_while_a_job_waits_for_it(limits, other, want):
    first, waits = want("a", at_most=1), want("b")
    limits.take_free([first])
    assert limits.take(KEY, 1, waits.holder) > 0
    assert other.take_free([want("c")]) == set()
    assert other.take_free([want("d", OTHER)]) != set()


def test_a_permit_that_is_handed_over_is_never_free(limits, other, want):
    jobs = [want(name, at_most=1) for name in "abcd"]
    limits.take_free(jobs[:1])
    passed = limits.hand_over(
        [PermitHandover(jobs[0], jobs[1].holder), PermitHandover(jobs[1], jobs[2].holder)]
    )
    assert (passed.called, passed.crowded, passed.without) == ([], set(), set())
    assert held(other) == ["c"]
    assert other.take_free([jobs[3]]) == set()
    limits.hand_over([PermitHandover(jobs[2])])
    assert other.take_free([jobs[3]]) == {jobs[3].holder.token}


@pytest.mark.parametrize("at_most", [1, 2])
def test_a_call_repeated_after_a_lost_answer_is_done_once(limits, other, want, at_most):
    jobs = [want(name, at_most=at_most) for name in "abc"]
    limits.take_free(jobs[:1])
    for _ in range(2):
        passed = limits.hand_over([PermitHandover(jobs[0], jobs[1].holder)])
        assert (passed.called, passed.crowded, passed.without) == ([], set(), set())
        assert held(other) == ["b"]
    assert (other.take_free([jobs[2]]) != set()) == (at_most > 1)


def test_each_permit_given_back_calls_a_waiting_job(limits, other, want):
    jobs, waiting = [want(name) for name in "ab"], [want(name) for name in "cde"]
    limits.take_free(jobs)
    for each in waiting:
        limits.take(KEY, 2, each.holder)
    passed = other.hand_over([PermitHandover(each) for each in jobs])
    assert (sorted(passed.called), passed.crowded) == (["c", "d"], {KEY})
    assert limits.take(KEY, 2, waiting[0].holder) == 0


def test_no_waiting_job_is_called_for_a_permit_that_is_handed_over(limits, want):
    first, second, waits = (want(name, at_most=1) for name in "abc")
    limits.take_free([first])
    limits.take(KEY, 1, waits.holder)
    passed = limits.hand_over([PermitHandover(first, second.holder)])
    assert (passed.called, passed.crowded, passed.without) == ([], {KEY}, set())
    assert limits.hand_over([PermitHandover(second)]).called == ["c"]


def test_a_lost_permit_can_not_be_handed_over_but_a_free_one_is_taken(
    ground, limits, other, want, clock
):
    jobs = [want(name, at_most=1) for name in "abcd"]
    limits.take_free(jobs[:1])
    ground.driver.ack([ground.reserved["a"].lease])
    assert limits.hand_over([PermitHandover(jobs[0], jobs[1].holder)]).without == set()
    assert held(other) == ["b"]

    # And when it is another's by now, I expect to be told who has none
    assert limits.hand_over([PermitHandover(jobs[0], jobs[2].holder)]).without == {
        jobs[2].holder.token
    }
    assert held(other) == ["b"]


def test_a_handover_written_twice_after_a_lost_answer_changes_nothing(limits, other, want):
    jobs = [want(name, at_most=1) for name in "abc"]
    limits.take_free(jobs[:1])
    left = [PermitHandover(jobs[0], jobs[1].holder), PermitHandover(jobs[1], jobs[2].holder)]
    limits.hand_over(left)
    assert limits.hand_over(left).without <= {jobs[1].holder.token, jobs[2].holder.token}
    assert held(other) == ["c"]
    limits.hand_over([PermitHandover(jobs[2])])
    limits.hand_over([PermitHandover(jobs[2])])
    assert held(other) == []


def test_a_permit_of_a_cleared_key_has_no_holder(limits, want):
    first, second = want("a", at_most=1), want("b", at_most=1)
    limits.take_free([first])
    limits.clear(KEY)
    limits.hand_over([PermitHandover(first, second.holder)])
    assert len(held(limits)) <= 1
    limits.hand_over([PermitHandover(second)])
    assert held(limits) == []


def test_permits_taken_in_bulk_end_with_their_leases(ground, limits, other, clock):
    job = PermitRequest(KEY, 1, ground.job("a"))
    limits.take_free([job])
    clock.forward(LEASE + 1)
    ground.driver.rescue()
    last = PermitRequest(KEY, 1, ground.job("b"))
    assert other.take_free([last]) == {last.holder.token}


def test_concurrent_bulk_calls_never_exceed_the_limits(limits, other, want):
    jobs = [
        [want(f"{side}{number}", f"overlap/t/{number % 7}", 2) for number in range(14)]
        for side in "xy"
    ]
    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(lambda side: (limits, other)[side].take_free(jobs[side]), range(2)))
    assert sum(map(len, taken)) == 14
    assert {view.used for view in limits.views("overlap/t/")} == {2}
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda side: (limits, other)[side].hand_over(
                    [PermitHandover(job) for job in jobs[side]]
                ),
                range(2),
            )
        )
    assert limits.views("overlap/t/") == []


def test_an_empty_bulk_call_asks_for_nothing(limits):
    assert limits.take_free([]) == set()
    assert limits.hand_over([]).called == []


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b"])
def test_a_key_too_long_for_brokers_is_refused(limits, want, key):
    with pytest.raises(OptionError, match="limit's key"):
        limits.take_free([want("a", key)])
