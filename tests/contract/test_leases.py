"""Leases: extend, ack and rescue; a lease that has ended changes nothing."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Lease, State
from relevo.transport.lease_keeper import LeaseKeeper
from tests.support.driver_jobs import LEASE, counts, ids, job, put, state_of, take, take_one


@pytest.fixture
def held(driver):
    """A job that a worker holds."""
    driver.put([job(id="a", payload="original")])
    return take_one(driver)


@pytest.fixture
def stale(driver, clock, held):
    """A lease that was rescued from; its job waits."""
    clock.forward(LEASE)
    assert driver.rescue() == 1
    return held.lease


# --- ack ------------------------------------------------------------------------------------------
def test_an_acked_job_is_gone(driver, held):
    assert driver.ack([held.lease]) == 1
    assert state_of(driver, "a") == []
    assert driver.queues() == []


def test_a_second_ack_changes_nothing(driver, held):
    assert driver.ack([held.lease, held.lease]) == 1
    assert driver.ack([held.lease]) == 0


def test_an_ack_takes_only_what_it_names(driver):
    put(driver, "a", "b", "c")
    leases = [one.lease for one in take(driver)]
    assert driver.ack([leases[0], leases[2]]) == 2
    assert ids(driver.peek("default", State.RESERVED)) == ["b"]


def test_another_process_may_ack_what_this_one_took(driver, other, held):
    assert other.ack([held.lease]) == 1


@pytest.mark.parametrize("verb", ["ack", "extend", "release"])
def test_an_empty_list_of_leases_changes_nothing(driver, held, verb):
    arguments = [[], LEASE] if verb == "extend" else [[]]
    assert not getattr(driver, verb)(*arguments)
    assert counts(driver) == (0, 0, 1)


# --- extend ---------------------------------------------------------------------------------------
def test_an_extended_lease_ends_that_long_from_now(driver, clock, held):
    # When ten seconds into a lease of thirty it is renewed for thirty
    clock.forward(10)
    assert driver.extend([held.lease], LEASE) == []

    # I expect it to hold for thirty more, not for fifty
    [view] = driver.peek("default", State.RESERVED)
    assert view.reserved_until == clock() + LEASE
    clock.forward(LEASE - 1)
    assert driver.rescue() == 0
    clock.forward(1)
    assert driver.rescue() == 1


def test_a_job_of_many_leases_is_started_once_while_its_worker_lives(driver, other, clock, held):
    for _ in range(10):
        clock.forward(LEASE - 1)
        assert driver.extend([held.lease], LEASE) == []
        assert other.rescue() == 0
        assert take(other) == []
    assert driver.ack([held.lease]) == 1


def test_extend_tells_which_leases_are_no_longer_held(driver):
    # Given three leases, of which one is acked
    put(driver, "a", "b", "c")
    a, b, c = (one.lease for one in take(driver))
    driver.ack([b])

    # I expect that one back, and the unknown lease
    never = Lease(c.key, "never")
    assert set(driver.extend([a, b, c, never], LEASE)) == {b, never}


# --- rescue ---------------------------------------------------------------------------------------
def test_a_lease_is_not_over_before_its_time(driver, clock, held):
    clock.forward(LEASE - 1)
    assert driver.rescue() == 0
    assert state_of(driver, "a") == [State.RESERVED]


def test_the_jobs_of_a_dead_worker_come_back_and_count_it(driver, other, clock, held):
    # Given a worker that died, and others that live
    put(driver, "b")
    alive = take_one(other, lease=LEASE * 2)
    clock.forward(LEASE)

    # When a process rescues
    assert other.rescue() == 1

    # I expect only the dead one's job to come back, with its attempt counted and its rescue too
    again = take_one(other)
    assert (again.id, again.attempts, again.rescues) == ("a", 2, 1)
    assert driver.ack([alive.lease]) == 1


def test_a_rescue_brings_back_once(driver, stale):
    assert driver.rescue() == 0
    assert counts(driver) == (1, 0, 0)


def test_a_rescued_job_stands_where_it_stood(driver, clock):
    # Given that the second of three was taken before the third came
    put(driver, "first", priority=0)
    put(driver, "second", priority=1)
    first, _second = take(driver)
    clock.forward(1)
    put(driver, "third", priority=1)
    driver.release([first.lease], delay=LEASE)
    clock.forward(LEASE)

    # When its worker turns out to be dead
    driver.rescue()

    # I expect it before the third
    assert ids(take(driver)) == ["first", "second", "third"]


def test_a_job_that_kills_its_worker_counts_every_rescue(driver, clock):
    put(driver, "a")
    for rescued in range(3):
        assert take_one(driver).rescues == rescued
        clock.forward(LEASE)
        driver.rescue()
    last = take_one(driver)
    assert (last.attempts, last.rescues) == (4, 3)


def test_a_view_shows_attempts_and_rescues_and_no_holder(driver, stale):
    [view] = driver.peek("default", State.PENDING)
    assert (view.attempts, view.rescues, view.reserved_by, view.reserved_until) == (
        1,
        1,
        None,
        None,
    )


# --- a holder who is late, and one who is too late ------------------------------------------------
def test_a_reserve_rescues_too(driver, other, clock, held):
    # Given a worker that died, and no rescue
    clock.forward(LEASE)
    assert state_of(driver, "a") == [State.RESERVED]

    # When another asks for jobs, I expect it to get the dead one's
    again = take_one(other)
    assert (again.id, again.attempts, again.rescues) == ("a", 2, 1)
    assert driver.ack([held.lease]) == 0
    assert driver.rescue() == 0


def test_a_late_ack_inside_reserve_comes_before_the_rescue(driver, clock, held):
    clock.forward(LEASE + 1)
    assert driver.reserve(["default"], 5, LEASE, "worker", done=[held.lease]) == []
    assert driver.queues() == []


def test_an_ack_after_the_end_of_a_lease_counts_before_the_rescue(driver, clock, held):
    clock.forward(LEASE + 1)
    assert driver.ack([held.lease]) == 1
    assert driver.rescue() == 0


def test_an_extend_after_the_end_of_a_lease_counts_before_the_rescue(driver, clock, held):
    clock.forward(LEASE + 1)
    assert driver.extend([held.lease], LEASE) == []
    assert driver.rescue() == 0


def test_a_release_after_the_end_of_a_lease_counts_before_the_rescue(driver, clock, held):
    clock.forward(LEASE + 1)
    assert driver.release([held.lease]) == 1
    assert counts(driver) == (1, 0, 0)


def test_after_the_rescue_an_ack_changes_nothing(driver, stale):
    assert driver.ack([stale]) == 0
    assert state_of(driver, "a") == [State.PENDING]


def test_after_the_rescue_an_extend_changes_nothing(driver, stale):
    assert driver.extend([stale], LEASE) == [stale]
    assert state_of(driver, "a") == [State.PENDING]


def test_after_the_rescue_a_release_changes_nothing(driver, stale):
    assert driver.release([stale], delay=60, payload="changed", attempts=0) == 0
    [view] = driver.peek("default", State.PENDING)
    assert (view.payload, view.attempts) == ("original", 1)


def test_a_stale_lease_does_not_affect_the_next_reservation(driver, other, clock, stale):
    # Given that another worker has the job now
    current = take_one(other)

    # When the first does everything it can with the lease it had
    assert driver.ack([stale]) == 0
    assert driver.release([stale], delay=60) == 0
    assert driver.extend([stale], 3600) == [stale]

    # I expect the other's lease to be as it was
    [view] = driver.peek("default", State.RESERVED)
    assert view.reserved_until == clock() + LEASE
    assert other.ack([current.lease]) == 1


def test_a_stale_and_a_live_lease_of_one_job_may_come_in_one_call(driver, stale):
    current = take_one(driver).lease
    assert driver.extend([stale, current], LEASE) == [stale]
    assert driver.ack([current, stale]) == 1


def test_a_released_or_acked_lease_is_stale_too(driver, held):
    driver.release([held.lease])
    assert driver.ack([held.lease]) == 0
    assert driver.release([held.lease]) == 0
    assert driver.extend([held.lease], LEASE) == [held.lease]
    assert counts(driver) == (1, 0, 0)


# --- a process that stood still for longer than a lease -------------------------------------------
@pytest.fixture
def keeper(driver):
    keeper = LeaseKeeper(driver, LEASE)
    yield keeper
    keeper.close()


def test_reclaim_takes_a_running_job_back_unless_another_worker_has_it(
    driver, other, clock, keeper
):
    put(driver, "a", "b", "c")
    first, *rest = [job.lease.token for job in keeper.adopt(take(driver))]
    clock.forward(LEASE + 1)
    other.rescue()
    assert ids(take(other, limit=1)) == ["a"]
    assert keeper.renew()
    assert counts(driver) == (0, 0, 3)
    assert [keeper.holds(token) for token in (first, *rest)] == [False, True, True]
    keeper.complete_many([first, *rest])
    keeper.flush()
    assert counts(driver) == (0, 0, 1)
    assert state_of(driver, "a") == [State.RESERVED]


def test_reclaim_leaves_another_job_of_the_same_id_alone(driver, other, clock, keeper):
    put(driver, "a")
    [mine] = keeper.adopt(take(driver))
    clock.forward(LEASE + 1)
    other.rescue()
    other.ack([take_one(other).lease])
    put(other, "a", available_at=other.now() + 100)
    assert keeper.renew()
    assert not keeper.holds(mine.lease.token)
    [view] = driver.peek("default", State.DELAYED)
    assert (view.attempts, view.available_at) == (0, pytest.approx(clock.time + 100))
