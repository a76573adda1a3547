"""Instants beyond the calendar: a driver keeps them, shows them and compares them as numbers."""

from __future__ import annotations

import math

import pytest

from relevo import clock as relevo_clock
from relevo.drivers.contract import State
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take, take_one
from tests.support.hostile_instants import EDGES

FINITE = [instant for instant in EDGES if math.isfinite(instant)]
FAR = [instant for instant in FINITE if instant >= 2**31]
NEAR = [instant for instant in FINITE if instant < 2**31]


@pytest.mark.parametrize("instant", FAR)
def test_a_job_of_a_far_instant_is_delayed_and_in_no_other_jobs_way(driver, other, instant):
    driver.put([job(id="far", available_at=instant)])
    put(driver, "now")
    assert counts(driver) == (1, 1, 0)
    (view,) = other.peek("default", State.DELAYED)
    assert view.available_at == pytest.approx(instant)
    assert relevo_clock.utc(view.available_at)
    assert ids(other.find(["far"])) == ["far"]
    assert ids(take(other)) == ["now"]
    assert other.hasten(["far"]) == 1
    assert ids(take(other)) == ["far"]


@pytest.mark.parametrize("instant", NEAR)
def test_a_job_of_a_past_instant_may_run(driver, instant):
    driver.put([job(id="past", available_at=instant)])
    (view,) = driver.peek("default", State.PENDING)
    assert relevo_clock.utc(view.available_at)
    assert driver.sizes("default").oldest is not None
    assert take_one(driver).id == "past"


@pytest.mark.parametrize("instant", FAR)
def test_pauses_leases_and_delays_may_end_at_a_far_instant(driver, other, instant):
    driver.pause("low", instant)
    driver.suspend("task:a", instant)
    try:
        assert other.paused()["low"] == pytest.approx(instant)
        assert other.suspended()["task:a"] == pytest.approx(instant)
    finally:
        driver.resume("low")
        driver.lift("task:a")
    put(driver, "one")
    held = take_one(driver, lease=instant)
    (view,) = other.peek("default", State.RESERVED)
    assert relevo_clock.utc(view.reserved_until)
    driver.release([held.lease], delay=instant)
    (view,) = other.peek("default", State.DELAYED)
    assert relevo_clock.utc(view.available_at)
    assert other.rescue() == 0
    assert take(driver, lease=LEASE) == []
