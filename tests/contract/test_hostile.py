"""Hostile input: what makes no sense is refused in one line before anything is done; the rest comes back whole."""

from __future__ import annotations

import math

import pytest

from relevo.drivers.contract import Binding, Broadcast, State
from relevo.errors import OptionError
from tests.contract.given import LEASE, counts, ids, job, put, state_of, take, take_one

NAMES = {
    "unicode": "größe-队列-😀",
    "quotes": "a'b\"c`d\\e",
    "sql": "x'; DROP TABLE jobs; --",
    "wildcards": "%_*?[a]{b}:c",
    "spaces": " leading and trailing ",
    "lines": "a\nb\r\tc",
    "longest": "é" * 255,
}
PAYLOADS = NAMES | {"empty": "", "nothing": "null", "backslashes": "\\n\\u0000\\", "percent": "%s %(a)s :b ?"}
BAD_TEXTS = {"NUL": "a\0b", "half a surrogate": "a\ud800"}
BAD_NAMES = BAD_TEXTS | {"nameless": "", "endless": "x" * 256}
NO_TIMES = [math.nan, math.inf, -math.inf]


def by_name(table):
    return [pytest.param(value, id=key.replace(" ", "-")) for key, value in table.items()]


# --- odd, and kept as it is -----------------------------------------------------------------------------------------
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
    driver.broadcast([Broadcast(box.upper(), "", "x"), Broadcast(f"{box} ", "", "y"), Broadcast(box, "", "z")])
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


# --- refused --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", by_name(BAD_NAMES))
@pytest.mark.parametrize("what", ["queue", "id", "unique_key"])
def test_a_job_with_a_bad_name_is_refused(driver, what, name):
    with pytest.raises(OptionError, match=f"expected {what} to .*, got "):
        driver.put([job(**{what: name})])
    assert driver.queues() == []


@pytest.mark.parametrize("payload", by_name(BAD_TEXTS))
def test_a_payload_no_broker_can_keep_is_refused(driver, payload):
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
        lambda driver: driver.bell([""]),
    ],
    ids=["reserve", "sizes", "peek", "clear", "pause", "resume", "bell"],
)
def test_a_queue_without_a_name_is_refused_everywhere(driver, verb):
    with pytest.raises(OptionError, match="expected queue to have 1 to 255 characters, got 0: ''"):
        verb(driver)


@pytest.mark.parametrize("instant", NO_TIMES)
def test_an_instant_that_is_no_time_is_refused(driver, instant):
    with pytest.raises(OptionError, match=f"expected available_at to be a finite .*, got {instant}"):
        driver.put([job(available_at=instant)])
    with pytest.raises(OptionError, match=f"expected until to be a finite .*, got {instant}"):
        driver.pause("default", until=instant)
    assert (driver.queues(), driver.paused()) == ([], {})


@pytest.mark.parametrize("lease", [*NO_TIMES, 0, -1])
def test_a_lease_that_holds_for_no_time_is_refused(driver, lease):
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
def test_a_delay_that_is_none_is_refused(driver, delay):
    put(driver, "a")
    lease = take_one(driver).lease
    with pytest.raises(OptionError, match=f"expected delay to be 0 or more seconds, got {delay}"):
        driver.release([lease], delay=delay)
    assert driver.ack([lease]) == 1


@pytest.mark.parametrize("payload", by_name(BAD_TEXTS))
def test_a_release_with_a_payload_no_broker_can_keep_is_refused(driver, payload):
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
def test_a_worker_without_a_proper_name_is_refused(driver, name):
    with pytest.raises(OptionError, match=r"expected by to .*, got "):
        driver.reserve(["default"], 1, LEASE, by=name)


@pytest.mark.parametrize("ttl", [*NO_TIMES, 0, -1])
def test_a_mailbox_that_lasts_for_no_time_is_refused(driver, box, ttl):
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


def test_a_pattern_that_is_no_regular_expression_is_refused(driver, box):
    with pytest.raises(OptionError, match=r"expected pattern to be a regular expression, got '\('"):
        driver.subscribe(box, [Binding(box, "(")], 60)


def test_one_bad_broadcast_and_none_is_sent(driver, box):
    driver.subscribe(box, [Binding(box)], 60)
    with pytest.raises(OptionError):
        driver.broadcast([Broadcast(box, "", "good"), Broadcast(box, "", "b\0d")])
    assert driver.receive(box) == []


def test_a_lease_nobody_gave_changes_nothing(driver):
    # Given a held job, and a token made up for it
    put(driver, "a")
    lease = take_one(driver).lease
    made_up = type(lease)(lease.key, "' OR '1'='1")

    # I expect it to open nothing
    assert driver.ack([made_up]) == 0
    assert driver.release([made_up]) == 0
    assert driver.extend([made_up], LEASE) == [made_up]
    assert driver.ack([lease]) == 1


@pytest.mark.parametrize("name", by_name(BAD_NAMES))
def test_an_id_or_a_mailbox_that_cannot_be_is_not_looked_for(driver, name):
    put(driver, "a")
    with pytest.raises(OptionError, match="expected id to"):
        driver.delete(["a", name])
    with pytest.raises(OptionError, match="expected mailbox to"):
        driver.receive(name)
    with pytest.raises(OptionError, match="expected mailbox to"):
        driver.unsubscribe(name)
    assert ids(take(driver)) == ["a"]
