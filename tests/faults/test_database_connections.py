"""Cut connections: the next call works or raises, and no step is half done."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from relevo.drivers.contract import Binding, Broadcast, NewJob, State
from relevo.drivers.database.driver import DatabaseDriver
from relevo.errors import DriverUnavailableError
from tests.support import servers
from tests.support.waits import LONG, readable

SERVERS = ["postgresql", "mariadb"]
LEASE = 600.0
JOBS = 40


@pytest.fixture(params=SERVERS)
def url(request):
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def driver(url):
    """A driver on an empty broker, which has used its one connection already."""
    DatabaseDriver(url).create_schema()
    driver = DatabaseDriver(url)
    for queue in driver.queues():
        driver.clear(queue)
        driver.delete(view.id for view in driver.peek(queue, State.RESERVED, 10_000))
    driver.paused()
    yield driver
    driver.close()


def job(id_: str, **fields) -> NewJob:
    return NewJob("default", "{}", id_, **fields)


def cut(url: str) -> int:
    """End every other connection to the database, as an operator or a failover does; how many."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as own:
            others = (
                "FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return len(own.execute(f"SELECT pg_terminate_backend(pid) {others}").fetchall())
    place = make_url(url)
    with (
        pymysql.connect(host=place.host, port=place.port, user=place.username) as own,
        own.cursor() as cursor,
    ):
        others = "FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = %s"
        cursor.execute(f"SELECT id {others}", [place.database])
        ids = [row[0] for row in cursor.fetchall()]
        for id_ in ids:
            with contextlib.suppress(pymysql.Error):  # gone by itself
                cursor.execute(f"KILL {id_}")
        return len(ids)


def cut_off(driver: DatabaseDriver, url: str) -> None:
    """Cut all connections, and wait until the driver's has heard of it: servers say goodbye in
    their own time.
    """
    idle = driver.connections.engine.raw_connection()
    connection = idle.driver_connection
    socket = connection if hasattr(connection, "fileno") else connection._sock
    idle.close()
    assert cut(url) > 0
    assert readable(socket.fileno(), within=LONG)


VERBS = {
    "put": lambda driver: driver.put([job("b")]),
    "put many": lambda driver: driver.put([job("b"), job("c", unique_key="k")]),
    "reserve": lambda driver: driver.reserve(["default"], 1, LEASE, "worker"),
    "rescue": lambda driver: driver.rescue(),
    "sizes": lambda driver: driver.sizes("default"),
    "delete": lambda driver: driver.delete(["a"]),
    "pause and resume": lambda driver: (driver.pause("other"), driver.resume("other")),
    "subscribe": lambda driver: driver.subscribe("box", [Binding("news")], 60),
    "broadcast": lambda driver: driver.broadcast([Broadcast("news", "", "x")]),
    "receive": lambda driver: driver.receive("box"),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=[name.replace(" ", "-") for name in VERBS])
def test_a_connection_cut_between_two_calls_is_not_noticed(driver, url, verb):
    driver.put([job("a")])
    cut_off(driver, url)
    verb(driver)


def test_a_lease_outlives_the_connection_it_was_taken_on(driver, url):
    driver.put([job("a")])
    [held] = driver.reserve(["default"], 1, LEASE, "worker")
    cut_off(driver, url)
    assert driver.extend([held.lease], LEASE) == []
    assert driver.ack([held.lease]) == 1


def test_whatever_is_cut_no_confirmed_job_is_lost_and_none_is_taken_twice(driver, url):
    # Given a thread that cuts all connections again and again
    ended = threading.Event()

    def saw():
        while not ended.wait(0.02):
            cut(url)

    sawing = threading.Thread(target=saw)
    sawing.start()

    # When jobs are put, taken and acked meanwhile, each call tried again when it failed
    confirmed: set[str] = set()
    taken: list[str] = []
    try:
        for number in range(JOBS):
            with contextlib.suppress(DriverUnavailableError):
                confirmed |= {one.id for one in driver.put([job(f"{number}"), job(f"{number}+")])}
            with contextlib.suppress(DriverUnavailableError):
                got = driver.reserve(["default"], 1, LEASE, "worker")
                taken += [one.id for one in got]
                driver.ack([one.lease for one in got])
    finally:
        ended.set()
        sawing.join()

    # I expect each put to have happened wholly or not at all, nothing confirmed to be missing, and
    # nothing taken twice
    left = [view.id for state in State for view in driver.peek("default", state, 10_000)]
    there = {*taken, *left}
    assert confirmed <= there
    assert [number for number in range(JOBS) if len({f"{number}", f"{number}+"} & there) == 1] == []
    assert len(taken) == len(set(taken))


def test_the_subscription_of_postgresql_works_again_after_a_cut(postgresql_url):
    # Given a consumer whose connection for listening was cut
    driver, client = DatabaseDriver(postgresql_url), DatabaseDriver(postgresql_url)
    driver.create_schema()
    subscription = driver.watch(["default"])
    assert cut(postgresql_url) > 0
    assert readable(subscription.fileno(), within=LONG)

    # When it hears of that and looks at the next interval, I expect it to listen again
    # The server may close the connection in two steps, and needs a moment to listen again.
    deadline = time.monotonic() + LONG
    subscription.poll()
    while (
        subscription.fileno() is None or readable(subscription.fileno(), within=0)
    ) and time.monotonic() < deadline:
        subscription.poll()
    client.put([job("a")])
    assert readable(subscription.fileno(), within=LONG)
    subscription.close()
    client.delete(["a"])


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_has_stopped_is_reported_as_unavailable(server):
    with getattr(servers, server)() as url:
        driver = DatabaseDriver(url)
        driver.create_schema()
        driver.put([job("a")])
        subscription = driver.watch(["default"])
    for verb in VERBS.values():
        with pytest.raises(DriverUnavailableError):
            verb(driver)
    assert subscription.poll()
    subscription.close()
    driver.close()
