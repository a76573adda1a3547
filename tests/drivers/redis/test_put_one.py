"""One plain job is put by a script of its own, which leaves in Redis what `put.lua` would."""

from __future__ import annotations

import pytest
import redis

from relevo.drivers.redis import driver as driver_module
from relevo.drivers.redis import scripts
from relevo.drivers.redis.driver import RedisDriver
from relevo.errors import DriverUnavailableError
from tests.support.driver_jobs import counts, ids, job, take


@pytest.fixture
def timed(server):
    """A driver whose time stands still."""
    driver = RedisDriver(server.url, clock=lambda: 1_700_000_000.25)
    yield driver
    driver.close()
    server.client.flushall()


def contents(client):
    """What is in Redis, but for the number of the put."""
    return {
        key: client.dump(key)
        for key in sorted(client.keys("*"))
        if not key.startswith(b"relevo:put:")
    }


@pytest.mark.parametrize("payload", ["text", "ünïcode \N{PILE OF POO}", "x" * 100_000])
@pytest.mark.parametrize("priority", [0, 9])
@pytest.mark.parametrize("before", [0, 1, 150])
def test_both_scripts_leave_the_same(server, timed, monkeypatch, payload, priority, before):
    # Given a queue with some jobs, one of them with the same id
    def put_all():
        timed.put([job(id=f"{number}") for number in range(before)] or [job(id="other")])
        timed.put([job(id="0", payload=payload, priority=priority)])
        return contents(server.client)

    short = put_all()
    server.client.flushall()
    monkeypatch.setattr(driver_module, "_is_simple", lambda _job: False)
    assert put_all() == short


def test_a_job_for_a_fair_queue_takes_its_turn(driver):
    driver.put([job(id=f"a{number}", fair_key="a") for number in range(5)])
    driver.put([job(id="plain")])
    assert ids(take(driver, limit=6)).index("plain") < 3
    assert counts(driver) == (0, 0, 6)


@pytest.mark.parametrize("was_fair", [True, False])
def test_a_repeat_finds_its_job_also_if_the_queue_is_no_longer_what_it_was(
    server, driver, monkeypatch, was_fair
):
    # Given a put whose answer is lost
    turns = {"k": 1, "last": 1}
    key = driver.keys.named("turns", "default:0")
    driver.put([job(id="warm", queue="warm")])
    driver.put([job(id="warm", queue="warm"), job(id="warmer", queue="warm")])
    if was_fair:
        server.client.hset(key, mapping=turns)
    whole = scripts._ask
    name = "put" if was_fair else "put_one"

    def lossy(connection, command, digest, *rest):
        answer = whole(connection, command, digest, *rest)
        if digest == scripts.digest(name):
            raise redis.TimeoutError("Timeout reading from socket")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(scripts, "_ask", lossy)
        with pytest.raises(DriverUnavailableError):
            driver.put([job(id="a")])
    # When the queue has become fair, or is no longer, and the put is repeated
    if was_fair:
        server.client.delete(key)
    else:
        server.client.hset(key, mapping=turns)
    driver.put([job(id="a")])
    # I expect one job
    assert counts(driver) == (1, 0, 0)
