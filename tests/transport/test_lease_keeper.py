"""What a process holds, when the broker is away or says no at the moment it is to be put back."""

from __future__ import annotations

import threading
import time

import pytest

from relevo.drivers.contract import Lease, NewJob, ReservedJob, State
from relevo.drivers.memory import MemoryDriver
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport.in_flight import MOST_OVER, Roster
from relevo.transport.lease_keeper import Ledger
from tests.support.brokers import HandClock


class Driver(MemoryDriver):
    """A broker that can be away, and that takes no payload of one byte."""

    away = False

    def release(self, leases, delay=0, payload=None, attempts=None):
        if self.away:
            raise DriverUnavailableError("gone")
        if payload == "!":
            raise DriverError("no such payload")
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
def ledger(driver):
    return Ledger(driver, lease=60)


@pytest.fixture
def token(driver, ledger):
    [job] = driver.reserve(["default"], 1, 60, "me")
    ledger.take([job])
    yield job.lease.token
    ledger.close()


def test_a_job_that_goes_back_changed_waits_for_the_loop_and_is_then_one_step(
    driver, ledger, token
):
    ledger.put_back(token, 100, "changed", 7)
    assert ledger.holds(token)
    ledger.write_back()
    [view] = driver.peek("default", State.DELAYED)
    assert (view.payload, view.attempts, view.reserved_by) == ("changed", 7, None)
    assert 0 < view.available_at - driver.now() <= 100
    assert not ledger.holds(token)


def test_when_nobody_reserves_any_more_it_is_written_at_once(driver, ledger, token):
    ledger.write_through = True
    ledger.put_back(token, 0, "changed", 1)
    assert driver.peek("default", State.PENDING)[0].payload == "changed"


def test_while_the_broker_is_away_it_is_kept_and_so_is_its_lease(driver, ledger, token):
    driver.away = True
    ledger.put_back(token, 100, "changed", 2)
    ledger.write_back()
    assert ledger.holds(token)
    driver.away = False
    ledger.write_back()
    assert driver.peek("default", State.DELAYED)[0].payload == "changed"


def test_a_broker_that_will_not_have_it_changed_gets_it_as_it_was(driver, ledger, token):
    ledger.put_back(token, 0, "!", 2)
    ledger.write_back()
    assert driver.peek("default", State.PENDING)[0].payload == "as it was"
    assert not ledger.holds(token)


def test_one_whose_lease_was_lost_is_somebody_elses(driver, ledger, token):
    ledger.put_back(token, 0, "changed", 2)
    driver.delete(["a"])
    driver.put([NewJob(queue="default", payload="theirs", id="a")])
    ledger.write_back()
    assert [view.payload for view in driver.peek("default", State.PENDING)] == ["theirs"]


def test_the_end_of_the_process_writes_what_waits(driver, ledger, token):
    ledger.put_back(token, 100, "changed", 2)
    ledger.close()
    assert driver.peek("default", State.DELAYED)[0].payload == "changed"


# --- this process stood still, and its leases have ended ------------------------------------------
@pytest.fixture
def back(driver, clock, ledger, token):
    """The job that `token` names comes back to the process that still has it."""

    def come_back(lost=False):
        clock.forward(61)
        assert driver.rescue() == 1
        if lost:
            [theirs] = driver.reserve(["default"], 1, 60, "other")
            assert ledger.renew()
            assert not ledger.holds(token)
            driver.release([theirs.lease])
        return driver.reserve(["default"], 1, 60, "me")

    return come_back


def test_what_goes_back_changed_is_taken_back_first(driver, clock, ledger, token):
    ledger.put_back(token, 100, "changed", 7)
    clock.forward(61)
    assert driver.rescue() == 1
    assert ledger.renew()
    ledger.write_back()
    [view] = driver.peek("default", State.DELAYED)
    assert (view.payload, view.attempts) == ("changed", 7)


