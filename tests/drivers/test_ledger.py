"""What a process holds, when the broker is away or says no at the moment it is to be put back."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import NewJob, State
from relevo.drivers.ledger import Ledger
from relevo.drivers.memory import MemoryDriver
from relevo.errors import DriverError, DriverUnavailableError


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
def driver():
    driver = Driver()
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


def test_a_job_that_goes_back_changed_waits_for_the_loop_and_is_then_one_step(driver, ledger, token):
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
