"""The bell among many: one job wakes one of them, and what one can't answer another hears."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import Binding, Broadcast
from relevo.drivers.redis import notifier as redis_bell
from tests.support.driver_jobs import put, take, take_one
from tests.support.waits import eventually, readable

MANY = 20


@pytest.fixture
def bells(driver, monkeypatch):
    """Consumers that wait for jobs of two queues."""
    monkeypatch.setattr(redis_bell, "POP", 60)
    made = [driver.bell(["default", "high"]) for _ in range(MANY)]
    for bell in made:
        listen(bell)
    yield made
    for bell in made:
        bell.close()


def listen(bell, *, room=True, mailboxes=()):
    """Wait as the transport does."""
    bell.listen(room, mailboxes)
    assert bell.fileno() is not None


def rung(bells, within=0.3):
    """Those of them that are called within a short while."""
    found = readable(*(bell.fileno() for bell in bells), within=within)
    return [bell for bell in bells if bell.fileno() in found]


def settled(bells):
    """Ask again, and wait until the server has the question of each."""
    for bell in bells:
        bell.hear()
        listen(bell)
    client = bells[0]._client
    eventually(lambda: client.info("clients")["blocked_clients"] == len(bells))


def first_rung(bells):
    return eventually(lambda: rung(bells))


def test_one_job_wakes_one_of_many(other, bells):
    settled(bells)
    put(other, "a")
    first_rung(bells)
    assert len(rung(bells)) == 1


def test_three_jobs_wake_three(other, bells):
    settled(bells)
    put(other, "a", "b")
    put(other, "c", queue="high")
    eventually(lambda: len(rung(bells, 0)) == 3)
    assert len(rung(bells)) == 3


def test_a_job_that_is_taken_at_once_leaves_no_call_for_the_next(driver, other, bells):
    # Given jobs that were taken before anybody listened
    for bell in bells:
        bell.close()
    put(other, "a", "b", "c")
    take(driver)

    # I expect nobody to be called for them
    for bell in bells:
        listen(bell)
    assert rung(bells) == []


def test_a_call_that_is_declined_goes_to_another(other, bells):
    settled(bells)
    put(other, "a")
    [first] = first_rung(bells)
    first.hear()
    first.decline()
    rest = [bell for bell in bells if bell is not first]
    assert len(first_rung(rest)) == 1


def test_what_was_answered_long_ago_is_not_declined_again(server, other, bells):
    [bell] = bells[:1]
    for one in bells[1:]:
        one.close()
    put(other, "a")
    first_rung([bell])
    bell.hear()
    take_one(other)
    bell.hear()
    bell.decline()
    assert server.client.exists("relevo:bell:default") == 0


def test_a_busy_consumer_hears_mail_and_no_jobs(driver, other, bells):
    for one in bells[1:]:
        one.close()
    busy = bells[0]
    busy.close()
    driver.subscribe("box", [Binding("exchange")], 60)
    listen(busy, room=False, mailboxes=["box"])
    put(other, "a")
    assert rung([busy]) == []
    other.broadcast([Broadcast("exchange", "", "x")])
    assert first_rung([busy]) == [busy]


def test_a_consumer_that_has_room_again_hears_of_jobs_at_once(server, driver, other):
    # Given one that asked for mail only, and is still waiting for the answer
    bell = driver.bell(["default"])
    listen(bell, room=False, mailboxes=["box"])
    number = bell._number

    # When it has room, I expect the same connection to be asked for jobs, too
    listen(bell, mailboxes=["box"])
    put(other, "a")
    assert first_rung([bell]) == [bell]
    assert bell._number == number
    bell.hear()
    assert bell._token == "relevo:bell:default"
    bell.close()


def test_two_consumers_of_a_process_do_not_take_each_others_mail(driver, other):
    ours, theirs = driver.bell([]), driver.bell([])
    for name in ("ours", "theirs"):
        driver.subscribe(name, [Binding(name)], 60)
    listen(ours, mailboxes=["ours"])
    listen(theirs, mailboxes=["theirs"])
    other.broadcast([Broadcast("theirs", "", "x")])
    assert first_rung([ours, theirs]) == [theirs]
    ours.close()
    theirs.close()


def test_a_bell_whose_connection_is_killed_listens_on(server, other, bells):
    settled(bells)
    server.client.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: len(rung(bells, 0)) == MANY)  # each is told, and looks
    settled(bells)
    put(other, "a")
    first_rung(bells)
    assert len(rung(bells)) == 1


def test_a_job_that_comes_due_and_finds_its_mover_full_calls_another(driver, other, bells):
    put(other, *"abc", available_at=other.now() + 0.05)
    settled(bells)
    eventually(lambda: take(other, limit=1))
    eventually(lambda: len(rung(bells, 0)) == 2)
    assert len(rung(bells)) == 2
