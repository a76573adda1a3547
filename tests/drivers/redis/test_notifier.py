"""Many subscriptions: one job wakes one of them, and a call that it declines wakes another."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Binding, Broadcast
from relevo.drivers.redis import notifier as redis_bell
from tests.support.driver_jobs import put, take, take_one
from tests.support.waits import eventually, readable

MANY = 20


@pytest.fixture
def subscriptions(driver, monkeypatch):
    """Consumers that wait for jobs of two queues."""
    monkeypatch.setattr(redis_bell, "POP_SECONDS", 60)
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


def rung(subscriptions, within=0.3):
    """Those of them that are called within a short while."""
    found = readable(*(subscription.fileno() for subscription in subscriptions), within=within)
    return [subscription for subscription in subscriptions if subscription.fileno() in found]


def settled(subscriptions):
    """Ask again, and wait until the server has the question of each."""
    for subscription in subscriptions:
        subscription.poll()
        listen(subscription)
    client = subscriptions[0]._client
    eventually(lambda: client.info("clients")["blocked_clients"] == len(subscriptions))


def first_rung(subscriptions):
    return eventually(lambda: rung(subscriptions))


def test_one_job_wakes_one_of_many(other, subscriptions):
    settled(subscriptions)
    put(other, "a")
    first_rung(subscriptions)
    assert len(rung(subscriptions)) == 1


def test_three_jobs_wake_three(other, subscriptions):
    settled(subscriptions)
    put(other, "a", "b")
    put(other, "c", queue="high")
    eventually(lambda: len(rung(subscriptions, 0)) == 3)
    assert len(rung(subscriptions)) == 3


def test_a_job_that_is_taken_at_once_leaves_no_call_for_the_next(driver, other, subscriptions):
    # Given jobs that were taken before anybody listened
    for subscription in subscriptions:
        subscription.close()
    put(other, "a", "b", "c")
    take(driver)

    # I expect nobody to be called for them
    for subscription in subscriptions:
        listen(subscription)
    assert rung(subscriptions) == []


def test_a_call_that_is_declined_goes_to_another(other, subscriptions):
    settled(subscriptions)
    put(other, "a")
    [first] = first_rung(subscriptions)
    first.poll()
    first.decline()
    rest = [subscription for subscription in subscriptions if subscription is not first]
    assert len(first_rung(rest)) == 1


def test_what_was_answered_long_ago_is_not_declined_again(server, other, subscriptions):
    [subscription] = subscriptions[:1]
    for one in subscriptions[1:]:
        one.close()
    put(other, "a")
    first_rung([subscription])
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
    assert rung([busy]) == []
    other.broadcast([Broadcast("exchange", "", "x")])
    assert first_rung([busy]) == [busy]


def test_a_consumer_that_has_room_again_hears_of_jobs_at_once(server, driver, other):
    # Given one that asked for mail only, and is still waiting for the answer
    subscription = driver.watch(["default"])
    listen(subscription, room=False, mailboxes=["box"])
    number = subscription._number

    # When it has room, I expect the same connection to be asked for jobs, too
    listen(subscription, mailboxes=["box"])
    put(other, "a")
    assert first_rung([subscription]) == [subscription]
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
    assert first_rung([ours, theirs]) == [theirs]
    ours.close()
    theirs.close()


def test_a_bell_whose_connection_is_killed_listens_on(server, other, subscriptions):
    settled(subscriptions)
    server.client.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: len(rung(subscriptions, 0)) == MANY)  # each is told, and looks
    settled(subscriptions)
    put(other, "a")
    first_rung(subscriptions)
    assert len(rung(subscriptions)) == 1


def test_a_job_that_comes_due_and_finds_its_mover_full_calls_another(driver, other, subscriptions):
    put(other, *"abc", available_at=other.now() + 0.05)
    settled(subscriptions)
    eventually(lambda: take(other, limit=1))
    eventually(lambda: len(rung(subscriptions, 0)) == 2)
    assert len(rung(subscriptions)) == 2
