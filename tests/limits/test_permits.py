"""Permits: never more than there are, held as long as the lease, given in order, never stuck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from relevo.errors import OptionError
from relevo.limits.waiters import FIRST, LONGEST
from tests.support.driver_jobs import LEASE

KEY = "overlap/a.task/1"


def test_at_most_n_have_a_permit_and_the_next_is_told_to_wait(ground, limits, other):
    first, second, third = (ground.job(name) for name in "abc")
    assert limits.take(KEY, 2, first) == 0
    assert other.take(KEY, 2, second) == 0
    assert other.take(KEY, 2, third) == pytest.approx(FIRST)


def test_keys_are_separate_and_compared_exactly(ground, limits):
    assert limits.take("overlap/t/a", 1, ground.job("a")) == 0
    for number, key in enumerate(
        ("overlap/t/A", "overlap/t/a ", "overlap/t/ä", "overlap/t/ab", "overlap/t")
    ):
        assert limits.take(key, 1, ground.job(f"b{number}")) == 0
    for view in limits.views():
        limits.clear(view.key)


def test_a_holder_that_asks_again_keeps_its_permit(ground, limits):
    holder = ground.job("a")
    assert limits.take(KEY, 1, holder) == 0
    assert limits.take(KEY, 1, holder) == 0
    limits.release(KEY, holder)
    assert limits.take(KEY, 1, ground.job("b")) == 0


def test_a_permit_that_is_given_back_is_free_for_the_next(ground, limits, other):
    holder = ground.job("a")
    limits.take(KEY, 1, holder)
    assert other.release(KEY, holder) == []
    assert limits.take(KEY, 1, ground.job("b")) == 0


def test_giving_back_a_permit_without_holding_it_changes_nothing(ground, limits):
    holder, stranger = ground.job("a"), ground.job("b")
    limits.take(KEY, 1, holder)
    limits.release(KEY, stranger)
    assert limits.take(KEY, 1, ground.job("c")) > 0


@pytest.mark.parametrize("end", ["ack", "release", "delete"])
def test_a_permit_ends_with_the_lease_however_it_ends(ground, limits, other, end):
    # Given a job that holds the permit and never gives it back
    holder = ground.job("a")
    limits.take(KEY, 1, holder)

    # When its lease ends
    lease = ground.reserved["a"].lease
    {
        "ack": lambda: ground.driver.ack([lease]),
        "release": lambda: ground.driver.release([lease], 60),
        "delete": lambda: ground.driver.delete(["a"]),
    }[end]()

    # I expect the permit to be free
    assert other.take(KEY, 1, ground.job("b")) == 0


def test_a_permit_is_held_exactly_as_long_as_the_lease_is_renewed(ground, limits, other, clock):
    holder = ground.job("a")
    limits.take(KEY, 1, holder)
    for _ in range(3):  # three leases long
        clock.forward(LEASE - 1)
        ground.driver.extend([ground.reserved["a"].lease], LEASE)
        assert other.take(KEY, 1, ground.job("b", lease=1000)) > 0

    # When its worker is dead and no process renews the lease
    clock.forward(LEASE + 0.001)

    # I expect the permit to be free at once, the job to be back, and the dead unable to come back
    # to life
    assert other.take(KEY, 1, ground.job("b", lease=1000)) == 0
    assert ground.driver.sizes("q-a").pending == 1
    assert ground.driver.extend([ground.reserved["a"].lease], LEASE) == [ground.reserved["a"].lease]


def test_the_same_job_on_its_next_lease_takes_the_permit_anew(ground, limits, clock):
    limits.take(KEY, 1, ground.job("a"))
    clock.forward(LEASE + 1)
    ground.driver.rescue()
    assert limits.take(KEY, 1, ground.job("a")) == 0


def test_waiting_jobs_are_called_in_the_order_in_which_they_came(ground, limits, clock):
    # Given one who holds and three who wait
    holder = ground.job("a", lease=1000)
    limits.take(KEY, 1, holder)
    waiting = {name: ground.job(name, lease=1000) for name in "bcd"}
    for job in waiting.values():
        assert limits.take(KEY, 1, job) > 0
        clock.forward(0.1)

    # When the permit goes from one to the next, I expect the first in line to be called each time
    called = limits.release(KEY, holder)
    for name in "bcd":
        assert called == [name]
        assert limits.take(KEY, 1, waiting[name]) == 0
        called = limits.release(KEY, waiting[name])
    assert called == []


def test_a_called_job_keeps_its_turn_for_a_second(ground, limits, clock):
    holder, called = ground.job("a"), ground.job("b")
    limits.take(KEY, 1, holder)
    limits.take(KEY, 1, called)
    limits.release(KEY, holder)
    late = ground.job("c")
    assert limits.take(KEY, 1, late) > 0
    clock.forward(1.01)  # it never came
    assert limits.take(KEY, 1, late) == 0


def test_a_job_that_missed_its_call_is_called_again_if_no_other_waits(ground, limits, clock):
    # Given one whose call was lost: it was just on its way back to its queue
    holder, missed = ground.job("a"), ground.job("b")
    limits.take(KEY, 1, holder)
    limits.take(KEY, 1, missed)
    assert limits.release(KEY, holder) == ["b"]
    clock.forward(1.01)
    late = ground.job("c")
    assert limits.take(KEY, 1, late) == 0

    # I expect the next permit that is given back to call it again, behind those who were not called
    # yet
    assert limits.take(KEY, 1, ground.job("d")) > 0
    assert limits.release(KEY, late) == ["d"]
    clock.forward(1.01)
    limits.take(KEY, 1, late)
    assert limits.release(KEY, late) == ["b"]


def test_as_many_waiting_jobs_are_called_as_permits_are_free(ground, limits):
    holders = [ground.job(name) for name in "ab"]
    for holder in holders:
        limits.take(KEY, 2, holder)
    for name in "cde":
        limits.take(KEY, 2, ground.job(name))
    ground.driver.ack([ground.reserved["a"].lease])  # ended without giving back
    assert limits.release(KEY, holders[1]) == ["c", "d"]


def test_a_waiting_job_asks_less_than_once_a_second_and_ever_less_often(ground, limits, clock):
    # Given one who holds for long
    limits.take(KEY, 1, ground.job("a", lease=1000))
    waiting = ground.job("b", lease=1000)
    waits = []
    while sum(waits) < 120:
        waits.append(limits.take(KEY, 1, waiting))
        clock.forward(waits[-1])
    assert min(waits) >= FIRST
    assert max(waits) == LONGEST
    assert len(waits) < 12


def test_a_job_further_back_in_the_queue_waits_longer(ground, limits, clock):
    for name in "ab":
        limits.take(KEY, 2, ground.job(name, lease=1000))
    waits = []
    for name in "cdefgh":
        waits.append(limits.take(KEY, 2, ground.job(name, lease=1000)))
        clock.forward(0.01)
    assert waits == pytest.approx([FIRST, FIRST, FIRST, FIRST * 1.5, FIRST * 2, FIRST * 2.5])


def test_a_waiting_job_that_never_comes_is_forgotten(ground, limits, clock):
    limits.take(KEY, 1, ground.job("a", lease=1000))
    limits.take(KEY, 1, ground.job("b", lease=1000))
    clock.forward(FIRST + 61)
    limits.take(KEY, 1, ground.job("c", lease=1000))
    assert limits.views()[0].line == ["c"]


def test_concurrent_jobs_never_get_more_permits_than_there_are(ground, limits, other):
    jobs = [ground.job(f"j{number}") for number in range(8)]
    with ThreadPoolExecutor(6) as pool:
        waits = list(
            pool.map(lambda job: (limits, other)[int(job.job_id[1:]) % 2].take(KEY, 3, job), jobs)
        )
    assert sum(wait == 0 for wait in waits) == 3


def test_the_number_of_permits_may_change(ground, limits):
    first, second = ground.job("a"), ground.job("b")
    assert limits.take(KEY, 1, first) == 0
    assert limits.take(KEY, 2, second) == 0
    assert limits.take(KEY, 1, ground.job("c")) > 0


def test_views_show_the_holders_with_their_ends_and_the_waiting_jobs(ground, limits, other, clock):
    limits.take(KEY, 1, ground.job("a"))
    began = clock()
    clock.forward(1)
    limits.take(KEY, 1, ground.job("b"))
    [view] = other.views()
    assert (view.key, view.used, view.most, view.waiting, view.line) == (KEY, 1, 1, 1, ["b"])
    [held] = view.holders
    assert (held.job_id, held.task, held.since) == ("a", "a.task", began)
    assert held.until == pytest.approx(began + LEASE)
    assert limits.views("overlap/a") == [view]
    assert limits.views("rate/") == []


def test_a_cleared_key_is_free_and_returns_the_waiting_jobs(ground, limits, other):
    limits.take(KEY, 1, ground.job("a"))
    limits.take(KEY, 1, ground.job("b"))
    assert other.clear(KEY) == ["b"]
    assert limits.views() == []
    assert limits.take(KEY, 1, ground.job("c")) == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b"])
def test_a_key_too_long_for_brokers_is_refused(ground, limits, key):
    with pytest.raises(OptionError, match="limit's key"):
        limits.take(key, 1, ground.job("a"))
