"""What a verb costs Redis doesn't grow with the queues and the jobs that there are, or have been.

The work is counted in commands, those in scripts included.
"""

from __future__ import annotations

import pytest

from relevo.drivers.contract import State
from relevo.drivers.redis.driver import PORTION, RedisDriver
from tests.drivers.redis.test_delayed import commands
from tests.support.brokers import HandClock
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take, take_one

# A few are more than a queue's tokens for idle workers.
FEW, MANY = 200, 20_000


def fill(driver, queues, jobs):
    """Names of queues that were used and are empty, and of queues with a job, and a backlog."""
    used = [job(f"used-{number}", id=f"u{number}") for number in range(queues)]
    driver.put(used)
    driver.delete(each.id for each in used)
    driver.put([job(f"full-{number}", id=f"f{number}") for number in range(queues)])
    driver.put([job("deep", id=f"d{number}") for number in range(jobs)])
    driver.put(
        [job("deep", id=f"l{number}", available_at=driver.now() + 1e6) for number in range(jobs)]
    )


def empty_reserve(server, driver):
    server.client.delete(driver.keys.plain("swept"))  # a reservation that sweeps
    take(driver, "other")


VERBS = {
    "put": lambda _, driver: put(driver, "new", queue="deep"),
    "put to an unknown queue": lambda _, driver: put(driver, "new2", queue="new"),
    "reserve with a sweep": empty_reserve,
    "reserve": lambda _, driver: take(driver, "deep", limit=10),
    "sizes": lambda _, driver: driver.sizes("deep"),
    "peek": lambda _, driver: driver.peek("deep", State.DELAYED, 5),
    "find": lambda _, driver: driver.find(["d10"]),
    "delete": lambda _, driver: driver.delete(["d11"]),
    "hasten": lambda _, driver: driver.hasten(["l11"]),
    "hold": lambda _, driver: driver.hold(["d12"], LEASE, "mender"),
    "rescue": lambda _, driver: driver.rescue(),
    "pause": lambda _, driver: driver.pause("other"),
    "suspended": lambda _, driver: driver.suspended(),
}


def costs_with(server, driver, size):
    fill(driver, size, size)
    costs = {}
    for name, verb in VERBS.items():
        costs[name] = commands(server, lambda verb=verb: verb(server, driver))
    server.client.flushall()
    return costs


def test_no_verb_costs_more_with_more_queues_and_jobs(server, driver):
    costs_with(server, driver, FEW)  # the server learns the scripts
    assert costs_with(server, driver, MANY) == costs_with(server, driver, FEW)


def test_names_of_queues_are_forgotten_when_they_are_empty(server, driver):
    names = [f"q{number}" for number in range(50)]
    driver.put([job(name, fair_key="a") for name in names])
    driver.ack([each.lease for each in take(driver, *names[:10])])
    driver.clear(names[10])
    driver.delete(view.id for view in driver.peek(names[11], State.PENDING))
    end_leases(server, driver)
    assert driver.reserve(["other"], 1, LEASE, "worker") == []
    left = {name.decode() for name in server.client.smembers("relevo:queues")}
    assert left == set(names[12:])
    assert not server.client.exists(*(f"relevo:turns:{name}:0" for name in names[:12]))


def end_leases(server, driver):
    """Let the time come at which the sweep looks at the queues with leases."""
    key = driver.keys.plain("lease_ends")
    for name in server.client.zrange(key, 0, -1):
        server.client.zadd(key, {name: 1})
    server.client.delete(driver.keys.plain("swept"))


def test_queues_lists_many_names_in_pages(driver):
    names = [f"q{number}" for number in range(3 * PORTION)]
    driver.put([job(name) for name in names])
    assert driver.queues() == sorted(names)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def timed(server, clock):
    """A driver whose leases go by the clock."""
    driver = RedisDriver(server.url, clock=clock)
    yield driver
    driver.close()
    server.client.flushall()


def test_leases_of_a_worker_of_an_older_version_are_found(server, timed, clock):
    # Given a lease that is not noted, in a queue without a worker
    put(timed, "a", queue="old")
    take_one(timed, "old")
    server.client.delete(timed.keys.plain("lease_ends"))
    clock.forward(LEASE)
    take(timed, "other")
    assert counts(timed, "old") == (0, 0, 1)

    # When anybody lists the queues, I expect the next sweep to rescue it
    timed.queues()
    clock.forward(1)
    take(timed, "other")
    assert counts(timed, "old") == (1, 0, 0)


def test_clearing_goes_on_behind_spared_jobs(driver):
    # Given more spared jobs than a portion, before, between and behind the others
    spared = {"payload": "[keep]"}
    driver.put([job(id=f"a{number}", **spared) for number in range(PORTION + 10)])
    driver.put([job(id=f"b{number}") for number in range(PORTION + 10)])
    driver.put([job(id=f"c{number}", priority=5, **spared) for number in range(3 * PORTION)])
    later = driver.now() + 1000
    driver.put(
        [
            job(id=f"d{number}", available_at=later, payload="[keep]" if number % 2 else "{}")
            for number in range(3 * PORTION)
        ]
    )
    assert driver.clear("default", but=["[keep]"]) == PORTION + 10 + 3 * PORTION // 2
    assert counts(driver) == (PORTION + 10 + 3 * PORTION, 3 * PORTION // 2, 0)
    assert driver.clear("default") == PORTION + 10 + 3 * PORTION + 3 * PORTION // 2
    assert driver.queues() == []


def test_clearing_goes_on_although_the_last_spared_job_was_taken(driver, monkeypatch):
    driver.put([job(id=f"a{number}", payload="[keep]") for number in range(2 * PORTION + 5)])
    driver.put([job(id=f"b{number}") for number in range(10)])
    run = driver._run

    def run_and_take(name, *arguments):
        answer = run(name, *arguments)
        if name == "clear":
            run("delete", *ids(driver.find([f"a{PORTION - 1}"])))
        return answer

    monkeypatch.setattr(driver, "_run", run_and_take)
    assert driver.clear("default", but=["[keep]"]) == 10
    assert counts(driver) == (2 * PORTION + 4, 0, 0)


def test_a_shorter_lease_is_rescued_in_its_time(timed, clock):
    put(timed, "a", queue="alone")
    held = take_one(timed, "alone", lease=1000)
    timed.extend([held.lease], 5)
    clock.forward(5)
    take(timed, "other")
    assert counts(timed, "alone") == (1, 0, 0)


def test_a_lease_that_is_renewed_is_not_rescued(timed, clock):
    put(timed, "a", queue="alone")
    held = take_one(timed, "alone")
    for _ in range(4):
        clock.forward(LEASE / 2)
        assert timed.extend([held.lease], LEASE) == []
        take(timed, "other")
    assert counts(timed, "alone") == (0, 0, 1)
    clock.forward(LEASE)
    take(timed, "other")
    assert counts(timed, "alone") == (1, 0, 0)


@pytest.mark.parametrize("act", ["reserve", "hold"])
def test_every_way_to_a_lease_is_seen_by_the_sweep(timed, clock, act):
    put(timed, "a", queue="alone")
    if act == "reserve":
        take(timed, "alone")
    else:
        timed.hold(["a"], LEASE, "mender")
    clock.forward(LEASE)
    take(timed, "other")
    assert counts(timed, "alone") == (1, 0, 0)
