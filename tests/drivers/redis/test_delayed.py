"""Many delayed jobs: they cost pending jobs nothing, and can be counted, listed and deleted."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import State
from tests.support.driver_jobs import counts, ids, job, put, take

MANY, CHUNK = 6_000, 3_000


@pytest.fixture
def many(driver):
    """Delayed jobs, the first of them due first."""
    now = driver.now()
    for start in range(0, MANY, CHUNK):
        driver.put(
            [
                job(id=f"{number}", available_at=now + 1000 + number)
                for number in range(start, start + CHUNK)
            ]
        )


def commands(server, act):
    """The number of commands that the server carries out for this, those in scripts included."""
    server.client.config_resetstat()
    act()
    stats = server.client.info("commandstats").items()
    return sum(
        of["calls"]
        for name, of in stats
        if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
    )


def test_delayed_jobs_add_no_commands_to_a_reservation(server, driver, many):
    put(driver, *(f"now-{number}" for number in range(40)))
    put(driver, *(f"now-{number}" for number in range(40)), queue="empty otherwise")
    take(driver, "warm")
    with_them = commands(server, lambda: take(driver, limit=20))
    without = commands(server, lambda: take(driver, "empty otherwise", limit=20))
    assert with_them == without + 0
    assert ids(take(driver)) == [f"now-{number}" for number in range(20, 40)]


def test_delayed_jobs_are_counted_and_listed_in_the_order_of_their_times(server, driver, many):
    assert counts(driver) == (0, MANY, 0)
    assert ids(driver.peek("default", State.DELAYED, 3)) == ["0", "1", "2"]
    assert (
        commands(server, lambda: counts(driver)) < 100
    )  # a few for each priority, for any backlog


def test_delayed_jobs_are_deleted_by_id_and_cleared(server, driver, many):
    assert driver.delete([f"{number}" for number in range(0, 3000, 2)]) == 1500
    assert ids(driver.peek("default", State.DELAYED, 2)) == ["1", "3"]
    assert driver.clear("default") == MANY - 1500
    left = {key.decode() for key in server.client.keys("relevo:*")}
    assert {key for key in left if ":put:" not in key} <= {"relevo:sequence"}


def test_due_jobs_count_as_pending_before_they_are_moved(driver):
    due = driver.now() + 0.05
    put(driver, "a", "b", available_at=due)
    put(driver, "c", available_at=due + 500)
    while driver.now() <= due:
        pass
    assert counts(driver) == (2, 1, 0)
    assert driver.sizes("default").oldest >= 0
    assert ids(driver.peek("default", State.DELAYED)) == ["c"]
    assert ids(driver.peek("default", State.PENDING)) == ["a", "b"]
