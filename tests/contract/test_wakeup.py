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
    subscription.poll()  # news of the test before
    yield subscription
    subscription.close()


def is_woken(subscription, *mailboxes):
    """Wait as a consumer does: on the descriptor if there is one, and no longer than the
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


def test_a_subscription_reports_a_job_of_another_process(other, subscription):
    put(other, "a", queue="high")
    assert is_woken(subscription)


def test_a_subscription_reports_the_next_job_too(other, subscription):
    for number in range(2):
        put(other, f"{number}")
        assert is_woken(subscription)


def test_a_subscription_reports_a_broadcast_of_another_process(driver, other, subscription, box):
    driver.subscribe(box, [Binding(box)], 60)
    other.broadcast([Broadcast(box, "", "x")])
    assert is_woken(subscription, box)


def test_a_subscription_reports_a_released_job(driver, other, subscription):
    put(driver, "a")
    lease = take_one(other, lease=LEASE).lease
    is_woken(subscription)
    other.release([lease])
    assert is_woken(subscription)


def test_a_job_that_is_put_before_the_wait_is_reported(other, subscription):
    # Given jobs that came between the last look and the wait
    put(other, "a")
    put(other, "b")

    # I expect the subscription to report them
    assert is_woken(subscription)


def test_a_consumer_never_waits_long(driver, subscription):
    assert 0 < subscription.interval <= 10


def test_a_subscription_can_be_closed_twice_and_its_driver_still_works(driver, subscription):
    subscription.close()
    subscription.close()
    put(driver, "a")
    assert take_one(driver).id == "a"
