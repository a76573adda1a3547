"""The subscription: a consumer wakes soon when another process puts a job or broadcasts."""

from __future__ import annotations

import time

import pytest

from relevo.drivers.contract import Binding, Broadcast
from tests.support.driver_jobs import LEASE, put, take_one
from tests.support.waits import LONG, readable


@pytest.fixture
def subscription(driver):
    subscription = driver.watch(["default", "high"])
    subscription.poll()  # what may still sound from the test before
    yield subscription
    subscription.close()


def rings(subscription, *mailboxes):
    """Wait as a consumer does: on the descriptor if there is one, and no longer than the bell's
    interval at a time.
    """
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        subscription.listen(True, mailboxes)
        descriptor = subscription.fileno()
        readable(*[] if descriptor is None else [descriptor], within=subscription.interval)
        if subscription.poll():
            return True
    return False


def test_the_bell_rings_for_a_job_put_by_another_process(other, subscription):
    put(other, "a", queue="high")
    assert rings(subscription)


def test_the_bell_rings_again_for_the_next_job(other, subscription):
    for number in range(2):
        put(other, f"{number}")
        assert rings(subscription)


def test_the_bell_rings_for_a_broadcast_by_another_process(driver, other, subscription, box):
    driver.subscribe(box, [Binding(box)], 60)
    other.broadcast([Broadcast(box, "", "x")])
    assert rings(subscription, box)


def test_the_bell_rings_for_a_job_put_back(driver, other, subscription):
    put(driver, "a")
    lease = take_one(other, lease=LEASE).lease
    rings(subscription)
    other.release([lease])
    assert rings(subscription)


def test_what_is_put_before_it_is_waited_for_is_heard(other, subscription):
    # Given that a job came between the last look and the waiting
    put(other, "a")
    put(other, "b")

    # I expect the subscription to have kept it
    assert rings(subscription)


def test_a_consumer_never_waits_long(driver, subscription):
    assert 0 < subscription.interval <= 10


def test_a_bell_may_be_closed_twice_and_its_driver_used_on(driver, subscription):
    subscription.close()
    subscription.close()
    put(driver, "a")
    assert take_one(driver).id == "a"
