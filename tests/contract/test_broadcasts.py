"""Broadcasts: every matching mailbox gets each once, in order, from its opening on."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Binding, Broadcast

TTL = 60.0


def say(driver, exchange, *payloads, key=""):
    driver.broadcast([Broadcast(exchange, key, payload) for payload in payloads])


def heard(driver, mailbox):
    return [message.payload for message in driver.receive(mailbox)]


@pytest.fixture
def second(driver, box):
    """Another mailbox."""
    yield f"{box}-second"
    driver.unsubscribe(f"{box}-second")


def test_every_open_mailbox_gets_a_broadcast(driver, other, box, second):
    # Given the mailboxes of two processes on one exchange
    driver.subscribe(box, [Binding(box)], TTL)
    other.subscribe(second, [Binding(box)], TTL)

    # When something is broadcast
    message = Broadcast(box, "any.key", '{"method": "ping"}')
    driver.broadcast([message])

    # I expect both to get it, whole
    assert driver.receive(box) == [message]
    assert other.receive(second) == [message]


def test_each_message_is_received_once(driver, other, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")
    assert heard(other, box) == ["a"]
    assert heard(driver, box) == []
    assert heard(other, box) == []


def test_a_broadcast_returns_whether_any_mailbox_got_it(driver, box):
    assert driver.broadcast([Broadcast(box, "a", "1")]) is False
    driver.subscribe(box, [Binding(box, "a")], TTL)
    assert driver.broadcast([Broadcast(box, "b", "1")]) is False
    assert driver.broadcast([Broadcast(box, "b", "1"), Broadcast(box, "a", "1")]) is True
    assert driver.broadcast([]) is False


def test_messages_come_in_the_order_of_sending(driver, other, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "1", "2")
    say(other, box, "3")
    say(driver, box, "4", "5")
    assert heard(driver, box) == ["1", "2", "3", "4", "5"]


def test_a_mailbox_gets_only_what_is_sent_after_its_opening(driver, other, box, second):
    # Given that something was sent while only another was listening
    driver.subscribe(second, [Binding(box)], TTL)
    say(driver, box, "before")

    # When a mailbox is opened, and more is sent
    other.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "after")

    # I expect it to get the second only
    assert heard(other, box) == ["after"]
    assert heard(driver, second) == ["before", "after"]


def test_without_a_mailbox_a_broadcast_is_dropped(driver, box):
    say(driver, box, "nobody")
    driver.subscribe(box, [Binding(box)], TTL)
    assert heard(driver, box) == []


def test_an_empty_text_can_be_broadcast(driver):
    driver.broadcast([])


def test_a_mailbox_gets_only_its_exchanges(driver, box, second):
    driver.subscribe(box, [Binding(box)], TTL)
    driver.subscribe(second, [Binding(second)], TTL)
    say(driver, second, "x")
    assert heard(driver, box) == []
    assert heard(driver, second) == ["x"]


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("", "anything.at.all", True),
        ("", "", True),
        (r"^worker\..*?$", "worker.heartbeat", True),
        (r"^worker\..*?$", "task.sent", False),
        (r"worker\.\w+", "worker.online", True),
        ("worker", "worker", True),
        ("worker", "workers", False),
        ("worker", "a.worker", False),
        ("worker", "WORKER", False),
        ("a|bc", "bc", True),
        ("a|bc", "ac", False),
        (r"^.*?$", "", True),
        ("x", "", False),
    ],
)
def test_a_pattern_must_match_the_whole_key(driver, box, pattern, key, fits):
    driver.subscribe(box, [Binding(box, pattern)], TTL)
    say(driver, box, "x", key=key)
    assert heard(driver, box) == (["x"] if fits else [])


def test_a_message_that_matches_two_bindings_comes_once(driver, box):
    driver.subscribe(box, [Binding(box), Binding(box, "a.*"), Binding(box, ".*b")], TTL)
    say(driver, box, "x", key="a.b")
    assert heard(driver, box) == ["x"]


def test_a_mailbox_may_listen_to_several_exchanges_in_one_order(driver, box, second):
    driver.subscribe(box, [Binding(box), Binding(second, "k.*")], TTL)
    driver.broadcast(
        [Broadcast(second, "k.1", "1"), Broadcast(box, "", "2"), Broadcast(second, "no", "x")]
    )
    say(driver, second, "3", key="k.2")
    assert heard(driver, box) == ["1", "2", "3"]


def test_renewing_adds_bindings_and_keeps_the_old_ones(driver, box, second):
    # Given a mailbox on one exchange, and another added to it
    driver.subscribe(box, [Binding(box)], TTL)
    driver.subscribe(box, [Binding(second)], TTL)

    # I expect both to be heard
    say(driver, box, "a")
    say(driver, second, "b")
    assert heard(driver, box) == ["a", "b"]


def test_renewing_loses_nothing_and_doubles_nothing(driver, other, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")
    other.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "b")
    assert heard(driver, box) == ["a", "b"]


def test_a_binding_added_later_matches_later_messages_only(driver, box, second):
    # Given a mailbox that has not read yet, and a message of an exchange it does not listen to
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")
    say(driver, second, "before")

    # When it listens to that too
    driver.subscribe(box, [Binding(second)], TTL)
    say(driver, second, "after")

    # I expect only what came from then on
    assert heard(driver, box) == ["a", "after"]


def test_a_mailbox_unused_for_its_ttl_is_gone_with_what_was_in_it(driver, other, clock, box):
    # Given a mailbox with something in it
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")

    # When it is unused for too long
    clock.forward(TTL + 1)

    # I expect it to be empty
    say(driver, box, "b")
    assert heard(other, box) == []


def test_a_mailbox_opened_again_after_its_end_starts_empty(driver, clock, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "before")
    clock.forward(TTL + 1)
    say(driver, box, "between")
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "after")
    assert heard(driver, box) == ["after"]


def test_reading_keeps_a_mailbox_open(driver, clock, box):
    driver.subscribe(box, [Binding(box)], TTL)
    for number in range(5):
        clock.forward(TTL - 1)
        say(driver, box, str(number))
        assert heard(driver, box) == [str(number)]


def test_renewing_keeps_a_mailbox_open(driver, clock, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")
    for _ in range(3):
        clock.forward(TTL - 1)
        driver.subscribe(box, [], TTL)
    assert heard(driver, box) == ["a"]


def test_renewing_sets_the_ttl(driver, clock, box):
    driver.subscribe(box, [Binding(box)], TTL)
    driver.subscribe(box, [Binding(box)], TTL * 10)
    clock.forward(TTL * 9)
    say(driver, box, "a")
    assert heard(driver, box) == ["a"]


def test_a_closed_mailbox_gets_nothing(driver, other, box):
    # Given a mailbox with something in it
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")

    # When it is closed, twice
    other.unsubscribe(box)
    other.unsubscribe(box)

    # I expect nothing to be there, nor to come
    say(driver, box, "b")
    assert heard(driver, box) == []


def test_a_reopened_mailbox_has_no_earlier_messages(driver, box, second):
    # Given a mailbox that was closed with something in it
    driver.subscribe(box, [Binding(box), Binding(second)], TTL)
    say(driver, box, "before")
    driver.unsubscribe(box)

    # When it is opened for one of its exchanges
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, second, "other exchange")
    say(driver, box, "after")

    # I expect only that
    assert heard(driver, box) == ["after"]


def test_closing_one_mailbox_leaves_the_others_open(driver, box, second):
    for mailbox in (box, second):
        driver.subscribe(mailbox, [Binding(box)], TTL)
    driver.unsubscribe(box)
    say(driver, box, "a")
    assert heard(driver, second) == ["a"]


def test_a_mailbox_that_was_never_opened_is_empty_and_stays_closed(driver, box):
    assert heard(driver, box) == []
    say(driver, box, "a")
    assert heard(driver, box) == []


def test_a_burst_of_messages_arrives_whole(driver, other, box):
    driver.subscribe(box, [Binding(box)], TTL)
    payloads = [str(number) for number in range(1000)]
    say(other, box, *payloads)
    assert heard(driver, box) == payloads


def test_a_broadcast_is_never_a_job(driver, box):
    driver.subscribe(box, [Binding(box)], TTL)
    say(driver, box, "a")
    assert driver.queues() == []
