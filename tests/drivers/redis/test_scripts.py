"""The scripts on a Redis that forgets them, is full or has lost keys, and in large portions."""

from __future__ import annotations

import contextlib

import pytest

from relevo.drivers.contract import State
from relevo.drivers.redis import driver as driver_module
from relevo.errors import DriverError, DriverUnavailableError
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take, take_one
from tests.support.waits import eventually


@contextlib.contextmanager
def full(server):
    """A server whose memory has run out."""
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        server.client.config_set("maxmemory", "0")


def test_scripts_that_the_server_has_forgotten_are_loaded_again(server, driver):
    forget = server.client.script_flush
    forget()
    put(driver, "a", "b", "c")
    forget()
    first, second, third = take(driver)
    forget()
    assert driver.extend([first.lease, second.lease, third.lease], LEASE) == []
    forget()
    assert driver.release([second.lease]) == 1
    forget()
    assert driver.ack([first.lease]) == 1
    forget()
    assert driver.delete(["c"]) == 1
    forget()
    assert ids(driver.peek("default", State.PENDING)) == ["b"]
    forget()
    assert counts(driver) == (1, 0, 0)


def test_a_full_server_refuses_new_jobs_and_the_old_ones_go_on(server, driver):
    put(driver, "a", "b", "c", "d")
    held = take(driver, limit=2)
    with full(server):
        # I expect a clear refusal, and nothing of it done
        with pytest.raises(DriverError, match="redis is full"):
            put(driver, "e", "f")
        with pytest.raises(DriverError, match="redis is full"):
            driver.put([job(id=f"{number}", unique_key=f"{number}") for number in range(10)])
        assert counts(driver) == (2, 0, 2)

        # and everything that empties the queue to go on
        assert driver.extend([one.lease for one in held], LEASE) == []
        assert driver.ack([held[0].lease]) == 1
        assert driver.release([held[1].lease], delay=60, payload="longer than before " * 10) == 1
        third = take_one_of(driver)
        assert driver.release([third.lease]) == 1
        assert ids(take(driver)) == ["c", "d"]
        assert driver.clear("default") == 1
        driver.resume("default")
    put(driver, "e")
    assert counts(driver) == (1, 0, 2)


def take_one_of(driver):
    [only] = take(driver, limit=1)
    return only


def test_a_full_server_lets_a_lease_end_and_its_job_be_rescued(server, driver):
    put(driver, "a")
    take(driver, lease=0.001)
    with full(server):
        assert [(one.id, one.rescues) for one in eventually(lambda: take(driver))] == [("a", 1)]


def test_a_batch_of_several_portions_is_put_in_one_step(driver, other, monkeypatch):
    monkeypatch.setattr(driver_module, "PUT_PORTION", 100)
    batch = [job(id=f"{number}", unique_key=f"{number % 240}") for number in range(250)]
    placed = driver.put(batch)
    assert ids(placed) == [f"{number % 240}" for number in range(250)]
    assert [one.created for one in placed] == [True] * 240 + [False] * 10
    assert counts(other) == (240, 0, 0)


def test_a_batch_of_several_portions_is_refused_whole_by_a_full_server(server, driver, monkeypatch):
    monkeypatch.setattr(driver_module, "PUT_PORTION", 10)
    with full(server), pytest.raises(DriverError, match="redis is full"):
        driver.put([job() for _ in range(100)])
    assert counts(driver) == (0, 0, 0)


def test_a_portion_has_no_more_arguments_than_redis_6_takes(driver):
    words = driver_module._fields([job()])
    assert driver_module.PUT_PORTION * len(words) < 1024 * 1024 - 10


def test_a_job_number_without_a_record_blocks_no_reservation(server, driver):
    # Given a server that has lost the record of a pending, of a delayed and of a reserved job, as
    # one that evicts does
    put(driver, "a", queue="held")
    take(driver, "held", lease=0.001)
    put(driver, "b", available_at=driver.now() + 0.001)
    put(driver, "c")
    server.client.delete(driver.keys.plain("jobs"))

    # I expect the next job to be found all the same
    put(driver, "d", queue="held")
    put(driver, "e")
    assert [ids(take(driver, "held")), ids(take(driver))] == [["d"], ["e"]]
    assert driver.delete(["a", "b", "c"]) == 0


@pytest.mark.parametrize(
    ("policy", "value"), [("min-replicas-to-write", "1"), ("min-slaves-to-write", "1")]
)
def test_a_server_that_takes_no_writes_for_now_counts_as_unavailable(server, driver, policy, value):
    put(driver, "a")
    server.client.config_set(policy, value)
    try:
        for verb in (lambda: put(driver, "b"), lambda: take(driver)):
            with pytest.raises(DriverUnavailableError):
                verb()
    finally:
        server.client.config_set(policy, "0")
    assert ids(take(driver)) == ["a"]


def test_a_replica_counts_as_unavailable_and_its_connections_are_closed(server, driver):
    put(driver, "a")
    server.client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(DriverUnavailableError):
            take_one(driver)
        assert not any(connection.is_connected for connection in driver.pool._available_connections)
    finally:
        server.client.replicaof("no", "one")
    assert take_one(driver).id == "a"


def test_a_clock_that_is_set_does_not_matter_between_two_checks(driver, monkeypatch):
    put(driver, "a", available_at=driver.now() + 500)
    take(driver)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert driver.watch(["default"]).interval > 0.5
    assert driver.now() < 4e9
