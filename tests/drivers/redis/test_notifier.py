"""Many subscriptions: one job wakes one of them, and a call that it declines wakes another."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Binding, Broadcast
from relevo.drivers.redis import notifier
from tests.support.driver_jobs import put, take, take_one
from tests.support.waits import eventually, readable

MANY = 20


@pytest.fixture
def subscriptions(driver, monkeypatch):
    """Consumers that wait for jobs of two queues."""
    monkeypatch.setattr(notifier, "POP_SECONDS", 60)
    made = [driver.watch(["default", "high"]) for _ in range(MANY)]
    for subscription in made:
        listen(subscription)
    yield made
    for subscription in made:
        subscription.close()


def listen(subscription, *, room=True, mailboxes=()):
    """Wait as the transport does."""
    subscription.listen(room, mailboxes)
    assert subscription.fileno() is not None


def woken(subscriptions, within=0.3):
    """The subscriptions that are woken within a short while."""
    found = readable(*(subscription.fileno() for subscription in subscriptions), within=within)
    return [subscription for subscription in subscriptions if subscription.fileno() in found]


def settled(subscriptions):
    """Listen again, and wait until the server has the pop of each."""
    for subscription in subscriptions:
        subscription.poll()
        listen(subscription)
    client = subscriptions[0]._client
    eventually(lambda: client.info("clients")["blocked_clients"] == len(subscriptions))


def first_woken(subscriptions):
    return eventually(lambda: woken(subscriptions))


def test_one_job_wakes_one_of_many(other, subscriptions):
    settled(subscriptions)
    put(other, "a")
    first_woken(subscriptions)
    assert len(woken(subscriptions)) == 1


def test_three_jobs_wake_three_consumers(other, subscriptions):
    settled(subscriptions)
    put(other, "a", "b")
    put(other, "c", queue="high")
    eventually(lambda: len(woken(subscriptions, 0)) == 3)
    assert len(woken(subscriptions)) == 3


def test_a_job_that_is_taken_at_once_leaves_no_token(driver, other, subscriptions):
    # Given jobs that were taken before any consumer listened
    for subscription in subscriptions:
        subscription.close()
    put(other, "a", "b", "c")
    take(driver)

    # I expect no consumer to be woken for them
    for subscription in subscriptions:
        listen(subscription)
    assert woken(subscriptions) == []


def test_a_token_that_is_declined_goes_to_another_consumer(other, subscriptions):
    settled(subscriptions)
    put(other, "a")
    [first] = first_woken(subscriptions)
    first.poll()
    first.decline()
    rest = [subscription for subscription in subscriptions if subscription is not first]
    assert len(first_woken(rest)) == 1


def test_a_token_is_declined_only_once(server, other, subscriptions):
    [subscription] = subscriptions[:1]
    for one in subscriptions[1:]:
        one.close()
    put(other, "a")
    first_woken([subscription])
    subscription.poll()
    take_one(other)
    subscription.poll()
    subscription.decline()
    assert server.client.exists("relevo:bell:default") == 0


def test_a_busy_consumer_hears_mail_and_no_jobs(driver, other, subscriptions):
    for one in subscriptions[1:]:
        one.close()
    busy = subscriptions[0]
    busy.close()
    driver.subscribe("box", [Binding("exchange")], 60)
    listen(busy, room=False, mailboxes=["box"])
    put(other, "a")
    assert woken([busy]) == []
    other.broadcast([Broadcast("exchange", "", "x")])
    assert first_woken([busy]) == [busy]


def test_a_consumer_with_room_again_is_woken_for_jobs_at_once(server, driver, other):
    # Given a consumer that listens for mail only
    subscription = driver.watch(["default"])
    listen(subscription, room=False, mailboxes=["box"])
    number = subscription._number

    # When it has room, I expect it to listen for jobs on the same connection
    listen(subscription, mailboxes=["box"])
    put(other, "a")
    assert first_woken([subscription]) == [subscription]
    assert subscription._number == number
    subscription.poll()
    assert subscription._token == "relevo:bell:default"
    subscription.close()


def test_two_consumers_of_a_process_do_not_take_each_others_mail(driver, other):
    ours, theirs = driver.watch([]), driver.watch([])
    for name in ("ours", "theirs"):
        driver.subscribe(name, [Binding(name)], 60)
    listen(ours, mailboxes=["ours"])
    listen(theirs, mailboxes=["theirs"])
    other.broadcast([Broadcast("theirs", "", "x")])
    assert first_woken([ours, theirs]) == [theirs]
    ours.close()
    theirs.close()


def test_a_subscription_whose_connection_is_killed_listens_again(server, other, subscriptions):
    settled(subscriptions)
    server.client.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: len(woken(subscriptions, 0)) == MANY)  # each is told, and looks
    settled(subscriptions)
    put(other, "a")
    first_woken(subscriptions)
    assert len(woken(subscriptions)) == 1


def test_a_due_job_that_its_stager_can_not_take_wakes_another_consumer(
    driver, other, subscriptions
):
    put(other, *"abc", available_at=other.now() + 0.05)
    settled(subscriptions)
    eventually(lambda: take(other, limit=1))
    eventually(lambda: len(woken(subscriptions, 0)) == 2)
    assert len(woken(subscriptions)) == 2