@pytest.mark.parametrize(
    ("leaves", "size"), [(Ledger.done, 0), (lambda ledger, token: ledger.release([token]), 1)]
)
def test_one_that_leaves_while_it_is_taken_back_has_left(
    driver, clock, ledger, token, monkeypatch, leaves, size
):
    clock.forward(61)
    assert driver.rescue() == 1
    hold = driver.hold
    monkeypatch.setattr(driver, "hold", lambda *given: leaves(ledger, token) or hold(*given))
    assert ledger.renew()
    ledger.flush()
    sizes = driver.sizes("default")
    assert (sizes.pending, sizes.reserved) == (size, 0)


def test_two_threads_that_find_it_lost_at_once_take_it_back_once(
    driver, clock, ledger, token, monkeypatch
):
    """The consuming loop and the renewing thread wake together."""
    clock.forward(61)
    assert driver.rescue() == 1
    hold, other = driver.hold, threading.Thread(target=ledger.renew)

    def held_while_another_renews(*given):
        jobs = hold(*given)
        monkeypatch.undo()
        other.start()
        other.join(0.2)  # it would have forgotten the job by then
        return jobs

    monkeypatch.setattr(driver, "hold", held_while_another_renews)
    assert ledger.renew()
    other.join()
    assert ledger.holds(token)
    assert driver.sizes("default").reserved == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_job_that_comes_back_while_it_runs_here_is_not_started_again(
    driver, ledger, token, back, lost
):
    assert ledger.take(back(lost)) == []
    assert ledger.holds(token)
    ledger.done(token)
    ledger.flush()
    assert driver.sizes("default").reserved == 0
    assert driver.peek("default", State.PENDING) == []


def test_a_job_that_comes_back_when_it_has_ended_here_is_acked(driver, ledger, token, back):
    jobs = back(lost=True)
    ledger.done(token)
    assert ledger.take(jobs) == []
    ledger.flush()
    assert driver.sizes("default").reserved == 0


def test_one_whose_ack_came_too_late_is_acked_when_it_comes_back(driver, clock, ledger, token):
    """Its lease had ended, it waits again, and nobody here knows: the ack finds nothing to end."""
    clock.forward(61)
    assert driver.rescue() == 1
    ledger.done(token)
    ledger.flush()
    assert ledger.take(driver.reserve(["default"], 1, 60, "me")) == []
    ledger.flush()
    sizes = driver.sizes("default")
    assert (sizes.pending, sizes.reserved) == (0, 0)


@pytest.mark.parametrize(
    "leaves",
    [
        lambda ledger, token: ledger.release([token]),
        lambda ledger, token: (ledger.put_back(token, 0, "changed", 1), ledger.write_back()),
    ],
)
def test_a_job_that_has_left_is_started_when_it_comes_back(ledger, token, back, leaves):
    jobs = back(lost=True)
    leaves(ledger, token)
    assert ledger.take(jobs) == jobs


def test_another_job_of_the_same_id_is_started(driver, ledger, token):
    driver.put([NewJob(queue="default", payload="another", id="a")])
    jobs = driver.reserve(["default"], 1, 60, "me")
    assert ledger.take(jobs) == jobs


def test_a_process_that_stood_still_is_late(ledger, token, monkeypatch):
    assert not ledger.is_late
    moment = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: moment + 50)
    assert ledger.is_late
    ledger.renew()
    assert not ledger.is_late


def test_only_so_many_jobs_that_ended_are_remembered():
    roster = Roster()
    jobs = [
        ReservedJob(Lease(n, f"t{n}"), f"j{n}", "default", "", 0, 1, 0)
        for n in range(MOST_OVER + 1)
    ]
    for job in jobs:
        roster.enter(job)
        roster.end(job.lease.token)
    assert not roster.has_ended(jobs[0])
    assert roster.has_ended(jobs[1])
    assert not roster.has_ended(jobs[1])
