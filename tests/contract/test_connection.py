"""The connection: the broker's time, closing and reopening, and a broker that can't be reached."""

from __future__ import annotations

import time

import pytest

from relevo.drivers.database.driver import DatabaseDriver
from relevo.drivers.memory import MemoryDriver
from relevo.errors import DriverUnavailableError
from tests.support import servers
from tests.support.driver_jobs import ids, job, put, take, take_one


def test_the_time_is_the_brokers(driver, other, clock):
    assert driver.now() == other.now() == clock()
    clock.forward(5)
    assert driver.now() == other.now() == clock()


def test_without_a_test_clock_a_broker_has_its_own(broker):
    real = broker.open(None)
    assert abs(real.now() - time.time()) < 60
    real.close()


def test_a_driver_names_its_kind(driver, broker):
    assert driver.name == {"mariadb": "mysql"}.get(broker.name, broker.name)


def test_a_closed_driver_may_be_used_again(driver):
    # Given a job that is held when its driver is closed, twice
    put(driver, "a", "b")
    held, _ = take(driver)
    driver.close()
    driver.close()

    # When the driver is used again, I expect it to go on where it was
    assert driver.ack([held.lease]) == 1
    put(driver, "c")
    assert ids(take(driver)) == ["c"]


def test_closing_one_driver_leaves_the_other_open(driver, other):
    put(driver, "a")
    driver.close()
    assert take_one(other).id == "a"


def test_memory_drivers_of_one_name_are_one_broker():
    # Given two connections of one process to memory brokers
    ours, theirs = MemoryDriver.named("here"), MemoryDriver.named("there")
    put(ours, "a")

    # I expect the name to say which broker it is
    assert ids(take(MemoryDriver.named("here"))) == ["a"]
    assert take(theirs) == []
    ours.clear("default")


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "mysql"])
def test_an_unreachable_broker_raises_driver_unavailable(scheme, tmp_path):
    # Given a closed port, or a folder in the place of the file
    place = (
        f"/{tmp_path}"
        if scheme == "sqlite"
        else f"nobody@{servers.HOST}:{servers.free_port()}/relevo"
    )

    # I expect the same error of every method
    for verb in (
        lambda driver: driver.put([job()]),
        take,
        DatabaseDriver.rescue,
        DatabaseDriver.queues,
    ):
        with pytest.raises(DriverUnavailableError):
            verb(DatabaseDriver(f"{scheme}://{place}"))
