"""The jobs that a process holds while the broker is away or refuses their release."""

from __future__ import annotations

import threading
import time

import pytest

from relevo.drivers.contract import Lease, NewJob, ReservedJob, State
from relevo.drivers.memory import MemoryDriver
from relevo.errors import DriverError, DriverUnavailableError, OptionError
from relevo.transport.in_flight import MOST_FINISHED, InFlightJobs
from relevo.transport.lease_keeper import LeaseKeeper
from tests.support.brokers import HandClock


class Driver(MemoryDriver):
    """A broker that can be away, and that takes no payload of one byte."""

    away = False
    refusal: Exception = DriverError("no such payload")

    def release(self, leases, delay=0, payload=None, attempts=None):
        if self.away:
            raise DriverUnavailableError("gone")
        if payload == "!":
            raise self.refusal
        return super().release(leases, delay, payload, attempts)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def driver(clock):
    driver = Driver(clock)
    driver.put([NewJob(queue="default", payload="as it was", id="a")])
    return driver


@pytest.fixture
def keeper(driver):
    return LeaseKeeper(driver, lease=60)


@pytest.fixture
def token(driver, keeper):
    [job] = driver.reserve(["default"], 1, 60, "me")
    keeper.adopt([job])
    yield job.lease.token
    keeper.close()


def test_a_changed_release_waits_for_the_loop_and_is_then_one_call(driver, keeper, token):
    keeper.release_changed(token, 100, "changed", 7)
    assert keeper.holds(token)
    keeper.write_releases()
    [view] = driver.peek("default", State.DELAYED)
    assert (view.payload, view.attempts, view.reserved_by) == ("changed", 7, None)
    assert 0 < view.available_at - driver.now() <= 100
    assert not keeper.holds(token)


def test_a_changed_release_is_written_at_once_when_reserving_has_ended(driver, keeper, token):
    keeper.write_through = True
    keeper.release_changed(token, 0, "changed", 1)
    assert driver.peek("default", State.PENDING)[0].payload == "changed"


def test_while_the_broker_is_away_a_changed_release_and_its_lease_are_kept(driver, keeper, token):
    driver.away = True
    keeper.release_changed(token, 100, "changed", 2)
    keeper.write_releases()
    assert keeper.holds(token)
    driver.away = False
    keeper.write_releases()
    assert driver.peek("default", State.DELAYED)[0].payload == "changed"


def test_a_job_whose_changed_release_is_refused_is_released_unchanged(driver, keeper, token):
    keeper.release_changed(token, 0, "!", 2)
    keeper.write_releases()
    assert driver.peek("default", State.PENDING)[0].payload == "as it was"
    assert not keeper.holds(token)


@pytest.mark.parametrize("refusal", [DriverError("no"), OptionError("no"), UnicodeError("no")])
def test_a_refused_release_is_told_with_the_lease_still_held(driver, keeper, token, refusal):
    # Given a broker that refuses in a way of its own what goes back
    driver.refusal, told = refusal, []

    # When it is released, I expect the reason to be told, and the job not to be put back
    keeper.release_changed(token, 0, "!", 2, told.append)
    keeper.write_releases()
    assert told == ["it can't be released, the broker refuses it: no"]
    assert not keeper.has_pending_releases
    assert keeper.holds(token)


def test_a_job_whose_lease_was_lost_is_not_released(driver, keeper, token):
    keeper.release_changed(token, 0, "changed", 2)
    driver.delete(["a"])
    driver.put([NewJob(queue="default", payload="theirs", id="a")])
    keeper.write_releases()
    assert [view.payload for view in driver.peek("default", State.PENDING)] == ["theirs"]


def test_the_end_of_the_process_writes_the_waiting_releases(driver, keeper, token):
    keeper.release_changed(token, 100, "changed", 2)
    keeper.close()
    assert driver.peek("default", State.DELAYED)[0].payload == "changed"


# --- this process stood still, and its leases have ended ------------------------------------------
@pytest.fixture
def back(driver, clock, keeper, token):
    """The job that `token` names comes back to the process that still has it."""

    def come_back(lost=False):
        clock.forward(61)
        assert driver.rescue() == 1
        if lost:
            [theirs] = driver.reserve(["default"], 1, 60, "other")
            assert keeper.renew()
            assert not keeper.holds(token)
            driver.release([theirs.lease])
        return driver.reserve(["default"], 1, 60, "me")

    return come_back


