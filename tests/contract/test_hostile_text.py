"""Odd names, odd texts, huge ones and very many jobs: drivers return them all unchanged."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Binding, Broadcast, State
from tests.support.driver_jobs import (
    LEASE,
    by_name,
    counts,
    ids,
    job,
    put,
    state_of,
    take,
    take_one,
)

NAMES = {
    "unicode": "größe-队列-😀",
    "quotes": "a'b\"c`d\\e",
    "sql": "x'; DROP TABLE jobs; --",
    "wildcards": "%_*?[a]{b}:c",
    "spaces": " leading and trailing ",
    "lines": "a\nb\r\tc",
    "longest": "é" * 255,
}
PAYLOADS = NAMES | {
    "empty": "",
    "nothing": "null",
    "backslashes": "\\n\\u0000\\",
    "percent": "%s %(a)s :b ?",
}


@pytest.mark.parametrize("name", by_name(NAMES))
def test_any_text_is_a_name(driver, other, name):
    # Given a job with this for a queue, an id and a key
    driver.put([job(name, id=name, unique_key=name)])
    assert not other.put([job(name, unique_key=name)])[0].created

    # I expect every verb to find it, in another process
    assert other.queues() == [name]
    taken = take_one(other, name)
    assert (taken.id, taken.queue) == (name, name)
    other.pause(name)
    assert driver.paused() == {name: None}
    driver.resume(name)
    assert driver.delete([name]) == 1


@pytest.mark.parametrize("payload", by_name(PAYLOADS))
def test_any_text_is_a_payload(driver, other, payload):
    driver.put([job(payload=payload)])
    taken = take_one(other)
    assert taken.payload == payload
    other.release([taken.lease], payload=payload + "!")
    assert take_one(driver).payload == payload + "!"


def test_a_payload_of_ten_megabytes_comes_back_whole(driver, other):
    payload = "0123456789abcdef" * 655_360
    driver.put([job(payload=payload)])
    assert take_one(other).payload == payload


def test_five_thousand_jobs_in_one_call_are_put_taken_and_acked(driver, other):
    # Given a huge batch
    batch = [job(id=f"{number}") for number in range(5000)]
    assert ids(driver.put(batch)) == ids(batch)

    # When they are taken and acked in one call each
    taken = take(other, limit=5000, lease=600)

    # I expect all of them, in order
    assert ids(taken) == ids(batch)
    assert other.extend([one.lease for one in taken], 600) == []
    assert other.ack([one.lease for one in taken]) == 5000
    assert driver.queues() == []


def test_many_keys_in_one_call_are_each_put_once(driver):
    # Given keys of which half are taken
    driver.put([job(unique_key=f"{number}") for number in range(0, 300, 2)])

    # When all come in one call, twice
    placed = driver.put([job(unique_key=f"{number % 300}") for number in range(600)])

    # I expect the other half to be put, and the answers to stand where they belong
    assert [number for number, one in enumerate(placed) if one.created] == list(range(1, 300, 2))
    assert counts(driver) == (300, 0, 0)


def test_thousands_of_jobs_can_be_released_and_deleted_in_one_call(driver):
    batch = [job(id=f"{number}") for number in range(2500)]
    driver.put(batch)
    assert driver.release([one.lease for one in take(driver, limit=2500)], delay=5) == 2500
    assert driver.delete(ids(batch)) == 2500


@pytest.mark.parametrize("near", ["Q", "q ", " q", "q\u0301", "\uff51"])
def test_queues_are_compared_character_by_character(driver, near):
    put(driver, "a", queue="q")
    driver.pause(near)
    assert counts(driver, near) == (0, 0, 0)
    assert driver.peek(near, State.PENDING) == []
    assert driver.clear(near) == 0
    assert take(driver, near) == []
    assert ids(take(driver, "q")) == ["a"]


def test_mailboxes_and_exchanges_are_compared_character_by_character(driver, box):
    driver.subscribe(box, [Binding(box)], 60)
    driver.broadcast(
        [Broadcast(box.upper(), "", "x"), Broadcast(f"{box} ", "", "y"), Broadcast(box, "", "z")]
    )
    driver.unsubscribe(box.upper())
    assert driver.receive(f"{box} ") == []
    assert [message.payload for message in driver.receive(box)] == ["z"]


@pytest.mark.parametrize("payload", by_name(PAYLOADS))
def test_any_text_can_be_broadcast(driver, other, box, payload):
    message = Broadcast(box, payload, payload)
    driver.subscribe(box, [Binding(box)], 60)
    driver.broadcast([message])
    assert other.receive(box) == [message]


def test_a_broadcast_of_ten_megabytes_comes_back_whole(driver, other, box):
    driver.subscribe(box, [Binding(box)], 60)
    message = Broadcast(box, "", "0123456789abcdef" * 655_360)
    driver.broadcast([message])
    assert other.receive(box) == [message]


def test_a_fraction_of_a_second_counts(driver, clock):
    driver.put([job(id="a", available_at=clock() + 0.25)])
    clock.forward(0.125)
    assert take(driver) == []
    clock.forward(0.125)
    assert state_of(driver, "a") == [State.PENDING]


def test_a_time_far_away_is_a_time(driver, clock):
    far = clock() + 100 * 365 * 86_400
    driver.put([job(available_at=far)])
    driver.pause("default", until=far)
    [view] = driver.peek("default", State.DELAYED)
    assert view.available_at == far
    assert driver.paused() == {"default": far}


def test_an_unknown_lease_changes_nothing(driver):
    # Given a held job, and a token made up for it
    put(driver, "a")
    lease = take_one(driver).lease
    made_up = type(lease)(lease.key, "' OR '1'='1")

    # I expect it to open nothing
    assert driver.ack([made_up]) == 0
    assert driver.release([made_up]) == 0
    assert driver.extend([made_up], LEASE) == [made_up]
    assert driver.ack([lease]) == 1
