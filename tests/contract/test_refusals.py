"""Invalid input is refused before anything is done, in one line with the expected and the given
value.
"""

from __future__ import annotations

import math

import pytest

from relevo.drivers.contract import Binding, Broadcast, State
from relevo.errors import OptionError
from tests.support.driver_jobs import LEASE, by_name, counts, ids, job, put, take, take_one

BAD_TEXTS = {"NUL": "a\0b", "half a surrogate": "a\ud800"}
BAD_NAMES = BAD_TEXTS | {"nameless": "", "endless": "x" * 256}
NO_TIMES = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("name", by_name(BAD_NAMES))
@pytest.mark.parametrize("what", ["queue", "id", "unique_key"])
def test_a_job_with_a_bad_name_is_refused(driver, what, name):
    with pytest.raises(OptionError, match=f"expected {what} to .*, got "):
        driver.put([job(**{what: name})])
    assert driver.queues() == []


@pytest.mark.parametrize("payload", by_name(BAD_TEXTS))
def test_a_payload_that_brokers_can_not_store_is_refused(driver, payload):
    with pytest.raises(OptionError, match=r"expected payload to be a text .*, got "):
        driver.put([job(payload=payload)])
    assert driver.queues() == []


@pytest.mark.parametrize(
    "verb",
    [
        lambda driver: driver.reserve(["default", ""], 1, LEASE, "worker"),
        lambda driver: driver.sizes(""),
        lambda driver: driver.peek("", State.PENDING),
        lambda driver: driver.clear(""),
        lambda driver: driver.pause(""),
        lambda driver: driver.resume(""),
        lambda driver: driver.watch([""]),
    ],
    ids=["reserve", "sizes", "peek", "clear", "pause", "resume", "watch"],
)
def test_a_queue_without_a_name_is_refused_everywhere(driver, verb):
    with pytest.raises(OptionError, match="expected queue to have 1 to 255 characters, got 0: ''"):
        verb(driver)


@pytest.mark.parametrize("instant", NO_TIMES)
def test_an_invalid_instant_is_refused(driver, instant):
    with pytest.raises(
        OptionError, match=f"expected available_at to be a finite .*, got {instant}"
    ):
        driver.put([job(available_at=instant)])
    with pytest.raises(OptionError, match=f"expected until to be a finite .*, got {instant}"):
        driver.pause("default", until=instant)
    assert (driver.queues(), driver.paused()) == ([], {})


@pytest.mark.parametrize("lease", [*NO_TIMES, 0, -1])
def test_a_lease_of_no_seconds_is_refused(driver, lease):
    # Given a job that is held, and one that waits
    put(driver, "held")
    held = take_one(driver)
    put(driver, "waiting")

    # When a bad lease is asked for, I expect neither to change, nor what is done to be acked
    with pytest.raises(OptionError, match=f"expected lease to be a positive .*, got {lease}"):
        driver.reserve(["default"], 1, lease, "worker", done=[held.lease])
    with pytest.raises(OptionError, match=f"expected lease to be a positive .*, got {lease}"):
        driver.extend([held.lease], lease)
    assert counts(driver) == (1, 0, 1)


@pytest.mark.parametrize("delay", [*NO_TIMES, -1])
def test_a_bad_delay_is_refused(driver, delay):
    put(driver, "a")
    lease = take_one(driver).lease
    with pytest.raises(OptionError, match=f"expected delay to be 0 or more seconds, got {delay}"):
        driver.release([lease], delay=delay)
    assert driver.ack([lease]) == 1


@pytest.mark.parametrize("payload", by_name(BAD_TEXTS))
def test_a_release_with_a_payload_that_brokers_can_not_store_is_refused(driver, payload):
    put(driver, "a")
    lease = take_one(driver).lease
    with pytest.raises(OptionError, match="expected payload to be a text"):
        driver.release([lease], payload=payload)
    assert driver.ack([lease]) == 1


def test_attempts_below_zero_are_refused(driver):
    put(driver, "a")
    lease = take_one(driver).lease
    with pytest.raises(OptionError, match="expected attempts to be 0 or more, got -1"):
        driver.release([lease], attempts=-1)
    assert driver.ack([lease]) == 1


@pytest.mark.parametrize("priority", [-1, 10])
def test_a_priority_outside_zero_to_nine_is_refused(driver, priority):
    with pytest.raises(OptionError, match=f"expected priority to be from 0 to 9, got {priority}"):
        driver.put([job(priority=priority)])


def test_a_limit_below_zero_is_refused(driver):
    with pytest.raises(OptionError, match="expected limit to be 0 or more, got -1"):
        driver.reserve(["default"], -1, LEASE, "worker")
    with pytest.raises(OptionError, match="expected limit to be 0 or more, got -1"):
        driver.peek("default", State.PENDING, limit=-1)


@pytest.mark.parametrize("name", by_name(BAD_NAMES))
def test_a_worker_with_a_bad_name_is_refused(driver, name):
    with pytest.raises(OptionError, match=r"expected by to .*, got "):
        driver.reserve(["default"], 1, LEASE, by=name)


@pytest.mark.parametrize("ttl", [*NO_TIMES, 0, -1])
def test_a_mailbox_of_no_seconds_is_refused(driver, box, ttl):
    with pytest.raises(OptionError, match=f"expected ttl to be a positive .*, got {ttl}"):
        driver.subscribe(box, [Binding(box)], ttl)


@pytest.mark.parametrize("name", by_name(BAD_NAMES))
def test_a_mailbox_or_exchange_with_a_bad_name_is_refused(driver, box, name):
    with pytest.raises(OptionError, match="expected mailbox to"):
        driver.subscribe(name, [Binding(box)], 60)
    with pytest.raises(OptionError, match="expected exchange to"):
        driver.subscribe(box, [Binding(name)], 60)
    with pytest.raises(OptionError, match="expected exchange to"):
        driver.broadcast([Broadcast(name, "", "x")])


def test_an_invalid_regular_expression_is_refused(driver, box):
    with pytest.raises(OptionError, match=r"expected pattern to be a regular expression, got '\('"):
        driver.subscribe(box, [Binding(box, "(")], 60)


def test_one_bad_broadcast_refuses_the_whole_call(driver, box):
    driver.subscribe(box, [Binding(box)], 60)
    with pytest.raises(OptionError):
        driver.broadcast([Broadcast(box, "", "good"), Broadcast(box, "", "b\0d")])
    assert driver.receive(box) == []


@pytest.mark.parametrize("name", by_name(BAD_NAMES))
def test_an_impossible_id_or_mailbox_is_not_searched_for(driver, name):
    put(driver, "a")
    with pytest.raises(OptionError, match="expected id to"):
        driver.delete(["a", name])
    with pytest.raises(OptionError, match="expected mailbox to"):
        driver.receive(name)
    with pytest.raises(OptionError, match="expected mailbox to"):
        driver.unsubscribe(name)
    assert ids(take(driver)) == ["a"]