def test_a_job_with_a_changed_release_is_reclaimed_first(driver, clock, keeper, token):
    keeper.release_changed(token, 100, "changed", 7)
    clock.forward(61)
    assert driver.rescue() == 1
    assert keeper.renew()
    keeper.write_releases()
    [view] = driver.peek("default", State.DELAYED)
    assert (view.payload, view.attempts) == ("changed", 7)


@pytest.mark.parametrize(
    ("leaves", "size"),
    [(LeaseKeeper.complete, 0), (lambda keeper, token: keeper.release([token]), 1)],
)
def test_a_job_that_ends_while_it_is_reclaimed_has_ended(
    driver, clock, keeper, token, monkeypatch, leaves, size
):
    clock.forward(61)
    assert driver.rescue() == 1
    hold = driver.hold
    monkeypatch.setattr(driver, "hold", lambda *given: leaves(keeper, token) or hold(*given))
    assert keeper.renew()
    keeper.flush()
    sizes = driver.sizes("default")
    assert (sizes.pending, sizes.reserved) == (size, 0)


def test_two_threads_that_find_a_lease_lost_reclaim_the_job_once(
    driver, clock, keeper, token, monkeypatch
):
    """The consuming loop and the renewing thread wake together."""
    clock.forward(61)
    assert driver.rescue() == 1
    hold, other = driver.hold, threading.Thread(target=keeper.renew)

    def held_while_another_renews(*given):
        jobs = hold(*given)
        monkeypatch.undo()
        other.start()
        other.join(0.2)  # it would have forgotten the job by then
        return jobs

    monkeypatch.setattr(driver, "hold", held_while_another_renews)
    assert keeper.renew()
    other.join()
    assert keeper.holds(token)
    assert driver.sizes("default").reserved == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_job_that_comes_back_while_it_runs_here_is_not_started_again(
    driver, keeper, token, back, lost
):
    assert keeper.adopt(back(lost)) == []
    assert keeper.holds(token)
    keeper.complete(token)
    keeper.flush()
    assert driver.sizes("default").reserved == 0
    assert driver.peek("default", State.PENDING) == []


def test_a_job_that_comes_back_when_it_has_ended_here_is_acked(driver, keeper, token, back):
    jobs = back(lost=True)
    keeper.complete(token)
    assert keeper.adopt(jobs) == []
    keeper.flush()
    assert driver.sizes("default").reserved == 0


def test_a_job_whose_ack_came_too_late_is_acked_when_it_comes_back(driver, clock, keeper, token):
    """Its lease had ended and it waits again, unknown to this process: the ack finds nothing."""
    clock.forward(61)
    assert driver.rescue() == 1
    keeper.complete(token)
    keeper.flush()
    assert keeper.adopt(driver.reserve(["default"], 1, 60, "me")) == []
    keeper.flush()
    sizes = driver.sizes("default")
    assert (sizes.pending, sizes.reserved) == (0, 0)


@pytest.mark.parametrize(
    "leaves",
    [
        lambda keeper, token: keeper.release([token]),
        lambda keeper, token: (
            keeper.release_changed(token, 0, "changed", 1),
            keeper.write_releases(),
        ),
    ],
)
def test_a_job_that_was_released_is_started_when_it_comes_back(keeper, token, back, leaves):
    jobs = back(lost=True)
    leaves(keeper, token)
    assert keeper.adopt(jobs) == jobs


def test_another_job_of_the_same_id_is_started(driver, keeper, token):
    driver.put([NewJob(queue="default", payload="another", id="a")])
    jobs = driver.reserve(["default"], 1, 60, "me")
    assert keeper.adopt(jobs) == jobs


def test_a_process_that_stood_still_is_late(keeper, token, monkeypatch):
    assert not keeper.is_late
    moment = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: moment + 50)
    assert keeper.is_late
    keeper.renew()
    assert not keeper.is_late


def test_the_number_of_remembered_ended_jobs_is_limited():
    in_flight = InFlightJobs()
    jobs = [
        ReservedJob(Lease(n, f"t{n}"), f"j{n}", "default", "", 0, 1, 0)
        for n in range(MOST_FINISHED + 1)
    ]
    for job in jobs:
        in_flight.add(job)
        in_flight.finish(job.lease.token)
    assert not in_flight.take_finished(jobs[0])
    assert in_flight.take_finished(jobs[1])
    assert not in_flight.take_finished(jobs[1])
