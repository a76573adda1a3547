"""A fair queue in a database forgets the keys that it no longer needs."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from relevo.drivers import driver_for
from relevo.drivers.database import fair_queue
from relevo.drivers.database.tables import turns
from tests.support.driver_jobs import ids, job, take

KEYS = 60


@pytest.fixture
def driver(tmp_path, monkeypatch):
    monkeypatch.setattr(fair_queue, "TIDY_SHARE", 1.0)
    driver = driver_for(f"sqlite:///{tmp_path}/broker.db")
    driver.create_schema()
    yield driver
    driver.close()


def put(driver, *names):
    """Jobs by name; the first letters are the key."""
    driver.put([job(id=name, fair_key=name.rstrip("0123456789")) for name in names])


def rows(driver):
    count = select(func.count()).select_from(turns)
    return driver.connections.read(lambda connection: connection.execute(count).scalar())


def run(driver, limit=100):
    taken = take(driver, limit=limit)
    driver.ack([one.lease for one in taken])
    return ids(taken)


def test_keys_without_jobs_are_forgotten_after_their_turns(driver):
    put(driver, *(chr(97 + n % 26) * (1 + n // 26) + "1" for n in range(KEYS)))
    assert rows(driver) == KEYS + 1
    assert len(run(driver)) == KEYS
    put(driver, "z1")
    assert rows(driver) == 2


def test_keys_with_waiting_jobs_are_remembered_and_keep_their_turns(driver):
    put(driver, *(f"a{n}" for n in range(1, 10)))
    put(driver, "b1", "c1")
    assert run(driver, limit=4) == ["a1", "b1", "c1", "a2"]
    put(driver, "d1", "b2", "d2", "a10")
    assert run(driver) == ["a3", "d1", "b2", "a4", "d2", *(f"a{n}" for n in range(5, 11))]
    put(driver, "a11", "e1", "a12")
    assert run(driver) == ["a11", "e1", "a12"]
