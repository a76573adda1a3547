"""The server's time at the changes of summer time, whatever zone the server, the session and the
process are in.
"""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event, text

from relevo.drivers.database.dialects import DIALECTS
from relevo.drivers.database.driver import DatabaseDriver
from tests.support import servers
from tests.support.driver_jobs import LEASE, ids, job, take

# Berlin's zone, as a rule: it needs no table of zones.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
# 2026-03-29 and 2026-10-25, 01:00 UTC.
SPRING, AUTUMN = 1_774_746_000, 1_792_890_000
HOUR = 3600


@pytest.fixture(scope="module")
def mariadb_in_berlin():
    """A server whose own zone has summer time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", BERLIN)
        with servers.mariadb() as url:
            DatabaseDriver(url).create_schema()
            yield url


@pytest.fixture(params=["UTC", BERLIN, "NZST-12NZDT,M9.5.0,M4.1.0/3"])
def process_zone(request, monkeypatch):
    """The zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(url, instant, zone="SYSTEM"):
    """A driver whose server believes that it is this instant, in sessions of this zone."""
    driver = DatabaseDriver(url)

    @event.listens_for(driver.connections.engine, "connect")
    def set_time(connection, _record):
        connection.cursor().execute(f"SET SESSION timestamp = {instant}, time_zone = '{zone}'")

    return driver


@pytest.mark.usefixtures("process_zone")
@pytest.mark.parametrize("change", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("zone", ["SYSTEM", "+00:00", "-09:30"])
def test_no_second_is_left_out_or_told_twice(mariadb_in_berlin, change, zone):
    driver = DatabaseDriver(mariadb_in_berlin)
    instants = range(change - 2 * HOUR, change + 2 * HOUR, HOUR // 6)
    with driver.connections.engine.connect() as connection:
        told = []
        for instant in instants:
            connection.execute(text(f"SET SESSION timestamp = {instant}.25, time_zone = '{zone}'"))
            told.append(DIALECTS["mysql"].server_time(connection))
    assert told == [instant + 0.25 for instant in instants]
    driver.close()


@pytest.mark.usefixtures("process_zone")
@pytest.mark.parametrize("change", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_leases_and_delays_go_on_over_the_change(mariadb_in_berlin, change):
    # Given a job that was reserved just before the change, and one that is due just behind it
    before = at(mariadb_in_berlin, change - 10)
    before.put([job(id="held"), job(id="later", available_at=change + 5)])
    [held] = take(before)

    # When the change has come, I expect the lease to be alive and the delay to be over
    after = at(mariadb_in_berlin, change + 10, "+05:30")
    assert after.rescue() == 0
    assert ids(take(after)) == ["later"]
    assert after.extend([held.lease], LEASE) == []

    # and the leases of the dead to end in time
    late = at(mariadb_in_berlin, change + 11 + LEASE)
    assert sorted(ids(take(late))) == ["held", "later"]
    late.delete(["held", "later"])
    for driver in (before, after, late):
        driver.close()


@pytest.mark.usefixtures("process_zone")
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
def test_the_time_of_postgresql_knows_no_zone(postgresql_url, zone):
    driver = DatabaseDriver(postgresql_url)
    with driver.connections.engine.connect() as connection:
        connection.execute(text(f"SET TIME ZONE '{zone}'"))
        before = time.time()
        told = DIALECTS["postgresql"].server_time(connection)
        assert before - 1 <= told <= time.time() + 1
    driver.close()
